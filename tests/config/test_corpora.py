"""Lists of corpora: how they are merged, what of them is refused, and what of a run may change."""

import pytest
import yaml

from nmt.config import changed_settings, load
from nmt.errors import ConfigError

LISTED = {
    "model_directory": "run",
    "data": {
        "source_language": "es",
        "target_language": "en",
        "train": [
            {"name": "clean", "source": "a.es", "target": "a.en", "weight": 2},
            {"name": "back", "source": "b.es", "target": "b.en", "weight": 1, "tag": "<bt>"},
        ],
        "validation": [{"name": "news", "source": "v.es", "target": "v.en"}, {"name": "web", "pairs": "w.tsv"}],
        "stages": [
            {"weights": {"back": 1}, "until": {"updates": 20}},
            {"weights": {"clean": 3, "back": 1}, "until": {"epochs": 2, "of": "clean"}},
            {"name": "fine", "weights": {"clean": 1}},
        ],
    },
}


@pytest.fixture
def path(tmp_path):
    (tmp_path / "listed.yaml").write_text(yaml.safe_dump(LISTED), encoding="utf-8")
    return tmp_path / "listed.yaml"


def test_a_list_gives_each_corpus_its_name(path):
    config = load(path)
    assert [*config.data.corpora] == ["train.clean", "train.back", "validation.news", "validation.web"]
    assert config.named_files["data.train.back.target"] == ("b.en",)
    assert config.data.tags == ("<bt>",)
    assert [stage.until and stage.until.epochs for stage in config.data.stages] == [None, 2.0, None]


def test_keys_that_are_names_change_these_alone(path, tmp_path):
    (tmp_path / "later.yaml").write_text("data: {train: {back: {weight: 7, tag: null}}}", encoding="utf-8")
    config = load([path, tmp_path / "later.yaml"], ["data.train.clean.source=c.es", "data.validation.web.pairs=x.tsv"])
    clean, back = config.data.train
    assert (clean.source, clean.weight, back.weight, back.tag) == ("c.es", 2.0, 7.0, None)
    assert config.data.validation[1].pairs == "x.tsv"


def test_a_corpus_that_is_named_in_the_other_way_takes_the_place_of_the_first(path, tmp_path):
    settings = LISTED["data"] | {
        "train": {"pairs": "a.txt", "format": "tsv", "loss_weight_column": 3, "alignment": "a.links"}, "stages": None
    }  # fmt: skip
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(LISTED | {"data": settings}), encoding="utf-8")
    (tmp_path / "files.yaml").write_text("data: {train: {source: c.es, target: c.en}}", encoding="utf-8")
    train = load([tmp_path / "pairs.yaml", tmp_path / "files.yaml"]).data.train
    assert (train.pairs, train.source, train.format, train.loss_weight_column) == (None, "c.es", None, None)
    assert train.alignment == "a.links"
    train = load([tmp_path / "pairs.yaml", tmp_path / "files.yaml"], ["data.train.pairs=d.tsv"]).data.train
    assert (train.pairs, train.source, train.target) == ("d.tsv", None, None)
    again = ["data.train.source=d.tsv", "data.train.target=d.tsv"]  # one file with both sides
    train = load([tmp_path / "pairs.yaml"], again).data.train
    assert (train.pairs, train.source, train.format, train.loss_weight_column) == (None, "d.tsv", "tsv", 3)
    both = settings["train"] | {"pairs": None, "source": "a.txt", "target": "a.txt"}
    both = LISTED | {"data": settings | {"train": both}}
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(both), encoding="utf-8")
    assert load([tmp_path / "both.yaml", tmp_path / "files.yaml"]).data.train.format is None
    web = load(path, ["data.validation.web.source=x.es", "data.validation.web.target=x.en"]).data.validation[1]
    assert (web.pairs, web.target) == (None, "x.en")
    with pytest.raises(ConfigError, match=r"web\)\.target is missing"):
        load(path, ["data.validation.web.source=x.es"])
    with pytest.raises(ConfigError, match="stands in place of source and target, got source and target too"):
        load(path, ["data.train={pairs: a.tsv, source: b.es, target: b.en}", "data.stages=null"])


def test_a_list_or_a_corpus_replaces_the_list(path, tmp_path):
    (tmp_path / "one.yaml").write_text("data: {stages: null, train: {source: s.es, target: s.en}}", encoding="utf-8")
    assert load([path, tmp_path / "one.yaml"]).data.train.source == "s.es"
    listed = load(path, ["data.stages=null", "data.train=[{name: only, source: o.es, target: o.en}]"]).data
    assert [*listed.corpora][:1] == ["train.only"]
    assert load([tmp_path / "one.yaml", path]).data.train[0].name == "clean"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train.claen.weight=5", "is unknown: the list data.train has the names clean, back: did you mean clean"),
        ("data.train.new.weight=5", r"data\.train\.new is unknown: the list data\.train has the names clean, back$"),
        ("data.train.clean.filters={min_length: 9, max_length: 3}", "max_length must be at least min_length, 9, got 3"),
        ("data.train.clean.wieght=5", r"data\.train\.0 \(clean\)\.wieght is unknown: did you mean"),
        ("data.train.back.source=null", r"data\.train\.1 \(back\)\.source is missing"),
        ("data.train.clean.weight=null", "data.train must give all corpora a weight or none, got none for clean"),
        ("data.train.clean.name=back", "data.train must give each corpus a name of its own, got back twice"),
        ("data.train.clean.name=source", "must be of letters, digits, _ and -, and none of the settings, got 'source'"),
        ("data.train.back.tag=<b t>", r"1 \(back\)\.tag must be one word, .*: try <bt> \(--set data\.train\.back\.tag"),
        ("data.train=[]", "data.train must have a corpus at least, got an empty list"),
        ("data.temperature=2", "data.temperature is for corpora without weights"),
        ("data.stages=[{weights: {clena: 1}}]", "must name corpora of data.train, got clena: try clean or back"),
        ("data.stages=[{weights: {clean: 0}}]", r"stages\.0\.weights must give a corpus a weight above 0"),
        ("data.stages=[{weights: {clean: 1}, until: {updates: 3}}]", "is set, but the last stage lasts until"),
        ("data.stages=[{name: '2', until: {updates: 3}}, {}]", "must give each stage a name of its own, got 2 twice"),
        ("data.stages=[{}, {}]", r"stages\.0\.until is missing: what ends the stage, say \{updates: 20000\}"),
        ("data.stages=[{until: {epochs: 1}}, {}]", "is missing: epochs of which corpus, clean or back"),
        ("data.stages=[{until: {epochs: 1, updates: 2}}, {}]", "or epochs must be given, and one of them alone"),
        ("data.stages=[{until: {epochs: 1, of: back}, weights: {clean: 1}}, {}]", "must be a corpus of the stage"),
        ("training.deciding_validation=new", "must be one of data.validation, news or web, got new"),
        ("training.max_epochs=3", "training.max_epochs must be null if data.train is a list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(path, override, message):
    with pytest.raises(ConfigError, match=message):
        load(path, [override])


def test_what_only_a_corpus_in_a_list_has_is_said_to_be_that(write_config):
    with pytest.raises(
        ConfigError, match=r"data\.train\.tag is for a corpus in a list: write data\.train as a list of"
    ):
        load(write_config(), ["data.train.tag=<bt>"])
    with pytest.raises(ConfigError, match=r"data\.train\.sorce is unknown: did you mean data\.train\.source"):
        load(write_config(), ["data.train.sorce=a"])


def test_a_side_of_tags_needs_a_tag(path):
    with pytest.raises(
        ConfigError, match=r"data\.tag_side is for corpora with tags, and there is none: give one a tag"
    ):
        load(path, ["data.tag_side=target", "data.train.back.tag=null"])


def test_stages_need_a_list(tmp_path):
    settings = {**LISTED, "data": {**LISTED["data"], "train": {"source": "a", "target": "b"}}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data\.stages is for a list of corpora in data\.train"):
        load(tmp_path / "one.yaml")


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("data.train.clean.weight=3", ["data.train.clean.weight: 2.0 before, 3.0 now"]),
        ("data.train.back.tag=null", ["data.train.back.tag: <bt> before, null now"]),
        ("data.tag_side=target", ["data.tag_side: source before, target now"]),
        ("data.train.clean.source=elsewhere.es", []),
        ("data.validation.news.source=elsewhere.es", []),
        ("data.train=[{name: clean, source: a, target: b}]", ["data.train: clean, back before, clean now"]),
    ],
)
def test_files_may_move_and_the_mixture_may_not_change(path, override, changed):
    before = load(path, ["data.stages=null"])
    assert changed_settings(before, load(path, ["data.stages=null", override])) == changed


def test_stages_that_changed_are_told_as_they_are_written(path):
    change = changed_settings(load(path, ["data.stages=null"]), load(path, ["data.stages=[{weights: {clean: 1}}]"]))
    assert change == ["data.stages: null before, [{weights: {clean: 1.0}}] now"]
