"""A Transformer of ours as a model of CTranslate2: each of our variables in the place that engine reads it from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ml_dtypes
import numpy as np

from nmt.config import Config
from nmt.errors import ExportError
from nmt.inference.ctranslate2_engine import load_package
from nmt.inference.model_directory import check_export_place
from nmt.text import TextPair

if TYPE_CHECKING:
    from ctranslate2.specs.common_spec import LayerNormSpec
    from ctranslate2.specs.transformer_spec import TransformerSpec

Take: TypeAlias = Callable[[str], np.ndarray]
"""Gives the array of a variable by its role path."""

EMBEDDINGS = {
    "source_embedding/embeddings": "encoder/embeddings_0/weight",
    "target_embedding/embeddings": "decoder/embeddings/weight",
    "output_projection/embeddings": "decoder/projection/weight",
}
"""What the roles that may be tied are called in the file of an export."""


TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2, "int16": 5e-2, "int8": 0.1}
"""How weights may be stored; how far a pair's tokens may then lie from the model in log probability, on average."""


def check_exportable(config: Config, output: Path, *, quantization: str, overwrite: bool) -> None:
    """Refuse what cannot be exported, before a model is opened.

    Raises:
        ConfigError: the package ctranslate2 is not installed.
        ExportError: the model is no Transformer, there is no such quantization, or something lies in the way.
    """
    if config.model.type != "transformer":
        raise ExportError(f"only a transformer is exported for CTranslate2, and model.type is {config.model.type}")
    load_package()
    if quantization not in TOLERANCES:
        raise ExportError(f"the quantization must be one of {', '.join(TOLERANCES)}, got {quantization}")
    check_export_place(output, overwrite=overwrite)


def build_spec(
    arrays: Mapping[str, np.ndarray],
    text: TextPair,
    *,
    num_heads: int,
    num_encoder_layers: int,
    num_decoder_layers: int,
    norm: str,
    num_positions: int,
    layer_norm_epsilon: float,
    bfloat16: bool = False,
) -> TransformerSpec:
    """Lay out the weights of a Transformer as CTranslate2 wants them.

    Args:
        arrays: the values of all its variables by role path, tied ones under each of their roles.
        text: the tokenizers, whose vocabularies go along.
        num_heads: H.
        num_encoder_layers: blocks of the encoder.
        num_decoder_layers: blocks of the decoder.
        norm: `pre` or `post`.
        num_positions: longest sequence that will be readable, in tokens.
        layer_norm_epsilon: what its layer norms add to variances.
        bfloat16: store the weights in bfloat16, for which the converter of CTranslate2 would need PyTorch.

    Returns:
        A specification that is validated, and whose equal variables are stored once.

    Raises:
        ExportError: a variable of the model has no place there.
    """
    from ctranslate2.specs.transformer_spec import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec

    pre_norm = norm == "pre"
    spec = TransformerSpec(
        TransformerEncoderSpec(num_encoder_layers, num_heads, pre_norm=pre_norm),
        TransformerDecoderSpec(num_decoder_layers, num_heads, pre_norm=pre_norm),
    )
    dtype, left = ml_dtypes.bfloat16 if bfloat16 else np.float32, dict(arrays)

    def take(path: str) -> np.ndarray:
        """Copy an array, each once: CTranslate2 quantises in place, and what was given stays as it is."""
        return np.array(left.pop(path), dtype=dtype, order="C")

    positions = position_encodings(num_positions, arrays["source_embedding/embeddings"].shape[1]).astype(dtype)
    _fill(spec, take, positions=positions, pre_norm=pre_norm)
    if left:
        raise ExportError(f"every variable of the model must have a place in the export, but not so {sorted(left)}")
    spec.config.add_source_eos = True
    spec.config.add_attribute("layer_norm_epsilon", layer_norm_epsilon)
    spec.register_source_vocabulary(list(text.source.vocabulary.tokens))
    spec.register_target_vocabulary(list(text.target.vocabulary.tokens))
    spec.validate()
    return spec


def position_encodings(num_positions: int, hidden_size: int) -> np.ndarray:
    """Compute the encodings of `nmt.layers.core` as a table, (num_positions, D) float32.

    Those that CTranslate2 has of its own count from 1 and space the frequencies by D/2 - 1, as Tensor2Tensor did.
    """
    from nmt.layers.core import sinusoidal_positions  # Keras, which `check_exportable` goes without

    return np.asarray(sinusoidal_positions(0, num_positions, hidden_size))


def _fill(spec: TransformerSpec, take: Take, *, positions: np.ndarray, pre_norm: bool) -> None:
    spec.encoder.embeddings[0].weight = take("source_embedding/embeddings")
    spec.decoder.embeddings.weight = take("target_embedding/embeddings")
    spec.decoder.projection.weight = take("output_projection/embeddings")
    spec.decoder.projection.bias = take("output_bias")
    spec.encoder.position_encodings.encodings = positions
    spec.decoder.position_encodings.encodings = positions
    for number, layer in enumerate(spec.encoder.layer):
        block = f"encoder_blocks/{number}"
        _fill_sublayer(layer.self_attention, take, f"{block}/self_attention", ["query_key_value", "output_product"])
        _fill_sublayer(layer.ffn, take, f"{block}/feed_forward", ["inner", "outer"])
    for number, layer in enumerate(spec.decoder.layer):
        block = f"decoder_blocks/{number}"
        _fill_sublayer(layer.self_attention, take, f"{block}/self_attention", ["query_key_value", "output_product"])
        _fill_sublayer(layer.attention, take, f"{block}/cross_attention", ["query", "key_value", "output_product"])
        _fill_sublayer(layer.ffn, take, f"{block}/feed_forward", ["inner", "outer"])
    if pre_norm:
        _fill_norm(spec.encoder.layer_norm, take, "encoder_norm")
        _fill_norm(spec.decoder.layer_norm, take, "decoder_norm")


def _fill_sublayer(spec: Any, take: Take, path: str, names: Sequence[str]) -> None:
    linears = [spec.linear_0, spec.linear_1] if names[0] == "inner" else spec.linear
    for linear, name in zip(linears, names, strict=True):
        # Ours is (inputs, outputs), theirs (outputs, inputs).
        linear.weight = np.ascontiguousarray(take(f"{path}/{name}/kernel").T)
        linear.bias = take(f"{path}/{name}/bias")
    _fill_norm(spec.layer_norm, take, f"{path}_residual/norm")


def _fill_norm(spec: LayerNormSpec, take: Take, path: str) -> None:
    spec.gamma = take(f"{path}/gamma")
    spec.beta = take(f"{path}/beta")
