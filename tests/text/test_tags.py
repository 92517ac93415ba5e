"""A tag is a symbol that no text gives, whichever tokenizer; it decodes to nothing and stays where it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt.errors import ConfigError
from nmt.text import TextPair
from nmt.text.sentencepiece_tokenizer import SentencePieceTokenizer
from nmt.text.tokenizer import CharacterTokenizer, WhitespaceTokenizer

LINES = ["hello <bt> world", "<bt> x y z", "a <bt>", "<bt><bt> >b t<"] * 5
TAGS = ("<bt>", "<2de>")


def learned(kind, **settings):
    if kind is SentencePieceTokenizer:
        settings = {"vocabulary_size": 40, "character_coverage": 1.0, "seed": 1, **settings}
        return kind.learn(LINES, **settings).with_normalization("nfc")
    return kind.learn(LINES, vocabulary_size=None, minimum_count=1).with_normalization("nfc")


PLAIN = {
    "unigram": learned(SentencePieceTokenizer, model_type="unigram"),
    "bpe": learned(SentencePieceTokenizer, model_type="bpe", vocabulary_size=30),
    "whitespace": learned(WhitespaceTokenizer),
    "character": learned(CharacterTokenizer),
}
TAGGED = {name: tokenizer.with_tags(TAGS) for name, tokenizer in PLAIN.items()}

every_kind = pytest.mark.parametrize("name", PLAIN)


@every_kind
@given(line=st.one_of(st.sampled_from([*LINES, " <bt>", "\u2581<bt>", "\\u0020<bt>", "\t<bt>\n<2de>"]),
                      st.text("<bt2de> \u2581\u00a0\t", max_size=12)))  # fmt: skip
def test_no_text_gives_a_tag_and_all_text_is_cut_as_before(name, line):
    assert TAGGED[name].encode(line) == PLAIN[name].encode(line)
    assert TAGGED[name].encode_batch([line]) == [PLAIN[name].encode(line)]
    assert not {*TAGGED[name].tags.values()} & {*TAGGED[name].encode(line)}


@every_kind
def test_tags_come_behind_all_tokens_and_decode_to_nothing(name):
    plain, tagged = PLAIN[name], TAGGED[name]
    assert tagged.tags == {"<bt>": len(plain.vocabulary), "<2de>": len(plain.vocabulary) + 1}
    ids = tagged.encode("hello <bt> world")
    tag = tagged.tags["<bt>"]
    assert tagged.decode([tag, *ids, tag]) == tagged.decode(ids) == "hello <bt> world"
    assert tagged.surfaces()[tag] == b""
    assert plain.tags == {}


@every_kind
def test_a_tag_that_is_there_keeps_its_place(name):
    tagged = TAGGED[name]
    assert tagged.with_tags(["<bt>"]) is tagged
    more = tagged.with_tags(["<2fr>", "<2de>"])
    assert more.tags == {**tagged.tags, "<2fr>": len(tagged.vocabulary)}


@every_kind
@pytest.mark.parametrize("joint", [True, False])
def test_a_pair_keeps_its_tags_on_disk_and_in_other_normalisations(name, joint, tmp_path):
    pair = TextPair.of_one(PLAIN[name], "nfkc") if joint else TextPair(PLAIN[name], PLAIN[name], joint=False)
    tagged = pair.with_tags(TAGS)
    tagged.save(tmp_path)
    loaded = TextPair.load(tmp_path)
    assert loaded.source.tags == TAGGED[name].tags
    assert loaded.target.tags == (TAGGED[name].tags if joint else {})
    assert loaded.fingerprints == tagged.fingerprints != pair.fingerprints
    assert tagged.with_tags(TAGS) is tagged
    of_target = pair.with_tags(TAGS, "target")
    assert (of_target.begins("<bt>"), of_target.begins(None)) == (([], [TAGGED[name].tags["<bt>"]]), ([], []))
    assert of_target.source.tags == (TAGGED[name].tags if joint else {})
    of_target.save(tmp_path)
    assert TextPair.load(tmp_path).begins("<2de>") == of_target.begins("<2de>")
    with pytest.raises(
        ConfigError, match="the tag must be one that the model was trained with, got <bt>: it was trained"
    ):
        pair.begins("<bt>")


@pytest.mark.parametrize("name", ["unigram", "whitespace", "character"])
def test_an_extended_vocabulary_keeps_them(name):
    settings = {"vocabulary_size": 60, "character_coverage": 1.0, "seed": 1} if name == "unigram" else {}
    extended = TAGGED[name].extend(["quux quorum jazz", "quux jazz"] * 5, **settings)
    assert len(extended.vocabulary) > len(TAGGED[name].vocabulary)
    assert extended.tags == TAGGED[name].tags
