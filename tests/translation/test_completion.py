"""Completions begin as given, differ in their next word, and are the best with that word."""

import itertools
import re

import numpy as np
import pytest
from keras import ops

from nmt.config import SearchSettings
from nmt.errors import ConfigError
from nmt.inference.translator import Translator
from nmt.models.contract import Vocabularies
from nmt.models.ensemble import Ensemble
from nmt.search import Rule
from nmt.text import BOS_ID, EOS_ID, CharacterTokenizer, SentencePieceTokenizer, TextPair, WhitespaceTokenizer
from nmt.text.tokenizer import SPACE_SYMBOL
from nmt.translation import completion
from nmt.translation.completion import Spelling, Word, first_word, read_beginning
from tests import tiny

pytestmark = pytest.mark.usefixtures("eagerly")

TEXT = TextPair.learn(CharacterTokenizer, ["abc"], ["xy ,x"], joint=False, vocabulary_size=None, minimum_count=1)
MOST = 4
SEARCH = SearchSettings(
    max_length=MOST, max_length_ratio=9.0, max_length_offset=0, length_penalty=0.0, allow_unknown=False
)


def build(kind, text=TEXT, seed=3):
    """A model with clear preferences."""
    sizes = Vocabularies(len(text.source.vocabulary), len(text.target.vocabulary), shared=False)
    model = tiny.build(tiny.MODELS[kind], vocabularies=sizes, tie_embeddings="none", seed=seed)
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable)
    return model


def words_model():
    text = TextPair.learn(
        WhitespaceTokenizer, ["abc"], [" ".join(tiny.WORDS)], joint=False, vocabulary_size=None, minimum_count=1
    )
    return text, build("rnn", text)


def log_probs(model, source_ids, target_ids):
    logits = np.array(model((np.repeat(source_ids, len(target_ids), 0), target_ids)), "float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def best_by_word(models, line, prefix, allowed=lambda token_ids: True):
    """The best text for each next word among all there are, by that word."""
    letters = [each for each in range(len(TEXT.target.vocabulary)) if each > EOS_ID]
    bodies = [body for size in range(MOST) for body in itertools.product(letters, repeat=size)]
    padded = np.zeros((len(bodies), MOST), np.int32)
    padded[:, 0] = BOS_ID
    for row, body in zip(padded, bodies, strict=True):
        row[1 : len(body) + 1] = body
    source_ids = np.array([[*TEXT.source.encode(line), EOS_ID]])
    each = np.mean([np.exp(log_probs(model, source_ids, padded)) for model in models], axis=0)
    found = {}
    for own, body in zip(np.log(each), bodies, strict=True):
        written = "".join(TEXT.target.tokens(body)).replace(SPACE_SYMBOL, " ")
        begins = written.startswith((prefix, f" {prefix}")) or written == prefix.rstrip(" ")
        if begins and allowed(body):
            text = TEXT.target.decode(body).strip(" ")
            score = sum(own[place, token_id] for place, token_id in enumerate((*body, EOS_ID)))
            word = next_word(text, prefix)
            if score > found.get(word, (-np.inf, ""))[0]:
                found[word] = (score, text)
    return sorted(found.values(), reverse=True)


def next_word(text, prefix):
    """What is told apart, by another way than that of the package."""
    rest = text[len(prefix) :]
    rest = rest.lstrip(" ") if prefix.endswith(" ") or not prefix else rest
    return re.match(r" *(\w+|[^\w ]|)", rest).group() if rest.strip(" ") else ""


def assert_same(found, expected):
    """The same texts and scores in the same order."""
    assert [each.text.rstrip(" ") for each in found] == [text for _, text in expected]
    np.testing.assert_allclose([each.score for each in found], [score for score, _ in expected], atol=1e-4)


CASES = [(["transformer"], ""), (["transformer"], "x"), (["rnn"], "x "), (["transformer", "rnn"], "y")]


@pytest.mark.parametrize(("kinds", "prefix"), CASES)
def test_wide_beams_find_the_best_text_with_each_next_word(kinds, prefix):
    models = [build(kind) for kind in kinds]
    translator = Translator(models[0] if len(models) == 1 else Ensemble(models), TEXT, SEARCH)
    found = translator.complete("abca", prefix, 40, beam_size=20)
    assert_same(found, best_by_word(models, "abca", prefix))
    assert all(each.text.startswith(prefix) for each in found)
    assert len(found) > (10 if not prefix else 1)


class NoPairs(Rule):
    """No token twice in a row."""

    needs_tokens = True

    def lower(self, scores, view):
        before = ops.pad(view.token_ids, [[0, 0], [0, 0], [1, 0]], constant_values=-1)
        return ops.where(ops.arange(scores.shape[-1]) == before[:, :, -1:], -np.inf, scores)


def test_rules_hold_for_completions():
    model = build("transformer")
    found = Translator(model, TEXT, SEARCH, rules=[NoPairs()]).complete("abca", "x", 40, beam_size=20)
    assert_same(
        found,
        best_by_word([model], "abca", "x", lambda body: all(a != b for a, b in itertools.pairwise(body))),
    )


def test_groups_of_a_beam_change_no_completion():
    model, groups = build("transformer"), SEARCH.model_copy(update={"diverse_groups": 3, "beam_size": 6})
    assert Translator(model, TEXT, groups).complete("abca", "x", 2) == Translator(model, TEXT, SEARCH).complete(
        "abca", "x", 2
    )


@pytest.fixture(scope="module")
def pieces():
    """A translator whose tokens are pieces, several cuts a word."""
    lines = ["the red cat sees two blue dogs", "a cat and the dog see a red car", "cats, dogs and cars are red"] * 3
    settings = {"model_type": "unigram", "vocabulary_size": 45, "character_coverage": 1.0, "seed": 1}
    text = TextPair.learn(SentencePieceTokenizer, lines, lines, joint=False, **settings)
    return Translator(build("transformer", text), text, SearchSettings(max_length_ratio=0, max_length_offset=3))


PREFIXES = ["", "t", "the r", "the red", "the red ", " the  red  ca", "cats,"]


def test_what_is_given_stays_to_the_letter_and_next_words_differ(pieces):
    for prefix in PREFIXES:
        found = pieces.complete("the red cat", prefix, 3)
        assert len(found) == 3
        assert all(each.text.startswith(prefix) for each in found)
        assert len({next_word(each.text, prefix) for each in found}) == 3


def test_composed_and_decomposed_letters_are_kept_as_they_are_given():
    text = TextPair.learn(CharacterTokenizer, ["abc"], ["\xe9x"], joint=False, vocabulary_size=None, minimum_count=1)
    translator = Translator(build("rnn", text), text, SEARCH)
    for prefix in ("e\u0301", "\xe9"):
        found = translator.complete("abc", prefix, 2)
        assert found
        assert all(each.text.startswith(prefix) for each in found)


def test_one_pass_over_what_is_given_does_what_steps_do(monkeypatch):
    text, model = words_model()
    prefix, translator = "uno dos tr", Translator(model, text, SearchSettings(max_length_ratio=0, max_length_offset=2))
    at_once = translator.complete("abc", prefix, 3)
    monkeypatch.setattr(completion, "read_beginning", lambda *given, may_force: read_beginning(*given, may_force=False))
    stepwise = translator.complete("abc", prefix, 3)
    assert [each.text for each in at_once] == [each.text for each in stepwise]
    assert at_once[0].text.startswith("uno dos tres")
    np.testing.assert_allclose([each.score for each in at_once], [each.score for each in stepwise], atol=1e-4)


def test_pieces_are_forced_up_to_the_last_space(pieces):
    target = pieces.text.target
    spelling = Spelling(target.surfaces())
    beginning = read_beginning("the red ca", target, spelling, may_force=True)
    assert beginning.forced == target.encode("the red")
    assert beginning.rest == b" ca"
    assert read_beginning("the red ", target, spelling, may_force=True).rest == b" "


def test_memories_are_kept_until_weights_change(monkeypatch):
    model = build("transformer")
    translator, calls, encode = Translator(model, TEXT, SEARCH), [], model.encode
    monkeypatch.setattr(model, "encode", lambda ids: (calls.append(1), encode(ids))[1])
    first = translator.complete("abc", "x")
    calls.clear()
    assert translator.complete("abc", "x") == first
    assert not calls
    model.output_bias.assign(np.arange(len(TEXT.target.vocabulary)) / 3.0)
    changed = translator.complete("abc", "x")
    assert calls
    assert changed == Translator(model, TEXT, SEARCH).complete("abc", "x") != first


@pytest.mark.parametrize(
    ("continuation", "new", "word"),
    [
        ("", False, Word("", True)),
        (" in", False, Word(" in", True)),
        (" in", True, Word("in", True)),
        ("s in", False, Word("s", False)),
        (", in", False, Word(",", False)),
        ("caf\xe9", True, Word("caf\xe9", True)),
        ("犬猫", True, Word("犬", False)),
    ],
)
def test_words_end_where_another_character_follows(continuation, new, word):
    assert first_word(continuation.encode(), new=new) == word
    assert first_word("caf\xe9".encode()[:-1], new=True) == Word("caf", True)


def test_what_cannot_be_completed_is_refused():
    translator = Translator(build("rnn"), TEXT, SEARCH)
    with pytest.raises(ConfigError, match=r"the prefix 'x z' cannot be spelled by the tokens of the model"):
        translator.complete("abc", "x z")
    with pytest.raises(ConfigError, match="a prefix must be one line without line ends"):
        translator.complete("abc", "x\n")
    with pytest.raises(ConfigError, match="n must be 1 or more, got 0"):
        translator.complete("abc", n=0)
    assert [each.text for each in translator.complete(" ", "xy")] == ["xy"]
