"""Draws follow the probabilities of the model, cut as asked; rules against repetition hold."""

import numpy as np
import pytest
import tensorflow as tf

from nmt.search import beam_search, greedy_search
from nmt.search.rules import NoRepeatedNgrams, RepetitionPenalty, Sampled, uniform_numbers

PAD, BOS, EOS, SIZE = 0, 2, 3, 7
CHAIN = np.random.default_rng(1).normal(size=(SIZE, SIZE)).astype("float32")
"""Logits of the next token by the one before: a Markov chain."""


def step(token_ids, state):
    return tf.gather(CHAIN, token_ids), state


def probabilities(token_id, banned=(PAD, BOS), temperature=1.0):
    row = CHAIN[token_id].astype("float64") / temperature
    row[list(banned)] = -np.inf
    return np.exp(row) / np.exp(row).sum()


def drawn(count, *, seed=7, max_length=5, **cutting):
    rule = Sampled(
        tf.constant(uniform_numbers(seed, [(line, 0, 0) for line in range(count)], max_length)),
        never=[PAD, BOS],
        eos_id=EOS,
        **cutting,
    )
    return greedy_search(
        step, (), batch_size=count, bos_id=BOS, eos_id=EOS, pad_id=PAD, max_length=max_length, rules=[rule]
    )


def assert_drawn_from(token_ids, expected):
    """Pearson's chi-squared test; 26 lies beyond 99.9 % of its values for up to 8 degrees of freedom."""
    counts = np.bincount(token_ids, minlength=SIZE)
    assert not counts[expected == 0].any()
    possible = expected > 0
    wanted = expected[possible] * len(token_ids)
    assert ((counts[possible] - wanted) ** 2 / wanted).sum() < 26


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_have_the_frequencies_of_the_chain(temperature):
    token_ids = drawn(20_000, temperature=temperature).token_ids.numpy()[:, 0]
    assert_drawn_from(token_ids[:, 0], probabilities(BOS, temperature=temperature))
    for before in range(SIZE):
        after = token_ids[:, 1][token_ids[:, 0] == before]
        if before not in (PAD, BOS, EOS) and len(after) > 500:
            assert_drawn_from(after, probabilities(before, temperature=temperature))


def at_least(least):
    expected = probabilities(BOS)
    expected[expected < least] = 0.0
    return expected / expected.sum()


def test_draws_are_cut_as_asked():
    best_first = np.sort(probabilities(BOS))[::-1][: SIZE - 2]  # PAD and BOS have none
    for top_k in (1, 2, 4):
        assert_drawn_from(drawn(5_000, top_k=top_k).token_ids.numpy()[:, 0, 0], at_least(best_first[top_k - 1]))
    for top_p in (0.2, 0.5, 0.8, 1.0):
        fewest = np.searchsorted(best_first.cumsum(), top_p - 1e-9)  # that have it together
        assert_drawn_from(drawn(5_000, top_p=top_p).token_ids.numpy()[:, 0, 0], at_least(best_first[fewest]))
    for epsilon in (0.0, 0.15, 0.9):
        least = min(epsilon, best_first[0])
        assert_drawn_from(drawn(5_000, epsilon=epsilon).token_ids.numpy()[:, 0, 0], at_least(least))


def test_scores_of_draws_are_those_of_the_model():
    result = drawn(50, temperature=2.0)
    for token_ids, log_prob, (length,) in zip(
        result.token_ids.numpy()[:, 0], result.log_probs.numpy()[:, 0], result.lengths.numpy(), strict=True
    ):
        before, total = BOS, 0.0
        for token_id in token_ids[:length]:
            total += np.log(probabilities(before, banned=()))[token_id]
            before = token_id
        assert log_prob == pytest.approx(total, abs=1e-4)
        assert token_ids[length - 1] == EOS


def test_a_draw_depends_on_seed_line_sample_part_and_step_alone():
    draws = [(line, sample, part) for line in range(5) for sample in range(3) for part in range(2)]
    numbers = uniform_numbers(3, draws, 8)
    np.testing.assert_array_equal(uniform_numbers(3, draws[7:9], 5), numbers[7:9, :5])
    assert len({*numbers.flatten()}) == numbers.size
    greatest = [uniform_numbers(2**64 - distance, draws, 8) for distance in (1, 2)]
    assert (greatest[0] != greatest[1]).all()
    assert (uniform_numbers(4, draws, 8) != numbers).all()
    assert numbers.min() >= 0
    assert numbers.max() < 1


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_run_of_tokens_comes_twice(beam_size, size):
    logits = CHAIN - 6.0 * (np.arange(SIZE) == EOS)

    def long_step(token_ids, state):
        return tf.gather(logits, token_ids), state

    given = {"batch_size": 2, "bos_id": BOS, "eos_id": EOS, "max_length": 15, "beam_size": beam_size}
    plain = beam_search(long_step, (), **given)
    found = beam_search(long_step, (), rules=[NoRepeatedNgrams(size)], **given)

    def runs(result):
        token_ids = result.token_ids.numpy()[0, 0][: int(result.lengths[0, 0]) - 1]
        return [tuple(token_ids[place : place + size]) for place in range(len(token_ids) - size + 1)]

    assert len({*runs(plain)}) < len(runs(plain))
    assert len({*runs(found)}) == len(runs(found))


def test_token_0_may_be_a_word():
    given = {"batch_size": 1, "bos_id": 1, "eos_id": EOS, "pad_id": 2, "max_length": 3}
    logits = tf.constant([9.0, 0.0, 0.0, 1.0, 8.0])
    found = greedy_search(
        lambda ids, state: (tf.broadcast_to(logits, (*ids.shape, 5)), state), (), rules=[NoRepeatedNgrams(1)], **given
    )
    assert found.token_ids.numpy().tolist() == [[[0, 4, EOS]]]


def test_a_token_is_less_probable_the_second_time():
    given = {"batch_size": 1, "bos_id": BOS, "eos_id": EOS, "max_length": 12}
    penalised = greedy_search(step, (), rules=[RepetitionPenalty(1.5, SIZE)], **given)
    before, seen = BOS, set()
    for token_id in penalised.token_ids.numpy()[0, 0][: int(penalised.lengths[0, 0]) - 1]:
        row = np.log(probabilities(before, banned=()))
        row[list(seen)] *= 1.5
        row[[PAD, BOS]] = -np.inf
        assert token_id == row.argmax()
        before, seen = token_id, seen | {int(token_id)}
