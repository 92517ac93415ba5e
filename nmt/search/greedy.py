"""Greedy search: the most probable token at each step."""

from collections.abc import Collection, Sequence

from keras import ops

from nmt.backend.functions import gather_beams
from nmt.search.loop import IMPOSSIBLE, Finished, Rows, SearchResult, follow_rules, penalty, scores_by_rules, search
from nmt.search.step import Limits, MemoryStep, Rule, Settings, SpecialIds, StepFunction
from nmt.types import Memory, State, Tensor


def greedy_search(
    step: StepFunction | MemoryStep,
    state: State,
    *,
    batch_size: int | Tensor,
    bos_id: int,
    eos_id: int,
    pad_id: int = 0,
    banned_ids: Collection[int] = (),
    max_length: int | Tensor,
    min_length: int | Tensor = 0,
    length_penalty: float = 1.0,
    memory: Memory | None = None,
    rules: Sequence[Rule] = (),
) -> SearchResult:
    """Follows the most probable allowed token from step to step: `beam_search` with a beam of one, but cheaper.

    Works eagerly and inside a `tf.function`, there with any dimension of the batch unknown. What is unknown there
    cannot be checked: then see to it that state, memory and logits have as many rows as `batch_size` says.

    Args:
        step: Maps the newest token ids (B, 1) int32 and the state to logits (B, 1, V), V static, and the next state.
        state: A nest of tensors whose leaves begin with (B, 1) and may grow along any later axis.
        batch_size: B.
        bos_id: The token that every hypothesis begins with; never generated.
        eos_id: The token that ends a hypothesis.
        pad_id: Fills a result after EOS; never generated.
        banned_ids: More tokens that are never generated; they keep their share of probability.
        max_length: The greatest length, an int or (B,) int32. EOS counts, BOS does not. At this length EOS is forced
            and costs its real log probability.
        min_length: The least length, likewise. Below it EOS is banned, after normalisation.
        length_penalty: The exponent of the penalty in `scores`; it changes nothing else here.
        memory: As in `beam_search`: the third argument of the step, and sentences that are done leave the batch.
        rules: As in `beam_search`.

    Returns:
        The one hypothesis of every sentence, N = 1.

    Raises:
        ValueError: As in `beam_search`.
    """
    settings = Settings(SpecialIds(pad_id, bos_id, eos_id, tuple(banned_ids)), 1, 1, length_penalty, rules=tuple(rules))
    limits = Limits(min_length, max_length)
    return search(step, state, memory, batch_size, limits, settings, token_rows=1, extend=extend_rows)


def extend_rows(rows: Rows, length: Tensor, step: MemoryStep, settings: Settings) -> Rows:
    """Extends every live hypothesis to `length` tokens; its row of token ids stays its own when it ends."""
    logits, state = step(rows.last_ids, rows.state, rows.memory)
    logits = ops.cast(logits, "float32")
    scores = scores_by_rules(rows, logits, length, settings)
    logits = (logits if scores is None else scores)[:, 0]  # of the only beam
    next_ids, token_log_probs = best_token(logits, length, rows.limits, settings)
    if scores is None:
        token_log_probs = token_log_probs - ops.logsumexp(logits, axis=-1, keepdims=True)

    # What ends now takes its log probability along; what ended before writes PAD.
    live = rows.log_probs > IMPOSSIBLE  # (b, 1)
    log_probs = rows.log_probs + token_log_probs
    log_probs = ops.where(ops.isnan(log_probs), IMPOSSIBLE, log_probs)
    ends = live & (next_ids == settings.special.eos)
    final = ops.where(ends, log_probs, rows.finished.log_probs)
    lengths = ops.where(ends, length, rows.finished.lengths)
    written_ids = ops.where(live, next_ids, settings.special.pad)
    return rows._replace(
        last_ids=next_ids,
        log_probs=ops.where(ends, IMPOSSIBLE, log_probs),
        token_ids=ops.concatenate([rows.token_ids, written_ids[:, :, None]], axis=2),
        finished=Finished(final / penalty(lengths, settings.length_penalty), final, lengths),
        state=state,
        rule_states=follow_rules(settings, rows.rule_states, next_ids),
    )


def best_token(logits: Tensor, length: Tensor, limits: Limits, settings: Settings) -> tuple[Tensor, Tensor]:
    """The most probable allowed token of every sentence.

    Args:
        logits: (B, V) float32, or what rules make of the log probabilities.
        length: () int32, of the hypothesis with this token.
        limits: (b,) each.
        settings: The bans.

    Returns:
        Its id (B, 1) int32 and its logit (B, 1).
    """
    special, vocabulary_size = settings.special, logits.shape[-1]
    # The best of what neither ends a hypothesis nor is banned.
    no_others = special.never | {special.eos}
    never = [IMPOSSIBLE if token_id in no_others else 0.0 for token_id in range(vocabulary_size)]
    others = logits + ops.convert_to_tensor(never, dtype="float32")
    other_ids = ops.cast(ops.argmax(others, axis=-1, keepdims=True), "int32")
    other = gather_beams(others, other_ids)  # (B, 1)

    # EOS against that, unless its turn is now or has not come.
    end = logits[:, special.eos, None]  # (B, 1)
    forced = (length >= limits.max_length)[:, None]
    too_short = (length < limits.min_length)[:, None]
    ends = forced | ((end > other) & ~too_short)
    next_ids = ops.where(ends, special.eos, other_ids)
    return next_ids, ops.where(ends, end, other)
