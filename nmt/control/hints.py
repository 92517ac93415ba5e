"""Hints: terms whose translations a model reads beside them, and may use as the sentence needs: a soft glossary.

A model learns to read them by the kinds `tags` and `placeholders` of `data.variation`. A term is looked for as a
glossary looks for it, in the line as the tokenizer normalises it; nothing is asked of the search.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from nmt.control.controls import NO_CONTROL, Control
from nmt.control.glossary import Glossary, Report, Term
from nmt.control.phrases import folded
from nmt.errors import ConfigError
from nmt.text.hints import Stretches, hinted

_LOGGER = logging.getLogger(__name__)

Hints: TypeAlias = Mapping[str, str] | Sequence[Mapping[str, str]]
"""Translations of terms: those of all lines, or of each line."""


class HintFinder:
    """Finds the terms of lines, and puts hints there.

    Args:
        normalized: brings lines into the form in which terms are compared, as the source tokenizer does.
        terms: that any line may have, besides those of its own; of several translations of a term the first is taken.
    """

    def __init__(self, normalized: Callable[[str], str], terms: Glossary | None = None) -> None:
        self._normalized = normalized
        self._terms = None if terms is None else terms.with_normalization(normalized)
        self._glossary = lru_cache(maxsize=1024)(self._glossary_of)

    def asked(self, line: str, control: Control) -> Control:
        """What is asked of a line, with hints for those terms that it has; its own come first, in whatever case."""
        if self._terms is None:
            return control
        own = {folded(self._normalized(term)) for term, _, _ in control.hints}
        found = (
            (term.source, (*term.targets, term.source)[0], term.match_case)
            for term in self._terms.found(line)
            if folded(self._normalized(term.source)) not in own
        )
        return control._replace(hints=tuple(dict.fromkeys([*control.hints, *found])))

    def placed(self, line: str, control: Control) -> tuple[Term, ...]:
        """The terms of a line that get a hint, at each place."""
        return self._glossary(control.hints).found(line) if control.hints else ()

    def line(self, line: str, control: Control) -> str | Stretches:
        """A line with its hints, in one part if it has none of the terms; as it is if none are given."""
        if not control.hints:
            return line
        text, places = self._glossary(control.hints).places(line)
        return hinted(text, [(start, end, term.targets[0]) for start, end, term in places]) if places else (line,)

    def _glossary_of(self, hints: tuple[tuple[str, str, bool], ...]) -> Glossary:
        return Glossary((Term(source, (target,), case) for source, target, case in hints), self._normalized)


def with_hints(controls: Sequence[Control] | None, hints: Hints, num_lines: int) -> list[Control]:
    """What is asked of so many lines, with hints.

    Raises:
        ConfigError: there are not as many of the one or the other as lines, or a term or its translation is no text.
    """
    of_lines = [hints] * num_lines if isinstance(hints, Mapping) else list(hints)
    asked = [NO_CONTROL] * num_lines if controls is None else list(controls)
    for name, given in (("hints", of_lines), ("controls", asked)):
        if len(given) != num_lines:
            raise ConfigError(f"there must be {name} for each line, got {len(given)} for {num_lines} lines")
    found = list[Control]()
    for control, of_line in zip(asked, of_lines, strict=True):
        for each in of_line.items():
            if not all(isinstance(text, str) and text.strip() for text in each):
                raise ConfigError(f"hints must be texts by texts, terms with their translations, got {each!r}")
        own = tuple((term, translation, False) for term, translation in of_line.items())
        found.append(control._replace(hints=own + control.hints))
    return found


def log_hints(report: Report) -> None:
    """Log how many hints were placed, and what became of them in the translations."""
    if not report.total.found:
        _LOGGER.info("hints: none of their terms is in the text")
        return
    words = (
        "hints: {found} placed in {with_terms} of {lines} lines: {exact} stand in the translations ({share}), "
        "{inflected} inflected, {missing} do not"
    )
    _LOGGER.info("%s", report.described(words))
