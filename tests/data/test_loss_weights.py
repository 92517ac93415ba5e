"""Weights of pairs from the column of a corpus to the batch."""

import json

import numpy as np
import pytest

from nmt.data import Corpus, find_store, open_store
from nmt.data.corpus import Layout
from nmt.errors import DataError
from nmt.streams import BatchStream, MixedCorpus, MixtureStream, Stage

WEIGHTS = [1, 0, 2.5, 0.25, 0, 3]


def rows(corpus):
    return list(zip(*corpus, strict=True))[: len(WEIGHTS)]


@pytest.fixture
def tsv(corpus, write_lines):
    lines = [f"{weight}\t{source}\t{target}" for weight, (source, target) in zip(WEIGHTS, rows(corpus), strict=True)]
    return write_lines("weighed.tsv.gz", [*lines, "", "1e-3\t\tONE"])


LAYOUT = Layout(columns=(2, 3), weight_column=1)


def open_it(tsv, text, folder, **settings):
    return open_store(folder, tsv, tsv, text=text, max_length=20, **{"layout": LAYOUT, **settings})


def test_a_store_has_the_weights_of_what_it_keeps(tsv, corpus, text, tmp_path):
    store = open_it(tsv, text, tmp_path / "store")
    kept = [weight for weight in WEIGHTS if weight]
    assert store.weights.dtype == np.float32
    assert store.weights.tolist() == kept
    expected = [text.source.encode(source) for (source, _), weight in zip(rows(corpus), WEIGHTS, strict=True) if weight]
    assert [store.source[i].tolist()[:-1] for i in range(len(store))] == expected
    assert store.report.filtered == {"with loss weight 0": 2}
    assert (store.report.pairs_read, store.report.kept, store.report.dropped_empty) == (8, 4, 2)
    found = find_store(tmp_path / "store", tsv, tsv, text=text, max_length=20, layout=LAYOUT)
    assert found.weights.tolist() == kept
    assert store.content_hash == Corpus(tsv, tsv, layout=LAYOUT).content_hash()


def test_weights_decide_which_store_it_is(tsv, text, tmp_path, write_lines):
    """Other weights, or none, are other stores; a file that was copied gives its weights to a second place."""
    store, how = open_it(tsv, text, tmp_path / "store", keep_others=True), {"keep_others": True}
    without = open_it(tsv, text, tmp_path / "store", layout=LAYOUT._replace(weight_column=None), **how)
    assert (without.weights, len(without)) == (None, 6)
    assert not (without.path / "weights").exists()
    assert without.content_hash != store.content_hash
    copy = tmp_path / "copy.tsv.gz"
    copy.write_bytes(tsv.read_bytes())
    linked = open_it(copy, text, tmp_path / "store", **how)
    assert (linked.path / "weights").samefile(store.path / "weights")
    (linked.path / "weights").unlink()
    (linked.path / "weights").write_bytes(np.ones(4, np.float32).tobytes())
    assert find_store(tmp_path / "store", copy, copy, text=text, max_length=20, layout=LAYOUT) is None


def test_batches_carry_the_weights_of_their_pairs(tsv, paths, text, tmp_path):
    store = open_it(tsv, text, tmp_path / "store")
    by_source = {tuple(store.source[i].tolist()): store.weights[i] for i in range(len(store))}

    def agree(batch):
        real = [tuple(row[row != 0].tolist()) for row in batch.source_ids]
        return batch.weights.tolist() == [[by_source.get(row, 1.0)] for row in real]

    stream = BatchStream(store, batch_tokens=30, seed=1)
    assert all(agree(next(stream)) for _ in range(8))
    plain = open_store(tmp_path / "plain", *paths, text=text, max_length=20)
    assert next(BatchStream(plain, batch_tokens=30, seed=1)).weights is None
    other = open_it(tsv, text, tmp_path / "other", layout=LAYOUT._replace(weight_column=None, columns=(3, 3)))
    mixture = [MixedCorpus("weighed", store), MixedCorpus("plain", other)]
    mixed = MixtureStream(mixture, [Stage("1", (1.0, 1.0))], batch_tokens=60, seed=1)
    batches = [next(mixed) for _ in range(6)]
    assert all(agree(batch) for batch in batches)
    assert len({weight for batch in batches for weight in batch.weights.ravel().tolist()}) > 2


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "much", "", "1e-9", "1e9"])
def test_bad_weights_are_refused_with_file_and_line(write_lines, value):
    path = write_lines("bad.tsv", ["uno\tone\t1", f"dos\ttwo\t{value}"])
    with pytest.raises(DataError, match=r"bad\.tsv, line 2: must have a loss weight, 0 or a number from 1e-06 to 1e"):
        list(Corpus(path, path, layout=Layout(weight_column=3)).pairs())


@pytest.mark.parametrize("value", [None, True, [1], {"a": 1}, -0.5])
def test_bad_fields_are_refused_with_file_and_line(write_lines, value):
    lines = [json.dumps({"source": "uno", "target": "one", "meta": {"w": each}}) for each in ("0.5", 2, value)]
    path, layout = write_lines("bad.jsonl", lines), Layout(weight_column="meta.w")
    found = Corpus(path, path, layout=layout).rows()
    assert [next(found), next(found)] == [("uno", "one", "0.5"), ("uno", "one", "2.0")]
    with pytest.raises(DataError, match=r'bad\.jsonl, line 3, field "meta\.w": must have a loss weight, 0 or a number'):
        next(found)


def test_a_named_column_is_found_and_lines_without_one_are_refused(write_lines):
    path = write_lines("named.tsv", ["target\tquality\tsource", "one\t0.5\tuno"])
    layout = Layout(columns=("source", "target"), weight_column="quality")
    assert list(Corpus(path, path, layout=layout).rows()) == [("uno", "one", "0.5")]
    assert list(Corpus(path, path, layout=layout).pairs()) == [("uno", "one")]
    assert list(Corpus(path, path, layout=layout).units()) == [("uno", "one")]
    lines = write_lines("a.es", ["uno"]), write_lines("a.en", ["one"])
    with pytest.raises(
        DataError, match=r"a\.es: must be a file with columns or fields, say tsv or jsonl, to have loss"
    ):
        list(Corpus(*lines, layout=layout).pairs())
