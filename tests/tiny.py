"""Tiny models, corpora and configs, from which the tests of every room make their own.

Sizes are all different, so that a swapped axis cannot pass; a test that needs another size says so where it needs it.
Nothing heavy is imported before it is used, as tests of light verbs use this too.
"""

from contextlib import contextmanager

import yaml

TRANSFORMER = {
    "type": "transformer",
    "hidden_size": 8,
    "ffn_size": 12,
    "num_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "ffn_dropout": 0.0,
    "norm": "pre",
}
RNN = {
    "type": "rnn",
    "cell": "gru",
    "embedding_size": 6,
    "hidden_size": 8,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "attention": "additive",
    "input_feeding": True,
    "dropout": 0.0,
}
MODELS = {"transformer": TRANSFORMER, "rnn": RNN}
VOCABULARY_SIZE = 11
WORDS = {"uno": "one", "dos": "two", "tres": "three", "rojo": "red", "azul": "blue", "gato": "cat", "perro": "dog"}


def with_dropout(settings, dropout):
    """The settings of a model with this share in the place of every dropout."""
    return {name: dropout if name.endswith("dropout") else value for name, value in settings.items()}


def build(settings, *, vocabularies=None, tie_embeddings="all", seed=3):
    """A model of these settings; without sizes of vocabularies, with V=11 for both languages."""
    from nmt.models.contract import Vocabularies, build_model

    sizes = vocabularies or Vocabularies(VOCABULARY_SIZE, VOCABULARY_SIZE, shared=True)
    return build_model(sizes, **{"tie_embeddings": tie_embeddings, "seed": seed, **settings})


def scatter_weights(model, *, seed, spread):
    """Move all weights by random numbers: what a new model writes depends on next to nothing."""
    import numpy as np

    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(1.5 * variable + generator.normal(0.0, spread, variable.shape))


def copied_lines(generator, count):
    """Pairs of a line of one to six words and the same line."""
    lines = [" ".join(generator.choices(list(WORDS), k=generator.randint(1, 6))) for _ in range(count)]
    return [(line, line) for line in lines]


def write_config(folder, corpora, *, model=RNN, data=None, **sections):
    """Write a config, and the corpora that it names; return the path of the config.

    Args:
        folder: Where to, and where the model directory `run` will be.
        corpora: Pairs of lines for each role: train, validation and test.
        model: Settings of the model.
        data: Settings of `data` beside the corpora, or in the place of a tokenizer that cuts at spaces.
        **sections: What else the config holds, such as `training`.
    """
    files = {role: {side: f"{folder}/{role}.{end}" for side, end in _SIDES.items()} for role in corpora}
    for role, pairs in corpora.items():
        for place, end in enumerate(_SIDES.values()):
            text = "".join(f"{pair[place]}\n" for pair in pairs)
            (folder / f"{role}.{end}").write_text(text, encoding="utf-8")
    languages = {"source_language": "es", "target_language": "en"}
    values = {
        "model_directory": f"{folder}/run",
        "data": {**languages, **files, "tokenizer": {"type": "whitespace"}, **(data or {})},
        "model": model,
        **sections,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=1000), encoding="utf-8")
    return path


_SIDES = {"source": "es", "target": "en"}


@contextmanager
def run_eagerly():
    """Compiled functions run step by step: the same numbers, without the seconds that a trace takes."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
