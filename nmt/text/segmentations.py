"""The ways in which each piece of a unigram model can be cut into smaller ones, with their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nmt.errors import ConfigError
from nmt.text.sentencepiece_model import PieceCutter
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.tokenizer import Tokenizer
from nmt.text.vocabulary import SPECIAL_TOKENS

CUTS_OF_A_PIECE = 64
"""As many of its best cuts are known of each piece (l in Kudo 2018, section 3.3, where it is a whole sentence's)."""


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
    cutter = PieceCutter(tokenizer.model)
    cuts: list[list[int]] = []
    bounds: list[int] = [0]
    keys: list[float] = []
    for token_id, piece in enumerate(tokenizer.vocabulary.tokens):
        others = [] if token_id < len(SPECIAL_TOKENS) else cutter.best_cuts(piece, CUTS_OF_A_PIECE)
        own = [[token_id], *(cut for cut in others if cut != [token_id])]
        weights = _softmax(alpha * np.array([cutter.score(cut) for cut in own]))
        cuts += own
        bounds.append(len(cuts))
        keys += [token_id + weight for weight in np.minimum(np.cumsum(weights), 1.0)]
        keys[-1] = token_id + 1.0  # exactly, so that no number below 1 falls behind the last cut
    offsets = np.zeros(len(cuts) + 1, np.int64)
    np.cumsum([len(cut) for cut in cuts], out=offsets[1:])
    token_ids = np.array([token_id for cut in cuts for token_id in cut], np.int32)
    return Segmentations(token_ids, offsets, np.array(bounds, np.int64), np.array(keys))


def _softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()
