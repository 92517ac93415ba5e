import gzip
import random

import numpy as np
import pytest

from nmt.data import TokenStore, open_store
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import TokenSequences
from nmt.text import TextPair, WhitespaceTokenizer

WORDS = ["the", "red", "train", "leaves", "at", "nine", "from", "station", "one"]


@pytest.fixture
def write_lines(tmp_path):
    """Write lines to a file of a name, gzip by its ending; gives the path."""

    def write(name, lines):
        content = "".join(f"{line}\n" for line in lines).encode("utf-8")
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.fixture(scope="session")
def corpus():
    """60 pairs of lines of 1 to 9 words."""
    generator = random.Random(7)

    def line():
        return " ".join(generator.choices(WORDS, k=generator.randrange(1, 10)))

    return [line() for _ in range(60)], [line().upper() for _ in range(60)]


@pytest.fixture(scope="session")
def text(corpus):
    return TextPair.learn(WhitespaceTokenizer, *corpus, joint=False, vocabulary_size=None, minimum_count=1)


@pytest.fixture
def paths(corpus, write_lines):
    return write_lines("train.es", corpus[0]), write_lines("train.en", corpus[1])


@pytest.fixture
def store(paths, text, tmp_path):
    return open_store(tmp_path / "store", *paths, text=text, max_length=20)


@pytest.fixture(scope="session")
def caption_store():
    """4,000 pairs in memory with lengths like those of image captions; each target begins with the pair's number."""
    generator = np.random.default_rng(5)
    count = 4000
    source_lengths = np.clip(generator.lognormal(2.73, 0.33, count).round(), 3, 60).astype(int)
    noise = generator.lognormal(0.0, 0.18, count)
    target_lengths = np.clip((source_lengths * noise).round(), 3, 60).astype(int)
    source = [[*generator.integers(4, 99, length - 1), 3] for length in source_lengths]
    target = [[1000 + i, *generator.integers(4, 99, length - 2), 3] for i, length in enumerate(target_lengths)]
    report = CorpusReport(count, count, 0, 0, 0, 60)
    return TokenStore(None, TokenSequences.from_lists(source), TokenSequences.from_lists(target), report, "")
