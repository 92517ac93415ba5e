"""Settings of the section `search`: how translations are looked for."""

from __future__ import annotations

from collections.abc import Iterator

from nmt.config.section import Misfit, Section, setting


class SearchSettings(Section):
    """How translations are looked for; lengths are in tokens, the closing one counted."""

    beam_size: int = setting(5, "Hypotheses kept a sentence; 1 is greedy search.", at_least=1)
    length_penalty: float = setting(
        1.0, "Exponent of Wu et al. (2016), eq. 14: 0 prefers short translations, more prefers long ones.", at_least=0
    )
    batch_size: int = setting(64, "Sentences translated at once.", at_least=1)
    max_length_ratio: float = setting(
        1.5, "A translation has at most max_length_ratio * source length + max_length_offset tokens.", at_least=0
    )
    max_length_offset: int = setting(10, "Tokens added to that limit.", at_least=0)
    max_length: int = setting(256, "Tokens of a translation at most, whatever the source's length.", at_least=1)
    min_length_ratio: float = setting(0.0, "A translation has at least that ratio * source length tokens.", at_least=0)
    min_length: int = setting(0, "Tokens of a translation at least, whatever the source's length.", at_least=0)

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit where no length would be allowed."""
        if self.min_length > self.max_length:
            yield Misfit(
                "min_length",
                f"must be at most max_length, got {self.min_length} and {self.max_length}: try {self.max_length}",
            )
        if self.min_length_ratio > self.max_length_ratio:
            yield Misfit(
                "min_length_ratio",
                f"must be at most max_length_ratio, got {self.min_length_ratio} and {self.max_length_ratio}: "
                f"try {self.max_length_ratio}",
            )
        if self.max_length_ratio == 0 and self.max_length_offset == 0:
            yield Misfit(
                "max_length_offset", "must be above 0 where max_length_ratio is 0, or no token is allowed: try 256"
            )
