"""How a run is judged while it is trained."""

import logging

import pytest

from nmt.config import load
from nmt.inference.opening import vocabularies_of
from nmt.inference.translator import Translator
from nmt.models.builder import build_model
from nmt.recipes.build_vocabulary import build_text
from nmt.recipes.validation import validator


@pytest.mark.usefixtures("eagerly")
def test_a_model_that_has_just_begun_to_learn_may_repeat_itself(untrained_config, caplog):
    """Who translates is told of translations that reach their limit; who trains reads their number, and no warning."""
    caplog.set_level(logging.WARNING)
    config = load([untrained_config], ["search.min_length=2", "search.max_length=2"])
    text = build_text(config)
    model = build_model(vocabularies_of(text), seed=1, **config.model.model_dump())
    caplog.clear()
    validation = validator(config, model, text)()
    assert validation.loss > 0.0
    assert validation.cut_lines == 2
    assert not caplog.records
    Translator(model, text, config.search).translate(["uno"])
    assert "as long as allowed" in caplog.text
