import hashlib
import json
import pickle
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import nmt.checkpoint
from nmt.checkpoint import disk
from nmt.checkpoint.disk import DamagedCheckpointError, FileRecord, read_arrays, strict_json, write_arrays
from nmt.directory import inspection
from nmt.errors import CheckpointError

MATRIX = np.arange(15, dtype=np.float32).reshape(3, 5)


def round_trip(path, arrays):
    return read_arrays(path, write_arrays(path, arrays))


@pytest.mark.parametrize(
    "array",
    [
        MATRIX,
        MATRIX.T,
        MATRIX[:, ::2],
        np.broadcast_to(np.float32(2.5), (2, 3)),
        np.asfortranarray(MATRIX),
        np.array(7, dtype=np.int64),
        np.array(0.1, dtype=np.float32),
        np.zeros((0, 4), np.float32),
        np.array([np.nan, -0.0, np.inf], np.float32),
        np.array([-(2**63), 2**63 - 1]),
        np.arange(3, dtype=">f4"),
    ],
)
def test_a_stored_array_keeps_its_shape_and_values_whatever_its_layout(tmp_path, array):
    found = round_trip(tmp_path / "a.safetensors", {"x": array})["x"]
    assert found.shape == array.shape
    assert found.dtype == (np.float32 if array.dtype.kind == "f" else np.int64)
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(np.signbit(found), np.signbit(array))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.int32, np.uint32, np.uint8, np.bool_])
def test_narrower_types_are_widened_without_loss(tmp_path, dtype):
    array = np.array([[0.1, 1.5, 3.0]]).astype(dtype)
    found = round_trip(tmp_path / "a.safetensors", {"x": array})["x"]
    assert found.dtype in (np.float32, np.int64)
    np.testing.assert_array_equal(found.astype(dtype), array)


@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.uint64, object, "U3"])
def test_types_that_lose_something_are_refused_by_name(tmp_path, dtype):
    with pytest.raises(CheckpointError, match=r"bad\.safetensors: the/path: arrays of type \w+ cannot be stored"):
        write_arrays(tmp_path / "bad.safetensors", {"the/path": np.zeros(2, dtype)})


def test_the_file_is_what_the_official_library_reads_and_the_record_is_of_its_bytes(tmp_path):
    path = tmp_path / "a.safetensors"
    arrays = {"b/kernel": MATRIX.T, "é": np.array(3, np.int64), "a": np.float32([[1]])}
    record = write_arrays(path, arrays)
    official = load_file(path)
    assert official.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(official[name], array)
    content = path.read_bytes()
    assert record == FileRecord(hashlib.sha256(content).hexdigest(), len(content))
    assert int.from_bytes(content[:8], "little") % 8 == 0  # data begin aligned


def record_of(content):
    return FileRecord(hashlib.sha256(content).hexdigest(), len(content))


def test_the_record_is_of_what_was_given_and_not_of_what_a_bad_disk_made_of_it(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    good = write_arrays(tmp_path / "good.safetensors", {"x": MATRIX})
    monkeypatch.setattr(disk, "write_chunks", lambda place, chunks: place.write_bytes(b"".join(chunks)[:-1] + b"!"))
    assert write_arrays(path, {"x": MATRIX}) == good
    with pytest.raises(DamagedCheckpointError, match="its content does not fit the hash"):
        read_arrays(path, good)


def test_version_0_1_0_wrote_int64_first_each_type_by_name_and_the_library_keeps_to_that(tmp_path):
    """Its own writer: the length of the header, the header padded to 8 bytes, and the data in that order."""
    arrays = {"b": MATRIX.T, "n": np.array(4), "a": MATRIX[:1]}
    write_arrays(tmp_path / "a.safetensors", arrays)
    header = {
        "n": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
        "a": {"dtype": "F32", "shape": [1, 5], "data_offsets": [8, 28]},
        "b": {"dtype": "F32", "shape": [5, 3], "data_offsets": [28, 88]},
    }
    data = b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in header)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    assert (tmp_path / "a.safetensors").read_bytes() == len(text).to_bytes(8, "little") + text + data


class Mine:
    """Its pickle would create a file."""

    def __reduce__(self):
        return open, ("/tmp/must-not-be-there", "w")


def test_a_pickle_with_the_right_hash_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("unpickled"))
    content = pickle.dumps({"x": Mine()})
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=r"model\.safetensors: is no safetensors file"):
        read_arrays(path, record_of(content))


def test_nothing_that_reads_checkpoints_can_unpickle():
    sources = [*Path(nmt.checkpoint.__file__).parent.glob("*.py"), Path(inspection.__file__)]
    assert len(sources) >= 9
    for source in sources:
        text = source.read_text()
        assert not any(word in text for word in ("import pickle", "np.load", "allow_pickle", "h5py", "eval(")), source


def safetensors(header, data=bytes(24)):
    """A file with this header, an object or the text of one, and these bytes behind it."""
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(begin=0, end=24, shape=(2, 3), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_a_file_that_keeps_to_the_format_is_read(tmp_path):
    content = safetensors({"__metadata__": {"by": "hand"}, "b": entry(8, 24, (4,)), "a": entry(0, 8, (1,), "I64")})
    (tmp_path / "a").write_bytes(content)
    arrays = read_arrays(tmp_path / "a", record_of(content))
    assert {name: (array.dtype.name, array.shape) for name, array in arrays.items()} == {
        "a": ("int64", (1,)),
        "b": ("float32", (4,)),
    }


@pytest.mark.parametrize(
    "content",
    [
        bytes(7),
        b"\xff" * 16,
        safetensors("[]"),
        safetensors("{"),
        safetensors("[" * 100_000),
        safetensors('{"a": NaN}'),
        safetensors('{"a": 1e999}'),
        safetensors({"a": entry()}, bytes(20)),
        safetensors({"a": entry(0, 28, (7,))}),
        safetensors({"a": entry(4, 24, (5,))}),
        safetensors({"a": entry(0, 16, (4,)), "b": entry(8, 24, (4,))}),
        safetensors({"a": entry(0, 8, (2,)), "b": entry(16, 24, (2,))}),
        safetensors({"a": entry(0, 16, (4,))}),
        safetensors({"a": entry(shape=(7,))}),
        safetensors({"a": entry(shape=(2**62, 2**62))}),
        safetensors({"a": entry(24, 0)}),
        safetensors({"a": entry(-24, 0)}),
        safetensors({"a": entry(shape=(-2, -3))}),
        safetensors({"a": entry(shape=(True, 6))}),
        safetensors({"a": entry(0, 12, dtype="F16")}, bytes(12)),
        safetensors({"a": entry(0, 12, dtype="BF16")}, bytes(12)),
        safetensors({"a": entry(dtype="O")}),
        safetensors({"a": "../../secret"}),
    ],
)
def test_anything_else_is_damage_although_its_hash_fits(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match="a: "):
        read_arrays(tmp_path / "a", record_of(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "Expecting property name"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": -Infinity}', "-Infinity is no finite number"),
        (b'{"a": 1e999}', "1e999 is no finite number"),
        (b'{"a": {"dtype": "F32", "dtype": "I64"}}', "has dtype twice"),
        (b'{"a": 1, "a": 2}', "has a twice"),
    ],
)
def test_json_is_strict(text, message):
    with pytest.raises(ValueError, match=message):
        strict_json(text)
