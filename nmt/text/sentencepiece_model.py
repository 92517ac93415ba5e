"""Model files of SentencePiece as bytes: trained, opened, asked what they are, and changed; text is cut elsewhere."""

import io
import re
from collections.abc import Iterable
from typing import Any

import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceNormalizer, SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto, NormalizerSpec, TrainerSpec

from nmt.errors import ConfigError, DataError
from nmt.text.tokenizer import NORMALIZER_RULES
from nmt.text.vocabulary import BOS_ID, EOS_ID, PAD, SPECIAL_TOKENS, UNK, UNK_ID
from nmt.types import PAD_ID

# A fixed number: sums of floats, and with them the pieces, depend on how many threads share the work.
_THREADS = 2
_ALPHABET_IN_ERROR = re.compile(r"required_chars\. (\d+) vs (\d+)")
_PLACE_IN_ERROR = re.compile(r"(\w+: )?\S+\.(cc|h)\(\d+\)( \[.*\](?!\S))?\s*")


def train_model(lines: list[str], *, vocabulary_size: int, **options: Any) -> bytes:
    """Train a model in memory, silently, and the same for the same lines; nothing is normalised.

    Args:
        lines: of them all; those that the library does not take are left out.
        vocabulary_size: an upper bound.
        options: others of the library.

    Raises:
        ConfigError: the vocabulary cannot even hold the characters of the text.
        DataError: the library cannot learn from this text.
    """
    writer = io.BytesIO()
    try:
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
            normalization_rule_name=NORMALIZER_RULES["none"],
            **options,
        )
    except RuntimeError as error:
        if alphabet := _ALPHABET_IN_ERROR.search(str(error)):
            raise ConfigError(
                f"vocabulary_size must hold at least the characters of the text and the special tokens, {alphabet[2]}, "
                f"got {vocabulary_size}: raise it, or lower character_coverage"
            ) from error
        reason = _PLACE_IN_ERROR.sub("", str(error)).strip() or "it gives no reason"
        if "sentences_.empty()" in str(error):
            reason = (
                "each line has more than 4,192 bytes or the character U+2585, and such lines are left out: break the "
                "text into shorter lines"
            )
        raise DataError(f"SentencePiece cannot learn from this text: {reason}") from error
    return writer.getvalue()


def open_processor(model: bytes) -> SentencePieceProcessor:
    """The library's reader of a model.

    Raises:
        DataError: the bytes are no SentencePiece model, or its special ids are not ours.
    """
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model)
    except RuntimeError as error:
        raise DataError("not a SentencePiece model") from error
    found = [processor.id_to_piece(token_id) for token_id in range(min(4, processor.get_piece_size()))]
    if tuple(found) != SPECIAL_TOKENS:
        raise DataError(
            f"a SentencePiece model must begin with the pieces {' '.join(SPECIAL_TOKENS)}, "
            f"got {' '.join(found) or 'nothing'}: train it with pad_id=0 unk_id=1 bos_id=2 eos_id=3"
        )
    return processor


def utf8(line: str) -> bytes:
    """The bytes the library works on; a lone surrogate, which UTF-8 cannot express, becomes `?`."""
    return line.encode("utf-8", "replace")


_NORMAL, _BYTE, _CONTROL = (getattr(ModelProto.SentencePiece, kind) for kind in ("NORMAL", "BYTE", "CONTROL"))
_UNKNOWN_PENALTY = 10.0  # the library's kUnkPenalty: what an unknown character costs more than the worst piece


class PieceCutter:
    """Cuts pieces of other models into the pieces of one, whatever stands at a line's beginning.

    Encoding a piece as a line would normalise it once more and put a `▁` before one from within a word.

    Args:
        model: the content of a `.model` file.

    Attributes:
        model_type: `unigram` or `bpe`; `word` or `char` if the model came from elsewhere.
        lowest_score: of all ordinary pieces.
    """

    def __init__(self, model: bytes) -> None:
        content = _parse(model)
        scores = [piece.score for piece in content.pieces if piece.type == _NORMAL]
        self.model_type = TrainerSpec.ModelType.Name(content.trainer_spec.model_type).lower()
        self.lowest_score = min(scores, default=0.0)
        as_it_is = NormalizerSpec(name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False)
        content.normalizer_spec.CopyFrom(as_it_is)
        self._processor = SentencePieceProcessor(model_proto=content.SerializeToString())
        unknown = self.lowest_score - _UNKNOWN_PENALTY
        # What an unknown character becomes: bytes, in a model that has them, of which the first costs as much.
        bytes_of_model = [token_id for token_id, piece in enumerate(content.pieces) if piece.type == _BYTE]
        self._no_text = dict.fromkeys(bytes_of_model[:0x80] + bytes_of_model[0xC0:], unknown)
        self._no_text |= {self._processor.unk_id(): unknown, **dict.fromkeys(bytes_of_model[0x80:0xC0], 0.0)}

    def cut(self, piece: str) -> list[int]:
        """Token ids of the best cut; a run of unknown characters is one unknown token, or bytes."""
        return self._processor.encode(utf8(piece), out_type=int)

    def best_cuts(self, piece: str, count: int) -> list[list[int]]:
        """The best cuts of one of the pieces into others, at most so many, best first; of a unigram model alone."""
        if self._processor.piece_to_id(piece) in self._no_text:  # `<0x41>` is not spelled
            return []
        cuts = self._processor.nbest_encode(utf8(piece), nbest_size=count, out_type=int)
        return [cut for cut in cuts if self._no_text.keys().isdisjoint(cut)]

    def score(self, token_ids: Iterable[int]) -> float:
        """The sum of the scores of tokens: of a unigram model, the log probability of this cut."""
        score = self._processor.get_score
        return sum(self._no_text.get(token_id, score(token_id)) for token_id in token_ids)


def with_special_tokens_first(model: bytes) -> bytes:
    """Move PAD, UNK, BOS and EOS to the first ids, which is where this toolkit has them; those missing are added.

    A piece that a user defined under the name of one of them, such as `<pad>` beside pad_id=-1, becomes that one.

    Raises:
        DataError: the bytes are no model, or have no unknown piece.
    """
    try:
        content = _parse(model)
    except DecodeError as error:
        raise DataError("not a SentencePiece model") from error
    trainer, pieces = content.trainer_spec, list(content.pieces)
    if tuple(piece.piece for piece in pieces[: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS:
        return model
    kinds = ModelProto.SentencePiece
    if not any(piece.type == kinds.UNKNOWN for piece in pieces):
        raise DataError("not a SentencePiece model: it has no unknown piece")
    special = {(kinds.CONTROL, name) for name in (trainer.pad_piece, trainer.bos_piece, trainer.eos_piece)}
    ordinary = [piece for piece in pieces if piece.type != kinds.UNKNOWN and piece.piece not in SPECIAL_TOKENS]
    others = [piece for piece in ordinary if (piece.type, piece.piece) not in special]
    del content.pieces[:]
    for name in SPECIAL_TOKENS:
        content.pieces.add(piece=name, score=0.0, type=kinds.UNKNOWN if name == UNK else kinds.CONTROL)
    content.pieces.extend(others)
    trainer.pad_piece, trainer.unk_piece, trainer.bos_piece, trainer.eos_piece = SPECIAL_TOKENS
    trainer.pad_id, trainer.unk_id, trainer.bos_id, trainer.eos_id = range(len(SPECIAL_TOKENS))
    trainer.unk_surface, trainer.vocab_size = UNK, len(content.pieces)
    return content.SerializeToString()


def with_rule(model: bytes, rule: str) -> bytes:
    """Replace the rule by which a model normalises text; pieces, scores and the treatment of spaces stay."""
    content = _parse(model)
    source = _parse(SentencePieceNormalizer(rule_name=rule).serialized_model_proto()).normalizer_spec
    content.normalizer_spec.name = source.name
    content.normalizer_spec.precompiled_charsmap = source.precompiled_charsmap
    content.normalizer_spec.normalization_rule_tsv = ""
    return content.SerializeToString()


def with_pieces(model: bytes, pieces: Iterable[tuple[str, float]], *, control: bool = False) -> bytes:
    """Append pieces with their scores; those that are there keep their ids and scores.

    Args:
        model: the content of a `.model` file.
        pieces: ordinary ones, and their scores.
        control: whether no text gives them instead, and they decode to nothing.
    """
    content = _parse(model)
    for piece, score in pieces:
        content.pieces.add(piece=piece, score=score, type=_CONTROL if control else _NORMAL)
    content.trainer_spec.vocab_size = len(content.pieces)
    return content.SerializeToString()


def _parse(model: bytes) -> Any:
    content = ModelProto()
    content.ParseFromString(model)
    return content
