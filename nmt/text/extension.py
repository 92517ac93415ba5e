"""More tokens for the vocabularies of tokenizers that look tokens up: what new text has and they lack."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nmt.text.builders import ranked_tokens
from nmt.text.character import CharacterTokenizer, split_characters
from nmt.text.tokenizer import Tokenizer
from nmt.text.vocabulary import Vocabulary
from nmt.text.whitespace import WhitespaceTokenizer, split_at_spaces


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
