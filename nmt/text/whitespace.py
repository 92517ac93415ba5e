"""The tokenizer for text that is tokenised already: tokens stand between spaces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from nmt.text.tokenizer import Tokenizer, spoken_ids, vocabulary_name
from nmt.text.vocabulary import SPECIAL_TOKENS, Vocabulary

# Text that looks like a special token gets a backslash, and one more where it has some already, so it can be undone.
_LOOKS_SPECIAL = re.compile(r"\\*(?:" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")


class WhitespaceTokenizer(Tokenizer):
    """Splits at spaces and tabs, and nowhere else; joins by one space."""

    type: ClassVar[str] = "whitespace"

    def __init__(self, vocabulary: Vocabulary, *, normalization: str | None = None) -> None:
        self.vocabulary, self.normalization = vocabulary, normalization
        self._surfaces = [*SPECIAL_TOKENS, *map(_surface, vocabulary.tokens[len(SPECIAL_TOKENS) :])]

    def encode(self, line: str) -> list[int]:
        """Token ids of one line."""
        return [self.vocabulary.id(token) for token in split_at_spaces(self.normalized(line))]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The tokens with one space between them."""
        return " ".join(self._surfaces[token_id] for token_id in spoken_ids(token_ids))

    def with_normalization(self, normalization: str | None) -> WhitespaceTokenizer:
        """The same words, for text that is normalised in another way."""
        return WhitespaceTokenizer(self.vocabulary, normalization=normalization)

    @classmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> WhitespaceTokenizer:
        """Read `vocabulary.txt` (or the one of a side)."""
        return cls(Vocabulary.load(directory / vocabulary_name(side)), normalization=settings.get("normalization"))


def split_at_spaces(line: str) -> list[str]:
    """Tokens between spaces and tabs. `str.split()` would also split at U+2028, U+0085, U+00A0 and many others."""
    words = [word for word in line.replace("\t", " ").split(" ") if word]
    if "<" not in line:
        return words
    return [f"\\{word}" if _LOOKS_SPECIAL.fullmatch(word) else word for word in words]


def _surface(token: str) -> str:
    return token[1:] if _LOOKS_SPECIAL.fullmatch(token) else token
