"""Toy models whose every probability is known, and slow searches over them in plain NumPy."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

PAD, BOS, EOS = 0, 1, 2
IDS = {"pad_id": PAD, "bos_id": BOS, "eos_id": EOS}
VOCABULARY_SIZE = 6
CONTENT = range(3, VOCABULARY_SIZE)
NUM_CODES = 53


def advance(code, token_id):
    """A number that depends on every token so far, and on their order."""
    return (code * 5 + token_id * 7 + 1) % NUM_CODES


class HistoryModel:
    """Next-token logits drawn at random for each sentence and (nearly) each history."""

    def __init__(self, seed, batch_size, vocabulary_size=VOCABULARY_SIZE, scale=2.0):
        generator = np.random.default_rng(seed)
        self.batch_size, self.vocabulary_size = batch_size, vocabulary_size
        self.table = (generator.normal(size=(batch_size, NUM_CODES, vocabulary_size)) * scale).astype("float32")

    def sentence(self, index):
        """The same model for one sentence alone."""
        alone = HistoryModel(0, 1, self.vocabulary_size)
        alone.table = self.table[index : index + 1]
        return alone

    def state(self, beam_size):
        """One code a beam: (B, K)."""
        return {"code": ops.zeros((self.batch_size, beam_size), dtype="int32")}

    def step(self, token_ids, state):
        """A step function: the code is the state."""
        code = advance(state["code"], token_ids)
        return look_up(self.table, code), {"code": code}

    def log_probs(self, sentence, prefix):
        """(V,) float64 log probabilities after BOS and `prefix`, in NumPy; all impossible where logits are NaN."""
        code = 0
        for token_id in (BOS, *prefix):
            code = advance(code, token_id)
        logits = self.table[sentence, code].astype("float64")
        if np.isnan(logits).any():
            return np.full_like(logits, -np.inf)
        return logits - np.log(np.exp(logits).sum())

    def score(self, sentence, token_ids, length_penalty):
        """Log probability and score of a whole hypothesis, EOS included."""
        log_prob = sum(self.log_probs(sentence, token_ids[:t])[token_ids[t]] for t in range(len(token_ids)))
        return log_prob, log_prob / len(token_ids) ** length_penalty


def look_up(table, code):
    """Logits (B, K, V) of a table (B, M, V) for codes (B, K)."""
    num_codes, vocabulary_size = table.shape[1:]
    rows = ops.reshape(table, (-1, vocabulary_size))
    first = ops.arange(ops.shape(code)[0], dtype="int32")[:, None] * num_codes
    return ops.take(rows, first + code, axis=0)


def all_sequences(min_length, max_length, content):
    """Every hypothesis that the limits allow."""
    for length in range(max(min_length, 1), max_length + 1):
        for body in itertools.product(content, repeat=length - 1):
            yield (*body, EOS)


def brute_force(model, sentence, *, min_length, max_length, length_penalty, content=CONTENT):
    """All hypotheses as (score, log_prob, token_ids), best first."""
    scored = []
    for token_ids in all_sequences(min_length, max_length, content):
        log_prob, score = model.score(sentence, token_ids, length_penalty)
        scored.append((score, log_prob, token_ids))
    return sorted(scored, reverse=True)


def patient_search(model, sentence, *, beam_size, min_length, max_length, length_penalty, content=CONTENT):
    """A beam search that never stops before `max_length`: (score, log_prob, token_ids), best first."""
    live, finished = [(0.0, ())], []
    for length in range(1, max_length + 1):
        candidates = []
        for log_prob, prefix in live:
            step_log_probs = model.log_probs(sentence, prefix)
            if length >= min_length:
                candidates.append((log_prob + step_log_probs[EOS], (*prefix, EOS)))
            if length < max_length:
                candidates += [(log_prob + step_log_probs[token_id], (*prefix, token_id)) for token_id in content]
        candidates = sorted((pair for pair in candidates if pair[0] > -np.inf), reverse=True)[: 2 * beam_size]
        ended = [(log_prob, ids) for log_prob, ids in candidates[:beam_size] if ids[-1] == EOS]
        finished += [(log_prob / length**length_penalty, log_prob, ids) for log_prob, ids in ended]
        live = [(log_prob, ids) for log_prob, ids in candidates if ids[-1] != EOS][:beam_size]
    return sorted(finished, reverse=True)


def plain_greedy(model, sentence, *, min_length, max_length, length_penalty, banned=(), lower=None):
    """The most probable token at each step, EOS only if it is better than all others: as `brute_force`, one or none."""
    token_ids, log_prob = (), 0.0
    for length in range(1, max_length + 1):
        scores = model.log_probs(sentence, token_ids)
        scores = scores if lower is None else lower(scores, token_ids)
        others = [token_id for token_id in range(model.vocabulary_size) if token_id not in (PAD, BOS, EOS, *banned)]
        other = max(others, key=lambda token_id: scores[token_id], default=None)
        most = -np.inf if other is None else scores[other]
        ends = length == max_length or (length >= min_length and scores[EOS] > most)
        log_prob += scores[EOS] if ends else most
        token_ids = (*token_ids, EOS if ends else other)
        if ends or log_prob == -np.inf:
            break
    return [(log_prob / length**length_penalty, log_prob, token_ids)] if log_prob > -np.inf else []


def numpy_fields(result):
    """The fields of a result as arrays, the scores of tokens left out."""
    return [np.asarray(ops.convert_to_numpy(field)) for field in result[:5]]


def hypotheses(result, sentence):
    """The finished hypotheses of a sentence, as (score, log_prob, token_ids); checks how all are written."""
    found = []
    token_ids, scores, log_probs, lengths, finished = (field[sentence] for field in numpy_fields(result))
    assert finished.tolist() == ((scores > -np.inf) & finished.any()).tolist(), "all are finished, or none"
    assert (np.diff((scores > -np.inf).astype(int)) <= 0).all(), "what is missing comes last"
    for ids, score, log_prob, length, ends in zip(token_ids, scores, log_probs, lengths, finished, strict=True):
        if score == -np.inf:
            assert log_prob == -np.inf
            assert length == 0
            assert (ids == PAD).all()
        else:
            assert (ids[length - 1] == EOS) == ends
            assert (ids[length:] == PAD).all()
            assert not np.isin(ids[: length - 1], [PAD, BOS, EOS]).any()
            if ends:
                found.append((float(score), float(log_prob), tuple(ids[:length].tolist())))
    return found


def assert_same(found, expected, tolerance=2e-5):
    """The same hypotheses in the same order with the same scores."""
    assert [ids for _, _, ids in found] == [ids for _, _, ids in expected]
    np.testing.assert_allclose(
        [pair[:2] for pair in found], [pair[:2] for pair in expected], rtol=tolerance, atol=tolerance
    )


@pytest.fixture(scope="session")
def toy():
    """All of the above, for test modules (which cannot import one another)."""
    return SimpleNamespace(
        PAD=PAD,
        BOS=BOS,
        EOS=EOS,
        IDS=IDS,
        CONTENT=CONTENT,
        NUM_CODES=NUM_CODES,
        HistoryModel=HistoryModel,
        advance=advance,
        look_up=look_up,
        brute_force=brute_force,
        patient_search=patient_search,
        plain_greedy=plain_greedy,
        hypotheses=hypotheses,
        numpy_fields=numpy_fields,
        assert_same=assert_same,
    )
