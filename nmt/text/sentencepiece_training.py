"""Training of SentencePiece models, in memory, silently, and the same for the same lines and seed."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Iterable
from itertools import islice
from math import exp, floor, log, log1p
from typing import Any, TypeVar

import sentencepiece

from nmt.errors import ConfigError, DataError
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
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
