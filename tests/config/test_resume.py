import pytest
import yaml

from nmt.config import changed_settings, load, with_kept_settings, write
from nmt.settings.data import NormalizationSettings


def changes(write_config, before, after):
    file = write_config()
    return changed_settings(load(file, before), load(file, after))


@pytest.mark.parametrize(
    "override",
    [
        "model_directory=elsewhere", "training.max_updates=7", "training.max_epochs=3", "training.max_minutes=2",
        "training.validate_every_updates=9", "training.save_every_updates=9", "training.log_every_updates=9",
        "training.keep_last=9", "training.keep_best=9", "training.early_stopping={patience: 2}", "search.beam_size=9",
        "training.tensorboard=false", "training.sample_translations=0", "data.test={source: a, target: b}",
        "data.store_directory=x", "search.length_penalty=0", "data.train={source: [x, y], target: [z, w]}",
        "data.validation.source=x", "training.on_validation_change=new_scores",
    ],
)  # fmt: skip
def test_limits_saving_logging_and_search_may_change(write_config, override):
    assert changes(write_config, [], [override]) == []


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.batch_tokens=2048", "training.batch_tokens: 4096 before, 2048 now"),
        ("training.effective_batch_tokens=8192", "training.effective_batch_tokens: null before, 8192 now"),
        ("seed=1", "seed: 42 before, 1 now"),
        ("model.hidden_size=64", "model.hidden_size: 256 before, 64 now"),
        ("model.type=rnn", "model.type: transformer before, rnn now"),
        ("data.tokenizer={type: character}", "data.tokenizer.type: sentencepiece before, character now"),
        ("data.max_length=9", "data.max_length: 100 before, 9 now"),
        ("training.optimizer.learning_rate=1", "training.optimizer.learning_rate: 0.001 before, 1.0 now"),
        ("training.schedule.warmup_updates=9", "training.schedule.warmup_updates: 4000 before, 9 now"),
        ("training.ema_decay=0.5", "training.ema_decay: null before, 0.5 now"),
        ("training.initialize_from=runs/old", "training.initialize_from: null before, runs/old now"),
        ("training.on_tie_change=average", "training.on_tie_change: error before, average now"),
        ("data.subword_sampling=0.1", "data.subword_sampling: null before, 0.1 now"),
    ],
)  # fmt: skip
def test_what_the_update_depends_on_may_not_change(write_config, override, line):
    assert changes(write_config, [], [override]) == [line]


def test_a_path_and_a_list_of_that_path_are_the_same(write_config):
    assert changes(write_config, ["data.tokenizer.model=x"], ["data.tokenizer.model=[x]"]) == []


def test_all_changes_are_listed_and_equal_configs_have_none(write_config):
    many = ["seed=1", "model.norm=post", "training.label_smoothing=0", "training.max_updates=3"]
    assert len(changes(write_config, [], many)) == 3
    assert changes(write_config, many, many) == []


def stored(write_config, tmp_path, without=()):
    """Writes a directory's config.yaml as a version wrote it that did not know some sections; returns its path."""
    config = load(write_config())
    path = tmp_path / "run" / "config.yaml"
    write(config, path)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, name in without:
        del settings[section][name]
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


def test_a_setting_that_a_directory_lacks_means_what_was_done_before_there_was_one(write_config, tmp_path):
    assert load(write_config()).data.normalization == NormalizationSettings(source="nfkc", target="nfc")
    assert load(stored(write_config, tmp_path)).data.normalization == NormalizationSettings(source="nfkc", target="nfc")
    old = stored(write_config, tmp_path, without=[("data", "normalization")])
    assert load(old).data.normalization is None
    assert load(write_config()).search.allow_unknown is None
    assert load(stored(write_config, tmp_path, without=[("search", "allow_unknown")])).search.allow_unknown is True
    assert load(old, ["data.normalization.target=none"]).data.normalization.target == "none"


def test_a_run_that_goes_on_keeps_what_its_settings_leave_open(write_config, tmp_path):
    old = load(stored(write_config, tmp_path, without=[("data", "normalization")]))
    now = with_kept_settings(load(write_config()), old)
    assert now.data.normalization is None
    assert changed_settings(old, now) == []


@pytest.mark.parametrize(
    ("before", "line"),
    [
        ("data.variation={typos: 0.9}", "data.variation: {typos: 0.9} before, null now"),
        ("data.normalization={source: none}", "data.normalization.source: none before, nfkc now"),
    ],
)
def test_a_setting_that_was_removed_is_another_value(write_config, before, line):
    """Unless it was that of a version without the setting, whose runs wrote none."""
    old = load(write_config(), [before])
    assert changed_settings(old, with_kept_settings(load(write_config()), old)) == [line]


def test_a_validation_set_keeps_its_tag(write_config):
    train = "data.train=[{name: one, source: a, target: b, tag: <a>}, {name: two, source: a, target: b, tag: <b>}]"
    both = [
        load(write_config(), [train, f"data.validation=[{{name: v, source: x, target: y, tag: {tag}}}]"])
        for tag in ("<a>", "<b>", "null")
    ]
    assert changed_settings(both[0], both[1]) == ["data.validation.v.tag: <a> before, <b> now"]
    assert changed_settings(both[0], both[2]) == ["data.validation.v.tag: <a> before, null now"]
    more = [train, "data.validation=[{name: v, source: q, target: y, tag: <a>}, {name: w, source: x, target: y}]"]
    assert changed_settings(both[0], load(write_config(), more)) == []


def test_a_run_that_goes_on_keeps_its_limits_of_length(write_config, tmp_path):
    run = ["search.max_length_ratio=2.31", "search.max_length=300"]
    for before, overrides, expected in (
        (run, [], (2.31, 300)),
        (run, ["search.max_length_ratio=auto", "search.max_length=auto"], (2.31, 300)),
        (run, ["search.max_length_ratio=1.7"], (1.7, 300)),
    ):
        search = with_kept_settings(load(write_config(), overrides), load(write_config(), before)).search
        assert (search.max_length_ratio, search.max_length) == expected
    old = load(stored(write_config, tmp_path, without=[("search", "max_length_ratio"), ("search", "max_length")]))
    assert (old.search.max_length_ratio, old.search.max_length) == (1.5, 256)


def test_a_run_that_goes_on_is_refused_another_value_that_somebody_wrote(write_config, tmp_path):
    old = load(stored(write_config, tmp_path, without=[("data", "normalization")]))
    now = with_kept_settings(load(write_config(), ["data.normalization={target: nfc}"]), old)
    assert changed_settings(old, now) == [
        "data.normalization.source: null before, nfkc now",
        "data.normalization.target: null before, nfc now",
    ]
