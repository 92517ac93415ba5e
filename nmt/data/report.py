"""What became of the pairs of a training corpus."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusReport:
    """Counts of pairs; those read are those kept and those dropped.

    Attributes:
        pairs_read: pairs of lines in the corpus.
        kept: pairs that training sees.
        dropped_empty: pairs with a side that holds nothing but white space.
        dropped_nul: pairs with a NUL character.
        dropped_too_long: pairs with a side of more than `max_length` tokens.
        max_length: the limit of tokens a side, EOS not counted.
    """

    pairs_read: int
    kept: int
    dropped_empty: int
    dropped_nul: int
    dropped_too_long: int
    max_length: int

    @property
    def dropped(self) -> int:
        """All pairs that training does not see."""
        return self.dropped_empty + self.dropped_nul + self.dropped_too_long

    def describe(self) -> str:
        """One line for logs."""
        line = f"{self.pairs_read:,} pairs read, {self.kept:,} kept, {self.dropped:,} dropped"
        return f"{line}: {self.reasons()}" if self.dropped else line

    def reasons(self) -> str:
        """Why pairs were dropped, as a phrase; empty where none was."""
        counts = {
            f"longer than {self.max_length} tokens": self.dropped_too_long,
            "with an empty side": self.dropped_empty,
            "with a NUL character": self.dropped_nul,
        }
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)
