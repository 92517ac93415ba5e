#!/usr/bin/env bash
# Self-training: a model translates text in the source language, learns these pairs with noise in their sources, then
# the real pairs, and begins again with what it has become (He et al. 2020, arXiv:1909.13788). They found that the
# noise matters: it makes sentences that are near each other be translated alike.
#
# In the folder of this checkout, the travel corpus, half of it as if it were text of one language:
#   examples/recipes/self_training.sh
# Text of your own:
#   CONFIG=my.yaml SOURCE=de TARGET=en TRAIN='corpus.{de,en}.gz' VALIDATION='dev.{de,en}' TEST='test.{de,en}' \
#     MONOLINGUAL=news.de.zst WORK=runs/self_training examples/recipes/self_training.sh
# The same command goes on after an interruption; what is finished is not repeated.
set -euo pipefail

CONFIG=${CONFIG:-configs/quickstart.yaml}            # models and trainings; corpora and directories are set here
SOURCE=${SOURCE:-es}                                 # the languages of the model that is wanted
TARGET=${TARGET:-en}
TRAIN=${TRAIN:-'examples/travel/train.{es,en}.gz'}   # pairs, in any format that nmt convert reads
VALIDATION=${VALIDATION:-'examples/travel/validation.{es,en}.gz'}
TEST=${TEST:-'examples/travel/test.{es,en}.gz'}
MONOLINGUAL=${MONOLINGUAL:-}                         # lines in the source language; none: an experiment, see PAIRS
PAIRS=${PAIRS:-15000}                                # of TRAIN that the experiment takes for pairs; of the others it
                                                     # takes the source side alone, and one more model has them all
ROUNDS=${ROUNDS:-2}                                  # how often a model translates, and two are trained
NOISE=${NOISE-word_dropout word_swap}                # kinds of nmt vary for the synthetic sources; empty: none
OPTIONS=${OPTIONS:-}                                 # of nmt translate, as --beam-size 8
CHECKS=${CHECKS:-}                                   # options of nmt doctor, as --check LengthRatioFilter=2.5
KEEP=${KEEP:-1}                                      # share of what passes them, as the model ranks it
WEIGHTS=${WEIGHTS-1:1}                               # of pairs and synthetic pairs in what is seen; empty: by size
SETTINGS=${SETTINGS:-}                               # of all trainings, as "seed=7 training.max_minutes=20"
WORK=${WORK:-runs/self_training}

source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

say "1. the text"
check mixed1 "$CONFIG" "$(mixture noise1)" # whose text is not there yet
texts

say "2. the first model, on the pairs alone"
train without "$CONFIG" "$SOURCE" "$TARGET" "$(files pairs "$SOURCE" "$TARGET")"
models=(without) newest=without

for ((round = 1; round <= ROUNDS; round++)); do
  say "3. round $round: text in the source language, translated by model $newest"
  translate "$newest" "${MONOLINGUAL:-$WORK/text/rest.$SOURCE}" "round$round"

  # What is empty, repeats itself, is a copy or much too long is left out. With KEEP=0.8 a fifth more goes: targets that
  # the model itself finds least probable per token.
  say "4. round $round: cleaned, and noise added to the sources"
  clean "round$round" line translation "$newest"
  noise "round$round" "noise$round" "$round"

  # Real pairs come last and alone, so that the model ends with targets of people. WEIGHTS=0:1 takes the synthetic pairs
  # alone before that, as He et al. do.
  say "5. round $round: a model on both, which goes on with the pairs alone"
  train "mixed$round" "$CONFIG" "$SOURCE" "$TARGET" "$(mixture "noise$round")"
  train "round$round" "$CONFIG" "$SOURCE" "$TARGET" "$(files pairs "$SOURCE" "$TARGET")" \
    --set "training.initialize_from=$WORK/mixed$round"
  newest=round$round models+=("round$round")
done
if [[ -z $MONOLINGUAL ]]; then # what translations by people would have brought
  train all "$CONFIG" "$SOURCE" "$TARGET" "$(files all "$SOURCE" "$TARGET")"
  models+=(all)
fi

say "6. what it brought"
for ((round = 1; round <= ROUNDS; round++)); do told "round$round"; done
compare "${models[@]}"
