"""Extended SentencePiece models: old ids stay, new characters are read, old text is cut as before but for merges."""

import random

import pytest

from nmt.errors import ConfigError, DataError
from nmt.text import SentencePieceTokenizer
from nmt.text.sentencepiece_model import PieceCutter

WORDS = ["glockenspiel", "größer", "вокзал", "привет", "would", "hotelroom", "(minibar)"]


@pytest.fixture(scope="module")
def new_lines():
    generator = random.Random(3)
    return [" ".join(generator.choices(WORDS, k=4)) for _ in range(200)]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def old(request, source_lines, target_lines):
    lines = [*source_lines, *target_lines]
    return SentencePieceTokenizer.learn(
        lines, model_type=request.param, vocabulary_size=150, character_coverage=1.0, seed=5
    )


@pytest.fixture(scope="module")
def old_unigram(target_lines):
    return SentencePieceTokenizer.learn(
        target_lines, model_type="unigram", vocabulary_size=100, character_coverage=1.0, seed=5
    )


@pytest.fixture(scope="module")
def extended(old, new_lines):
    return extend(old, new_lines)


def learn(lines, **settings):
    return SentencePieceTokenizer.learn(lines, character_coverage=1.0, seed=5, **settings)


def extend(tokenizer, lines, **settings):
    given = {"vocabulary_size": 100, "character_coverage": 1.0, "seed": 5, **settings}
    return tokenizer.extend(lines, **given)


def boundaries(pieces):
    """Where a line is cut, in characters of its pieces."""
    places, end = set(), 0
    for piece in pieces:
        end += len(piece)
        places.add(end)
    return places


def test_old_tokens_keep_their_ids_and_scores(old, extended):
    count = len(old.vocabulary)
    assert extended.vocabulary.tokens[:count] == old.vocabulary.tokens
    assert len(extended.vocabulary) > count
    assert extended.settings["vocabulary_size"] == len(extended.vocabulary)
    reopened = SentencePieceTokenizer(extended.model, settings=extended.settings)
    assert reopened.fingerprint == extended.fingerprint != old.fingerprint
    scores = [PieceCutter(tokenizer.model)._processor.get_score(7) for tokenizer in (old, extended)]
    assert scores[0] == scores[1]


def test_new_text_is_read_whole_and_shorter(old, extended, new_lines):
    assert old.decode(old.encode(new_lines[0])) != new_lines[0]
    for line in new_lines:
        assert extended.decode(extended.encode(line)) == line
    read = [line for line in new_lines if 1 not in old.encode(line)]
    lengths = [sum(map(len, tokenizer.encode_batch(read))) for tokenizer in (old, extended)]
    assert 0 < lengths[1] < 0.7 * lengths[0]
    assert extended.vocabulary.id("в") != 1
    assert {"▁привет", "▁вокзал"} & set(extended.vocabulary.tokens)


def test_old_text_is_cut_as_before_but_for_merges(old, extended, source_lines, target_lines):
    same = merged = 0
    for line in [*source_lines, *target_lines]:
        before, now = (tokenizer.tokens(tokenizer.encode(line)) for tokenizer in (old, extended))
        assert "".join(before) == "".join(now)
        assert boundaries(now) <= boundaries(before)
        same += before == now
        merged += before != now
    assert same > 0
    assert merged > 0  # "would" and "hotel" are in both


def test_any_pieces_only_merge_what_a_unigram_model_had(old_unigram, target_lines):
    """Whatever is added, fragments of words too: no line is cut at a new place, and what fits is merged."""
    generator, merged = random.Random(7), 0
    words = sorted({word for line in target_lines for word in line.split(" ")})
    for _ in range(20):
        pieces = set()
        for word in generator.choices(words, k=12):
            begin = generator.randrange(len(word))
            pieces.add(word[begin : begin + generator.randint(2, 6)])
        pieces = [p for p in sorted(pieces) if len(p) > 1 and old_unigram.vocabulary.id(p) == 1]
        extended = old_unigram._with_pieces(pieces)
        for line in target_lines[:60]:
            before, now = (tokenizer.tokens(tokenizer.encode(line)) for tokenizer in (old_unigram, extended))
            assert boundaries(now) <= boundaries(before)
            merged += len(now) < len(before)
    assert merged > 0


def test_one_long_piece_beats_two_short_ones(old_unigram):
    cut = old_unigram.tokens(old_unigram.cut("▁glasshouse"))
    assert len(cut) >= 4
    halves = ["".join(cut[:2]), "".join(cut[2:])]
    extended = old_unigram._with_pieces(["▁glasshouse", *halves])
    assert extended.tokens(extended.encode("glasshouse")) == ["▁glasshouse"]


def test_every_new_piece_is_used_or_on_the_way_to_one_that_is(old, extended, new_lines):
    used = {extended.vocabulary.token(token_id) for ids in extended.encode_batch(new_lines) for token_id in ids}
    is_bpe = old.model_type == "bpe"
    for piece in extended.vocabulary.tokens[len(old.vocabulary) :]:
        on_the_way = is_bpe and any(piece in longer for longer in used)
        assert piece in used or on_the_way or (len(piece) == 1 and old.vocabulary.id(piece) == 1)


def test_characters_come_first_and_the_bound_holds(old, new_lines):
    unknown = {character for line in new_lines for character in line if old.vocabulary.id(character) == 1} - {" "}
    for bound in (1, len(unknown), len(unknown) + 3):
        added = extend(old, new_lines, max_new_tokens=bound).vocabulary.tokens[len(old.vocabulary) :]
        assert len(added) == bound
        assert set(added[: len(unknown)]) <= unknown
    frequent = extend(old, new_lines, minimum_count=10**6).vocabulary.tokens[len(old.vocabulary) :]
    assert set(frequent) == unknown


def test_nothing_missing_is_nothing_changed(old, extended, target_lines):
    assert extend(old, target_lines[:1], vocabulary_size=40, minimum_count=10**6) is old


def test_a_cut_knows_no_beginning_of_a_line(old):
    cut = old.tokens(old.cut("oom"))
    assert "".join(cut) == "oom"
    assert old.tokens(old.cut("▁room")) == old.tokens(old.encode("room"))
    assert old.cut("▁qЖЖ")[-1] == 1
    for token_id in range(4, len(old.vocabulary)):
        assert "".join(old.tokens(old.cut(old.vocabulary.token(token_id)))) == old.vocabulary.token(token_id)


def test_the_score_of_a_cut_is_that_of_its_pieces(old_unigram):
    old = old_unigram
    cutter, processor = PieceCutter(old.model), PieceCutter(old.model)._processor
    ids = old.cut("▁would▁like")
    assert cutter.score(ids) == pytest.approx(sum(processor.get_score(token_id) for token_id in ids))
    assert cutter.score([1]) == pytest.approx(cutter.lowest_score - 10.0)


def test_what_cannot_be_extended_is_refused(old, new_lines):
    with pytest.raises(DataError, match="a tokenizer needs text to learn from, got only empty lines"):
        extend(old, ["", "\0"])
    with pytest.raises(ConfigError, match="vocabulary_size must hold at least the characters"):
        extend(old, new_lines, vocabulary_size=9)
    words = SentencePieceTokenizer.learn(
        new_lines, model_type="word", vocabulary_size=12, character_coverage=1.0, seed=1
    )
    with pytest.raises(DataError, match="only a unigram or bpe model of SentencePiece can be extended, got word"):
        extend(words, new_lines)


@pytest.mark.parametrize("max_new_tokens", [None, 9])
@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
def test_a_model_with_bytes_gets_pieces_for_what_it_spelled(model_type, max_new_tokens, target_lines, new_lines):
    old = SentencePieceTokenizer.learn(
        target_lines, model_type=model_type, vocabulary_size=400, character_coverage=1.0, seed=5, byte_fallback=True
    )
    extended = extend(old, new_lines, max_new_tokens=max_new_tokens)
    before, now = (sum(map(len, tokenizer.encode_batch(new_lines))) for tokenizer in (old, extended))
    assert now < before
    for lines in (target_lines, new_lines):
        assert [extended.decode(ids) for ids in extended.encode_batch(lines)] == lines
    for piece in extended.vocabulary.tokens[len(old.vocabulary) :]:
        assert PieceCutter(extended.model).score([extended.vocabulary.id(piece)]) < -2.0, piece
