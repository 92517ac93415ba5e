import re

import pytest
import yaml

from nmt.config import Config, advice, load, to_yaml
from nmt.errors import ConfigError
from nmt.settings.section import kinds_of, section_classes, settings_of


def test_the_default_kind_is_the_same_wherever_it_is_named():
    """The field's default object and the first kind of the union, which is the kind of `{}`, are one."""
    found = 0
    for setting in settings_of(Config):
        kinds = kinds_of(setting.field)
        if kinds:
            found += 1
            assert setting.field.default.type == next(iter(kinds))
    assert found == 4


def test_every_default_is_a_valid_value():
    for setting in settings_of(Config):
        for section in section_classes(setting.field):
            given = {name: field.default for name, field in section.model_fields.items() if not field.is_required()}
            required = {"source_language", "target_language", "train", "validation", "source", "target", "epochs"}
            if not required & set(section.model_fields):
                assert section.model_validate(given) == section()


def test_every_setting_has_a_help_text_that_is_a_sentence():
    for setting in settings_of(Config):
        text = setting.field.description
        assert text.endswith(".") or text.endswith(")."), setting.path
        assert text[0].isupper(), setting.path


@pytest.mark.parametrize(
    ("hidden_size", "num_heads", "suggestion"), [(30, 4, 28), (31, 4, 32), (3, 5, 10), (257, 8, 256), (10, 3, 12)]
)
def test_the_suggested_hidden_size_is_the_nearest_that_works(write_config, hidden_size, num_heads, suggestion):
    settings = [f"model.hidden_size={hidden_size}", f"model.num_heads={num_heads}"]
    with pytest.raises(ConfigError, match=rf"got {hidden_size} and {num_heads}: try {suggestion}\b"):
        load(write_config(), settings)
    load(write_config(), [f"model.hidden_size={suggestion}", settings[1]])


@pytest.mark.parametrize(
    "settings", [["model.hidden_size=15", "model.num_heads=5"], ["model={type: rnn, hidden_size: 9}"]], ids=str
)
def test_an_odd_hidden_size_is_refused_with_one_that_works(write_config, settings):
    with pytest.raises(ConfigError, match=r"must be even, got \d+, since .*: try (\d+)") as caught:
        load(write_config(), settings)
    suggestion = re.search(r"try (\d+)", str(caught.value)).group(1)
    load(write_config(), [re.sub(r"(?<=hidden_size[=:])( ?)\d+", rf"\g<1>{suggestion}", each) for each in settings])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.tie_embeddings=all", "data.tokenizer.joint=false"],
         "^model.tie_embeddings must be none or target_output if data.tokenizer.joint is false, got all"),
        (["model={type: rnn, tie_embeddings: source_target}", "data.tokenizer.type=character"],
         "^model.tie_embeddings must be none or target_output"),
        (["training.max_updates=null"], "^training.max_updates is null, and nothing else ends the run"),
        (["training.effective_batch_tokens=300"],
         "^training.effective_batch_tokens must be at least batch_tokens, got 300 and 4096"),
        (["training.batch_tokens=60"], "^training.batch_tokens must be above data.max_length, got 60 and 100.*101.*59"),
        (["training.batch_tokens=auto", "training.effective_batch_tokens=90"],
         "^training.effective_batch_tokens must be above data.max_length, got 90 and 100.*_batch_tokens 101.*89"),
        (["training.batch_tokens=automatic"],
         "^training.batch_tokens must be a whole number of at least 1, or auto, got"),
        (["training.batch_tokens=0"],
         "^training.batch_tokens must be a whole number of at least 1, or auto, got 0"),
        (["training.batch_tokens=true"],
         "^training.batch_tokens must be a whole number of at least 1, or auto, got true"),
        (["training.schedule={type: plateau, minimum_learning_rate: 1}"],
         "^training.schedule.minimum_learning_rate must be below optimizer.learning_rate, got 1.0 and 0.001"),
        (["training.optimizer={type: sgd, nesterov: true}"], "^training.optimizer.nesterov needs a momentum above 0"),
        (["data.subword_sampling=0.3", "data.tokenizer={type: sentencepiece, model_type: bpe}"],
         "^data.subword_sampling must be null if data.tokenizer has model_type bpe: only a sentencepiece"),
        (["data.variation={typos: 1.5}"], "^data.variation must be a rate from 0 to 1 for each kind, or null, got 1.5"),
        (["data.variation={}", "data.subword_sampling=0.3"], "^data.variation must be null if subword_sampling is set"),
        (["data.variation={}", "data.segmentation=bpe", "data.tokenizer={type: whitespace}"],
         "^data.variation must be null if segmentation is bpe"),
        (["data.subword_sampling=0.3", "data.tokenizer={type: whitespace}"],
         "^data.subword_sampling must be null if data.tokenizer has type whitespace: only a sentencepiece"),
        (["data.segmentation=sentencepiece"],
         "^data.segmentation must be none if data.tokenizer has type sentencepiece, got sentencepiece"),
        (["data.subword_sampling=0"], "^data.subword_sampling must be a number above 0, or null, got 0"),
        (["data.train.source=[a, b]"], "^data.train.source must have as many files as target, got 2 and 1"),
        (["search={min_length_ratio: 3, max_length_ratio: 1.5}"],
         "^search.min_length_ratio must be at most max_length_ratio, got 3.0 and 1.5"),
        (["search.max_length_ratio=automatic"], "^search.max_length_ratio must be a number of at least 0, or auto"),
        (["search.max_length_ratio=.inf"], "^search.max_length_ratio must be a number of at least 0, or auto, got inf"),
        (["search.max_length=0"], "^search.max_length must be a whole number of at least 1, or auto, got 0"),
        (["training.freeze=[encoder.0, decoder.2-4]", "model.num_decoder_layers=2"],
         "^training.freeze must name layers that there are, decoder.0-1, got decoder.2-4"),
        (["training.learning_rate_factors={encoder.7.norm: 2}", "model={type: rnn, num_encoder_layers: 3}"],
         "^training.learning_rate_factors must name layers that there are, encoder.0-2, got encoder.7.norm"),
        (["search={max_length_ratio: 0, max_length_offset: 0}"], "^search.max_length_offset must be above 0"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_each_other_are_refused(write_config, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(write_config(), overrides)


@pytest.mark.parametrize(
    "override",
    ["max_epochs=1", "max_minutes=0.5", "early_stopping={}"],
)
def test_any_one_limit_is_enough(write_config, override):
    load(write_config(), ["training.max_updates=null", f"training.{override}"])


def test_a_batch_that_is_to_be_chosen_fits_any_length_and_update(write_config):
    overrides = ["training.batch_tokens=auto", "data.max_length=9000", "training.effective_batch_tokens=9001"]
    config = load(write_config(), overrides)
    assert config.training.batch_tokens == "auto"
    assert "effective_batch_tokens" not in " ".join(advice(config))
    assert to_yaml(config) == to_yaml(Config.model_validate(yaml.safe_load(to_yaml(config).split("\n", 2)[2])))


@pytest.mark.parametrize("tie", ["auto", "none", "target_output"])
def test_ties_within_the_target_need_no_joint_tokenizer(write_config, tie):
    load(write_config(), [f"model.tie_embeddings={tie}", "data.tokenizer.joint=false"])
