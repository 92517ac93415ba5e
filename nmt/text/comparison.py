"""Two tokenizers of one kind compared: which tokens remained, and what the new ones are made of."""

from __future__ import annotations

from typing import NamedTuple

from nmt.text.tokenizer import Tokenizer
from nmt.text.vocabulary import SPECIAL_TOKENS


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
