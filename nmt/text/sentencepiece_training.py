"""Training of SentencePiece models, in memory, silently, and the same for the same lines and seed."""

from __future__ import annotations

import io
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from math import exp, floor, log, log1p
from typing import Any, TypeVar

import sentencepiece

from nmt.errors import ConfigError, DataError
from nmt.text.sentencepiece_tokenizer import PieceCutter, SentencePieceTokenizer, model_facts, with_pieces
from nmt.text.tokenizer import NORMALIZER_RULES
from nmt.text.vocabulary import BOS_ID, EOS_ID, PAD, UNK, UNK_ID
from nmt.types import PAD_ID

MAXIMUM_TRAINING_LINES = 1_000_000
"""More lines than this are sampled: pieces hardly change, while time and memory keep growing."""

Line = TypeVar("Line")

# A fixed number: sums of floats, and with them the pieces, depend on how many threads share the work.
_THREADS = 2
_SIZE_IN_ERROR = re.compile(r"<= (\d+)")
_ALPHABET_IN_ERROR = re.compile(r"required_chars\. (\d+) vs (\d+)")
_PLACE_IN_ERROR = re.compile(r"(\w+: )?\S+\.(cc|h)\(\d+\)( \[.*\](?!\S))?\s*")
_IN_OUR_WORDS = {
    "sentences_.empty()": "each line has more than 4,192 bytes or the character U+2585, and such lines are left out: "
    "break the text into shorter lines",
}
"""What must hold in the source of the library where it stops, and what that means."""


def train_sentencepiece(
    lines: Iterable[str],
    *,
    model_type: str,
    vocabulary_size: int,
    character_coverage: float,
    seed: int,
    byte_fallback: bool = False,
) -> SentencePieceTokenizer:
    """Train a SentencePiece model on lines of text as they are, but for white space.

    The tokenizer takes lines as they are too; `with_normalization` gives one for raw text with the same pieces, which
    has to be normalised like that before it is given here.

    With a coverage of 1.0 every character of the training text is a piece, so byte pieces would never be seen in
    training: 256 rows of the embedding without a gradient, for text that the model cannot translate anyway. Without
    them a character that was never seen becomes `<unk>`.

    Args:
        lines: normalised text. Beyond `MAXIMUM_TRAINING_LINES` a sample drawn with the seed is used.
        model_type: "unigram" or "bpe".
        vocabulary_size: an upper bound on the number of pieces, special ones included; a narrow corpus gives fewer.
        character_coverage: share of the characters of the text that become pieces.
        seed: of the sample.
        byte_fallback: whether characters that have no piece are cut into bytes, which are 256 more pieces.

    Raises:
        ConfigError: the vocabulary cannot even hold the characters of the text.
        DataError: there is no text.
    """
    usable = (line for line in lines if "\0" not in line and line.strip())
    sample = sample_lines(usable, MAXIMUM_TRAINING_LINES, seed=seed)
    if not sample:
        raise DataError("a tokenizer needs text to learn from, got only empty lines")
    settings = {
        "model_type": model_type,
        "vocabulary_size": vocabulary_size,
        "character_coverage": character_coverage,
        "seed": seed,
        "normalization": "none",
        **({"byte_fallback": True} if byte_fallback else {}),
    }
    options = {
        "byte_fallback": byte_fallback,
        "model_type": model_type,
        "character_coverage": character_coverage,
        "normalization_rule_name": NORMALIZER_RULES["none"],
    }
    return SentencePieceTokenizer(_train_within(sample, vocabulary_size, options), settings=settings)


def sample_lines(lines: Iterable[Line], limit: int, *, seed: int) -> list[Line]:
    """All lines where they are few, else `limit` of them, each with the same chance.

    Algorithm L (Li 1994, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))"): one pass, memory for
    the sample alone, and almost no work for the lines that are passed over.
    """
    remaining = iter(lines)
    sample = list(islice(remaining, limit))
    generator = random.Random(seed)
    largest_key = 1.0
    while len(sample) == limit:
        largest_key *= exp(log(1.0 - generator.random()) / limit)
        # for a large limit the key may round to 1, whose logarithm below would not exist
        skipped = floor(log(1.0 - generator.random()) / log1p(-min(largest_key, 1.0 - 1e-16)))
        line = next(islice(remaining, skipped, None), None)
        if line is None:
            break
        sample[generator.randrange(limit)] = line
    return sample


def _train_within(lines: list[str], vocabulary_size: int, options: dict[str, Any]) -> bytes:
    """Train with at most `vocabulary_size` pieces; where the library insists on a smaller number, use that number."""
    size = vocabulary_size
    while True:
        try:
            return _train(lines, size, options)
        except RuntimeError as error:
            too_high = _SIZE_IN_ERROR.search(str(error))
            if too_high and 0 < int(too_high[1]) < size:
                size = int(too_high[1])
                continue
            raise _as_user_error(error, vocabulary_size) from error


def _train(lines: list[str], vocabulary_size: int, options: dict[str, Any]) -> bytes:
    writer = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=writer,
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        pad_piece=PAD,
        unk_surface=UNK,
        num_threads=_THREADS,
        minloglevel=3,
        **options,
    )
    return writer.getvalue()


def _as_user_error(error: RuntimeError, vocabulary_size: int) -> ConfigError | DataError:
    alphabet = _ALPHABET_IN_ERROR.search(str(error))
    if alphabet:
        return ConfigError(
            f"vocabulary_size must hold at least the characters of the text and the special tokens, {alphabet[2]}, "
            f"got {vocabulary_size}: raise it, or lower character_coverage"
        )
    known = (words for condition, words in _IN_OUR_WORDS.items() if condition in str(error))
    reason = next(known, None) or _PLACE_IN_ERROR.sub("", str(error)).strip() or "it gives no reason"
    return DataError(f"SentencePiece cannot learn from this text: {reason}")


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
