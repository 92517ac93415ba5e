"""What was found in corpora, as it is handed on: findings with their examples, and where pairs stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nmt.data.corpus import Corpus, kind_of
from nmt.errors import DataError
from nmt.filters.checks import Check
from nmt.filters.features import Array


def is_judging(name: str) -> bool:
    """Whether a corpus, by its name in the settings, judges a model; such are not cleaned."""
    return name.partition(".")[0] in ("validation", "test")


EXAMPLES = 3
"""Pairs that are shown of each finding."""

_SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Example:
    """A pair that something was found in, and where it stands.

    line: of the file; of TMX and zip archives, where pairs have no line of their own, which pair of it.
    """

    file: str
    line: int
    source: str
    target: str

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return f"{self.file}, {'pair' if kind_of(self.file) in ('tmx', 'zip') else 'line'} {self.line:,}"


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    check: the name of what found it.
    severity: `fatal` if a training would be wasted, `warning`, or `note`.
    corpus: where.
    sentence: what, in words.
    cost: what it does to a training.
    remedy: what to do.
    count, total: how many of how many; None if it is said of the corpus as a whole.
    examples: some of them.
    """

    check: str
    severity: str
    corpus: str
    sentence: str
    cost: str = ""
    remedy: str = ""
    count: int | None = None
    total: int | None = None
    examples: tuple[Example, ...] = ()


@dataclass
class Examination:
    """What was found in one corpus.

    name: of the corpus.
    pairs: that were read.
    left_out: what its files hold besides, and why that is no pair.
    findings: what was found.
    reasons: (N,) for each pair 0, or 1 + the place in `names` of the check that drops it.
    names: of the checks.
    lines_in_warnings: pairs that a check which warns found something in.
    lengths: pairs by words of source and of target, from 0 to 511 or more.
    ratios: pairs by the logarithm (base 2) of the ratio of their characters, target by source, -4 to 4 in 64 steps.
    ratio: that is usual.
    longest: the longest pairs.
    sample: some pairs, each with its number.
    """

    name: str
    pairs: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    reasons: Array = field(default_factory=lambda: np.zeros(0, np.uint8))
    names: tuple[str, ...] = ()
    lines_in_warnings: int = 0
    lengths: tuple[Array, Array] = field(default_factory=lambda: (np.zeros(512, int), np.zeros(512, int)))
    ratios: Array = field(default_factory=lambda: np.zeros(64, int))
    ratio: float = 1.0
    longest: tuple[Example, ...] = ()
    sample: list[tuple[int, tuple[str, str]]] = field(default_factory=list)

    def dropped(self) -> Counter[str]:
        """How many pairs `--clean` drops, by the check."""
        counts = np.bincount(self.reasons, minlength=1 + len(self.names))[1:]
        return Counter({name: int(count) for name, count in zip(self.names, counts, strict=True) if count})


def files_of(corpus: Corpus) -> list[Corpus]:
    """The corpus of each file.

    Raises:
        DataError: the sides differ in their number of files.
    """
    if len(corpus.paths[0]) != len(corpus.paths[1]):
        next(corpus.units())
    layout = corpus.layout._replace(links=None)  # which only a training looks at
    return [Corpus(source, target, layout=layout) for source, target in zip(*corpus.paths, strict=True)]


def first_line(corpus: Corpus) -> int:
    """The line of the first pair of a file: the second if the first one names the columns."""
    named = any(isinstance(column, str) for column in (*corpus.layout.columns, corpus.layout.weight_column))
    return 1 + (named and (corpus.layout.format or kind_of(corpus.paths[0][0])) == "tsv")


BLOCK_PAIRS = 2048
"""Small enough for the caches of a processor, where larger blocks take half as long again."""


def blocks_of(corpus: Corpus, left_out: Counter[str]) -> Iterator[list[tuple[str, str]]]:
    """The pairs of a corpus in blocks; why other parts of its files give none is counted.

    Raises:
        DataError: the corpus cannot be read on; what was read before comes first.
    """
    block = list[tuple[str, str]]()
    try:
        for unit in corpus.units():
            if isinstance(unit, str):
                left_out[unit] += 1
                continue
            block.append(unit)
            if len(block) == BLOCK_PAIRS:
                yield block
                block = []
    except DataError:
        if block:
            yield block
        raise
    if block:
        yield block


class Places:
    """Where the pairs of a corpus stand, by their number."""

    def __init__(self) -> None:
        self._files: list[tuple[int, str, int]] = []

    def begin(self, number: int, corpus: Corpus) -> None:
        """A file begins with the pair of such a number."""
        self._files.append((number, corpus.paths[0][0], first_line(corpus)))

    def by_file(self, sample: Iterable[tuple[int, tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
        """Pairs with their numbers, by their files."""
        found = dict[str, list[tuple[str, str]]]()
        for number, pair in sample:
            found.setdefault(self.example(number, ("", "")).file, []).append(pair)
        return found

    def example(self, number: int, pair: tuple[str, str]) -> Example:
        """A pair with its place."""
        first, file, line = next(found for found in reversed(self._files) if found[0] <= number)
        return Example(file, number - first + line, *(text[:_SHOWN_CHARACTERS] for text in pair))


def finding_of(check: Check, corpus: str, count: int, total: int, examples: Sequence[Example]) -> Finding:
    """What a check found in a corpus."""
    words = check.words.format(threshold=check.threshold)
    remedy = check.advice(judging=is_judging(corpus))
    return Finding(check.name, check.severity, corpus, words, check.cost, remedy, count, total, tuple(examples))
