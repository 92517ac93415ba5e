import random

import pytest

from nmt.text import CharacterTokenizer, SentencePieceTokenizer, TextPair, WhitespaceTokenizer

NOUNS = ["hotel", "station", "ticket", "room", "train", "bus", "coffee", "key", "table", "bill", "street", "garden"]
VERBS = ["need", "see", "find", "want", "reserve", "buy", "take", "leave"]


@pytest.fixture(scope="session")
def source_lines():
    generator = random.Random(11)
    return [
        f"Quiero {generator.choice(VERBS)} el {generator.choice(NOUNS)} número {generator.randrange(90)}, ¿por favor?"
        for _ in range(400)
    ]


@pytest.fixture(scope="session")
def target_lines():
    generator = random.Random(12)
    return [
        f"I would like to {generator.choice(VERBS)} the {generator.choice(NOUNS)} no. {generator.randrange(90)} <now>/!"
        for _ in range(400)
    ]


@pytest.fixture(scope="session")
def pairs(source_lines, target_lines):
    """A pair of tokenizers of each kind, by name."""
    piece_settings = {"vocabulary_size": 150, "character_coverage": 1.0, "seed": 5}
    word_settings = {"vocabulary_size": None, "minimum_count": 1}
    unigram = {"model_type": "unigram", "joint": True, **piece_settings}
    same = ("nfkc", "nfkc")
    return {
        "unigram": TextPair.learn(SentencePieceTokenizer, source_lines, target_lines, **unigram, normalization=same),
        "two forms": TextPair.learn(SentencePieceTokenizer, source_lines, target_lines, **unigram),
        "bpe": TextPair.learn(
            SentencePieceTokenizer, source_lines, target_lines, model_type="bpe", joint=False, **piece_settings
        ),
        "whitespace": TextPair.learn(
            WhitespaceTokenizer, source_lines, target_lines, joint=True, normalization=(None, None), **word_settings
        ),
        "character": TextPair.learn(
            CharacterTokenizer, source_lines, target_lines, joint=False, normalization=("nfkc", None), **word_settings
        ),
    }


@pytest.fixture(params=["unigram", "two forms", "bpe", "whitespace", "character"])
def pair(request, pairs):
    return pairs[request.param]
