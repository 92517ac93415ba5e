"""The file `model.bin` of CTranslate2: which variables it holds, and which of them are other names of one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nmt.errors import ExportError

BINARY_VERSION = 6
"""The layout that is read here; `ctranslate2.specs.model_spec` writes it."""


class StoredModel(NamedTuple):
    """What a file holds.

    shapes: of each variable that is stored, by name.
    aliases: further names, and the stored variable each stands for.
    """

    shapes: dict[str, tuple[int, ...]]
    aliases: dict[str, str]

    def stored_name(self, name: str) -> str:
        """The stored variable behind a name."""
        return self.aliases.get(name, name)


def read_stored_model(path: Path) -> StoredModel:
    """Read the names in a file, not the values.

    Raises:
        ExportError: the file is cut short, or of another layout.
    """
    try:
        with path.open("rb") as file:
            (version,) = _unpack(file, "<I")
            if version != BINARY_VERSION:
                raise ExportError(
                    f"{path}: must be of binary version {BINARY_VERSION} to be verified, got {version}: install "
                    "another version of ctranslate2"
                )
            _read_name(file)  # of the kind of model
            _unpack(file, "<I")  # its revision
            shapes = dict(_read_variable(file) for _ in range(*_unpack(file, "<I")))
            aliases = {_read_name(file): _read_name(file) for _ in range(*_unpack(file, "<I"))}
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read as a model of CTranslate2 ({error})") from error
    return StoredModel(shapes, aliases)


def _read_variable(file: BinaryIO) -> tuple[str, tuple[int, ...]]:
    name = _read_name(file)
    (num_dimensions,) = _unpack(file, "<B")
    shape = _unpack(file, f"<{num_dimensions}I")
    _, num_bytes = _unpack(file, "<BI")  # a number for the type of the values, and their size
    file.seek(num_bytes, 1)
    return name, shape


def _read_name(file: BinaryIO) -> str:
    (length,) = _unpack(file, "<H")
    return file.read(length)[:-1].decode("utf-8")  # ends with a zero byte


def _unpack(file: BinaryIO, layout: str) -> tuple[int, ...]:
    return struct.unpack(layout, file.read(struct.calcsize(layout)))
