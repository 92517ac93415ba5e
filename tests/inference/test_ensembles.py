"""Several models that translate as one: their mean, what each of them reads, and which may not stand together."""

import shutil

import numpy as np
import pytest
import yaml

from nmt.config import SearchSettings
from nmt.errors import CheckpointError, ConfigError
from nmt.inference.members import find_members
from nmt.inference.translator import Translator, open_members
from nmt.models.contract import Vocabularies
from nmt.models.ensemble import Ensemble
from nmt.text import BOS_ID, EOS_ID, CharacterTokenizer, TextPair, WhitespaceTokenizer
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["ab c", "c ab", "", "b bbc a"]
WEIGHTS = [0.7, 1.9]


@pytest.fixture(scope="module")
def texts():
    """Two pairs that cut the source by characters and by words, with one target vocabulary."""
    learn = {"joint": False, "vocabulary_size": None, "minimum_count": 1}
    characters = TextPair.learn(CharacterTokenizer, ["ab c"], ["xyz"], **learn)
    words = TextPair.learn(WhitespaceTokenizer, LINES, ["xyz"], **learn)
    return [characters, TextPair(words.source, characters.target, joint=False)]


@pytest.fixture(scope="module")
def models(texts):
    """A Transformer and a recurrent model, of sizes of their own."""
    made = []
    for kind, text in zip(("transformer", "rnn"), texts, strict=True):
        sizes = Vocabularies(len(text.source.vocabulary), len(text.target.vocabulary), shared=False)
        model = tiny.build(tiny.MODELS[kind], vocabularies=sizes, tie_embeddings="none", seed=len(made))
        for variable in model.trainable_variables:
            variable.assign(2.0 * variable)
        made.append(model)
    return made


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def mean_by_hand(models, texts, line, token_ids, *, log_linear):
    """Log probabilities (T, V) of the weighted mean after BOS and the tokens before, by the parallel pass of each."""
    shares = np.array(WEIGHTS) / sum(WEIGHTS)
    each = []
    for model, text in zip(models, texts, strict=True):
        source_ids = np.array([[*text.source.encode(line), EOS_ID]])
        logits = model((source_ids, np.array([[BOS_ID, *token_ids[:-1]]])))
        each.append(log_softmax(np.asarray(logits, "float64")[0]))
    if log_linear:
        return log_softmax(np.tensordot(shares, each, axes=1))
    return np.log(np.tensordot(shares, np.exp(each), axes=1))


@pytest.mark.parametrize("log_linear", [False, True])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_mean_of_models_that_cut_the_source_in_their_own_ways_is_that_by_hand(texts, models, beam_size, log_linear):
    search = SearchSettings(beam_size=beam_size, max_length=6, min_length=3, length_penalty=0.0, allow_unknown=False)
    ensemble = Ensemble(models, WEIGHTS, log_linear=log_linear)
    translator = Translator(ensemble, texts[0], search, sources=[text.source for text in texts])
    found = translator.n_best(LINES, 1, batch_size=2)
    letters = texts[0].target.encode("xyz")
    for line, (best,) in zip(LINES, found, strict=True):
        if not line:
            assert best.text == ""
            continue
        token_ids = [*texts[0].target.encode(best.text), EOS_ID][: best.num_tokens]
        mean = mean_by_hand(models, texts, line, token_ids, log_linear=log_linear)
        assert best.log_prob == pytest.approx(mean[np.arange(len(token_ids)), token_ids].sum(), rel=1e-4)
        if beam_size == 1:  # each token is the best one
            for place, token_id in enumerate(token_ids):
                allowed = letters if place < 2 else [*letters, EOS_ID] if place < 5 else [EOS_ID]
                assert token_id == max(allowed, key=lambda each: mean[place, each])


def test_members_differ_from_their_mean_and_the_two_means_from_each_other(texts, models):
    search = SearchSettings(beam_size=3, max_length=6, min_length=3, allow_unknown=False)
    sources = [text.source for text in texts]
    ensembles = [Ensemble(models), Ensemble(models, [1.0, 9.0]), Ensemble(models, log_linear=True)]
    scores = [Translator(each, texts[0], search, sources=sources).n_best(LINES[:1], 1)[0][0] for each in ensembles]
    scores += [
        Translator(model, text, search).n_best(LINES[:1], 1)[0][0] for model, text in zip(models, texts, strict=True)
    ]
    assert len({round(each.log_prob, 4) for each in scores}) == 5


def test_lines_are_counted_by_what_every_member_reads(texts, models):
    translator = Translator(Ensemble(models), texts[0], sources=[text.source for text in texts])
    translator.search = SearchSettings(beam_size=1, max_length=5)
    translator.translate(["ab c", "ab ca"])
    tally = translator._tally
    assert (tally.lines, tally.tokens, tally.unknown) == (2, 4 + 2 + 5 + 2, 1)  # "ca" is no word of the second


@pytest.mark.parametrize("log_linear", [False, True])
def test_one_run_twice_is_that_run_alone_and_is_loaded_once(trained_run, log_linear):
    run, lines = trained_run.directory, ["uno dos", "", "siete ocho"]
    twice = Translator.load(run, f"{run}@best", checkpoint="best", log_linear=log_linear)
    assert len({id(model) for model in twice.model.models}) == 1
    found = twice.n_best(lines, 2, beam_size=3)
    for ours, alone in zip(found, Translator.load(run).n_best(lines, 2, beam_size=3), strict=True):
        assert [each.text for each in ours] == [each.text for each in alone]
        np.testing.assert_allclose([each.score for each in ours], [each.score for each in alone], rtol=1e-5, atol=1e-6)


def test_a_member_may_be_a_checkpoint_and_lines_are_cut_once_for_members_that_cut_alike(trained_run, transformer_run):
    run = trained_run.directory
    found = find_members([f"{run}@update-20", run, transformer_run.directory])
    assert [each.directory for each in found] == [run, run, transformer_run.directory]
    opened = open_members(found)
    assert [each.checkpoint for each in opened] == ["update-00000020", "update-00000010", "update-00000030"]
    assert len(set(Translator.of(*opened).sources)) == 1


@pytest.fixture
def other_run(trained_run, tmp_path):
    """A copy of a run, to be changed."""
    return shutil.copytree(trained_run.directory, tmp_path / "other")


def test_members_of_other_languages_are_refused(trained_run, other_run):
    path = other_run / "config.yaml"
    config = yaml.safe_load(path.read_text("utf-8"))
    config["data"]["source_language"] = "pt"
    path.write_text(yaml.safe_dump(config), "utf-8")
    message = f"one language pair, but {trained_run.directory} translates from es to en and {other_run} from pt to en: "
    with pytest.raises(ConfigError, match=message):
        find_members([trained_run.directory, other_run])


def test_members_with_another_target_vocabulary_are_refused(trained_run, other_run):
    text = TextPair.load(other_run)
    shrunk = TextPair.learn(
        WhitespaceTokenizer, ["uno dos"], ["one"], joint=False, vocabulary_size=None, minimum_count=1
    )
    TextPair(shrunk.source, text.target, joint=False).save(other_run)
    assert len(find_members([trained_run.directory, other_run])) == 2  # another source does no harm
    shrunk.save(other_run)
    message = rf"those of {trained_run.directory} \(13 tokens\) and {other_run} \(5 tokens\) differ: train both"
    with pytest.raises(ConfigError, match=message):
        find_members([trained_run.directory, other_run])


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_there_is_one_positive_weight_for_each_member(trained_run, weights):
    run = trained_run.directory
    with pytest.raises(ConfigError, match="must be one weight above 0 for each of the 2 models, got 1"):
        find_members([run, run], member_weights=weights)


def test_a_member_has_one_checkpoint(trained_run):
    run = trained_run.directory
    assert find_members([f"{run}@best"], checkpoint="best")[0].checkpoint == "best"
    with pytest.raises(CheckpointError, match=f"run@best is a checkpoint already, got latest: leave .* or give {run}$"):
        find_members([f"{run}@best"], checkpoint="latest")
