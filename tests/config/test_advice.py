import math

import pytest

from nmt.config import advice, load

STAGES = (
    "data={{train: [{{name: one, source: a, target: b}}], stages: [{{until: {{updates: 10000}}}}, "
    "{{until: {{updates: {}}}}}, {{name: fine}}]}}"
)


def test_a_sound_config_gets_no_advice(write_config):
    assert list(advice(load(write_config()))) == []


@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (["training.effective_batch_tokens=9000"], "training.effective_batch_tokens 9000 is no multiple of"),
        (["training.validate_every_updates=200000"], "training.validate_every_updates 200000 is above max_updates"),
        (["training.early_stopping={patience: 200}"], "training.early_stopping cannot act: patience 200"),
        (["training.max_updates=4000"], "training.schedule.warmup_updates 4000 is not below max_updates 4000"),
        (["training.schedule.type=noam"], "training.schedule noam peaks at a learning rate of 1e-06"),
        (["training.optimizer.learning_rate=0.5"], "training.optimizer.learning_rate 0.5 is very high for adam"),
        (["data.target_language=de"], "data.source_language and data.target_language are both de"),
        (["data.validation.source=train.de"], "data.validation.source is also read for training"),
        (["data.test={source: valid.de, target: valid.en}", "data.validation={source: valid.de, target: valid.en}"],
         "data.test is also data.validation, which chooses the best checkpoint: its scores are better than on new"),
        (["search.max_length=50"], "search.max_length 50 is below data.max_length 100"),
        (["training.ema_decay=0.999999"], "training.ema_decay 0.999999 averages over about 1000000 updates"),
        (["training.on_tie_change=average"], "training.on_tie_change average means nothing without training.init"),
        (["training.freeze=[encoder.0, output]"], "training.freeze keeps encoder.0 or output as chance made it"),
        (["training.freeze=[embeddings, decoder]", "training.pretrained_embeddings={source: v.vec}"],
         "training.freeze keeps decoder as chance made it"),
        (["training.pretrained_embeddings={source: v.vec, freeze_updates: 100000}"],
         "training.pretrained_embeddings.freeze_updates 100000 is not below max_updates 100000: the"),
        (["data={train: [{name: one, source: a, target: b, weight: 2}], stages: [{weights: {one: 1}}]}"],
         "data.train: the weights of one mean nothing, since each of data.stages has its own"),
        ([STAGES.format(90_000)], "data.stages: the last one, fine, never begins: those before take 100000 updates or"),
    ],
)  # fmt: skip
def test_doubtful_settings_are_named(write_config, overrides, beginning):
    (line,) = advice(load(write_config(), overrides))
    assert line.startswith(beginning)


def test_the_average_of_a_short_run_is_not_said_to_hold_first_weights(write_config):
    """Its first decay is 2/11, so that after 20 updates less than a millionth of them is left."""
    assert math.prod((1 + update) / (10 + update) for update in range(1, 21)) < 1e-6
    (line,) = advice(load(write_config(), ["training.ema_decay=0.9999", "training.max_updates=8000"]))
    assert line.endswith("max_updates is 8000: so short a run averages over about the last ninth of its updates, 890")


@pytest.mark.parametrize(
    "overrides",
    [["training.freeze=[encoder]", "training.initialize_from=runs/old"], [STAGES.format(80_000)]],
)
def test_what_can_be_meant_gets_no_advice(write_config, overrides):
    assert list(advice(load(write_config(), overrides))) == []


def test_a_rule_for_ties_beside_other_weights_gets_no_advice(write_config):
    overrides = ["training.on_tie_change=source", "training.initialize_from=runs/old@best"]
    assert list(advice(load(write_config(), overrides))) == []


def test_noam_with_its_usual_factor_gets_no_advice(write_config):
    overrides = ["training.schedule.type=noam", "training.optimizer.learning_rate=2"]
    assert list(advice(load(write_config(), overrides))) == []
