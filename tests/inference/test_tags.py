"""A tag stands before the source, or is the first token of the target: read, and no part of text, length or score."""

import itertools
import json
import logging

import numpy as np
import pytest
from keras import ops

from nmt.config import SearchSettings
from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.control.record_tags import RecordTags
from nmt.control.shortlist import Shortlist
from nmt.errors import ConfigError
from nmt.inference.translator import Translator, vocabularies_of
from nmt.models.contract import build_model
from nmt.models.ensemble import Ensemble
from nmt.text import BOS_ID, EOS_ID, SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

TAGS = ("<x>", "<y>")
LINES = ["a", "b c", "c a b c a", "", "b a"]
CONTROLS = [Control(tag="<x>"), Control(tag="<y>"), NO_CONTROL, Control(tag="<x>"), Control(tag="<x>")]


def make_pair(side, joint=False):
    source, target = (WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *words])) for words in ("abc", "de"))
    return TextPair(target if joint else source, target, joint).with_tags(TAGS, side)


def make_translator(kind, side, seed=5, **search):
    text = make_pair(side)
    model = build_model(vocabularies_of(text), seed=seed, tie_embeddings="none", **tiny.MODELS[kind])
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable + generator.normal(0.0, 0.4, variable.shape))
    return Translator(model, text, SearchSettings(max_length=4, **search))


def forced(translator, line, targets, tag):
    """The log probability of each token of targets of one length by one pass of the model, the tag in its place."""
    text = translator.text
    before, begin = ([text.source.tags[tag]], []) if text.tag_side == "source" else ([], [text.target.tags[tag]])
    source = np.array([[*before, *text.source.encode(line), EOS_ID]] * len(targets))
    target = np.array([[BOS_ID, *begin, *ids] for ids in targets])
    log_probs = np.asarray(ops.log_softmax(translator.model((source, target[:, :-1]))))
    return np.take_along_axis(log_probs, target[:, 1:, None], axis=2)[:, len(begin) :, 0]


@pytest.mark.parametrize(("kind", "side"), [("transformer", "target"), ("transformer", "source"), ("rnn", "target")])
def test_a_wide_beam_finds_what_is_best_behind_the_tag(kind, side):
    translator = make_translator(kind, side, allow_unknown=True, length_penalty=0.0, beam_size=30)
    ids = [1, *range(len(SPECIAL_TOKENS), len(translator.text.target.vocabulary))]
    translator.search = translator.search.model_copy(update={"max_length": 3})
    for tag in TAGS:
        ((best, *_),) = translator.n_best(["b c"], 1, controls=[Control(tag=tag)], token_scores=True)
        found = {}
        for count in range(3):
            targets = [(*words, EOS_ID) for words in itertools.product(ids, repeat=count)]
            found |= dict(zip(targets, forced(translator, "b c", targets, tag), strict=True))
        written, scores = max(found.items(), key=lambda each: sum(each[1]))
        assert best.token_scores == pytest.approx(scores, abs=1e-5)
        assert best.tokens == tuple(translator.text.target.tokens(written))
        assert best.num_tokens == len(written)
        assert best.log_prob == best.score == pytest.approx(sum(scores), abs=1e-5)
        assert best.text == translator.text.target.decode(written)


@pytest.mark.parametrize(("beam_size", "side"), [(1, "source"), (1, "target"), (2, "target")])
def test_lines_with_and_without_a_tag_do_not_disturb_each_other(side, beam_size):
    translator = make_translator("transformer", side, beam_size=beam_size)
    together = translator.n_best(LINES, 1, controls=CONTROLS)
    alone = [translator.n_best([line], 1, controls=[asked])[0] for line, asked in zip(LINES, CONTROLS, strict=True)]
    plain = translator.n_best(LINES, 1)
    for one, other in zip(together, alone, strict=True):
        assert one[0].text == other[0].text
        assert one[0].log_prob == pytest.approx(other[0].log_prob, abs=1e-5)
    differ = [abs(one[0].log_prob - other[0].log_prob) > 1e-3 for one, other in zip(together, plain, strict=True)]
    assert differ == [True, True, False, False, True]


def ways(translator):
    """Searches that go other ways: two groups, draws, a beginning, phrases, a shortlist."""
    yield {"diverse_groups": 2, "diversity": 0.5}, Control(tag="<y>"), None
    yield {}, Control(tag="<y>", prefix="e"), None
    yield {}, Control(tag="<y>", require=("d e",)), None
    yield {}, Control(tag="<y>"), Sampling(seed=3)
    size = len(translator.text.target.vocabulary)
    best = np.full((len(translator.text.source.vocabulary), 1), 5, np.int32)
    translator.shortlist = Shortlist(best, np.array([1], np.int32), size, tuple(translator.text.fingerprints))
    yield {"shortlist": True}, Control(tag="<y>"), None


def test_whatever_is_found_has_the_score_of_the_scorer():
    translator = make_translator("transformer", "target", beam_size=2, allow_unknown=True)
    search = translator.search
    for changes, asked, sampling in ways(translator):
        translator.search = search.model_copy(update=changes)
        ((best, *_),) = translator.n_best(["c b"], 1, controls=[asked], sampling=sampling, token_scores=True)
        ids = [translator.text.target.vocabulary.id(token) for token in best.tokens]
        assert len(ids) == best.num_tokens <= 4
        (scored,) = translator.score([("c b", ids)], tags="<y>")
        (by_hand,) = forced(translator, "c b", [ids], "<y>")
        assert scored.token_log_probs == pytest.approx(by_hand, abs=1e-5)
        if not changes.get("shortlist"):  # whose probabilities are those of fewer tokens
            assert best.token_scores == pytest.approx(by_hand, abs=1e-4)  # differences of sums in float32
        assert best.text.startswith(asked.prefix)
        assert all(phrase in best.text for phrase in asked.require)


@pytest.mark.parametrize("side", ["source", "target"])
def test_completions_are_read_behind_the_tag(side):
    """All ways to go on, within three tokens, with the log probabilities of the model."""
    translator = make_translator(
        "transformer", side, max_length_offset=0, max_length_ratio=1.0, length_penalty=0.0, allow_unknown=False
    )
    translator.search = translator.search.model_copy(update={"max_length": 3})
    target = translator.text.target
    translator.model.output_bias.assign(
        [-20.0 * (each in target.tags.values()) for each in range(len(target.vocabulary))]
    )
    for tag in TAGS:
        found = {each.text: each for each in translator.complete("b c", "d", 3, beam_size=2, tag=tag)}
        assert {*found} == {"d", "d d", "d e"}
        for text, each in found.items():
            ids = [*target.encode(text), EOS_ID]
            assert each.log_prob == each.score == pytest.approx(forced(translator, "b c", [ids], tag).sum(), abs=1e-5)
            assert each.num_tokens == len(ids)
    with pytest.raises(ConfigError, match="got <z>: it knows <x> or <y>"):
        translator.complete("b", tag="<z>")


@pytest.mark.parametrize("side", ["source", "target"])
def test_pairs_have_tags_of_their_own(side):
    translator = make_translator("rnn", side)
    pairs = [("a b", "d e"), ("a b", "d e"), ("", ""), ("c", ""), ("a b", "d e")]
    scores = translator.score(pairs, tags=["<x>", "<y>", "<x>", "<y>", None])
    ids = [*translator.text.target.encode("d e"), EOS_ID]
    for place, line, target, tag in ((0, "a b", ids, "<x>"), (1, "a b", ids, "<y>"), (3, "c", [EOS_ID], "<y>")):
        assert scores[place].token_log_probs == pytest.approx(forced(translator, line, [target], tag)[0], abs=1e-5)
        assert scores[place].num_tokens == len(target)
    assert scores[2].num_tokens == 0
    assert scores[4].log_prob == pytest.approx(translator.score(pairs[:1])[0].log_prob, abs=1e-4)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_alignments_are_of_words_alone(kind, side):
    translator = make_translator(kind, side)
    (found,) = translator.align([("a b c", "d e")], tags="<x>", soft=True)
    assert found.soft.tokens.shape == (2, 4)
    assert found.soft.words.shape == (2, 3)
    np.testing.assert_allclose(found.soft.tokens.sum(axis=1), 1.0, atol=1e-5)
    text = translator.text
    source = [*text.begins("<x>")[0], *text.source.encode("a b c"), EOS_ID]
    target = [BOS_ID, *text.begins("<x>")[1], *text.target.encode("d e")]
    weights = np.asarray(translator.model.attention(np.array([source]), np.array([target])))[0]
    np.testing.assert_allclose(found.soft.words, weights[len(target) - 3 : -1, len(source) - 4 : -1], atol=1e-5)


def test_models_together_read_the_tag_each_in_its_own_vocabulary():
    one, other = (make_translator("transformer", "source", seed) for seed in (5, 6))
    words = WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, "c", "b", "a"])).with_tags(["<z>", *TAGS])
    pair = TextPair(words, other.text.target, joint=False)
    other_model = build_model(vocabularies_of(pair), seed=6, tie_embeddings="none", **tiny.TRANSFORMER)
    both = Translator(Ensemble([one.model, other_model]), one.text, one.search, sources=[one.text.source, words])
    sources, target = both.begins("<y>")
    assert (sources, target) == ([[one.text.source.tags["<y>"]], [words.tags["<y>"]]], [])
    with pytest.raises(ConfigError, match="the tag must be one that the model was trained with, got <z>: it knows"):
        both.n_best(["a"], 1, controls=[Control(tag="<z>")])
    found = both.n_best(["a b"], 1, controls=[Control(tag="<y>")], token_scores=True)[0][0]
    ids = [both.text.target.vocabulary.id(token) for token in found.tokens]
    assert both.score([("a b", ids)], tags="<y>")[0].log_prob == pytest.approx(found.log_prob, abs=1e-5)


def test_tags_that_do_not_fit_are_refused():
    translator = make_translator("rnn", "target")
    with pytest.raises(ConfigError, match="got <z>: it knows <x> or <y>"):
        translator.score([("a", "d")], tags="<z>")
    with pytest.raises(ConfigError, match="there must be one tag a pair, got 1 for 2 pairs"):
        translator.align([("a", "d"), ("a", "d")], tags=["<x>"])


@pytest.mark.parametrize("joint", [False, True])
def test_the_side_is_kept_with_the_vocabulary(tmp_path, joint):
    pair = make_pair("target", joint)
    assert pair.begins("<y>") == ([], [pair.target.tags["<y>"]])
    assert pair.source.tags == (pair.target.tags if joint else {})
    pair.save(tmp_path)
    assert TextPair.load(tmp_path) == pair or TextPair.load(tmp_path).begins("<y>") == pair.begins("<y>")
    assert TextPair.load(tmp_path).tag_side == "target"
    changed = pair.with_vocabularies({name: each.with_tags(["<z>"]) for name, each in pair.vocabularies.items()})
    assert changed.begins("<z>") == ([], [pair.target.tags["<y>"] + 1])


def test_records_without_a_tag_are_counted_from_the_first_line_on(caplog):
    """Also where another process goes on with a job."""
    first, second = (RecordTags(make_pair("source")) for _ in range(2))
    first.check([None, "<x>", None])
    second.restore(json.loads(json.dumps(first.counts)))
    second.check([None], 3)
    with caplog.at_level(logging.INFO):
        second.report()
    assert "3 of 4 records name no tag" in caplog.text
