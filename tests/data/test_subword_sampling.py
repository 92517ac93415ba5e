import numpy as np
import pytest

from nmt.data import TokenStore
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import SampledSequences, TokenSequences, segmentations_of, uniform
from nmt.streams import BatchStream, Cursor
from nmt.text import EOS_ID, SentencePieceTokenizer, TextPair
from nmt.text.sentencepiece_tokenizer import segmentations


@pytest.fixture(scope="module")
def pieces():
    """A joint pair of unigram tokenizers, and 600 lines a side."""
    generator = np.random.default_rng(2)
    stems = ["station", "ticket", "garden", "coffee", "reserv", "leav", "travel", "wander"]
    endings = ["", "s", "ed", "ing", "er", "ers"]

    def line():
        words = (generator.choice(stems) + generator.choice(endings) for _ in range(generator.integers(2, 12)))
        return " ".join(words)

    source, target = [line() for _ in range(600)], [line().capitalize() for _ in range(600)]
    settings = {"vocabulary_size": 90, "character_coverage": 1.0, "seed": 5}
    return (
        TextPair.learn(SentencePieceTokenizer, source, target, model_type="unigram", joint=True, **settings),
        source,
        target,
    )


@pytest.fixture(scope="module")
def piece_store(pieces):
    text, *sides = pieces
    source, target = (TokenSequences.from_lists([[*ids, EOS_ID] for ids in text.source.encode_batch(s)]) for s in sides)
    return TokenStore(None, source, target, CorpusReport(600, 600, 0, 0, 0, 60), "")


@pytest.fixture(scope="module")
def table(pieces):
    return segmentations(pieces[0].source, alpha=0.2)


@pytest.fixture(scope="module")
def sampled(piece_store, table):
    return SampledSequences(piece_store.source, table, seed=(1, 0))


def with_room(sequences, tokens):
    """The same sequences, and behind them one that lets the others grow to so many tokens."""
    return TokenSequences.from_lists([*(sequences[i].tolist() for i in range(len(sequences))), [EOS_ID] * tokens])


def draw_all(sampled, count, epoch=0):
    return sampled.draw(np.arange(count), epoch=epoch)


def lines_of(text, sequences):
    return [text.source.decode(sequences[i].tolist()) for i in range(len(sequences))]


def test_another_cut_is_the_same_text_and_closed_by_one_eos(pieces, piece_store, sampled):
    text, lines, _ = pieces
    sequences = draw_all(sampled, len(lines))
    assert lines_of(text, sequences) == lines
    assert all(sequences[i].tolist().count(EOS_ID) == 1 and sequences[i][-1] == EOS_ID for i in range(len(lines)))
    assert sequences.lengths.sum() > 1.1 * piece_store.source.lengths.sum()


def test_seed_side_and_epoch_decide_the_cuts(piece_store, table, sampled):
    first, other_epoch = (draw_all(sampled, 600, epoch).token_ids for epoch in (0, 1))
    again, other_seed, other_side = (
        draw_all(SampledSequences(piece_store.source, table, seed=seed), 600).token_ids
        for seed in ((1, 0), (2, 0), (1, 1))
    )
    assert np.array_equal(first, again)
    different = [first, other_epoch, other_seed, other_side]
    assert len({sequence.tobytes() for sequence in different}) == 4


def test_a_sequence_is_cut_in_the_same_way_in_whatever_batch(piece_store, table, sampled):
    whole = draw_all(sampled, 600, epoch=3)
    indices = np.random.default_rng(4).permutation(600)[:50]
    part = sampled.draw(indices, epoch=3)
    assert all(np.array_equal(part[row], whole[index]) for row, index in enumerate(indices))
    assert np.array_equal(sampled.lengths(3), whole.lengths)


def test_lengths_are_measured_in_pieces(piece_store, sampled, monkeypatch):
    expected = sampled.lengths(2)
    monkeypatch.setattr("nmt.data.sequences._SEQUENCES_AT_A_TIME", 7)
    assert np.array_equal(sampled.lengths(2), expected)


def test_a_sharp_distribution_leaves_the_best_cut(pieces, piece_store):
    sampled = SampledSequences(piece_store.target, segmentations(pieces[0].source, alpha=100.0), seed=(1,))
    assert np.array_equal(draw_all(sampled, 600).token_ids, piece_store.target.token_ids)


def test_no_sequence_outgrows_the_longest_and_the_room_is_used(pieces, piece_store, table, sampled):
    text, lines, _ = pieces
    free = draw_all(SampledSequences(with_room(piece_store.source, 1000), table, seed=(1, 0)), 600).lengths
    longest = int(piece_store.source.lengths.max())
    sequences = draw_all(sampled, 600)
    assert sequences.lengths.max() == longest < free.max()
    assert lines_of(text, sequences) == lines
    assert np.array_equal(sequences.lengths[free <= longest], free[free <= longest])
    clipped = sequences.lengths[free > longest]
    assert len(clipped) > 20
    assert clipped.mean() > longest - 1.0


def test_which_cuts_are_taken_back_is_chance(piece_store, table):
    longest = int(np.argmax(piece_store.source.lengths))
    almost = piece_store.source[longest].tolist()
    sampled = SampledSequences(TokenSequences.from_lists([almost, [EOS_ID] * (len(almost) + 1)]), table, seed=(1,))
    results = {tuple(sampled.draw(np.array([0]), epoch=epoch)[0].tolist()) for epoch in range(60)}
    cut_places = {next(i for i, pair in enumerate(zip(ids, almost, strict=False)) if pair[0] != pair[1])
                  for ids in results if list(ids) != almost}  # fmt: skip
    assert len(cut_places) > 4


def test_chance_is_even_and_that_of_splitmix64():
    numbers = uniform(np.uint64(1234567), np.arange(1, 100_001, dtype=np.uint64))
    assert int(numbers[0] * 2**53) == 6457827717110365317 >> 11
    assert int(numbers[1] * 2**53) == 3203168211198807973 >> 11
    assert np.bincount((numbers * 20).astype(int), minlength=20) == pytest.approx(5000, rel=0.06)
    assert abs(np.corrcoef(numbers[1:], numbers[:-1])[0, 1]) < 0.01


def test_the_stream_cuts_anew_in_each_epoch_within_its_batches(pieces, piece_store):
    text, source_lines, _ = pieces
    stream = BatchStream(piece_store, batch_tokens=300, seed=5, segmentations=segmentations_of(text, 0.2))
    cuts = []
    for epoch in range(2):
        batches = [next(stream) for _ in range(stream.batches_in_epoch(epoch))]
        assert max(len(b.source_ids) * max(b.source_ids.shape[1], b.target_output_ids.shape[1]) for b in batches) <= 300
        rows = [row[row != 0].tolist() for batch in batches for row in batch.source_ids]
        assert sorted(text.source.decode(row) for row in rows) == sorted(source_lines)
        assert all((b.target_input_ids[:, 1:] != 0).sum() == (b.target_output_ids[:, 1:] != 0).sum() for b in batches)
        cuts.append(sorted(map(tuple, rows)))
    assert len(set(cuts[0]) & set(cuts[1])) < 300


def test_a_stream_that_is_sent_to_a_cursor_repeats_its_cuts(pieces, piece_store):
    text = pieces[0]
    streams = [
        BatchStream(piece_store, batch_tokens=300, seed=5, segmentations=segmentations_of(text, 0.2)) for _ in "ab"
    ]
    for _ in range(7):
        next(streams[0])
    streams[1].seek(Cursor(0, 7))
    for array, other in zip(next(streams[0]), next(streams[1]), strict=True):
        assert np.array_equal(array, other)


def test_no_segmentations_without_a_setting(pieces):
    assert segmentations_of(pieces[0], None) is None
