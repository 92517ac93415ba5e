"""What decodes as a model does, and rules for translations, through the translator."""

import numpy as np
import pytest
from keras import ops

from nmt.config import SearchSettings
from nmt.control.controls import Control
from nmt.errors import ConfigError
from nmt.inference.translator import Translator
from nmt.models.contract import Vocabularies
from nmt.search import Rule
from nmt.text import BOS_ID, EOS_ID, PAD_ID, CharacterTokenizer, TextPair
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


def test_coverage_of_the_source_counts_in_scores_of_a_recurrent_model(text, models):
    """Each score against attention that is taken from the model step by step."""
    search = SearchSettings(beam_size=3, max_length=6, min_length=3, length_penalty=0.5, coverage_penalty=0.4)
    recurrent = models[1]
    translator = Translator(recurrent, text, search)
    longest = max(map(len, LINES))
    for line, found in zip(LINES, translator.n_best(LINES, 3, token_scores=True), strict=True):
        source_ids = np.array([[*text.source.encode(line), EOS_ID] + [PAD_ID] * (longest - len(line))])
        memory = recurrent.encode(source_ids)
        for translation in found if line else []:
            token_ids = [text.target.vocabulary.id(token) for token in translation.tokens]
            state = recurrent.initial_state(memory, 1, 6, with_coverage=True)
            for token_id in [BOS_ID, *token_ids[:-1]]:
                _, state = recurrent.hidden_step(np.array([[token_id]]), state, memory)
            attended = np.asarray(state.coverage)[0, 0, : len(line) + 1]
            assert attended.sum() == pytest.approx(len(token_ids), rel=1e-5)
            expected = translation.log_prob / len(token_ids) ** 0.5
            expected += 0.4 * np.log(np.minimum(attended, 1.0)).sum()
            assert translation.score == pytest.approx(expected, abs=1e-4)


def test_what_a_model_or_a_beam_cannot_do_is_refused(text, models):
    with pytest.raises(ConfigError, match=r"search\.coverage_penalty is for a single recurrent model"):
        Translator(models[0], text, SearchSettings(coverage_penalty=0.2)).translate(LINES)
    groups = Translator(models[0], text, SearchSettings(beam_size=4, diverse_groups=2))
    with pytest.raises(ConfigError, match=r"multiple of search\.diverse_groups, 2, got 3"):
        groups.translate(LINES, beam_size=3)
    with pytest.raises(ConfigError, match="without phrases that must appear"):
        groups.translate(["a"], controls=[Control(require=("x",))])


def test_settings_of_the_search_reach_it(text, models):
    """Each setting against what it must bring about, on a model that repeats itself."""

    def found(**settings):
        search = SearchSettings(max_length=8, min_length=7, **settings)
        return Translator(models[0], text, search).n_best(LINES, search.beam_size)

    def repeats(translations):
        return any(len(set(each.text[:-1])) < len(each.text[:-1]) for row in translations for each in row)

    assert repeats(found(beam_size=2))
    blocked = Translator(models[0], text, SearchSettings(beam_size=2, max_length=8, no_repeat_ngram=1)).n_best(LINES, 1)
    assert not repeats(blocked)
    power, wu = (found(beam_size=2, length_penalty_offset=offset) for offset in (0.0, 5.0))
    for one, other in zip(power[0], wu[0], strict=True):
        assert one.score == pytest.approx(one.log_prob / one.num_tokens, rel=1e-5)
        assert other.score == pytest.approx(other.log_prob / ((5 + other.num_tokens) / 6), rel=1e-5)
    groups = found(beam_size=3, diverse_groups=3, diversity=5.0)
    assert all(len({each.text for each in row}) == 3 for row, line in zip(groups, LINES, strict=True) if line)
    assert found(beam_size=2, repetition_penalty=3.0) != found(beam_size=2)
