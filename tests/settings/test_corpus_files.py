"""How settings name the files of a corpus: braces, wildcards, and what does not fit; streams are copied to disk."""

import os
import threading

import pytest

from nmt.config import load
from nmt.data.corpus import Corpus
from nmt.data.lines import is_stream
from nmt.errors import ConfigError, DataError
from nmt.recipes.build_vocabulary import streams_on_disk
from nmt.settings.data import files_of_pairs
from tests import tiny

CORPORA = {name: [("uno", "one"), ("dos", "two")] for name in ("train", "validation")}


@pytest.fixture
def config_of(tmp_path, monkeypatch):
    """A function that loads a config whose training corpus is named so."""
    monkeypatch.chdir(tmp_path)

    def build(train, *overrides):
        return load(tiny.write_config(tmp_path, CORPORA, data={"train": train}), overrides)

    return build


@pytest.mark.parametrize(
    ("pattern", "there", "sources", "targets"),
    [
        ("c.{es,en}", [], ["c.es"], ["c.en"]),
        ("d/*.{es,en}.x", ["d/b.es.x", "d/b.en.x", "d/a.en.x"], ["d/a.es.x", "d/b.es.x"], ["d/a.en.x", "d/b.en.x"]),
        ("{es,en}/*.txt", ["es/a.txt", "en/b.txt"], ["es/a.txt", "es/b.txt"], ["en/a.txt", "en/b.txt"]),
        ("*/{es,en}.*", ["a/es.1", "a/en.1"], ["a/es.1"], ["a/en.1"]),
        ("*/?.{es,en}*", ["es/1.es", "b/1.es.gz", "es/1.en", "c/2.en"],
         ["b/1.es.gz", "c/2.es", "es/1.es"], ["b/1.en.gz", "c/2.en", "es/1.en"]),  # each beside its own name
        ("*.{es,en}", ["a.es"], ["a.es"], ["a.en"]),
        ("d*/{es,en}/*.txt", ["den/es/f.txt", "den/es/tes.txt", "den/en/f.txt", "den/en/ten.txt"],
         ["den/es/f.txt", "den/es/ten.txt", "den/es/tes.txt"], ["den/en/f.txt", "den/en/ten.txt", "den/en/tes.txt"]),
        ("d*/{e*,en}/*.txt", ["da/es/f.txt"], ["da/es/f.txt"], ["d*/en/*.txt"]),
        ("{es,en}/*", ["en/1"], ["es/1"], ["en/1"]),
        ("*.tsv", ["b.tsv", "a.tsv"], ["a.tsv", "b.tsv"], ["a.tsv", "b.tsv"]),
        ("none*.tsv", [], ["none*.tsv"], ["none*.tsv"]),
        ("[a].tsv", ["[a].tsv", "a.tsv"], ["[a].tsv"], ["[a].tsv"]),
        ("c.{es,en}", ["c.{es,en}"], ["c.{es,en}"], ["c.{es,en}"]),
    ],
)  # fmt: skip
def test_patterns_name_files_in_order(tmp_path, monkeypatch, pattern, there, sources, targets):
    monkeypatch.chdir(tmp_path)
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert files_of_pairs(pattern) == (tuple(sources), tuple(targets))


def test_a_corpus_of_pairs_is_read_as_one_of_two_files(config_of, tmp_path):
    (tmp_path / "p.tsv").write_text("en\tes\none\tuno\n")
    pairs = {"pairs": ["train.{es,en}", "p.tsv"], "source_column": "es", "target_column": 1}
    config = config_of(pairs)
    assert [*Corpus.of(config.data, "train").pairs()] == [("uno", "one"), ("dos", "two"), ("uno", "one")]
    assert config.named_files["data.train.pairs"] == ("train.es", "p.tsv", "train.en")
    assert config_of({"pairs": "x.tsv"}, "data.train.format=jsonl").data.train.format == "jsonl"


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"pairs": "a.tsv", "source": "b"}, "data.train.pairs stands in place of source and target, got source too"),
        ({"source": "a"}, "data.train.target is missing: a path or a list of paths .or pairs, for a file with both"),
        ({"source": "a", "target": "b", "format": "tsv"}, "data.train.format is for pairs, files that hold both sides"),
        ({"pairs": "a.{en,es}"}, r"data.train.pairs must name the source first, got a\.\{en,es\}: write \{es,en\}"),
        (
            [{"name": "one", "pairs": "a.{en,es}"}],
            r"data.train.one.pairs must name the source first, got a\.\{en,es\}: write \{es,en\}$",
        ),
        (
            [{"name": "one", "pairs": "a.{en,es}", "tag": "<2es>"}],
            r"write \{es,en\}, or, if its tag is of the other direction, source and target$",
        ),
        (
            {"pairs": "a", "format": "tsw"},
            "data.train.format must be tsv, jsonl, tmx or zip, or null, got the text .tsw",
        ),
        ({"pairs": "a", "source_column": 0}, "data.train.source_column must be a whole number of at least 1, or a te"),
        (
            {"source": "a", "target": "b", "loss_weight_column": 3},
            "data.train.loss_weight_column is for pairs, files that hold both sides, and source and target are given",
        ),
        (
            {"source": "a", "target": "b", "alignment_column": 3},
            "data.train.alignment_column is for pairs, files that hold both sides, and source and target are given",
        ),
        (
            {"pairs": "a.tsv", "alignment_column": 3, "alignment": "b"},
            "data.train.alignment stands in place of alignment_column, and both are given",
        ),
        (
            [{"name": "clean", "pairs": "a.tsv"}, {"name": "mined", "pairs": "b.tsv", "weight": -1}],
            r"data.train.1 \(mined\).weight must be a number of at least 0, or null, got -1",
        ),
        (
            [{"name": "mined", "pairs": "b.tsv", "tag": "a b"}],
            r"data.train.0 \(mined\).tag must be one word, got 'a b'",
        ),
        ({"pairs": []}, "data.train.pairs must be a path or a list of paths, or null, got the list"),
    ],
)
def test_what_does_not_fit_is_said(config_of, train, message):
    with pytest.raises(ConfigError, match=message) as caught:
        config_of(train)
    assert "\n" not in str(caught.value)


def test_a_side_is_no_file_with_both(tmp_path, config_of):
    (tmp_path / "both.jsonl").write_text('{"source": "a", "target": "b"}\n')
    config = config_of({"source": "both.jsonl", "target": "train.en"})
    with pytest.raises(DataError, match=r"both.jsonl: must hold one side .* give it as pairs, in a config as in train"):
        list(Corpus.of(config.data, "train").pairs())


def test_patterns_are_found_from_where_a_run_lies(config_of, tmp_path, monkeypatch):
    config_of({"pairs": "*train.{es,en}"})
    (tmp_path / "run").mkdir()
    written = (tmp_path / "config.yaml").read_text(encoding="utf-8")
    (tmp_path / "run/config.yaml").write_text(f"format_version: 1\n{written}", encoding="utf-8")
    (tmp_path / "run/tokenizer.json").touch()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load("../run/config.yaml").data.train.paths[0] == (f"{tmp_path}/train.es",)


def test_a_stream_is_copied_to_disk_and_named_there(config_of, tmp_path, caplog):
    content = "uno\tone\ndos\ttwo\n"
    names = []
    for name in ("first.tsv", "again"):
        os.mkfifo(tmp_path / name)
        assert is_stream(name)
        config = config_of({"pairs": name, "format": "tsv"})
        writer = threading.Thread(target=(tmp_path / name).write_text, args=[content])
        writer.start()
        with caplog.at_level("INFO"):
            kept = streams_on_disk(config, ["train", "validation"])
        writer.join()
        assert f"data.train: {name} can be read only once: copying it to disk first" in caplog.messages
        assert [*Corpus.of(kept.data, "train").pairs()] == [*Corpus.of(kept.data, "train").pairs()] == CORPORA["train"]
        names.append(kept.data.train.paths)
    assert names[0] == names[1]  # the same text goes on with the same run
    assert os.listdir(config.token_store_directory) == [os.path.basename(names[0][0][0])]
    assert streams_on_disk(kept, ["train", "validation"]) is kept
    together = config_of({"pairs": "again", "format": "tsv"}, "training.distribution=multi_worker")
    with pytest.raises(DataError, match=r"data.train: again: must be a file that all workers can read, got a stream"):
        streams_on_disk(together, ["train"])
