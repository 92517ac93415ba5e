"""Raw text in, raw text out: with a model that copies, so that every translation tells where it came from."""

import logging

import numpy as np
import pytest
from keras import ops

from nmt.config import SearchSettings
from nmt.control.controls import NO_CONTROL, Control, check_controls
from nmt.errors import ConfigError
from nmt.inference.translator import Translation, Translator
from nmt.models.contract import Vocabularies
from nmt.text import (
    EOS_ID,
    PAD_ID,
    UNK_ID,
    CharacterTokenizer,
    SentencePieceTokenizer,
    TextPair,
    Vocabulary,
    WhitespaceTokenizer,
)
from nmt.translation.flags import Flag
from nmt.translation.lengths import BATCH_TOKENS, MAX_SOURCE_LENGTH, length_limits, plan_batches
from nmt.translation.line_translator import Tally, flag_of_none
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight\u2028nine", "ten\x85", "eleven\rtwelve"]


class CopyModel:
    """Writes the source again, token by token; counts how often it is traced, and keeps what it was asked."""

    def __init__(self, vocabulary_size, ends=True):
        self.vocabulary_size = vocabulary_size
        self.ends = ends
        self.traces = 0

    def encode(self, source_ids):
        self.traces += 1
        return source_ids

    def initial_state(self, memory, beam_size, max_length):
        return ops.zeros((ops.shape(memory)[0], beam_size), dtype="int32")

    def decode_step(self, token_ids, state, memory):
        position = ops.minimum(state, ops.shape(memory)[1] - 1)  # (B, K)
        wanted = ops.take_along_axis(memory, position, axis=1)
        at_end = ops.equal(wanted, EOS_ID) | ops.equal(wanted, PAD_ID)
        wanted = ops.where(at_end, EOS_ID if self.ends else 4, wanted)
        return 9.0 * ops.one_hot(wanted, self.vocabulary_size), state + 1

    def decoder(self):
        return self.decode_step


def whitespace_pair(words=WORDS):
    tokenizer = WhitespaceTokenizer(Vocabulary(["<pad>", "<unk>", "<s>", "</s>", *words]))
    return TextPair(source=tokenizer, target=tokenizer, joint=True)


def copier(search=None, **settings):
    text = whitespace_pair()
    return Translator(CopyModel(len(text.target.vocabulary), **settings), text, search)


def tiny_translator(kind, num_decoder_layers=2):
    text = TextPair.learn(
        CharacterTokenizer, ["abcdefg hij"], ["klm nopq"], joint=False, vocabulary_size=None, minimum_count=1
    )
    vocabularies = Vocabularies(len(text.source.vocabulary), len(text.target.vocabulary), shared=False)
    settings = {**tiny.MODELS[kind], "num_decoder_layers": num_decoder_layers}
    model = tiny.build(settings, vocabularies=vocabularies, tie_embeddings="target_output", seed=5)
    for variable in model.trainable_variables:  # greater weights, so that sentences get different translations
        variable.assign(3.0 * variable)
    model.output_bias.assign([-4.0 if token_id == EOS_ID else 0.0 for token_id in range(vocabularies.target_size)])
    return Translator(model, text, SearchSettings(beam_size=3, min_length=5, max_length=12))


def test_pieces_are_joined_to_words():
    text = whitespace_pair(["fr@@", "om", "here"])
    model = CopyModel(len(text.target.vocabulary))
    lines = ["fr@@ om here fr@@", "here", ""]
    assert Translator(model, text).translate(lines) == lines
    joining = Translator(model, text, segmentation="bpe")
    assert joining.translate(lines) == ["from here fr", "here", ""]
    assert joining.n_best(lines, 1)[0][0].num_tokens == 5


LINES = ["five", "", "one two three four", "two two", "   ", "seven six five four three two one", "six", "\t"]
COPIES = ["five", "", "one two three four", "two two", "", "seven six five four three two one", "six", ""]


def test_translations_are_flagged():
    lines = ["one two three", "one nine", "", "one one one two"]
    asked = [NO_CONTROL, NO_CONTROL, NO_CONTROL, Control(require=("one", "one"))]
    found = [translation for (translation,) in copier().n_best(lines, 1, beam_size=4, controls=asked)]
    assert [translation.flags for translation in found] == [("copy",), ("unknown",), (), ("copy",)]
    assert [dict(translation.constraints) for translation in found] == [{}, {}, {}, {"one": True}]
    ((endless,),) = copier(ends=False).n_best(["two three"], 1, beam_size=1)
    assert endless.flags == ("ratio", "repetition", "cut")
    changing = copier()  # what comes out is checked, whatever the search wrote
    changing.text_of = lambda token_ids: "<unk>" if token_ids == [UNK_ID] else "two"
    ((changed,),) = changing.n_best(["one three"], 1, beam_size=4, controls=[Control(("one",), ("six",))])
    assert (changed.flags, changed.constraints) == (("unsatisfied",), {"one": False})
    ((changed,),) = changing.n_best(["one three"], 1, beam_size=4, controls=[Control(avoid=("two",))])
    assert changed.flags == ("unsatisfied",)


@pytest.mark.parametrize("control", [Control(require="ab"), Control(avoid="ab")])
def test_one_text_is_no_list_of_phrases(control):
    with pytest.raises(TypeError, match=r"(require|avoid) must be several phrases, got one text: give \('ab',\)"):
        check_controls([control], 1, None, diverse_groups=1)


def test_how_phrases_match_asks_for_nothing_by_itself():
    assert flag_of_none(Control(ignore_case=True, part_words=True)) == Flag.FAILED
    assert flag_of_none(Control(prefix="x")) == Flag.UNSATISFIED


def test_repetition_and_copies_are_reported_in_one_line(caplog):
    tally = Tally()
    copier().translate(["one two three", "one"], tally=tally)
    tally.report()
    assert "of 2 translations, 0 say words again and again, and 1 copy the source" in caplog.text
    caplog.clear()
    Tally(translations=1000, repetitive=9).report()
    assert not caplog.text


@pytest.mark.parametrize("beam_size", [1, 3])
def test_lines_stay_in_order_and_empty_ones_empty(beam_size):
    translator = copier()
    for batch_size in (1, 2, 64):
        assert translator.translate(LINES, beam_size=beam_size, batch_size=batch_size) == COPIES


def test_the_model_is_not_asked_about_empty_lines():
    translator = copier()
    assert translator.translate(["", "  ", ""]) == ["", "", ""]
    assert translator.translate([]) == []
    assert translator.model.traces == 0


def test_one_trace_serves_all_shapes(compiled):
    translator = copier()
    translator.translate(LINES, batch_size=2)
    for count in (1, 2, 3, 5):
        translator.translate(["one two three four five"[: 4 * count]] * count)
    assert translator.model.traces == 1
    translator.translate(LINES, beam_size=2)
    assert translator.model.traces == 2
    translator.translate(LINES, beam_size=2, length_penalty=0.5)
    assert translator.model.traces == 3


def test_a_beam_of_one_is_searched_greedily(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError("beam search")

    monkeypatch.setattr("nmt.search.loop.extend_rows", refuse)
    assert copier().translate(["six two"], beam_size=1) == ["six two"]
    with pytest.raises(AssertionError, match="beam search"):
        copier().translate(["six two"], beam_size=2)


def test_odd_line_separators_stay_inside_a_line():
    lines = ["one eight\u2028nine two", "ten\x85 six", "eleven\rtwelve one"]
    translations = copier().translate(lines)
    assert translations == ["one eight\u2028nine two", "ten\x85 six", "eleven twelve one"]


@pytest.fixture(scope="module")
def transformer_translator():
    """Compiled once for several tests: the many steps of these would take longer one by one."""
    return tiny_translator("transformer")


@pytest.fixture(scope="module")
def rnn_translator():
    return tiny_translator("rnn")


def test_n_best_has_falling_scores_and_begins_with_what_translate_gives(compiled, transformer_translator):
    translator = transformer_translator
    lines = ["abc", "", "ghij ab", "d"]
    found = translator.n_best(lines, 3)
    assert [len(translations) for translations in found] == [3, 1, 3, 3]
    assert found[1] == [Translation("", 0.0, 0.0, 0)]
    for translations in found:
        scores = [translation.score for translation in translations]
        assert scores == sorted(scores, reverse=True)
        for translation in translations[: 0 if translations == found[1] else None]:
            penalty = translation.num_tokens**1.0
            assert translation.score == pytest.approx(translation.log_prob / penalty, rel=1e-5)
    assert translator.translate(lines) == [translations[0].text for translations in found]
    assert len({translation.text for translation in found[2]}) == 3


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_a_batch_of_one_is_a_batch_of_many(compiled, kind, request):
    translator = request.getfixturevalue(f"{kind}_translator")
    lines = ["a", "bcd efg", "hhhh", "jihgfedcba", "ab ab ab ab", "c"]
    together = translator.n_best(lines, 3)
    alone = [translator.n_best([line], 3)[0] for line in lines]
    assert [[t.text for t in found] for found in together] == [[t.text for t in found] for found in alone]
    np.testing.assert_allclose(
        [[t.score for t in found] for found in together], [[t.score for t in found] for found in alone], rtol=1e-4
    )
    assert len({found[0].text for found in together}) > 3


def test_a_single_decoder_layer_is_enough(compiled):
    """TensorFlow fused scaled scores and the bias that only one layer added into a node that never ran in a loop."""
    assert all(tiny_translator("transformer", num_decoder_layers=1).n_best(["abc", "d"], 1, beam_size=1))


@pytest.mark.parametrize("beam_size", [1, 4])
def test_limits_follow_each_source(beam_size):
    search = SearchSettings(max_length_ratio=1.5, max_length_offset=2, max_length=9, beam_size=beam_size)
    translator = copier(search, ends=False)
    lines = ["one", "one two three", "one two three four five six"]
    lengths = [found[0].num_tokens for found in translator.n_best(lines, 1)]
    assert lengths == [5, 8, 9]  # floor(1.5 * (tokens + EOS)) + 2, at most 9
    assert [len(text.split()) for text in translator.translate(lines)] == [4, 7, 8]


def test_a_least_length_is_kept():
    translator = copier(SearchSettings(min_length=4, min_length_ratio=1.0))
    lengths = [found[0].num_tokens for found in translator.n_best(["one", "one two three four five"], 1)]
    assert lengths == [4, 6]


def test_limits_are_those_of_the_settings():
    settings = SearchSettings(max_length_ratio=0.5, max_length_offset=0, max_length=7, min_length=3)
    least, greatest = length_limits(np.array([1, 5, 8, 40]), settings)
    assert greatest.tolist() == [3, 3, 4, 7]  # what is asked for at least is allowed
    assert least.tolist() == [3, 3, 3, 3]
    assert least.dtype == greatest.dtype == np.int32


def test_batches_hold_like_lengths_and_no_more_tokens_than_fit():
    lengths = [3, 1, BATCH_TOKENS // 2 + 1, 2, 1, BATCH_TOKENS * 3, 2]
    batches = [batch.tolist() for batch in plan_batches(lengths, batch_size=2)]
    assert batches == [[5], [2], [0, 3], [6, 1], [4]]


def test_weights_are_looked_at_anew_and_broken_ones_are_mentioned(caplog):
    translator = tiny_translator("rnn")
    before = translator.translate(["abcd"], beam_size=1)
    for variable in translator.model.trainable_variables:
        variable.assign(-variable)
    assert translator.translate(["abcd"], beam_size=1) != before
    bias = translator.model.output_bias
    bias.assign(np.full(bias.shape, np.nan))
    with caplog.at_level(logging.WARNING):
        assert translator.translate(["abc", "", "d"], beam_size=1) == ["", "", ""]
    assert "2 lines so far are left untranslated" in caplog.text


def test_unknown_words_are_written_only_where_they_are_allowed():
    """By default by tokenizers that look words up, and not by SentencePiece, which has other pieces for them."""
    line = "one twentyseven two"
    assert copier().translate([line]) == ["one <unk> two"]
    assert "<unk>" not in copier(SearchSettings(allow_unknown=False)).translate([line])[0]
    text = TextPair.learn(
        SentencePieceTokenizer, ["one two one two"], ["two one"], model_type="unigram", joint=True, vocabulary_size=20,
        character_coverage=1.0,
        seed=1, normalization=("none", "none"),
    )  # fmt: skip
    model = CopyModel(len(text.target.vocabulary))
    for beam_size in (1, 3):
        for allowed, shown in ((None, False), (False, False), (True, True)):
            search = SearchSettings(allow_unknown=allowed, beam_size=beam_size)
            assert ("<unk>" in Translator(model, text, search).translate(["one xyz two"])[0]) is shown


def test_long_lines_are_translated_and_mentioned(caplog):
    translator = copier(SearchSettings(max_length=20))
    with caplog.at_level(logging.WARNING):
        (translation,) = translator.translate(["one " * 30])
    assert translation == " ".join(["one"] * 19)
    assert "1 line is longer than search.max_length, 20 tokens" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert translator.translate(["two " * (MAX_SOURCE_LENGTH + 1)] * 2) == [" ".join(["two"] * 19)] * 2
    assert f"2 lines so far are longer than {MAX_SOURCE_LENGTH} tokens" in caplog.text


def test_what_is_translated_batch_by_batch_is_mentioned_when_it_is_new_or_has_doubled(caplog):
    translator = copier(SearchSettings(max_length_ratio=1.0, max_length_offset=0, max_length=6), ends=False)
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            translator.translate(["one two"], beam_size=1)
        translator.translate(["one " * 30], beam_size=1)
        own = Tally()
        for _ in range(9):
            translator.translate(["one two"], beam_size=1, tally=own)
        own.report()
    said = [record.getMessage().partition(" as long as allowed")[0] for record in caplog.records]
    assert said[:4] == ["1 translation is", *(f"{count} translations so far are" for count in (2, 4, 8))]
    assert said[4].startswith("1 line so far is longer than search.max_length")
    assert said[5:] == ["10 translations so far are", "9 translations are"]


def test_translations_that_reach_their_limit_are_mentioned(caplog):
    search = SearchSettings(max_length_ratio=1.0, max_length_offset=2, max_length=6)
    lines = ["one", "", "one two three four five six", "  "]
    with caplog.at_level(logging.WARNING):
        copier(search, ends=False).translate(lines, beam_size=1)
    record, odd = caplog.records
    assert odd.getMessage().startswith("of 2 translations, 1 say words again and again")
    assert record.getMessage().startswith("2 translations are as long as allowed and may be cut short")
    assert "search.max_length_ratio, search.max_length_offset or search.max_length" in record.getMessage()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        copier(search).translate(lines, beam_size=1)  # the second of them alone
        copier(search).translate(["", "one two"], beam_size=1)
        assert copier(search).translate(["", " "]) == ["", ""]
    assert [record.getMessage()[:32] for record in caplog.records] == ["1 translation is as long as allo"]


def test_progress_counts_every_line_once():
    told = []
    copier().translate(LINES, batch_size=2, progress=told.append)
    assert sum(told) == len(LINES)
    assert len(told) == 4


def test_what_cannot_be_is_refused():
    translator = copier()
    with pytest.raises(TypeError, match="got one str: pass \\[line\\]"):
        translator.translate("one two")
    with pytest.raises(ConfigError, match=r"must be 1 to beam_size \(5\), got 6"):
        translator.n_best(["one"], 6)
    with pytest.raises(ConfigError, match="beam_size must be 1 or more, got 0"):
        translator.translate(["one"], beam_size=0)
    with pytest.raises(ConfigError, match="length_penalty must be 0 or more, got -1"):
        translator.translate(["one"], length_penalty=-1.0)
    with pytest.raises(ConfigError, match="batch_size must be 1 or more, got 0"):
        translator.translate(["one"], batch_size=0)


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("beam_size", 2.5, "an int"),
        ("beam_size", "4", "an int"),
        ("beam_size", True, "an int"),
        ("batch_size", 1.5, "an int"),
        ("length_penalty", "1", "a float"),
        ("length_penalty", float("nan"), "a float"),
        ("length_penalty", float("inf"), "a float"),
    ],
)
def test_settings_of_another_type_are_refused(option, value, kind):
    with pytest.raises(ConfigError, match=f"{option} must be [01] or more, got {value!r}: give {kind}"):
        copier().translate(["one"], **{option: value})


@pytest.mark.parametrize("count", ["2", 2.0, None, True])
def test_hypotheses_are_counted_in_ints(count):
    with pytest.raises(ConfigError, match=f"the number of hypotheses must be an int, got {count!r}"):
        copier().n_best(["one"], count)


def test_numbers_of_numpy_are_numbers():
    asked = {"beam_size": np.int64(3), "length_penalty": np.float32(0.5), "batch_size": np.int32(2)}
    ((best, _),) = copier().n_best(["one two"], np.int64(2), **asked)
    assert best.text == "one two"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"one", r"must be a list of lines, got one bytes: pass \[line\]"),
        (["one", b"two"], "must be a list of str, got bytes as line 2"),
        ([None], "must be a list of str, got NoneType as line 1"),
        ([["one"]], "must be a list of str, got list as line 1"),
        ([1], "must be a list of str, got int as line 1"),
    ],
)
def test_lines_that_are_no_text_are_refused(lines, message):
    with pytest.raises(TypeError, match=message):
        copier().translate(lines)


def test_settings_of_one_call_leave_the_others_alone():
    translator = copier()
    translator.translate(["one"], beam_size=2, length_penalty=0.0)
    assert translator.search == SearchSettings()


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_batches_side_by_side_share_lines_and_memory(at_once):
    lengths = [3, 9, 1, 7, 5, 2, 8, 6, 4]
    batches = plan_batches(lengths, batch_size=100, at_once=at_once)
    assert sorted(index for batch in batches for index in batch) == list(range(9))
    assert len(batches) == min(at_once, 9)
    long = plan_batches([MAX_SOURCE_LENGTH] * 12, batch_size=100, at_once=at_once)
    assert max(map(len, long)) * MAX_SOURCE_LENGTH * at_once <= max(BATCH_TOKENS, at_once * MAX_SOURCE_LENGTH)


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_translations_do_not_depend_on_how_many_batches_run_at_once(compiled, kind, request, monkeypatch):
    translator = request.getfixturevalue(f"{kind}_translator")
    lines = ["abc", "h", "gg fe", "a b c d", "ji", "fedcba", "e", "hhh", "bad", "cafe", "jig"]
    found = {}
    for at_once in (1, 2, 4):
        monkeypatch.setattr(Translator, "batches_at_once", lambda self, count=at_once: count)
        found[at_once] = translator.n_best(lines, 3, batch_size=2)
    for at_once in (2, 4):
        for together, alone in zip(found[at_once], found[1], strict=True):
            assert [each.text for each in together] == [each.text for each in alone]
            np.testing.assert_allclose([e.score for e in together], [e.score for e in alone], atol=1e-5)
