"""CTranslate2 in place of Keras: the same greedy translations, scores that mean the same, limits that hold."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from keras import ops

from nmt.checkpoint.folder import ENGINES_NAME
from nmt.config import load
from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.directory.engines import engine_name
from nmt.directory.model_directory import (
    EXPORT_NAME,
    FoundModel,
    has_key,
    read_export_settings,
    read_facts,
    read_settings,
)
from nmt.errors import CheckpointError, ConfigError, ExportError
from nmt.inference.translator import Translator, open_model
from nmt.text import BOS_ID, EOS_ID
from nmt.translation.ctranslate2_engine import CTranslate2Translator, lacking_for, open_engine, overflows_in_8_bits
from nmt.translation.line_translator import Translation

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["uno dos tres", "", "cuatro", "siete ocho nueve dos uno dos tres", "  ", "cinco seis", "nueve", "ocho uno"]


@pytest.fixture(scope="module")
def engine(exported_run):
    return CTranslate2Translator.load(exported_run, threads=1)


@pytest.fixture(scope="module")
def opened(transformer_run):
    return open_model(transformer_run.directory)


@pytest.fixture(scope="module")
def keras_translator(opened):
    return Translator(opened.model, opened.text)


def log_prob(opened, line, translation):
    """What the model gives to a translation, by teacher forcing."""
    source_ids = [*opened.text.source.encode(line), EOS_ID]
    target_ids = [BOS_ID, *opened.text.target.encode(translation), EOS_ID]
    log_probs = ops.log_softmax(opened.model((np.array([source_ids]), np.array([target_ids[:-1]]))))[0]
    return float(sum(log_probs[place, token_id] for place, token_id in enumerate(target_ids[1:])))


@pytest.mark.parametrize(
    "limits",
    [
        {"min_length": 2, "max_length": 9},  # the model seldom ends by itself
        {"min_length": 0, "max_length": 7, "min_length_ratio": 1.0, "max_length_ratio": 1.5, "max_length_offset": 1},
    ],
)
def test_greedy_search_is_the_same(engine, opened, keras_translator, limits):
    search = opened.config.search.model_copy(update={"beam_size": 1, "length_penalty": 0.7, **limits})
    keras_translator.search = search
    other = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
    ours, theirs = keras_translator.n_best(LINES, 1), other.n_best(LINES, 1, batch_size=3)
    assert [found[0].text for found in theirs] == [found[0].text for found in ours]
    assert [found[0].num_tokens for found in theirs] == [found[0].num_tokens for found in ours]
    assert len({found[0].num_tokens for found in ours}) > 2
    for place in (2, 3):
        np.testing.assert_allclose(
            [found[0][place - 1] for found in theirs], [found[0][place - 1] for found in ours], rtol=1e-4, atol=1e-4
        )
    assert other.translate(LINES) == [found[0].text for found in ours]


@pytest.mark.parametrize(("length_penalty", "min_length"), [(0.0, 2), (0.6, 0)])
def test_scores_are_ours(engine, opened, length_penalty, min_length):
    search = engine.search.model_copy(update={"min_length": min_length})
    other = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
    lines = LINES[1:4]
    found = other.n_best(lines, 3, beam_size=5, length_penalty=length_penalty)
    assert found[0] == [Translation("", 0.0, 0.0, 0, engine="ctranslate2")]
    for line, translations in zip(lines[1:], found[1:], strict=True):
        assert len(translations) == len({translation.text for translation in translations}) == 3
        scores = [translation.score for translation in translations]
        assert scores == sorted(scores, reverse=True)
        for text, score, probability, num_tokens, *_ in translations:
            assert num_tokens == len(text.split()) + 1
            assert probability == pytest.approx(log_prob(opened, line, text), abs=1e-4)
            assert score == pytest.approx(probability / num_tokens**length_penalty)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_unknown_words_are_left_out_where_they_are_not_allowed(opened, engine, beam_size):
    """The best translations are ours, with the model's own scores, although the engine shares out what UNK had."""
    limits = {"beam_size": beam_size, "min_length": 0, "max_length": 7}
    for allowed in (True, False):
        search = opened.config.search.model_copy(update={**limits, "allow_unknown": allowed})
        other = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
        ours = Translator(opened.model, opened.text, search).n_best(["nueve ocho"], beam_size)[0]
        theirs = other.n_best(["nueve ocho"], beam_size)[0]
        assert any("<unk>" in translation.text for translation in ours) is allowed
        assert any("<unk>" in translation.text for translation in theirs) is allowed
        assert theirs[0].text == ours[0].text
        assert theirs[0].log_prob == pytest.approx(ours[0].log_prob, abs=1e-4)


def test_limits_follow_each_source(engine):
    search = engine.search.model_copy(
        update={
            "beam_size": 3,
            "min_length_ratio": 1.0,
            "min_length": 0,
            "max_length_ratio": 1.0,
            "max_length_offset": 2,
        }
    )
    other = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
    lines = ["uno", "uno dos tres cuatro", "siete ocho"]
    for line, translations in zip(lines, other.n_best(lines, 3), strict=True):
        source_length = len(line.split()) + 1
        lengths = {translation.num_tokens for translation in translations}
        assert min(lengths) >= min(source_length, 9)
        assert max(lengths) <= min(source_length + 2, 9)


def test_no_tensorflow_is_loaded(exported_run, transformer_run, tmp_path):
    """Neither with an export nor with the engine of a model directory, which is an export in its place."""
    run = shutil.copytree(transformer_run.directory, tmp_path / "run")
    found = FoundModel(run, None, None, load(run / "config.yaml"))
    shutil.copytree(exported_run, run / ENGINES_NAME / engine_name(found))
    program = (
        "import sys, nmt; a, b = [nmt.load_translator(each, threads=1) for each in sys.argv[1:]];"
        "print(a.translate(['uno dos']) == b.translate(['uno dos'])); print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    arguments = [sys.executable, "-c", program, exported_run, run]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", "set()"]


def test_samples_differ_however_many_cores_there_are_and_come_again_by_their_seed(exported_run):
    """Each worker of the engine has a generator of its own, and all would draw the same."""

    def drawn(translator, seed):
        sampling = Sampling(seed=seed, temperature=4.0)
        return [each.text for each in translator.n_best(["uno dos tres cuatro"], 24, sampling=sampling)[0]]

    one, four = (CTranslate2Translator.load(exported_run, threads=threads) for threads in (1, 4))
    first = drawn(one, 1)
    assert len({*first}) > 20
    assert first == drawn(one, 1) == drawn(four, 1)
    assert len({*first} & {*drawn(four, 2)}) < 12  # short ones come again
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(partial(drawn, four), [1, 2, 1, 2])] == [first, drawn(one, 2)] * 2
    assert four.engine.num_translators == 4


def test_no_engine_is_opened_for_draws_that_keras_makes(exported_run, monkeypatch):
    keras = Keras()
    other = CTranslate2Translator.open(exported_run, read_export_settings(exported_run), otherwise=lambda: keras)
    monkeypatch.setattr("nmt.translation.ctranslate2_engine.open_engine", None)
    assert other.n_best(["uno"], 2, sampling=Sampling())[0][0].engine == "keras"


@pytest.mark.parametrize("limits", [{"min_length": 3}, {"min_length_ratio": 1.0}, {"no_repeat_ngram": 2}])
def test_auto_leaves_a_beam_that_bans_tokens_to_keras(engine, limits):
    search = engine.search.model_copy(update={"min_length": 0, **limits})
    for beam_size, lacks in ((1, 0), (4, 1)):
        assert len(lacking_for(None, None, search.model_copy(update={"beam_size": beam_size}))) == lacks


class Keras:
    """Stands for the same model in Keras, and notes what it is asked."""

    def __init__(self):
        self.asked = []

    def search_batch(self, requests, **_):
        self.asked += [request.control for request in requests]
        return [[Translation("one", 0.0, 0.0, 2, engine="keras")] for _ in requests]

    def score(self, pairs):
        return len(pairs)


def test_keras_does_what_the_engine_cannot(engine):
    keras, opened = Keras(), []
    search = engine.search.model_copy(update={"batch_size": 1})
    other = CTranslate2Translator(
        engine.engine,
        engine.text,
        search,
        num_positions=engine.num_positions,
        otherwise=lambda: opened.append(1) or keras,
    )
    asked = [NO_CONTROL, Control(prefix="one")]
    first, second = other.n_best(["uno", "dos"], 1, controls=asked)
    assert [first[0].engine, second[0].engine] == ["ctranslate2", "keras"]
    assert keras.asked == asked[1:]
    assert other.score([("uno", "one")]) == 1
    assert len(opened) == 1


def test_what_cannot_be_is_refused(engine):
    with pytest.raises(TypeError, match=r"got one str: pass \[line\]"):
        engine.translate("uno")
    with pytest.raises(ConfigError, match=r"must be 1 to beam_size \(2\), got 3"):
        engine.n_best(["uno"], 3, beam_size=2)
    search = engine.search.model_copy(update={"max_length": 3000})
    other = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
    with pytest.raises(ConfigError, match=r"search\.max_length must be at most 2050 for this export, got 3000"):
        other.translate(["uno"])


def test_a_missing_package_is_named(exported_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(ConfigError, match=r'pip install ctranslate2, or .* pip install -e "\.\[ctranslate2\]"$'):
        CTranslate2Translator.load(exported_run)


def test_model_directories_and_exports_are_told_apart(exported_run, transformer_run, tmp_path):
    assert has_key(exported_run / EXPORT_NAME)
    assert not has_key(transformer_run.directory / EXPORT_NAME)
    with pytest.raises(ExportError, match=r"run: is a model directory, .* write one with nmt export .* and give OUT"):
        CTranslate2Translator.load(transformer_run.directory)
    with pytest.raises(ExportError, match="nowhere: there is no such export: write one with nmt export"):
        CTranslate2Translator.load(tmp_path / "nowhere")
    with pytest.raises(ExportError, match=r"is no export, it holds no export\.json"):
        CTranslate2Translator.load(tmp_path)
    with pytest.raises(CheckpointError, match="out: is an export for another engine, with which nmt translate and"):
        read_settings(exported_run)


def test_damaged_exports_are_refused(exported_run, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(exported_run, out)
    assert read_facts(out) == read_facts(exported_run)
    content = (out / "model.bin").read_bytes()
    flipped = bytes([content[-9] ^ 1])
    for damaged in (content[:-9] + flipped + content[-8:], content[: len(content) // 2]):
        (out / "model.bin").write_bytes(damaged)
        with pytest.raises(ExportError, match=r"copy/model\.bin: is not what was exported"):
            CTranslate2Translator.load(out)
    with pytest.raises(ExportError, match="copy: CTranslate2 cannot read it"):
        open_engine(out, "float32")
    (out / "model.bin").unlink()
    with pytest.raises(ExportError, match=r"copy/model\.bin: cannot be read \(No such file"):
        CTranslate2Translator.load(out)
    facts = json.loads((out / "export.json").read_text())
    for change, message in (
        ({"tokenizers": ["0", "1"]}, "its tokenizers are not those that its model was exported with"),
        ({"format_version": 2}, "format and format_version must be ctranslate2 and 1, got ctranslate2 and 2"),
        ({"surprise": 1}, r"export\.json: is no description of an export"),
    ):
        (out / "export.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(ExportError, match=message):
            CTranslate2Translator.load(out)
    (out / "export.json").write_text("[")
    with pytest.raises(ExportError, match=r"export\.json: is no description of an export"):
        CTranslate2Translator.load(out)


def test_what_the_engine_has_of_its_own_is_asked_of_it(opened, engine):
    """A beginning, no repeated tokens, draws and scores of tokens; every score is that of the model."""
    search = opened.config.search.model_copy(update={"beam_size": 2, "max_length": 8, "no_repeat_ngram": 1})
    ours = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
    asked = [Control(prefix="two one")] * 2
    for line, found in zip(LINES[2:4], ours.n_best(LINES[2:4], 1, controls=asked, token_scores=True), strict=True):
        (best,) = found
        words = best.text.split()
        assert words[:2] == ["two", "one"]
        assert len(set(words)) == len(words)
        assert len(best.tokens) == len(best.token_scores) == best.num_tokens
        assert sum(best.token_scores) == pytest.approx(best.log_prob, abs=1e-3)
        assert best.log_prob == pytest.approx(log_prob(opened, line, best.text), abs=2e-3)
    drawn = ours.n_best(LINES[2:3], 20, sampling=Sampling(temperature=2.0))[0]
    assert len(drawn) == 20
    assert len({each.text for each in drawn}) > 10
    for each in drawn[:3]:
        assert each.log_prob == pytest.approx(log_prob(opened, LINES[2], each.text), abs=2e-3)


@pytest.mark.parametrize(
    ("control", "sampling", "settings", "words"),
    [
        (Control(avoid=("two",)), None, {}, "phrases that must or must not appear"),
        (Control(("two",)), None, {}, "phrases that must or must not appear"),  # also if the plain translation has it
        (Control(prefix="two "), None, {}, "a beginning with a space at its end"),
        (NO_CONTROL, Sampling(epsilon=0.1), {}, "--epsilon"),
        (
            NO_CONTROL,
            None,
            {"beam_size": 5, "diverse_groups": 5, "coverage_penalty": 0.1},
            r"search\.diverse_groups, search\.coverage",
        ),
    ],
)
def test_what_needs_a_step_is_refused(opened, engine, control, sampling, settings, words):
    search = opened.config.search.model_copy(update=settings)
    ours = CTranslate2Translator(engine.engine, engine.text, search, num_positions=engine.num_positions)
    place = "" if control.asks_nothing else "line 1: "
    with pytest.raises(ConfigError, match=f"^{place}CTranslate2 lets nobody into its steps, and cannot have {words}"):
        ours.translate(LINES[:1], controls=[control], sampling=sampling)


@pytest.mark.parametrize(
    ("processor", "overflows"),
    [
        ("vendor_id : AuthenticAMD\nflags : sse4_2 avx2 fma", True),
        ("vendor_id : AuthenticAMD\nflags : sse4_2 avx2 avx512_vnni", False),
        ("vendor_id : GenuineIntel\nflags : sse4_2 avx2 fma", False),
        ("vendor_id : GenuineIntel\nflags : sse4_2 avx2 avx_vnni", False),
        ("Features : fp asimd", False),
        ("", False),
    ],
)
def test_what_onednn_cannot_add_in_8_bits_goes_to_mkl(processor, overflows):
    """`test_quantised_exports_are_near_and_leave_the_model_alone` fails on such processors without it."""
    assert overflows_in_8_bits(processor) == overflows
