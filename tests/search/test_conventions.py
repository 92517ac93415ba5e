"""Conventions of other toolkits on the tables of their own public tests, and what a search says of each hypothesis."""

import numpy as np
import pytest
from keras import ops

from nmt.search import beam_search
from nmt.search.groups import DiverseGroups, merge_groups

EOS, UNK, W1, W2 = 2, 3, 4, 5
FAIRSEQ = {"bos_id": 0, "pad_id": 1, "eos_id": EOS, "batch_size": 2, "beam_size": 2, "stops_at_first": True}
"""As fairseq searches: `SequenceGenerator` ends with the first K hypotheses, and divides by a power of the length."""

PROBABILITIES = [  # step, sentence, beam: of EOS, UNK, W1, W2; fairseq's tests/utils.py, `sequence_generator_setup`
    [[[0.0, 0.0, 0.9, 0.1]] * 2, [[0.0, 0.0, 0.7, 0.3]] * 2],
    [[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.9, 0.1]], [[0.25, 0.0, 0.35, 0.4], [0.0, 0.0, 0.10, 0.9]]],
    [[[0.0, 0.0, 0.1, 0.9], [0.6, 0.0, 0.2, 0.2]], [[0.60, 0.0, 0.4, 0.0], [0.01, 0.0, 0.0, 0.99]]],
    [[[1.0, 0.0, 0.0, 0.0]] * 2, [[0.1, 0.0, 0.5, 0.4], [1.0, 0.0, 0.0, 0.0]]],
    [[[1.0, 0.0, 0.0, 0.0]] * 2] * 2,
]


def table_step(probabilities):
    """Logits by step, sentence and place in the beam, whatever was written; all sentences must stay in the batch."""
    rows = np.array(probabilities)
    with np.errstate(divide="ignore"):
        logits = np.log(np.concatenate([np.zeros((*rows.shape[:3], 2)), rows], axis=3)).astype("float32")

    def step(token_ids, state):
        return ops.take(logits, ops.minimum(state[0, 0], len(logits) - 1), axis=0), state + 1

    return step


def found_in(result):
    """(token ids, log probability of each token, score) of each hypothesis of each sentence."""
    lengths, ids, by_token, scores = (
        np.asarray(each) for each in (result.lengths, result.token_ids, result.token_scores, result.scores)
    )
    return [
        [(ids[b, n, :length].tolist(), by_token[b, n, :length], scores[b, n]) for n, length in enumerate(each)]
        for b, each in enumerate(lengths)
    ]


def searched(probabilities, **options):
    arguments = {**FAIRSEQ, "max_length": 10, "length_penalty": 1.0, "length_penalty_offset": 0.0, **options}
    state = ops.zeros((arguments["batch_size"], arguments["beam_size"]), dtype="int32")
    return beam_search(table_step(probabilities), state, with_token_scores=True, **arguments)


A, B = ([W1, EOS], [0.9, 1.0]), ([W2, W1, W2, EOS], [0.1, 0.9, 0.9, 1.0])
C, D = ([W1, W2, W1, EOS], [0.7, 0.4, 0.4, 1.0]), ([W1, W2, EOS], [0.7, 0.4, 0.6])
SHORT = ([W2, W2, EOS], [0.1, 0.1, 0.6]), ([W2, W2, EOS], [0.3, 0.9, 0.01])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[A, B], [C, D]]),  # test_with_normalization
        ({"length_penalty": 0.0}, [[A, B], [D, C]]),  # test_without_normalization
        ({"length_penalty": 0.6}, [[A, B], [D, C]]),  # test_with_lenpen_favoring_short_hypos
        ({"length_penalty": 5.0}, [[B, A], [C, D]]),  # test_with_lenpen_favoring_long_hypos
        ({"max_length": 3}, [[A, SHORT[0]], [D, SHORT[1]]]),  # test_maxlen, whose two tokens go without EOS
    ],
)
def test_the_expected_hypotheses_of_fairseq(options, expected):
    found = found_in(searched(PROBABILITIES, **options))
    power = options.get("length_penalty", 1.0)
    for sentence, hypotheses in zip(found, expected, strict=True):
        for (ids, by_token, score), (tokens, probabilities) in zip(sentence, hypotheses, strict=True):
            assert ids == tokens
            np.testing.assert_allclose(by_token, np.log(probabilities), atol=1e-5)
            assert score == pytest.approx(np.log(probabilities).sum() / len(tokens) ** power, abs=1e-5)


DIVERSE = [  # fairseq's TestDiverseBeamSearch
    [[[0.0, 0.0, 0.9, 0.1]] * 2, [[0.0, 0.0, 0.7, 0.3]] * 2],
    [[[0.0, 0.0, 0.6, 0.4]] * 2, [[0.25, 0.0, 0.35, 0.4]] * 2],
    [[[1.0, 0.0, 0.0, 0.0]] * 2, [[0.9, 0.0, 0.1, 0.0]] * 2],
]


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0.0, [[([W1, W1, EOS], [0.9, 0.6, 1.0])] * 2, [([W1, W2, EOS], [0.7, 0.4, 0.9])] * 2]),  # fairseq's
        # Worked out by hand: W1 costs the second group 1.0 at the first step, and W2 is worth it in sentence 2 only.
        (1.0, [
            [([W1, W1, EOS], [0.9, 0.6, 1.0]), ([W1, W2, EOS], [0.9, 0.4, 1.0])],
            [([W1, W2, EOS], [0.7, 0.4, 0.9]), ([W2, W1, EOS], [0.3, 0.35, 0.9])],
        ]),
    ],
)  # fmt: skip
def test_groups_of_one_beam_each_avoid_each_other(strength, expected):
    groups = DiverseGroups(2, strength, 4, EOS)
    by_row = [[[beam] for sentence in step for beam in sentence] for step in DIVERSE]
    options = {"batch_size": 4, "beam_size": 1, "rules": [groups], "choose": groups.choose}
    found = found_in(merge_groups(searched(by_row, **options), 2))
    for sentence, hypotheses in zip(found, expected, strict=True):
        assert [ids for ids, _, _ in sentence] == [tokens for tokens, _ in hypotheses]
        for (_, by_token, _), (_, probabilities) in zip(sentence, hypotheses, strict=True):
            np.testing.assert_allclose(by_token, np.log(probabilities), atol=1e-5)


def test_groups_cost_by_all_that_they_share():
    """Against the same search in plain Python, groups of two beams, over three steps without an end."""
    generator = np.random.default_rng(4)
    table = generator.normal(size=(3, 6, 9)).astype("float32")  # step, token before, token
    num_groups, width, strength = 3, 2, 0.7
    log_probs = table - np.log(np.exp(table).sum(axis=2, keepdims=True))

    def by_hand():
        groups = [[(0.0, 0.0, ())] for _ in range(num_groups)]  # log probability, cost, tokens
        for place in range(3):
            taken = []
            for g, group in enumerate(groups):
                options = []
                for log_prob, cost, ids in group:
                    for token in range(3, 9):
                        shared = strength * taken.count(token)
                        before = ids[-1] % 6 if ids else 0
                        options.append((log_prob + log_probs[place, before, token], cost + shared, (*ids, token)))
                groups[g] = sorted(options, key=lambda o: o[1] - o[0])[:width]
                taken += [ids[-1] for _, _, ids in groups[g]]
        return [sorted(group, key=lambda o: -o[0]) for group in groups]

    groups = DiverseGroups(num_groups, strength, num_groups, EOS)
    result = beam_search(
        lambda ids, state: (ops.where(ops.arange(9) == EOS, -np.inf, ops.take(
            ops.reshape(table, (18, 9)), ops.minimum(state, 2) * 6 + ids % 6, axis=0)), state + 1),
        ops.zeros((num_groups, width), dtype="int32"), batch_size=num_groups, beam_size=width, bos_id=0, pad_id=1,
        eos_id=EOS, max_length=4, length_penalty=0.0, rules=[groups], choose=groups.choose,
    )  # fmt: skip
    assert not np.asarray(result.finished).any()
    for g, group in enumerate(by_hand()):
        assert [tuple(ids[:3]) for ids in np.asarray(result.token_ids)[g].tolist()] == [ids for _, _, ids in group]


def test_t5x_edge_potentials_find_both_best_paths():
    """`test_beam_search` of T5X's decoding_test.py: a Markov chain over A and B whose two best paths tie."""
    same, other = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([[-1.0, 1.0], [1.0, -1.0]])
    potentials = np.full((7, 5, 5), -np.inf, "float32")  # PAD, A, B, START, END
    potentials[0, :, 3] = 0.0
    potentials[1, 3, 1:3] = 0.0
    for step, edges in enumerate((same, other, same, other)):
        potentials[2 + step, 1:3, 1:3] = edges
    potentials[6, 1:3, 4] = 0.0
    result = beam_search(
        lambda ids, state: (
            ops.take(ops.reshape(potentials, (35, 5)), ops.minimum(state, 6) * 5 + ids * ops.cast(state > 0, "int32"),
                     axis=0), state + 1),
        ops.zeros((2, 2), dtype="int32"), batch_size=2, beam_size=2, bos_id=0, pad_id=0, eos_id=4, max_length=7,
        length_penalty=0.0,
    )  # fmt: skip
    paths = {tuple(ids) for ids in np.asarray(result.token_ids)[0].tolist()}
    assert paths == {(3, 1, 1, 2, 2, 1, 4), (3, 2, 2, 1, 1, 2, 4)}
    assert np.ptp(np.asarray(result.scores)[0]) < 1e-6


@pytest.mark.parametrize("beam_size", [1, 2])
def test_what_cannot_end_is_returned_unfinished(beam_size):
    """As in T5X's `test_beam_search_force_decode_no_prefix`: EOS has no probability, there is room for five tokens."""
    rows = np.array([[-np.inf, -np.inf, -0.1, -0.9], [-np.inf, -np.inf, -0.9, -0.1]], "float32")
    logits = np.repeat(rows[:, None], beam_size, axis=1)
    result = beam_search(
        lambda ids, state: (ops.take(logits, state[:, 0], axis=0), state),
        np.array([[0] * beam_size, [1] * beam_size], "int32"), batch_size=2, beam_size=beam_size, bos_id=0, pad_id=0,
        eos_id=1, max_length=6, with_token_scores=True,
    )  # fmt: skip
    log_probs = rows[0, 2:] - np.log(np.exp(rows[0, 2:]).sum())
    ids, by_token = np.asarray(result.token_ids), np.asarray(result.token_scores)
    assert not np.asarray(result.finished).any()
    assert np.asarray(result.lengths).tolist() == [[5] * beam_size] * 2
    assert ids[:, 0].tolist() == [[2] * 5 + [0], [3] * 5 + [0]]
    np.testing.assert_allclose(by_token[:, 0, :5], log_probs[0], atol=1e-5)
    np.testing.assert_allclose(np.asarray(result.log_probs)[:, 0], 5 * log_probs[0], atol=1e-5)
    if beam_size == 2:
        assert np.asarray(result.log_probs)[0, 1] == pytest.approx(4 * log_probs[0] + log_probs[1], abs=1e-5)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_scores_of_tokens_add_up_and_change_nothing(toy, beam_size):
    model = toy.HistoryModel(11, batch_size=3)
    options = {"batch_size": 3, "beam_size": beam_size, "max_length": 6, "length_penalty": 0.8, **toy.IDS}
    plain = beam_search(model.step, model.state(beam_size), **options)
    told = beam_search(model.step, model.state(beam_size), with_token_scores=True, **options)
    assert plain.token_scores is None
    np.testing.assert_array_equal(plain.token_ids, told.token_ids)
    np.testing.assert_array_equal(plain.scores, told.scores)
    for sentence, hypotheses in enumerate(found_in(told)):
        for ids, by_token, _ in hypotheses:
            expected = [model.log_probs(sentence, tuple(ids[:t]))[ids[t]] for t in range(len(ids))]
            np.testing.assert_allclose(by_token, expected, atol=2e-5)
    assert (
        np.asarray(told.token_scores)[np.asarray(told.token_ids) == toy.PAD].tolist().count(0.0)
        == (np.asarray(told.token_ids) == toy.PAD).sum()
    )


def test_what_is_added_to_scores_decides_among_those_that_end(toy):
    """A wide beam against brute force, with a penalty on the code that a hypothesis ends in."""
    model, options = toy.HistoryModel(5, batch_size=2), {"max_length": 4, "length_penalty": 1.0}

    def added(state):
        return -0.3 * ops.cast(state["code"] % 4, "float32")

    result = beam_search(
        model.step, model.state(41), batch_size=2, beam_size=41, add_to_score=added, **options, **toy.IDS
    )
    for sentence in range(2):
        expected = []
        for score, log_prob, ids in toy.brute_force(model, sentence, min_length=0, **options):
            code = 0
            for token_id in (toy.BOS, *ids[:-1]):
                code = toy.advance(code, token_id)
            expected.append((score - 0.3 * (code % 4), log_prob, ids))
        toy.assert_same(toy.hypotheses(result, sentence), sorted(expected, reverse=True))
