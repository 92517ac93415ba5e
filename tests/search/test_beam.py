"""Beam search against brute force and against a search that never stops early.

Examples are drawn from a fixed seed where an order is compared: float32 and float64 may order a near tie differently.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from nmt.search import beam_search
from nmt.search.beam import reorder_state

PENALTIES = st.sampled_from([0.0, 0.6, 1.0, 2.5])
SEEDS = st.integers(0, 2**20)
NAMES = ["<pad>", "<s>", "</s>", "a", "b", "c", "d"]


def search(toy, model, *, beam_size, step=None, state=None, **options):
    return beam_search(
        step or model.step,
        model.state(beam_size) if state is None else state,
        batch_size=model.batch_size,
        beam_size=beam_size,
        **toy.IDS,
        **options,
    )


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=SEEDS,
    length_penalty=PENALTIES,
    limits=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=4, max_size=4),
)
def test_wide_beam_finds_every_hypothesis_in_the_order_of_brute_force(toy, seed, length_penalty, limits):
    model = toy.HistoryModel(seed, batch_size=4)
    limits = [(min(pair), max(pair)) for pair in limits]
    min_length, max_length = (np.array(column, "int32") for column in zip(*limits, strict=True))
    result = search(
        toy, model, beam_size=41, min_length=min_length, max_length=max_length, length_penalty=length_penalty
    )
    for sentence, (minimum, maximum) in enumerate(limits):
        expected = toy.brute_force(
            model, sentence, min_length=minimum, max_length=maximum, length_penalty=length_penalty
        )
        toy.assert_same(toy.hypotheses(result, sentence), expected)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=SEEDS,
    beam_size=st.integers(2, 5),
    length_penalty=PENALTIES,
    min_length=st.integers(0, 3),
    scale=st.sampled_from([0.5, 2.0, 4.0]),
    data=st.data(),
)
def test_stopping_early_changes_nothing(toy, seed, beam_size, length_penalty, min_length, scale, data):
    """The stop test is exact: a search that goes on to `max_length` in any case finds the same."""
    max_lengths = data.draw(st.lists(st.integers(max(min_length, 1), 9), min_size=12, max_size=12))
    num_hypotheses = data.draw(st.integers(1, beam_size))
    model = toy.HistoryModel(seed, batch_size=12, scale=scale)
    result = search(
        toy,
        model,
        beam_size=beam_size,
        num_hypotheses=num_hypotheses,
        min_length=min_length,
        max_length=np.array(max_lengths, "int32"),
        length_penalty=length_penalty,
    )
    assert result.scores.shape == (12, num_hypotheses)
    for sentence, max_length in enumerate(max_lengths):
        expected = toy.patient_search(
            model,
            sentence,
            beam_size=beam_size,
            min_length=min_length,
            max_length=max_length,
            length_penalty=length_penalty,
        )
        toy.assert_same(toy.hypotheses(result, sentence), expected[:num_hypotheses])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=SEEDS, length_penalty=PENALTIES)
def test_a_wide_beam_finds_every_hypothesis_without_banned_tokens(toy, seed, length_penalty):
    model = toy.HistoryModel(seed, batch_size=2)
    limits = {"min_length": 1, "max_length": 4, "length_penalty": length_penalty}
    result = search(toy, model, beam_size=16, banned_ids=(4,), **limits)
    for sentence in range(2):
        expected = toy.brute_force(model, sentence, content=(3, 5), **limits)
        toy.assert_same(toy.hypotheses(result, sentence), expected)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=SEEDS,
    beam_size=st.integers(2, 4),
    length_penalty=PENALTIES,
    banned=st.sampled_from([(3,), (11, 5), (0, 3)]),
    vocabulary_size=st.sampled_from([12, 1024]),
)
def test_banned_tokens_take_no_candidate_from_the_beam(toy, seed, beam_size, length_penalty, banned, vocabulary_size):
    """All that may not be written is what the model likes best, so that K others lie behind it in every row."""
    model = toy.HistoryModel(seed, batch_size=4, vocabulary_size=vocabulary_size)
    model.table[..., [toy.PAD, toy.BOS, toy.EOS, *banned]] += 7.0
    model.table[..., 12:] -= 20.0
    limits = {"min_length": 3, "max_length": 6, "length_penalty": length_penalty}
    result = search(toy, model, beam_size=beam_size, banned_ids=banned, **limits)
    content = [token_id for token_id in range(3, 12) if token_id not in banned]
    for sentence in range(4):
        expected = toy.patient_search(model, sentence, beam_size=beam_size, content=content, **limits)
        toy.assert_same(toy.hypotheses(result, sentence), expected[:beam_size])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_hypothesis_that_could_only_go_on_with_a_banned_token_does_not_exist(toy, beam_size):
    logits = np.full((1, beam_size, 6), -np.inf, "float32")
    logits[..., 4] = 0.0
    options = dict(batch_size=1, max_length=4, banned_ids=(4,), **toy.IDS)
    step = lambda token_ids, state: (ops.convert_to_tensor(logits), state)  # noqa: E731
    assert toy.hypotheses(beam_search(step, (), beam_size=beam_size, **options), 0) == []
    logits[..., toy.EOS] = -50.0  # as good as never, but a hypothesis
    ((_, log_prob, ids),) = toy.hypotheses(beam_search(step, (), beam_size=beam_size, **options), 0)
    assert (ids, log_prob) == ((toy.EOS,), pytest.approx(-50.0))


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, length_penalty=PENALTIES, beam_size=st.integers(2, 4))
def test_scores_are_those_of_the_returned_ids_and_no_hypothesis_comes_twice(toy, seed, length_penalty, beam_size):
    model = toy.HistoryModel(seed, batch_size=6)
    result = search(toy, model, beam_size=beam_size, max_length=11, length_penalty=length_penalty)
    scores = toy.numpy_fields(result)[1]
    assert (np.diff(scores, axis=1) <= 0).all()
    for sentence in range(6):
        found = toy.hypotheses(result, sentence)
        assert len({ids for _, _, ids in found}) == beam_size
        for score, log_prob, ids in found:
            np.testing.assert_allclose([log_prob, score], model.score(sentence, ids, length_penalty), rtol=2e-5)


@pytest.mark.parametrize("beam_size", [1, 13])
def test_a_token_that_is_read_behind_bos_decides_and_is_no_part_of_what_is_found(toy, beam_size):
    model, first_ids = toy.HistoryModel(5, batch_size=4), [3, 5, 4, 3]
    result = search(toy, model, beam_size=beam_size, max_length=3, length_penalty=0.7, first_ids=np.array(first_ids))
    for sentence, first in enumerate(first_ids):
        paths = [(*words, 2) for count in range(3) for words in itertools.product(range(3, 6), repeat=count)]
        if beam_size == 1:
            best = []
            while best[-1:] != [2]:
                log_probs = model.log_probs(sentence, (first, *best))
                best.append(2 if len(best) == 2 else 2 + int(np.argmax(log_probs[2:])))
            paths = [tuple(best)]
        steps = [[model.log_probs(sentence, (first, *ids[:at]))[ids[at]] for at in range(len(ids))] for ids in paths]
        ranked = sorted(zip(steps, paths, strict=True), key=lambda each: -sum(each[0]) / len(each[1]) ** 0.7)
        expected = [(sum(scores) / len(ids) ** 0.7, sum(scores), ids) for scores, ids in ranked]
        toy.assert_same(toy.hypotheses(result, sentence), expected)


def markov_step(toy, *chains):
    """A first-order chain a sentence, without state, from {token: {next token: probability}}."""
    table = np.full((len(chains), len(NAMES), len(NAMES)), -np.inf, "float32")
    for sentence, chain in enumerate(chains):
        for token, following in chain.items():
            for other, probability in following.items():
                table[sentence, NAMES.index(token), NAMES.index(other)] = np.log(probability)
    return lambda token_ids, state: (toy.look_up(table, token_ids), state)


def markov_search(toy, chain, **options):
    result = beam_search(markov_step(toy, chain), (), batch_size=1, **toy.IDS, **options)
    return [(np.exp(log_prob), "".join(NAMES[i] for i in ids[:-1])) for _, log_prob, ids in toy.hypotheses(result, 0)]


def test_a_small_markov_chain_whose_best_paths_are_known(toy):
    chain = {
        "<s>": {"a": 0.6, "b": 0.4},
        "a": {"c": 0.55, "d": 0.45},
        "b": {"</s>": 1.0},
        "c": {"</s>": 1.0},
        "d": {"</s>": 1.0},
    }
    best = [(0.4, "b"), (0.33, "ac"), (0.27, "ad")]
    found = markov_search(toy, chain, max_length=5, beam_size=3, length_penalty=0.0)
    assert [path for _, path in found] == [path for _, path in best]
    np.testing.assert_allclose([p for p, _ in found], [p for p, _ in best], rtol=1e-5)
    # log .4 / (7/6)^2 = -.673, log .33 / (8/6)^2 = -.624, log .27 / (8/6)^2 = -.737
    found = markov_search(toy, chain, max_length=5, beam_size=3, length_penalty=2.0, length_penalty_offset=5.0)
    assert [path for _, path in found] == ["ac", "b", "ad"]
    # The most probable first token is the wrong one: a beam of one cannot know.
    found = markov_search(toy, chain, max_length=5, beam_size=1, length_penalty=0.0)
    assert [path for _, path in found] == ["ac"]


def test_a_later_longer_hypothesis_beats_a_full_set_of_finished_ones(toy):
    """Stopping once K hypotheses are finished, or once none live has a better score as it stands, loses it."""
    chain = {
        "<s>": {"a": 0.5, "</s>": 0.3, "b": 0.2},
        "b": {"</s>": 1.0},
        "a": {"c": 0.5, "</s>": 0.5},
        "c": {"d": 1.0},
        "d": {"d": 0.97, "</s>": 0.03},
    }
    found = markov_search(toy, chain, max_length=30, beam_size=2, length_penalty=1.0, length_penalty_offset=5.0)
    # log(.25·.97^27) / (35/6) = -.378; "a" has log .25 / (7/6) = -1.19; the empty one log .3 = -1.20.
    assert found[0][1] == "ac" + "d" * 27
    np.testing.assert_allclose(found[0][0], 0.25 * 0.97**26 * 0.03, rtol=1e-4)


@pytest.mark.parametrize("max_length", [8, 60, 200])
def test_a_sentence_stops_as_soon_as_nothing_live_can_win(toy, max_length):
    """Long before its limit, and the sooner the tighter that is."""
    chain = {
        "<s>": {"a": 0.9, "b": 0.1},
        "a": {"</s>": 0.8, "c": 0.2},
        "b": {"</s>": 1.0},
        "c": {"</s>": 0.6, "c": 0.4},
    }
    # Beside it a sentence with a loose limit that is done at once: each has its own bound.
    other = {"<s>": {"a": 0.9, "b": 0.1}, "a": {"</s>": 1.0}, "b": {"</s>": 1.0}}
    limits = np.array([max_length, 500], "int32")
    options = {"batch_size": 2, "max_length": limits, "beam_size": 2, "length_penalty_offset": 5.0}
    result = beam_search(markov_step(toy, chain, other), (), **options, **toy.IDS)
    # Found are "a", and "ac" with log .108 / (8/6) = -1.669; what lives after t steps, "acc…", has log .18·.4^(t-2).
    worst = np.log(0.9 * 0.2 * 0.6) / (8 / 6)
    steps = 2
    while np.log(0.18 * 0.4 ** (steps - 2)) / ((5 + max_length) / 6) > worst:
        steps += 1
    assert result.token_ids.shape == (2, 2, steps)
    assert steps < max_length / 2 + 2
    assert result.lengths.numpy().tolist() == [[2, 3], [2, 2]]


def test_a_batch_of_one_gives_what_a_batch_of_many_gives(toy):
    model = toy.HistoryModel(7, batch_size=5)
    model.table[..., toy.EOS] -= 2.0
    max_length = np.array([1, 4, 9, 2, 13], "int32")
    min_length = np.array([0, 3, 6, 2, 5], "int32")
    together = toy.numpy_fields(search(toy, model, beam_size=3, min_length=min_length, max_length=max_length))
    lengths = together[3]
    assert len(set(lengths[:, 0].tolist())) >= 4, "the sentences were meant to end at different steps"
    steps_alone = []
    for sentence in range(5):
        alone = search(
            toy,
            model.sentence(sentence),
            beam_size=3,
            min_length=int(min_length[sentence]),
            max_length=int(max_length[sentence]),
        )
        token_ids, *others = toy.numpy_fields(alone)
        num_steps = token_ids.shape[2]
        steps_alone.append(num_steps)
        np.testing.assert_array_equal(together[0][sentence, :, :num_steps], token_ids[0])
        assert (together[0][sentence, :, num_steps:] == toy.PAD).all()
        for many, one in zip(together[1:], others, strict=True):
            np.testing.assert_allclose(many[sentence], one[0], rtol=1e-6)
    assert together[0].shape[2] == max(steps_alone), "the batch takes as many steps as its slowest sentence"


def test_every_live_hypothesis_carries_the_state_of_its_own_history(toy):
    """A leaf that records what each beam was fed holds, at some beam, the prefix of every hypothesis returned."""
    model = toy.HistoryModel(11, batch_size=2)
    beam_size, fed = 4, []

    def step(token_ids, state):
        inner, history = state
        history = ops.concatenate([history, token_ids[:, :, None]], axis=2)
        fed.append(np.asarray(history))
        logits, inner = model.step(token_ids, inner)
        return logits, (inner, history)

    state = (model.state(beam_size), ops.zeros((2, beam_size, 0), dtype="int32"))
    result = search(toy, model, beam_size=beam_size, step=step, state=state, max_length=10)
    for sentence in range(2):
        for _, _, ids in toy.hypotheses(result, sentence):
            histories = fed[len(ids) - 1][sentence].tolist()
            assert [toy.BOS, *ids[:-1]] in histories


def test_an_own_reorder_takes_the_place_of_the_gathers(toy):
    model = toy.HistoryModel(5, batch_size=3)
    parents_seen = []

    def reorder(state, parents):
        parents_seen.append(np.asarray(parents))
        return reorder_state(state, parents)

    own = search(toy, model, beam_size=4, max_length=8, reorder=reorder)
    usual = search(toy, model, beam_size=4, max_length=8)
    for mine, theirs in zip(toy.numpy_fields(own), toy.numpy_fields(usual), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (parents_seen[0] == 0).all(), "at first only beam 0 is live"
    assert {parents.shape for parents in parents_seen} == {(3, 4)}
    unmoved = search(toy, model, beam_size=4, max_length=8, reorder=lambda state, parents: state)
    assert not np.array_equal(toy.numpy_fields(unmoved)[1], toy.numpy_fields(usual)[1])


def test_a_forced_end_costs_its_real_log_probability(toy):
    logits = np.array([0.0, 0.0, -7.0, 3.0, 2.0, 1.0])
    result = beam_search(
        lambda token_ids, state: (ops.convert_to_tensor(np.tile(logits, (2, 3, 1)).astype("float32")), state),
        (),
        batch_size=2,
        beam_size=3,
        max_length=np.array([1, 3]),
        length_penalty=0.0,
        **toy.IDS,
    )
    log_probs = logits - np.log(np.exp(logits).sum())
    (only,) = toy.hypotheses(result, 0)
    assert only[2] == (toy.EOS,)
    np.testing.assert_allclose(only[1], log_probs[toy.EOS], rtol=1e-5)
    # Of sentence 1 the first to end are those forced to: EOS is never among the three best before.
    found = [ids for _, _, ids in toy.hypotheses(result, 1)]
    assert found[0] == (3, 3, toy.EOS)
    assert {len(ids) for ids in found} == {3}


def test_bans_come_after_normalisation(toy):
    """PAD and BOS are never generated, EOS not below `min_length`; yet they keep their share of probability."""
    logits = np.array([5.0, 6.0, 7.0, 1.0, 0.5, 0.0])
    result = beam_search(
        lambda token_ids, state: (ops.convert_to_tensor(np.tile(logits, (1, 2, 1)).astype("float32")), state),
        (),
        batch_size=1,
        beam_size=2,
        min_length=3,
        max_length=6,
        length_penalty=0.0,
        **toy.IDS,
    )
    log_probs = logits - np.log(np.exp(logits).sum())
    best, second = toy.hypotheses(result, 0)
    assert best[2] == (3, 3, toy.EOS)
    np.testing.assert_allclose(best[1], 2 * log_probs[3] + log_probs[toy.EOS], rtol=1e-5)
    np.testing.assert_allclose(second[1], log_probs[3] + log_probs[4] + log_probs[toy.EOS], rtol=1e-5)


def test_more_beams_than_continuations(toy):
    """One content token: as many hypotheses as lengths, the rest of the beam is missing."""
    model = toy.HistoryModel(2, batch_size=2, vocabulary_size=4)
    result = search(toy, model, beam_size=7, max_length=3, length_penalty=0.0)
    for sentence in range(2):
        found = toy.hypotheses(result, sentence)
        assert sorted(len(ids) for _, _, ids in found) == [1, 2, 3]
    assert toy.numpy_fields(result)[0].shape == (2, 7, 3)


def test_max_length_holds_where_tensors_contradict(toy):
    model = toy.HistoryModel(2, batch_size=2)
    result = search(toy, model, beam_size=2, min_length=np.array([5, 0]), max_length=np.array([2, 2]))
    assert {len(ids) for _, _, ids in toy.hypotheses(result, 0)} == {2}


@pytest.mark.parametrize("vocabulary_size", [6, 1000])
def test_logits_that_are_no_numbers_end_their_own_sentence_only(toy, vocabulary_size):
    model = toy.HistoryModel(4, batch_size=2, vocabulary_size=vocabulary_size)
    expected = search(toy, model.sentence(1), beam_size=3, max_length=8)
    model.table[0] = np.nan
    result = search(toy, model, beam_size=3, max_length=8)
    assert toy.hypotheses(result, 0) == []
    toy.assert_same(toy.hypotheses(result, 1), toy.hypotheses(expected, 0), tolerance=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_logits_that_are_no_numbers_end_their_own_hypotheses_only(toy, seed):
    model = toy.HistoryModel(seed, batch_size=2)
    model.table[:, ::4] = np.nan
    model.table[:, toy.advance(0, toy.BOS)] = np.linspace(0.0, 1.0, model.vocabulary_size)
    limits = {"min_length": 2, "max_length": 7, "length_penalty": 1.0}
    result = search(toy, model, beam_size=4, **limits)
    for sentence in range(2):
        expected = toy.patient_search(model, sentence, beam_size=4, **limits)
        toy.assert_same(toy.hypotheses(result, sentence), expected[:4])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_logits_of_half_precision_are_scored_in_float32(toy, dtype):
    model = toy.HistoryModel(4, batch_size=2)
    model.table = np.asarray(ops.cast(ops.cast(model.table, dtype), "float32"))

    def half_step(token_ids, state):
        logits, state = model.step(token_ids, state)
        return ops.cast(logits, dtype), state

    half = search(toy, model, beam_size=3, step=half_step, max_length=8)
    assert half.scores.dtype == "float32"
    for mine, theirs in zip(
        toy.numpy_fields(half), toy.numpy_fields(search(toy, model, beam_size=3, max_length=8)), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "beam_size must be at least 1, got 0"),
        ({"num_hypotheses": 6}, r"between 1 and beam_size \(5\), got 6"),
        ({"num_hypotheses": 0}, r"between 1 and beam_size \(5\), got 0"),
        ({"length_penalty": -0.1}, "length_penalty must be 0 or more, got -0.1"),
        ({"length_penalty": float("nan")}, "length_penalty must be 0 or more, got nan"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"min_length": 5}, "min_length must not exceed max_length, got 5 and 4"),
        ({"banned_ids": [1, 2]}, r"banned_ids must not hold eos_id \(2\), or no hypothesis can end"),
    ],
)
def test_what_cannot_be_searched_is_refused(toy, options, message):
    options = {"beam_size": 5, "max_length": 4, **options}
    with pytest.raises(ValueError, match=message):
        search(toy, toy.HistoryModel(0, batch_size=2), state=(), **options)
