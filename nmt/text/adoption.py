"""Finished vocabularies from elsewhere, read as the tokenizer of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nmt.errors import DataError
from nmt.text.character import CharacterTokenizer, split_characters
from nmt.text.files import read_file, read_text_file
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from nmt.text.whitespace import WhitespaceTokenizer
from nmt.types import PathLike


def adopt_sentencepiece(path: PathLike) -> SentencePieceTokenizer:
    """Read a SentencePiece `.model` file; its special pieces come first, under our names, whatever their ids were.

    Raises:
        DataError: it cannot be read, or is no such model; the message names it.
    """
    from nmt.text.sentencepiece_pieces import with_special_tokens_first

    model = read_file(path)
    try:
        return SentencePieceTokenizer(with_special_tokens_first(model), settings={"adopted_from": Path(path).name})
    except DataError as error:
        raise DataError(f"{Path(path)}: {error}") from error


def adopt_whitespace(path: PathLike) -> WhitespaceTokenizer:
    """Read a list of words, one a line: a `vocabulary.txt` of a model directory, or a plain list.

    Raises:
        DataError: it cannot be read, or a line could never be a word; the message names it.
    """
    vocabulary = _read_vocabulary(path)
    _check(path, vocabulary, lambda token: bool(token) and " " not in token and "\t" not in token, "a word")
    return WhitespaceTokenizer(vocabulary)


def adopt_character(path: PathLike) -> CharacterTokenizer:
    """Read a list of characters, one a line; errors as for `adopt_whitespace`."""
    vocabulary = _read_vocabulary(path)
    _check(path, vocabulary, lambda token: len(token) == 1 or token in split_characters("▁"), "one character")
    return CharacterTokenizer(vocabulary)


def _read_vocabulary(path: PathLike) -> Vocabulary:
    """A list that begins with the special tokens is ours, with its escapes; to any other they are added."""
    lines = [line.removesuffix("\r") for line in read_text_file(path).removesuffix("\n").split("\n")]
    if tuple(lines[: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS:
        return Vocabulary.load(path)
    if lines == [""]:
        raise DataError(f"{Path(path)}: a vocabulary must have a token a line, got an empty file")
    try:
        return Vocabulary([*SPECIAL_TOKENS, *lines])
    except DataError as error:
        raise DataError(
            f"{Path(path)}: {error}; a list of tokens has no special ones, or begins with {' '.join(SPECIAL_TOKENS)}"
        ) from error


def _check(path: PathLike, vocabulary: Vocabulary, fits: Callable[[str], bool], what: str) -> None:
    for token in vocabulary.tokens[len(SPECIAL_TOKENS) :]:
        if not fits(token):
            raise DataError(f"{Path(path)}: each line must be {what}, got {token!r}")
