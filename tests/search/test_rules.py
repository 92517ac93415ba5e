"""Rules of the tests' own, against brute force with the same rule written in Python."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from nmt.backend.functions import Spec, compile_function
from nmt.search import Rule, beam_search, greedy_search

V, WIDE = 6, 41
LIMITS = {"min_length": 1, "max_length": 4, "length_penalty": 0.6}


class NeverTwice(Rule):
    """Each token once; what a hypothesis holds is its state."""

    def initial_state(self, batch_size, beam_size):
        return {"held": ops.zeros((batch_size, beam_size, V), dtype="bool")}

    def lower(self, scores, view):
        assert view.token_ids is None
        return ops.where(view.state["held"], -np.inf, scores)

    def follow(self, state, token_ids):
        return {"held": state["held"] | (ops.one_hot(token_ids, V) > 0)}


class NotAgain(Rule):
    """No token right after itself; the token before it reads in the tokens so far."""

    needs_tokens = True

    def lower(self, scores, view):
        padded = ops.concatenate([ops.full_like(scores[:, :, :1], -1, dtype="int32"), view.token_ids], axis=2)
        return ops.where(ops.one_hot(padded[:, :, -1], V) > 0, -np.inf, scores)


class Prefix(Rule):
    """The first tokens of each sentence are given, (B, P): they stand in the state, as sentences leave the batch."""

    def __init__(self, token_ids):
        self.token_ids = np.array(token_ids, "int32")

    def initial_state(self, batch_size, beam_size):
        return ops.tile(self.token_ids[:, None, :], (1, beam_size, 1))  # (B, K, P)

    def lower(self, scores, view):
        given = view.state[:, :, :1] == ops.arange(V)  # (B, K, V)
        return ops.where(given | (view.state[:, :, :1] < 0), scores, -np.inf)

    def follow(self, state, token_ids):
        return ops.concatenate([state[:, :, 1:], ops.full_like(state[:, :, :1], -1)], axis=2)


class Bonus(Rule):
    """Raises the score of every token by 1: no bound of the scores holds."""

    only_lowers = False

    def lower(self, scores, view):
        return scores + 1.0


class Draw(Rule):
    """Draws one token and takes the others away, by numbers that follow from the length."""

    def lower(self, scores, view):
        noise = ops.sin(ops.cast(view.length, "float32") * 7.0 + 3.0 * ops.arange(V, dtype="float32")) * 5.0
        raw = view.logits - view.log_normalizers
        drawn = ops.argmax(ops.where(scores > -np.inf, raw + noise, -np.inf)[:, :, 3:], axis=-1) + 3
        return ops.where((ops.one_hot(drawn, V) > 0) | (ops.arange(V) == 2), scores, -np.inf)


def never_twice(ids):
    return len(set(ids)) == len(ids)


def not_again(ids):
    return all(one != other for one, other in pairwise(ids))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**20))
@pytest.mark.parametrize(
    ("rules", "allows"),
    [
        ([NeverTwice()], never_twice),
        ([NotAgain()], not_again),
        ([NotAgain(), Prefix([[3, 4], [5, -1]])], None),
    ],
)
def test_a_wide_beam_finds_every_hypothesis_that_rules_allow(toy, seed, rules, allows):
    model = toy.HistoryModel(seed, batch_size=2)
    result = beam_search(model.step, model.state(WIDE), batch_size=2, beam_size=WIDE, rules=rules, **LIMITS, **toy.IDS)
    for sentence in range(2):
        expected = toy.brute_force(model, sentence, **LIMITS)
        prefix = [(3, 4), (5,)][sentence]
        allow = allows or (lambda ids, prefix=prefix: not_again(ids) and ids[: len(prefix)] == prefix)
        toy.assert_same(toy.hypotheses(result, sentence), [found for found in expected if allow(found[2])])


@pytest.mark.parametrize("length_penalty", [0.0, 2.0])
def test_a_rule_that_raises_scores_turns_the_exact_stop_off(toy, length_penalty):
    """Longer is better by 1 a token, so that a search which stops by the bound would miss the best."""
    model = toy.HistoryModel(3, batch_size=2, scale=0.3)
    limits = {"min_length": 1, "max_length": 4, "length_penalty": length_penalty}
    options = {"batch_size": 2, "beam_size": WIDE, "num_hypotheses": 1, **limits, **toy.IDS}
    result = beam_search(model.step, model.state(WIDE), rules=[Bonus()], **options)
    for sentence in range(2):
        raised = [
            ((log_prob + len(ids)) / len(ids) ** length_penalty, log_prob + len(ids), ids)
            for _, log_prob, ids in toy.brute_force(model, sentence, **limits)
        ]
        toy.assert_same(toy.hypotheses(result, sentence), [max(raised)])


def without(scores, token_ids):
    """The scores of all tokens but these."""
    return np.where(np.isin(np.arange(V), token_ids), -np.inf, scores)


def drawn(scores, ids):
    """What `NotAgain` and `Draw` leave."""
    noisy = without(scores + np.sin((len(ids) + 1) * 7.0 + 3.0 * np.arange(V)) * 5.0, ids[-1:])
    return without(scores, [token_id for token_id in range(3, V) if token_id != 3 + np.argmax(noisy[3:])])


@pytest.mark.parametrize(
    ("rules", "lower"),
    [
        ([], lambda scores, ids, sentence: scores),
        ([NeverTwice()], lambda scores, ids, sentence: without(scores, ids)),
        ([NotAgain(), Draw()], lambda scores, ids, sentence: drawn(scores, ids)),
        (
            [Prefix([[3], [5], [4]])],
            lambda scores, ids, sentence: scores if ids else without(scores, [*{*range(V)} - {[3, 5, 4][sentence]}]),
        ),
    ],
)
def test_greedy_search_under_rules_is_what_it_is_in_numpy(toy, rules, lower):
    model, longest = toy.HistoryModel(8, batch_size=3), [9, 2, 5]
    result = greedy_search(
        model.step, model.state(1), batch_size=3, max_length=np.array(longest), rules=rules, **toy.IDS
    )
    for sentence, length in enumerate(longest):
        asked = {"min_length": 0, "max_length": length, "length_penalty": 1.0}
        expected = toy.plain_greedy(
            model, sentence, lower=lambda scores, ids, at=sentence: lower(scores, ids, at), **asked
        )
        toy.assert_same(toy.hypotheses(result, sentence), expected)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_is_drawn_costs_its_real_log_probability(toy, beam_size):
    model = toy.HistoryModel(8, batch_size=2)
    plain = beam_search(model.step, model.state(beam_size), batch_size=2, beam_size=beam_size, max_length=6, **toy.IDS)
    drawn = beam_search(
        model.step, model.state(beam_size), batch_size=2, beam_size=beam_size, max_length=6, rules=[Draw()], **toy.IDS
    )
    assert not np.array_equal(toy.numpy_fields(plain)[1], toy.numpy_fields(drawn)[1])
    for sentence in range(2):
        for score, log_prob, ids in toy.hypotheses(drawn, sentence):
            np.testing.assert_allclose([log_prob, score], model.score(sentence, ids, 1.0), rtol=2e-5)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_sentences_that_leave_take_the_state_of_the_rules_with_them(toy, beam_size):
    model = toy.HistoryModel(5, batch_size=7)
    rules = [NeverTwice(), NotAgain(), Prefix([[3], [4], [5], [3], [4], [5], [3]])]
    options = dict(batch_size=7, max_length=np.arange(1, 8), beam_size=beam_size, rules=rules, **toy.IDS)

    def step(token_ids, state, memory):
        code = toy.advance(state["code"], token_ids)
        return toy.look_up(memory, code), {"code": code}

    stay = beam_search(model.step, model.state(beam_size), **options)
    leave = beam_search(step, model.state(beam_size), memory=ops.convert_to_tensor(model.table), **options)
    for mine, theirs in zip(toy.numpy_fields(leave), toy.numpy_fields(stay), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def test_what_is_no_rule_is_refused(toy):
    model = toy.HistoryModel(1, batch_size=2)
    with pytest.raises(ValueError, match="each of the rules must be a Rule, got 'no-repeat'"):
        greedy_search(model.step, model.state(1), batch_size=2, max_length=3, rules=["no-repeat"], **toy.IDS)


def test_rules_in_a_graph_with_any_number_of_sentences(toy):
    rules = [NeverTwice(), NotAgain()]

    def search(table):
        state, size = {"code": ops.zeros((ops.shape(table)[0], 3), dtype="int32")}, ops.shape(table)[0]

        def step(token_ids, state, memory):
            code = toy.advance(state["code"], token_ids)
            return toy.look_up(memory, code), {"code": code}

        return beam_search(
            step, state, memory=table, batch_size=size, beam_size=3, rules=rules, max_length=5, **toy.IDS
        )

    compiled = compile_function(search, [Spec((None, toy.NUM_CODES, V), "float32")])
    for batch_size in (1, 4):
        table = ops.convert_to_tensor(toy.HistoryModel(batch_size, batch_size).table)
        for mine, theirs in zip(toy.numpy_fields(compiled(table)), toy.numpy_fields(search(table)), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5)
