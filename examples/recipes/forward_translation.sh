#!/usr/bin/env bash
# Forward translation: text in the source language becomes training pairs, its targets made by a model of the same
# direction (Zhang and Zong 2016). With the source side of TRAIN as MONOLINGUAL and a smaller STUDENT it is
# sequence-level knowledge distillation (Kim and Rush 2016, arXiv:1606.07947): the small model learns from the targets
# of a large one.
#
# In the folder of this checkout, the travel corpus, half of it as if it were text of one language:
#   examples/recipes/forward_translation.sh
# Text of your own:
#   CONFIG=my.yaml SOURCE=de TARGET=en TRAIN='corpus.{de,en}.gz' VALIDATION='dev.{de,en}' TEST='test.{de,en}' \
#     MONOLINGUAL=news.de.zst WORK=runs/forward_translation examples/recipes/forward_translation.sh
# The same command goes on after an interruption; what is finished is not repeated.
set -euo pipefail

CONFIG=${CONFIG:-configs/quickstart.yaml}            # the teacher; corpora and directories are set here
STUDENT=${STUDENT:-$CONFIG}                          # the model that is wanted, maybe a smaller one
SOURCE=${SOURCE:-es}                                 # the languages of the model that is wanted
TARGET=${TARGET:-en}
TRAIN=${TRAIN:-'examples/travel/train.{es,en}.gz'}   # pairs, in any format that nmt convert reads
VALIDATION=${VALIDATION:-'examples/travel/validation.{es,en}.gz'}
TEST=${TEST:-'examples/travel/test.{es,en}.gz'}
MONOLINGUAL=${MONOLINGUAL:-}                         # lines in the source language; none: an experiment, see PAIRS
PAIRS=${PAIRS:-15000}                                # of TRAIN that the experiment takes for pairs; of the others it
                                                     # takes the source side alone, and one more model has them all
OPTIONS=${OPTIONS:-}                                 # of nmt translate, as --beam-size 8
CHECKS=${CHECKS:-}                                   # options of nmt doctor, as --check LengthRatioFilter=2.5
KEEP=${KEEP:-1}                                      # share of what passes them, as the teacher ranks it
TAG=${TAG-}                                          # before each synthetic source, as <ft>; empty: none
WEIGHTS=${WEIGHTS-1:1}                               # of pairs and synthetic pairs in what is seen; empty: by size
SETTINGS=${SETTINGS:-}                               # of all trainings, as "seed=7 training.max_minutes=20"
WORK=${WORK:-runs/forward_translation}

source "$(dirname "${BASH_SOURCE[0]}")/steps.sh"

say "1. the text"
check with "$STUDENT" "$(mixture forward)" # whose text is not there yet
texts

say "2. a teacher, and the student to compare with, on the pairs alone"
train without "$STUDENT" "$SOURCE" "$TARGET" "$(files pairs "$SOURCE" "$TARGET")"
models=(without) teacher=without
if [[ $STUDENT != "$CONFIG" ]]; then
  train teacher "$CONFIG" "$SOURCE" "$TARGET" "$(files pairs "$SOURCE" "$TARGET")"
  models+=(teacher) teacher=teacher
fi

# The likeliest translation of each line: a decoder learns the faults of its targets, unlike those of sources.
say "3. text in the source language, translated by the teacher"
translate "$teacher" "${MONOLINGUAL:-$WORK/text/rest.$SOURCE}" forward

# What is empty, repeats itself, is a copy or much too long is left out. With KEEP=0.8 a fifth more goes: targets that
# the teacher itself finds least probable per token.
say "4. cleaned"
clean forward line translation "$teacher"

# Half of what is seen is real text, whose targets are better than the teacher's. For distillation WEIGHTS=0:1 takes the
# teacher's targets alone.
say "5. a student on both"
train with "$STUDENT" "$SOURCE" "$TARGET" "$(mixture forward)"
models+=(with)
if [[ -z $MONOLINGUAL ]]; then # what translations by people would have brought
  train all "$STUDENT" "$SOURCE" "$TARGET" "$(files all "$SOURCE" "$TARGET")"
  models+=(all)
fi

say "6. what it brought"
told forward
compare "${models[@]}"
