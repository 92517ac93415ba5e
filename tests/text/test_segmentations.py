import math

import numpy as np
import pytest

from nmt.errors import ConfigError
from nmt.text.sentencepiece_tokenizer import CUTS_OF_A_PIECE, SentencePieceTokenizer, segmentations
from nmt.text.vocabulary import SPECIAL_TOKENS


@pytest.fixture(scope="module")
def tokenizer(pairs):
    return pairs["unigram"].source


@pytest.fixture(scope="module")
def table(tokenizer):
    return segmentations(tokenizer, alpha=0.3)


def cuts_of(table, token_id):
    return [table.token_ids[table.offsets[c] : table.offsets[c + 1]].tolist() for c in places(table, token_id)]


def places(table, token_id):
    return range(table.bounds[token_id], table.bounds[token_id + 1])


def probabilities(table, token_id):
    """Of the cuts of one piece, which the table holds summed up and on top of the piece's own number."""
    return np.diff(table.keys[places(table, token_id)], prepend=token_id)


def all_cuts(piece, ids):
    """Every way to write a piece as pieces, by brute force."""
    if not piece:
        return [[]]
    ends = [end for end in range(1, len(piece) + 1) if piece[:end] in ids]
    return [[ids[piece[:end]], *rest] for end in ends for rest in all_cuts(piece[end:], ids)]


def test_every_piece_has_itself_first_and_all_its_cuts(tokenizer, table):
    ids = {token: token_id for token_id, token in enumerate(tokenizer.vocabulary.tokens) if token_id > 3}
    several = 0
    for token, token_id in ids.items():
        expected = all_cuts(token, ids)
        found = cuts_of(table, token_id)
        assert found[0] == [token_id]
        assert len(set(map(tuple, found))) == len(found) == min(len(expected), CUTS_OF_A_PIECE)
        assert all(cut in expected for cut in found)
        several += len(found) > 1
    assert several > 20


def test_special_tokens_are_never_cut(table):
    assert [cuts_of(table, token_id) for token_id in range(len(SPECIAL_TOKENS))] == [[[i]] for i in range(4)]


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_probabilities_are_those_of_the_pieces_to_the_power_of_alpha(tokenizer, alpha):
    table = segmentations(tokenizer, alpha=alpha)
    scores = {token_id: tokenizer._processor.get_score(token_id) for token_id in range(len(tokenizer.vocabulary))}
    for token_id in range(4, len(tokenizer.vocabulary)):
        weights = [math.exp(alpha * sum(scores[i] for i in cut)) for cut in cuts_of(table, token_id)]
        found = probabilities(table, token_id)
        np.testing.assert_allclose(found, np.array(weights) / sum(weights), atol=1e-9)


def test_cuts_are_drawn_as_often_as_they_are_probable(table):
    most = int(np.argmax(np.diff(table.bounds)))
    drawn = table.draw(np.full(100_000, most), np.random.default_rng(3).random(100_000))
    shares = np.bincount(drawn - table.bounds[most], minlength=len(places(table, most))) / len(drawn)
    np.testing.assert_allclose(shares, probabilities(table, most), atol=0.006)


@pytest.mark.parametrize("number", [0.0, 1.0 - 2.0**-53])
def test_the_ends_of_chance_stay_within_the_piece(table, number):
    token_ids = np.arange(len(table.bounds) - 1)
    drawn = table.draw(token_ids, np.full(len(token_ids), number))
    assert np.all((table.bounds[token_ids] <= drawn) & (drawn < table.bounds[token_ids + 1]))


@pytest.mark.parametrize("kind", ["bpe", "whitespace", "character"])
def test_other_tokenizers_have_no_probabilities(pairs, kind):
    with pytest.raises(ConfigError, match="only a unigram model"):
        segmentations(pairs[kind].source, alpha=0.3)


def test_bytes_are_never_cut_and_are_in_no_cut(target_lines):
    lines = [*target_lines, "<0xABCDEF> 0123456789"]  # so that the name of each byte could be spelled
    tokenizer = SentencePieceTokenizer.learn(
        lines, model_type="unigram", vocabulary_size=400, character_coverage=1.0, seed=3, byte_fallback=True
    )
    first = tokenizer.vocabulary.id("<0x00>")
    table = segmentations(tokenizer, alpha=0.3)
    for token_id in range(len(tokenizer.vocabulary)):
        cuts = cuts_of(table, token_id)
        if first <= token_id < first + 256:
            assert cuts == [[token_id]]
        assert all(cut == [token_id] or not any(first <= part < first + 256 for part in cut) for cut in cuts)
