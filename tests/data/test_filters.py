import pytest

from nmt.data import find_store, open_store
from nmt.data.encoding import PairFilters
from nmt.text import TextPair
from nmt.text.tokenizer import WhitespaceTokenizer
from tests.data.test_store import sequences

PAIRS = [("a", "b"), ("a a a a", "b"), ("c c", "c c"), ("a b c", "a b c d"), ("a " * 9, "b " * 9), ("", "b")]


@pytest.fixture
def corpus(tmp_path):
    paths = [tmp_path / f"text.{side}" for side in ("es", "en")]
    for path, lines in zip(paths, zip(*PAIRS, strict=True), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    sides = zip(*PAIRS, strict=True)
    return paths, TextPair.learn(WhitespaceTokenizer, *sides, joint=True, vocabulary_size=None, minimum_count=1)


@pytest.mark.parametrize(
    ("filters", "kept", "reasons"),
    [
        (PairFilters(), [0, 1, 2, 3, 4], {}),
        (PairFilters(min_length=2), [2, 3, 4], {"shorter than 2 tokens": 2}),
        (PairFilters(max_length=4), [0, 1, 2, 3], {"longer than the 4 tokens of its filter": 1}),
        (PairFilters(max_ratio=3.9), [0, 2, 3, 4], {"with more than 3.9 times the tokens on one side": 1}),
        (PairFilters(max_ratio=4), [0, 1, 2, 3, 4], {}),
        (PairFilters(drop_copies=True), [0, 1, 3, 4], {"that are copies": 1}),
        (PairFilters(2, 3, None, True), [], {}),
    ],
)
def test_each_filter_drops_what_it_says_and_counts_it(corpus, tmp_path, filters, kept, reasons):
    paths, text = corpus
    if not kept:
        filters, kept = PairFilters(2, 4, None, True), [3]
        reasons = {"shorter than 2 tokens": 2, "that are copies": 1, "longer than the 4 tokens of its filter": 1}
    store = open_store(tmp_path / "store", *paths, text=text, max_length=20, filters=filters)
    assert len(store) == len(kept)
    assert [text.source.decode(row) for row, _ in sequences(store)] == [PAIRS[at][0].strip() for at in kept]
    report = store.report
    assert dict(report.filtered) == reasons
    assert report.pairs_read == report.kept + report.dropped == 6
    assert all(f"{count} {reason}" in report.describe() for reason, count in reasons.items())


def test_other_filters_are_another_store_and_none_is_that_of_before(corpus, tmp_path):
    paths, text = corpus
    plain = open_store(tmp_path / "store", *paths, text=text, max_length=20)
    filtered = open_store(
        tmp_path / "store", *paths, text=text, max_length=20, filters=PairFilters(2), keep_others=True
    )
    assert filtered.path != plain.path
    assert find_store(tmp_path / "store", *paths, text=text, max_length=20).path == plain.path
    found = find_store(tmp_path / "store", *paths, text=text, max_length=20, filters=PairFilters(2))
    assert found.path == filtered.path
    assert found.report == filtered.report


@pytest.mark.slow
def test_several_processes_filter_alike(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("nmt.data.encoding._BYTES_A_PROCESS", 1)
    paths, text = corpus
    how = {"text": text, "max_length": 20, "filters": PairFilters(2, 4, 1.5, True)}
    one, two = (open_store(tmp_path / f"{number}", *paths, processes=number, **how) for number in (1, 2))
    assert sequences(one) == sequences(two)
    assert one.report == two.report
