# What the recipes share, sourced once their parameters are set, each in a line NAME=${NAME...}. Everything is made in
# $WORK: parallel text and parts of it in $WORK/text, a model directory for each model, and beside it the config of what
# is its own. Needs bash 4.4.

METHOD=${METHOD:-beam} TRANSLATIONS=${TRANSLATIONS:-1} TAG=${TAG:-} ROUNDS=${ROUNDS:-1}

refuse() { echo "$0: $*" >&2 && exit 2; }

# With --help, what stands at the top of the recipe, its parameters with it.
if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  sed -n '2,/^source/ { /^set\|^source/d; s/^# \{0,1\}//; p }' "$0" && exit
fi
if (($#)); then refuse "takes its parameters as NAME=VALUE before it, see --help; got $*"; fi

if [[ $METHOD != beam && $METHOD != sampling ]]; then refuse "METHOD must be beam or sampling, got $METHOD"; fi
for name in PAIRS TRANSLATIONS ROUNDS; do
  if [[ ! ${!name} =~ ^[1-9][0-9]*$ ]]; then refuse "$name must be a number, at least 1, got ${!name}"; fi
done
if [[ -n $MONOLINGUAL && ! -s $MONOLINGUAL ]]; then refuse "MONOLINGUAL must be a file with text, got $MONOLINGUAL"; fi
read -ra options <<<"$OPTIONS"
read -ra checks <<<"$CHECKS"
read -ra settings <<<"$SETTINGS"
settings=("${settings[@]/#/--set=}")

say() { printf '\n== %s\n' "$*" >&2; }

# appearing FILE: writes what it reads to a file that appears whole, as those of nmt do.
appearing() { cat >"$1.new" && mv "$1.new" "$1"; }

# What lies in $WORK was made with the parameters of the first start, so others are refused.
mkdir -p "$WORK/text"
parameters=$(sed -n 's/^\([A-Z]*\)=${.*/\1/p' "$0" | grep -vx WORK)
given=$(for name in $parameters; do printf '%s=%s\n' "$name" "${!name}"; done)
if [[ ! -e $WORK/parameters ]]; then
  appearing "$WORK/parameters" <<<"$given"
elif ! diff "$WORK/parameters" - <<<"$given" >&2; then
  refuse "$WORK was begun with other parameters, see above: choose another WORK, or remove it"
fi

# once FILE COMMAND...: unless FILE is there.
once() {
  if [[ -e $1 ]]; then echo "$1 is there" >&2; else "${@:2}"; fi
}

# plain CORPUS NAME: a corpus in any format as lines, $WORK/text/NAME.*, of which parts can be taken and sides swapped.
plain() {
  echo "$1:" >&2
  once "$WORK/text/$2.$TARGET" \
    nmt convert "$1" "$WORK/text/$2.{$SOURCE,$TARGET}" --languages "$SOURCE,$TARGET"
}

# texts: parallel text, and without MONOLINGUAL a part of it as text of one language.
texts() {
  plain "$VALIDATION" validation
  plain "$TEST" test
  if [[ -n $MONOLINGUAL ]]; then
    plain "$TRAIN" pairs
  else
    plain "$TRAIN" all
    take "$PAIRS"
  fi
}

# take COUNT: the first pairs of $WORK/text/all.* as pairs.*, the others as rest.*
take() {
  local language text=$WORK/text
  if [[ -e $text/rest.$TARGET ]]; then return; fi
  if (($(wc -l <"$text/all.$SOURCE") <= $1)); then
    rm "$WORK/parameters" # nothing was made with them
    refuse "PAIRS must leave some pairs of TRAIN to be taken as text of one language, got $1"
  fi
  for language in "$SOURCE" "$TARGET"; do
    head -n "$1" "$text/all.$language" | appearing "$text/pairs.$language"
    tail -n "+$(($1 + 1))" "$text/all.$language" | appearing "$text/rest.$language"
  done
  echo "of $(wc -l <"$text/all.$SOURCE") pairs $1 are taken as pairs, the others as text of one language" >&2
}

# files NAME FROM INTO: parallel text from one language into the other, as a config has it; links of CONFIG are of other
# text.
files() { echo "{source: \"$WORK/text/$1.$2\", target: \"$WORK/text/$1.$3\", alignment: null}"; }

# config MODEL FROM INTO CORPORA: what is a model's own, with corpora as data.train has them.
config() {
  cat <<YAML | appearing "$WORK/$1.yaml"
model_directory: "$WORK/$1"
data:
  source_language: $2
  target_language: $3
  train: $4
  validation: $(files validation "$2" "$3")
  test: $(files test "$2" "$3")
  stages: null # of other corpora
  temperature: 1
training: {deciding_validation: null}
YAML
}

# check MODEL CONFIG CORPORA: refuses settings of a later training before hours are spent on earlier ones.
check() {
  config "$1" "$SOURCE" "$TARGET" "$3"
  if ! nmt check-config "$2" "$WORK/$1.yaml" "${settings[@]}" >&2; then
    if [[ -z $(ls "$WORK/text") ]]; then rm "$WORK/parameters"; fi # nothing was made with them
    exit 1
  fi
}

# train MODEL CONFIG FROM INTO CORPORA SETTING...: a finished training is not repeated, one that was stopped goes on.
train() {
  config "$1" "${@:3:3}"
  nmt train "$2" "$WORK/$1.yaml" "${settings[@]}" "${@:6}"
}

# translate MODEL FILE NAME: lines with their translations, $WORK/text/NAME.jsonl; goes on where it was stopped.
translate() {
  local how=(--n-best "$TRANSLATIONS")
  if [[ $METHOD == sampling ]]; then how=(--samples "$TRANSLATIONS"); fi
  nmt translate "$WORK/$1" --input "$2" --output "$WORK/text/$3.jsonl" --format jsonl --resume \
    "${how[@]}" "${options[@]}"
}

# clean NAME SOURCE TARGET [FORWARD [REVERSE]]: the pairs of NAME.jsonl that are good enough, $WORK/text/NAME.N.*, N
# counting the translations of each line. What is source of a pair, and what target: line or translation. FORWARD and
# REVERSE are the models that choose the best of them if KEEP is below 1; one alone says how sure it is.
clean() {
  local number source target
  for ((number = 0; number < TRANSLATIONS; number++)); do
    source=${2/#line/source} target=${3/#line/source}
    once "$WORK/text/$1.$number.$TARGET" clean_one "$WORK/text/$1.jsonl" "$WORK/text/$1.$number" \
      "${source/#translation/translations.$number.text}" "${target/#translation/translations.$number.text}" "${@:4}"
  done
}

# clean_one FILE OUT SOURCE_COLUMN TARGET_COLUMN [FORWARD [REVERSE]]: the doctor's status ends the recipe if a training
# on such pairs would be wasted; OUT is not there then, so that the next start ends here too.
clean_one() {
  local good=$2.good chosen=$2.good ending
  nmt doctor "$1" --source-column "$3" --target-column "$4" --languages "$SOURCE,$TARGET" \
    --clean "$good.{$SOURCE,$TARGET}" "${checks[@]}" >&2 || stopped "$1"
  if [[ $KEEP != 1 ]]; then
    chosen=$2.best
    nmt score "$WORK/$5" --source "$good.$SOURCE" --target "$good.$TARGET" --format tsv -o "$good.$5.tsv"
    if [[ -n ${6:-} ]]; then
      nmt score "$WORK/$6" --source "$good.$TARGET" --target "$good.$SOURCE" --format tsv -o "$good.$6.tsv"
    fi
    nmt doctor "$good.{$SOURCE,$TARGET}" --clean "$chosen.{$SOURCE,$TARGET}" "${checks[@]}" \
      --dual "$good.$5.tsv" "$good.${6:-$5}.tsv" --keep "$KEEP" >&2
  fi
  for ending in "$SOURCE" "$TARGET"; do mv "$chosen.$ending" "$2.$ending"; done
}

# stopped FILE: what to do where the doctor ends a recipe.
stopped() {
  echo "$0: the doctor finds most pairs of $1 bad, see above: look at them, and train longer; with other CHECKS" \
    "another WORK is needed, to which the models of $WORK can be copied, which are not trained again then" >&2
  exit 1
}

# noise NAME OUT SEED: the same pairs with changed sources.
noise() {
  local kind kinds=()
  for kind in $NOISE; do kinds+=(--with "$kind"); done
  if [[ -z $NOISE ]]; then
    for kind in "$SOURCE" "$TARGET"; do appearing "$WORK/text/$2.0.$kind" <"$WORK/text/$1.0.$kind"; done
  else
    once "$WORK/text/$2.0.$TARGET" nmt vary "$WORK/text/$1.0.{$SOURCE,$TARGET}" \
      --output "$WORK/text/$2.0.{$SOURCE,$TARGET}" --languages "$SOURCE,$TARGET" --seed "$3" "${kinds[@]}"
  fi
}

# mixture NAME: real pairs and the synthetic pairs NAME.N.*, as data.train has them.
mixture() {
  local language number list sides=() weights=("" "") file=$WORK/text/pairs
  if [[ -n $WEIGHTS ]]; then weights=(", weight: ${WEIGHTS%:*}" ", weight: ${WEIGHTS#*:}"); fi
  for language in "$SOURCE" "$TARGET"; do
    list=""
    for ((number = 0; number < TRANSLATIONS; number++)); do list+="${list:+, }\"$WORK/text/$1.$number.$language\""; done
    sides+=("[$list]")
  done
  printf '\n    - {name: real, source: "%s", target: "%s"%s}' "$file.$SOURCE" "$file.$TARGET" "${weights[0]}"
  printf '\n    - {name: synthetic, source: %s, target: %s%s}' "${sides[@]}" "${weights[1]}${TAG:+", tag: \"$TAG\""}"
}

# told NAME: what became of the synthetic pairs.
told() {
  local number made kept=0
  made=$(($(wc -l <"$WORK/text/$1.jsonl") * TRANSLATIONS))
  for ((number = 0; number < TRANSLATIONS; number++)); do
    kept=$((kept + $(wc -l <"$WORK/text/$1.$number.$TARGET")))
  done
  echo "$made synthetic pairs made, $kept kept, $((made - kept)) dropped: $WORK/text/$1.*.dropped.tsv say why"
}

# overlap NAME: how many targets stand in the test set, word for word.
overlap() {
  local count
  count=$(LC_ALL=C grep -cxFf "$WORK/text/test.$TARGET" "$WORK/text/$1.0.$TARGET" || true)
  echo "$count targets of the text stand in the test set too; with many of them BLEU is better than on new text"
}

# compare MODEL...: how well they translate the test set, and whether a difference to the first may be chance.
compare() {
  local model hypotheses=()
  for model in "$@"; do
    nmt translate "$WORK/$model" --input "$WORK/text/test.$SOURCE" --output "$WORK/$model.$TARGET" --resume
    hypotheses+=(--hypotheses "$WORK/$model.$TARGET")
  done
  nmt evaluate "${hypotheses[@]}" --reference "$WORK/text/test.$TARGET"
}
