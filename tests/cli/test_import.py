"""Kinds of a user's own, from a Python file given with --import, through every verb that meets them."""

import json
import math
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import nmt.data.encoding
from nmt import kinds
from nmt.checkpoint.index import newest_manifest
from nmt.config import load
from nmt.data import register_reader
from nmt.recipes.training_run import assemble_schedule
from nmt.settings.config import MODELS
from nmt.settings.data import TOKENIZERS
from nmt.settings.training import OPTIMIZERS, SCHEDULES
from nmt.training.optimization import Schedule
from nmt.translation.ctranslate2_engine import check_exportable
from tests import tiny

pytestmark = pytest.mark.slow

CHOICES = (SCHEDULES, OPTIMIZERS, TOKENIZERS, MODELS)
WORDS = (kinds.CELLS, kinds.MIXERS, kinds.LOSSES, kinds.READERS)
PARTS = '''
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import keras

import nmt
from nmt.config import load
from nmt.settings.data import TokenizerSettings
from nmt.settings.config import RNNSettings
from nmt.settings.training import OptimizerSettings, ScheduleSettings
from nmt.layers.recurrent import GRUCell
from nmt.text.tokenizer import ListTokenizer
from nmt.training.optimization import Schedule


@dataclass
class Halving(Schedule):
    peak: float
    _: KW_ONLY
    warmup_updates: int
    every: int

    def learning_rate(self, update):
        return self.peak * 0.5 ** (update // self.every)


@nmt.register_schedule("halving", Halving)
class HalvingSettings(ScheduleSettings):
    """Halved again and again."""

    type: Literal["halving"] = nmt.setting("halving", "Halved every so many updates.")
    warmup_updates: int = nmt.setting(0, "Updates of warm-up.", at_least=0)
    every: int = nmt.setting(3, "Updates from one halving to the next.", at_least=1)


@nmt.register_optimizer("lion", keras.optimizers.Lion)
class LionSettings(OptimizerSettings):
    """Lion (Chen et al., 2023)."""

    type: Literal["lion"] = nmt.setting("lion", "Lion (Chen et al., 2023).")
    learning_rate: float = nmt.setting(0.001, "Learning rate at the peak.", above=0)
    clip_norm: float | None = nmt.setting(1.0, "Largest norm of the gradient.", above=0)


class HyphenTokenizer(ListTokenizer):
    type = "hyphen"
    unit, separator = "a part of a word", "-"

    @staticmethod
    def split(line):
        return [part for part in line.replace(" ", "-").split("-") if part]

    @staticmethod
    def surface(token):
        return token


@nmt.register_tokenizer("hyphen", HyphenTokenizer)
class HyphenSettings(TokenizerSettings):
    """Parts of words between hyphens."""

    type: Literal["hyphen"] = nmt.setting("hyphen", "Parts of words between hyphens.")
    joint: bool = nmt.setting(False, "One vocabulary for both languages.")
    vocabulary_size: int | None = nmt.setting(None, "Upper bound of the vocabulary.")
    minimum_count: int = nmt.setting(1, "Rarer parts are unknown.", at_least=1)


@nmt.register_cell("my_gru")
class MyGRUCell(GRUCell):
    """A cell of one's own."""


@nmt.register_model("my_rnn", "nmt.models.rnn:RNN")
class MyRNNSettings(RNNSettings):
    """A model of one's own."""

    type: Literal["my_rnn"] = nmt.setting("my_rnn", "A model of one's own.")
'''
TRAINING = {"max_updates": 2, "save_every_updates": 1, "validate_every_updates": 2, "tensorboard": False}
OWN_TRAINING = {**TRAINING, "schedule": {"type": "halving", "every": 2}, "optimizer": {"type": "lion"}}
OWN_DATA = {"tokenizer": {"type": "hyphen"}}
PAIRS = [("uno dos-tres", "one two-three"), ("rojo gato", "red cat"), ("perro", "dog"), ("azul uno", "blue one")]
CORPORA = {"train": PAIRS * 3, "validation": PAIRS[:2], "test": PAIRS[1:]}


@pytest.fixture
def parts(tmp_path):
    """The path of the file; what it registers is gone after the test."""
    tables = [*(choice.sections for choice in CHOICES), *(choice.registry.built for choice in CHOICES)]
    tables += [registry.built for registry in WORDS]
    kept = [dict(table) for table in tables]
    path = tmp_path / "my_parts.py"
    path.write_text(PARTS, encoding="utf-8")
    yield path
    for table, before in zip(tables, kept, strict=True):
        table.clear()
        table.update(before)
    forget()


def forget():
    """Make the process one that was started without --import."""
    kinds._imported.clear()
    for choice in CHOICES:
        for word in ("halving", "lion", "hyphen", "my_rnn"):
            choice.sections.pop(word, None)
            choice.registry.built.pop(word, None)
        choice._renew()
    for registry in WORDS:
        for word in ("my_gru", "mgu", "mean", "focal", "bitext"):
            registry.built.pop(word, None)
        for renew in registry.watchers:
            renew()


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "model", [{**tiny.RNN, "cell": "my_gru"}, {**tiny.RNN, "type": "my_rnn"}], ids=["cell", "model"]
)
def test_a_run_of_own_kinds_is_trained_goes_on_and_translates(run_nmt, parts, tmp_path, model, monkeypatch):
    if model["cell"] == "my_gru":  # once, since each of them imports Keras
        monkeypatch.setattr(nmt.data.encoding, "_BYTES_A_PROCESS", 1)  # so that other processes encode
    config = tiny.write_config(tmp_path, CORPORA, model=model, data=OWN_DATA, training=OWN_TRAINING)
    checked = run_nmt("check-config", config, "--import", parts)
    assert checked.code == 0, checked.err
    trained = run_nmt("train", config, "--import", parts, "--threads", 2)
    assert trained.code == 0, trained.err
    directory = tmp_path / "run"
    (sha256,) = kinds.imported_hashes().values()
    assert f"\nimports:\n  my_parts.py: {sha256}\n" in (directory / "config.yaml").read_text()
    assert newest_manifest(directory)[1].facts["imports"] == {"my_parts.py": sha256}
    more = run_nmt("train", config, "--import", parts, "--set", "training.max_updates=3")
    assert more.code == 0, more.err
    translated = run_nmt("translate", directory, "--import", parts, stdin=b"uno dos\n")
    assert translated.code == 0, translated.err
    assert json.loads(run_nmt("evaluate", directory, "--import", parts, "--json").out)["checkpoint"].startswith(
        "update-"
    )

    forget()
    refused = run_nmt("translate", directory, stdin=b"uno dos\n")
    assert refused.code == 1
    assert (
        "data.tokenizer.type must be sentencepiece, whitespace or character, got the text 'hyphen': a kind of your"
        in refused.err
    )
    assert f"({directory}/config.yaml was written with --import my_parts.py: give that again)" in refused.err
    refused = run_nmt("check-config", config)
    assert (
        "training.schedule.type must be inverse_sqrt, constant, noam or plateau, got the text 'halving': "
        in refused.err
    )
    assert "needs --import FILE, with the Python file that registers it" in refused.err


@pytest.mark.usefixtures("eagerly")
def test_a_changed_file_is_said(run_nmt, parts, tmp_path):
    config = tiny.write_config(tmp_path, CORPORA, training=OWN_TRAINING)
    assert run_nmt("train", config, "--import", parts).code == 0
    parts.write_text(PARTS + "\n# another day\n", encoding="utf-8")
    again = run_nmt("train", config, "--import", parts)
    assert again.code == 0
    assert f"my_parts.py has changed since {tmp_path}/run/config.yaml was written: " in again.err


def test_own_kinds_are_explained_and_meant(run_nmt, parts, tmp_path):
    shown = run_nmt("check-config", "--explain", "--import", parts)
    assert "training.schedule.every (a whole number of at least 1; default 3)" in shown.out
    config = tiny.write_config(tmp_path, CORPORA, model={**tiny.RNN, "cell": "my_gruu"})
    refused = run_nmt("check-config", config, "--import", parts, "--set", "training.schedule.type=halvin")
    assert "model.cell must be gru, lstm or my_gru, got the text 'my_gruu': did you mean my_gru?" in refused.err
    assert "got the text 'halvin': did you mean halving?" in refused.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nmt\n1 / 0\n", "my_parts.py fails: ZeroDivisionError: division by zero (--debug shows where)"),
        ("import nmt\nnmt.register_cell('gru')(object)\n", "model.cell gru is there already: give a kind of your own"),
        ("import nmt\nnmt.register_schedule('x', object)(nmt.Section)\n",
         "training.schedule.type x: its settings, Section, must have the setting type, warmup_updates"),
        (PARTS.replace('_schedule("halving"', '_schedule("halve"'),
         "training.schedule.type halve: its settings, HalvingSettings, must have it as the default of type"),
        (None, "my_parts.py: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(run_nmt, parts, text, message):
    parts.unlink() if text is None else parts.write_text(text, encoding="utf-8")
    refused = run_nmt("check-config", "--explain", "--import", parts)
    assert refused.code == 1
    assert message in refused.err


def test_two_files_of_one_name_are_refused(run_nmt, parts, tmp_path):
    other = tmp_path / "other" / "my_parts.py"
    other.parent.mkdir()
    other.write_text("", encoding="utf-8")
    refused = run_nmt("check-config", "--explain", "--import", parts, "--import", other)
    assert f"--import {other}: {parts} has the same name: rename one of the two" in refused.err


def test_a_file_that_imports_keras_leaves_the_start_to_the_verb(parts, tmp_path):
    config = tiny.write_config(tmp_path, CORPORA, model={**tiny.RNN, "cell": "my_gru"}, training=OWN_TRAINING)
    eagerly = "\nimport tensorflow\n\ntensorflow.config.run_functions_eagerly(True)\n"  # to compile takes seconds
    parts.write_text(PARTS + eagerly, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "nmt", "train", config, "--import", parts, "--threads", "1"],
        capture_output=True, text=True, check=True, cwd=Path(nmt.__file__).parents[1],
    )  # fmt: skip
    assert "update 2" in done.stderr
    assert "TensorFlow" not in done.stderr


def page_parts():
    """The Python of the page, block by block."""
    page = Path(nmt.__file__).parents[1] / "docs/extending.md"
    return [block.split("```")[0] for block in page.read_text(encoding="utf-8").split("```python\n")[1:]]


def test_another_mixer_is_not_exported_and_a_word_is_meant(run_nmt, parts, tmp_path):
    parts.write_text("\n".join(page_parts()[3:5]), encoding="utf-8")
    config = tiny.write_config(tmp_path, CORPORA, model={**tiny.TRANSFORMER, "decoder_mixer": "mean"})
    kinds.import_file(parts)
    with pytest.raises(nmt.ExportError, match=r"transformer with attention, and cannot have model\.decoder_mixer mean"):
        check_exportable(load(config), tmp_path / "out", quantization="int8", overwrite=False)
    wrong = ("--set", "training.loss=focall", "--set", "model.decoder_mixer=meen")
    refused = run_nmt("check-config", config, "--import", parts, *wrong)
    assert (
        "training.loss must be blockwise, plain or focal, or null, got the text 'focall': did you mean foc"
        in refused.err
    )
    assert "model.decoder_mixer must be attention or mean, got the text 'meen': did you mean mean?" in refused.err
    refused = run_nmt("check-config", config, "--set", "training.loss=blockwise", "--set", "training.compile=xla")
    assert "training.loss must be plain or null if compile is xla, got blockwise" in refused.err


def test_the_schedule_of_the_page_works(run_nmt, parts, tmp_path):
    parts.write_text(page_parts()[0], encoding="utf-8")
    config = tiny.write_config(tmp_path, CORPORA)
    override = "training.schedule={type: half_cosine, updates: 20000}"
    checked = run_nmt("check-config", config, "--import", parts, "--set", override)
    assert checked.code == 0, checked.err
    schedule = assemble_schedule(load(config, [override]))
    half_way = 0.001 * (1 + math.cos(math.pi * 9500 / 19000)) / 2
    rates = [schedule.learning_rate(update) for update in (500, 1000, 10500, 20000)]
    assert rates == pytest.approx([0.0005, 0.001, half_way, 0.0])
    refused = run_nmt("check-config", config, "--import", parts, "--set", override.replace("20000", "1000"))
    assert "training.schedule.updates must be above warmup_updates, got 1000 and 1000" in refused.err


def test_a_schedule_that_is_nothing_at_its_peak_is_no_division():
    class Silent(Schedule):
        def learning_rate(self, update):
            return 0.0

    assert Silent(warmup_updates=3).cut_short(5) is None


def test_what_is_registered_wrongly_is_said_at_once(run_nmt, parts, tmp_path):
    config = tiny.write_config(tmp_path, CORPORA)
    parts.write_text(page_parts()[0].replace('"half_cosine", HalfCosine)', '"half_cosine")'), encoding="utf-8")
    refused = run_nmt("check-config", config, "--import", parts)
    assert "training.schedule.type half_cosine: say what is built of its settings" in refused.err
    with pytest.raises(nmt.ConfigError, match=r"for an ending such as \.po, got 'po'"):
        register_reader("po")
    with pytest.raises(nmt.ConfigError, match="the format of a corpus tsv is there already"):
        register_reader(".tsv")(print)


@pytest.mark.usefixtures("eagerly")
def test_a_reader_that_has_changed_encodes_anew(run_nmt, parts, tmp_path):
    reader = page_parts()[-2]
    parts.write_text(reader, encoding="utf-8")
    for name, pairs in CORPORA.items():
        (tmp_path / f"{name}.bitext").write_text("".join(f"{source} ||| {target}\n" for source, target in pairs))
    data = {name: {"pairs": f"{tmp_path}/{name}.bitext"} for name in CORPORA}
    config = tiny.write_config(tmp_path, CORPORA, data=data, training=TRAINING)
    assert run_nmt("train", config, "--import", parts).code == 0
    parts.write_text(reader.replace("yield source,", "yield source.upper(),"), encoding="utf-8")
    refused = run_nmt("train", config, "--import", parts, "--set", "training.max_updates=6")
    assert refused.code != 0
    assert "data.train has changed" in refused.err


@pytest.mark.usefixtures("eagerly")
def test_a_reader_that_was_forgotten_is_named_where_text_no_longer_fits(run_nmt, parts, tmp_path):
    parts.write_text(page_parts()[-2], encoding="utf-8")
    for name, pairs in CORPORA.items():
        (tmp_path / f"{name}.bitext").write_text("".join(f"{source} ||| {target}\n" for source, target in pairs))
    data = {name: {"pairs": f"{tmp_path}/{name}.bitext"} for name in CORPORA}
    config = tiny.write_config(tmp_path, CORPORA, data=data, training=TRAINING)
    assert run_nmt("train", config, "--import", parts).code == 0
    forget()
    for name, pairs in CORPORA.items():
        for side, lines in zip(("es", "en"), zip(*pairs, strict=True), strict=True):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    plain = [f"--set=data.{name}.pairs={tmp_path}/{name}.{{es,en}}" for name in CORPORA]
    path = tmp_path / "train.es"
    path.write_text(path.read_text(encoding="utf-8").replace("uno", "dos", 1), encoding="utf-8")
    refused = run_nmt("train", config, *plain)
    said = (
        "the text in data.train has changed since update-00000002, or is read otherwise without --import my_parts.py;"
    )
    assert said in refused.err
    path.write_text(path.read_text(encoding="utf-8").replace("dos", "uno", 1), encoding="utf-8")
    assert run_nmt("train", config, *plain).code == 0  # the same text, for which no reader is needed


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize(
    "model", [{**tiny.RNN, "cell": "mgu"}, {**tiny.TRANSFORMER, "decoder_mixer": "mean"}], ids=["cell", "mixer"]
)
def test_the_other_parts_of_the_page_train_and_translate(run_nmt, parts, tmp_path, model):
    """Tokenizer, cell or mixer, loss and reader through the command line, from columns of one file; and a rule."""
    *ours, rule = page_parts()[1:]
    parts.write_text("\n".join(ours), encoding="utf-8")
    for name, pairs in CORPORA.items():
        (tmp_path / f"{name}.bitext").write_text("".join(f"{source} ||| {target}\n" for source, target in pairs))
    data = {"tokenizer": {"type": "syllables"}}
    data |= {name: {"pairs": f"{tmp_path}/{name}.bitext"} for name in CORPORA}
    training = {**TRAINING, "loss": "focal", "label_smoothing": 0.0}
    config = tiny.write_config(tmp_path, CORPORA, model=model, data=data, training=training)
    trained = run_nmt("train", config, "--import", parts)
    assert trained.code == 0, trained.err
    changed = run_nmt(
        "train", config, "--import", parts, "--set", "training.loss=null", "--set", "training.max_updates=3"
    )
    assert "training.loss: focal before, null now" in changed.err
    assert run_nmt("evaluate", tmp_path / "run", "--import", parts).code == 0
    assert run_nmt("translate", tmp_path / "run", "--import", parts, "-i", tmp_path / "train.es").code == 0
    found = {}
    exec(rule, found)
    translator = nmt.Translator.load(tmp_path / "run")
    strict = nmt.Translator(translator.model, translator.text, translator.search, rules=[found["NotAgain"]()])
    for line in strict.translate(["uno dos-tres", "rojo gato"]):
        syllables = line.split("-")
        assert all(one != next_one for one, next_one in pairwise(syllables))
