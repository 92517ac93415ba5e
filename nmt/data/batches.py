"""Batches of token ids: an endless stream with a cursor for training, and a list in length order for validation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from nmt.data.batch_plan import BatchPlan, check_fits, plan_epoch, plan_in_length_order
from nmt.data.sequences import Sequences, TokenSequences
from nmt.data.store import TokenStore
from nmt.data.subword_sampling import SampledSequences
from nmt.errors import DataError
from nmt.text.pair import TextPair
from nmt.text.segmentations import Segmentations
from nmt.text.vocabulary import BOS_ID, EOS_ID
from nmt.types import PAD_ID


class Batch(NamedTuple):
    """Token ids of B pairs, int32, PAD behind each sequence.

    Attributes:
        source_ids: (B, S), closed by EOS.
        target_input_ids: (B, T), BOS and the target without its EOS: what the decoder reads.
        target_output_ids: (B, T), the target closed by EOS: what the decoder is to write.
    """

    source_ids: np.ndarray
    target_input_ids: np.ndarray
    target_output_ids: np.ndarray


class Cursor(NamedTuple):
    """A place in the endless stream: the next batch to be drawn.

    Attributes:
        epoch: which pass through the corpus, from 0.
        batch: which batch of that pass, from 0.
    """

    epoch: int
    batch: int


class EvaluationBatch(NamedTuple):
    """A batch that knows where its pairs stood.

    Attributes:
        indices: (B,) the place of each pair in the corpus, from 0.
        batch: the token ids.
    """

    indices: np.ndarray
    batch: Batch


class BatchStream:
    """Batches of a training corpus, epoch after epoch, without end.

    Each epoch holds every pair once, in other batches and in another order than the last; seed and epoch decide both.
    So a stream that is sent to a cursor goes on exactly as the one that reported it.

    Args:
        store: the N pairs.
        batch_tokens: no batch holds more padded tokens of its longer side: B * max(S, T) <= batch_tokens.
        seed: 0 or more.
        segmentations: of the pieces of source and target, to cut words in another way in each epoch; None leaves them
            as they are in the store.

    Raises:
        ConfigError: a pair alone is longer than `batch_tokens`.
    """

    def __init__(
        self,
        store: TokenStore,
        *,
        batch_tokens: int,
        seed: int,
        segmentations: tuple[Segmentations, Segmentations] | None = None,
    ) -> None:
        self._store = store
        self._batch_tokens = batch_tokens
        self._seed = seed
        self._sampled: list[SampledSequences] | None = None
        check_fits(store.source_lengths, store.target_lengths, batch_tokens=batch_tokens)
        if segmentations is not None:
            sides = zip((store.source, store.target), segmentations, strict=True)
            self._sampled = [SampledSequences(*side, seed=(seed, number)) for number, side in enumerate(sides)]
        self._cursor = Cursor(epoch=0, batch=0)
        self._plans: dict[int, BatchPlan] = {}

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        """The batch at the cursor; the cursor moves to the next one."""
        epoch, number = self._cursor
        plan = self._plan_of(epoch)
        batch = self._batch(epoch, plan[number])
        self._cursor = Cursor(epoch, number + 1) if number + 1 < len(plan) else Cursor(epoch + 1, 0)
        return batch

    @property
    def cursor(self) -> Cursor:
        """The next batch to be drawn."""
        return self._cursor

    def seek(self, cursor: Cursor) -> None:
        """Go to a place of the stream.

        Raises:
            DataError: there is no such batch; the corpus or the batch size is not that of the cursor.
        """
        cursor = Cursor(*cursor)
        size = self.batches_in_epoch(cursor.epoch) if cursor.epoch >= 0 else 0
        if not 0 <= cursor.batch < size:
            raise DataError(
                f"the stored place in the training data must be one of the {size} batches of epoch {cursor.epoch}, "
                f"got batch {cursor.batch}: the corpus or batch_tokens must have changed"
            )
        self._cursor = cursor

    def batches_in_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch; epochs differ by a few."""
        return len(self._plan_of(epoch))

    def _batch(self, epoch: int, indices: np.ndarray) -> Batch:
        """The pairs of a batch as they are stored, or as they are cut in this epoch."""
        if self._sampled is None:
            return assemble(self._store.source, self._store.target, indices)
        source, target = (side.draw(indices, epoch=epoch) for side in self._sampled)
        return assemble(source, target, np.arange(len(indices)))

    def _lengths(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each source and each target in an epoch, (N,) each."""
        if self._sampled is None:
            return self._store.source_lengths, self._store.target_lengths
        source, target = (side.lengths(epoch) for side in self._sampled)
        return source, target

    def _plan_of(self, epoch: int) -> BatchPlan:
        """The plan of an epoch; the last two are kept, because a prefetcher runs ahead into the next epoch."""
        plans = self._plans
        if epoch not in plans:
            # A new dictionary, not a changed one: a prefetcher's thread may be reading the old one. What is dropped is
            # dropped before the new plan is made, which takes much memory.
            plans = self._plans = dict(list(plans.items())[-1:])
            lengths = self._lengths(epoch)
            plan = plan_epoch(*lengths, batch_tokens=self._batch_tokens, seed=self._seed, epoch=epoch)
            plans = self._plans = {**plans, epoch: plan}
        return plans[epoch]


def evaluation_batches(pairs: Iterable[tuple[str, str]], *, text: TextPair, batch_tokens: int) -> list[EvaluationBatch]:
    """All pairs of a validation or test corpus as batches, none dropped, short ones first.

    An empty line is a sequence of EOS alone. A pair longer than `batch_tokens` is a batch of its own.

    Args:
        pairs: lines of both sides, as `read_pairs` gives them.
        text: the tokenizers.
        batch_tokens: padded tokens of the longer side in one batch.
    """
    source_lines, target_lines = [], []
    for source_line, target_line in pairs:
        source_lines.append(source_line)
        target_lines.append(target_line)
    if not source_lines:
        return []
    source = TokenSequences.from_lists([[*ids, EOS_ID] for ids in text.source.encode_batch(source_lines)])
    target = TokenSequences.from_lists([[*ids, EOS_ID] for ids in text.target.encode_batch(target_lines)])
    plan = plan_in_length_order(source.lengths, target.lengths, batch_tokens=batch_tokens)
    return [EvaluationBatch(plan[i], assemble(source, target, plan[i])) for i in range(len(plan))]


def assemble(source: Sequences, target: Sequences, indices: np.ndarray) -> Batch:
    """Some pairs as a batch.

    Args:
        source: sequences closed by EOS.
        target: sequences closed by EOS.
        indices: (B,) which pairs.
    """
    source_ids, _ = source.padded(indices)
    target_output_ids, target_mask = target.padded(indices)
    target_input_ids = np.empty_like(target_output_ids)
    target_input_ids[:, 0] = BOS_ID
    target_input_ids[:, 1:] = target_output_ids[:, :-1]
    target_input_ids[~target_mask] = PAD_ID  # the EOS of shorter targets, moved one place to the right
    return Batch(source_ids, target_input_ids, target_output_ids)
