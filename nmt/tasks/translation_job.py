"""What becomes of the lines of a long text, and how those that are too long are translated in parts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple

from nmt.control.controls import Control, Record
from nmt.kinds import describe_seconds
from nmt.text.sentences import join_sentences, split_line
from nmt.translation.flags import Flag
from nmt.translation.line_translator import LineTranslator, Progress, Tally, Translation

logger = logging.getLogger(__name__)

SAMPLE_LINES = 1000


@dataclass
class Done:
    """What became of the lines of a text so far: what is said at the end, and what a job needs to go on.

    first: the number of the line that it begins with, from 0.
    lines: the number of the next line.
    seconds: that translating took.
    tally: what the search counts.
    flagged: by flag, the lines whose best translation has it, or that have none for this reason.
    terms: what became of terms of a glossary, see `Report.to_json`.
    hints: what became of hints, likewise.
    tags: how many records there were, and how many named no tag.
    aligned: counts of an `AlignmentTally`, if words are linked.
    markup: what it needs to go on, see `Markup.to_json`.
    sample: the first lines, at most `SAMPLE_LINES`, from which it is told what text this is.
    """

    first: int = 0
    lines: int = 0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    flagged: dict[str, int] = field(default_factory=dict)
    terms: list[Any] | None = None
    hints: list[Any] | None = None
    tags: list[int] | None = None
    aligned: dict[str, int] | None = None
    markup: dict[str, Any] | None = None
    sample: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values; the sample is no part of them, but read again."""
        return {name: value for name, value in asdict(self).items() if name != "sample"}

    def remember(self, sources: Iterable[str]) -> None:
        """Keep lines for the sample, as long as it has room."""
        self.sample += islice(sources, SAMPLE_LINES - len(self.sample))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Done:
        """Return what `to_json` wrote."""
        return cls(**{**values, "tally": Tally(**values["tally"])})

    def add_flags(self, flags: Iterable[str]) -> None:
        """Count flags of lines."""
        self.flagged = dict(Counter(self.flagged) + Counter(flags))

    def log(self) -> None:
        """Log a summary: lines and speed, flags, unknown tokens."""
        tally, seconds = self.tally, max(self.seconds, 1e-9)
        lines, of_tokens = self.lines - self.first, 100.0 * tally.unknown / max(tally.tokens, 1)
        empty = f" ({lines - tally.lines:,} of them empty)" if lines > tally.lines else ""
        logger.info(
            "%s lines%s in %s: %.1f lines/s, %s target tokens/s",
            f"{lines:,}", empty, describe_seconds(self.seconds), lines / seconds,
            f"{tally.target_tokens / seconds:,.0f}",
        )  # fmt: skip
        flags = ", ".join(f"{count:,} {flag}" for flag, count in Counter(self.flagged).most_common())
        logger.info(
            "flagged lines: %s; %.2f%% of %s source tokens unknown", flags or "none", of_tokens, f"{tally.tokens:,}"
        )


class Part(NamedTuple):
    """A line, or a part of one: its number in the chunk, its text and what is asked of it."""

    line: int
    text: str
    control: Control


def parts_of(line: int, record: Record, translator: LineTranslator, part_tokens: int | None) -> list[Part]:
    """Return the parts of a line, which are translated one by one; only the first begins as the line shall.

    A phrase that must appear has its place in no part that could be told, so such a line stays whole.

    Args:
        line: its number in its chunk.
        record: the line, and what is asked of it.
        translator: whose tokens count.
        part_tokens: of a part at most; None to split no line.
    """
    if part_tokens is None or record.control.must_appear:
        return [Part(line, record.source, record.control)]

    def num_tokens(text: str) -> int:
        return max(len(tokenizer.encode(text)) for tokenizer in translator.sources)

    first, *others = split_line(record.source, num_tokens, part_tokens)
    without_prefix = record.control._replace(prefix="")
    return [Part(line, first, record.control), *(Part(line, each, without_prefix) for each in others)]


def in_lines(progress: Progress, num_parts: int, num_lines: int) -> Progress:
    """Tell in lines what is counted in parts of them."""
    if num_parts == num_lines:
        return progress
    parts = 0

    def count(more: int) -> None:
        nonlocal parts
        before, parts = parts, parts + more
        progress(parts * num_lines // num_parts - before * num_lines // num_parts)

    return count


def joined_parts(parts: Sequence[Sequence[Translation]], wanted: int, *, drawn: bool) -> list[Translation]:
    """Join the translations of the parts of a line; scores, log probabilities and tokens are added up.

    Args:
        parts: translations of each part, best first or as drawn.
        wanted: translations of the line at most: those of the highest sums.
        drawn: whether the n-th of a part goes with the n-th of the others.
    """
    if drawn:
        chosen = [list(each) for each in zip(*parts, strict=False)]
    else:
        chosen = [[]]
        for part in parts:
            longer = [[*before, each] for before in chosen for each in part]
            chosen = sorted(longer, key=lambda each: -sum(one.score for one in each))[:wanted]
    return [_joined(each) for each in chosen]


def _joined(parts: Sequence[Translation]) -> Translation:
    flags = {Flag.SPLIT, *chain.from_iterable(part.flags for part in parts)}
    met = list(chain.from_iterable(part.constraints.items() for part in parts))
    return Translation(
        join_sentences(part.text for part in parts),
        sum(part.score for part in parts),
        sum(part.log_prob for part in parts),
        sum(part.num_tokens for part in parts),
        all(part.finished for part in parts),
        tuple(chain.from_iterable(part.tokens for part in parts)),
        tuple(chain.from_iterable(part.token_scores for part in parts)),
        tuple(flag for flag in Flag if flag in flags),
        {phrase: all(is_met for each, is_met in met if each == phrase) for phrase, _ in met},
        engine=parts[0].engine,
        shortlist=any(part.shortlist for part in parts),
    )
