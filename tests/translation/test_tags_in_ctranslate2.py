"""Tags through CTranslate2, on either side: the translations, lengths and scores of Keras."""

import numpy as np
import pytest

from nmt.config import Config, SearchSettings
from nmt.control.controls import NO_CONTROL, Control
from nmt.control.shortlist import Shortlist
from nmt.errors import ConfigError
from nmt.export.ctranslate2_export import SamplePair, export_ctranslate2
from nmt.inference.translator import OpenedModel, Translator, vocabularies_of
from nmt.models.contract import build_model
from nmt.text import EOS_ID, SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from nmt.translation.ctranslate2_engine import CTranslate2Translator
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["uno dos", "tres", "dos uno tres dos", "", "uno", "tres tres"]
TAGS = ["<x>", "<y>", None, "<y>", "<y>", "<x>"]
CONTROLS = [NO_CONTROL if tag is None else Control(tag=tag) for tag in TAGS]


@pytest.fixture(scope="module", params=["source", "target"])
def engines(request, tmp_path_factory):
    """A model of random weights by Keras, and its export."""
    source, target = (
        WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *words.split()]))
        for words in ("uno dos tres", "one two three four")
    )
    text = TextPair(source, target, joint=False).with_tags(["<x>", "<y>"], request.param)
    files = {"source": "s", "target": "t"}
    data = {"source_language": "es", "target_language": "en", "validation": files, "tag_side": request.param}
    data["train"] = [{"name": tag[1], **files, "tag": tag} for tag in ("<x>", "<y>")]
    model = {**tiny.TRANSFORMER, "tie_embeddings": "target_output"}
    config = Config.model_validate({"model_directory": "run", "data": data, "model": model})
    built = build_model(vocabularies_of(text), seed=3, **config.model.model_dump())
    tiny.scatter_weights(built, seed=4, spread=0.3)
    symbols = [*text.target.tags.values()]
    built.output_bias.assign([-9.0 * (each in symbols) for each in range(len(text.target.vocabulary))])  # as if learned
    output = tmp_path_factory.mktemp("export") / "out"
    folder = tmp_path_factory.mktemp("model")
    best = np.full((len(text.source.vocabulary), 2), EOS_ID, np.int32)
    best[4:7] = [[4, 5], [6, 7], [5, 6]]
    shortlist = Shortlist(best, np.array([], np.int32), len(text.target.vocabulary), tuple(text.fingerprints))
    shortlist.save(folder)
    opened = OpenedModel(config, text, built, "update-00000007", "raw", folder)
    with tiny.run_eagerly():
        export_ctranslate2(
            opened, output, [SamplePair([4, 5], [6, 4]), SamplePair([6], [5, 5])], quantization="float32"
        )
    ours = Translator.of(opened)
    ours.shortlist = shortlist
    return ours, CTranslate2Translator.load(output, threads=1)


@pytest.mark.parametrize("search", [
    {"beam_size": 1, "min_length": 3}, {"beam_size": 4, "length_penalty": 0.6}, {"beam_size": 1, "no_repeat_ngram": 2},
])  # fmt: skip
def test_both_engines_translate_alike(engines, search):
    for each in engines:
        each.search = SearchSettings(max_length=6, length_penalty_offset=0, **search)
    ours, theirs = (each.n_best(LINES, 1, controls=CONTROLS, token_scores=True) for each in engines)
    for (one,), (other,) in zip(ours, theirs, strict=True):
        assert (one.text, one.num_tokens, one.tokens) == (other.text, other.num_tokens, other.tokens)
        np.testing.assert_allclose(other.token_scores, one.token_scores, atol=1e-4)
        assert other.score == pytest.approx(one.score, abs=1e-4)
    plain = engines[1].n_best(LINES, 1)
    assert any(one[0].log_prob != pytest.approx(other[0].log_prob) for one, other in zip(plain, theirs, strict=True))


def test_a_beginning_follows_the_tag(engines):
    for each in engines:
        each.search = SearchSettings(max_length=6, beam_size=1)
    asked = [control._replace(prefix="three two") for control in CONTROLS]
    ours, theirs = (each.n_best(LINES, 1, controls=asked) for each in engines)
    for line, (one,), (other,) in zip(LINES, ours, theirs, strict=True):
        assert one.text.startswith("three two" if line else "")
        assert (other.text, other.num_tokens) == (one.text, one.num_tokens)
        assert other.log_prob == pytest.approx(one.log_prob, abs=1e-4)


def test_a_shortlist_goes_with_tags(engines):
    """The tokens of the line alone are written, the same ones in both engines, a line a batch."""
    for each in engines:
        each.search = SearchSettings(max_length=6, beam_size=1, batch_size=1, shortlist=True, allow_unknown=False)
    ours, theirs = (each.n_best(LINES, 1, controls=CONTROLS) for each in engines)
    assert [each.text for (each,) in ours] == [each.text for (each,) in theirs]
    listed = {"uno": {"one", "two"}, "dos": {"three", "four"}, "tres": {"two", "three"}}
    for line, (found,) in zip(LINES, theirs, strict=True):
        assert {*found.text.split()} <= {word for each in line.split() for word in listed[each]}
    assert any(found.text for (found,) in theirs)


def test_the_longest_source_has_room_for_its_tag(engines):
    """2,048 tokens, a tag and EOS."""
    other = engines[1]
    other.search = SearchSettings(max_length=4, beam_size=1)
    (found,) = other.n_best(["uno " * 3000], 1, controls=[Control(tag="<x>")])
    assert "unread" in found[0].flags


def test_what_it_cannot_have_is_said(engines):
    other = engines[1]
    other.search = SearchSettings(max_length=other.num_positions)
    with pytest.raises(ConfigError, match="got <z>: it knows <x> or <y>"):
        other.translate(["uno"], controls=[Control(tag="<z>")])
    if other.text.tag_side == "target":  # the symbol takes a position too
        with pytest.raises(ConfigError, match=f"must be at most {other.num_positions - 1} for this export"):
            other.translate(["uno"], controls=[Control(tag="<x>")])
