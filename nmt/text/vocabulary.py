"""The tokens a model knows, and their ids.

The file is made to be read: one token a line, in the order of the ids. Whatever could break a line or hide in an
editor (spaces, control characters, U+2028, lone surrogates ...) is written as an escape, so every token survives.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from nmt.atomic_files import read_regular_file, replace_file
from nmt.errors import DataError, looked_for
from nmt.types import PathLike


def write_file(path: PathLike, content: bytes) -> None:
    """Write a file in one step: whoever reads it sees the old content or the new one, never half.

    Raises:
        DataError: the file cannot be written (no such directory, no permission, a full disk).
    """
    path = Path(path)
    try:
        replace_file(path, content)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def read_file(path: PathLike) -> bytes:
    """Read a whole file.

    Raises:
        DataError: the file is missing, no regular file, or cannot be read; the message names it.
    """
    try:
        return read_regular_file(Path(path))
    except OSError as error:
        raise DataError(f"{Path(path)}: cannot be read: {error.strerror}{looked_for(path, error)}") from error


def read_text_file(path: PathLike) -> str:
    """Read a whole UTF-8 file without touching its line ends.

    Raises:
        DataError: the file is missing, cannot be read or is not UTF-8; the message names it.
    """
    try:
        return read_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{Path(path)}: not valid UTF-8 (byte {error.start})") from error


def side_name(name: str, side: str) -> str:
    """Return the name of a file of one side, `vocabulary.source.txt` for `vocabulary.txt`; `side` is "" if shared."""
    stem, suffix = name.split(".")
    return f"{stem}.{side}.{suffix}" if side else name


UNK_ID, BOS_ID, EOS_ID = 1, 2, 3  # after `PAD_ID` of nmt.types
PAD, UNK, BOS, EOS = SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")

MOST_UNKNOWN = 0.03
"""The share of the tokens of some text that may be unknown without a warning."""

_ESCAPE = re.compile(r"\\(\\|u[0-9a-f]{4}|U[0-9a-f]{8})")
_SCORED = re.compile(r"(.*)\t-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?")  # a line of a `.vocab` file of SentencePiece
_SPECIAL_ELSEWHERE = {*SPECIAL_TOKENS, "<blank>"}  # OpenNMT pads with `<blank>`


class Vocabulary:
    """A fixed list of distinct tokens; the id of a token is its place in the list.

    Args:
        tokens: all V tokens, the special ones (`<pad>`, `<unk>`, `<s>`, `</s>`) first.

    Attributes:
        tokens: all tokens in the order of their ids.

    Raises:
        DataError: the special tokens do not come first, or a token occurs twice.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        if self.tokens[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            found = " ".join(self.tokens[: len(SPECIAL_TOKENS)]) or "nothing"
            raise DataError(f"a vocabulary must begin with {' '.join(SPECIAL_TOKENS)}, got {found}")
        self._ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            token_id, token = next((i, token) for i, token in enumerate(self.tokens) if self._ids[token] != i)
            raise DataError(f"a vocabulary must not repeat a token, got {token!r} as {token_id} and {self._ids[token]}")

    def __len__(self) -> int:
        """Number of tokens, special ones included (V)."""
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, {self.fingerprint[:8]})"

    def token(self, token_id: int) -> str:
        """The token of an id; IndexError if the id is not in 0 .. V-1."""
        if token_id < 0:
            raise IndexError(f"token ids must be 0 to {len(self) - 1}, got {token_id}")
        return self.tokens[token_id]

    def id(self, token: str) -> int:
        """The id of a token; `UNK_ID` for one that is not in the vocabulary."""
        return self._ids.get(token, UNK_ID)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content: equal for two vocabularies exactly when all tokens and ids are equal."""
        return hashlib.sha256(self._text().encode("utf-8")).hexdigest()

    def save(self, path: PathLike) -> None:
        """Write the tokens to a text file, one per line, in one step: readers see the old file or the new one."""
        write_file(path, self._text().encode("utf-8"))

    @classmethod
    def load(cls, path: PathLike) -> Vocabulary:
        """Read a vocabulary that `save` wrote.

        Raises:
            DataError: the file is missing or is not such a vocabulary; the message names it.
        """
        lines = read_text_file(path).removesuffix("\n").split("\n")
        try:
            return cls([_unescape(line.removesuffix("\r")) for line in lines])
        except (DataError, ValueError, OverflowError) as error:
            raise DataError(f"{Path(path)}: not a vocabulary: {error}") from error

    @classmethod
    def adopt(cls, path: PathLike) -> Vocabulary:
        """Read a list of tokens from elsewhere, one per line; its special tokens come first, wherever they stand there.

        That is a plain list, a word list of Joey NMT or OpenNMT-tf, or a `.vocab` file of SentencePiece, whose scores
        are left out. A list that begins as ours do is taken for one of ours, with its escapes.

        Raises:
            DataError: the file cannot be read, has no token or repeats one; the message names it.
        """
        text = read_text_file(path).removeprefix("\ufeff").removesuffix("\n")
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        if tuple(lines[: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS:
            return cls.load(path)
        scored = [_SCORED.fullmatch(line) for line in lines]
        tokens = [match[1] for match in scored if match] if all(scored) else lines
        tokens = [token for token in tokens if token not in _SPECIAL_ELSEWHERE]
        try:
            if tokens in ([], [""]):
                raise DataError("a vocabulary must have a token a line, got an empty file")
            return cls([*SPECIAL_TOKENS, *tokens])
        except DataError as error:
            raise DataError(f"{Path(path)}: {error}") from error

    def _text(self) -> str:
        return "".join(f"{_escape(token)}\n" for token in self.tokens)


def _escape(token: str) -> str:
    """Write backslashes, spaces and everything that does not print as an escape."""
    if token.isprintable() and "\\" not in token and " " not in token:
        return token
    written = ""
    for character in token:
        if character == "\\":
            written += "\\\\"
        elif character.isprintable() and character != " ":
            written += character
        else:
            written += f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"
    return written


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: "\\" if match[1] == "\\" else chr(int(match[1][1:], 16)), text)
