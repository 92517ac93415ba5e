"""What can only be seen in a corpus as a whole, or in a sample of it: sides that shift, text that is cut, overlap."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from nmt.doctor import doubts
from nmt.doctor.findings import EXAMPLES, Examination, Finding, Places, is_judging
from nmt.errors import ConfigError
from nmt.filters.checks import DROP, Block, Check
from nmt.filters.features import Array, Lines
from nmt.filters.repeated import ORDER, Overlap
from nmt.text import TextPair
from nmt.text.vocabulary import MOST_UNKNOWN

logger = logging.getLogger(__name__)

Pairs: TypeAlias = Sequence[tuple[str, str]]

_FEWEST_PAIRS, _FEWEST_OF_A_FILE = 100, 500
_LAGS = 5
_UNRELATED, _MUCH_BETTER = 0.2, 0.3
"""Correlations of the lengths of both sides: below the first, and better by the second when shifted, is misaligned."""

_MEASURED_CHARACTERS = 4096
_LEAST_CUT, _STEP = 0.005, 5
_FEW_TO_TRAIN_ON = 10_000
_NEARLY_NONE, _NEARLY_ALL = 0.05, 0.5


class Traits:
    """Counts of one corpus that show what single pairs cannot."""

    def __init__(self) -> None:
        self._files = list[_Correlated]()
        self._lengths = np.zeros((2, _MEASURED_CHARACTERS), np.int64)

    def begin(self, path: str) -> None:
        """A file begins."""
        self._files.append(_Correlated(path))

    def update(self, block: Block, before: int) -> None:
        """Take in the next pairs, of which the first has such a number."""
        for counts, side in zip(self._lengths, block.sides, strict=True):
            lengths = side.lengths[(side.lengths > 0) & (side.lengths < _MEASURED_CHARACTERS)]
            counts += np.bincount(lengths, minlength=_MEASURED_CHARACTERS)
        source, target = (np.log(side.lengths + 1.0) for side in block.sides)
        if len(source) < _FEWEST_PAIRS or not (source.std() and target.std()):
            return
        here = float(np.corrcoef(source, target)[0, 1])
        self._files[-1].add(here, len(source))
        if here >= _UNRELATED:
            return
        best, lag = max((_correlation(source, target, lag), lag) for lag in range(-_LAGS, _LAGS + 1) if lag)
        if best > here + _MUCH_BETTER:
            self._files[-1].shift = self._files[-1].shift or (before, lag)

    def findings(self, result: Examination, places: Places) -> Iterator[Finding]:
        """What is to be said of the corpus."""
        for number, lag in (each.shift for each in self._files if each.shift):
            place = places.example(number, ("", ""))
            yield Finding(
                "ShiftedSides", "fatal", result.name,
                f"source and target are shifted by {abs(lag)} line{'s' * (abs(lag) > 1)} against each other, in "
                f"{place.file} "
                f"from about line {place.line} on: their lengths fit then, and do not as they stand",
                "nearly all pairs from there on are no translations",
                f"find the line that one side has too many or too few, near line {place.line} or before",
            )  # fmt: skip
        yield from self._unrelated(result)
        for side, counts in zip(("source", "target"), self._lengths, strict=True):
            if longest := _cut_at(counts):
                yield Finding(
                    "CutLines", "warning", result.name,
                    f"the {side} looks cut: {int(counts[longest]):,} lines end at {longest} characters, and none is "
                    f"longer",
                    "the model learns to end within a sentence",
                    "take the text from before it was cut, or drop these lines: "
                    "--check LengthRatioFilter=2 finds those whose other side is whole",
                    int(counts[longest]), result.pairs,
                )  # fmt: skip

    def _unrelated(self, result: Examination) -> Iterator[Finding]:
        """That lengths have nothing to do with each other, in all files together or in one that is large enough."""
        together, files = _Correlated("all files"), [each for each in self._files if not each.shift]
        for each in files:
            together.add(each.correlation, each.pairs)
        if together.is_unrelated and len(files) == len(self._files):
            found = [together]
        else:
            found = [each for each in files if each.pairs >= _FEWEST_OF_A_FILE and each.is_unrelated]
        for each in found:
            where = f" in {each.path}" if len(self._files) > 1 else ""
            yield Finding(
                "UnrelatedSides", "fatal", result.name,
                f"the lengths of source and target have nothing to do with each other{where} (correlation "
                f"{each.correlation:.2f})", "pairs that are no translations teach nothing",
                "look whether both files are of one corpus, and in one order",
            )  # fmt: skip


@dataclass
class _Correlated:
    """How the lengths of both sides go together, in the pairs of a file that were looked at.

    shift: the number of the first pair of the first block whose sides fit better when shifted, and by how many lines.
    """

    path: str
    pairs: int = 0
    correlation: float = 0.0
    shift: tuple[int, int] | None = None

    def add(self, correlation: float, pairs: int) -> None:
        """Take in some more pairs."""
        self.pairs += pairs
        self.correlation += (correlation - self.correlation) * pairs / max(1, self.pairs)

    @property
    def is_unrelated(self) -> bool:
        """Whether they do not."""
        return self.pairs > 0 and self.correlation < _UNRELATED / 2


def _correlation(source: Array, target: Array, lag: int) -> float:
    """Of the lengths, if line n of the source stands beside line n + lag of the target."""
    one, other = (source[:-lag], target[lag:]) if lag > 0 else (source[-lag:], target[:lag])
    return float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 0.0


def _cut_at(counts: Array) -> int:
    """The length that far more lines have than those right below it, and none exceeds; 0 if there is none."""
    longest = int(np.flatnonzero(counts)[-1]) if counts.any() else 0
    below = counts[max(1, longest - 10) : longest]
    if len(below) < 10 or counts[longest] < max(20, _LEAST_CUT * counts.sum()):
        return 0
    return longest if counts[longest] > _STEP * max(1, below.max()) else 0


_NEW_SETS = "take new sets, say by nmt split"
_OR_DROP = ", or leave their lines out of the training corpus: --clean OUT --check TestOverlap=drop"


def overlap_findings(overlap: Overlap, texts: Mapping[str, Pairs]) -> Iterator[Finding]:
    """What of the sets that judge a model stands in the training corpus too."""
    for name, shared in overlap.shared().items():
        known = (
            ("Overlap", shared.exact, doubts.SHARED, (doubts.SAID_SHARE, doubts.DOUBTFUL_SHARE)),
            ("NearOverlap", shared.near & ~shared.exact,
             "stand in data.train but for case, accents, digits and punctuation", (0.2, 1)),
            ("NgramOverlap", shared.ngrams & ~shared.exact & ~shared.near,
             f"have half of the {ORDER}-grams of a side in data.train, or more", (1, 1)),
        )  # fmt: skip
        for check, found, words, (doubtful, wasted) in known:
            if not found.any():
                continue
            share = found.mean()
            severity = "fatal" if share > wasted else "warning" if share > doubtful else "note"
            rows = np.flatnonzero(found)[:EXAMPLES].tolist()
            examples = ", ".join(repr(texts[name][row][0][:60]) for row in rows)
            yield Finding(
                check, severity, name, f"{words} (such as {examples})", doubts.COST_OF_SHARED,
                _NEW_SETS + (_OR_DROP if check != "NgramOverlap" else ""), int(found.sum()), shared.total,
            )  # fmt: skip


def sample_findings(
    samples: Mapping[str, Pairs], main: str, *, languages: tuple[str, str], segmentation: str, told: Collection[str]
) -> Iterator[Finding]:
    """What samples of the corpora show: sides that are not what they are said to be, marks of other programs, style.

    Args:
        samples: pairs by the name of their corpus.
        main: the name of the training corpus.
        languages: codes of both sides; empty if unknown.
        segmentation: of `data.segmentation`.
        told: corpora of which it is known that they are swapped.
    """
    for name, pairs in samples.items():
        wrong = doubts.doubts_about_sides(name, pairs, languages=languages) if any(languages) else ()
        for sentence in wrong:
            yield Finding(
                "WrongSides", "fatal", name, sentence.removeprefix(f"{name}: "), "the model learns another language "
                "pair",
                "correct paths, columns, or data.source_language and data.target_language",
            )  # fmt: skip
        for sentence in doubts.doubts_about_marks({name: pairs}, segmentation):
            yield Finding("Marks", "warning", name, sentence.replace("data.", ""))
        if name != main and not {name, main} & {*told} and doubts.looks_swapped(pairs, like=samples[main]):
            yield Finding(
                "SwappedSides", "fatal", name, doubts.SWAPPED.format(main=main),
                "the model learns both directions, or is judged by the one that it did not learn",
                "swap the paths or columns of the one that is wrong; the extra langid says which",
            )  # fmt: skip
    styles = {name: _styles(pairs) for name, pairs in samples.items()}
    for name, shares in styles.items():
        if name == main:
            continue
        for what, share in shares.items():
            of_main = styles[main][what]
            low, high = sorted((share, of_main))
            if low < _NEARLY_NONE and high > _NEARLY_ALL:
                yield Finding(
                    "StyleDiffers", "warning",
                    name, f"{share:.0%} of its lines {what}, but {of_main:.0%} of those of {main}",
                    "the model is judged on text of another kind than it learns", "prepare all corpora in the same way",
                )  # fmt: skip


def _styles(pairs: Pairs) -> dict[str, float]:
    """Shares of lines that have some trait, by what is said of it."""
    found = dict[str, float]()
    for side, lines in zip(("source", "target"), zip(*pairs, strict=True), strict=True):
        counted = Lines(lines)
        found[f"have a capital letter in the {side}"] = float((counted.lines_with(counted.is_upper) > 0).mean())
        found[f"end in punctuation in the {side}"] = float(counted.ends_in_punctuation.mean())
    return found


def few_pairs(result: Examination) -> Iterator[Finding]:
    """A note on a training corpus that is small."""
    if 0 < result.pairs < _FEW_TO_TRAIN_ON:
        yield Finding(
            "FewPairs", "note", result.name, f"{result.pairs:,} pairs are few", "a large model learns them by heart",
            "a small model, more dropout and data.subword_sampling 0.2 help; so do more data of any kind",
        )  # fmt: skip


def token_findings(result: Examination, text: TextPair, *, max_length: int) -> Iterator[Finding]:
    """What tokenizers make of a sample: unknown tokens, text that does not come back, pairs above the limit.

    Args:
        result: of a corpus, with its sample.
        text: the tokenizers.
        max_length: of `data.max_length`.
    """
    pairs = [pair for _, pair in sorted(result.sample) if pair[0].strip() and pair[1].strip()]
    if not pairs:
        return
    of = f"of {len(pairs):,} pairs" if len(pairs) >= result.pairs else f"of a sample of {len(pairs):,} pairs"
    lines = list(zip(*pairs, strict=True))
    sides = [each.encode_batch(side) for each, side in zip((text.source, text.target), lines, strict=True)]
    lengths = [np.fromiter(map(len, side), np.int64) for side in sides]
    tokens = ", ".join(
        f"{name} {side.mean():.1f} ({np.quantile(side, 0.99):.0f} in one line of a hundred, {side.max()} at most)"
        for name, side in zip(("source", "target"), lengths, strict=True)
    )
    yield Finding("Tokens", "note", result.name, f"tokens per line, {of}: {tokens}")
    if longer := int((np.maximum(*lengths) > max_length).sum()):
        share = longer / len(pairs)
        yield Finding(
            "TooManyTokens", "warning" if share > 0.01 else "note", result.name,
            f"have a side of more than data.max_length {max_length} tokens, {of}", "training drops them",
            "raise data.max_length, or a larger data.tokenizer.vocabulary_size", longer, len(pairs),
        )  # fmt: skip
    for name, ids in zip(("source", "target"), sides, strict=True):
        if (share := doubts.unknown_share(ids)) > MOST_UNKNOWN:
            yield Finding(
                "UnknownTokens", "warning", result.name, f"{share:.2%} of the tokens of the {name} are unknown, {of}",
                doubts.COST_OF_UNKNOWN, doubts.FEWER_UNKNOWN,
            )  # fmt: skip
    for cause, found in doubts.changed_targets(text.target, lines[1]).items():
        share = len(found) / len(pairs)
        yield Finding(
            "ChangedTargets", "warning" if share > doubts.CHANGED_SHARE else "note", result.name,
            f"targets do not come back from their tokens as they are, {cause}, {of}: {doubts.difference(*found[0])}",
            "the model can never write them", "see data.normalization.target and data.tokenizer",
            len(found), len(pairs),
        )  # fmt: skip


_FEWEST_LETTERS = 20
_FEWEST_CLASSIFIED, _CLASSIFIED, _JOINED = 5, 500, 10
_FATAL_SHARE, _NEARLY_ALL_SWAPPED, _CUT_SHARE = 0.5, 0.9, 0.8
_HARDLY_TOLD_APART = (
    {"bs", "hr", "sr"}, {"da", "nb", "nn", "no"}, {"id", "jv", "ms"}, {"cs", "sk"}, {"es", "gl", "pt"}, {"af", "nl"},
    {"wuu", "yue", "zh"}, {"xh", "zu"}, {"fa", "ps", "ur"}, {"be", "ru", "uk"}, {"bg", "mk"}, {"hi", "mr", "ne"},
    {"kk", "ky"}, {"as", "bn"},
)  # fmt: skip


@cache
def _language_model(langid: ModuleType) -> Any:
    """The model of py3langid, which takes half a second to open."""
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def _joined(line: str) -> str:
    """A line without its spaces, if it is cut into characters."""
    words = line.split()
    return "".join(words) if sum(len(word) == 1 for word in words) > _CUT_SHARE * len(words) else line


class Languages:
    """Says what language lines are in, by the model that the package py3langid brings.

    Args:
        languages: codes of both sides, of which those that the model does not know are passed over.

    Raises:
        ConfigError: the package is not there.
    """

    def __init__(self, languages: tuple[str, str]) -> None:
        try:
            from py3langid import langid
        except ImportError as error:
            raise ConfigError("the package py3langid is needed: pip install py3langid") from error
        self._model = _language_model(langid)
        parts = [language.replace("_", "-").split("-") for language in languages]
        codes = [part[0].lower() for part in parts]
        self._has_script = [any(len(each) == 4 for each in part[1:]) for part in parts]
        self.codes = [code if code in self._model.labels else "" for code in codes]

    def others(self, pairs: Pairs, threshold: float) -> Array:
        """(N,) whether a side of each pair is probably in another language than it is said to be."""
        found = np.zeros(len(pairs), bool)
        for row, pair in enumerate(pairs):
            for line, code in zip(pair, self.codes, strict=True):
                if code and not found[row] and len(line) >= _FEWEST_LETTERS:
                    language, probability = self._model.classify(line)
                    found[row] = language != code and probability > threshold
        return found

    def found(self, pairs: Pairs) -> list[tuple[str, str]]:
        """The languages of both sides of some pairs, or of short ones together; none if there are too few."""
        drawn = [(_joined(source), _joined(target)) for source, target in pairs[:: 1 + len(pairs) // _CLASSIFIED]]
        longer = [pair for pair in drawn if min(map(len, pair)) >= _FEWEST_LETTERS]
        if len(longer) < _FEWEST_CLASSIFIED:
            joined = (zip(*drawn[at : at + _JOINED], strict=True) for at in range(0, len(drawn), _JOINED))
            longer = [(" ".join(source), " ".join(target)) for source, target in joined]
        if len(longer) < _FEWEST_CLASSIFIED or not all(self.codes):
            return []
        return [(self._model.classify(source)[0], self._model.classify(target)[0]) for source, target in longer]

    def swapped_share(self, found: Sequence[tuple[str, str]]) -> float:
        """Share of what `found` returns that has its source in the language of the target, and the other way round."""
        source, target = self.codes
        return 0.0 if source == target else found.count((target, source)) / max(1, len(found))

    def other(self, found: Sequence[tuple[str, str]]) -> str:
        """The language that most lines of a side are in, in words, if that is another, and no near relative of it."""
        for side, name in enumerate(("sources", "targets")):
            language, count = Counter(languages[side] for languages in found).most_common(1)[0]
            alike = any({language, self.codes[side]} <= group for group in _HARDLY_TOLD_APART)
            if self._has_script[side]:  # Latn say, which the model may not know of this language
                continue
            if language != self.codes[side] and count > _FATAL_SHARE * len(found) and not alike:
                return f"most {name} are in {language}"
        return ""


def identifier_for(checks: Mapping[str, Check], languages: tuple[str, str]) -> Languages | None:
    """What says languages, if that is wanted; it must be there only if pairs are to be dropped by it.

    Raises:
        ConfigError: it must be, and is not, or it does not know the languages.
    """
    check = checks.get("LanguageIDFilter")
    if check is None:
        return None
    try:
        if not all(languages):
            raise ConfigError("those of source and target are not known: give --languages, as es,en")
        found = Languages(languages)
        if unknown := [language for language, code in zip(languages, found.codes, strict=True) if not code]:
            raise ConfigError(f"py3langid knows no {' and no '.join(unknown)}: give codes of two letters, as es,en")
    except ConfigError as error:
        if check.action == DROP:
            raise ConfigError(f"LanguageIDFilter: {error}") from error
        logger.info("languages are not looked at: %s", error)
        return None
    return found


def language_findings(result: Examination, check: Check, languages: Languages, places: Places) -> Iterator[Finding]:
    """Whether a corpus is swapped by the languages of its sample, and pairs of others, unless all are looked at."""
    sample = sorted(result.sample)
    found = languages.found([pair for _, pair in sample])
    swapped = languages.swapped_share(found)
    parts = [("", swapped)] if swapped > _FATAL_SHARE else []
    if not parts and len(of_files := places.by_file(sample)) > 1:
        shares = {file: languages.swapped_share(languages.found(pairs)) for file, pairs in of_files.items()}
        parts = [(f" in {file}", share) for file, share in shares.items() if share > _FATAL_SHARE]
    for where, share in parts:
        source, target = languages.codes
        alike = "; nothing has to be dropped" if share > _NEARLY_ALL_SWAPPED else ", of the part that is swapped"
        yield Finding(
            "SwappedSides", "fatal", result.name,
            f"source and target are swapped{where}: of some pairs {share:.0%} have a source in {target} and a target "
            f"in {source}", "the model learns, or is judged by, the other direction",
            f"swap its paths or columns, or data.source_language and data.target_language{alike}",
        )  # fmt: skip
    if not parts and found and (other := languages.other(found)):
        yield Finding(
            "WrongLanguage", "fatal", result.name, f"{other}, where {' to '.join(languages.codes)} is wanted",
            "the model learns another language", "correct paths or columns, or data.source_language and "
            "data.target_language",
        )  # fmt: skip
    if check.action == DROP or swapped > _NEARLY_ALL_SWAPPED:
        return
    others = languages.others([pair for _, pair in sample], check.threshold or 0.0)
    if others.any():
        examples = [places.example(*sample[row]) for row in np.flatnonzero(others)[:EXAMPLES].tolist()]
        share = others.mean()
        yield Finding(
            check.name, "warning" if share > 0.01 else "note", result.name,
            check.words + ("" if len(sample) >= result.pairs else f" (of a sample of {len(sample):,})"), check.cost,
            check.advice(judging=is_judging(result.name)),
            int(others.sum()), len(sample), tuple(examples),
        )  # fmt: skip
