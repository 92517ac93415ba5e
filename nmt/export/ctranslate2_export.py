"""Exporting a Transformer for CTranslate2: written beside its place, verified, compared, then moved there."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from nmt.config import write
from nmt.errors import ExportError
from nmt.export.ctranslate2_spec import EMBEDDINGS, TOLERANCES, build_spec, check_exportable
from nmt.export.equality import Agreement, SamplePair, check_agreement, measure_agreement
from nmt.inference import model_directory
from nmt.inference.ctranslate2_engine import load_package, open_engine
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


def read_stored_model(path: Path) -> StoredModel:
    """Read the names in a file, not the values.

    Raises:
        ExportError: the file is cut short, or of another layout.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with path.open("rb") as file:

            def unpack(layout: str) -> tuple[int, ...]:
                return struct.unpack(layout, file.read(struct.calcsize(layout)))

            def name() -> str:
                return file.read(*unpack("<H"))[:-1].decode("utf-8")  # ends with a zero byte

            (version,) = unpack("<I")
            if version != BINARY_VERSION:
                raise ExportError(
                    f"{path}: must be of binary version {BINARY_VERSION} to be verified, got {version}: install "
                    "another version of ctranslate2"
                )
            name(), unpack("<I")  # the kind of model, and its revision
            for _ in range(*unpack("<I")):
                variable = name()
                (num_dimensions,) = unpack("<B")
                shapes[variable] = unpack(f"<{num_dimensions}I")
                _, num_bytes = unpack("<BI")  # a number for the type of the values, and their size
                file.seek(num_bytes, os.SEEK_CUR)
            aliases = {name(): name() for _ in range(*unpack("<I"))}
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: cannot be read as a model of CTranslate2 ({error})") from error
    return StoredModel(shapes, aliases)


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
    check_exportable(opened.config, output, quantization=quantization, overwrite=overwrite)
    num_positions = max(MAX_SOURCE_LENGTH + 1, opened.config.search.settled_max_length)
    with model_directory.export_directory(output, overwrite=overwrite) as folder:
        spec = build_spec(
            {path: np.asarray(variable.value) for path, variable in variable_roles(opened.model).items()},
            opened.text,
            **opened.config.model.model_dump(include={"num_heads", "num_encoder_layers", "num_decoder_layers", "norm"}),
            num_positions=num_positions,
            layer_norm_epsilon=LAYER_NORM_EPSILON,
            bfloat16=quantization == "bfloat16",
        )
        spec.optimize(quantization)
        spec.save(os.fspath(folder))
        verify_stored_ties(opened.model, folder / model_directory.MODEL_NAME)
        engine = open_engine(folder, quantization)
        tolerance = TOLERANCES[quantization]
        banned = banned_ids(opened.config.search, opened.text.target)
        agreement = measure_agreement(opened.model, engine, opened.text, sample, tolerance=tolerance, banned=banned)
        check_agreement(agreement, tolerance=tolerance)
        opened.text.save(folder)
        write(opened.config, folder / model_directory.CONFIG_NAME)
        facts = model_directory.ExportFacts(
            quantization=quantization,
            checkpoint=opened.checkpoint,
            weights=opened.weights,
            num_positions=num_positions,
            model_sha256=model_directory.hash_of_model(folder),
            tokenizers=opened.text.fingerprints,
            versions={"nmt": __version__, "ctranslate2": load_package().__version__},
            check=agreement._asdict(),
        )
        (folder / model_directory.EXPORT_NAME).write_text(model_directory.facts_as_json(facts), encoding="utf-8")
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
        names = {stored.aliases.get(EMBEDDINGS[role], EMBEDDINGS[role]) for role in group.roles}
        if len(names) != 1 or names.isdisjoint(stored.shapes):
            raise ExportError(f"{path.name}: must hold {group.name} once, but has it as {', '.join(sorted(names))}")
