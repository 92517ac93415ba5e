"""The table of checks: what may be wrong with a pair of lines, from what threshold on, what it costs and what to do.

Names and meanings are those of OpusFilter (Aulamo et al., 2020) where it has such a filter; docs/data.md says where
ours differ. Names of OpusCleaner are known too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from nmt.errors import ConfigError
from nmt.filters.features import TERMINAL, Array, Kind, Lines
from nmt.text.marks import SCRIPT_NAMES, scripts_of_language

DROP, TELL, OFF = "drop", "tell", "off"

_FIRST_LETTER = int(Kind.FIRST_SCRIPT)


def _kinds_of(*scripts: str) -> list[int]:
    return [_FIRST_LETTER + SCRIPT_NAMES.index(name) for name in scripts]


_WITHOUT_SPACES = _kinds_of("HAN", "KANA", "THAI", "LAO", "KHMER", "MYANMAR")
_ALPHABETS = _kinds_of("LATIN", "CYRILLIC", "GREEK")


@dataclass(frozen=True)
class Block:
    """Pairs of lines that are looked at together, N of them.

    Attributes:
        sides: source and target.
        languages: their codes; empty if unknown.
        ratio: characters of a target per character of its source, as is usual in this corpus.
    """

    sides: tuple[Lines, Lines]
    languages: tuple[str, str]
    ratio: float

    def either(self, find: Callable[[Lines], Array]) -> Array:
        """(N,) whether something is found in one of the sides."""
        return find(self.sides[0]) | find(self.sides[1])

    @cached_property
    def lengths(self) -> tuple[Array, Array]:
        """(N,) words of each side, or a tenth of its characters if that is more, as where no spaces are written."""
        source, target = (np.maximum(side.num_words, side.lengths // 10) for side in self.sides)
        return source, target

    @cached_property
    def length_ratios(self) -> Array:
        """(N,) the longer side by the shorter in characters, once the usual ratio is taken out."""
        source, target = (side.lengths + 1.0 for side in self.sides)
        ratios = target / source / self.ratio
        return np.maximum(ratios, 1 / ratios)


def _spaced(side: Lines) -> Array:
    """Whether lines are in scripts that have spaces between words."""
    return 2 * side.count(*_WITHOUT_SPACES) <= side.letters


def _empty(block: Block, threshold: float) -> Array:
    return block.either(lambda side: side.num_words == 0)


def _control(block: Block, threshold: float) -> Array:
    return block.either(lambda side: side.count(Kind.CONTROL) > 0)


_CUT_UTF8 = np.frombuffer("ÂÃâÐÑÎÏÙØ".encode("utf-32-le"), np.uint32)
_REST_OF_UTF8 = np.unique([*range(0x80, 0xC0), *map(ord, bytes(range(0x80, 0xA0)).decode("cp1252", "ignore"))])


def _broken(block: Block, threshold: float) -> Array:
    def find(side: Lines) -> Array:
        pairs = np.isin(side.codes[:-1], _CUT_UTF8) & np.isin(side.codes[1:], _REST_OF_UTF8)
        return (side.count(Kind.REPLACEMENT) > 0) | (side.lines_with(pairs) > 0)

    return block.either(find)


def _invisible(block: Block, threshold: float) -> Array:
    return block.either(lambda side: side.count(Kind.INVISIBLE, Kind.UNASSIGNED) > 0)


def _too_long(block: Block, threshold: float) -> Array:
    return np.maximum(*block.lengths) > threshold


_LEAST_DIFFERENCE = 15


def _length_ratio(block: Block, threshold: float) -> Array:
    source, target = (side.lengths for side in block.sides)
    differs = np.abs(target - source * block.ratio) > _LEAST_DIFFERENCE
    return (block.length_ratios > threshold) & differs & (source > 0) & (target > 0)


def _long_word(block: Block, threshold: float) -> Array:
    return block.either(lambda side: (side.longest_words > threshold) & _spaced(side))


_FEWEST_WORDS = 5


def _average_word(block: Block, threshold: float) -> Array:
    def find(side: Lines) -> Array:
        of_letters = side.lines_with(side.kinds[side.word_starts] >= _FIRST_LETTER, side.word_lines)
        return (of_letters >= _FEWEST_WORDS) & (side.alphabetic < threshold * of_letters) & _spaced(side)

    return block.either(find)


_FEWEST_SIGNS = 10


def _alphabet_ratio(block: Block, threshold: float) -> Array:
    def find(side: Lines) -> Array:
        written = side.counts.sum(axis=1) - side.count(Kind.SPACE)
        return (written >= _FEWEST_SIGNS) & (side.alphabetic < threshold * written)

    return block.either(find)


_FEWEST_LETTERS = 4


def _character_score(block: Block, threshold: float) -> Array:
    found = np.zeros(len(block.sides[0]), bool)
    for side, language in zip(block.sides, block.languages, strict=True):
        if scripts := scripts_of_language(language):
            letters = side.letters
            found |= (letters >= _FEWEST_LETTERS) & (side.count(*_kinds_of(*scripts)) < threshold * letters)
    return found


def _mixed_scripts(block: Block, threshold: float) -> Array:
    def find(side: Lines) -> Array:
        before, after = side.kinds[:-1], side.kinds[1:]
        both = np.isin(before, _ALPHABETS) & np.isin(after, _ALPHABETS)
        return side.lines_with(both & (before != after)) >= threshold

    return block.either(find)


_MOST_WORDS_REPEATED = 4
_CHARACTERS_PER_WORD = 3


def _repetition(block: Block, threshold: float) -> Array:
    def find(side: Lines) -> Array:
        repeats = int(threshold)
        found = side.repeats(side.codes, side.line_of, period=1, times=_CHARACTERS_PER_WORD * repeats)
        for period in range(1, _MOST_WORDS_REPEATED + 1):
            found |= side.repeats(side.words, side.word_lines, period=period, times=repeats)
        return found

    return block.either(find)


def _searched(pattern: re.Pattern[str]) -> Callable[[Block, float], Array]:
    """Finds a pattern in lines that have a sign of markup."""

    def find(block: Block, threshold: float) -> Array:
        found = np.zeros(len(block.sides[0]), bool)
        for side in block.sides:
            for row in np.flatnonzero(side.count(Kind.MARKUP)).tolist():
                found[row] |= pattern.search(side.lines[row]) is not None
        return found

    return find


_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>|<!--")
_ENTITY = re.compile(r"&(?:#\d{1,6}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});")
_ESCAPE = re.compile(r"\\(?:[nrt\"'](?![A-Za-z])|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})")
_ADDRESS = re.compile(r"https?://\S+|\bwww\.\S+|\b[\w.+-]+@[\w-]+\.\w+")


def _addresses(block: Block, threshold: float) -> Array:
    found = np.zeros(len(block.sides[0]), bool)
    marked = block.either(lambda side: side.count(Kind.MARKUP) > 0)
    for row, lines in enumerate(zip(*(side.lines for side in block.sides), strict=True)):
        if marked[row] or "www." in lines[0] or "www." in lines[1]:
            source, target = (len(_ADDRESS.findall(line)) for line in lines)
            found[row] = source != target
    return found


_FEWEST_SHARED = 4


def _similarity(block: Block, threshold: float) -> Array:
    if block.languages[0] == block.languages[1] != "":
        return np.zeros(len(block.sides[0]), bool)
    source, target = block.sides
    # A word within its pair: the same word of another pair is another number.
    keys = [side.words + side.word_lines.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) for side in block.sides]
    shared = target.lines_with(np.isin(keys[1], keys[0]), target.word_lines)
    longest = np.maximum(source.num_words, target.num_words)
    copies = (source.near_hashes == target.near_hashes) & (source.near_hashes != 0)
    fewest = np.minimum(source.num_words, target.num_words)
    return ((fewest > _FEWEST_SHARED) & (shared >= threshold * longest)) | (copies & (fewest >= _FEWEST_SHARED))


_SPELLED_OUT = 2


def _numerals(block: Block, threshold: float) -> Array:
    source, target = (side.counts[:, Kind.ZERO + 1 : Kind.NINE + 1] for side in block.sides)
    counts = source.sum(axis=1), target.sum(axis=1)
    common = 2 * np.minimum(source, target).sum(axis=1)
    spelled_out = (np.minimum(*counts) == 0) & (np.maximum(*counts) <= _SPELLED_OUT)
    return (common < threshold * (counts[0] + counts[1])) & ~spelled_out


def _brackets(block: Block, threshold: float) -> Array:
    source, target = block.sides
    return (source.count(Kind.OPENING) != target.count(Kind.OPENING)) | (
        source.count(Kind.CLOSING) != target.count(Kind.CLOSING)
    )


def _terminal_punctuation(block: Block, threshold: float) -> Array:
    source, target = (side.count(*TERMINAL) for side in block.sides)
    penalty = np.abs(source - target) + np.maximum(source - 1, 0) + np.maximum(target - 1, 0)
    return -np.log(penalty + 1) < threshold


def _final_punctuation(block: Block, threshold: float) -> Array:
    source, target = (side.final_kinds for side in block.sides)
    return (source != target) & (source > 0) & (target > 0)


_OPENS_SENTENCE = np.array([ord(sign) for sign in "¿¡\"“„«‘'"])
_ENDS_WITHOUT_SPACE = np.array([ord(sign) for sign in "。！？"])


def _sentences(side: Lines) -> Array:
    """(N,) sentences, as far as signs and capital letters show them."""
    codes, kinds = side.codes, side.kinds
    terminal = np.isin(kinds[:-2], TERMINAL) & (kinds[1:-1] == Kind.SPACE) & (codes[1:-1] != 10)
    begins = side.is_upper[2:] | np.isin(codes[2:], _OPENS_SENTENCE)
    caseless = (kinds[2:] >= _FIRST_LETTER) & ~side.is_lower[2:]
    cjk = np.isin(codes[:-2], _ENDS_WITHOUT_SPACE) & (codes[1:-1] != 10)
    return 1 + side.lines_with(terminal & (begins | caseless) | cjk)


def _sentence_counts(block: Block, threshold: float) -> Array:
    source, target = map(_sentences, block.sides)
    return np.abs(source - target) >= threshold


def _several_sentences(block: Block, threshold: float) -> Array:
    source, target = map(_sentences, block.sides)
    return np.maximum(source, target) >= threshold


def _uppercase(block: Block, threshold: float) -> Array:
    upper, lower = ([side.lines_with(getattr(side, name)) for side in block.sides] for name in ("is_upper", "is_lower"))
    shouts = [(up >= threshold) & (low == 0) for up, low in zip(upper, lower, strict=True)]
    return (shouts[0] & (lower[1] > upper[1])) | (shouts[1] & (lower[0] > upper[0]))


Find: TypeAlias = Callable[[Block, float], Array]


class Check(NamedTuple):
    """Something that may be wrong with a pair.

    name: as `--check` takes it.
    action: `drop`: `--clean` leaves such pairs out; `tell`: it keeps them; `off`.
    threshold: from where on, in what `unit` says; None if there is no more or less.
    unit: of the threshold.
    words: what is said of such pairs, after their number.
    cost: what they do to a training.
    find: finds them in a block; None for what is not found in a block alone.
    remedy: what helps beside leaving them out.
    """

    name: str
    action: str
    threshold: float | None
    unit: str
    words: str
    cost: str
    find: Find | None = None
    remedy: str = ""

    @property
    def severity(self) -> str:
        """`warning` for what is wrong in nearly every case, else `note`."""
        return "warning" if _BY_NAME[self.name].action == DROP else "note"

    def advice(self, *, judging: bool) -> str:
        """What to do about such pairs.

        Args:
            judging: whether they stand in validation or test, which `--clean` leaves as they are.
        """
        option = "" if self.action == DROP else f" --check {self.name}=drop"
        if judging:
            without = (
                f"this set is not cleaned: nmt doctor with its files and --clean OUT{option} writes it without them"
            )
        elif option:
            without = f"--clean keeps them;{option} drops them"
        else:
            without = "--clean drops them"
        return "; ".join(filter(None, (without, self.remedy)))


CHECKS = (
    Check(
        "EmptyFilter", DROP, None, "", "have an empty side",
        "a training drops them, and in validation and test they distort scores", _empty,
    ),
    Check(
        "ControlCharacterFilter", DROP, None, "", "hold control characters",
        "they become spaces, nothing, or tokens that mean nothing; a pair with NUL is dropped by a training", _control,
    ),
    Check(
        "EncodingFilter", DROP, None, "", "hold characters that a wrong encoding broke, such as Ã¼ or \ufffd",
        "the model learns to write them", _broken, "better decode the text anew from its source",
    ),
    Check(
        "InvisibleCharacterFilter", TELL, None, "",
        "hold characters without width, or ones that Unicode has not assigned",
        "equal words become different tokens", _invisible,
        "remove them, say with sed; data.normalization.source nfkc folds some",
    ),
    Check(
        "LengthFilter", DROP, 100, "words (or tenths of characters, where that is more)",
        "have a side longer than {threshold:g} words",
        "memory grows with the longest pair, and most are badly cut text",
        _too_long,
    ),
    Check(
        "LengthRatioFilter", DROP, 3, "times the ratio of characters that is usual in the corpus",
        "have a side more than {threshold:g} times as long as usual for the other", "one side says what the other does "
        "not: the model learns to add or leave out", _length_ratio,
    ),
    Check(
        "LongWordFilter", DROP, 40, "characters", "have a word longer than {threshold:g} characters",
        "addresses, code and text without spaces fill the vocabulary", _long_word,
    ),
    Check(
        "AverageWordLengthFilter", DROP, 1.5, "letters a word",
        "have words of fewer than {threshold:g} letters on average, "
        "as s p a c e d text has", "words are cut into letters, which no other text shows", _average_word,
    ),
    Check(
        "AlphabetRatioFilter", DROP, 0.5, "letters of all characters but spaces",
        "have fewer than {threshold:.0%} letters in a side", "tables and numbers teach nothing about language",
        _alphabet_ratio,
    ),
    Check(
        "CharacterScoreFilter", DROP, 0.5, "letters of the language's script", "have a side with fewer than "
        "{threshold:.0%} of its letters in the script of its language", "the model learns to write the wrong language",
        _character_score,
    ),
    Check(
        "MixedScriptFilter", DROP, 1, "places in a line",
        "hold words with letters of two alphabets, such as a Cyrillic а "
        "in an English word", "such words look equal and are other tokens", _mixed_scripts,
    ),
    Check(
        "RepetitionFilter", DROP, 4, "times in a row (characters: three times as often)",
        "repeat words {threshold:g} times in a row, or characters", "the model learns to repeat itself",
        _repetition,
    ),
    Check(
        "HtmlTagFilter", DROP, None, "", "hold HTML tags", "the model learns to write markup",
        _searched(_TAG), "better extract the text anew",
    ),
    Check(
        "HtmlEntityFilter", TELL, None, "", "hold HTML entities such as &amp;", "the model learns to write them",
        _searched(_ENTITY), "unescape the text, say with python -c 'import html'",
    ),
    Check(
        "EscapeFilter", TELL, None, "", "hold escapes such as \\n or \\u00fc", "the model learns to write them",
        _searched(_ESCAPE), "unescape the text",
    ),
    Check(
        "SimilarityFilter", DROP, 0.7, "words of the longer side that both have",
        "have source and target that are (nearly) "
        "equal", "untranslated text costs most of all kinds of noise: the model learns to copy (Khayrallah and Koehn, "
        "2018)", _similarity,
    ),
    Check(
        "NonZeroNumeralsFilter", DROP, 0.5, "similarity of the digits 1 to 9", "have different numbers on both sides",
        "the model learns to change numbers", _numerals,
    ),
    Check(
        "AddressFilter", DROP, None, "", "have a web or mail address on one side only",
        "the model learns to lose or invent "
        "addresses", _addresses,
    ),
    Check(
        "BracketFilter", TELL, None, "", "have other brackets on one side than on the other",
        "the model learns to lose or "
        "invent brackets", _brackets,
    ),
    Check(
        "TerminalPunctuationFilter", TELL, -2, "score of OpusFilter", "have many or different signs that end sentences",
        "several sentences in a line, or other ones on both sides", _terminal_punctuation,
    ),
    Check(
        "FinalPunctuationFilter", TELL, None, "", "end in another kind of punctuation on both sides",
        "the model is unsure "
        "how to end a sentence", _final_punctuation,
    ),
    Check(
        "SentenceCountFilter", TELL, 2, "sentences", "differ by {threshold:g} or more sentences",
        "one side says what the other does not", _sentence_counts,
    ),
    Check(
        "SeveralSentencesFilter", TELL, 3, "sentences", "have {threshold:g} or more sentences in a side",
        "the model learns long lines; a limit of tokens drops them", _several_sentences,
        "cut the text at ends of sentences",
    ),
    Check(
        "UppercaseFilter", TELL, 4, "capital letters", "are in capital letters on one side only", "the model writes "
        "capitals at random", _uppercase,
    ),
    Check(
        "LanguageIDFilter", TELL, 0.5, "probability of another language", "have a side in another language than it is "
        "said to be", "the model learns to write the wrong language",
    ),
    Check(
        "WordAlignFilter", OFF, 0.3, "links and their order",
        "have words that hardly translate each other, or stand in "
        "disorder", "pairs that are no translations teach nothing",
    ),
    Check(
        "Duplicates", TELL, None, "", "are the same as an earlier pair",
        "they weigh more, and the model learns them by "
        "heart",
    ),
    Check(
        "NearDuplicates", TELL, None, "",
        "are the same as an earlier pair but for case, accents, digits and punctuation",
        "they weigh more",
    ),
    Check(
        "TestOverlap", TELL, None, "", "stand in validation or test too, but for case, accents, digits and punctuation",
        "scores say little of new text",
        remedy="nmt split takes new sets out of a corpus",
    ),
)  # fmt: skip
_BY_NAME = {check.name: check for check in CHECKS}

OPUSCLEANER_NAMES = {
    "alpha_ratio": "AlphabetRatioFilter",
    "bifixer_dedupe": "NearDuplicates",
    "langid": "LanguageIDFilter",
    "max_length": "LengthFilter",
    "max_word_length": "LongWordFilter",
    "num_mismatch": "NonZeroNumeralsFilter",
    "remove_empty_lines": "EmptyFilter",
    "src_trg_ratio": "LengthRatioFilter",
    "url_mismatch": "AddressFilter",
}
"""What OpusCleaner calls filters that look for the same; `--check` takes these names too."""


def settled_checks(changes: Sequence[str] = ()) -> dict[str, Check]:
    """The table, with what a user wants otherwise.

    Args:
        changes: each `NAME=VALUE`, where VALUE is a threshold, `drop`, `tell` or `off`; names in any case.

    Raises:
        ConfigError: there is no such check, or it takes no such value.
    """
    checks, names = dict(_BY_NAME), OPUSCLEANER_NAMES | {name.lower(): name for name in _BY_NAME}
    for change in changes:
        given, _, value = change.partition("=")
        name = names.get(given.strip().lower())
        if name is None:
            raise ConfigError(f"--check takes one of {', '.join(_BY_NAME)}, got {given}")
        if value in (DROP, TELL, OFF):
            checks[name] = checks[name]._replace(action=value)
            continue
        try:
            threshold = float(value)
        except ValueError:
            threshold = math.nan
        usual = checks[name].threshold
        is_share = usual is not None and 0 < usual < 1
        least = 2 if name == "RepetitionFilter" else 0
        if usual is None or not math.isfinite(threshold) or threshold < least <= usual or (is_share and threshold > 1):
            kind = "share from 0 to 1" if is_share else f"number from {least}" if least else "number"
            numbers = "" if usual is None else f", or a {kind} of {checks[name].unit}"
            raise ConfigError(f"--check {name} takes {DROP}, {TELL} or {OFF}{numbers}, got {value or 'nothing'}")
        action = DROP if checks[name].action == OFF else checks[name].action
        checks[name] = checks[name]._replace(threshold=threshold, action=action)
    return {name: check for name, check in checks.items() if check.action != OFF}


def found_by(checks: Mapping[str, Check], block: Block) -> dict[str, Array]:
    """(N,) by the name of a check, whether it finds something wrong with each pair of a block."""
    return {name: check.find(block, check.threshold or 0.0) for name, check in checks.items() if check.find}
