"""Words, their numbers, and the word pairs of all cells."""

import tempfile
from collections import Counter
from itertools import product

import numpy as np
import pytest

from nmt.alignment import bitext as bitexts
from nmt.alignment.bitext import Cooccurrences, cut, encode

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


@pytest.mark.parametrize("block_cells", [1, 13, 1000])
def test_every_cell_has_its_word_pair(monkeypatch, block_cells):
    monkeypatch.setattr(bitexts, "BLOCK_CELLS", block_cells)
    bitext = encode(PAIRS, max_length=5)
    distinct = {pair for place in (0, 1, 3) for pair in product(map(str.lower, PAIRS[place][0]), PAIRS[place][1])}
    seen = Counter()
    with tempfile.TemporaryFile() as file:
        table = Cooccurrences(bitext, file)
        for number in range(table.num_blocks):
            block = table.block(number)
            for group, places in block.matrices(block.word_pairs[block.cells]):
                seen.update(group.pairs.tolist())
                source = bitext.source.rows(group.pairs, group.source_length)[:, :, None]
                target = bitext.target.rows(group.pairs, group.target_length)[:, None, :]
                np.testing.assert_array_equal(table.source[places], np.broadcast_to(source, group.shape))
                np.testing.assert_array_equal(table.target[places], np.broadcast_to(target, group.shape))
    assert seen == {0: 1, 1: 1, 3: 1}
    assert table.num_blocks == {1: 3, 13: 2, 1000: 1}[block_cells]
    assert len(set(zip(table.source.tolist(), table.target.tolist(), strict=True))) == len(table) == len(distinct)
