"""What is said about two sides that cannot be what they are said to be."""

import pytest

from nmt.data import Corpus
from nmt.doctor.doubts import doubts_about_sides, looks_swapped
from nmt.errors import DataError

ENGLISH = [f"We would like to eat at {hour} o'clock." for hour in range(1, 11)]
RUSSIAN = [f"Мы хотели бы поесть в {hour} часов." for hour in range(1, 11)]


@pytest.fixture
def doubts():
    def doubts(source_lines, target_lines, languages):
        pairs = list(zip(source_lines, target_lines, strict=True))
        return list(doubts_about_sides("data.train", pairs, languages=languages))

    return doubts


def test_sides_that_are_what_they_are_said_to_be_are_no_matter(doubts):
    assert doubts(ENGLISH, RUSSIAN, ("en", "ru")) == []
    assert doubts(ENGLISH, RUSSIAN, ("xx", "yy")) == []
    assert doubts(ENGLISH, ENGLISH, ("en", "en")) == []
    assert doubts([*ENGLISH[:5], *RUSSIAN[5:]], RUSSIAN, ("en", "ru")) == []


def test_sides_that_were_swapped_are_said_once(doubts):
    (doubt,) = doubts(RUSSIAN, ENGLISH, ("en", "ru"))
    assert doubt == (
        "data.train: source and target look swapped: the source is in Cyrillic letters, the target in Latin letters, "
        "but the languages are en to ru"
    )


def test_sides_in_one_script_are_known_by_the_words_of_another_corpus():
    german = [f"Wir essen um {hour} Uhr in dem Hotel." for hour in range(1, 11)]
    train = list(zip(ENGLISH, german, strict=True))
    assert looks_swapped([(german[0], ENGLISH[0]), ("Wir sind hier", "We are here")], like=train)
    assert not looks_swapped(train[:3], like=train)
    assert not looks_swapped([("other words", "andere Wörter")], like=train)
    assert not looks_swapped([(german[0], german[1])], like=train)


def test_one_side_in_another_script_is_said(doubts):
    (doubt,) = doubts(ENGLISH, RUSSIAN, ("en", "ja"))
    assert doubt.startswith("data.train.target is in Cyrillic letters, which is not how ja is written")


def test_sides_that_are_equal_are_said(doubts):
    (doubt,) = doubts(ENGLISH, [*ENGLISH[:6], "a", "b", "c", "d"], ("en", "de"))
    assert doubt.startswith("data.train: source and target are equal in 6 of 10 pairs")


def test_a_file_of_pairs_whose_format_nobody_knows_is_refused_as_that(tmp_path):
    (tmp_path / "a.po").write_text("x\ty\n")
    corpus = Corpus(f"{tmp_path}/a.po", f"{tmp_path}/a.po")
    with pytest.raises(
        DataError, match=r"data\.test\.pairs must name .*a\.po ends in none of tsv, .*: give data\.test\.format"
    ):
        corpus.refuse_one_file("data.test", of_pairs=True)


def test_one_file_is_refused_also_under_another_name(tmp_path):
    (tmp_path / "a").write_text("x\n")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "b").write_text("x\n")
    a, b = f"{tmp_path}/a", f"{tmp_path}/b"
    Corpus([a, b], [b, a]).refuse_one_file("data.train")
    Corpus([a], [f"{tmp_path}/missing"]).refuse_one_file("data.train")
    for other in (a, f"{tmp_path}/link", f"{tmp_path}/../{tmp_path.name}/a"):
        with pytest.raises(
            DataError,
            match=r"data\.train\.source and data\.train\.target must be two files, .*give it as data\.train\.pairs",
        ):
            Corpus([b, a], [a, other]).refuse_one_file("data.train")
