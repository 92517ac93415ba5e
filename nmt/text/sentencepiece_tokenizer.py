"""The tokenizer that cuts raw text into learned pieces (Kudo and Richardson 2018), unigram or BPE.

Text goes in as it is and comes out detokenised: spaces are part of the pieces (`▁`). The model file carries the
normalisation, so what other programs do with the same file is the same, but for NFC: SentencePiece has no such rule, so
white space and accents are composed here before the file's rule, which is identity then.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sentencepiece import SentencePieceNormalizer

import nmt.text.sentencepiece_model as models
from nmt.errors import ConfigError, DataError
from nmt.text.tokenizer import (
    NORMALIZER_RULES,
    SPACE_SYMBOL,
    TAG_MARK,
    Tokenizer,
    normalized,
    sample_lines,
    spoken_ids,
    tags_of,
)
from nmt.text.vocabulary import SPECIAL_TOKENS, Vocabulary, read_file, side_name, write_file
from nmt.types import PathLike

_STEP = 1e-3
"""What a new piece gains over its old cut, for each boundary that it removes; see `_with_pieces`."""

_BLOCK_LINES = 10_000


class SentencePieceTokenizer(Tokenizer):
    """Encodes and decodes with a trained SentencePiece model.

    Args:
        model: the content of a `.model` file with the ids pad 0, unk 1, bos 2, eos 3.
        settings: how it was trained, and under "normalization" how its text is normalised: by the rule of the file
            alone if that is missing (a model from elsewhere, or of version 0.1.0) or "nfkc".

    Raises:
        DataError: the bytes are no SentencePiece model, or its special ids are others.
    """

    type: ClassVar[str] = "sentencepiece"

    maximum_lines: ClassVar[int] = 1_000_000  # with more, pieces hardly change, while time and memory keep growing

    def __init__(self, model: bytes, *, settings: dict[str, Any]) -> None:
        self.model, self._settings = model, settings
        self.normalization = settings.get("normalization")
        self._processor = models.open_processor(model)
        size = self._processor.get_piece_size()
        self.vocabulary = Vocabulary([self._processor.id_to_piece(token_id) for token_id in range(size)])
        self._normalizes_here = self.normalization not in (None, "nfkc")

    @classmethod
    def learn(
        cls,
        lines: Iterable[str],
        *,
        model_type: str,
        vocabulary_size: int,
        character_coverage: float,
        seed: int,
        byte_fallback: bool = False,
    ) -> Self:
        """Train a model on lines of text as they are, but for white space.

        The tokenizer takes lines as they are too; `with_normalization` gives one for raw text with the same pieces,
        which has to be normalised like that before it is given here.

        With a coverage of 1.0 every character of the training text is a piece, so byte pieces would never be seen in
        training: 256 rows of the embedding without a gradient, for text that the model cannot translate anyway. Without
        them a character that was never seen becomes `<unk>`.

        Args:
            lines: normalised text. Beyond `maximum_lines` a sample drawn with the seed is used.
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
        sample = sample_lines(usable, cls.maximum_lines, seed=seed)
        if not sample:
            raise DataError("a tokenizer needs text to learn from, got only empty lines")
        how: dict[str, Any] = {
            "model_type": model_type,
            "vocabulary_size": vocabulary_size,
            "character_coverage": character_coverage,
        }
        model = models.train_model(sample, byte_fallback=byte_fallback, **how)
        settings = {**how, "seed": seed, "normalization": "none"}
        return cls(model, settings={**settings, "byte_fallback": True} if byte_fallback else settings)

    def extend(
        self,
        lines: Iterable[str],
        *,
        vocabulary_size: int,
        character_coverage: float,
        seed: int,
        minimum_count: int = 1,
        max_new_tokens: int | None = None,
    ) -> Self:
        """Add the pieces that new text would have and the model lacks; ids and scores of the old ones stay.

        A model is trained on the new text alone, of the same type and normalisation. Of its pieces those are added that
        are missing and that the extended model really uses in this text: characters that were unknown first, then those
        that save the most tokens. Text is then cut as before, except that runs of old pieces which make up a new
        one are merged.

        Args:
            lines: raw text; many lines are sampled as in training.
            vocabulary_size: upper bound of the pieces learned from the new text, before any is chosen.
            character_coverage: share of the characters of the new text that become pieces.
            seed: of the sample.
            minimum_count: pieces that the new text needs less often are left out, new characters excepted.
            max_new_tokens: how many pieces may be added; None for no bound.

        Returns:
            The extended tokenizer, or this one itself if nothing is missing.

        Raises:
            DataError: there is no text, or the model is neither unigram nor BPE.
            ConfigError: `vocabulary_size` cannot hold the characters of the new text.
        """
        if self.model_type not in ("unigram", "bpe"):
            raise DataError(f"only a unigram or bpe model of SentencePiece can be extended, got {self.model_type}")
        sample = sample_lines((line for line in lines if "\0" not in line), self.maximum_lines, seed=seed)
        learned = self.learn(
            map(self.normalized, sample),
            model_type=self.model_type,
            vocabulary_size=vocabulary_size,
            character_coverage=character_coverage,
            seed=seed,
        )
        known = set(self.vocabulary.tokens)
        missing = [piece for piece in learned.vocabulary.tokens if piece not in known]
        characters = [piece for piece in missing if len(piece) == 1]
        room = None if max_new_tokens is None else max(max_new_tokens - len(characters), 0)
        longer = [piece for piece in missing if len(piece) > 1]
        pieces = self._with_characters(characters)._most_useful(longer, sample, minimum_count, room)
        characters = characters[:max_new_tokens]
        return self._with_characters(characters)._with_pieces(pieces) if characters or pieces else self

    @classmethod
    def adopt(cls, path: PathLike) -> Self:
        """Read a `.model` file; its special pieces come first, under our names, whatever their ids were.

        Raises:
            DataError: it cannot be read, or is no such model; the message names it.
        """
        if Path(path).suffix == ".vocab":
            raise DataError(f"{path}: lists pieces, which do not say how text is cut: give the .model file beside it")
        return cls._read(path, models.with_special_tokens_first, {"adopted_from": Path(path).name})

    def encode(self, line: str) -> list[int]:
        """Token ids of one line."""
        return self._processor.encode(self._bytes(line), out_type=int)

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Token ids of many lines in one call of the library."""
        return self._processor.encode([self._bytes(line) for line in lines], out_type=int, num_threads=1)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the pieces, without spaces at its ends."""
        return self._processor.decode(spoken_ids(token_ids)).strip(" ")

    def surfaces(self, segmentation: str = "none") -> list[bytes]:
        """For each token id the UTF-8 that it adds to the decoded text; a byte piece adds its byte."""
        if segmentation != "none":
            raise ConfigError(f"constraints on the text cannot hold on pieces of words that {segmentation} cut before")
        return [self._surface(token_id, piece) for token_id, piece in enumerate(self.vocabulary.tokens)]

    def pieces(self, line: str) -> list[bytes]:
        """For each token of a line the UTF-8 that it stands for; an unknown one stands for what it was cut from."""
        content = self._bytes(line)
        token_ids, pieces = (self._processor.encode(content, out_type=kind) for kind in (int, str))
        return [
            models.utf8(piece) if self._processor.is_unknown(token_id) else self._surface(token_id, piece)
            for token_id, piece in zip(token_ids, pieces, strict=True)
        ]

    def _surface(self, token_id: int, piece: str) -> bytes:
        if not spoken_ids([token_id]) or self._processor.is_control(token_id):
            return b""
        if self._processor.is_byte(token_id):  # `<0x41>`
            return bytes.fromhex(piece[3:5])
        unknown = self._processor.is_unknown(token_id)
        return models.utf8(self._processor.decode([token_id]) if unknown else piece.replace(SPACE_SYMBOL, " "))

    def cut(self, token: str) -> list[int]:
        """Token ids of a piece of another model, which is normalised already and may stand within a word."""
        return self.cutter.cut(token)

    def normalized(self, line: str) -> str:
        """A line as it is before it is cut."""
        if self._normalizes_here:
            return normalized(line, str(self.normalization))
        return normalized(self._normalizer.Normalize(models.utf8(line).decode("utf-8")), "none")

    def with_tags(self, tags: Iterable[str]) -> Self:
        """The same pieces and control symbols for tags behind them."""
        missing = [(TAG_MARK + tag, 0.0) for tag in tags if tag not in self.tags]
        if not missing:
            return self
        return type(self)(models.with_pieces(self.model, missing, control=True), settings=self.settings)

    @cached_property
    def tags(self) -> dict[str, int]:
        """The id of the symbol of each tag."""
        return tags_of(self.vocabulary)

    def with_normalization(self, normalization: str | None) -> Self:
        """The same pieces, for text that is normalised in another way; None leaves it to the model as it is."""
        settings = {name: value for name, value in self._settings.items() if name != "normalization"}
        if normalization is None:
            return type(self)(self.model, settings=settings)
        model = models.with_rule(self.model, NORMALIZER_RULES[normalization])
        return type(self)(model, settings={**settings, "normalization": normalization})

    def _bytes(self, line: str) -> bytes:
        return models.utf8(self.normalized(line) if self._normalizes_here else line)

    @cached_property
    def _normalizer(self) -> SentencePieceNormalizer:
        return SentencePieceNormalizer(
            model_proto=self.model, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
        )

    @cached_property
    def cutter(self) -> models.PieceCutter:
        """Cuts pieces of other models, and knows the scores of its own."""
        return models.PieceCutter(self.model)

    @property
    def model_type(self) -> str:
        """`unigram` or `bpe`; `word` or `char` if the model came from elsewhere."""
        return self.cutter.model_type

    @property
    def settings(self) -> dict[str, Any]:
        """How the model was trained."""
        return dict(self._settings)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the model file, which holds pieces, scores and normalisation, and of what is normalised here."""
        kind = f"sentencepiece {self.normalization}" if self._normalizes_here else "sentencepiece"
        return hashlib.sha256(kind.encode() + b"\0" + self.model).hexdigest()

    def save(self, directory: Path, side: str) -> None:
        """Write `tokenizer.model`, and `vocabulary.txt` for people to read."""
        write_file(directory / side_name("tokenizer.model", side), self.model)
        super().save(directory, side)

    @classmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> Self:
        """Read `tokenizer.model` (or the one of a side).

        Raises:
            DataError: the file is missing or is no such model; the message names it.
        """
        return cls._read(directory / side_name("tokenizer.model", side), bytes, settings)

    @classmethod
    def _read(cls, path: PathLike, change: Callable[[bytes], bytes], settings: dict[str, Any]) -> Self:
        model = read_file(path)
        try:
            return cls(change(model), settings=settings)
        except DataError as error:
            raise DataError(f"{Path(path)}: {error}") from error

    def _most_useful(
        self, pieces: Sequence[str], lines: Sequence[str], minimum_count: int, room: int | None
    ) -> list[str]:
        """Choose among pieces by the tokens saved: uses if all are there, times the old tokens that a use makes one."""
        extended, uses = self._with_pieces(pieces), Counter[int]()
        for begin in range(0, len(lines), _BLOCK_LINES):
            for token_ids in extended.encode_batch(lines[begin : begin + _BLOCK_LINES]):
                uses.update(token_ids)
        counts = {piece: uses[extended.vocabulary.id(piece)] for piece in pieces}
        saved = {piece: count * (len(self.cut(piece)) - 1) for piece, count in counts.items()}
        used = [piece for piece, count in counts.items() if count >= max(minimum_count, 1)]
        is_bpe = self.model_type == "bpe"
        ranks = {piece: rank for rank, piece in enumerate(pieces)}
        chosen: set[str] = set()
        for piece in sorted(used, key=lambda piece: (-saved[piece], piece)):
            needed = self._merged_on_the_way(piece, ranks) if is_bpe else {piece}
            if room is None or len(chosen | needed) <= room:
                chosen |= needed
        return [piece for piece in pieces if piece in chosen]

    def _merged_on_the_way(self, piece: str, ranks: Mapping[str, int]) -> set[str]:
        """A new piece of a BPE model, and those between its old cut and itself: without them it is never reached."""
        known, made = set(self.vocabulary.tokens), {piece}
        symbols = self.tokens(self.cut(piece))
        while len(symbols) > 1:
            merges = [first + second for first, second in pairwise(symbols)]
            rank, place = min((-1 if m in known else ranks.get(m, len(ranks)), i) for i, m in enumerate(merges))
            if rank == len(ranks):
                break
            symbols[place : place + 2] = [merges[place]]
            made |= {merges[place]} - known
        return made

    def _with_characters(self, characters: Sequence[str]) -> Self:
        """Add what was unknown: it has no cut to compete with, and scores as the rarest piece."""
        return self._extended([(character, self.cutter.lowest_score) for character in characters])

    def _with_pieces(self, pieces: Sequence[str]) -> Self:
        """Add pieces of several characters, scored so that they only ever take the place of the very cut they had.

        Unigram: the best path of a line is the one with the highest sum of scores (Kudo 2018, arXiv:1804.10959,
        section 3.2). A piece that scores as its old cut and very little more wins when the old best path contains that
        cut, and nowhere else: written out in old pieces, any path keeps its score up to that little. It grows with the
        boundaries removed, so that one long piece beats two short ones.

        BPE: a score is the rank of a merge. First every old merge is made, then new ones of what is left.
        """
        cutter = self.cutter
        if cutter.model_type == "bpe":
            return self._extended([(piece, cutter.lowest_score - rank) for rank, piece in enumerate(pieces, start=1)])
        cuts = {piece: cutter.cut(piece) for piece in pieces}
        return self._extended([(p, cutter.score(cut) + _STEP * (len(cut) - 1)) for p, cut in cuts.items()])

    def _extended(self, pieces: Sequence[tuple[str, float]]) -> Self:
        settings = {**self.settings, "vocabulary_size": len(self.vocabulary) + len(pieces)}
        return type(self)(models.with_pieces(self.model, pieces), settings=settings)


CUTS_OF_A_PIECE = 64
"""As many of its best cuts are known of each piece (l in Kudo 2018, section 3.3; there it is a whole sentence's)."""


@dataclass(frozen=True)
class Segmentations:
    """The cuts of the V pieces of a vocabulary, C in all; the first cut of each piece is the piece itself.

    Attributes:
        token_ids: the ids of all cuts, one cut behind the other, int32.
        offsets: (C+1,) int64; cut c is `token_ids[offsets[c]:offsets[c + 1]]`.
        bounds: (V+1,) int64; the cuts of piece p are those from `bounds[p]` to before `bounds[p + 1]`.
        keys: (C,) float64, rising: for cut c of piece p, p plus the probability of the cuts of p up to c. So the first
            cut with a key above p + u is one of p, drawn by a number u that is uniform in [0, 1).
    """

    token_ids: np.ndarray
    offsets: np.ndarray
    bounds: np.ndarray
    keys: np.ndarray

    def draw(self, token_ids: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """Draw a cut for each token: (n,) ids and (n,) numbers in [0, 1) to (n,) numbers of cuts."""
        chosen = np.searchsorted(self.keys, token_ids + chance, side="right")
        return np.minimum(chosen, self.bounds[token_ids + 1] - 1)  # p + u is rounded, at worst to p + 1

    @cached_property
    def sizes(self) -> np.ndarray:
        """Tokens in each cut, (C,) int64."""
        return np.diff(self.offsets)


def segmentations(tokenizer: Tokenizer, *, alpha: float) -> Segmentations:
    """List the cuts of each piece x with probabilities in proportion to P(x)^alpha (Kudo 2018, section 3.3).

    Args:
        tokenizer: of SentencePiece, with a unigram model.
        alpha: the smaller, the more often a piece is cut, and the smaller the parts.

    Raises:
        ConfigError: the tokenizer has no probabilities of pieces.
    """
    if not isinstance(tokenizer, SentencePieceTokenizer) or tokenizer.model_type != "unigram":
        raise ConfigError("only a unigram model of SentencePiece says how probable a cut is: use one, or sample none")
    cutter = tokenizer.cutter
    cuts: list[list[int]] = []
    bounds: list[int] = [0]
    keys: list[float] = []
    for token_id, piece in enumerate(tokenizer.vocabulary.tokens):
        others = [] if token_id < len(SPECIAL_TOKENS) else cutter.best_cuts(piece, CUTS_OF_A_PIECE)
        own = [[token_id], *(cut for cut in others if cut != [token_id])]
        logits = alpha * np.array([cutter.score(cut) for cut in own])
        weights = np.exp(logits - logits.max())
        cuts += own
        bounds.append(len(cuts))
        keys += [token_id + weight for weight in np.minimum(np.cumsum(weights / weights.sum()), 1.0)]
        keys[-1] = token_id + 1.0  # exactly, so that no number below 1 falls behind the last cut
    offsets = np.zeros(len(cuts) + 1, np.int64)
    np.cumsum([len(cut) for cut in cuts], out=offsets[1:])
    token_ids = np.array([token_id for cut in cuts for token_id in cut], np.int32)
    return Segmentations(token_ids, offsets, np.array(bounds, np.int64), np.array(keys))
