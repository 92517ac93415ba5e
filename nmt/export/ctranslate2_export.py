"""Exporting a Transformer for CTranslate2: written beside its place, verified, compared, then moved there."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import keras
import numpy as np

from nmt.config import write
from nmt.errors import ExportError
from nmt.export.ctranslate2_spec import EMBEDDINGS, build_spec, check_exportable
from nmt.export.equality import TOLERANCES, Agreement, SamplePair, check_agreement, measure_agreement
from nmt.inference.ctranslate2_engine import load_package, open_engine
from nmt.inference.model_directory import (
    CONFIG_NAME,
    EXPORT_NAME,
    MODEL_NAME,
    ExportFacts,
    check_export_place,
    export_directory,
    facts_as_json,
    hash_of_model,
)
from nmt.inference.translation import MAX_SOURCE_LENGTH, banned_ids
from nmt.inference.translator import OpenedModel
from nmt.layers.core import LAYER_NORM_EPSILON
from nmt.tying import tie_groups, variable_roles
from nmt.version import __version__

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


QUANTIZATIONS = tuple(TOLERANCES)
"""How weights may be stored."""


class Export(NamedTuple):
    """An export that was written.

    directory: where it lies.
    quantization: how its weights are stored.
    computed_in: how this processor computes with them.
    checkpoint: name of the checkpoint that was exported.
    weights: `ema` or `raw`.
    file_sizes: bytes of each file, by name.
    agreement: with the model.
    tolerance: mean difference a token that was allowed.
    """

    directory: Path
    quantization: str
    computed_in: str
    checkpoint: str
    weights: str
    file_sizes: dict[str, int]
    agreement: Agreement
    tolerance: float


def export_ctranslate2(
    opened: OpenedModel, output: Path, sample: Sequence[SamplePair], *, quantization: str, overwrite: bool = False
) -> Export:
    """Write a Transformer as a directory that CTranslate2 reads, with all that its text needs.

    Args:
        opened: the model.
        output: the directory to write.
        sample: sentence pairs on which export and model must agree, one or more.
        quantization: how weights are stored: `float32`, `float16`, `bfloat16`, `int16` or `int8`.
        overwrite: replace an earlier export.

    Raises:
        ConfigError: the package ctranslate2 is not installed.
        ExportError: the model is no Transformer, something lies in the way, the files cannot be written, or they do
            not hold the ties of the model or give other results; the output is then as it was.
    """
    load_package()
    check_exportable(opened.config)
    if quantization not in QUANTIZATIONS:
        raise ExportError(f"the quantization must be one of {', '.join(QUANTIZATIONS)}, got {quantization}")
    check_export_place(output, overwrite=overwrite)
    num_positions = max(MAX_SOURCE_LENGTH + 1, opened.config.search.settled_max_length)
    with export_directory(output, overwrite=overwrite) as folder:
        _write_model(opened, folder, quantization=quantization, num_positions=num_positions)
        verify_stored_ties(opened.model, folder / MODEL_NAME)
        engine = open_engine(folder, quantization)
        tolerance = TOLERANCES[quantization]
        banned = banned_ids(opened.config.search, opened.text.target)
        agreement = measure_agreement(opened.model, engine, opened.text, sample, tolerance=tolerance, banned=banned)
        check_agreement(agreement, tolerance=tolerance)
        opened.text.save(folder)
        write(opened.config, folder / CONFIG_NAME)
        facts = ExportFacts(
            quantization=quantization,
            checkpoint=opened.checkpoint,
            weights=opened.weights,
            num_positions=num_positions,
            model_sha256=hash_of_model(folder),
            tokenizers=opened.text.fingerprints,
            versions={"nmt": __version__, "ctranslate2": load_package().__version__},
            check=agreement._asdict(),
        )
        (folder / EXPORT_NAME).write_text(facts_as_json(facts), encoding="utf-8")
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Export(
        output, quantization, engine.compute_type, opened.checkpoint, opened.weights, sizes, agreement, tolerance
    )


def verify_stored_ties(model: keras.Layer, path: Path) -> None:
    """Prove that a file holds each tied matrix of a model once.

    Raises:
        ExportError: naming a tie that got lost.
    """
    stored = read_stored_model(path)
    for group in tie_groups(model):
        names = {stored.stored_name(EMBEDDINGS[role]) for role in group.roles}
        if len(names) != 1 or names.isdisjoint(stored.shapes):
            raise ExportError(f"{path.name}: must hold {group.name} once, but has it as {', '.join(sorted(names))}")


def _write_model(opened: OpenedModel, folder: Path, *, quantization: str, num_positions: int) -> None:
    settings = opened.config.model.model_dump()
    spec = build_spec(
        {path: np.asarray(variable.value) for path, variable in variable_roles(opened.model).items()},
        opened.text,
        num_heads=settings["num_heads"],
        num_encoder_layers=settings["num_encoder_layers"],
        num_decoder_layers=settings["num_decoder_layers"],
        norm=settings["norm"],
        num_positions=num_positions,
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        bfloat16=quantization == "bfloat16",
    )
    spec.optimize(quantization)
    spec.save(os.fspath(folder))
