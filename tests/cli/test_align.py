"""`nmt align`, `nmt attention`, and what `nmt translate` says by the attention of its model."""

import json
import sys

import pytest

from nmt.errors import DataError
from nmt.inference.translator import Translator
from nmt.tasks.align import read_dictionary

pytestmark = pytest.mark.usefixtures("eagerly")


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_links_and_offsets_of_given_pairs(run_nmt, transformer_run, tmp_path):
    run, source, target = transformer_run.directory, transformer_run.source, transformer_run.reference
    plain = run_nmt("align", run, "--source", source, "--target", target, "--tokens", tmp_path / "cut")
    assert plain.code == 0, plain.err
    assert "5 pairs: " in plain.err
    cut = [(tmp_path / f"cut.{side}").read_text("utf-8") for side in ("source", "target")]
    assert cut == [source.read_text("utf-8"), target.read_text("utf-8")]
    pairs = zip(*(text.splitlines() for text in cut), strict=True)
    given = [{"source": source, "target": target, "id": 7} for source, target in pairs]
    stdin = "".join(f"{json.dumps(each)}\n" for each in given).encode()
    full = run_nmt("align", run, "--pairs", "-", "--format", "jsonl", "--soft", stdin=stdin)
    assert full.code == 0, full.err
    aligned = Translator.load(run).align([(each["source"], each["target"]) for each in given], soft=True)
    for line, record, before, alignment in zip(plain.lines, records(full.out), given, aligned, strict=True):
        assert record.items() >= before.items()
        assert line == " ".join(f"{i}-{j}" for i, j in record["links"])
        assert record["links"] == [list(link) for link in alignment.links]
        assert [before["source"][start:end] for start, end in record["source_words"]] == before["source"].split()
        for name, expected in (("word_weights", alignment.soft.words), ("token_weights", alignment.soft.tokens)):
            for row, known in zip(record[name], expected, strict=True):
                assert row == pytest.approx(known, abs=1e-5)
        assert record["token_links"] == [list(link) for link in alignment.soft.token_links]
        assert len(record["source_tokens"]) == len(record["source_spans"]) == len(record["token_weights"][0])
        assert len(record["target_tokens"]) == len(record["target_spans"]) == len(record["token_weights"])


def test_what_another_alignment_said_gives_way(run_nmt, transformer_run):
    given = {"source": "uno dos", "target": "one two", "target_ids": [4, 5], "links": [[9, 9]], "word_weights": [[7]]}
    done = run_nmt(
        "align", transformer_run.directory, "--pairs", "-", "--format", "jsonl", stdin=json.dumps(given).encode()
    )
    (record,) = records(done.out)
    words = [record["target"][start:end] for start, end in record["target_words"]]
    assert record["target"] == " ".join(words) != "one two", "the text of the ids"
    assert "word_weights" not in record
    assert record["links"] != [[9, 9]]


def test_words_that_are_written_replace_no_input(run_nmt, transformer_run, tmp_path):
    paths = [tmp_path / "t.source", tmp_path / "t.target"]
    for path in paths:
        path.write_text("uno\n")
    refused = run_nmt(
        "align", transformer_run.directory, "--source", paths[0], "--target", paths[1], "--tokens", tmp_path / "t"
    )
    assert refused.code == 1
    assert "must not be replaced, it is the file that --source names" in refused.err
    assert paths[0].read_text() == "uno\n"


def test_translations_tell_their_links(run_nmt, transformer_run):
    stdin = b"uno dos\n\n"
    short = ("--beam-size", 2, "--set", "search.max_length=4")
    arguments = ("translate", transformer_run.directory, "--format", "jsonl", "--n-best", 2, *short)
    outcome = run_nmt(*arguments, "--alignments", stdin=stdin)
    assert outcome.code == 0, outcome.err
    found = records(outcome.out)
    alignments = [each.pop("alignment") for line in found for each in line["translations"]]
    assert found == records(run_nmt(*arguments, stdin=stdin).out)  # all else is as without
    texts = [(line["source"], each["text"]) for line in found for each in line["translations"]]
    for (source, text), alignment in zip(texts, alignments, strict=True):
        assert [source[start:end] for start, end in alignment["source_words"]] == source.split()
        assert [text[start:end] for start, end in alignment["target_words"]] == text.split()
        assert all(i < len(alignment["source_words"]) for i, _ in alignment["links"])
    assert any(alignment["links"] for alignment in alignments)


def test_unknown_words_are_replaced_and_counted(run_nmt, transformer_run, monkeypatch, tmp_path):
    bias = 40.0  # UNK is all that the model writes
    original = Translator.of.__func__

    def biased(cls, *opened, **how):
        translator = original(cls, *opened, **how)
        values = translator.model.output_bias.value.numpy()
        values[1] += bias
        translator.model.output_bias.assign(values)
        return translator

    monkeypatch.setattr(Translator, "of", classmethod(biased))
    dictionary = tmp_path / "words.tsv"
    dictionary.write_text("uno\tUNIT\n", encoding="utf-8")
    length = ("--set", "search.max_length=3", "--set", "search.min_length=3")
    arguments = ("translate", transformer_run.directory, *length)
    plain = run_nmt(*arguments, stdin=b"uno\n\n")
    assert plain.out == "<unk> <unk>\n\n"
    copied = run_nmt(*arguments, "--replace-unknown", stdin=b"uno\n\n")
    assert copied.out == "uno uno\n\n"
    assert "2 unknown tokens replaced: 0 by the dictionary, 2 by the source word" in copied.err
    known = run_nmt(*arguments, "--replace-unknown", "--dictionary", dictionary, stdin=b"uno\n\n")
    assert known.out == "UNIT UNIT\n\n"
    assert "2 unknown tokens replaced: 2 by the dictionary, 0 by the source word" in known.err


def test_a_dictionary_is_two_columns_or_a_lexical_table(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("a\tx\nb\ty z\n", encoding="utf-8")
    assert read_dictionary(path) == {"a": "x", "b": "y z"}
    path.write_text("a\tx\t0.25\t0.9\na\ty\t0.5\t0.1\na\tz\t0.125\t1\n", encoding="utf-8")
    assert read_dictionary(path) == {"a": "y"}
    for content, words in (
        ("a\tx\na\ty\n", "line 2: 'a' is there twice"),
        ("a\tx\nb\n", "line 2 must be a source word, a tab and a target word, got 'b'"),
        ("\tx\n", "line 1 must be a source word"),
        ("a\tx\ty\tz\n", "line 1: the third column must be a number, got 'y'"),
        ("", "must hold words, got none"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(DataError, match=words):
            read_dictionary(path)


def test_a_picture_is_drawn(run_nmt, transformer_run, tmp_path, monkeypatch):
    path = tmp_path / "attention.png"
    arguments = ("attention", transformer_run.directory, "uno dos", "-o", path)
    outcome = run_nmt(*arguments, "--target", "one two", "--head", 2)
    assert (outcome.code, outcome.out) == (0, "one two\n"), outcome.err
    assert path.read_bytes().startswith(b"\x89PNG")
    assert run_nmt(*arguments[:2], "", "-o", path).err.endswith("source and target must hold a word each\n")
    long = run_nmt("attention", transformer_run.directory, "uno " * 150, "--target", "one", "-o", path)
    assert "at most 150 tokens a side, got 151 by 1" in long.err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    missing = run_nmt(*arguments)
    assert missing.code == 1
    assert missing.err.startswith("nmt: error: pictures need Matplotlib, which is not installed: pip install")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("align", "--source", "a"), "give --source and --target, or --pairs"),
        (("align", "--pairs", "a", "--soft"), "--soft needs --format jsonl"),
        (("translate", "--alignments"), "--alignments needs --format jsonl"),
        (("translate", "--dictionary", "a"), "--dictionary is for --replace-unknown"),
        (("attention", "uno", "-o", "a.jpg"), "a name that ends with .png, got a.jpg"),
    ],
)
def test_what_does_not_go_together_is_refused(run_nmt, transformer_run, arguments, words):
    verb, *rest = arguments
    outcome = run_nmt(verb, transformer_run.directory, *rest)
    assert outcome.code == 2
    assert words in outcome.err


@pytest.mark.parametrize("asked", [("--alignments", "--format", "jsonl"), ("--replace-unknown",)])
def test_an_engine_that_shows_no_attention_is_refused(run_nmt, transformer_run, asked):
    outcome = run_nmt("translate", transformer_run.directory, "--engine", "ctranslate2", *asked)
    assert outcome.code == 1
    assert "CTranslate2 does not tell what its model looks at" in outcome.err
