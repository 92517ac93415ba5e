"""Links between words: both directions made one, Pharaoh format, and the alignment error rate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from nmt.alignment.bitext import word_spans
from nmt.errors import DataError

Links: TypeAlias = "set[tuple[int, int]]"
"""Places of a source word and of the target word it is linked to, from 0."""

_NEIGHBOURS = ((-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


def intersection(forward: Links, backward: Links) -> Links:
    """Links of both directions."""
    return forward & backward


def union(forward: Links, backward: Links) -> Links:
    """Links of either direction."""
    return forward | backward


def grow_diag(forward: Links, backward: Links) -> Links:
    """The intersection, grown into the union (Koehn, Och and Marcu 2003; Koehn et al. 2005).

    A link of the union is added beside, above or diagonally to a link that is in, if its source word or its target word
    has no link yet; until nothing is added.
    """
    links = forward & backward
    candidates = (forward | backward) - links
    linked_source, linked_target = {i for i, _ in links}, {j for _, j in links}
    grows = bool(candidates)
    while grows:
        grows = False
        for i, j in sorted(links):
            for di, dj in _NEIGHBOURS:
                new = (i + di, j + dj)
                if new in candidates and (new[0] not in linked_source or new[1] not in linked_target):
                    candidates.remove(new)
                    links.add(new)
                    linked_source.add(new[0])
                    linked_target.add(new[1])
                    grows = True
    return links


def grow_diag_final_and(forward: Links, backward: Links) -> Links:
    """`grow_diag`, and then the links of each direction between two words that have none."""
    links = grow_diag(forward, backward)
    linked_source, linked_target = {i for i, _ in links}, {j for _, j in links}
    for direction in (forward, backward):
        for i, j in sorted(direction - links):
            if i not in linked_source and j not in linked_target:
                links.add((i, j))
                linked_source.add(i)
                linked_target.add(j)
    return links


SYMMETRIZATIONS: dict[str, Callable[[Links, Links], Links]] = {
    "grow-diag-final-and": grow_diag_final_and,
    "grow-diag": grow_diag,
    "intersection": intersection,
    "union": union,
    "forward": lambda forward, backward: forward,
    "backward": lambda forward, backward: backward,
}
"""How the links of both directions become one set, by the word for it."""


def pharaoh(links: Links) -> str:
    """Links as text: "0-0 1-2", source before target, sorted."""
    return " ".join(f"{i}-{j}" for i, j in sorted(links))


class LinksOf(NamedTuple):
    """Where the links between the words of a corpus stand, and which words they count.

    Attributes:
        files: of lines in Pharaoh format, one for each file of the corpus; none if they stand in a column.
        column: of files that hold both sides.
        tokenized: whether words are those of `nmt.alignment.bitext.cut`; else what stands between spaces.
    """

    files: tuple[str, ...] = ()
    column: int | str | None = None
    tokenized: bool = False

    def checked(self, links: object, pair: Sequence[str], place: str) -> str:
        """Return the links of a pair of lines, one space between two, if each is between two words that are there.

        Raises:
            DataError: they are no links, or a word is not there; the message begins with the place.
        """
        if not isinstance(links, str):
            raise DataError(f"{place}: must have the links of its words as a text such as '0-0 1-2', got {links!r:.60}")
        found = parse_links(links, place).possible
        counts = [len(word_spans(line, tokenized=self.tokenized)) for line in pair[:2]]
        for link in sorted(found):
            if link[0] >= counts[0] or link[1] >= counts[1]:
                raise DataError(
                    f"{place}: links must be between words of the pair, which has {counts[0]} and {counts[1]} of them, "
                    f"got {link[0]}-{link[1]}: align these very lines by nmt align-corpus, with --tokenize if "
                    f"alignment_tokenized is true, and without if it is false (here {str(self.tokenized).lower()})"
                )
        return " ".join(links.split())

    def file_of(self, number: int, count: int) -> str:
        """Return the file for one of so many files of a corpus.

        Raises:
            DataError: there are more or fewer of them.
        """
        if len(self.files) != count:
            raise DataError(
                f"a corpus must have as many files of alignment as of source, got {len(self.files)} and {count}: "
                f"{', '.join(self.files)}"
            )
        return self.files[number]

    def beside(self, units: Iterable[Any], lines: Iterator[str], path: str) -> Iterator[Any]:
        """Yield pairs with their weights, 1 if they have none, and links; a text among them stays as it is.

        Args:
            units: of a file of the corpus.
            lines: the links of each pair.
            path: their file, for errors.

        Raises:
            DataError: there is not a line a pair, or it holds no links of the pair; naming file and line.
        """
        number = 0
        for unit in units:
            if isinstance(unit, str):
                yield unit
                continue
            number += 1
            if (line := next(lines, None)) is None:
                raise DataError(f"{path}: must have a line for each pair, got {number - 1:,}: align the corpus again")
            yield *(*unit, "1.0")[:3], self.checked(line, unit, f"{path}, line {number}")
        if next(lines, None) is not None:
            raise DataError(f"{path}: must have a line for each of {number:,} pairs, got more: align the corpus again")


class Gold(NamedTuple):
    """What people say about a pair of sentences: sure links, and those that may be there or not, sure ones included."""

    sure: Links
    possible: Links


def parse_links(text: str, place: str = "") -> Gold:
    """Read links: "0-0 1p2", where "-" stands for a sure link and "p" for a possible one.

    Args:
        text: a line.
        place: of the line, for the error.

    Raises:
        DataError: it holds something else.
    """
    sure, possible = set(), set()
    for word in text.split():
        match = re.fullmatch(r"(\d+)([-p])(\d+)", word, re.ASCII)
        if match is None:
            raise DataError(f"{place}: a link is written 3-4, or 3p4 if it is only possible, got {word}")
        link = (int(match[1]), int(match[3]))
        possible.add(link)
        if match[2] == "-":
            sure.add(link)
    return Gold(sure, possible)


class ErrorRate(NamedTuple):
    """Errors of alignments, all between 0 and 1.

    aer: alignment error rate; 0 is best.
    precision: share of the links that are possible.
    recall: share of the sure links that are found.
    """

    aer: float
    precision: float
    recall: float


def alignment_error_rate(pairs: Iterable[tuple[Links, Gold]]) -> ErrorRate:
    """The alignment error rate over all pairs of sentences: 1 - (|A & S| + |A & P|) / (|A| + |S|).

    Och and Ney (2003), section 6. Of no links at all it is 0.

    Args:
        pairs: links, and what they are to be.
    """
    found = possible = right = sure = 0
    for links, gold in pairs:
        found += len(links)
        possible += len(links & gold.possible)
        right += len(links & gold.sure)
        sure += len(gold.sure)
    return ErrorRate(
        1 - (right + possible) / (found + sure) if found + sure else 0.0,
        possible / found if found else 1.0,
        right / sure if sure else 1.0,
    )
