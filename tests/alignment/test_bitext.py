"""Words, their numbers, and the word pairs of all cells."""

import tempfile
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.alignment import bitext as bitexts
from nmt.alignment.bitext import Cooccurrences, cut, cut_spans, encode

PAIRS = [
    (["a", "b", "c"], ["x", "y"]),
    (["B", "d"], ["x", "x", "y", "z"]),
    ([], ["x"]),
    (["c", "a", "d"], ["z", "y"]),
    (["a"] * 6, ["x"]),
]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't  go, T-Shirt’s 12.50-", ["Don't", "go", ",", "T-Shirt’s", "12", ".", "50", "-"]),
        ("¿Qué? ", ["¿", "Qué", "?"]),
        ("e\u0301te\u0301 नमस्ते!", ["e\u0301te\u0301", "नमस्ते", "!"]),
        ("我爱 ABC猫", ["我", "爱", "ABC", "猫"]),
        ("", []),
    ],
)
def test_cut(text, words):
    assert cut(text) == words


def test_words_are_numbered_without_case_and_bad_pairs_left_out():
    bitext = encode(PAIRS, max_length=5)
    assert bitext.source.words == ["a", "b", "c", "d"]
    assert bitext.source.ids.tolist() == [0, 1, 2, 1, 3, 2, 0, 3]
    assert bitext.source.starts.tolist() == [0, 3, 5, 5, 8, 8]
    assert bitext.target.lengths.tolist() == [2, 4, 0, 2, 0]
    assert (bitext.empty, bitext.too_long) == (1, 1)
    assert encode(PAIRS, max_length=5, keep_case=True).source.words == ["a", "b", "c", "B", "d"]


@pytest.fixture
def cells():
    """A function that gives a table of `PAIRS`, and of each cell its pair, its two words and its place in the table."""

    def read(file, **bounds):
        bitext = encode(PAIRS, max_length=5)
        table = Cooccurrences(bitext, file, **bounds)
        found = []
        for block in map(table.block, range(table.num_blocks)):
            for group, places in block.matrices(block.word_pairs[block.cells]):
                source = bitext.source.rows(group.pairs, group.source_length)
                target = bitext.target.rows(group.pairs, group.target_length)
                for (b, i, j), place in np.ndenumerate(places):
                    words = bitext.source.words[source[b, i]], bitext.target.words[target[b, j]]
                    found.append((int(group.pairs[b]), words, int(place)))
        return table, found

    with tempfile.TemporaryFile() as file:
        yield partial(read, file)


def words_of(table, place):
    bitext = table.bitext
    return bitext.source.words[table.source[place]], bitext.target.words[table.target[place]]


EXPECTED = [(n, words) for n in (0, 1, 3) for words in product(map(str.lower, PAIRS[n][0]), PAIRS[n][1])]


@pytest.mark.parametrize(("block_cells", "num_blocks"), [(1, 3), (13, 2), (1000, 1)])
def test_every_cell_has_its_word_pair(monkeypatch, cells, block_cells, num_blocks):
    monkeypatch.setattr(bitexts, "BLOCK_CELLS", block_cells)
    table, found = cells()
    assert table.num_blocks == num_blocks
    assert sorted(cell[:2] for cell in found) == sorted(EXPECTED)
    assert [words_of(table, place) for _, _, place in found] == [words for _, words, _ in found]
    assert len(table) == len({words for _, words in EXPECTED})
    assert table.dropped == 0


def test_cells_of_dropped_word_pairs_are_told_apart(monkeypatch, cells):
    monkeypatch.setattr(bitexts, "BLOCK_CELLS", 6)
    table, found = cells(max_word_pairs=10)
    kept = {words_of(table, place) for place in range(len(table))}
    assert 0 < len(kept) <= 10
    for _, words, place in found:
        assert (words_of(table, place) == words) if words in kept else place == len(table)


@given(st.text(alphabet="ab -'’é\u0301漢。_1,"))
def test_words_stand_where_they_are_said_to(text):
    assert [text[start:end] for start, end in cut_spans(text)] == cut(text)
