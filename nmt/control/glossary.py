"""Terms and their translations: where a text has them, what a search must then place, and what came of it."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from itertools import accumulate, groupby
from typing import Any, NamedTuple

from nmt.control.controls import Control, Controls
from nmt.control.phrases import folded, is_word
from nmt.errors import ConfigError, DataError
from nmt.text.vocabulary import read_text_file
from nmt.types import PathLike

logger = logging.getLogger(__name__)

_SHOWN_TERMS = 10
_FLAGS = ("case",)
_SHORTEST_STEM = 3
_LONGEST_ENDING = 3


class Term(NamedTuple):
    """A term of the source language.

    source: its words.
    targets: its translations, any of them will do; none if the term is kept as it is.
    match_case: whether the case of the source counts.
    """

    source: str
    targets: tuple[str, ...] = ()
    match_case: bool = False

    @property
    def alternatives(self) -> tuple[str, ...]:
        """What may stand in the translation. A translation in small letters may also begin with a capital."""
        capitals = (target[:1].upper() + target[1:] for target in self.targets if target == target.lower())
        return tuple(dict.fromkeys([*self.targets, *capitals])) or (self.source,)

    @property
    def required(self) -> str:
        """The alternatives as `Control` says them."""
        return " | ".join(self.alternatives)


class Span(NamedTuple):
    """A place in a text, in pieces."""

    start: int
    end: int


def _pieces(text: str) -> list[str]:
    """Cut a text into words and what stands between them, character by character; runs of spaces are one."""
    runs = ((in_word, "".join(run)) for in_word, run in groupby(" ".join(text.split()), is_word))
    return [piece for in_word, run in runs for piece in ([run] if in_word else run)]


def _spans(pieces: Sequence[str], lengths: Collection[int], matches: Callable[[Sequence[str]], bool]) -> list[Span]:
    """All places where as many pieces as one of the lengths match."""
    places = (Span(start, start + length) for start in range(len(pieces)) for length in lengths)
    return [span for span in places if span.end <= len(pieces) and matches(pieces[span.start : span.end])]


def _disjoint(spans: Iterable[Span]) -> list[Span]:
    """Take each place that shares no piece with one taken before."""
    taken, chosen = set[int](), list[Span]()
    for span in spans:
        if taken.isdisjoint(range(*span)):
            taken.update(range(*span))
            chosen.append(span)
    return chosen


class Glossary:
    """Terms, ready to be looked for in the source.

    Args:
        terms: of the glossary; of those that are equal for the source the first counts.
        normalized: brings terms and lines into the form in which they are compared, as the source tokenizer does.
    """

    def __init__(self, terms: Iterable[Term], normalized: Callable[[str], str] = str) -> None:
        self.terms, self.normalized = tuple(terms), normalized
        self._exactly: dict[tuple[str, ...], Term] = {}
        self._in_any_case: dict[tuple[str, ...], Term] = {}
        for term in self.terms:
            pieces = _pieces(normalized(term.source))
            if term.match_case:
                self._exactly.setdefault(tuple(pieces), term)
            else:
                self._in_any_case.setdefault(tuple(map(folded, pieces)), term)
        self._lengths = defaultdict[str, set[int]](set)  # of terms, by their first piece
        for words in filter(None, [*self._exactly, *self._in_any_case]):
            self._lengths[folded(words[0])].add(len(words))
        self._is_spelled: dict[str, bool] = {}

    @classmethod
    def read(cls, path: PathLike) -> Glossary:
        """Read a glossary in UTF-8, a term a line; empty lines and those that begin with # do not count.

        A line is the term, a tab and its translation, or several as in "a | b", and if need be a tab and the flag
        "case", with which the case of the term counts. A term without translation is kept as it is.

        Raises:
            DataError: naming the file and the line; or the file cannot be read.
        """
        read: dict[tuple[str, bool], tuple[int, Term]] = {}
        for number, line in enumerate(read_text_file(path).removeprefix("\ufeff").split("\n"), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            place = f"{path}, line {number}"
            term = _read_term(line, place)
            key = (term.source if term.match_case else folded(term.source), term.match_case)
            before, earlier = read.setdefault(key, (number, term))
            if set(earlier.alternatives) != set(term.alternatives):
                raise DataError(
                    f"{place}: {term.source!r} must have its translations in one line, got {earlier.required!r} in "
                    f"line {before} and {term.required!r} here: write them as 'a | b'"
                )
        return cls(term for _, term in read.values())

    def with_normalization(self, normalized: Callable[[str], str]) -> Glossary:
        """The same terms for text that is normalised in another way."""
        return Glossary(self.terms, normalized)

    def found(self, line: str) -> tuple[Term, ...]:
        """The terms of a line that stand there as whole words, at each place; a longer one hides what it overlaps."""
        return tuple(term for _, _, term in self.places(line)[1])

    def places(self, line: str) -> tuple[str, list[tuple[int, int, Term]]]:
        """The line as it is compared, and where in it each of the `found` terms begins and ends."""
        pieces = _pieces(self.normalized(line))
        at: dict[Span, Term] = {}
        for start, piece in enumerate(pieces):
            for length in self._lengths.get(folded(piece), ()):
                words = tuple(pieces[start : start + length])
                term = self._exactly.get(words) or self._in_any_case.get(tuple(map(folded, words)))
                if term is not None and len(words) == length:
                    at[Span(start, start + length)] = term
        longest_first = sorted(at, key=lambda span: (-len("".join(pieces[slice(*span)])), span.start))
        offsets = [0, *accumulate(map(len, pieces))]
        return "".join(pieces), [
            (offsets[span.start], offsets[span.end], at[span]) for span in sorted(_disjoint(longest_first))
        ]

    def controls(
        self, lines: Iterable[str], vocabulary: Controls | None = None
    ) -> tuple[list[Control], list[tuple[Term, ...]]]:
        """Look for the terms of each line.

        Args:
            lines: of the source.
            vocabulary: of the target; terms that it cannot spell are named in a warning, and not asked for.

        Returns:
            What is asked of the translation of each line, a term as often as the line has it; and the terms that each
            line has, those that are not asked for among them.
        """
        terms = [self.found(line) for line in lines]
        asked = [tuple(term.required for term in found if self._spelled(term, vocabulary)) for found in terms]
        return [Control(terms=required) for required in asked], terms

    def _spelled(self, term: Term, vocabulary: Controls | None) -> bool:
        if vocabulary is not None and term.required not in self._is_spelled:
            try:
                vocabulary.check(Control(terms=(term.required,)))
                self._is_spelled[term.required] = True
            except ConfigError as error:
                logger.warning("the glossary cannot ask for the translation of %r: %s", term.source, error)
                self._is_spelled[term.required] = False
        return self._is_spelled.get(term.required, True)


def _read_term(line: str, place: str) -> Term:
    """Read a line of a glossary; raise a DataError that begins with the place if it is none."""
    cells = [cell.strip() for cell in line.split("\t")]
    source, target, flags, *more = cells + [""] * (3 - len(cells))
    if not source or more:
        raise DataError(f"{place}: must be a term, a tab, its translation, and at most a tab and flags, got {line!r}")
    if unknown := set(flags.split()) - set(_FLAGS):
        raise DataError(f"{place}: a flag must be {' or '.join(_FLAGS)}, got {min(unknown)!r}")
    targets = tuple(each.strip() for each in f" {target} ".split(" | ")) if target else ()
    if not all(targets):
        raise DataError(f"{place}: there must be text on both sides of |, got {target!r}")
    if not targets and " | " in source:
        raise DataError(f"{place}: a term to keep has no alternatives, got {source!r}: write each in a line")
    return Term(source, targets, match_case="case" in flags.split())


class Placed(NamedTuple):
    """What became of the terms of a line.

    found: how many the source has.
    exact: of these, how many stand in the translation as whole words, each at a place of its own.
    inflected: of the rest, for how many a changed word stands there: it begins with the first two thirds of the
        term's letters, three at least, in any case, and is at most three letters longer.
    """

    found: int = 0
    exact: int = 0
    inflected: int = 0

    @property
    def missing(self) -> int:
        """For how many nothing of the kind stands there."""
        return self.found - self.exact - self.inflected


class Report:
    """Counts which terms the translations have.

    Args:
        normalized: brings translations of terms into the form of the text that comes out, as the target tokenizer does.

    Attributes:
        by_term: what became of each term, over all lines.
        lines: how many lines were looked at.
        lines_with_terms: how many of these have terms.
    """

    def __init__(self, normalized: Callable[[str], str] = str) -> None:
        self._pieces_of = cache(lambda text: tuple(_pieces(normalized(text))))
        self.by_term: dict[Term, Placed] = {}
        self.lines = self.lines_with_terms = 0

    @property
    def total(self) -> Placed:
        """What became of all terms."""
        return _added(self.by_term.values())

    def add(self, terms: Sequence[Sequence[Term]], translations: Sequence[str]) -> list[Placed]:
        """Look for the terms of each line in its translation, and return what became of them line by line."""
        self.lines += len(terms)
        self.lines_with_terms += sum(map(bool, terms))
        placed = list[Placed]()
        for of_line, text in zip(terms, translations, strict=True):
            pieces, each = _pieces(text), list[Placed]()
            # Terms with the same translations need a place each, so they are looked for together.
            by_required: dict[str, list[Term]] = {}
            for term in of_line:
                by_required.setdefault(term.required, []).append(term)
            for same in by_required.values():
                together = self._placed(same[0], len(same), pieces)
                for place, term in enumerate(same):
                    exact = place < together.exact
                    one = Placed(1, exact, not exact and place < together.exact + together.inflected)
                    self.by_term[term] = _added([self.by_term.get(term, Placed()), one])
                each.append(together)
            placed.append(_added(each))
        return placed

    def _placed(self, term: Term, times: int, pieces: Sequence[str]) -> Placed:
        alternatives = {self._pieces_of(text) for text in term.alternatives}
        lengths = {len(each) for each in alternatives}

        def count(matches: Callable[[Sequence[str]], bool]) -> int:
            """The most places that share nothing: those that end first."""
            return len(_disjoint(sorted(_spans(pieces, lengths, matches), key=lambda span: span.end)))

        exact = min(times, count(lambda window: tuple(window) in alternatives))
        changed = count(lambda window: any(_is_changed(each, window) for each in alternatives))
        return Placed(times, exact, max(0, min(times, changed) - exact))

    def to_json(self) -> list[Any]:
        """Return the counts as JSON values."""
        return [self.lines, self.lines_with_terms, [[term, placed] for term, placed in self.by_term.items()]]

    def restore(self, values: list[Any]) -> None:
        """Take over what `to_json` returned."""
        self.lines, self.lines_with_terms, by_term = values
        self.by_term = {
            Term(source, tuple(targets), match_case): Placed(*placed)
            for (source, targets, match_case), placed in by_term
        }

    def described(self, words: str) -> str:
        """Return a line with the counts of all terms, at least one, in the places of their names."""
        total = self.total
        counts = {**total._asdict(), "missing": total.missing, "with_terms": self.lines_with_terms, "lines": self.lines}
        shown = {name: f"{count:,}" for name, count in counts.items()}
        return words.format(**shown, share=f"{total.exact / total.found:.1%}")

    def log(self) -> None:
        """Log a line with the counts, and the terms that are placed least."""
        if not self.total.found:
            logger.info("glossary: none of its terms is in the text (a tab parts a term and its translation)")
            return
        words = (
            "glossary: {found} terms found in {with_terms} of {lines} lines: {exact} placed ({share}), {inflected} "
            "inflected, {missing} not placed"
        )
        logger.info("%s", self.described(words))
        wanting = Counter({term: each.found - each.exact for term, each in self.by_term.items()})
        for term, count in wanting.most_common(_SHOWN_TERMS):
            if count:
                each = self.by_term[term]
                logger.info(
                    "    %s → %s: %s of %s not placed, %s of them inflected",
                    *(term.source, " | ".join(term.targets) or term.source, f"{count:,}", f"{each.found:,}"),
                    f"{each.inflected:,}",
                )


def _added(each: Iterable[Placed]) -> Placed:
    return Placed(*map(sum, zip(Placed(), *each, strict=True)))


def _is_changed(term: Sequence[str], window: Sequence[str]) -> bool:
    """Whether words begin as those of a term, see `Placed`; what stands between them must be equal."""
    if len(term) != len(window):
        return False
    for own, word in zip(map(folded, term), map(folded, window), strict=True):
        stem = own[: max(_SHORTEST_STEM, math.ceil(2 * len(own) / 3))]
        can_change = is_word(own[0]) and len(own) >= _SHORTEST_STEM
        if own != word and not (can_change and word.startswith(stem) and len(word) <= len(own) + _LONGEST_ENDING):
            return False
    return True
