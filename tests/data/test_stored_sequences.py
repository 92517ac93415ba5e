import gc
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.data.sequences import StoredSequences, TokenSequences, record_of
from nmt.errors import DataError

LISTS = st.lists(st.lists(st.integers(1, 65535), min_size=1, max_size=9), min_size=1, max_size=99)


def written(path, lists, token_dtype="uint16", length_dtype="uint16"):
    dtype = np.dtype(token_dtype)
    path.write_bytes(b"".join(record_of(np.array(ids, dtype).tobytes()) for ids in lists))
    return StoredSequences(path, np.array([len(ids) for ids in lists], length_dtype), token_dtype=dtype)


@given(lists=LISTS, dtypes=st.sampled_from([("uint16", "uint16"), ("int32", "int32"), ("uint16", "int32")]))
def test_what_is_read_is_what_lies_in_memory(tmp_path_factory, lists, dtypes):
    stored = written(tmp_path_factory.mktemp("s") / "records", lists, *dtypes)
    held = TokenSequences.from_lists(lists)
    assert (len(stored), stored.lengths.tolist()) == (len(held), held.lengths.tolist())
    assert [stored[i].tolist() for i in range(len(stored))] == lists
    indices = np.array([*range(len(lists) - 1, -1, -2), 0], dtype=np.int32)
    for found, wanted in zip(stored.padded(indices), held.padded(indices), strict=True):
        assert (found.dtype, found.tolist()) == (wanted.dtype, wanted.tolist())


def test_places_beyond_four_gigabytes_are_counted_in_64_bits(tmp_path):
    lengths = np.full(70_000, 65_535, np.uint16)
    with (tmp_path / "records").open("wb") as file:
        file.truncate(70_000 * (2 * 65_535 + 4))  # 9 GB that take no room on the disk
        file.seek(69_999 * (2 * 65_535 + 4))
        file.write(record_of(np.arange(65_535, dtype=np.uint16).tobytes()))
    stored = StoredSequences(tmp_path / "records", lengths, token_dtype=np.dtype(np.uint16))
    assert stored[69_999].tolist() == list(range(65_535))


@pytest.mark.parametrize("bit", [0, 9, 40, 55, 79])  # of a record of three ids of 16 bits, and 32 bits of checksum
def test_a_flipped_bit_is_found_by_whoever_reads_it(tmp_path, bit):
    stored = written(tmp_path / "records", [[5, 6], [7, 8, 9], [4]])
    content = bytearray((tmp_path / "records").read_bytes())
    content[8 + bit // 8] ^= 1 << bit % 8
    (tmp_path / "records").write_bytes(content)
    assert stored.padded(np.array([2, 0]))[0].tolist() == [[4, 0], [5, 6]]
    with pytest.raises(DataError, match="records: sequence 1 of the token store is not what was written there: check"):
        stored.padded(np.array([2, 1, 0]))


def test_zeros_are_no_record(tmp_path):
    stored = written(tmp_path / "records", [[5, 6], [7, 8, 9]])
    (tmp_path / "records").write_bytes(bytes(8 + 10))
    with pytest.raises(DataError, match="sequence 0 "):
        stored[0]


@pytest.mark.needs("/proc/self/fd")
def test_a_file_of_another_length_is_refused(tmp_path):
    written(tmp_path / "records", [[5, 6], [7]])
    with pytest.raises(ValueError, match="must have 18 bytes, got 14"):
        StoredSequences(tmp_path / "records", np.array([2, 3], np.uint16), token_dtype=np.dtype(np.uint16))
    assert not open_files(tmp_path)


@pytest.mark.needs("/proc/self/fd")
def test_the_file_is_closed_when_it_is_forgotten(tmp_path):
    stored = written(tmp_path / "records", [[5]])
    assert len(open_files(tmp_path)) == 1
    del stored
    gc.collect()
    assert not open_files(tmp_path)


def open_files(folder):
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.lexists(link) and os.readlink(link).startswith(str(folder))]
