"""What every tokenizer can do: a line of text to token ids and back."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from sentencepiece import SentencePieceNormalizer

from nmt.text.vocabulary import BOS_ID, EOS_ID, SPECIAL_TOKENS, Vocabulary
from nmt.types import PAD_ID

NORMALIZER_RULES = {"none": "identity", "nfc": "identity", "nfkc": "nmt_nfkc"}
"""The rule of SentencePiece that goes into a model file for each way to normalise; it has none for NFC."""

_SILENT_IDS = frozenset((PAD_ID, BOS_ID, EOS_ID))
# What separates words or ends lines. Spaces that mean something (no-break, ideographic, thin) are characters.
# A single space between words, which is nearly all there is, is no match: it would be replaced by itself.
_WHITE_SPACE = re.compile("[\t-\r \x1c-\x1f\x85\u2028\u2029]{2,}|[\t-\r\x1c-\x1f\x85\u2028\u2029]")


class Tokenizer(ABC):
    """Turns a line of raw text into token ids, and token ids into detokenised text.

    A special symbol is never read from text: a line that contains the letters `</s>` gives ordinary tokens.
    A token id that stands for an unknown token decodes to `<unk>`; the other special ids decode to nothing.
    """

    type: ClassVar[str]
    """The name under which settings and model directories know this kind of tokenizer."""

    vocabulary: Vocabulary

    normalization: str | None = None
    """How a line is normalised before it is cut, see `normalized`; None where the tokenizer takes it as it is."""

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

    @abstractmethod
    def with_normalization(self, normalization: str | None) -> Self:
        """The same vocabulary, for text that is normalised in another way."""

    def normalized(self, line: str) -> str:
        """A line as it is before it is cut: what `decode` gives back where every token is known."""
        return line if self.normalization is None else normalized(line, self.normalization)

    @property
    def settings(self) -> dict[str, Any]:
        """How the tokenizer was built, for `tokenizer.json`."""
        return {} if self.normalization is None else {"normalization": self.normalization}

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


def normalized(line: str, form: str) -> str:
    """Normalise a line: white space is collapsed to single spaces in any case, and there is none at the ends.

    Args:
        line: raw text.
        form: "none"; "nfc", which composes letters and accents; "nfkc", which folds what looks alike as well
            (Unicode Standard Annex 15), with SentencePiece's additions: characters without width and control
            characters are spaces or nothing.
    """
    if form == "nfkc":
        line = _folding().Normalize(line.encode("utf-8", "replace").decode("utf-8"))
    elif form == "nfc":
        line = unicodedata.normalize("NFC", line)
    return _WHITE_SPACE.sub(" ", line).strip(" ")


@cache
def _folding() -> SentencePieceNormalizer:
    rule = NORMALIZER_RULES["nfkc"]
    return SentencePieceNormalizer(
        rule_name=rule, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )


def vocabulary_name(side: str) -> str:
    """File name of a vocabulary in a model directory."""
    return f"vocabulary.{side}.txt" if side else "vocabulary.txt"


def spoken_ids(token_ids: Iterable[int]) -> list[int]:
    """The ids that decode to text: all but PAD, BOS and EOS."""
    return [token_id for token_id in map(int, token_ids) if token_id not in _SILENT_IDS]


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
