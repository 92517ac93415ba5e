"""The models are ordinary Keras models: compile one, fit it, and translate with what came of it.

python examples/keras_fit.py
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import keras
import tensorflow as tf

import nmt
from nmt.data import Corpus
from nmt.text import BOS_ID, EOS_ID, PAD_ID, SentencePieceTokenizer, TextPair

TRAVEL = Path(__file__).resolve().parent / "travel"


def read_travel(num_pairs: int) -> tuple[list[str], list[str]]:
    """Read the first pairs of the training text."""
    pairs = itertools.islice(Corpus(TRAVEL / "train.es.gz", TRAVEL / "train.en.gz").pairs(), num_pairs)
    source_lines, target_lines = zip(*pairs, strict=True)
    return list(source_lines), list(target_lines)


def padded_batches(text: TextPair, lines: tuple[list[str], list[str]], batch_size: int) -> tf.data.Dataset:
    """Encode pairs: ((source ids (B, S), target input ids (B, T)), target output ids (B, T)), padded with PAD."""

    def examples() -> Iterator[tuple[tuple[list[int], list[int]], list[int]]]:
        for source, target in zip(*lines, strict=True):
            target_ids = text.target.encode(target)
            yield ([*text.source.encode(source), EOS_ID], [BOS_ID, *target_ids]), [*target_ids, EOS_ID]

    ids = tf.TensorSpec((None,), tf.int32)
    dataset = tf.data.Dataset.from_generator(examples, output_signature=((ids, ids), ids))
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(lines[0])))  # so that Keras knows the end
    return dataset.cache().shuffle(10_000, seed=1).padded_batch(batch_size)


def build(text: TextPair, hidden_size: int) -> nmt.Transformer:
    """Build a Transformer whose source, target and output embeddings are one matrix, and compile it."""
    size = len(text.source.vocabulary)
    settings = nmt.TransformerArchitecture(
        hidden_size=hidden_size, ffn_size=4 * hidden_size, num_heads=2, num_encoder_layers=1, num_decoder_layers=1,
        dropout=0.0, attention_dropout=0.0, ffn_dropout=0.0, tie_embeddings="all",
    )  # fmt: skip
    model = nmt.Transformer(nmt.Vocabularies(size, size, shared=True), settings, seed=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=PAD_ID)  # padding does not count
    model.compile(optimizer=keras.optimizers.Adam(0.003, beta_2=0.98), loss=loss, jit_compile=False)
    return model


def main(*, num_pairs: int = 300, hidden_size: int = 64, num_epochs: int = 40) -> tuple[list[float], str]:
    """Train on some of the travel text; returns the loss of each epoch and the translation of the first line."""
    lines = read_travel(num_pairs)
    text = TextPair.learn(
        SentencePieceTokenizer,
        *lines,
        model_type="unigram",
        joint=True,
        vocabulary_size=500,
        character_coverage=1.0,
        seed=1,
    )
    model = build(text, hidden_size)
    ties = nmt.tie_groups(model)
    history = model.fit(padded_batches(text, lines, batch_size=32), epochs=num_epochs, shuffle=False, verbose=2)
    nmt.verify_ties(model, ties, model.optimizer)
    translation = nmt.Translator(model, text).translate(lines[0][:1])[0]
    print(f"{lines[0][0]}  ->  {translation}")
    return history.history["loss"], translation


if __name__ == "__main__":
    main()
