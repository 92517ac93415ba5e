import gzip
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nmt.data import Corpus, find_store, open_store
from nmt.data import store as store_module
from nmt.errors import DataError
from nmt.text import EOS_ID, SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from nmt.text import tokenizer as tokenizer_module


def folders(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def sequences(store):
    """All pairs of a store as lists of token ids."""
    return [(store.source[i].tolist(), store.target[i].tolist()) for i in range(len(store))]


def files(folder):
    """What the files of a store hold, its manifest aside, which names the corpus."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


def forbid_reading(monkeypatch):
    def refuse(corpus):
        raise RuntimeError("the corpus was read again")

    monkeypatch.setattr(Corpus, "pairs", refuse)


def test_each_pair_is_stored_once_with_its_eos(store, corpus, text):
    assert len(store) == len(corpus[0])
    for i, (source, target) in enumerate(zip(*corpus, strict=True)):
        assert store.source[i].tolist() == [*text.source.encode(source), EOS_ID]
        assert store.target[i].tolist() == [*text.target.encode(target), EOS_ID]
    assert store.source_lengths.tolist() == [len(line.split()) + 1 for line in corpus[0]]
    assert store.target_lengths.tolist() == [len(line.split()) + 1 for line in corpus[1]]
    assert (store.source[0].dtype, store.source_lengths.dtype) == (np.int32, np.uint16)


def test_a_store_is_found_again_without_reading_the_corpus(store, paths, text, tmp_path, monkeypatch):
    forbid_reading(monkeypatch)
    again = open_store(tmp_path / "store", *paths, text=text, max_length=20)
    assert again.path == store.path
    assert again.report == store.report
    assert again.content_hash == store.content_hash
    assert sequences(again) == sequences(store)


def test_paths_may_be_written_differently(store, paths, text, tmp_path, monkeypatch):
    forbid_reading(monkeypatch)
    monkeypatch.chdir(tmp_path)
    again = open_store("store", [paths[0].name], f"./{paths[1].name}", text=text, max_length=20)
    assert again.path.resolve() == store.path.resolve()


@pytest.mark.parametrize("change", ["time", "content", "tokenizer", "max_length", "paths"])
def test_whatever_decides_the_content_makes_a_new_store_in_place_of_the_old(
    store, paths, text, tmp_path, change, write_lines, corpus
):
    max_length = 20
    source = paths[0]
    if change == "time":
        os.utime(source, ns=(1, 1))
    elif change == "content":
        write_lines("train.es", [*corpus[0][:-1], "nine"])
    elif change == "tokenizer":
        text = TextPair.learn(WhitespaceTokenizer, *corpus, joint=True, vocabulary_size=None, minimum_count=1)
    elif change == "max_length":
        max_length = 21
    else:
        source = write_lines("other.es", corpus[0])
    new = open_store(tmp_path / "store", source, paths[1], text=text, max_length=max_length)
    assert new.path != store.path
    assert folders(tmp_path / "store") == [new.path.name]
    assert (new.content_hash == store.content_hash) == (change != "content")
    assert len(store.source[3]) == store.source_lengths[3]  # a run that has the old one open goes on


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("change", ["time", "place", "compressed", "pieces"])
def test_the_same_text_is_not_encoded_again(
    store, corpus, paths, text, tmp_path, write_lines, monkeypatch, change, links
):
    before, kept = sequences(store), files(store.path)
    if change == "time":
        os.utime(paths[0], ns=(1, 1))
    elif change == "pieces":
        paths = [
            [write_lines(f"{part}.{side}", lines[cut]) for part, cut in (("a", slice(7)), ("b", slice(7, None)))]
            for side, lines in zip(("es", "en"), corpus, strict=True)
        ]
    else:
        ending = ".gz" if change == "compressed" else ""
        paths = [write_lines(f"moved.{i}{ending}", lines) for i, lines in enumerate(corpus)]

    def refuse(*arguments, **settings):
        raise OSError("no links here") if "link" in str(settings) else RuntimeError("encoded again")

    monkeypatch.setattr(store_module, "build_store_folder", refuse)
    if not links:
        monkeypatch.setattr(os, "link", lambda *arguments: refuse(link=True))
    again = open_store(tmp_path / "store", *paths, text=text, max_length=20)
    assert again.path != store.path
    assert (again.content_hash, again.report) == (store.content_hash, store.report)
    assert folders(tmp_path / "store") == [again.path.name]
    assert (sequences(again), files(again.path)) == (before, kept)
    assert open_store(tmp_path / "store", *paths, text=text, max_length=20).path == again.path
    with pytest.raises(RuntimeError, match="encoded again"):
        open_store(tmp_path / "store", *paths, text=text, max_length=19)
    other = write_lines("x.es", [*corpus[0][:-1], "nine nine"]), write_lines("x.en", corpus[1])
    with pytest.raises(RuntimeError, match="encoded again"):
        open_store(tmp_path / "store", *other, text=text, max_length=20)


def test_a_store_is_looked_for_without_writing(store, paths, text, tmp_path, monkeypatch):
    forbid_reading(monkeypatch)
    found = find_store(tmp_path / "store", *paths, text=text, max_length=20)
    assert (found.path, found.content_hash) == (store.path, store.content_hash)
    assert find_store(tmp_path / "store", *paths, text=text, max_length=19) is None
    assert find_store(tmp_path / "nowhere", *paths, text=text, max_length=20) is None
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(DataError, match="absent: cannot be read"):
        find_store(tmp_path / "store", tmp_path / "absent", paths[1], text=text, max_length=20)


def test_a_directory_may_serve_several_runs(store, paths, text, tmp_path):
    other = open_store(tmp_path / "store", *paths, text=text, max_length=9, keep_others=True)
    assert folders(tmp_path / "store") == sorted([store.path.name, other.path.name])


def test_a_store_opens_where_nothing_can_be_written(store, paths, text, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr(store_module, "_lock", refuse)
    assert sequences(open_store(tmp_path / "store", *paths, text=text, max_length=20)) == sequences(store)


def test_the_content_hash_does_not_see_compression_or_blocks(store, corpus, text, tmp_path, write_lines, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_BLOCK_LINES", 7)
    paths = write_lines("train.es.gz", corpus[0]), write_lines("train.en.gz", corpus[1])
    other = open_store(tmp_path / "other", *paths, text=text, max_length=20)
    assert other.content_hash == store.content_hash == Corpus(*paths).content_hash()
    assert files(other.path) == files(store.path)


def test_unusable_pairs_are_dropped_and_counted(write_lines, text, tmp_path):
    kept = [("the train", "ONE"), ("the red train", "THE STATION ONE"), ("nine\rone", "AT\u2028NINE")]
    dropped = [("", "ONE"), ("one", " \u2028\t"), ("\x85", ""), ("one\0", "ONE"), ("one", "ONE " * 4), ("at " * 5, "A")]
    pairs = [dropped[0], kept[0], *dropped[1:4], kept[1], *dropped[4:], kept[2]]
    paths = write_lines("a.es", [pair[0] for pair in pairs]), write_lines("a.en", [pair[1] for pair in pairs])
    store = open_store(tmp_path / "store", *paths, text=text, max_length=3)
    report = store.report
    assert (report.pairs_read, report.kept, len(store)) == (9, 3, 3)
    assert (report.dropped_empty, report.dropped_nul, report.dropped_too_long) == (3, 1, 2)
    assert store.source_lengths.tolist() == [3, 4, 3]
    assert store.target[1].tolist() == [*text.target.encode(kept[1][1]), EOS_ID]


def test_a_side_without_tokens_counts_as_empty(write_lines, text, tmp_path):
    paths = write_lines("a.es", ["the", "train"]), write_lines("a.en", ["ONE", "ONE"])

    class Deaf(WhitespaceTokenizer):
        def encode(self, line):
            return [] if line == "train" else super().encode(line)

    pair = TextPair(source=Deaf(text.source.vocabulary), target=text.target, joint=False)
    assert open_store(tmp_path / "store", *paths, text=pair, max_length=3).report.dropped_empty == 1


def test_a_corpus_of_which_nothing_remains_says_why(write_lines, text, tmp_path):
    paths = write_lines("a.es", ["the red train", "one", ""]), write_lines("a.en", ["ONE", "AT AT AT", "ONE"])
    message = f"no pair of {paths[0]} and {paths[1]} is left to train on: 3 read, 2 longer than 2 tokens, 1 with"
    with pytest.raises(DataError, match=re.escape(message) + ".*raise max_length"):
        open_store(tmp_path / "store", *paths, text=text, max_length=2)
    assert folders(tmp_path / "store") == []


def test_a_corpus_error_leaves_nothing_behind(paths, text, tmp_path, write_lines):
    write_lines("train.en", ["ONE"])
    with pytest.raises(DataError, match="the same number of lines, got 60 lines in"):
        open_store(tmp_path / "store", *paths, text=text, max_length=20)
    assert folders(tmp_path / "store") == []


def test_a_missing_corpus_is_named(paths, text, tmp_path):
    with pytest.raises(DataError, match=r"none\.en: cannot be read: No such file"):
        open_store(tmp_path / "store", paths[0], tmp_path / "none.en", text=text, max_length=20)


def test_a_directory_that_cannot_hold_a_store_is_named(paths, text, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the token store cannot be written or read"):
        open_store(tmp_path / "file", *paths, text=text, max_length=20)


KILLED_BUILD = """
import os, sys
from nmt.data import open_store
from nmt.text import TextPair, tokenizer
tokenizer._BLOCK_LINES = 10
def die(pairs):
    if pairs == 30:
        os.kill(os.getpid(), 9)
directory, source, target, model = sys.argv[1:]
open_store(directory, source, target, text=TextPair.load(model), max_length=20, report_pairs=die)
"""


@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_passes_for_whole(paths, text, tmp_path, corpus):
    text.save(tmp_path / "model")
    directory = tmp_path / "store"
    command = [sys.executable, "-c", KILLED_BUILD, directory, *paths, tmp_path / "model"]
    assert subprocess.run(command, check=False).returncode == -9
    assert [name.startswith(".train-") for name in folders(directory)] == [True]
    store = open_store(directory, *paths, text=text, max_length=20)
    assert len(store) == len(corpus[0])
    assert folders(directory) == [store.path.name]


@pytest.mark.parametrize("damage", ["cut", "no manifest", "half a manifest", "missing file", "changed lengths"])
def test_a_damaged_store_is_built_again(store, paths, text, tmp_path, damage):
    before = sequences(store)
    manifest, file = store.path / "manifest.json", store.path / "target.records"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-2])
    elif damage == "no manifest":
        manifest.unlink()
    elif damage == "half a manifest":
        manifest.write_bytes(manifest.read_bytes()[:40])
    elif damage == "changed lengths":
        lengths = store.path / "source.lengths"
        first, second, *rest = np.fromfile(lengths, np.uint16)
        np.array([first - 1, second + 1, *rest], np.uint16).tofile(lengths)
    else:
        file.unlink()
    again = open_store(tmp_path / "store", *paths, text=text, max_length=20)
    assert sequences(again) == before


def test_the_corpus_passes_in_blocks(paths, text, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_module, "_BLOCK_LINES", 11)
    sizes = []

    class Watched(WhitespaceTokenizer):
        def encode_batch(self, lines):
            sizes.append(len(lines))
            return super().encode_batch(lines)

    pair = TextPair(source=Watched(text.source.vocabulary), target=text.target, joint=False)
    open_store(tmp_path / "store", *paths, text=pair, max_length=20)
    assert sizes == [11, 11, 11, 11, 11, 5]


@pytest.mark.parametrize(("size", "dtype"), [(65536, "uint16"), (65537, "int32")])
def test_ids_are_as_wide_as_the_vocabulary_needs(write_lines, tmp_path, size, dtype):
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *map(str, range(4, size))])
    tokenizer = WhitespaceTokenizer(vocabulary)
    pair = TextPair(source=tokenizer, target=tokenizer, joint=True)
    paths = write_lines("a.es", [f"{size - 1} 4"]), write_lines("a.en", ["5"])
    store = open_store(tmp_path / "store", *paths, text=pair, max_length=3)
    assert (store.path / "source.records").stat().st_size == 3 * np.dtype(dtype).itemsize + 4
    assert store.source[0].tolist() == [size - 1, 4, EOS_ID]


def test_the_manifest_can_be_read(store, paths):
    manifest = json.loads((store.path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["max_length"] == 20
    assert manifest["settings"]["source_files"][0][0] == str(paths[0])
    assert manifest["report"]["kept"] == len(store)


def test_checking_agrees_with_building(paths, store):
    assert len(list(Corpus(*paths).pairs())) == store.report.pairs_read


def test_a_truncated_corpus_is_refused_by_name(paths, text, tmp_path, corpus):
    content = gzip.compress("\n".join(corpus[1] * 20).encode())
    (tmp_path / "cut.en.gz").write_bytes(content[:-30])
    source = tmp_path / "long.es"
    source.write_text("\n".join(corpus[0] * 20), encoding="utf-8")
    with pytest.raises(DataError, match=r"cut\.en\.gz, line \d+: the gzip file is damaged"):
        open_store(tmp_path / "store", source, tmp_path / "cut.en.gz", text=text, max_length=20)
    shutil.rmtree(tmp_path / "store")
