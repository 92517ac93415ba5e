"""Exporting a Transformer for CTranslate2: written beside its place, verified, compared, then moved there.

How equal an export is to its model is measured on sample sentences, in two ways. Given pairs of sentences are scored by
both. And the export translates greedily, after which the model is asked at every token what it would have written
there: where it agrees all along, its own greedy translation is the same, token for token. Two tokens that the model
likes equally well, up to the rounding that is allowed, are a tie, and parting there is no difference.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import ml_dtypes
import numpy as np
from keras import ops

from nmt.atomic_files import copy_entry, new_directory
from nmt.config import write
from nmt.control.shortlist import Shortlist
from nmt.data.sequences import TokenSequences
from nmt.directory import engines as engine_places
from nmt.directory import model_directory
from nmt.errors import ExportError
from nmt.inference.translator import OpenedModel
from nmt.layers.core import LAYER_NORM_EPSILON, sinusoidal_positions
from nmt.models.contract import Seq2Seq
from nmt.text import BOS_ID, EOS_ID, PAD_ID, TextPair
from nmt.translation import ctranslate2_engine as engines
from nmt.translation.lengths import plan_batches
from nmt.translation.line_translator import banned_ids
from nmt.tying import tie_groups, variable_roles
from nmt.version import __version__

if TYPE_CHECKING:
    from ctranslate2.specs.transformer_spec import TransformerSpec

_LOGGER = logging.getLogger(__name__)

LEAST_IDENTICAL_SHARE = 0.99
"""Of the sample lines whose greedy translation must be that of the model, ties aside."""

MAX_GREEDY_LENGTH = 100

_MOST_LOGITS = 2**25
"""Computed at once, 128 MB of them."""


class SamplePair(NamedTuple):
    """Token ids of a sentence and its translation, without BOS and EOS."""

    source_ids: Sequence[int]
    target_ids: Sequence[int]


class Agreement(NamedTuple):
    """How equal an export was found to be.

    num_pairs: sentence pairs compared.
    mean_difference: between the log probabilities that export and model give a token.
    greatest_pair_difference: the mean over the tokens of the pair where it is greatest.
    greatest_token_difference: that of the token where it is greatest.
    identical_lines: pairs whose source both translate to the same tokens greedily.
    tied_lines: further ones that part only when the model likes both tokens equally well.
    """

    num_pairs: int
    mean_difference: float
    greatest_pair_difference: float
    greatest_token_difference: float
    identical_lines: int
    tied_lines: int


def measure_agreement(
    model: Seq2Seq,
    engine: Any,
    text: TextPair,
    sample: Sequence[SamplePair],
    *,
    tolerance: float,
    banned: Sequence[int] = (),
) -> Agreement:
    """Compare a model with an export of it.

    Args:
        model: the model.
        engine: a `ctranslate2.Translator` of the export.
        text: the tokenizers of both.
        sample: one pair or more; the empty sides of none.
        tolerance: log probabilities that differ by twice as much or less are a tie.
        banned: tokens that translations do not hold, besides PAD and BOS.
    """
    never = [PAD_ID, BOS_ID, *banned]
    sources = [text.source.tokens(pair.source_ids) for pair in sample]
    targets = [text.target.tokens(pair.target_ids) for pair in sample]
    scored = engine.score_batch(sources, targets, max_input_length=0, max_batch_size=32)
    forced = _force(model, [SamplePair(pair.source_ids, [*pair.target_ids, EOS_ID]) for pair in sample], never)
    differences = [np.abs(ours - theirs.log_probs) for (ours, _), theirs in zip(forced, scored, strict=True)]
    gaps = _gaps(model, engine, text, sample, never)
    return Agreement(
        num_pairs=len(sample),
        mean_difference=float(np.mean(np.concatenate(differences))),
        greatest_pair_difference=float(max(map(np.mean, differences))),
        greatest_token_difference=float(max(map(np.max, differences))),
        identical_lines=sum(gap == 0 for gap in gaps),
        tied_lines=sum(0 < gap <= 2 * tolerance for gap in gaps),
    )


def check_agreement(agreement: Agreement, *, tolerance: float) -> None:
    """Refuse an export that is not equal enough.

    Args:
        agreement: what was measured.
        tolerance: greatest mean difference of a pair.

    Raises:
        ExportError: saying what differs by how much.
    """
    # `not <=`, since what is no number must not pass.
    if not agreement.greatest_pair_difference <= tolerance:
        raise ExportError(
            f"export and model must agree within {tolerance:g} a token, but the log probabilities of a given "
            f"translation differ by {agreement.greatest_pair_difference:.2g} a token: nothing was written"
        )
    equal = agreement.identical_lines + agreement.tied_lines
    if equal < LEAST_IDENTICAL_SHARE * agreement.num_pairs:
        raise ExportError(
            f"export and model must translate {LEAST_IDENTICAL_SHARE:.0%} of the sample lines alike, greedily and up "
            f"to ties, but do so for {equal} of {agreement.num_pairs}: nothing was written"
        )


def _gaps(
    model: Seq2Seq, engine: Any, text: TextPair, sample: Sequence[SamplePair], never: Sequence[int]
) -> list[float]:
    """How much less the model likes a token of the export's greedy translation than its own favourite, at most."""
    longest = max(len(pair.source_ids) for pair in sample)
    results = engine.translate_batch(
        [text.source.tokens(pair.source_ids) for pair in sample],
        max_batch_size=32,
        max_input_length=0,
        max_decoding_length=min(2 * longest + 10, MAX_GREEDY_LENGTH),
        min_decoding_length=0,
        beam_size=1,
        suppress_sequences=[[token] for token in text.target.tokens(never)],
        return_end_token=True,
    )
    ids = {token: token_id for token_id, token in enumerate(text.target.vocabulary.tokens)}
    written = [[ids[token] for token in result.hypotheses[0]] for result in results]
    forced = _force(model, [SamplePair(p.source_ids, found) for p, found in zip(sample, written, strict=True)], never)
    return [float(np.max(of_best - of_tokens)) for of_tokens, of_best in forced]


def _force(model: Seq2Seq, pairs: Sequence[SamplePair], never: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Let a model score targets as they are given, an EOS among them if there is one; some tokens are never best.

    Returns:
        Of each pair the log probabilities of its target's tokens, and of those that the model likes best there, (T,).
    """
    sources = TokenSequences.from_lists([[*pair.source_ids, EOS_ID] for pair in pairs])
    targets = TokenSequences.from_lists([[BOS_ID, *pair.target_ids] for pair in pairs])
    lengths, vocabulary_size = targets.lengths - 1, model.vocabularies.target_size
    forced: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for places in plan_batches(lengths, batch_size=len(pairs), batch_tokens=_MOST_LOGITS // vocabulary_size):
        target_ids = targets.padded(places)[0]
        log_probs = np.asarray(ops.log_softmax(model((sources.padded(places)[0], target_ids[:, :-1]))))  # (B, T, V)
        of_tokens = np.take_along_axis(log_probs, target_ids[:, 1:, None], axis=-1)[..., 0]
        possible = np.ones(log_probs.shape[-1], dtype=bool)
        possible[list(never)] = False
        of_best = np.max(log_probs, axis=-1, where=possible, initial=-np.inf)
        for row, place in enumerate(places.tolist()):
            forced[place] = of_tokens[row, : lengths[place]], of_best[row, : lengths[place]]
    return [forced[place] for place in range(len(pairs))]


_EMBEDDINGS = {
    "source_embedding/embeddings": "encoder/embeddings_0/weight",
    "target_embedding/embeddings": "decoder/embeddings/weight",
    "output_projection/embeddings": "decoder/projection/weight",
}
"""What the roles that may be tied are called in the file of an export."""

_SUBLAYERS: dict[str, list[tuple[str, str, list[str]]]] = {
    "encoder": [
        ("self_attention", "self_attention", ["query_key_value", "output_product"]),
        ("ffn", "feed_forward", ["inner", "outer"]),
    ],
    "decoder": [
        ("self_attention", "self_attention", ["query_key_value", "output_product"]),
        ("attention", "cross_attention", ["query", "key_value", "output_product"]),
        ("ffn", "feed_forward", ["inner", "outer"]),
    ],
}
"""The sub-layers of each block: what CTranslate2 calls them, and we, and the products in them."""


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
    from ctranslate2.specs import transformer_spec as specs

    pre_norm = norm == "pre"
    encoder = specs.TransformerEncoderSpec(num_encoder_layers, num_heads, pre_norm=pre_norm)
    decoder = specs.TransformerDecoderSpec(num_decoder_layers, num_heads, pre_norm=pre_norm)
    spec = specs.TransformerSpec(encoder, decoder)
    dtype, left = ml_dtypes.bfloat16 if bfloat16 else np.float32, dict(arrays)

    def take(path: str) -> np.ndarray:
        """Copy an array, each once: CTranslate2 quantises in place, and what was given stays as it is."""
        return np.array(left.pop(path), dtype=dtype, order="C")

    def fill_norm(norm: Any, path: str) -> None:
        norm.gamma, norm.beta = take(f"{path}/gamma"), take(f"{path}/beta")

    encoder.embeddings[0].weight = take("source_embedding/embeddings")
    decoder.embeddings.weight = take("target_embedding/embeddings")
    decoder.projection.weight = take("output_projection/embeddings")
    decoder.projection.bias = take("output_bias")
    positions = position_encodings(num_positions, arrays["source_embedding/embeddings"].shape[1]).astype(dtype)
    for side, sublayers in _SUBLAYERS.items():
        half = getattr(spec, side)
        half.position_encodings.encodings = positions
        for number, layer in enumerate(half.layer):
            for theirs, ours, products in sublayers:
                sublayer, path = getattr(layer, theirs), f"{side}_blocks/{number}/{ours}"
                linears = [sublayer.linear_0, sublayer.linear_1] if theirs == "ffn" else sublayer.linear
                for linear, name in zip(linears, products, strict=True):
                    # Ours is (inputs, outputs), theirs (outputs, inputs).
                    linear.weight = np.ascontiguousarray(take(f"{path}/{name}/kernel").T)
                    linear.bias = take(f"{path}/{name}/bias")
                fill_norm(sublayer.layer_norm, f"{path}_residual/norm")
        if pre_norm:
            fill_norm(half.layer_norm, f"{side}_norm")
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
    return np.asarray(sinusoidal_positions(0, num_positions, hidden_size))


class Export(NamedTuple):
    """An export that was written.

    facts: what it says of itself.
    computed_in: how this processor computes with its weights.
    file_sizes: bytes of each file, by name.
    agreement: with the model.
    tolerance: mean difference a token that was allowed.
    """

    facts: model_directory.ExportFacts
    computed_in: str
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
        overwrite: replace an earlier export; what others keep in it goes along.

    Raises:
        ConfigError: the package ctranslate2 is not installed.
        ExportError: the model is no Transformer, something lies in the way, the files cannot be written, or they do
            not hold the ties of the model or give other results; the output is then as it was.
    """
    engines.check_exportable(opened.config, output, quantization=quantization, overwrite=overwrite)
    try:
        with new_directory(output, overwrite=overwrite) as folder:
            export = _write(opened, folder, sample, quantization)
            for path in model_directory.beside_export(output):
                copy_entry(path, folder / path.name)
            return export
    except OSError as error:
        raise ExportError(f"{output}: cannot be written: {error.strerror}") from error


def _write(opened: OpenedModel, folder: Path, sample: Sequence[SamplePair], quantization: str) -> Export:
    num_positions = engine_places.num_positions(opened.config)
    spec = build_spec(
        {path: np.asarray(variable.value) for path, variable in variable_roles(opened.model).items()},
        opened.text,
        **opened.config.model.model_dump(include={"num_heads", "num_encoder_layers", "num_decoder_layers", "norm"}),
        num_positions=num_positions,
        layer_norm_epsilon=LAYER_NORM_EPSILON,
        bfloat16=quantization == "bfloat16",
    )
    spec.optimize(quantization)
    verify_ties_of(spec, opened.model)
    spec.save(os.fspath(folder))

    # What was written is opened again, and compared with the model.
    engine, tolerance = engines.open_engine(folder, quantization), engines.TOLERANCES[quantization]
    banned = banned_ids(opened.config.search, opened.text.target)
    agreement = measure_agreement(opened.model, engine, opened.text, sample, tolerance=tolerance, banned=banned)
    check_agreement(agreement, tolerance=tolerance)

    # The shortlist of the model, if it has one that fits.
    directory = opened.directory
    if directory is not None and (directory / model_directory.SHORTLIST_NAME).exists():
        candidates = Shortlist.load(directory, opened.text).vocabulary_map(opened.text)
        if candidates is None:
            _LOGGER.warning("without its shortlist: tokens with spaces have no place in that of CTranslate2")
        else:
            (folder / model_directory.MAP_NAME).write_text(candidates, encoding="utf-8")

    # All that its text needs, and what it says of itself.
    opened.text.save(folder)
    write(opened.config, folder / model_directory.CONFIG_NAME)
    facts = model_directory.ExportFacts(
        quantization=quantization,
        checkpoint=opened.checkpoint,
        weights=opened.weights,
        num_positions=num_positions,
        model_sha256=model_directory.hash_of_model(folder),
        tokenizers=opened.text.fingerprints,
        versions={"nmt": __version__, "ctranslate2": engines.load_package().__version__},
        check=agreement._asdict(),
    )
    content = json.dumps({**model_directory.EXPORT_HEAD, **facts._asdict()}, indent=2)
    (folder / model_directory.EXPORT_NAME).write_text(f"{content}\n", encoding="utf-8")
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return Export(facts, engine.compute_type, sizes, agreement, tolerance)


def verify_ties_of(spec: TransformerSpec, model: keras.Layer) -> None:
    """Prove that each tied matrix of a model is written once: all its names but one are aliases of that one.

    Raises:
        ExportError: naming a tie that got lost.
    """
    variables = spec.variables()
    for group in tie_groups(model):
        places = [_EMBEDDINGS[role] for role in group.roles]
        names = {alias if isinstance(alias := variables[place], str) else place for place in places}
        if len(names) != 1:
            raise ExportError(f"an export must hold {group.name} once, but would as {', '.join(sorted(names))}")
