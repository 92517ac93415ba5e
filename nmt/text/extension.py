"""More tokens for the vocabularies of tokenizers that look tokens up: what new text has and they lack."""

from __future__ import annotations

from collections.abc import Iterable

from nmt.text.builders import ranked_tokens
from nmt.text.character import CharacterTokenizer, split_characters
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
    words = map(split_at_spaces, map(tokenizer.normalized, lines))
    missing = _missing(tokenizer.vocabulary, words, minimum_count, max_new_tokens)
    if not missing:
        return tokenizer
    vocabulary = Vocabulary([*tokenizer.vocabulary.tokens, *missing])
    return WhitespaceTokenizer(vocabulary, normalization=tokenizer.normalization)


def extend_character(
    tokenizer: CharacterTokenizer, lines: Iterable[str], *, minimum_count: int = 1, max_new_tokens: int | None = None
) -> CharacterTokenizer:
    """Append the characters that are missing; arguments, result and errors are those of `extend_whitespace`."""
    characters = map(split_characters, map(tokenizer.normalized, lines))
    missing = _missing(tokenizer.vocabulary, characters, minimum_count, max_new_tokens)
    if not missing:
        return tokenizer
    vocabulary = Vocabulary([*tokenizer.vocabulary.tokens, *missing])
    return CharacterTokenizer(vocabulary, normalization=tokenizer.normalization)


def _missing(
    vocabulary: Vocabulary, token_lists: Iterable[list[str]], minimum_count: int, max_new_tokens: int | None
) -> list[str]:
    known = set(vocabulary.tokens)
    ranked = ranked_tokens(token_lists)
    return [token for token, count in ranked if count >= minimum_count and token not in known][:max_new_tokens]
