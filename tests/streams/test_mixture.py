import hashlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nmt.data import TokenStore
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import TokenSequences
from nmt.errors import ConfigError, DataError
from nmt.streams import BatchStream, MixedCorpus, MixtureCursor, MixtureStream, Stage
from nmt.streams.shares import EndlessOrder

NAMES = ("clean", "mined", "tiny")


def make_corpus(number, size, tag_id=None):
    """Source n: 10 n + number + 100 and EOS; the target n % 5 + 1 times that, and EOS."""
    token = [10 * n + number + 100 for n in range(size)]
    source = TokenSequences.from_lists([[each, 3] for each in token])
    target = TokenSequences.from_lists([[each] * (n % 5 + 1) + [3] for n, each in enumerate(token)])
    store = TokenStore(None, source, target, CorpusReport(size, size, 0, 0, 0, 9), str(number))
    return MixedCorpus(NAMES[number], store, tag_id)


@pytest.fixture
def corpora():
    return [make_corpus(number, size) for number, size in enumerate((97, 230, 7))]


def drawn(batch):
    """(corpus, pair) of each row of a batch without tags; the target is proved to be the source's."""
    token = batch.source_ids[:, 0]
    assert np.array_equal(token, batch.target_output_ids[:, 0])
    return [(int(each) % 10, (int(each) - 100) // 10) for each in token]


STAGES = (
    Stage("1", (1.0, 2.0, 0.0), updates=3),
    Stage("2", (3.0, 1.0, 1.0), epochs=1.5, of=0),
    Stage("3", (0.0, 1.0, 0.3), updates=2),
    Stage("4", (1.0, 1.0, 1.0)),
)


def make_stream(corpora, stages=STAGES, **settings):
    return MixtureStream(corpora, stages, **{"batch_tokens": 60, "seed": 5, "round_pairs": 80, **settings})


def same(one, other):
    return all(np.array_equal(*sides) for sides in zip(one, other, strict=True))


def through(stream, updates, per_update=1):
    """The batches of so many updates, each with the cursor before it."""
    found = []
    for _ in range(updates):
        cursor = stream.cursor
        found.append((cursor, [next(stream) for _ in range(per_update)]))
    return found


@pytest.mark.parametrize("stages", [STAGES, STAGES[-1:]])
def test_every_pass_through_a_corpus_has_each_pair_once(corpora, stages):
    """Whatever stages cut short: the pairs up to a round's end are whole passes and a part of the next."""
    stream = make_stream(corpora, stages)
    counts = Counter()
    for number in range(150):
        counts.update(drawn(next(stream)))
        cursor = stream.cursor
        if cursor.batch == 0 and len(cursor.stage_ends) == len(stages) - 1 and cursor.epoch > 0:
            for corpus, mixed in enumerate(corpora):
                of_pairs = [counts[corpus, pair] for pair in range(len(mixed.store))]
                assert max(of_pairs) - min(of_pairs) <= 1, (number, mixed.name)
    assert min(counts.values()) >= 2


def test_shares_over_the_rounds_of_a_stage(corpora):
    stream = make_stream(corpora, [Stage("1", (3.0, 2.0, 5.0))])
    counts, rounds = Counter(), 0
    while rounds < 7:
        counts.update(corpus for corpus, _ in drawn(next(stream)))
        rounds = stream.cursor.epoch
    assert stream.cursor.batch == 0
    assert [counts[corpus] for corpus in range(3)] == [7 * 24, 7 * 16, 7 * 40]


@pytest.mark.parametrize("seed", range(6))
def test_a_stage_ends_after_its_updates_or_with_the_batch_that_fulfils_its_epochs(corpora, seed):
    stream = make_stream(corpora, seed=seed)
    seen, stages = Counter(), []
    for cursor, (batch,) in through(stream, 60):
        stages.append(len(cursor.stage_ends))
        pairs = [corpus for corpus, _ in drawn(batch)]
        if stages[-1] == 1:
            assert seen[1, 0] < 1.5 * 97  # not fulfilled before this batch
        seen.update((stages[-1], corpus) for corpus in pairs)
    assert stages.count(0) == 3
    assert stages.count(2) == 2
    assert 146 <= seen[1, 0] < 146 + 30  # 1.5 * 97, rounded up, within a batch
    assert not seen[0, 2]
    assert not seen[2, 0]
    assert stages == sorted(stages)


@pytest.mark.parametrize("seed", range(4))
def test_no_batch_follows_the_one_that_fulfils_a_stage(corpora, seed):
    """The corpus that counts has few pairs, so that batches without any would come after its last one."""
    stages = [Stage("1", (5.0, 5.0, 0.5), epochs=1, of=2), Stage("2", (1.0, 1.0, 1.0))]
    seen = 0
    for cursor, (batch,) in through(make_stream(corpora, stages, seed=seed, batch_tokens=20), 100):
        assert (seen < 7) == (not cursor.stage_ends)
        seen += sum(corpus == 2 for corpus, _ in drawn(batch))


@pytest.mark.parametrize("per_update", [1, 3])
def test_a_stream_goes_on_from_every_update_as_it_would_have(corpora, per_update):
    whole = through(make_stream(corpora, batches_per_update=per_update), 40, per_update)
    for number, (cursor, _) in enumerate(whole):
        again = make_stream(corpora, batches_per_update=per_update)
        again.seek(MixtureCursor(*cursor))
        for (at, batches), (then, others) in zip(through(again, 3, per_update), whole[number:], strict=False):
            assert at == then
            assert all(map(same, batches, others))


def test_a_thread_that_runs_ahead_changes_nothing(corpora):
    plain = through(make_stream(corpora), 40)
    with make_stream(corpora) as ahead:
        for (cursor, (batch,)), (at, (other,)) in zip(plain, through(ahead, 40), strict=True):
            assert cursor == at
            assert same(batch, other)


def test_workers_share_the_batches_of_an_update(corpora):
    one = through(make_stream(corpora, batches_per_update=4), 12, 4)
    shares = [
        through(make_stream(corpora, batches_per_update=4, replicas=2, own_numbers=range(own, own + 1)), 12, 2)
        for own in range(2)
    ]
    for number, (cursor, batches) in enumerate(one):
        assert shares[0][number][0] == shares[1][number][0] == cursor
        together = [shares[turn % 2][number][1][turn // 2] for turn in range(4)]
        assert all(map(same, together, batches))


def test_stages_that_have_not_begun_are_named(corpora):
    stream = make_stream(corpora)
    assert stream.cut_short(stream.cursor) == "stage 2 and stage 3 and stage 4 began"
    ended = stream.behind(stream.behind(stream.cursor, 1, updates=1), 2, updates=2)
    assert ended[:3] == (0, 0, 0)  # the first place of stage 2, of which nothing was drawn
    assert stream.cut_short(ended) == "stage 2 and stage 3 and stage 4 began"
    assert stream.cut_short(stream.behind(ended, 1, updates=1)) == "stage 3 and stage 4 began"
    for _ in range(200):
        next(stream)
    assert stream.cut_short(stream.cursor) is None


def test_what_was_seen_is_counted(corpora):
    stream, counts = make_stream(corpora), Counter()
    for _ in range(50):
        counts.update(corpus for corpus, _ in drawn(next(stream)))
        seen = stream.seen(stream.cursor)
        assert [seen[name].pairs for name in NAMES] == [counts[corpus] for corpus in range(3)]
    assert seen["tiny"].epochs == pytest.approx(counts[2] / 7)


def test_names_decide_the_order_and_not_their_places(corpora):
    orders = [EndlessOrder(50, seed=1, name=name).pairs_at(np.arange(50))[0].tolist() for name in ("a", "b")]
    assert orders[0] != orders[1]
    one, other = ([drawn(next(make_stream(corpora, seed=seed))) for _ in range(1)] for seed in (5, 6))
    assert one != other


def test_a_tag_is_put_before_each_source_of_its_corpus():
    corpora = [make_corpus(0, 40), make_corpus(1, 40, tag_id=4)]
    stream = make_stream(corpora, [Stage("1", (1.0, 1.0))], batch_tokens=50)
    for _ in range(20):
        batch = next(stream)
        assert max(batch.source_ids.size, batch.target_output_ids.size) <= 50
        for source, target in zip(batch.source_ids.tolist(), batch.target_output_ids.tolist(), strict=True):
            tagged = target[0] % 10 == 1
            assert source == ([4, target[0], 3] if tagged else [target[0], 3, 0][: len(source)])
            assert 4 not in target


@pytest.mark.parametrize("cursor", [(0, 99), (0, 0, 0, ((0, 1),) * 4), (0, 0, 0, ((0, 99),))])
def test_a_place_that_does_not_exist_is_refused(corpora, cursor):
    with pytest.raises(DataError, match="the stored place in the training data must be one of the mixture"):
        make_stream(corpora).seek(MixtureCursor(*cursor))


def test_a_pair_that_is_longer_than_a_batch_is_refused(corpora):
    with pytest.raises(ConfigError, match="must hold the longest pair, 6 tokens"):
        make_stream(corpora, batch_tokens=5)


def test_batches_hold_pairs_of_like_length_and_all_corpora(corpora):
    """The plan is that of one corpus: little padding, each batch within its bound, mixed."""
    stream = make_stream(corpora, [Stage("1", (1.0, 1.0, 0.1))], round_pairs=300)
    batches = [next(stream) for _ in range(stream.batches_in_epoch(0))]
    assert all(batch.target_output_ids.size <= 60 for batch in batches)
    cells = sum(batch.target_output_ids.size for batch in batches)
    assert sum(int((batch.target_output_ids != 0).sum()) for batch in batches) > 0.8 * cells
    assert sum(len({corpus for corpus, _ in drawn(batch)}) > 1 for batch in batches) > len(batches) / 2
    assert all(not same(*two) for two in pairwise(batches) if two[0].source_ids.shape == two[1].source_ids.shape)


def test_batches_hold_few_copies_of_a_corpus_that_is_small_for_its_share():
    """Pairs of like length meet in a batch, so what a round gives twenty times would be there twenty times."""
    stages = [Stage("1", (3.0, 1.0))]
    stream = make_stream([make_corpus(0, 1100), make_corpus(1, 20_000)], stages, batch_tokens=600, round_pairs=2**20)
    batches = [drawn(next(stream)) for _ in range(200)]
    pairs = sum(map(len, batches))
    assert sum(corpus == 0 for batch in batches for corpus, _ in batch) == pytest.approx(0.75 * pairs, rel=0.02)
    assert sum(len({*batch}) for batch in batches) > 0.9 * pairs


def test_batches_stay_full_however_many_copies_there_are(corpora):
    """A round has sixteen batches or more."""
    stream = make_stream([make_corpus(0, 4), make_corpus(1, 5_000)], [Stage("1", (1.0, 1.0))], batch_tokens=900,
                         round_pairs=2**20)  # fmt: skip
    assert stream.batches_in_epoch(0) >= 16
    targets = [next(stream).target_output_ids for _ in range(100)]
    assert sum(int((ids != 0).sum()) for ids in targets) > 0.8 * 100 * 900


def test_a_corpus_alone_keeps_the_batches_it_had(corpora):
    """Those of two epochs as version 0.2.0 drew them, before there were mixtures."""
    stream, content = BatchStream(corpora[1].store, batch_tokens=60, seed=5), hashlib.sha256()
    for _ in range(stream.batches_in_epoch(0) + stream.batches_in_epoch(1)):
        content.update(b"".join(side.tobytes() for side in next(stream)[:3]))
    assert stream.cursor == (2, 0)
    assert content.hexdigest()[:16] == "dc0d1f743ef87b86"


@pytest.mark.parametrize("side", [0, 1])
def test_a_tag_is_the_first_token_of_its_side_and_counts_for_the_batch(corpora, side):
    tagged = [replace(corpora[0], tag_id=7, tag_side=side), replace(corpora[1], tag_id=8, tag_side=side), corpora[2]]
    stream = make_stream(tagged, [Stage("1", (1.0, 1.0, 1.0))])
    for _ in range(40):
        batch = next(stream)
        rows = (batch.source_ids, batch.target_output_ids)
        assert rows[0].size <= 60
        assert rows[1].size <= 60
        for row in range(len(rows[0])):
            has = int(rows[side][row, 0]) in (7, 8)
            token = rows[side][row, int(has)]
            assert token == rows[1 - side][row, 0]
            assert has == (token % 10 != 2)
            assert not has or rows[side][row, 0] == 7 + token % 10
            target = rows[1][row][rows[1][row] != 0]
            assert [*batch.target_input_ids[row][: len(target)]] == [2, *target[:-1]]
            assert len(target) == (token - 100) // 10 % 5 + 2 + (has and side)
