"""`nmt update-vocab`, from its arguments to what it prints."""

import json

import pytest


@pytest.fixture
def new_words(tmp_path):
    """Text with words that the tiny run does not know, a file a side."""
    paths = tmp_path / "new.es", tmp_path / "new.en"
    paths[0].write_text("uno once doce\nonce\n", encoding="utf-8")
    paths[1].write_text("one eleven\n", encoding="utf-8")
    return paths


def test_the_difference_is_data_and_the_rest_is_not(run_nmt, trained_run, new_words, tmp_path):
    source, target = new_words
    outcome = run_nmt(
        "update-vocab", trained_run.directory, "--with-source", source, "--with-target", target, "-o", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0
    assert outcome.lines == [
        "source vocabulary: 13 tokens before, 15 now",
        "  kept     13",
        "  added     2: once (<unk>), doce (<unk>)",
        "  dropped   0",
        "  2 lines of this text: 4 tokens before, 4 now; 3 unknown before, 0 now",
        "target vocabulary: 13 tokens before, 14 now",
        "  kept     13",
        "  added     1: eleven (<unk>)",
        "  dropped   0",
        "  1 line of this text: 2 tokens before, 2 now; 1 unknown before, 0 now",
    ]
    assert outcome.err == (
        f"{tmp_path / 'out'}: update-00000020 of {trained_run.directory} with the new vocabulary; it kept no optimizer "
        "to go on with, start from it with training.initialize_from\n"
    )
    translated = run_nmt("translate", tmp_path / "out", stdin=b"uno once\n")
    assert translated.code == 0
    assert translated.err == "engine: keras, as CTranslate2 cannot have model.type rnn\n"
    again = run_nmt("update-vocab", trained_run.directory, "--with-source", source, "-o", tmp_path / "out")
    assert (again.code, again.out) == (1, "")
    assert "out: exists already: choose another directory with -o, or replace it with --overwrite" in again.err


def test_a_file_with_both_sides_is_no_text_to_learn_from(run_nmt, trained_run, tmp_path):
    (tmp_path / "new.jsonl").write_text('{"source": "uno", "target": "one"}\n', encoding="utf-8")
    outcome = run_nmt("update-vocab", trained_run.directory, "--with-source", tmp_path / "new.jsonl", "--dry-run")
    assert (outcome.code, outcome.out) == (1, "")
    assert "new.jsonl: must be lines of text, got .jsonl, which has both sides: nmt convert makes lines" in outcome.err


def test_a_dry_run_writes_nothing_and_needs_no_tensorflow(run_nmt, trained_run, new_words, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.backend.session.start", lambda **settings: pytest.fail("TensorFlow was started"))
    words = tmp_path / "words.txt"
    words.write_text("uno\nonce\n")
    outcome = run_nmt(
        "update-vocab", trained_run.directory, "--source-tokenizer", words, "--dry-run", "--json", "-o", tmp_path / "o"
    )
    assert outcome.err == f"{tmp_path / 'o'}: not written, this was a dry run\n"
    content = json.loads(outcome.out)
    assert (content["written"], content["checkpoint"]) == (False, None)
    source, target = content["vocabularies"]["source"], content["vocabularies"]["target"]
    assert (source["size_before"], source["size_now"], source["kept"], source["added"]) == (13, 6, 5, 1)
    assert len(source["dropped_tokens"]) == source["dropped"] == 8
    assert (target["kept"], target["added"], target["dropped"], target["text"]) == (13, 0, 0, None)
    replaced = run_nmt(
        "update-vocab", trained_run.directory, "--replace", "--with-source", new_words[0], "--dry-run"
    )  # fmt: skip
    assert replaced.lines[:3] == [
        "source vocabulary: 13 tokens before, 7 now",
        "  kept     5",
        "  added    2: once (<unk>), doce (<unk>)",
    ]
    assert replaced.lines[3].startswith("  dropped  8: dos, ")
    assert replaced.lines[3].endswith(" ...")
    words.write_text("<unk>\n<pad>\n<s>\n</s>\nuno\nonce\n")  # as Joey NMT writes it
    listed = run_nmt("update-vocab", trained_run.directory, "--source-tokenizer", words, "--dry-run")
    assert listed.lines[0] == "source vocabulary: 13 tokens before, 6 now"
    assert listed.lines[1] == "  kept     5, 1 of them under another id"
    assert not (tmp_path / "o").exists()


def test_nothing_new_is_said_and_nothing_written(run_nmt, trained_run, tmp_path):
    outcome = run_nmt(
        "update-vocab", trained_run.directory, "--with-source", trained_run.source, "-o", tmp_path / "out"
    )
    assert outcome.code == 0
    assert outcome.err == f"{trained_run.directory}: the vocabulary covers this already, nothing is written\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either text, such as --with FILE, or finished vocabularies, such as --tokenizer FILE"),
        (("--with", "a", "--tokenizer", "b"), "give either text, such as --with FILE, or finished vocabularies"),
        (("a", "b"), "got the unexpected argument a: files need --with, after RUN"),
        (("--replace", "--tokenizer", "a"), "--replace learns from text: leave it out"),
        (("--replace", "--with", "a", "--max-new-tokens", 3), "leave them out if it is replaced"),
        (("--with", "a", "--minimum-count", 0), "Invalid value for '--minimum-count'"),
    ],
)
def test_wrong_usage(run_nmt, arguments, message):
    outcome = run_nmt("update-vocab", "run", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err
    assert outcome.err.endswith("(see nmt update-vocab --help)\n") or "Invalid value" in outcome.err


def test_more_files_may_follow_with(run_nmt, trained_run, new_words):
    """Both are read: the run has two vocabularies, so what is refused is whose text they are."""
    outcome = run_nmt("update-vocab", trained_run.directory, "--with", *new_words)
    assert outcome.code == 1
    assert "this model has a vocabulary for each language: say whose files these are (--with-source" in outcome.err
