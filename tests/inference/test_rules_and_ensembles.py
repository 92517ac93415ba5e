"""What decodes as a model does, and rules for translations, through the translator."""

import numpy as np
import pytest
from keras import ops

from nmt.config import SearchSettings
from nmt.inference.translator import Translator
from nmt.models.contract import Vocabularies
from nmt.search import Rule
from nmt.text import BOS_ID, CharacterTokenizer, TextPair
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["abc", "cab", "", "bbbca"]


class Ensemble:
    """Several models that decode as one: the mean of their probabilities, of each token."""

    def __init__(self, models):
        self.models = models

    def encode(self, source_ids):
        return tuple(model.encode(source_ids) for model in self.models)

    def initial_state(self, memory, beam_size, max_length):
        return tuple(
            model.initial_state(each, beam_size, max_length) for model, each in zip(self.models, memory, strict=True)
        )

    def decoder(self):
        steps = [model.decoder() for model in self.models]

        def step(token_ids, state, memory):
            taken = [one(token_ids, *own) for one, *own in zip(steps, state, memory, strict=True)]
            probabilities = ops.stack([ops.softmax(logits) for logits, _ in taken])
            return ops.log(ops.mean(probabilities, axis=0)), tuple(following for _, following in taken)

        return step


@pytest.fixture(scope="module")
def text():
    return TextPair.learn(CharacterTokenizer, ["abc"], ["xyz"], joint=False, vocabulary_size=None, minimum_count=1)


@pytest.fixture(scope="module")
def models(text):
    sizes = Vocabularies(len(text.source.vocabulary), len(text.target.vocabulary), shared=False)
    made = []
    for kind in ("transformer", "rnn"):
        model = tiny.build(tiny.MODELS[kind], vocabularies=sizes, tie_embeddings="none", seed=len(made))
        for variable in model.trainable_variables:
            variable.assign(2.0 * variable)
        made.append(model)
    return made


def log_probs_of(model, source_ids, token_ids):
    """Log probabilities (T, V) of a model after BOS and the tokens before, by its parallel pass."""
    logits = np.asarray(model((source_ids[None], np.array([[BOS_ID, *token_ids[:-1]]]))), "float64")[0]
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_ensemble_of_two_kinds_translates_by_the_mean_of_their_probabilities(text, models, beam_size):
    search = SearchSettings(beam_size=beam_size, max_length=6, min_length=3, allow_unknown=False)
    found = Translator(Ensemble(models), text, search).n_best(LINES, 1)
    alone = [Translator(model, text, search).n_best(LINES, 1) for model in models]
    assert found != alone[0]
    assert found != alone[1]
    for line, (best,) in zip(LINES, found, strict=True):
        if line:
            source_ids = np.array([*text.source.encode(line), 3])
            token_ids = [*text.target.encode(best.text), 3]
            each = np.stack([log_probs_of(model, source_ids, token_ids) for model in models])
            mean = np.log(np.exp(each).mean(axis=0))
            expected = sum(mean[place, token_id] for place, token_id in enumerate(token_ids))
            assert best.log_prob == pytest.approx(expected, rel=1e-4)


class Without(Rule):
    """Takes one token away."""

    def __init__(self, token_id):
        self.token_id = token_id

    def lower(self, scores, view):
        return ops.where(ops.arange(scores.shape[-1]) == self.token_id, -np.inf, scores)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_translator_keeps_rules(text, models, beam_size):
    search = SearchSettings(beam_size=beam_size, max_length=6, min_length=3, allow_unknown=False)
    plain = "".join(Translator(models[0], text, search).translate(LINES))
    letter = max("xyz", key=plain.count)
    rule = Without(text.target.encode(letter)[0])
    assert letter in plain
    assert letter not in "".join(Translator(models[0], text, search, rules=[rule]).translate(LINES))
