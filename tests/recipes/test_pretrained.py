"""Word vectors from text files, and the embeddings that begin with them."""

import gzip

import numpy as np
import pytest

from nmt.errors import ConfigError, DataError
from nmt.models.contract import Vocabularies
from nmt.recipes.pretrained import begin_with_vectors, embeddings_of, read_vectors
from nmt.settings.training import PretrainedSettings
from nmt.text import SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer
from tests import tiny

WORDS = ["gato", "Perro", "azul", "rojo", "uno", "dos", "tres"]  # V = 11 with the special tokens


@pytest.fixture
def write(tmp_path):
    def write(text, name="words.vec"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return str(path)

    return write


def text_pair(target=None):
    both = [WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *words])) for words in (WORDS, target or WORDS)]
    return TextPair(both[0], both[0] if target is None else both[1], joint=target is None)


@pytest.mark.parametrize("name", ["words.vec", "words.vec.gz"])
@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_vectors_are_read_with_and_without_a_first_line(write, name, header):
    path = write(f"{header}gato 1 -2.5 \nperro 3e-1 4\nel gato 5 6\n", name)
    found = read_vectors(path, {"gato", "el gato", "otro"})
    assert {token: row.tolist() for token, row in found.rows.items()} == {"gato": [1, -2.5], "el gato": [5, 6]}
    assert (found.width, found.num_lines, found.repeated, found.of_pieces) == (2, 3, 0, False)


def test_of_a_token_that_comes_again_the_first_vector_counts(write):
    found = read_vectors(write("gato 1 2\ngato 3 4\notro 1 1\notro 2 2\n"), {"gato"})
    assert (found.rows["gato"].tolist(), found.repeated) == ([1, 2], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 3\ngato 1 2 3\nperro 1 2\n", r"words\.vec, line 3: must hold a token and 3 numbers, got 2 numbers"),
        ("gato 1 2 3\nperro 1 2\n", r"line 2: must hold a token and 3 numbers, got 2"),
        ("gato 1 2\nperro 1 2 3\n", r"line 2: must hold a token and 2 numbers, got 3"),
        ("gato 1 nan\n", r"line 1: must hold finite numbers, got gato 1 nan"),
        ("gato 1 x\n", r"line 1: must hold 2 numbers behind a token"),
        ("3 2\ngato 1 2\n", r"must hold 3 vectors, as its first line says, got 1: is it cut short\?"),
        ("gato\n", r"line 1: must hold a token and some numbers, got 0 numbers"),
        ("", "must hold vectors, got an empty file"),
    ],
)
def test_what_is_no_file_of_vectors_is_refused(write, text, message):
    with pytest.raises(DataError, match=message):
        read_vectors(write(text), {"gato", "perro"})


def test_rows_are_scaled_and_others_stay(write):
    """Tied three times over: there is one matrix, and the log says what was found."""
    rows = {"gato": [3.0] * 7 + [9.0], "perro": [-1.0] * 8}
    path = write("".join(f"{token} {' '.join(map(str, row))}\n" for token, row in rows.items()))
    model, settings = tiny.build(tiny.TRANSFORMER), PretrainedSettings(source=path, freeze_updates=5)
    before = np.array(model.source_embedding.embeddings)
    remarks = begin_with_vectors(model, text_pair(), settings)
    after, given = np.array(model.output_projection.embeddings), np.array(list(rows.values()))
    scaled = given * 8**-0.5 / np.sqrt((given**2).mean())
    np.testing.assert_allclose(after[[4, 5]], scaled, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(after, [4, 5], axis=0), np.delete(before, [4, 5], axis=0))
    assert "2 of 7 source tokens (28.6%) have a vector" in remarks[0]
    assert "1 of them in lower case" in remarks[0]
    assert "kept as it is for 5 updates" in remarks[1]


def test_two_files_for_one_matrix_are_merged_and_for_two_are_not(write):
    source = write("gato 1 1 1 1 1 1 1 1\n", "source.vec")
    target = write("gato -1 -1 1 1 1 1 1 1\nuno 1 1 1 1 1 1 1 1\n", "target.vec")
    settings, size = PretrainedSettings(source=source, target=target), 8**-0.5
    tied = tiny.build(tiny.TRANSFORMER)
    begin_with_vectors(tied, text_pair(), settings)
    np.testing.assert_allclose(np.array(tied.source_embedding.embeddings)[4], [0, 0] + [size] * 6, atol=1e-6)
    apart = tiny.build(tiny.TRANSFORMER, vocabularies=Vocabularies(11, 11, False), tie_embeddings="target_output")
    begin_with_vectors(apart, text_pair(list(WORDS)), settings)
    np.testing.assert_allclose(np.array(apart.source_embedding.embeddings)[4], [size] * 8, atol=1e-6)
    np.testing.assert_allclose(np.array(apart.output_projection.embeddings)[4], [-size] * 2 + [size] * 6, atol=1e-6)
    assert list(embeddings_of(apart, settings)) == ["source_embedding/embeddings", "target_embedding/embeddings"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gato 1 2 3\n", "must have vectors as wide as the embeddings, 8, got 3"),
        ("cheval 1 2 3 4 5 6 7 8\n", "must have vectors of tokens of the target vocabulary, got none among 1"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(write, text, message):
    settings = PretrainedSettings(target=write(text))
    with pytest.raises(ConfigError, match=message):
        begin_with_vectors(tiny.build(tiny.TRANSFORMER), text_pair(), settings)
