"""What a model thinks of given translations: one pass over each pair, its target forced upon the decoder.

The scores are what a search would have reported for the same token ids.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from nmt.backend.functions import Spec, compile_function
from nmt.backend.machine import map_at_once
from nmt.data.sequences import TokenSequences
from nmt.errors import ConfigError, DataError
from nmt.models.contract import DecodingModel, Seq2Seq
from nmt.models.ensemble import Ensemble
from nmt.models.forced import forced_log_probs
from nmt.text import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Tokenizer
from nmt.text.vocabulary import BOS, EOS, PAD
from nmt.translation import lengths
from nmt.translation.lengths import MAX_SOURCE_LENGTH, plan_batches
from nmt.translation.line_translator import Progress
from nmt.types import Tensor

_LOGGER = logging.getLogger(__name__)

NORMALIZATIONS = ("none", "tokens", "length-penalty")

Target: TypeAlias = str | Sequence[int]
"""A translation as text, or as the ids of its tokens; EOS at their end may be left out."""


class PairScore(NamedTuple):
    """What a model thinks of a translation.

    log_prob: sum of the log probabilities of its tokens, EOS among them; higher is better.
    token_log_probs: of each token.
    tokens: the tokens, the last one EOS unless the target was cut.
    num_tokens: how many these are; 0 for the empty translation of an empty line, which no model is asked about.
    cut: whether the source or the target was longer than `MAX_SOURCE_LENGTH`; the score is of what is left.
    """

    log_prob: float
    token_log_probs: tuple[float, ...]
    tokens: tuple[str, ...]
    num_tokens: int
    cut: bool = False

    def normalized(self, how: str, *, length_penalty: float, offset: float = 0.0) -> float:
        """Return the log probability, whole or divided, so that lengths can be compared.

        Args:
            how: `none`, `tokens` to divide by their number, or `length-penalty` to divide as the search does.
            length_penalty: its exponent, `search.length_penalty`.
            offset: of the length there, `search.length_penalty_offset`.

        Raises:
            ConfigError: there is no such way.
        """
        if how not in NORMALIZATIONS:
            raise ConfigError(f"scores are normalised by one of {', '.join(NORMALIZATIONS)}, got {how}")
        if how == "none" or not self.num_tokens:
            return self.log_prob
        penalty = lengths.length_penalty(self.num_tokens, length_penalty, offset)
        return self.log_prob / (self.num_tokens if how == "tokens" else penalty)


@dataclass
class ScoreTally:
    """What was scored, over all calls that it is handed to; in pairs unless said otherwise.

    pairs: all of them.
    tokens: of the targets, EOS counted, that were scored.
    words: of the targets, between spaces, and one for the end of each line.
    log_prob: sum over all tokens, those of `failed` left out with their tokens and words.
    unread, cut: with a source, or a target, that is longer than `MAX_SOURCE_LENGTH` tokens.
    no_source, no_target: of which one side is empty, not both.
    failed: whose score is no number.
    source_tokens, target_tokens: as the tokenizers cut them, EOS not counted.
    unknown_source, unknown_target: tokens of these that the model knows as UNK only.
    """

    pairs: int = 0
    tokens: int = 0
    words: int = 0
    log_prob: float = 0.0
    unread: int = 0
    cut: int = 0
    no_source: int = 0
    no_target: int = 0
    failed: int = 0
    source_tokens: int = 0
    target_tokens: int = 0
    unknown_source: int = 0
    unknown_target: int = 0

    @property
    def perplexity(self) -> float:
        """Per token, EOS counted; NaN if there is none."""
        return _exp(-self.log_prob / self.tokens) if self.tokens else math.nan

    @property
    def word_perplexity(self) -> float:
        """Per word, the end of each line counted as one: comparable between tokenizers."""
        return _exp(-self.log_prob / self.words) if self.words else math.nan

    def report(self) -> None:
        """Log the sums, and what is worse than one might think."""
        _LOGGER.info(
            "%s pairs, %s target tokens: perplexity %.2f per token, %.2f per word (ends of lines counted in both)",
            f"{self.pairs:,}", f"{self.tokens:,}", self.perplexity, self.word_perplexity,
        )  # fmt: skip
        most = MAX_SOURCE_LENGTH
        warnings = {
            f"have a source longer than {most} tokens, of which only the first {most} are read": self.unread,
            f"have a target longer than {most} tokens: their scores are of the first {most}, without EOS": self.cut,
            "have an empty source and a target: no model has learned that": self.no_source,
            "have an empty target: their score is that of ending at once": self.no_target,
            "have a score that is no number, and are left out of the perplexity": self.failed,
        }
        for words, count in warnings.items():
            if count:
                _LOGGER.warning("%s of %s pairs %s", f"{count:,}", f"{self.pairs:,}", words)
        for side in ("source", "target"):
            if unknown := getattr(self, f"unknown_{side}"):
                total = getattr(self, f"{side}_tokens")
                words = "" if side == "source" else ": they are scored as UNK, which may be likelier than the word"
                _LOGGER.warning(
                    "%s of %s %s tokens are unknown to the model%s", f"{unknown:,}", f"{total:,}", side, words
                )


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf  # of a double


class ForcedPass:
    """The pass of a model over pairs of token ids, compiled once for all shapes.

    Args:
        model: a `Seq2Seq`, or an `Ensemble` of such, which scores by the mean that it searches by.

    Raises:
        ConfigError: the model is of another kind, which may know nothing but steps.
    """

    def __init__(self, model: DecodingModel | Ensemble) -> None:
        given = model.models if isinstance(model, Ensemble) else (model,)
        members = [member for member in given if isinstance(member, Seq2Seq)]
        if len(members) != len(given):
            raise ConfigError("translations are scored by a Seq2Seq, or an Ensemble of such, got a model of other kind")

        def log_probs(target_ids: Tensor, *source_ids: Tensor) -> Tensor:
            return forced_log_probs(
                members, source_ids, target_ids, mean=model.mean if isinstance(model, Ensemble) else None
            )

        self._log_probs: Callable[..., Tensor] = compile_function(
            log_probs, (Spec((None, None), "int32"),) * (1 + len(members))
        )

    def __call__(self, sources: Sequence[Sequence[list[int]]], targets: Sequence[list[int]]) -> list[list[float]]:
        """Return the log probability of each token of each target.

        Args:
            sources: of each member the ids of each sentence as it cuts it, which end with EOS.
            targets: the ids of each sentence, EOS among them, neither PAD nor BOS.
        """
        rows = [TokenSequences.from_lists(side).padded(np.arange(len(side)))[0] for side in (targets, *sources)]
        flat = np.asarray(self._log_probs(*rows)).tolist()
        ends = np.cumsum([len(target) for target in targets]).tolist()
        return [flat[end - len(target) : end] for target, end in zip(targets, ends, strict=True)]


class Scorer:
    """Scores pairs of lines with a model.

    Args:
        model: as for `ForcedPass`.
        target: the tokenizer that cuts targets.
        sources: those that cut the source, one for each member.
        at_once: batches that are computed side by side.
    """

    def __init__(
        self, model: DecodingModel | Ensemble, target: Tokenizer, sources: Sequence[Tokenizer], *, at_once: int
    ) -> None:
        self._forced = ForcedPass(model)
        self._target, self._sources, self._at_once = target, tuple(sources), at_once

    def score(
        self,
        pairs: Sequence[tuple[str, Target]],
        begins: Sequence[tuple[list[list[int]], list[int]]],
        *,
        batch_size: int,
        progress: Progress | None,
        tally: ScoreTally,
    ) -> list[PairScore]:
        """Score pairs, of which source, for each member, and target begin with given ids; see `Translator.score`."""
        sources = list(zip(*(self._source_ids(pairs, each, tally) for each in self._sources), strict=True))
        targets = self._target_ids(pairs, tally)
        # An empty translation of an empty line needs no model, as in a search.
        asked = [place for place, ids in enumerate(targets) if len(ids) > 1 or len(sources[place][0]) > 1]
        read = [
            ([[*ids[:MAX_SOURCE_LENGTH], EOS_ID] if _unread(ids) else ids for ids in sources[place]], targets[place])
            for place in asked
        ]
        read = [(ids, target[:MAX_SOURCE_LENGTH] if _unread(target) else target) for ids, target in read]
        begun = [begins[place] for place in asked]
        read = [
            ([[*begin, *each] for begin, each in zip(first, ids, strict=True)], [*first_of_target, *target])
            for (first, first_of_target), (ids, target) in zip(begun, read, strict=True)
        ]
        longest = [max(map(len, (target, *ids))) for ids, target in read]
        batches = plan_batches(longest, batch_size=batch_size, at_once=self._at_once)

        def compute(batch: np.ndarray) -> list[list[float]]:
            by_pair, forced = zip(*(read[each] for each in batch), strict=True)
            return self._forced(list(zip(*by_pair, strict=True)), forced)

        log_probs: list[list[float]] = [[] for _ in pairs]
        if progress is not None and len(asked) < len(pairs):
            progress(len(pairs) - len(asked))
        for batch, results in zip(batches, map_at_once(compute, batches, at_once=self._at_once), strict=True):
            for each, found in zip(batch, results, strict=True):
                log_probs[asked[each]] = found[len(begun[each][1]) :]
            if progress is not None:
                progress(len(batch))
        return [self._result(*each, tally) for each in zip(pairs, sources, targets, log_probs, strict=True)]

    def _source_ids(
        self, pairs: Sequence[tuple[str, Target]], tokenizer: Tokenizer, tally: ScoreTally
    ) -> list[list[int]]:
        """Return the ids of each source, EOS behind them."""
        distinct = list(dict.fromkeys(source for source, _ in pairs))
        ids_of = dict(zip(distinct, tokenizer.encode_batch(distinct), strict=True))
        found = [ids_of[source] for source, _ in pairs]
        tally.source_tokens += sum(map(len, found))
        tally.unknown_source += sum(ids.count(UNK_ID) for ids in found)
        return [[*ids, EOS_ID] for ids in found]

    def _target_ids(self, pairs: Sequence[tuple[str, Target]], tally: ScoreTally) -> list[list[int]]:
        """Return the ids of each target, EOS behind them."""
        texts = list(dict.fromkeys(target for _, target in pairs if isinstance(target, str)))
        ids_of = dict(zip(texts, self._target.encode_batch(texts), strict=True))
        found = [
            ids_of[target] if isinstance(target, str) else checked_ids(target, number, len(self._target.vocabulary))
            for number, (_, target) in enumerate(pairs, 1)
        ]
        tally.target_tokens += sum(map(len, found))
        tally.unknown_target += sum(ids.count(UNK_ID) for ids in found)
        return [[*ids, EOS_ID] for ids in found]

    def _result(
        self,
        pair: tuple[str, Target],
        sources: Sequence[list[int]],
        target: list[int],
        log_probs: list[float],
        tally: ScoreTally,
    ) -> PairScore:
        """Count a pair, and return its score."""
        total, unread, cut = math.fsum(log_probs), any(map(_unread, sources)), _unread(target)
        tokens = tuple(map(self._target.vocabulary.token, target[: len(log_probs)]))
        tally.pairs += 1
        tally.unread += unread
        tally.cut += cut
        tally.no_source += len(sources[0]) == 1 < len(target)
        tally.no_target += len(target) == 1 < len(sources[0])
        if not math.isfinite(total):
            tally.failed += 1
        elif log_probs:
            text = pair[1] if isinstance(pair[1], str) else self._target.decode(target)
            tally.log_prob += total
            tally.tokens += len(tokens)
            tally.words += len(text.split()) + 1
        return PairScore(total, tuple(log_probs), tokens, len(tokens), unread or cut)


def checked_ids(token_ids: Sequence[int], number: int, size: int) -> list[int]:
    """Return given ids without EOS at their end, if a target can have them.

    Args:
        token_ids: of a target.
        number: of the target, for the error.
        size: of the vocabulary.

    Raises:
        DataError: naming the number and the first id that no target has.
    """
    ids = list(token_ids)
    ids = ids[:-1] if ids[-1:] == [EOS_ID] else ids
    for token_id in ids:
        if type(token_id) is not int or not 0 <= token_id < size or token_id in (PAD_ID, BOS_ID, EOS_ID):
            raise DataError(
                f"the ids of target {number} must be 0 to {size - 1}, and none that of {PAD}, {BOS}, or {EOS} "
                f"before the end, got {token_id!r}: give those of this model's vocabulary"
            )
    return ids


def _unread(ids: list[int]) -> bool:
    """Whether ids, EOS behind them, are more than are read."""
    return len(ids) > MAX_SOURCE_LENGTH + 1
