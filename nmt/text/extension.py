"""More tokens for the vocabularies of tokenizers that look tokens up: what new text has and they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from nmt.errors import DataError
from nmt.text.builders import ranked_tokens
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.tokenizer import CharacterTokenizer, Tokenizer, WhitespaceTokenizer, split_at_spaces, split_characters
from nmt.text.vocabulary import SPECIAL_TOKENS, Vocabulary, read_file, read_text_file
from nmt.types import PathLike


def extend_whitespace(
    tokenizer: WhitespaceTokenizer, lines: Iterable[str], *, minimum_count: int = 1, max_new_tokens: int | None = None
) -> WhitespaceTokenizer:
    """Append the tokens between spaces that are missing, the most frequent first; old ids stay.

    Args:
        tokenizer: what is extended.
        lines: text that is tokenised already.
        minimum_count: tokens that occur less often stay unknown.
        max_new_tokens: how many may be added; None for no bound.

    Returns:
        The extended tokenizer, or `tokenizer` itself where nothing is missing.

    Raises:
        DataError: there is no text.
    """
    vocabulary = _extended(tokenizer, split_at_spaces, lines, minimum_count, max_new_tokens)
    return WhitespaceTokenizer(vocabulary, normalization=tokenizer.normalization) if vocabulary else tokenizer


def extend_character(
    tokenizer: CharacterTokenizer, lines: Iterable[str], *, minimum_count: int = 1, max_new_tokens: int | None = None
) -> CharacterTokenizer:
    """Append the characters that are missing; arguments, result and errors are those of `extend_whitespace`."""
    vocabulary = _extended(tokenizer, split_characters, lines, minimum_count, max_new_tokens)
    return CharacterTokenizer(vocabulary, normalization=tokenizer.normalization) if vocabulary else tokenizer


def _extended(
    tokenizer: Tokenizer,
    split: Callable[[str], list[str]],
    lines: Iterable[str],
    minimum_count: int,
    max_new_tokens: int | None,
) -> Vocabulary | None:
    """The vocabulary with the tokens that it lacks at its end; None where it lacks none."""
    known = tokenizer.vocabulary.tokens
    old = set(known)
    ranked = ranked_tokens(map(split, map(tokenizer.normalized, lines)))
    missing = [token for token, count in ranked if count >= minimum_count and token not in old][:max_new_tokens]
    return Vocabulary([*known, *missing]) if missing else None


def adopt_sentencepiece(path: PathLike) -> SentencePieceTokenizer:
    """Read a SentencePiece `.model` file; its special pieces come first, under our names, whatever their ids were.

    Raises:
        DataError: it cannot be read, or is no such model; the message names it.
    """
    from nmt.text.sentencepiece_tokenizer import with_special_tokens_first

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


class VocabularyDifference(NamedTuple):
    """What became of a vocabulary.

    old_size, new_size: V before and after.
    origins: for each new token id the old ids it comes from: its own where it remained, else those that the old
        tokenizer cuts it into. Never empty.
    added: new tokens, by id, each with the old tokens it was cut into.
    dropped: old tokens that are gone, by id.
    moved: tokens that remained under another id.
    """

    old_size: int
    new_size: int
    origins: tuple[tuple[int, ...], ...]
    added: dict[str, list[str]]
    dropped: list[str]
    moved: int

    @property
    def kept(self) -> int:
        """Number of tokens that remained."""
        return self.old_size - len(self.dropped)


def compare_vocabularies(old: Tokenizer, new: Tokenizer) -> VocabularyDifference:
    """Trace every token of a tokenizer back to another one.

    A token whose cut is empty comes from all tokens that are not special.

    Args:
        old: what a model was trained with.
        new: of the same kind.
    """
    old_ids = {token: token_id for token_id, token in enumerate(old.vocabulary.tokens)}
    anything = tuple(range(len(SPECIAL_TOKENS), len(old_ids))) or tuple(old_ids.values())
    origins: list[tuple[int, ...]] = []
    added: dict[str, list[str]] = {}
    for token in new.vocabulary.tokens:
        if token in old_ids:
            origins.append((old_ids[token],))
            continue
        cut = old.cut(token)
        added[token] = old.tokens(cut)
        origins.append(tuple(cut) or anything)
    remaining = set(new.vocabulary.tokens)
    return VocabularyDifference(
        old_size=len(old_ids),
        new_size=len(origins),
        origins=tuple(origins),
        added=added,
        dropped=[token for token in old.vocabulary.tokens if token not in remaining],
        moved=sum(old_ids.get(token, new_id) != new_id for new_id, token in enumerate(new.vocabulary.tokens)),
    )
