#!/usr/bin/env bash
# Back-translation: text in the target language becomes training pairs, its sources made by a model of the other
# direction (Sennrich et al. 2016, arXiv:1511.06709). The target side stays what people wrote, so the decoder learns
# good language; that the sources have faults matters less.
#
# In the folder of this checkout, the travel corpus, half of it as if it were text of one language:
#   examples/recipes/back_translation.sh
# Text of your own:
#   CONFIG=my.yaml SOURCE=de TARGET=en TRAIN='corpus.{de,en}.gz' VALIDATION='dev.{de,en}' TEST='test.{de,en}' \
#     MONOLINGUAL=news.en.zst WORK=runs/back_translation examples/recipes/back_translation.sh
# The same command goes on after an interruption; what is finished is not repeated.
set -euo pipefail

CONFIG=${CONFIG:-configs/quickstart.yaml}            # models and trainings; corpora and directories are set here
SOURCE=${SOURCE:-es}                                 # the languages of the model that is wanted
TARGET=${TARGET:-en}
TRAIN=${TRAIN:-'examples/travel/train.{es,en}.gz'}   # pairs, in any format that nmt convert reads
VALIDATION=${VALIDATION:-'examples/travel/validation.{es,en}.gz'}
TEST=${TEST:-'examples/travel/test.{es,en}.gz'}
MONOLINGUAL=${MONOLINGUAL:-}                         # lines in the target language; none: an experiment, see PAIRS
PAIRS=${PAIRS:-15000}                                # of TRAIN that the experiment takes for pairs; of the others it
                                                     # takes the target side alone, and one more model has them all
METHOD=${METHOD:-beam}                               # or sampling, see step 3
TRANSLATIONS=${TRANSLATIONS:-1}                      # of each line
OPTIONS=${OPTIONS:-}                                 # more options of nmt translate, as --top-k 10
CHECKS=${CHECKS:-}                                   # options of nmt doctor, as --check LengthRatioFilter=2.5
KEEP=${KEEP:-1}                                      # share of what passes them, as two models rank it
TAG=${TAG-<bt>}                                      # before each synthetic source; empty: none
WEIGHTS=${WEIGHTS-1:1}                               # of pairs and synthetic pairs in what is seen; empty: by size
SETTINGS=${SETTINGS:-}                               # of all trainings, as "seed=7 training.max_minutes=20"
WORK=${WORK:-runs/back_translation}

source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

say "1. the text"
check with "$CONFIG" "$(mixture back)" # whose text is not there yet
texts

say "2. a model for each direction, on the pairs alone: one to translate back, one to compare with"
train reverse "$CONFIG" "$TARGET" "$SOURCE" "$(files pairs "$TARGET" "$SOURCE")"
train without "$CONFIG" "$SOURCE" "$TARGET" "$(files pairs "$SOURCE" "$TARGET")"

# Beam search gives the likeliest source, sampling a varied one from which more is learnt. Edunov et al. (2018,
# arXiv:1808.09381) found sampling better where the reverse model is good, and beam search where it is weak, trained on
# 80,000 pairs. Several sources of one target vary too (Imamura et al. 2018).
say "3. text in the target language, translated back by $METHOD"
translate reverse "${MONOLINGUAL:-$WORK/text/rest.$TARGET}" back

# What is empty, repeats itself, is a copy or much too long is left out. With KEEP=0.8 a fifth more goes, on which the
# models of both directions agree least (dual cross-entropy, Junczys-Dowmunt 2018, arXiv:1809.00197).
say "4. cleaned"
clean back translation line without reverse

# The tag says that a source was made by a model, so that its faults are not learnt as the language's (Caswell et al.
# 2019, arXiv:1906.06442); text of people is translated without it. Half of what is seen is real text, as in Sennrich
# et al. (2016): by size, much synthetic text would drown a few pairs.
say "5. a model on both"
train with "$CONFIG" "$SOURCE" "$TARGET" "$(mixture back)"
models=(without with)
if [[ -z $MONOLINGUAL ]]; then # what translations by people would have brought
  train all "$CONFIG" "$SOURCE" "$TARGET" "$(files all "$SOURCE" "$TARGET")"
  models+=(all)
fi

say "6. what it brought"
told back
overlap back
compare "${models[@]}"
