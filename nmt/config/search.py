"""Settings of the section `search`: how translations are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from annotated_types import Ge

from nmt.config.section import AUTO, Misfit, Section, Words, number_or_auto, setting

LEAST_AUTO_RATIO = 1.5
LEAST_AUTO_LENGTH = 256
"""What `auto` never goes below, and means where no training corpus was looked at."""

LengthRatio = Annotated[
    Annotated[float, Ge(0)] | Literal["auto"],
    number_or_auto((int, float), 0),
    Words("a number of at least 0, or auto"),
]
TokenCount = Annotated[
    Annotated[int, Ge(1)] | Literal["auto"],
    number_or_auto((int,), 1),
    Words("a whole number of at least 1, or auto"),
]
"""A number of tokens, or the word that leaves it to what is found when a run begins."""


class SearchSettings(Section):
    """How translations are looked for; lengths are in tokens, the closing one counted."""

    beam_size: int = setting(5, "Hypotheses kept a sentence; 1 is greedy search.", at_least=1)
    length_penalty: float = setting(
        1.0, "Exponent of Wu et al. (2016), eq. 14: 0 prefers short translations, more prefers long ones.", at_least=0
    )
    batch_size: int = setting(64, "Sentences translated at once.", at_least=1)
    max_length_ratio: LengthRatio = setting(
        AUTO,
        "A translation has at most max_length_ratio * source length + max_length_offset tokens. auto: the smallest "
        "ratio of 1.5 or more that holds 99.9 % of the training pairs, found when a run begins, which keeps it.",
        before=LEAST_AUTO_RATIO,
    )
    max_length_offset: int = setting(10, "Tokens added to that limit.", at_least=0)
    max_length: TokenCount = setting(
        AUTO,
        "Tokens of a translation at most, whatever the source's length. auto: 256, or more where max_length_ratio "
        "allows more to a source of data.max_length tokens, up to 2049 then; the run keeps it.",
        before=LEAST_AUTO_LENGTH,
    )
    allow_unknown: bool | None = setting(
        None,
        "Whether a translation may hold <unk>. null: only where the tokenizer is whitespace or character, whose "
        "vocabulary leaves words or letters out; pieces of SentencePiece can say it in another way.",
        before=True,
    )
    min_length_ratio: float = setting(0.0, "A translation has at least that ratio * source length tokens.", at_least=0)
    min_length: int = setting(0, "Tokens of a translation at least, whatever the source's length.", at_least=0)

    @property
    def settled_max_length_ratio(self) -> float:
        """`max_length_ratio`; what `auto` means where no training corpus was looked at."""
        ratio = self.max_length_ratio
        return max(LEAST_AUTO_RATIO, self.min_length_ratio) if ratio == AUTO else ratio

    @property
    def settled_max_length(self) -> int:
        """`max_length`, likewise."""
        return max(LEAST_AUTO_LENGTH, self.min_length) if self.max_length == AUTO else self.max_length

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit where no length would be allowed."""
        if self.min_length > self.settled_max_length:
            yield Misfit(
                "min_length",
                f"must be at most max_length, got {self.min_length} and {self.max_length}: try {self.max_length}",
            )
        if self.min_length_ratio > self.settled_max_length_ratio:
            yield Misfit(
                "min_length_ratio",
                f"must be at most max_length_ratio, got {self.min_length_ratio} and {self.max_length_ratio}: "
                f"try {self.max_length_ratio}",
            )
        if self.max_length_ratio == 0 and self.max_length_offset == 0:
            yield Misfit(
                "max_length_offset", "must be above 0 where max_length_ratio is 0, or no token is allowed: try 256"
            )
