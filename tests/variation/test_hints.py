"""Hints in the source: which words get one, what a pair becomes, what ids that gives, and where links must lie."""

import json
import logging
import re
from random import Random

import numpy as np
import pytest

from nmt.alignment.links import LinksOf, parse_links
from nmt.data import Corpus, open_store
from nmt.data.corpus import Layout
from nmt.errors import ConfigError, DataError
from nmt.text import EOS_ID, TextPair
from nmt.text.hints import HINT_MARKS, encode_hinted, hinted
from nmt.text.tokenizer import CharacterTokenizer, WhitespaceTokenizer
from nmt.variation import Changes, VariedPairs, rates_of
from nmt.variation.hints import candidates, placeholders, tags

PAIRS = [
    ("das Haus (alt) ist Rom.", "Rom is the old house."),
    ("Zug nach nirgendwo", "train to nowhere"),
    ("ja", "yes"),
    ("gleich bleibt gleich", "same stays same"),
    ("a b", "a b"),
]
LINKS = ["0-2 1-4 2-3 3-1 4-0", "0-0 1-1 2-1", "0-0", "0-0 2-2", "0-0 1-1"]
NUMBER = len(PAIRS)
"""The pairs come again and again, as many times as make draws of all kinds likely."""
TIMES = 40


def words_with_hints(number):
    """The words of a pair that may get a hint, by a plain look at each pair of words."""
    sides = [side.split() for side in PAIRS[number]]
    links = [tuple(map(int, link.split("-"))) for link in LINKS[number].split()]
    found = {}
    for i, j in links:
        alone = sum(link[0] == i for link in links) == 1 and sum(link[1] == j for link in links) == 1
        word, other = (side[place].strip("().") for side, place in zip(sides, (i, j), strict=True))
        if alone and word != other:
            found[word] = other
    return found


def test_words_linked_one_to_one_to_another_word_are_candidates():
    for number, (pair, links) in enumerate(zip(PAIRS, LINKS, strict=True)):
        found = candidates(pair, parse_links(links).possible, tokenized=False)
        words = [(pair[0][slice(*each.source)], pair[1][slice(*each.target)]) for each in found]
        assert dict(words) == words_with_hints(number)
        assert [each.source for each in found] == sorted(each.source for each in found)
    assert words_with_hints(0) == {"das": "the", "Haus": "house", "alt": "old", "ist": "is"}  # Rom is Rom
    assert words_with_hints(1) == {"Zug": "train"}
    assert words_with_hints(4) == {}
    # As nmt align-corpus --tokenize counts, signs are words, and none of them gets a hint.
    found = candidates(("Zug, ja.", "Yes; train!"), {(0, 2), (1, 1), (2, 0), (3, 3)}, tokenized=True)
    assert [("Zug, ja."[slice(*each.source)], "Yes; train!"[slice(*each.target)]) for each in found] == [
        ("Zug", "train"), ("ja", "Yes")
    ]  # fmt: skip


def test_a_hint_stands_behind_its_word_and_a_placeholder_in_the_target_too():
    pair, links = PAIRS[0], parse_links(LINKS[0]).possible
    found, counts = candidates(pair, links, tokenized=False), set()
    for seed in range(200):
        line, target = tags(pair, found, Random(seed))
        assert target == pair[1]
        assert "".join(part for place, part in enumerate(line) if place % 3 != 2) == pair[0]
        assert all(words_with_hints(0)[line[place]] == line[place + 1] for place in range(1, len(line), 3))
        counts.add(len(line) // 3)
        line, target = placeholders(pair, found, Random(seed))
        assert "".join(part for place, part in enumerate(line) if place % 3 != 2) == pair[0]
        noise, expected = [line[place] for place in range(2, len(line), 3)], pair[1]
        for place, other in zip(range(1, len(line), 3), noise, strict=True):
            expected = re.sub(rf"\b{words_with_hints(0)[line[place]]}\b", f"{{{other}}}", expected)
        assert target == expected.replace("{", "").replace("}", "")
        assert all({*word} <= {*pair[1]} and word.isalpha() for word in noise)
    assert counts == {1}  # a third of four
    many = candidates((" ".join("abcdefghij"), " ".join("qrstuvwxyz")), {(n, n) for n in range(10)}, tokenized=False)
    numbers = {len(tags((" ".join("abcdefghij"), "q"), many, Random(seed))[0]) // 3 for seed in range(99)}
    assert numbers == {1, 2, 3}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hints")
    for side, name in enumerate(("de", "en")):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in PAIRS * TIMES))
    (folder / "links").write_text("".join(f"{line}\n" for line in LINKS * TIMES))
    return folder


@pytest.fixture(scope="module")
def text(files):
    sides = [(files / name).read_text().splitlines() for name in ("de", "en")]
    settings = {"joint": True, "vocabulary_size": None, "minimum_count": 1}
    return TextPair.learn(CharacterTokenizer, *sides, **settings).with_hint_marks()


def opened(files, text, links):
    layout = Layout(links=links)
    return open_store(files / "stores", files / "de", files / "en", text=text, max_length=90, layout=layout,
                      keep_text=True, keep_others=True)  # fmt: skip


def seen(text, ids):
    """A line of ids as text, its marks written out."""
    marks = {text.source.tags[mark]: mark.strip() for mark in HINT_MARKS}
    return "".join(f" {marks[each]} " if each in marks else text.source.decode([each]) for each in ids)


def test_what_a_model_reads_is_a_pair_with_hints_at_the_rate_that_is_asked_for(files, text, caplog):
    store = opened(files, text, LinksOf((str(files / "links"),)))
    changes = Changes({"tags": 0.5}, seed=(3,), languages=("de", "en"))
    pairs, places = VariedPairs(store, text, changes), np.arange(len(store))
    sides = pairs.draw(places, epoch=1, room=91)
    lines = [[row[: size - 1].tolist() for row, size in zip(ids, mask.sum(axis=1), strict=True)] for ids, mask in sides]
    count = 0
    for place, ids, target in zip(places, *lines, strict=True):
        pair = PAIRS[place % NUMBER]
        assert text.target.decode(target) == pair[1]
        found = re.findall(r" __source__ (.*?) __target__ (.*?) __done__ ", seen(text, ids))
        assert all(words_with_hints(place % NUMBER)[word] == other for word, other in found)
        plain = re.sub(r" __source__ (.*?) __target__ .*? __done__ ", r"\1", seen(text, ids))
        assert plain.replace(" ", "") == pair[0].replace(" ", "")
        count += len(found)
    drawn = changes.drawn(places, epoch=1)[0]["tags"]
    assert count == sum(place % NUMBER != 4 for place in places[drawn])  # one each, for there are few candidates
    with caplog.at_level(logging.INFO):
        pairs.tell()
    assert f"hints of train: {count} words in {count} pairs; {drawn.sum() - count} pairs that were drawn got none" in (
        caplog.text
    )


def test_hints_of_pairs_that_stay_as_they_are_do_not_count(files, text, caplog):
    """A pair that is too long with its hint has none, whatever was drawn."""
    store = opened(files, text, LinksOf((str(files / "links"),)))
    pairs, places = (
        VariedPairs(store, text, Changes({"tags": 1.0}, seed=(3,), languages=("de", "en"))),
        np.array([1, 2]),
    )
    room = 12  # of "ja" with its hint, but not of "Zug nach nirgendwo"
    sides = pairs.draw(places, epoch=1, room=room)
    assert seen(text, sides[0][0][1][sides[0][1][1]][:-1]) == " __source__ ja __target__ yes __done__ "
    with caplog.at_level(logging.INFO):
        pairs.tell()
    assert "hints of train: 1 words in 1 pairs; 0 pairs that were drawn got none" in caplog.text
    assert "1 too long for their batch" in caplog.text


def test_a_change_that_moves_words_leaves_no_hint(files, text):
    pair, links = ("eins zwei drei vier", "one two three four"), {(n, n) for n in range(4)}
    moving, keeping = ("word_swap word_dropout white_space noise", "typos upper_case title_case final_punctuation")
    for kind, keeps in [*((each, False) for each in moving.split()), *((each, True) for each in keeping.split())]:
        changes = Changes({"tags": 1.0, kind: 1.0}, seed=(1,), languages=("de", "en"))
        for seed in range(20):
            source, target = changes.changed(pair, [kind, "tags"], seed, links)
            assert isinstance(source, tuple) == keeps
            if keeps:  # the hint is what the target has
                assert source[2] in target
        assert isinstance(changes.changed(pair, ["tags"], 0, None)[0], str)
    # A full stop of its own goes, with its links.
    changes = Changes({"tags": 1.0}, seed=(1,), languages=("de", "en"))
    changes.changes |= Changes({"final_punctuation": 1.0}, seed=(1,), languages=("de", "en")).changes
    source, target = changes.changed(("zwei .", "two ."), ["final_punctuation", "tags"], 0, {(0, 0), (1, 1)})
    assert (source, target) == (("", "zwei", "two", ""), "two")


def test_parts_are_encoded_by_themselves_and_no_text_gives_a_mark(text):
    line = hinted("ab cd", [(0, 2, "s"), (3, 5, "et")])
    assert line == ("", "ab", "s", " ", "cd", "et", "")
    source, target, done = (text.source.tags[mark] for mark in HINT_MARKS)
    encode = text.source.encode
    expected = [source, *encode("ab"), target, *encode("s"), done, *encode(" "), source, *encode("cd"), target,
                *encode("et"), done]  # fmt: skip
    assert encode_hinted(text.source, ["ab", line, ""]) == [encode("ab"), expected, []]
    assert not {source, target, done} & {*encode("__source__ a __target__ b __done__"), *encode("".join(HINT_MARKS))}
    assert text.source.decode(expected).replace(" ", "") == "abscdet"
    assert text.tags == {}  # they are no tags of corpora
    with pytest.raises(ConfigError, match="the tag must be one that the model was trained with"):
        text.begins("__source__")
    assert text.with_hint_marks() is text
    settings = {"joint": False, "vocabulary_size": None, "minimum_count": 1}
    plain = TextPair.learn(WhitespaceTokenizer, ["a b"], ["c d"], **settings)
    apart = plain.with_tags(["<bt>"], "target").with_hint_marks()
    assert (apart.has_hint_marks, [*apart.tags], apart.target.tags.keys()) == (True, ["<bt>"], {"<bt>"})
    with pytest.raises(ConfigError, match="hints need a model that was trained with them"):
        encode_hinted(plain.source, ["a", ("a", "b", "c", "d")])
    assert encode_hinted(plain.source, ["a"]) == [plain.source.encode("a")]


def test_a_store_is_found_again_by_its_links_and_is_another_with_others(files, text):
    links = LinksOf((str(files / "links"),))
    store = opened(files, text, links)
    assert opened(files, text, links).path == store.path
    assert [content.decode() for content in store.texts[2].contents(np.arange(NUMBER))] == LINKS
    without = open_store(files / "stores", files / "de", files / "en", text=text, max_length=90, keep_text=True,
                         keep_others=True)  # fmt: skip
    assert without.path != store.path
    assert len(without.texts) == 2
    (files / "copy").write_text((files / "links").read_text())
    copied = opened(files, text, LinksOf((str(files / "copy"),)))
    assert (copied.path != store.path, copied.content_hash) == (True, store.content_hash)
    (files / "copy").write_text((files / "links").read_text().replace("0-2 1-4", "0-2"))
    assert opened(files, text, LinksOf((str(files / "copy"),))).content_hash != store.content_hash
    with pytest.raises(DataError, match="must hold links between words for hints"):
        VariedPairs(without, text, Changes({"tags": 1.0}, seed=(1,), languages=("de", "en")))


@pytest.mark.parametrize("weighed", [False, True])
def test_links_may_stand_in_columns_and_fields(tmp_path, weighed):
    records = [
        {"source": source, "target": target, "w": 2, "links": links}
        for (source, target), links in zip(PAIRS, LINKS, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records) + "\n")
    (tmp_path / "a.tsv").write_text(
        "source\ttarget\tw\tlinks\n" + "".join("\t".join(map(str, each.values())) + "\n" for each in records) + "\n"
    )
    expected = [(*pair, "2.0" if weighed else "1.0", links) for pair, links in zip(PAIRS, LINKS, strict=True)]
    for name in ("a.jsonl", "a.tsv"):
        layout = Layout(columns=("source", "target"), weight_column="w" if weighed else None,
                        links=LinksOf(column="links"))  # fmt: skip
        corpus = Corpus(tmp_path / name, tmp_path / name, layout=layout)
        assert [*corpus.rows()] == [*expected, ("", "", "1.0", "")]
        assert [*corpus.pairs()] == [*PAIRS, ("", "")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "0-0\n0-0 1-2\n",
            r"links, line 2: links must be between words of the pair, which has 2 and 2 of them, got 1-2",
        ),
        ("0-0\n2-0\n", r"links, line 2: links must be between words of the pair.*got 2-0.*alignment_tokenized"),
        ("0-0\n0:0\n", r"links, line 2: a link is written 3-4, or 3p4 if it is only possible, got 0:0"),
        ("0-0\n", r"links: must have a line for each pair, got 1: align the corpus again"),
        ("0-0\n\n\n", r"links: must have a line for each of 2 pairs, got more"),
    ],
)
def test_links_that_do_not_fit_are_refused_with_file_and_line(tmp_path, content, said):
    for name in ("de", "en"):
        (tmp_path / name).write_text("eins\nein Hund.\n")
    (tmp_path / "links").write_text(content)
    corpus = Corpus(tmp_path / "de", tmp_path / "en", layout=Layout(links=LinksOf((str(tmp_path / "links"),))))
    with pytest.raises(DataError, match=said):
        list(corpus.pairs())
    two = Layout(links=LinksOf((str(tmp_path / "links"),) * 2))
    with pytest.raises(DataError, match="as many files of alignment as of source, got 2 and 1"):
        list(Corpus(tmp_path / "de", tmp_path / "en", layout=two).pairs())


def test_with_tokenized_links_signs_count_as_words(tmp_path):
    (tmp_path / "de").write_text("ein Hund.\n")
    (tmp_path / "links").write_text("2-2\n")
    paths = (str(tmp_path / "links"),)
    corpus = Corpus(tmp_path / "de", tmp_path / "de", layout=Layout(links=LinksOf(paths, tokenized=True)))
    with pytest.raises(DataError):
        list(Corpus(tmp_path / "de", tmp_path / "de", layout=Layout(links=LinksOf(paths))).pairs())
    assert [row[3] for row in corpus.rows()] == ["2-2"]


def test_no_file_of_text_holds_hints():
    with pytest.raises(ConfigError, match="--with tags: puts symbols of a vocabulary into the source"):
        rates_of(["typos:0.1", "tags:0.1"])


def test_every_row_ends(files, text):
    store = opened(files, text, LinksOf((str(files / "links"),)))
    pairs = VariedPairs(store, text, Changes({"placeholders": 1.0, "tags": 0.5}, seed=(1,), languages=("de", "en")))
    (ids, mask), (target_ids, _) = pairs.draw(np.arange(60), epoch=0, room=91)
    assert ((ids == EOS_ID).sum(axis=1) == 1).all()
    assert (target_ids == EOS_ID).any(axis=1).all()
    planned = pairs.lengths(np.arange(60), epoch=0)[0]
    assert (mask.sum(axis=1) <= planned).mean() > 0.85
