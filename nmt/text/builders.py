"""Builders: raw text of both sides in, the pair of tokenizers out. One function a kind of tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain

from nmt.errors import ConfigError, DataError
from nmt.text.pair import TextPair
from nmt.text.sentencepiece_training import MAXIMUM_TRAINING_LINES, sample_lines, train_sentencepiece
from nmt.text.tokenizer import (
    CharacterTokenizer,
    Tokenizer,
    WhitespaceTokenizer,
    normalized,
    split_at_spaces,
    split_characters,
)
from nmt.text.vocabulary import SPECIAL_TOKENS, Vocabulary

NFC_TARGET = ("nfkc", "nfc")
"""How source and target are normalised unless told: a model reads folded text and writes text as people do."""


def build_sentencepiece(
    source_lines: Iterable[str],
    target_lines: Iterable[str],
    *,
    model_type: str,
    joint: bool,
    vocabulary_size: int,
    character_coverage: float,
    seed: int,
    byte_fallback: bool = False,
    normalization: tuple[str | None, str | None] = NFC_TARGET,
) -> TextPair:
    """Train one SentencePiece model for both sides, or one a side; see `train_sentencepiece`.

    Sides of a joint pair that are normalised in different ways get two files with the same pieces and different rules.

    Args:
        source_lines: raw text.
        target_lines: raw text of the other language.
        model_type: "unigram" or "bpe".
        joint: one vocabulary for both sides.
        vocabulary_size: an upper bound of each vocabulary, special tokens included.
        character_coverage: share of the characters of the text that become pieces.
        seed: of the sample that is taken where there are too many lines.
        byte_fallback: whether characters that have no piece are cut into bytes.
        normalization: of source and target, see `nmt.text.tokenizer.normalized`.

    Raises:
        ConfigError: the vocabulary cannot hold the characters of the text.
        DataError: a side has no text.
    """

    def train(lines: Iterable[str]) -> Tokenizer:
        return train_sentencepiece(
            lines,
            model_type=model_type,
            vocabulary_size=vocabulary_size,
            character_coverage=character_coverage,
            seed=seed,
            byte_fallback=byte_fallback,
        )

    limit = MAXIMUM_TRAINING_LINES // 2 if joint else MAXIMUM_TRAINING_LINES  # before the work of normalising
    samples = [sample_lines(lines, limit, seed=seed) for lines in (source_lines, target_lines)]
    return _build(*samples, joint=joint, normalization=normalization, build_side=train)


def build_whitespace(
    source_lines: Iterable[str],
    target_lines: Iterable[str],
    *,
    joint: bool,
    vocabulary_size: int | None,
    minimum_count: int,
    normalization: tuple[str | None, str | None] = NFC_TARGET,
) -> TextPair:
    """Collect the most frequent tokens between spaces.

    Args:
        source_lines: text that is tokenised already.
        target_lines: the same of the other language.
        joint: one vocabulary for both sides.
        vocabulary_size: upper bound of each vocabulary, special tokens included; None for no bound.
        minimum_count: tokens that occur less often are unknown.
        normalization: of source and target, see `nmt.text.tokenizer.normalized`; None takes lines as they are.

    Raises:
        ConfigError: the vocabulary has no room for anything but special tokens.
        DataError: a side has no text.
    """

    def collect(lines: Iterable[str]) -> Tokenizer:
        return learn_whitespace(lines, vocabulary_size=vocabulary_size, minimum_count=minimum_count)

    return _build(source_lines, target_lines, joint=joint, normalization=normalization, build_side=collect)


def build_character(
    source_lines: Iterable[str],
    target_lines: Iterable[str],
    *,
    joint: bool,
    vocabulary_size: int | None,
    minimum_count: int,
    normalization: tuple[str | None, str | None] = NFC_TARGET,
) -> TextPair:
    """Collect the most frequent characters; arguments and errors are those of `build_whitespace`."""

    def collect(lines: Iterable[str]) -> Tokenizer:
        return learn_character(lines, vocabulary_size=vocabulary_size, minimum_count=minimum_count)

    return _build(source_lines, target_lines, joint=joint, normalization=normalization, build_side=collect)


def learn_whitespace(lines: Iterable[str], *, vocabulary_size: int | None, minimum_count: int) -> WhitespaceTokenizer:
    """Build the tokenizer of one vocabulary; arguments and errors are those of `build_whitespace`."""
    return WhitespaceTokenizer(_frequent(map(split_at_spaces, lines), vocabulary_size, minimum_count))


def learn_character(lines: Iterable[str], *, vocabulary_size: int | None, minimum_count: int) -> CharacterTokenizer:
    """Build the tokenizer of one vocabulary; arguments and errors are those of `build_whitespace`."""
    return CharacterTokenizer(_frequent(map(split_characters, lines), vocabulary_size, minimum_count))


def ranked_tokens(token_lists: Iterable[list[str]]) -> list[tuple[str, int]]:
    """Count tokens, by falling frequency, equal ones in the order of their characters.

    Raises:
        DataError: there is none.
    """
    counts = Counter(chain.from_iterable(token_lists))
    if not counts:
        raise DataError("a vocabulary needs text to learn from, got only empty lines")
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _build(
    source_lines: Iterable[str],
    target_lines: Iterable[str],
    *,
    joint: bool,
    normalization: tuple[str | None, str | None],
    build_side: Callable[[Iterable[str]], Tokenizer],
) -> TextPair:
    """Learn from normalised lines, and let the tokenizers normalise in the same way."""
    lines = [
        given if form is None else map(partial(normalized, form=form), given)
        for given, form in zip((source_lines, target_lines), normalization, strict=True)
    ]
    if joint:
        return joint_pair(build_side(chain(*lines)), normalization)
    source, target = (
        build_side(given).with_normalization(form) for given, form in zip(lines, normalization, strict=True)
    )
    return TextPair(source=source, target=target, joint=False)


def joint_pair(tokenizer: Tokenizer, normalization: tuple[str | None, str | None]) -> TextPair:
    """The pair of one vocabulary whose sides are normalised as said; where that is the same, one tokenizer."""
    source = tokenizer.with_normalization(normalization[0])
    same = normalization[0] == normalization[1]
    return TextPair(source, source if same else tokenizer.with_normalization(normalization[1]), joint=True)


def _frequent(token_lists: Iterable[list[str]], vocabulary_size: int | None, minimum_count: int) -> Vocabulary:
    """The special tokens, then all others by falling frequency, equal ones in the order of their characters."""
    if vocabulary_size is not None and vocabulary_size <= len(SPECIAL_TOKENS):
        raise ConfigError(
            f"vocabulary_size must be more than the {len(SPECIAL_TOKENS)} special tokens, got {vocabulary_size}"
        )
    tokens = [token for token, count in ranked_tokens(token_lists) if count >= minimum_count]
    if not tokens:
        raise DataError(f"no token occurs minimum_count = {minimum_count} times or more: lower minimum_count")
    room = None if vocabulary_size is None else vocabulary_size - len(SPECIAL_TOKENS)
    return Vocabulary([*SPECIAL_TOKENS, *tokens[:room]])
