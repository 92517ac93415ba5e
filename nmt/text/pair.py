"""All that stands between raw text and token ids, for both sides, and how it lies in a model directory.

- `tokenizer.json`: kind and settings of each side, and the fingerprints of its files; written last
- `tokenizer.model`: SentencePiece only; `tokenizer.source.model` and `tokenizer.target.model` where there are two
- `vocabulary.txt`: all tokens, one a line; `vocabulary.source.txt` and `vocabulary.target.txt` where there are two

A joint pair is one tokenizer, or two with the same vocabulary that normalise text in different ways.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nmt.errors import ConfigError, DataError
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.tokenizer import CharacterTokenizer, Tokenizer, WhitespaceTokenizer, vocabulary_name
from nmt.text.vocabulary import Vocabulary, read_text_file, write_file
from nmt.types import PathLike

_FORMAT_VERSION = 1
_FILE_NAME = "tokenizer.json"
_TOKENIZERS: dict[str, type[Tokenizer]] = {
    tokenizer.type: tokenizer for tokenizer in (SentencePieceTokenizer, WhitespaceTokenizer, CharacterTokenizer)
}


@dataclass(frozen=True)
class TextPair:
    """The tokenizers of source and target.

    Attributes:
        source: tokenizer of the source language.
        target: tokenizer of the target language.
        joint: both sides use one vocabulary, so that their embeddings can be tied.

    Raises:
        ConfigError: declared joint, but the vocabularies differ.
    """

    source: Tokenizer
    target: Tokenizer
    joint: bool

    def __post_init__(self) -> None:
        if self.joint and self.source.vocabulary.fingerprint != self.target.vocabulary.fingerprint:
            raise ConfigError("the vocabulary of a joint pair must be equal on both sides: use one tokenizer for both")

    @property
    def fingerprints(self) -> list[str]:
        """What tells the tokenizers of source and target from others; manifests record it."""
        return [self.source.fingerprint, self.target.fingerprint]

    @property
    def is_restorable(self) -> bool:
        """Whether `load` gives these tokenizers back after `save`; not so for tokenizers of a user's own class."""
        return all(type(tokenizer) is _TOKENIZERS.get(tokenizer.type) for tokenizer in (self.source, self.target))

    def save(self, directory: PathLike) -> None:
        """Write the files of both sides into a directory, which is made where it is missing.

        Raises:
            DataError: a file cannot be written.
        """
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{directory}: cannot be made: {error.strerror}") from error
        shared = self.joint and self.source.fingerprint == self.target.fingerprint
        sides = {"": self.source} if shared else {"source": self.source, "target": self.target}
        for side, tokenizer in sides.items():
            tokenizer.save(directory, side)
        content = {
            "format_version": _FORMAT_VERSION,
            "joint": self.joint,
            "sides": {side or "joint": _describe(tokenizer) for side, tokenizer in sides.items()},
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_file(directory / _FILE_NAME, text.encode("utf-8"))

    @classmethod
    def load(cls, directory: PathLike) -> TextPair:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing, damaged, or belongs to another model; the message names it.
        """
        directory = Path(directory)
        path = directory / _FILE_NAME
        content = _read_description(path)
        try:
            joint, sides = content["joint"], content["sides"]
            if "joint" in sides:
                tokenizer = _load_side(directory, "", sides["joint"])
                return cls(source=tokenizer, target=tokenizer, joint=True)
            source, target = (_load_side(directory, side, sides[side]) for side in ("source", "target"))
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: not a description of tokenizers (missing or malformed: {error})") from error
        return cls(source=source, target=target, joint=joint)

    @staticmethod
    def exists(directory: PathLike) -> bool:
        """Whether a pair was saved in this directory, completely."""
        return (Path(directory) / _FILE_NAME).is_file()


def _describe(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "type": tokenizer.type,
        "settings": tokenizer.settings,
        "vocabulary_size": len(tokenizer.vocabulary),
        "vocabulary_fingerprint": tokenizer.vocabulary.fingerprint,
        "tokenizer_fingerprint": tokenizer.fingerprint,
    }


def _read_description(path: Path) -> dict[str, Any]:
    text = read_text_file(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != _FORMAT_VERSION:
        raise DataError(f"{path}: format_version must be {_FORMAT_VERSION}, got {version}")
    return content


def _load_side(directory: Path, side: str, description: dict[str, Any]) -> Tokenizer:
    """One tokenizer, proved to be the one that was saved: a model works with its own tokens only."""
    kind = description["type"]
    if kind not in _TOKENIZERS:
        known = ", ".join(sorted(_TOKENIZERS))
        raise DataError(f"{directory / _FILE_NAME}: the type of a tokenizer must be one of {known}, got {kind}")
    path = directory / vocabulary_name(side)
    if Vocabulary.load(path).fingerprint != description["vocabulary_fingerprint"]:
        raise DataError(f"{path}: has changed since {_FILE_NAME} was written: restore it, the model needs its ids")
    tokenizer = _TOKENIZERS[kind].load(directory, side, description["settings"])
    if tokenizer.fingerprint != description["tokenizer_fingerprint"]:
        raise DataError(f"{directory}: the {side or 'joint'} tokenizer is not the one that {_FILE_NAME} describes")
    return tokenizer
