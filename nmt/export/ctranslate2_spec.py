"""A Transformer of ours as a model of CTranslate2: each of our variables in the place that engine reads it from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from nmt.config import Config, RNNSettings
from nmt.errors import ExportError
from nmt.inference.ctranslate2_engine import load_package
from nmt.inference.model_directory import check_export_place
from nmt.text import TextPair

if TYPE_CHECKING:
    from ctranslate2.specs.attention_spec import MultiHeadAttentionSpec
    from ctranslate2.specs.common_spec import LayerNormSpec, LinearSpec
    from ctranslate2.specs.transformer_spec import FeedForwardSpec, TransformerSpec

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
    if isinstance(config.model, RNNSettings):
        raise ExportError("CTranslate2 has no recurrent models, and model.type is rnn: only a transformer is exported")
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
        ExportError: a variable of the model has no place there, or a token cannot be written.
    """
    from ctranslate2.specs.transformer_spec import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec

    pre_norm = norm == "pre"
    spec = TransformerSpec(
        TransformerEncoderSpec(num_encoder_layers, num_heads, pre_norm=pre_norm),
        TransformerDecoderSpec(num_decoder_layers, num_heads, pre_norm=pre_norm),
    )
    weights = _Weights(arrays, ml_dtypes.bfloat16 if bfloat16 else np.float32)
    hidden_size = arrays["source_embedding/embeddings"].shape[1]
    _fill(spec, weights, positions=weights.cast(position_encodings(num_positions, hidden_size)), pre_norm=pre_norm)
    weights.check_all_taken()
    spec.config.add_source_eos = True
    spec.config.add_attribute("layer_norm_epsilon", layer_norm_epsilon)
    spec.register_source_vocabulary(_writable(text.source.vocabulary.tokens))
    spec.register_target_vocabulary(_writable(text.target.vocabulary.tokens))
    spec.validate()
    return spec


def position_encodings(num_positions: int, hidden_size: int) -> np.ndarray:
    """Compute the encodings of `nmt.layers.embedding` as a table, (num_positions, D) float32.

    Those that CTranslate2 has of its own count from 1 and space the frequencies by D/2 - 1, as Tensor2Tensor did.
    """
    half = hidden_size // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000.0) / half))  # (D/2,)
    angles = np.arange(num_positions, dtype=np.float32)[:, None] * frequencies  # (num_positions, D/2)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


class _Weights:
    """The arrays of a model, each of which has to be taken once."""

    def __init__(self, arrays: Mapping[str, np.ndarray], dtype: type) -> None:
        self._arrays = arrays
        self._dtype = dtype
        self._taken: set[str] = set()

    def __call__(self, path: str) -> np.ndarray:
        self._taken.add(path)
        return self.cast(self._arrays[path])

    def cast(self, array: np.ndarray) -> np.ndarray:
        """Copy an array: CTranslate2 quantises in place, and what was given stays as it is."""
        return np.array(array, dtype=self._dtype, order="C")

    def transposed(self, path: str) -> np.ndarray:
        return np.ascontiguousarray(self(path).T)

    def check_all_taken(self) -> None:
        left = sorted(set(self._arrays) - self._taken)
        if left:
            raise ExportError(f"every variable of the model must have a place in the export, but not so {left}")


def _fill(spec: TransformerSpec, weights: _Weights, *, positions: np.ndarray, pre_norm: bool) -> None:
    spec.encoder.embeddings[0].weight = weights("source_embedding/embeddings")
    spec.decoder.embeddings.weight = weights("target_embedding/embeddings")
    spec.decoder.projection.weight = weights("output_projection/embeddings")
    spec.decoder.projection.bias = weights("output_bias")
    spec.encoder.position_encodings.encodings = positions
    spec.decoder.position_encodings.encodings = positions
    for number, layer in enumerate(spec.encoder.layer):
        block = f"encoder_blocks/{number}"
        _fill_attention(layer.self_attention, weights, f"{block}/self_attention", ["query_key_value"])
        _fill_feed_forward(layer.ffn, weights, f"{block}/feed_forward")
    for number, layer in enumerate(spec.decoder.layer):
        block = f"decoder_blocks/{number}"
        _fill_attention(layer.self_attention, weights, f"{block}/self_attention", ["query_key_value"])
        _fill_attention(layer.attention, weights, f"{block}/cross_attention", ["query", "key_value"])
        _fill_feed_forward(layer.ffn, weights, f"{block}/feed_forward")
    if pre_norm:
        _fill_norm(spec.encoder.layer_norm, weights, "encoder_norm")
        _fill_norm(spec.decoder.layer_norm, weights, "decoder_norm")


def _fill_attention(spec: MultiHeadAttentionSpec, weights: _Weights, path: str, input_products: Sequence[str]) -> None:
    for linear, name in zip(spec.linear, [*input_products, "output_product"], strict=True):
        _fill_linear(linear, weights, f"{path}/{name}")
    _fill_norm(spec.layer_norm, weights, f"{path}_residual/norm")


def _fill_feed_forward(spec: FeedForwardSpec, weights: _Weights, path: str) -> None:
    _fill_linear(spec.linear_0, weights, f"{path}/inner")
    _fill_linear(spec.linear_1, weights, f"{path}/outer")
    _fill_norm(spec.layer_norm, weights, f"{path}_residual/norm")


def _fill_linear(spec: LinearSpec, weights: _Weights, path: str) -> None:
    spec.weight = weights.transposed(f"{path}/kernel")  # ours (inputs, outputs), theirs (outputs, inputs)
    spec.bias = weights(f"{path}/bias")


def _fill_norm(spec: LayerNormSpec, weights: _Weights, path: str) -> None:
    spec.gamma = weights(f"{path}/gamma")
    spec.beta = weights(f"{path}/beta")


def _writable(tokens: Sequence[str]) -> list[str]:
    """The tokens, all of which go through JSON and UTF-8 unharmed."""
    for token_id, token in enumerate(tokens):
        try:
            token.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ExportError(
                f"CTranslate2 takes tokens that are UTF-8, token {token_id} is {token!r}: build the vocabulary anew"
            ) from error
    return list(tokens)
