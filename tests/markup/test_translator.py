"""Translations of lines with tags and placeholders."""

import json
import re
import shutil

import pytest

from nmt.control.controls import Control, Sampling
from nmt.errors import ConfigError
from nmt.inference.translator import Translator
from nmt.markup.translator import Markup
from nmt.tasks.translate import Reading, prepare_translation
from nmt.translation.flags import Flag

pytestmark = pytest.mark.usefixtures("eagerly")

LINES = ["<b>uno <i>dos</i></b> tres", "cinco {n} <x/> uno %d", "", "<b>{n}:</b>", "uno</p> &amp; dos <q", "siete"]
MARKUP = re.compile(r"</?\w+/?>|\{n\}|%d")


@pytest.fixture(scope="module")
def translators(transformer_run, trained_run):
    search = {"min_length": 4, "beam_size": 2}
    loaded = {
        "transformer": Translator.load(transformer_run.directory),
        "rnn": Translator.load(trained_run.directory),
        "both": Translator.load(trained_run.directory, transformer_run.directory),
    }
    for translator in loaded.values():
        translator.search = translator.search.model_copy(update=search)
    return loaded


def with_words(translator, **how):
    """Markup with words that the model can write: it copies none."""
    markup = Markup(translator, **how)
    markup._words = ["seven", "eight"]
    return markup


@pytest.mark.parametrize("kind", ["both"])
def test_tags_and_placeholders_are_all_there(translators, kind):
    markup = with_words(translators[kind])
    found = markup.n_best(LINES, 2)
    for line, translations in zip(LINES, found, strict=True):
        assert translations
        for each in translations:
            assert sorted(MARKUP.findall(each.text)) == sorted(MARKUP.findall(line))
            assert not {"seven", "eight"} & set(each.constraints)
    assert found[1][0].constraints == {"{n}": True, "%d": True}
    assert [each.text for each in found[3]] == [LINES[3]]  # no words, nothing to translate
    assert Flag.TAG in found[4][0].flags
    tally = markup.tally
    assert (tally.lines, tally.marked, tally.elements, tally.placeholders, tally.stand_ins) == (6, 4, 5, 3, 3)
    assert (tally.unpaired, tally.malformed, tally.first_unpaired) == (1, 1, [5])


def test_a_line_without_markup_is_translated_as_ever(translators):
    translator, lines = translators["rnn"], ["uno <b> dos", "siete &lt;"]
    assert with_words(translator, kind="placeholders").translate(lines) == translator.translate(lines)


@pytest.mark.parametrize("how", ["samples", "groups", "no words"])
def test_placeholders_are_there_without_a_search_for_them(translators, how):
    translator, named = translators["rnn"], {"sampling": Sampling(seed=3)} if how == "samples" else {}
    if how == "groups":
        settings = translator.search.model_copy(update={"diverse_groups": 2})
        translator = Translator(translator.model, translator.text, settings)
    markup = with_words(translator, **named) if how != "no words" else Markup(translator)
    (found,) = markup.n_best(["<b>uno {n} dos</b>"], 2, **named)
    assert [MARKUP.findall(each.text) for each in found] == [["<b>", "{n}", "</b>"]] * 2
    if how == "no words":  # neither language has a word of the other
        assert markup.tally.taken_out == 1


def test_what_stands_for_a_placeholder_is_in_no_phrase_of_the_line(translators):
    markup = with_words(translators["rnn"])
    (taken,) = markup.take_out(["uno {n} Eight"], [Control(avoid=("seven two",))])
    assert (taken.marked.held, taken.marked.elements[0].opening.written) == ((), "{n}")
    (taken,) = markup.take_out(["uno {n}"], [Control(require=("seven",))])
    assert taken.control == Control(require=("seven",), terms=("eight",))


def test_a_placeholder_that_the_model_copies_stays(translators, monkeypatch):
    markup = with_words(translators["rnn"])
    monkeypatch.setattr(markup, "_can_spell", lambda placeholder: placeholder == "{n}")
    monkeypatch.setattr(markup, "_greedy", lambda texts, tags: [text and "eight {n} two" for text in texts])
    taken = markup.take_out(["uno {n}", "uno {n} {n}", "uno {n} %d"])
    assert [each.control.terms for each in taken] == [("{n}",), ("seven", "seven"), ("seven", "eight")]


def test_words_that_are_needed_or_banned_stand_for_nothing(translators, monkeypatch):
    markup = with_words(translators["rnn"])
    monkeypatch.setattr(markup, "_are_copied", lambda lines, tags: [False] * len(lines))
    (first,) = markup.take_out(["uno {n}"])
    (word,) = first.control.terms
    (second,) = markup.take_out(["uno {n}"], [Control(avoid=(word[1:3],), part_words=True)])
    assert second.control.terms not in ((), (word,))
    monkeypatch.setattr("nmt.markup.translator.candidate_words", lambda *_: ["seven", "eight"])
    reserving = Markup(translators["rnn"], reserved=["a Seven"])
    monkeypatch.setattr(reserving, "_are_copied", lambda lines, tags: [False] * len(lines))
    assert reserving.take_out(["uno {n}"])[0].control.terms == ("eight",)


def test_a_translation_is_one_line_and_lines_are_several(translators):
    markup = with_words(translators["rnn"])
    first, second = markup.translate(['<a\n href="x">uno</a> dos', "<br/>\n{n}"], batch_size=2)
    assert "\n" not in first + second
    assert "{n}" in second
    with pytest.raises(TypeError, match=r"pass \[line\]"):
        markup.translate("uno dos")


def test_a_later_process_goes_on_with_the_same_words(translators):
    first, later = with_words(translators["rnn"]), Markup(translators["rnn"])
    taken = first.take_out(["<b>uno</b> {n}"])
    later.restore(json.loads(json.dumps(first.to_json())))
    assert later.tally == first.tally
    assert later.take_out(["<b>uno</b> {n}"]) == taken


def test_markup_goes_with_a_glossary_and_records(trained_run, tmp_path, caplog):
    caplog.set_level("INFO")
    glossary = tmp_path / "terms"
    glossary.write_text("dos\tnine eight\nn\tfour\n")  # n of {n} is no word
    lines = ['{"id": 7, "source": "uno <b>dos</b> {n}", "constraints": ["two"]}', '{"source": "uno"}']
    settings = ["search.min_length=5", "search.beam_size=4"]
    first, second = prepare_translation(
        trained_run.directory, overrides=settings, glossary=glossary, reading=Reading(records=True), markup="xml"
    )([lines])
    assert (first.record.source, first.record.rest) == ("uno <b>dos</b> {n}", {"id": 7})
    text = first.translations[0].text
    assert "nine eight" in re.sub(r" ?</?b> ?", " ", text)
    assert "two" in text
    assert sorted(MARKUP.findall(text)) == ["</b>", "<b>", "{n}"]
    assert not MARKUP.search(second.translations[0].text)
    assert any("glossary: 1 terms found in 1 of 2 lines: 1 placed" in message for message in caplog.messages)
    assert (
        "markup: 1 tags or pairs and 1 placeholders (0 by another word, 1 as tags) in 1 of 2 lines" in caplog.messages
    )


def test_what_cannot_be_is_refused(trained_run, exported_run, translators, tmp_path):
    with pytest.raises(ConfigError, match="the markup must be xml or placeholders, got 'html'"):
        Markup(translators["rnn"], "html")
    with pytest.raises(ConfigError, match="CTranslate2 does not tell what its model looks at, and cannot have markup"):
        prepare_translation(exported_run, engine="ctranslate2", markup="xml")
    with pytest.raises(ConfigError, match="alignments count characters of lines without tags"):
        prepare_translation(trained_run.directory, markup="xml", alignments=True)
    cut = shutil.copytree(trained_run.directory, tmp_path / "run")
    config = (cut / "config.yaml").read_text()
    (cut / "config.yaml").write_text(config.replace("segmentation: none", "segmentation: bpe"))
    with pytest.raises(ConfigError, match="reads those that bpe cut"):
        prepare_translation(cut, markup="xml")
