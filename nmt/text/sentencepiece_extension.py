"""More pieces for a SentencePiece model: for text that it was not trained on, without disturbing what it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from nmt.errors import DataError
from nmt.text.sentencepiece_pieces import PieceCutter, model_facts, with_pieces
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.sentencepiece_training import MAXIMUM_TRAINING_LINES, sample_lines, train_sentencepiece

_STEP = 1e-3
"""What a new piece gains over its old cut, for each boundary that it removes; see `_with_pieces`."""

_BLOCK_LINES = 10_000


def extend_sentencepiece(
    tokenizer: SentencePieceTokenizer,
    lines: Iterable[str],
    *,
    vocabulary_size: int,
    character_coverage: float,
    seed: int,
    minimum_count: int = 1,
    max_new_tokens: int | None = None,
) -> SentencePieceTokenizer:
    """Add the pieces that new text would have and the model lacks; ids and scores of the old ones stay.

    A model is trained on the new text alone, of the same type and normalisation. Of its pieces those are added that
    are missing and that the extended model really uses in this text: characters that were unknown first, then those
    that save the most tokens. Text is then cut as before, except that runs of old pieces which make up a new
    one are merged.

    Args:
        tokenizer: what is extended.
        lines: raw text; many lines are sampled as in training.
        vocabulary_size: upper bound of the pieces learned from the new text, before any is chosen.
        character_coverage: share of the characters of the new text that become pieces.
        seed: of the sample.
        minimum_count: pieces that the new text needs less often are left out, new characters excepted.
        max_new_tokens: how many pieces may be added; None for no bound.

    Returns:
        The extended tokenizer, or `tokenizer` itself where nothing is missing.

    Raises:
        DataError: there is no text, or the model is neither unigram nor BPE.
        ConfigError: `vocabulary_size` cannot hold the characters of the new text.
    """
    facts = model_facts(tokenizer.model)
    if facts.model_type not in ("unigram", "bpe"):
        raise DataError(f"only a unigram or bpe model of SentencePiece can be extended, got {facts.model_type}")
    sample = sample_lines((line for line in lines if "\0" not in line), MAXIMUM_TRAINING_LINES, seed=seed)
    learned = train_sentencepiece(
        map(tokenizer.normalized, sample),
        model_type=facts.model_type,
        vocabulary_size=vocabulary_size,
        character_coverage=character_coverage,
        seed=seed,
    )
    known = set(tokenizer.vocabulary.tokens)
    missing = [piece for piece in learned.vocabulary.tokens if piece not in known]
    characters = [piece for piece in missing if len(piece) == 1]
    room = None if max_new_tokens is None else max(max_new_tokens - len(characters), 0)
    spelled = _with_characters(tokenizer, characters)
    pieces = _most_useful(spelled, [piece for piece in missing if len(piece) > 1], sample, minimum_count, room)
    characters = characters[:max_new_tokens]
    return _with_pieces(_with_characters(tokenizer, characters), pieces) if characters or pieces else tokenizer


def _most_useful(
    tokenizer: SentencePieceTokenizer, pieces: Sequence[str], lines: Sequence[str], minimum_count: int, room: int | None
) -> list[str]:
    """Choose among pieces by the tokens saved: uses if all are there, times the old tokens that each use makes one."""
    extended, uses = _with_pieces(tokenizer, pieces), Counter[int]()
    for begin in range(0, len(lines), _BLOCK_LINES):
        for token_ids in extended.encode_batch(lines[begin : begin + _BLOCK_LINES]):
            uses.update(token_ids)
    counts = {piece: uses[extended.vocabulary.id(piece)] for piece in pieces}
    saved = {piece: count * (len(tokenizer.cut(piece)) - 1) for piece, count in counts.items()}
    used = [piece for piece, count in counts.items() if count >= max(minimum_count, 1)]
    is_bpe = model_facts(tokenizer.model).model_type == "bpe"
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    chosen: set[str] = set()
    for piece in sorted(used, key=lambda piece: (-saved[piece], piece)):
        needed = _merged_on_the_way(tokenizer, piece, ranks) if is_bpe else {piece}
        if room is None or len(chosen | needed) <= room:
            chosen |= needed
    return [piece for piece in pieces if piece in chosen]


def _merged_on_the_way(tokenizer: SentencePieceTokenizer, piece: str, ranks: Mapping[str, int]) -> set[str]:
    """A new piece of a BPE model, and those between its old cut and itself: without them it is never reached."""
    known, made = set(tokenizer.vocabulary.tokens), {piece}
    symbols = tokenizer.tokens(tokenizer.cut(piece))
    while len(symbols) > 1:
        merges = [first + second for first, second in pairwise(symbols)]
        rank, place = min((-1 if m in known else ranks.get(m, len(ranks)), i) for i, m in enumerate(merges))
        if rank == len(ranks):
            break
        symbols[place : place + 2] = [merges[place]]
        made |= {merges[place]} - known
    return made


def _with_characters(tokenizer: SentencePieceTokenizer, characters: Sequence[str]) -> SentencePieceTokenizer:
    """Add what was unknown: it has no cut to compete with, and scores as the rarest piece."""
    lowest = model_facts(tokenizer.model).lowest_score
    return _extended(tokenizer, [(character, lowest) for character in characters])


def _with_pieces(tokenizer: SentencePieceTokenizer, pieces: Sequence[str]) -> SentencePieceTokenizer:
    """Add pieces of several characters, scored so that they only ever take the place of the very cut they had.

    Unigram: the best path of a line is the one with the highest sum of scores (Kudo 2018, arXiv:1804.10959, section
    3.2). A piece that scores as its old cut and very little more wins where the old best path contains that cut, and
    nowhere else: written out in old pieces, any path keeps its score up to that little. It grows with the boundaries
    removed, so that one long piece beats two short ones.

    BPE: a score is the rank of a merge. First every old merge is made, then new ones of what is left.
    """
    facts = model_facts(tokenizer.model)
    if facts.model_type == "bpe":
        return _extended(tokenizer, [(piece, facts.lowest_score - rank) for rank, piece in enumerate(pieces, start=1)])
    cutter = PieceCutter(tokenizer.model)
    cuts = {piece: cutter.cut(piece) for piece in pieces}
    return _extended(tokenizer, [(p, cutter.score(cut) + _STEP * (len(cut) - 1)) for p, cut in cuts.items()])


def _extended(tokenizer: SentencePieceTokenizer, pieces: Sequence[tuple[str, float]]) -> SentencePieceTokenizer:
    settings = {**tokenizer.settings, "vocabulary_size": len(tokenizer.vocabulary) + len(pieces)}
    return SentencePieceTokenizer(with_pieces(tokenizer.model, pieces), settings=settings)
