"""The tables of docs/search.md: which methods go together, and which engine has them. Every cell is tried."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from nmt.config import SearchSettings, load
from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.control.shortlist import Shortlist
from nmt.directory.model_directory import FoundModel
from nmt.errors import ConfigError
from nmt.inference.engines import lacking
from nmt.inference.translator import Translator, vocabularies_of
from nmt.models.ensemble import Ensemble
from nmt.scoring import mbr
from nmt.tasks.translate import prepare_translation
from nmt.text import EOS_ID, CharacterTokenizer, TextPair
from nmt.translation.ctranslate2_engine import refuse_request
from tests import tiny

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "search.md"
CONTROLS = {
    "must appear": Control(require=("x",)),
    "must not": Control(avoid=("yy",)),
    "beginning": Control(prefix="z"),
    "glossary": Control(terms=("y",)),
}
SETTINGS = {
    "groups": {"diverse_groups": 2},
    "n-grams": {"no_repeat_ngram": 2},
    "coverage": {"coverage_penalty": 0.2},
    "shortlist": {"shortlist": True},
}
METHODS = [*CONTROLS, "samples", "MBR", "several models", *SETTINGS]


def table(first_row):
    """The cells of the table that has this row, by the names of row and column."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_row} |"))
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in [lines[start - 2]]]
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    columns = rows[0][1:]
    return {(row[0], column): cell for row in rows[1:] for column, cell in zip(columns, row[1:], strict=True)}


TOGETHER, ENGINES = table("must appear"), table("`keras`")


def asked_for(methods):
    """Control, sampling and settings of several methods together."""
    fields = {}
    for method in methods:
        fields |= {
            name: value
            for name, value in CONTROLS.get(method, NO_CONTROL)._asdict().items()
            if value != getattr(NO_CONTROL, name)
        }
    settings = {name: value for method in methods for name, value in SETTINGS.get(method, {}).items()}
    search = SearchSettings(beam_size=2, max_length=4, length_penalty=0.5, **settings)
    return Control(**fields), Sampling() if "samples" in methods else None, search


@pytest.fixture(scope="module")
def parts():
    text = TextPair.learn(CharacterTokenizer, ["abc"], ["xyz xyz"], joint=False, vocabulary_size=None, minimum_count=1)
    made = {
        kind: tiny.build(tiny.MODELS[kind], vocabularies=vocabularies_of(text), tie_embeddings="none", seed=3)
        for kind in ("transformer", "rnn")
    }
    return text, made


@pytest.mark.parametrize("pair", combinations(METHODS, 2), ids=" and ".join)
def test_methods_go_together_as_the_page_says(parts, pair):
    text, models = parts
    control, sampling, search = asked_for(pair)
    model = models["rnn" if "coverage" in pair else "transformer"]
    shortlist = Shortlist(
        np.full((len(text.source.vocabulary), 1), EOS_ID), np.array([4]), len(text.target.vocabulary), ()
    )
    models = Ensemble([model, model]) if "several models" in pair else model
    translator = Translator(models, text, search, shortlist=shortlist)
    cell = TOGETHER[pair]
    assert cell.startswith(("yes", "no")), "each pair has a cell"

    def translate():
        count = 2 if {"samples", "MBR"} & set(pair) else 1
        return translator.n_best(["ca"], count, controls=[control], sampling=sampling)

    if cell.startswith("no"):
        with pytest.raises(ConfigError):
            translate()
        return
    for found in translate():
        if "MBR" in pair and found:
            found = [found[mbr.choose([each.text for each in found]).chosen]]
        for each in found:
            assert "unsatisfied" not in each.flags
            assert all(each.constraints.values())


@pytest.mark.parametrize("control", [Control(), Control(avoid=("yy",)), Control(prefix="z")])
def test_groups_write_different_texts_whatever_else_is_asked(parts, control):
    text, models = parts
    search = SearchSettings(beam_size=3, max_length=4, diverse_groups=3, diversity=30.0, length_penalty=0.0)
    (found,) = Translator(models["transformer"], text, search).n_best(["ca"], 3, controls=[control])
    assert len({each.text for each in found}) == 3


def test_the_tables_have_all_methods():
    assert {name for pair in TOGETHER for name in pair} == set(METHODS)
    assert {column for _, column in ENGINES} == set(METHODS)
    assert {cell for (engine, _), cell in ENGINES.items() if engine == "keras"} == {"yes"}


@pytest.mark.parametrize("method", METHODS)
def test_auto_takes_what_the_page_says(method, tmp_path):
    control, sampling, search = asked_for([method])
    drawn = Sampling() if method == "samples" else sampling
    config = load(
        tiny.write_config(
            tmp_path, {role: [("uno", "one")] for role in ("train", "validation")}, model=tiny.TRANSFORMER
        )
    )
    found = [FoundModel(tmp_path, None, None, config.model_copy(update={"search": search}))]
    lacks = lacking(found * (2 if method == "several models" else 1), control=control, sampling=drawn)
    assert ENGINES["auto` takes", method] == ("Keras" if lacks else "CTranslate2")


@pytest.mark.parametrize("method", METHODS)
def test_ctranslate2_has_what_the_page_says(method, tmp_path):
    cell = ENGINES["ctranslate2", method]
    control, sampling, search = asked_for([method])

    def ask():
        if method == "several models":
            prepare_translation(tmp_path, tmp_path, engine="ctranslate2")
        refuse_request(control, sampling, search)

    if cell.startswith("yes"):
        ask()
    else:
        assert cell == "no"
        with pytest.raises(ConfigError, match="CTranslate2"):
            ask()
