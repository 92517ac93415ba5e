"""The pieces inside a SentencePiece model file: reading them, adding some, cutting text that is pieces already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceNormalizer, SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec

from nmt.errors import DataError
from nmt.text.vocabulary import SPECIAL_TOKENS, UNK

_KINDS = {TrainerSpec.UNIGRAM: "unigram", TrainerSpec.BPE: "bpe", TrainerSpec.WORD: "word", TrainerSpec.CHAR: "char"}
_NORMAL, _BYTE = ModelProto.SentencePiece.NORMAL, ModelProto.SentencePiece.BYTE
_UNKNOWN_PENALTY = 10.0  # the library's kUnkPenalty: what an unknown character costs more than the worst piece


class ModelFacts(NamedTuple):
    """What a model file says about itself.

    model_type: `unigram`, `bpe`, `word` or `char`.
    lowest_score: of all its ordinary pieces.
    """

    model_type: str
    lowest_score: float


class PieceCutter:
    """Cuts pieces of other models into the pieces of one, whatever stands at a line's beginning.

    Encoding a piece as a line would normalise it once more and put a `▁` before one from within a word.

    Args:
        model: the content of a `.model` file.
    """

    def __init__(self, model: bytes) -> None:
        content = _parse(model)
        content.normalizer_spec.Clear()
        content.normalizer_spec.name = "identity"
        content.normalizer_spec.add_dummy_prefix = False
        content.normalizer_spec.remove_extra_whitespaces = False
        content.normalizer_spec.escape_whitespaces = True
        self._processor = SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(content.SerializeToString())
        unknown = model_facts(model).lowest_score - _UNKNOWN_PENALTY
        # What an unknown character becomes: bytes, in a model that has them, of which the first costs as much.
        bytes_of_model = [token_id for token_id, piece in enumerate(content.pieces) if piece.type == _BYTE]
        self._no_text = dict.fromkeys(bytes_of_model[:0x80] + bytes_of_model[0xC0:], unknown)
        self._no_text |= {self._processor.unk_id(): unknown, **dict.fromkeys(bytes_of_model[0x80:0xC0], 0.0)}

    def cut(self, piece: str) -> list[int]:
        """Token ids of the best cut; a run of unknown characters is one unknown token, or bytes."""
        return self._processor.encode(piece.encode("utf-8", "replace"), out_type=int)

    def best_cuts(self, piece: str, count: int) -> list[list[int]]:
        """The best cuts of one of the pieces into others, at most so many, best first; of a unigram model alone."""
        if self._processor.piece_to_id(piece) in self._no_text:  # `<0x41>` is not spelled
            return []
        cuts = self._processor.nbest_encode(piece.encode("utf-8", "replace"), nbest_size=count, out_type=int)
        return [cut for cut in cuts if self._no_text.keys().isdisjoint(cut)]

    def score(self, token_ids: Iterable[int]) -> float:
        """The sum of the scores of tokens: of a unigram model, the log probability of this cut."""
        score = self._processor.get_score
        return sum(self._no_text.get(token_id, score(token_id)) for token_id in token_ids)


def model_facts(model: bytes) -> ModelFacts:
    """Read what decides how more pieces can be learned for a model."""
    content = _parse(model)
    scores = [piece.score for piece in content.pieces if piece.type == _NORMAL]
    kind = _KINDS[content.trainer_spec.model_type]
    return ModelFacts(kind, min(scores, default=0.0))


def with_special_tokens_first(model: bytes) -> bytes:
    """Move PAD, UNK, BOS and EOS to the first ids, which is where this toolkit has them; those missing are added.

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
    special = (trainer.pad_piece, trainer.bos_piece, trainer.eos_piece)
    others = [
        piece
        for piece in pieces
        if piece.type != kinds.UNKNOWN and not (piece.type == kinds.CONTROL and piece.piece in special)
    ]
    if not any(piece.type == kinds.UNKNOWN for piece in pieces):
        raise DataError("not a SentencePiece model: it has no unknown piece")
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


def with_pieces(model: bytes, pieces: Iterable[tuple[str, float]]) -> bytes:
    """Append ordinary pieces with their scores; those that are there keep their ids and scores."""
    content = _parse(model)
    for piece, score in pieces:
        content.pieces.add(piece=piece, score=score, type=_NORMAL)
    content.trainer_spec.vocab_size = len(content.pieces)
    return content.SerializeToString()


def _parse(model: bytes) -> Any:
    content = ModelProto()
    content.ParseFromString(model)
    return content
