"""Write a model directory with an untrained Transformer of 60 million parameters, whose speed is that of a trained one.

    python benchmarks/large_model.py /tmp/large
    python benchmarks/decoding.py /tmp/large --lines 256 --lengths forced

The base model of Vaswani et al. (2017) with 32,000 joint tokens, three-way tied. Its text is made of random words,
5 to 25 a line, and each word is a token. What it translates means nothing, and where its sentences end neither.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from smoke import add_smoke, say

from nmt.backend import session

VOCABULARY_SIZE = 32_000
TEST_LINES = 1000
SPECIAL_SYMBOLS = 4

CONFIG = """\
model_directory: {directory}
seed: 1
data:
  source_language: xx
  target_language: yy
  train: {{source: {directory}/words.source, target: {directory}/words.target}}
  validation: {{source: {directory}/test.source, target: {directory}/test.target}}
  test: {{source: {directory}/test.source, target: {directory}/test.target}}
  tokenizer: {{type: whitespace, joint: true, vocabulary_size: {vocabulary_size}}}
model:
  type: transformer
  hidden_size: {hidden_size}
  ffn_size: {ffn_size}
  num_heads: {num_heads}
  num_encoder_layers: {num_layers}
  num_decoder_layers: {num_layers}
  dropout: 0.1
  norm: pre
  tie_embeddings: all
training:
  batch_tokens: 4096
  max_updates: 1
"""


SIZES = {"vocabulary_size": VOCABULARY_SIZE, "hidden_size": 512, "ffn_size": 2048, "num_heads": 8, "num_layers": 6}
SMOKE_SIZES = {"vocabulary_size": 300, "hidden_size": 16, "ffn_size": 24, "num_heads": 2, "num_layers": 1}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="directory to write")
    add_smoke(parser)
    return parser.parse_args()


def main() -> None:
    """Write text, settings, tokenizers and a checkpoint of the first weights."""
    arguments = parse()
    directory, sizes = arguments.output.resolve(), SMOKE_SIZES if arguments.smoke else SIZES
    if directory.exists():
        raise SystemExit(f"{directory} is there already: delete it, or give another directory")
    say("starting TensorFlow")
    session.start()
    from nmt.checkpoint.manager import CheckpointManager
    from nmt.config import load, write
    from nmt.inference.translator import vocabularies_of
    from nmt.models.contract import build_model
    from nmt.recipes.build_vocabulary import build_text

    directory.mkdir(parents=True)
    say("writing text")
    write_text(directory, vocabulary_size=sizes["vocabulary_size"])
    path = directory / "config.yaml"
    path.write_text(CONFIG.format(directory=directory, **sizes), encoding="utf-8")
    config = load(path)
    write(config, path)
    text = build_text(config)
    text.save(directory)
    say("building the model")
    model = build_model(vocabularies_of(text), seed=config.seed, **config.model.model_dump())
    with CheckpointManager(directory) as checkpoints:
        checkpoints.save(1, model=model, facts={"tokenizers": text.fingerprints})
    print(f"{directory}: {model.count_params():,} parameters, {len(text.target.vocabulary):,} tokens")


def write_text(directory: Path, *, vocabulary_size: int) -> None:
    """Write a corpus in which every word occurs, and a test set of random words."""
    generator = random.Random(1)
    words = [f"w{number}" for number in range(vocabulary_size - SPECIAL_SYMBOLS)]
    every_word = [" ".join(words[start : start + 20]) for start in range(0, len(words), 20)]
    for side in ("source", "target"):
        test = [" ".join(generator.choices(words, k=generator.randint(5, 25))) for _ in range(TEST_LINES)]
        for name, lines in (("words", every_word), ("test", test)):
            (directory / f"{name}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
