"""The tokenizer that cuts raw text into learned pieces (Kudo and Richardson 2018), unigram or BPE.

Text goes in as it is and comes out detokenised: spaces are part of the pieces (`▁`). The model file carries the
normalisation, so what other programs do with the same file is the same, but for NFC: SentencePiece has no such rule, so
white space and accents are composed here before the file's rule, which is identity then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from google.protobuf.message import DecodeError
from sentencepiece import SentencePieceNormalizer, SentencePieceProcessor
from sentencepiece.sentencepiece_model_pb2 import ModelProto, TrainerSpec

from nmt.errors import DataError
from nmt.text.tokenizer import NORMALIZER_RULES, Tokenizer, normalized, spoken_ids
from nmt.text.vocabulary import SPECIAL_TOKENS, UNK, Vocabulary, read_file, write_file


class SentencePieceTokenizer(Tokenizer):
    """Encodes and decodes with a trained SentencePiece model.

    Args:
        model: the content of a `.model` file with the ids pad 0, unk 1, bos 2, eos 3.
        settings: how it was trained, and under "normalization" how its text is normalised: by the rule of the file
            alone where that is missing (a model from elsewhere, or of version 0.1.0) or "nfkc".

    Raises:
        DataError: the bytes are no SentencePiece model, or its special ids are others.
    """

    type: ClassVar[str] = "sentencepiece"

    def __init__(self, model: bytes, *, settings: dict[str, Any]) -> None:
        self._model = model
        self._settings = settings
        self.normalization = settings.get("normalization")
        self._processor = _open_processor(model)
        size = self._processor.get_piece_size()
        self.vocabulary = Vocabulary([self._processor.id_to_piece(token_id) for token_id in range(size)])
        self._normalizes_here = self.normalization not in (None, "nfkc")
        kind = f"sentencepiece {self.normalization}" if self._normalizes_here else "sentencepiece"
        self._fingerprint = hashlib.sha256(kind.encode() + b"\0" + model).hexdigest()

    def encode(self, line: str) -> list[int]:
        """Token ids of one line."""
        return self._processor.encode(self._bytes(line), out_type=int)

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Token ids of many lines in one call of the library."""
        return self._processor.encode([self._bytes(line) for line in lines], out_type=int, num_threads=1)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the pieces, without spaces at its ends."""
        return self._processor.decode(spoken_ids(token_ids)).strip(" ")

    def cut(self, token: str) -> list[int]:
        """Token ids of a piece of another model, which is normalised already and may stand within a word."""
        return self._cutter.cut(token)

    def normalized(self, line: str) -> str:
        """A line as it is before it is cut."""
        if self._normalizes_here:
            return normalized(line, str(self.normalization))
        return normalized(self._normalizer.Normalize(_utf8(line).decode("utf-8")), "none")

    def with_normalization(self, normalization: str | None) -> SentencePieceTokenizer:
        """The same pieces, for text that is normalised in another way; None leaves it to the model as it is."""
        from nmt.text.sentencepiece_tokenizer import with_rule

        model = self._model if normalization is None else with_rule(self._model, NORMALIZER_RULES[normalization])
        settings = {name: value for name, value in self._settings.items() if name != "normalization"}
        return SentencePieceTokenizer(
            model, settings=settings if normalization is None else {**settings, "normalization": normalization}
        )

    def _bytes(self, line: str) -> bytes:
        return _utf8(self.normalized(line) if self._normalizes_here else line)

    @cached_property
    def _normalizer(self) -> SentencePieceNormalizer:
        return SentencePieceNormalizer(
            model_proto=self._model, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
        )

    @cached_property
    def _cutter(self) -> PieceCutter:
        from nmt.text.sentencepiece_tokenizer import PieceCutter  # protobuf is loaded where it is needed

        return PieceCutter(self._model)

    @property
    def model(self) -> bytes:
        """The content of the `.model` file."""
        return self._model

    @property
    def model_type(self) -> str:
        """`unigram` or `bpe`; `word` or `char` where the model came from elsewhere."""
        from nmt.text.sentencepiece_tokenizer import model_facts

        return model_facts(self._model).model_type

    @property
    def settings(self) -> dict[str, Any]:
        """How the model was trained."""
        return dict(self._settings)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the model file, which holds pieces, scores and normalisation, and of what is normalised here."""
        return self._fingerprint

    def save(self, directory: Path, side: str) -> None:
        """Write `tokenizer.model`, and `vocabulary.txt` for people to read."""
        write_file(directory / model_name(side), self._model)
        super().save(directory, side)

    @classmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> SentencePieceTokenizer:
        """Read `tokenizer.model` (or the one of a side).

        Raises:
            DataError: the file is missing or is no such model; the message names it.
        """
        path = directory / model_name(side)
        model = read_file(path)
        try:
            return cls(model, settings=settings)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def model_name(side: str) -> str:
    """File name of a SentencePiece model in a model directory."""
    return f"tokenizer.{side}.model" if side else "tokenizer.model"


def _open_processor(model: bytes) -> SentencePieceProcessor:
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


def _utf8(line: str) -> bytes:
    """The bytes the library works on; a lone surrogate, which UTF-8 cannot express, becomes `?`."""
    return line.encode("utf-8", "replace")


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
