"""Hashes by block are those of single lines; repeats and overlap are what a brute force finds."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.corpora.split import near_hash
from nmt.filters import repeated
from nmt.filters.features import CHARACTERS_LOOKED_AT, Lines
from nmt.filters.repeated import Overlap, Repeats, pair_keys

LINE = st.text(st.sampled_from("aAáß ñ1.,:字б\u0301\u200b\U0001f600"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=30))
def test_features_are_those_of_each_line(lines):
    block = Lines(lines)
    for name, key in (("hashes", str), ("near_hashes", lambda line: near_hash(unicodedata.normalize("NFC", line)))):
        hashes, keys = getattr(block, name).tolist(), list(map(key, lines))
        for one, other in zip(hashes, keys, strict=True):
            assert [each == one for each in hashes] == [each == other for each in keys]
    assert [value == 0 for value in block.near_hashes.tolist()] == [near_hash(line) is None for line in lines]
    assert block.num_words.tolist() == [len(line.split()) for line in lines]
    assert block.longest_words.tolist() == [max(map(len, line.split()), default=0) for line in lines]
    assert block.letters.tolist() == [sum(unicodedata.category(c)[0] == "L" for c in line) for line in lines]
    words = [(word, row) for row, line in enumerate(lines) for word in line.split()]
    assert len({*zip(block.words.tolist(), [word for word, _ in words], strict=True)}) == len({w for w, _ in words})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("ab"), max_size=9).map(" ".join), min_size=1, max_size=6),
    st.integers(1, 3),
    st.integers(2, 4),
)
def test_ngrams_and_repeats_within_lines(lines, order, times):
    block = Lines(lines)
    grams = [
        (tuple(line.split()[start : start + order]), row)
        for row, line in enumerate(lines)
        for start in range(len(line.split()) - order + 1)
    ]
    hashes, rows = block.ngrams(order)
    assert rows.tolist() == [row for _, row in grams]
    assert len({*zip(hashes.tolist(), [gram for gram, _ in grams], strict=True)}) == len({gram for gram, _ in grams})
    found = block.repeats(block.words, block.word_lines, period=order, times=times)

    def repeats(words):
        size = order * times
        return any(words[i : i + size] == words[i : i + order] * times for i in range(len(words) - size + 1))

    assert found.tolist() == [repeats(line.split()) for line in lines]


def test_long_lines_that_differ_late_are_not_the_same():
    base = "x" * (CHARACTERS_LOOKED_AT + 5)
    hashes = Lines([f"{base}a", f"{base}b", f"{base}a", base]).hashes
    assert hashes[0] == hashes[2]
    assert len({*hashes.tolist()}) == 3


@pytest.mark.parametrize("held", [1 << 17, 50])
def test_repeats_are_those_of_a_brute_force(tmp_path, monkeypatch, held):
    monkeypatch.setattr(repeated, "_HELD", held)
    generator = np.random.default_rng(1)
    keys = repeated.mixed(generator.integers(0, 400, 1000).astype(np.uint64))
    keys[generator.integers(0, 1000, 50)] = 0
    repeats, seen, expected = Repeats(tmp_path, "x"), set(), []
    for start in range(0, 1000, 97):
        repeats.add(keys[start : start + 97], start)
    for key in keys.tolist():
        expected.append(key in seen)
        seen |= {key} - {0}
    assert repeats.found().tolist() == expected
    assert list(tmp_path.iterdir()) == []


def test_overlap_is_that_of_a_brute_force():
    generator = np.random.default_rng(2)

    def pairs(count):
        return [tuple(" ".join(generator.choice(["a", "b"], 9)) for _ in range(2)) for _ in range(count)]

    train, sets = pairs(150), {"validation": pairs(30), "test": pairs(20)}
    sets["test"][4], sets["validation"][3] = train[7], (train[9][0].upper(), f"{train[9][1]}!")
    overlap, sides = Overlap(sets), tuple(Lines(side) for side in zip(*train, strict=True))
    exact, near = (pair_keys(*(getattr(side, name) for side in sides)) for name in ("hashes", "near_hashes"))
    in_sets = overlap.update(sides, exact, near)
    judging = {tuple(map(near_hash, pair)) for each in sets.values() for pair in each}
    assert in_sets.tolist() == [tuple(map(near_hash, pair)) in judging for pair in train]
    assert in_sets[9]

    def grams(line):
        words = line.split()
        return [tuple(words[i : i + repeated.ORDER]) for i in range(len(words) - repeated.ORDER + 1)]

    known = [{gram for pair in train for gram in grams(pair[side])} for side in (0, 1)]
    letters = {tuple(map(near_hash, pair)) for pair in train}
    for name, shared in overlap.shared().items():
        assert shared.exact.tolist() == [pair in train for pair in sets[name]]
        assert shared.near.tolist() == [tuple(map(near_hash, pair)) in letters for pair in sets[name]]
        assert shared.ngrams.tolist() == [
            any(2 * sum(gram in known[side] for gram in grams(pair[side])) >= len(grams(pair[side])) for side in (0, 1))
            for pair in sets[name]
        ]
