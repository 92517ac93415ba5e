"""The tokenizer that reads text character by character."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from nmt.text.tokenizer import Tokenizer, spoken_ids, vocabulary_name
from nmt.text.vocabulary import SPECIAL_TOKENS, Vocabulary

SPACE_SYMBOL = "▁"
_ESCAPED_SYMBOL = f"\\{SPACE_SYMBOL}"
_SURFACES = {SPACE_SYMBOL: " ", _ESCAPED_SYMBOL: SPACE_SYMBOL}


class CharacterTokenizer(Tokenizer):
    """One token for each code point; the space is written `▁` to be seen, and a `▁` of the text escaped."""

    type: ClassVar[str] = "character"

    def __init__(self, vocabulary: Vocabulary, *, normalization: str | None = None) -> None:
        self.vocabulary, self.normalization = vocabulary, normalization
        tokens = vocabulary.tokens[len(SPECIAL_TOKENS) :]
        self._surfaces = [*SPECIAL_TOKENS, *(_SURFACES.get(token, token) for token in tokens)]

    def encode(self, line: str) -> list[int]:
        """Token ids of one line, one a character."""
        return [self.vocabulary.id(token) for token in split_characters(self.normalized(line))]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The characters in a row."""
        return "".join(self._surfaces[token_id] for token_id in spoken_ids(token_ids))

    def with_normalization(self, normalization: str | None) -> CharacterTokenizer:
        """The same characters, for text that is normalised in another way."""
        return CharacterTokenizer(self.vocabulary, normalization=normalization)

    @classmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> CharacterTokenizer:
        """Read `vocabulary.txt` (or the one of a side)."""
        return cls(Vocabulary.load(directory / vocabulary_name(side)), normalization=settings.get("normalization"))


def split_characters(line: str) -> list[str]:
    """The code points of a line as tokens."""
    if SPACE_SYMBOL in line:
        symbols = {" ": SPACE_SYMBOL, SPACE_SYMBOL: _ESCAPED_SYMBOL}
        return [symbols.get(character, character) for character in line]
    return list(line.replace(" ", SPACE_SYMBOL))
