import json
import os
import re

import pytest

from nmt.errors import ConfigError, DataError
from nmt.text import TextPair


def files(directory):
    return sorted(path.name for path in directory.iterdir())


def test_a_pair_survives_its_directory(pair, tmp_path, source_lines, target_lines):
    directory = tmp_path / "runs" / "travel"
    assert not TextPair.exists(directory)
    pair.save(directory)
    assert TextPair.exists(directory)
    loaded = TextPair.load(directory)
    assert loaded.joint == pair.joint
    assert (loaded.source is loaded.target) == (pair.source is pair.target)
    for old, new, lines in ((pair.source, loaded.source, source_lines), (pair.target, loaded.target, target_lines)):
        assert new.fingerprint == old.fingerprint
        assert new.vocabulary.tokens == old.vocabulary.tokens
        assert new.settings == old.settings
        token_ids = old.encode_batch(lines)
        assert new.encode_batch(lines) == token_ids
        assert [new.decode(ids) for ids in token_ids] == [old.decode(ids) for ids in token_ids]


def test_files_say_what_they_are(pairs, tmp_path):
    for name, pair in pairs.items():
        pair.save(tmp_path / name)
    assert files(tmp_path / "unigram") == ["tokenizer.json", "tokenizer.model", "vocabulary.txt"]
    assert files(tmp_path / "two forms") == files(tmp_path / "bpe")
    assert files(tmp_path / "whitespace") == ["tokenizer.json", "vocabulary.txt"]
    sides = ["vocabulary.source.txt", "vocabulary.target.txt"]
    assert files(tmp_path / "character") == ["tokenizer.json", *sides]
    assert files(tmp_path / "bpe") == ["tokenizer.json", "tokenizer.source.model", "tokenizer.target.model", *sides]
    described = json.loads((tmp_path / "bpe" / "tokenizer.json").read_text(encoding="utf-8"))
    assert described["sides"]["target"]["type"] == "sentencepiece"
    assert described["sides"]["target"]["settings"]["model_type"] == "bpe"
    assert described["sides"]["target"]["vocabulary_size"] == len(pairs["bpe"].target.vocabulary)


def test_sides_of_different_kinds_go_together(pairs, tmp_path):
    mixed = TextPair(source=pairs["character"].source, target=pairs["unigram"].target, joint=False)
    mixed.save(tmp_path)
    loaded = TextPair.load(tmp_path)
    assert (loaded.source.type, loaded.target.type) == ("character", "sentencepiece")


def test_a_joint_pair_must_be_equal_on_both_sides(pairs):
    with pytest.raises(ConfigError, match="of a joint pair must be equal on both sides"):
        TextPair(source=pairs["bpe"].source, target=pairs["bpe"].target, joint=True)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.source.model", "vocabulary.target.txt"])
def test_a_missing_file_is_named(pairs, tmp_path, name):
    pairs["bpe"].save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=re.escape(str(tmp_path / name)) + ": cannot be read: No such file") as caught:
        TextPair.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", b"{", "not a description of tokenizers"),
        ("tokenizer.json", b"[]", "not a description of tokenizers"),
        ("tokenizer.json", b'{"format_version": 7}', "format_version must be 1, got 7"),
        ("tokenizer.json", b'{"format_version": 1}', "not a description of tokenizers"),
        ("tokenizer.json", b'{"format_version": 1, "joint": true, "sides": {"joint": 3}}', "not a description"),
        ("tokenizer.model", b"junk", "not a SentencePiece model"),
        ("tokenizer.model", b"", "not a SentencePiece model"),
        ("vocabulary.txt", b"<pad>\n<unk>\n<s>\n</s>\nother\n", "has changed since tokenizer.json was written"),
    ],
)
def test_a_damaged_file_is_named(pairs, tmp_path, name, content, message):
    pairs["unigram"].save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / name)) + ".*" + message) as caught:
        TextPair.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_kind_is_named(pairs, tmp_path):
    pairs["unigram"].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"sentencepiece"', '"wordpiece"'), encoding="utf-8")
    with pytest.raises(DataError, match="must be sentencepiece, whitespace or character, got wordpiece"):
        TextPair.load(tmp_path)


def test_the_model_of_another_run_is_refused(pairs, tmp_path):
    pairs["bpe"].save(tmp_path)
    (tmp_path / "tokenizer.source.model").write_bytes((tmp_path / "tokenizer.target.model").read_bytes())
    with pytest.raises(DataError, match=r"the source tokenizer is not the one that tokenizer\.json describes"):
        TextPair.load(tmp_path)


def test_nothing_is_left_beside_the_files_when_writing_fails(pairs, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "vocabulary.txt").mkdir()
    with pytest.raises(DataError, match=r"vocabulary\.txt: cannot be written"):
        pairs["whitespace"].save(blocked)
    assert files(blocked) == ["vocabulary.txt"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        pairs["whitespace"].save(tmp_path / "file" / "run")


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(pairs, tmp_path):
    for name in ("tokenizer.json", "vocabulary.txt", "tokenizer.model"):
        pairs["unigram"].save(tmp_path)
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=f"{name}: cannot be read: Is no regular file"):
            TextPair.load(tmp_path)
        (tmp_path / name).unlink()


def test_links_to_files_are_followed(pairs, tmp_path):
    pairs["unigram"].save(tmp_path / "files")
    (tmp_path / "links").mkdir()
    for path in (tmp_path / "files").iterdir():
        (tmp_path / "links" / path.name).symlink_to(path)
    assert TextPair.load(tmp_path / "links").fingerprints == pairs["unigram"].fingerprints
