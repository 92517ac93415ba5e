"""How good translations are: BLEU (Papineni et al. 2002) and chrF2 (Popović 2015), by sacreBLEU (Post 2018).

How sacreBLEU cuts text for BLEU depends on the language, and if its code says nothing on the script of the
references. If there are no spaces between words, 13a finds no words: whole lines are compared, and BLEU is 0.
sacreBLEU cuts Chinese into characters by its rule `zh`; elsewhere `char` is taken, since what else it has for such
languages needs MeCab or a download.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from nmt.data.lines import read_lines
from nmt.errors import ConfigError, DataError
from nmt.text.marks import PIECES, SEGMENTATIONS, TOKENS, found_marks, joined_side, scripts_in
from nmt.types import PathLike

if TYPE_CHECKING:
    from sacrebleu.metrics import BLEU, CHRF

logger = logging.getLogger(__name__)

INSTALLATIONS = {"ja-mecab": 'pip install "sacrebleu[ja]"', "ko-mecab": 'pip install "sacrebleu[ko]"'}
"""What tokenisations need beyond sacreBLEU; the others that need more use a model that sacreBLEU downloads once."""


DEFAULT_TOKENIZATION = "13a"
"""Used if none is asked for and the language has spaces."""

_KNOWN_AT_FIRST = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
"""The languages that version 0.1.0 knew to have no spaces."""

_LANGUAGES = _KNOWN_AT_FIRST | {
    **dict.fromkeys(("zho", "chi", "cmn", "yue", "wuu", "lzh", "hsn", "gan", "cjy", "zt", "zht", "zhs"), "zh"),
    **dict.fromkeys(("jpn", "tha", "lao", "khm", "mya", "bur", "bo", "bod", "tib", "dz", "dzo", "shn"), "char"),
}
"""Codes of ISO 639-1, -2 and -3 of languages without spaces, and some of other toolkits. Hakka and Min are missing,
which are often written in Latin letters: the script of the references decides."""

_SCRIPTS = {
    **dict.fromkeys(("hans", "hant", "hani", "hanb", "bopo"), "zh"),
    **dict.fromkeys(("jpan", "hira", "kana", "hrkt"), "char"),
    **dict.fromkeys(("thai", "laoo", "khmr", "mymr", "tibt", "lana", "tale", "talu", "bali", "java", "yiii"), "char"),
}
"""Codes of ISO 15924, of scripts without spaces; all others have some."""

_OTHERS = ("THAI", "LAO", "TIBETAN", "MYANMAR", "KHMER", "TAI", "NEW", "BALINESE", "YI", "JAVANESE", "CHAM")
"""Scripts without spaces besides the Chinese and the Japanese ones, as `scripts_in` calls them."""

_LINES_LOOKED_AT = 2000
_LEAST_SHARE = {False: 0.3, True: 0.05}
"""Share of letters of scripts without spaces that makes text such text, by whether spaces are few there: an English
text that quotes Chinese stays English, a Chinese one that is full of English terms stays Chinese."""

_LEAST_KANA = 0.1
_MOST_SPACES = 0.1
"""Spaces a letter above which words are separated, as by a segmenter: Chinese words have 1.6 letters, Thai ones 4.5."""


class Choice(NamedTuple):
    """A tokenisation, as sacreBLEU names it, and what there is to say about the choice, empty if nothing."""

    name: str
    remark: str = ""


class Writing(NamedTuple):
    """The tokenisation that suits some text, None if it has no letters, and whether spaces are few in it."""

    tokenization: str | None
    few_spaces: bool


def tokenization_of_language(language: str) -> str | None:
    """Return the tokenisation that suits a language code such as `zh`, `cmn_Hans` or `zh-TW`; None for others.

    A script decides if the code names one: `zh-Latn` has spaces.
    """
    first, *others = re.split(r"[^a-z0-9]+", language.lower())
    scripts = [part for part in others if len(part) == 4 and part.isalpha()]
    if scripts:
        return _SCRIPTS.get(scripts[0], DEFAULT_TOKENIZATION)
    return _LANGUAGES.get(first)


def earlier_tokenization(language: str) -> str:
    """Return the tokenisation that version 0.1.0 took for a language code: it knew six of two letters."""
    return _KNOWN_AT_FIRST.get(language.replace("_", "-").split("-")[0].lower(), DEFAULT_TOKENIZATION)


def writing_of(lines: Sequence[str]) -> Writing:
    """Look at the characters of text, or of lines spread evenly over it."""
    sample = lines[:: max(1, len(lines) // _LINES_LOOKED_AT)]
    scripts = scripts_in(sample)
    letters, others = scripts.total(), sum(scripts[script] for script in _OTHERS)
    chinese, kana = scripts["HAN"] + scripts["BOPOMOFO"], scripts["KANA"]
    few_spaces = sum(line.count(" ") for line in sample) < _MOST_SPACES * letters
    if letters == 0:
        return Writing(None, few_spaces)
    if chinese + kana + others < _LEAST_SHARE[few_spaces] * letters:
        return Writing(DEFAULT_TOKENIZATION, few_spaces)
    is_chinese = chinese > max(others, (1 / _LEAST_KANA - 1) * kana)
    return Writing("zh" if is_chinese else "char", few_spaces)


def choose_tokenization(references: Sequence[str], *, language: str | None = None) -> Choice:
    """Choose by the language, else by the script of the references.

    Args:
        references: in the language.
        language: its code, if one is known.
    """
    said, seen = None if language is None else tokenization_of_language(language), writing_of(references).tokenization
    if said is not None and said != DEFAULT_TOKENIZATION == seen:
        return Choice(said, f"BLEU cuts text by {said}, as suits {language}, but the references are in another script")
    if said is not None or seen is None or seen == DEFAULT_TOKENIZATION:
        return Choice(said or DEFAULT_TOKENIZATION)
    unknown = "no language is given" if language is None else f"the language {language} says nothing about it"
    return Choice(seen, f"BLEU cuts text by {seen}, as suits the script of the references: {unknown}")


def doubt_about(tokenization: str, references: Sequence[str]) -> str:
    """Return what is wrong with a tokenisation of text without spaces, empty if nothing."""
    suited, few_spaces = writing_of(references)
    if suited in (None, DEFAULT_TOKENIZATION, tokenization) or not few_spaces:
        return ""
    if tokenization not in (DEFAULT_TOKENIZATION, "intl", "none", "zh"):
        return ""
    return (
        f"BLEU cuts text by {tokenization}, which does not find the words of the references, where spaces are few: it "
        f"is too low, use {suited} (--tokenize of nmt evaluate, training.validation_tokenization of a new run)"
    )


class Score(NamedTuple):
    """A corpus score, 0 to 100, and the signature that says exactly how it was computed."""

    name: str
    score: float
    signature: str


class Evaluation(NamedTuple):
    """What a corpus of hypotheses is worth.

    bleu: BLEU on detokenised text, cased unless case is ignored.
    chrf2: character F-score that weighs recall twice, likewise.
    num_lines: sentences compared.
    """

    bleu: Score
    chrf2: Score
    num_lines: int


def evaluate_lines(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *more_references: Sequence[str],
    tokenization: str | None = None,
    lowercase: bool = False,
    join: str = "none",
) -> Evaluation:
    """Score hypotheses against one reference each, or several.

    Args:
        hypotheses: detokenised translations.
        references: as many detokenised references.
        more_references: other references, as many each.
        tokenization: how BLEU cuts text, a name that sacreBLEU knows; what suits the script of the references unless
            given.
        lowercase: whether case is ignored.
        join: how words were cut on both sides, which are joined before they are scored: "bpe", "sentencepiece",
            "wordpiece" or "joiner"; a side without any such marks stays as it is.

    Raises:
        ConfigError: the tokenisation cannot be used, or there is no such way to join words.
        DataError: the numbers differ, or there is nothing to score.
    """
    check_segmentation(join)
    hypotheses, *all_references = (joined_side(side, join) for side in (hypotheses, references, *more_references))
    names = _names_of(all_references)
    _check_counts(names, [hypotheses, *all_references])
    tokenization = settled_tokenization(tokenization, all_references)
    # Something is missing if a line is empty on one side alone.
    for name, lines in zip(names[1:], all_references, strict=True):
        pairs = [(bool(one.strip()), bool(other.strip())) for one, other in zip(hypotheses, lines, strict=True)]
        for side, missing in ((names[0], (False, True)), (name, (True, False))):
            if count := pairs.count(missing):
                logger.warning("%s of %s lines of %s are empty", f"{count:,}", f"{len(pairs):,}", side)
    # A side may look cut into pieces, or tokenised, which matters if spaces count.
    pieces, spaces_count = "scores are of pieces, not of words", tokenization not in ("none", "zh", "char")
    advice = {
        PIECES: f"{pieces}: join them with the program that cut them",
        TOKENS: "scores cannot be compared with those of plain text (--tokenize none: tokens are meant)",
    }
    for kind, words in found_marks(dict(zip(names, [hypotheses, *all_references], strict=True))).items():
        if kind != TOKENS or spaces_count:
            logger.warning("%s: %s", words, advice.get(kind, f"{pieces}, unless they are joined: --join {kind}"))
    score = _score(bleu_metric(tokenization, lowercase=lowercase), hypotheses, all_references)
    every_line = list(chain(*all_references))
    if doubt := doubt_about(tokenization, every_line):
        logger.warning("%s", doubt)
    elif score.score == 0.0 and not bleu_can_rise(every_line, tokenization=tokenization):
        logger.warning("%s: chrF2 says more", TOO_SHORT)
    from sacrebleu.metrics import CHRF  # which a translation goes without

    return Evaluation(score, _score(CHRF(lowercase=lowercase), hypotheses, all_references), len(hypotheses))


def evaluate_files(
    hypotheses: PathLike,
    references: PathLike,
    *more_references: PathLike,
    tokenization: str | None = None,
    lowercase: bool = False,
    join: str = "none",
) -> Evaluation:
    """Score a file of hypotheses against files of references, line by line; compressed ones too.

    Raises:
        ConfigError: the tokenisation cannot be used.
        DataError: a file cannot be read, they differ in their number of lines, or are empty.
    """
    lines = read_together(hypotheses, references, *more_references)
    return evaluate_lines(*lines, tokenization=tokenization, lowercase=lowercase, join=join)


def compare_files(
    systems: Sequence[PathLike],
    *references: PathLike,
    tokenization: str | None = None,
    lowercase: bool = False,
    join: str = "none",
) -> list[tuple[Evaluation, float | None]]:
    """Score several files of hypotheses, each beside the first by paired bootstrap (`paired_p_value`).

    Returns:
        For each its scores and the p-value of its difference in BLEU; None for the first.

    Raises:
        NMTError: as `evaluate_files`.
    """
    check_segmentation(join)
    every_side = read_together(*systems, *references)
    hypotheses, all_references = every_side[: len(systems)], every_side[len(systems) :]
    cut = settled_tokenization(tokenization, [joined_side(side, join) for side in all_references])
    compared = list[tuple[Evaluation, float | None]]()
    for lines in hypotheses:
        sides = [joined_side(side, join) for side in (hypotheses[0], lines, *all_references)]
        p_value = paired_p_value(*sides, tokenization=cut, lowercase=lowercase) if compared else None
        scores = evaluate_lines(lines, *all_references, tokenization=cut, lowercase=lowercase, join=join)
        compared.append((scores, p_value))
    return compared


def check_segmentation(name: str) -> None:
    """Refuse a way to join words that is not known.

    Raises:
        ConfigError: naming those that are.
    """
    if name not in SEGMENTATIONS:
        raise ConfigError(f"words must be joined by one of {', '.join(SEGMENTATIONS)}, got {name}")


def settled_tokenization(
    tokenization: str | None, references: Sequence[Sequence[str]], *, language: str | None = None
) -> str:
    """Return how BLEU cuts text, chosen and said if none is given; what it needs is missed now.

    Raises:
        ConfigError: the tokenisation cannot be used.
    """
    if tokenization is None:
        tokenization, remark = choose_tokenization(list(chain(*references)), language=language)
        if remark:
            logger.warning("%s", remark)
    bleu_metric(tokenization)
    return tokenization


def bleu(
    hypotheses: Sequence[str],
    *references: Sequence[str],
    tokenization: str = DEFAULT_TOKENIZATION,
    lowercase: bool = False,
) -> Score:
    """Compute corpus BLEU of detokenised text; see `evaluate_lines`."""
    _check_counts(_names_of(references), [hypotheses, *references])
    return _score(bleu_metric(tokenization, lowercase=lowercase), hypotheses, references)


def paired_p_value(
    before: Sequence[str],
    after: Sequence[str],
    *references: Sequence[str],
    tokenization: str,
    lowercase: bool = False,
    samples: int = 1000,
) -> float:
    """Return how probable so large a difference in BLEU is if two systems are equal, by paired bootstrap.

    Koehn (2004), "Statistical significance tests for machine translation evaluation", as sacreBLEU computes it. Its
    chance is seeded, so that the same lines give the same number.

    Args:
        before: hypotheses of one system.
        after: of the other, line for line.
        references: likewise, one or several.
        tokenization: how BLEU cuts text.
        lowercase: whether case is ignored.
        samples: of the lines, drawn with replacement.
    """
    from sacrebleu.significance import PairedTest

    names = ["the hypotheses", "those compared with them", *_names_of(references)[1:]]
    _check_counts(names, [before, after, *references])
    metric = bleu_metric(tokenization, lowercase=lowercase)
    if _score(metric, before, references) == _score(metric, after, references):
        return 1.0  # of which sacreBLEU takes no sample to be as large
    systems = [("before", list(before)), ("after", list(after))]
    lines = [list(side) for side in references]
    _, scores = PairedTest(systems, {"BLEU": metric}, lines, test_type="bs", n_samples=samples)()
    return float(scores["BLEU"][1].p_value)


TOO_SHORT = "BLEU is 0 whatever the hypotheses are, since no line of the references has four tokens, as it cuts them"


def bleu_can_rise(references: Sequence[str], *, tokenization: str) -> bool:
    """Return whether anything has a BLEU above 0: it counts sequences of four tokens, and wants some."""
    return not any(map(str.strip, references)) or bleu(references, references, tokenization=tokenization).score > 0.0


@cache
def bleu_metric(tokenization: str, *, lowercase: bool = False) -> BLEU:
    """Build the metric; to be called early, since what it needs may be missing.

    Raises:
        ConfigError: there is no such tokenisation, or a package or model that it needs is missing.
    """
    from sacrebleu.metrics import BLEU

    if tokenization not in BLEU.TOKENIZERS:
        raise ConfigError(f"the tokenisation of BLEU must be one of {', '.join(BLEU.TOKENIZERS)}, got {tokenization}")
    try:
        # `force` silences a remark on text that looks tokenised: with a whitespace tokenizer it is meant to.
        return BLEU(tokenize=tokenization, lowercase=lowercase, force=True)
    except (ImportError, RuntimeError, OSError) as error:
        if tokenization in INSTALLATIONS:
            remedy = f"needs a package that is missing or does not work: {INSTALLATIONS[tokenization]}"
        else:
            reason = " ".join(str(error).split())
            remedy = f"needs a model that sacreBLEU could not download or read ({reason}): choose another, say char"
        raise ConfigError(f"the tokenisation {tokenization} of BLEU {remedy}") from error


def read_together(*paths: PathLike) -> list[list[str]]:
    """Read files that belong together line by line: first hypotheses or a source, then references.

    Raises:
        DataError: a file cannot be read, they differ in their number of lines, or are empty.
    """
    sides = [list(read_lines(path)) for path in paths]
    _check_counts([os.fspath(path) for path in paths], sides)
    return sides


def _score(metric: BLEU | CHRF, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    result = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    return Score(result.name, float(result.score), str(metric.get_signature()))


def _names_of(references: Sequence[Sequence[str]]) -> list[str]:
    numbered = [f"reference {number}" for number, _ in enumerate(references, start=1)]
    return ["the hypotheses", *(numbered if len(references) > 1 else ["the references"])]


def _check_counts(names: Sequence[str], sides: Sequence[Sequence[str]]) -> None:
    for name, lines in zip(names[1:], sides[1:], strict=True):
        if len(lines) != len(sides[0]):
            raise DataError(
                f"what is compared must have the same number of lines, got {len(sides[0]):,} in {names[0]} and "
                f"{len(lines):,} in {name}"
            )
        if not lines:
            raise DataError(f"there must be at least one line to score, got none in {names[0]} and {name}")
