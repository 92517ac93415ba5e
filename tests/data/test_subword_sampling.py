import numpy as np
import pytest

from nmt.data import BatchStream, Cursor, TokenSequences, TokenStore
from nmt.data.report import CorpusReport
from nmt.data.subword_sampling import SubwordSampler, subword_samplers
from nmt.text import EOS_ID, build_sentencepiece
from nmt.text.segmentations import segmentations

LONGEST = 1000
"""More tokens than any sequence here can become."""


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
    return build_sentencepiece(source, target, model_type="unigram", joint=True, **settings), source, target


@pytest.fixture(scope="module")
def piece_store(pieces):
    text, *sides = pieces
    source, target = (TokenSequences.from_lists([[*ids, EOS_ID] for ids in text.source.encode_batch(s)]) for s in sides)
    return TokenStore(None, source, target, CorpusReport(600, 600, 0, 0, 0, 60), "")


@pytest.fixture(scope="module")
def sampler(pieces):
    return SubwordSampler(segmentations(pieces[0].source, alpha=0.2))


def drawn(sampler, sequences, *, longest=LONGEST, seed=1):
    return sampler.draw(sequences, np.arange(len(sequences)), longest=longest, generator=np.random.default_rng(seed))


def lines_of(text, sequences):
    return [text.source.decode(sequences[i].tolist()) for i in range(len(sequences))]


def test_another_cut_is_the_same_text_and_closed_by_one_eos(pieces, piece_store, sampler):
    text, lines, _ = pieces
    sequences = drawn(sampler, piece_store.source)
    assert lines_of(text, sequences) == lines
    assert all(sequences[i].tolist().count(EOS_ID) == 1 and sequences[i][-1] == EOS_ID for i in range(len(lines)))
    assert sequences.lengths.sum() > 1.1 * piece_store.source.lengths.sum()


def test_the_generator_decides_the_cuts(piece_store, sampler):
    first, again, other = (drawn(sampler, piece_store.source, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.token_ids, again.token_ids)
    assert not np.array_equal(first.lengths, other.lengths)


def test_a_sharp_distribution_leaves_the_best_cut(pieces, piece_store):
    sampler = SubwordSampler(segmentations(pieces[0].source, alpha=100.0))
    sequences = drawn(sampler, piece_store.target)
    assert np.array_equal(sequences.token_ids, piece_store.target.token_ids)


def test_no_sequence_is_longer_than_allowed_and_the_room_is_used(pieces, piece_store, sampler):
    text, lines, _ = pieces
    best = piece_store.source.lengths
    free = drawn(sampler, piece_store.source).lengths
    longest = int(best.max()) + 2
    sequences = drawn(sampler, piece_store.source, longest=longest)
    assert sequences.lengths.max() == longest < free.max()
    assert lines_of(text, sequences) == lines
    assert np.array_equal(sequences.lengths[free <= longest], free[free <= longest])
    clipped = sequences.lengths[free > longest]
    assert len(clipped) > 20
    assert clipped.mean() > longest - 1.0


def test_without_room_nothing_is_cut(piece_store, sampler):
    sequences = drawn(sampler, piece_store.source, longest=0)
    assert np.array_equal(sequences.token_ids, piece_store.source.token_ids)


def test_most_draws_fit_the_planned_length(piece_store, sampler):
    planned = sampler.planned_lengths(piece_store.source, most=LONGEST)
    fits = np.mean([drawn(sampler, piece_store.source, seed=seed).lengths <= planned for seed in range(10)])
    assert 0.8 < fits < 0.98
    assert planned.min() >= 1
    assert sampler.planned_lengths(piece_store.source, most=9).max() == 9


def test_the_stream_cuts_anew_in_each_epoch_within_its_batches(pieces, piece_store):
    text, source_lines, _ = pieces
    stream = BatchStream(piece_store, batch_tokens=300, seed=5, samplers=subword_samplers(text, 0.2))
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
    streams = [BatchStream(piece_store, batch_tokens=300, seed=5, samplers=subword_samplers(text, 0.2)) for _ in "ab"]
    for _ in range(7):
        next(streams[0])
    streams[1].seek(Cursor(0, 7))
    for array, other in zip(next(streams[0]), next(streams[1]), strict=True):
        assert np.array_equal(array, other)


def test_no_samplers_without_a_setting(pieces):
    assert subword_samplers(pieces[0], None) is None


def test_the_same_batch_is_cut_in_another_way_in_each_epoch(pieces, piece_store):
    pair = TokenStore(
        None,
        TokenSequences.from_lists([piece_store.source[0].tolist()]),
        TokenSequences.from_lists([piece_store.target[0].tolist()]),
        CorpusReport(1, 1, 0, 0, 0, 60),
        "",
    )
    stream = BatchStream(pair, batch_tokens=300, seed=5, samplers=subword_samplers(pieces[0], 0.2))
    assert stream.batches_in_epoch(0) == 1
    assert len({tuple(next(stream).source_ids[0]) for _ in range(8)}) > 4
