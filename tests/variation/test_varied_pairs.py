import logging
from dataclasses import replace

import numpy as np
import pytest

from nmt.alignment.links import LinksOf
from nmt.data import open_store
from nmt.data.corpus import Layout
from nmt.errors import ConfigError, DataError
from nmt.kinds import VARIATIONS, register_variation
from nmt.streams import BatchStream, MixedCorpus, MixtureStream, Stage
from nmt.text import EOS_ID, TextPair
from nmt.text.tokenizer import CharacterTokenizer
from nmt.types import PAD_ID
from nmt.variation import Changes, VariedPairs, vary_pairs

ALL = dict.fromkeys(VARIATIONS.built, 0.2)
WORDS = ["wo", "ist", "der", "Bahnhof", "ein", "Zug", "nach", "Rom", "bitte", "danke"]
SIZE, BATCH_TOKENS = 601, 500


@pytest.fixture(scope="module")
def lines():
    generator = np.random.default_rng(3)
    return [
        [" ".join(generator.choice(WORDS, generator.integers(1, 9))) + "." for _ in range(SIZE)] for _ in ("de", "en")
    ]


@pytest.fixture(scope="module")
def text(lines):
    """Each character is a token, so that lengths are known; capitals of all letters are in the vocabulary."""
    return TextPair.learn(
        CharacterTokenizer, [*lines[0], " ".join(WORDS).upper()], [*lines[1], " ".join(WORDS).upper()],
        joint=False, vocabulary_size=None, minimum_count=1,
    ).with_hint_marks()  # fmt: skip


@pytest.fixture(scope="module")
def store(lines, text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for name, side in zip(("de", "en"), lines, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in side))
    counts = [min(len(one.split()), len(other.split())) for one, other in zip(*lines, strict=True)]
    links = "".join(" ".join(f"{place}-{count - 1 - place}" for place in range(count)) + "\n" for count in counts)
    (folder / "links").write_text(links)
    layout = Layout(links=LinksOf((str(folder / "links"),)))
    files = folder / "de", folder / "en"
    return open_store(folder / "stores", *files, text=text, max_length=90, layout=layout, keep_text=True)


def varied(store, text, rates=ALL, seed=(5,)):
    return VariedPairs(store, text, Changes(rates, seed=seed, languages=("de", "en")))


def stream(store, text, rates=ALL):
    return BatchStream(store, batch_tokens=BATCH_TOKENS, seed=9, variation=varied(store, text, rates))


def mixture(store, text, rates=ALL):
    corpora = [MixedCorpus(name, store, tag, varied(store, text, rates, (5, number)))
               for number, (name, tag) in enumerate([("one", None), ("two", 7)])]  # fmt: skip
    return MixtureStream(corpora, [Stage("1", (3.0, 1.0))], batch_tokens=BATCH_TOKENS, seed=9, round_pairs=400)


def test_a_store_keeps_the_text_of_its_pairs(store, lines, text):
    for side, texts in zip(lines, store.texts[:2], strict=True):
        assert [content.decode() for content in texts.contents(np.arange(SIZE))] == side


@pytest.mark.parametrize("build", [stream, mixture])
def test_every_batch_is_within_its_bound_and_a_stream_goes_on_to_the_bit(build, store, text):
    one, other, batches = build(store, text), build(store, text), []
    for _ in range(one.batches_in_epoch(0) + 7):
        cursor = one.cursor
        batch = next(one)
        batches.append((cursor, batch))
        assert len(batch.source_ids) * max(batch.source_ids.shape[1], batch.target_output_ids.shape[1]) <= BATCH_TOKENS
        assert max(batch.source_ids.shape[1] - (build is mixture), batch.target_output_ids.shape[1]) <= 91
        for ids in (batch.source_ids, batch.target_output_ids):  # one EOS in each row, and PAD behind it alone
            assert ((ids == EOS_ID).sum(axis=1) == 1).all()
            assert (ids[:, -1] != PAD_ID).any()
            assert ((ids == PAD_ID) == (np.cumsum(ids == EOS_ID, axis=1) - (ids == EOS_ID) > 0)).all()
    for cursor, batch in batches[:: len(batches) // 5]:  # in any order, and from the middle of an epoch
        other.seek(cursor)
        with other:
            again = next(other)
        assert all(np.array_equal(one, two) for one, two in zip(batch, again, strict=True))


def sources(store, text, rates, epoch):
    """What each line becomes, by its number."""
    (ids, mask), _ = varied(store, text, rates).draw(np.arange(SIZE), epoch=epoch, room=91)
    return [text.source.decode(row[: size - 1].tolist()) for row, size in zip(ids, mask.sum(axis=1), strict=True)]


def test_a_line_becomes_the_same_whatever_stands_beside_it_and_another_in_each_epoch(store, text):
    whole = sources(store, text, ALL, 2)
    some = np.array([7, 3, 599, 50])
    (ids, mask), _ = varied(store, text).draw(some, epoch=2, room=91)
    for row, size, line in zip(ids, mask.sum(axis=1), some, strict=True):
        assert text.source.decode(row[: size - 1].tolist()) == whole[line]
    assert sources(store, text, ALL, 3) != whole


def test_each_kind_is_drawn_at_its_rate(store):
    count = 200_000
    rates = {"upper_case": 0.07, "typos": 0.2, "noise": 0.0005}
    masks, merged, seeds = Changes(rates, seed=(1,), languages=("", "")).drawn(np.arange(count), epoch=4)
    for word, rate in rates.items():
        assert abs(masks[word].sum() - count * rate) < 5 * np.sqrt(count * rate * (1 - rate))
    both = (masks["upper_case"] & masks["typos"]).sum()  # each on its own
    assert abs(both - count * 0.014) < 5 * np.sqrt(count * 0.014)
    assert np.unique(merged).tolist() == [2, 3, 4]
    assert np.unique(seeds).size == count


def test_merged_lines_are_those_that_follow(store, text, lines):
    found = sources(store, text, {"merge": 1.0}, 0)
    counts = []
    for number, line in enumerate(found):
        following = [lines[0][(number + more) % SIZE] for more in range(4)]
        counts.append(next(count for count in range(1, 5) if " ".join(following[:count]) == line))
    assert {*counts} == {1, 2, 3, 4}
    assert np.mean(np.array(counts) > 1) > 0.8


def test_planned_lengths_cover_most_changed_lines(store, text):
    pairs = varied(store, text)
    planned = pairs.lengths(np.arange(SIZE), epoch=1)
    drawn = pairs.draw(np.arange(SIZE), epoch=1, room=91)
    for lengths, unchanged, (_, mask) in zip(planned, (store.source_lengths, store.target_lengths), drawn, strict=True):
        assert (lengths >= unchanged).all()
        assert lengths.max() <= 91
        assert (mask.sum(axis=1) <= lengths).mean() > 0.85


def test_what_was_not_varied_is_counted_by_its_reason(store, text, caplog):
    pairs = varied(store, text, {"noise": 1.0})  # most of its signs are in no vocabulary
    with caplog.at_level(logging.INFO):
        pairs.draw(np.arange(SIZE), epoch=0, room=12)
        pairs.tell()
    numbers = [int(word.replace(",", "")) for word in caplog.text.replace(",", "").split() if word.isdecimal()]
    drawn, there_are, changed, left, *reasons = numbers
    assert (drawn, there_are) == (SIZE, SIZE)
    assert changed + left == SIZE
    assert sum(reasons) == left
    assert "too long for their batch" in caplog.text
    assert "that the vocabulary lacks" in caplog.text


def test_a_kind_of_ones_own_comes_last(store, text):
    @register_variation("backwards_of_tests")
    def backwards(pair, chance, languages):
        return pair[0][::-1], pair[1]

    try:
        changed = [pair for pair, _ in vary_pairs([("ab", "cd")], Changes(
            {"backwards_of_tests": 1.0, "upper_case": 1.0}, seed=(1,), languages=("de", "en")))]  # fmt: skip
        assert changed == [("BA", "CD")]
        with pytest.raises(ConfigError, match="typos is there already"):
            register_variation("typos")(backwards)
    finally:
        del VARIATIONS.built["backwards_of_tests"]


def test_a_copy_has_each_line_once(lines):
    changes = Changes({"merge": 0.5}, seed=(1,), languages=("de", "en"))
    merged = [pair for pair, _ in vary_pairs(zip(*lines, strict=True), changes)]
    assert len(merged) < SIZE
    assert " ".join(source for source, _ in merged) == " ".join(lines[0])


def test_a_store_without_text_is_refused(store, text):
    with pytest.raises(DataError, match="must hold the text of its pairs"):
        varied(replace(store, texts=()), text)
