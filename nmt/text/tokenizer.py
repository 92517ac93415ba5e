"""What every tokenizer can do: a line of text to token ids and back."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from nmt.text.vocabulary import BOS_ID, EOS_ID, Vocabulary
from nmt.types import PAD_ID

_SILENT_IDS = frozenset((PAD_ID, BOS_ID, EOS_ID))


class Tokenizer(ABC):
    """Turns a line of raw text into token ids, and token ids into detokenised text.

    A special symbol is never read from text: a line that contains the letters `</s>` gives ordinary tokens.
    A token id that stands for an unknown token decodes to `<unk>`; the other special ids decode to nothing.
    """

    type: ClassVar[str]
    """The name under which settings and model directories know this kind of tokenizer."""

    vocabulary: Vocabulary

    @abstractmethod
    def encode(self, line: str) -> list[int]:
        """Token ids of one line, without BOS and EOS."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int]) -> str:
        """Detokenised text of token ids (Python or NumPy integers)."""

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Token ids of many lines, equal to `encode` of each and faster."""
        return [self.encode(line) for line in lines]

    def cut(self, token: str) -> list[int]:
        """Token ids of a token of another tokenizer of this kind; its own where it knows the token."""
        return [self.vocabulary.id(token)]

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """The tokens of ids as the vocabulary writes them, special ones included: for looking at, not for readers."""
        return [self.vocabulary.token(int(token_id)) for token_id in token_ids]

    @property
    def settings(self) -> dict[str, Any]:
        """How the tokenizer was built, for `tokenizer.json`."""
        return {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides how text is encoded: type, settings and vocabulary."""
        content = [self.type, self.settings, self.vocabulary.fingerprint]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()

    def save(self, directory: Path, side: str) -> None:
        """Write the files of this tokenizer; `side` is "source", "target" or "" where both sides share it."""
        self.vocabulary.save(directory / vocabulary_name(side))

    @classmethod
    @abstractmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> Tokenizer:
        """Read the files that `save` wrote; DataError names the one that cannot be used."""


def vocabulary_name(side: str) -> str:
    """File name of a vocabulary in a model directory."""
    return f"vocabulary.{side}.txt" if side else "vocabulary.txt"


def spoken_ids(token_ids: Iterable[int]) -> list[int]:
    """The ids that decode to text: all but PAD, BOS and EOS."""
    return [token_id for token_id in map(int, token_ids) if token_id not in _SILENT_IDS]
