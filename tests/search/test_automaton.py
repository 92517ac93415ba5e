"""What must, must not or comes first appears so in what a search finds, and nothing better was passed over."""

import itertools
import random
import re
import string
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from nmt.control.controls import AutomatonTables, Control, Controls, Kinds
from nmt.inference.compiled_search import control_rules
from nmt.search import beam_search
from nmt.text import CharacterTokenizer

BOS, EOS = 2, 3
LENGTH = 6
TOKENIZER = CharacterTokenizer.learn(["abc"], vocabulary_size=None, minimum_count=1)
SIZE = len(TOKENIZER.vocabulary)
CONTROLS = Controls(TOKENIZER)


def tables_of_steps(sentences, seeds=1):
    """Logits by sentence, step and token before, of so many sentences from each seed."""
    drawn = [np.random.default_rng(seed).normal(size=(sentences, 4, SIZE, SIZE)) for seed in range(seeds)]
    return 2.0 * np.concatenate(drawn).astype("float32")


def searched(logits, asked, *, beam_size, compiled=False, part_words=True, tokenizer=TOKENIZER, **arguments):
    """The hypotheses of each sentence, as (score, text)."""
    asked = [control._replace(part_words=part_words) for control in asked]
    controls = CONTROLS if tokenizer is TOKENIZER else Controls(tokenizer)
    kinds = Kinds(*(any(control[place] for control in asked) for place in (1, 2, 0)))
    given = AutomatonTables(*map(tf.constant, controls.tables(asked)))

    def search():
        rules, choose = control_rules(given, kinds) if any(kinds) else ([], None)

        def step(token_ids, state, memory):
            places = tf.broadcast_to(memory[:, None], tf.shape(token_ids))
            return tf.gather_nd(logits, tf.stack([places, tf.minimum(state, 3), token_ids], -1)), state + 1

        return beam_search(
            step,
            tf.zeros((len(asked), beam_size), tf.int32),
            memory=tf.range(len(asked)),
            batch_size=len(asked),
            bos_id=BOS,
            eos_id=EOS,
            banned_ids=(1,),
            max_length=LENGTH,
            beam_size=beam_size,
            rules=rules,
            choose=choose,
            **arguments,
        )

    result = (tf.function(search) if compiled else search)()
    return [
        [
            (float(score), tokenizer.decode(token_ids[: length - 1].tolist()))
            for score, token_ids, length, finished in zip(*sentence, strict=True)
            if finished
        ]
        for sentence in zip(*(result[place].numpy() for place in (1, 0, 3, 4)), strict=True)
    ]


def best_of_all(logits, allowed, tokenizer=TOKENIZER):
    """The best text that is allowed, with its score, among all there are; None if there is none."""
    letters = [token_id for token_id in range(SIZE) if token_id > EOS]
    found = []
    for size in range(LENGTH):
        for token_ids in itertools.product(letters, repeat=size):
            if allowed(tokenizer.decode(token_ids)):
                before, total = BOS, 0.0
                for place, token_id in enumerate((*token_ids, EOS)):
                    row = logits[min(place, 3), before]
                    total += row[token_id] - np.log(np.exp(row).sum())
                    before = token_id
                found.append((total / (size + 1), tokenizer.decode(token_ids)))
    return max(found, default=(-np.inf, None))


ASKED = [
    (Control(require=("ab",)), lambda text: "ab" in text),
    (Control(require=("ab", "ba")), lambda text: "ab" in text and "ba" in text),  # they may share a letter
    (Control(require=("a", "a", "cb")), lambda text: text.count("a") > 1 and "cb" in text),
    (Control(require=("aa", "aa")), lambda text: text.count("aa") > 1),
    (Control(require=("cc | bb",)), lambda text: "cc" in text or "bb" in text),
    (Control(avoid=("a", "bc")), lambda text: "a" not in text and "bc" not in text),
    (Control(prefix="ca"), lambda text: text.startswith("ca")),
    (
        Control(("b",), ("ab", "bb"), "a"),
        lambda text: text[:1] == "a" and "b" in text and not {"ab", "bb"} & pairs(text),
    ),
    (Control(), lambda text: True),
]


def pairs(text):
    """All pairs of letters that stand side by side."""
    return {first + second for first, second in itertools.pairwise(text)}


def test_a_wide_beam_finds_the_best_text_that_is_allowed():
    asked, logits = ASKED * 3, tables_of_steps(len(ASKED), seeds=3)
    found = searched(logits, [control for control, _ in asked], beam_size=300, num_hypotheses=1)
    for own, (_, allowed), hypotheses in zip(logits, asked, found, strict=True):
        score, text = best_of_all(own, allowed)
        assert hypotheses[0][1] == text
        assert hypotheses[0][0] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(("beam_size", "compiled"), [(1, False), (2, False), (5, False), (1, True), (3, True)])
def test_a_narrow_beam_keeps_to_what_is_asked_and_leaves_others_alone(beam_size, compiled):
    asked, logits = ASKED * 6, tables_of_steps(len(ASKED), seeds=6)
    free = slice(len(ASKED) - 1, None, len(ASKED))  # the last of each asks nothing
    found = searched(logits, [control for control, _ in asked], beam_size=beam_size, compiled=compiled)
    for (control, allowed), hypotheses in zip(asked, found, strict=True):
        assert hypotheses or (control.require and control.avoid)  # a ban may stand where a phrase has to begin
        assert all(allowed(text) for _, text in hypotheses)
    for hypotheses, alone in zip(
        found[free], searched(logits[free], [Control()] * 6, beam_size=beam_size), strict=True
    ):
        assert [text for _, text in hypotheses] == [text for _, text in alone]
        np.testing.assert_allclose([score for score, _ in hypotheses], [score for score, _ in alone], atol=1e-5)


def test_no_space_is_added_to_a_beginning():
    letters = CharacterTokenizer.learn(["ab ba"], vocabulary_size=None, minimum_count=1)
    size = len(letters.vocabulary)
    logits = np.zeros((1, 4, size, size), "float32")
    logits[..., letters.encode("a b")[1]] = 5.0  # spaces are what it likes best
    for _, text in searched(logits, [Control(prefix="a b")], beam_size=3, tokenizer=letters)[0]:
        assert text.startswith("a b")


def test_phrases_that_go_on_alike_give_no_hypothesis_twice():
    letters = CharacterTokenizer.learn([string.ascii_letters], vocabulary_size=None, minimum_count=1)
    size = len(letters.vocabulary)
    logits = np.random.default_rng(0).normal(size=(3, 4, size, size)).astype("float32")
    for hypotheses in searched(logits, [Control(require=("ab", "ac"))] * 3, beam_size=4, tokenizer=letters):
        assert len(hypotheses) == len(set(hypotheses)) > 1


def test_whoever_has_all_phrases_lets_others_end():
    """The best live hypothesis may have its phrases already: a worse one that has them may end all the same."""
    logits = np.zeros((1, 4, SIZE, SIZE), "float32")
    logits[0, :, :, EOS] = -9.0  # no end is ever among the K best
    (hypotheses,) = searched(logits, [Control(require=("a",))], beam_size=2, length_penalty=0.0)
    assert hypotheses[0][1] == "a"


def test_phrases_appear_if_they_just_fit():
    asked = [Control(require=("abcab",)), Control(require=("ab", "cc", "b")), Control(require=("c",) * 5)]
    found = [hypotheses[0][1] for hypotheses in searched(tables_of_steps(3, seeds=6), asked * 6, beam_size=3)]
    assert (found[::3], found[2::3]) == (["abcab"] * 6, ["ccccc"] * 6)
    assert all({"ab", "cc"} <= pairs(text) for text in found[1::3])


def test_where_nothing_is_allowed_nothing_is_found():
    asked = [Control(require=("abcabc",)), Control(avoid=("a", "b", "c")), Control(("b",), ("a", "cb", "bb"), "c")]
    found = searched(tables_of_steps(len(asked)), asked, beam_size=3)
    assert found[0] == []  # six letters and EOS are more than six tokens
    assert [text for _, text in found[1]] == [""]
    assert found[2] == []


def test_random_words_are_searched_as_by_trying_all_texts():
    """Words end with a space or with the text: EOS completes bans and phrases."""
    tokenizer = CharacterTokenizer.learn(["a b"], vocabulary_size=None, minimum_count=1)

    def has(text, phrase):
        return re.search(rf"(?<!\w){phrase}(?!\w)", " ".join(text.split()))

    words = ["a", "b", "ab", "ba", "aa", "bb", "a b", "b a"]
    asked = [
        Control(tuple(draw.sample(words, draw.randint(0, 1))), tuple(draw.sample(words, draw.choice([2, 5]))))
        for draw in map(random.Random, range(4))
        for _ in range(16)
    ]
    asked = [
        control for control in asked if not any(has(each, ban) for each in control.require for ban in control.avoid)
    ]
    # Nothing is left: each word that begins so is banned.
    asked.append(
        Control(
            (), tuple("ab" + "".join(end) for size in range(4) for end in itertools.product("ab", repeat=size)), "ab"
        )
    )
    logits = tables_of_steps(len(asked))
    found = searched(logits, asked, beam_size=300, part_words=False, tokenizer=tokenizer, num_hypotheses=1)
    for own, control, hypotheses in zip(logits, asked, found, strict=True):

        def allowed(text, control=control):
            begun = " ".join(text.split()).startswith(control.prefix)
            return (
                begun
                and all(has(text, each) for each in control.require)
                and not any(map(partial(has, text), control.avoid))
            )

        score, _ = best_of_all(own, allowed, tokenizer)
        assert (hypotheses[0][0] if hypotheses else -np.inf) == pytest.approx(score, abs=1e-4), control
    assert found[-1] == []
