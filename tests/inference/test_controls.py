"""Phrases drawn at random for each line: every line has what it must and nothing that it must not, never at a loss."""

import random
import re

import pytest

from nmt.config import SearchSettings
from nmt.control.controls import Control
from nmt.errors import ConfigError
from nmt.inference.translator import Translator
from nmt.models.contract import Vocabularies
from nmt.text import CharacterTokenizer, TextPair
from nmt.translation.line_translator import Tally
from tests import tiny

pytestmark = pytest.mark.slow

LETTERS = "xyzüX-. "
LINES = ["abc", "cab", "bbbcaba", "", "accb", "b", "cc"] * 4
ROOMY = SearchSettings(beam_size=5, max_length=20, max_length_ratio=3.0, max_length_offset=9)


@pytest.fixture(scope="module")
def translator():
    text = TextPair.learn(CharacterTokenizer, ["abc"], [LETTERS], joint=False, vocabulary_size=None, minimum_count=1)
    sizes = Vocabularies(len(text.source.vocabulary), len(text.target.vocabulary), shared=False)
    model = tiny.build(tiny.MODELS["transformer"], vocabularies=sizes, tie_embeddings="none", seed=1)
    for variable in model.trainable_variables:
        variable.assign(2.0 * variable)
    return Translator(model, text, ROOMY)


def drawn_text(draw):
    return " ".join("".join(draw.choices(LETTERS, k=draw.randint(1, 3))).split())


def drawn_control(draw):
    required = [" | ".join({drawn_text(draw) or "x" for _ in range(draw.choice([1, 1, 2]))}) for _ in range(2)]
    return Control(
        tuple(required[: draw.randint(0, 2)] + required[:1] * (draw.random() < 0.2)),
        tuple(drawn_text(draw) or "y" for _ in range(draw.randint(0, 2))),
        part_words=draw.random() < 0.4,
        ignore_case=draw.random() < 0.3,
    )


def places(phrase, text, control):
    """How often a phrase stands in a text, at places that share nothing."""
    before = "" if control.part_words or not re.match(r"\w", phrase) else r"(?<!\w)"
    after = "" if control.part_words or not re.search(r"\w$", phrase) else r"(?!\w)"
    flags = re.IGNORECASE if control.ignore_case else 0
    return len(re.findall(before + re.escape(phrase) + after, text, flags))


def is_refused(translator, control):
    try:
        translator.controls.check(control)
    except ConfigError:
        return True
    return False


@pytest.mark.parametrize("seed", range(3))
def test_random_phrases_are_met_and_no_ban_is_broken(translator, seed):
    draw = random.Random(seed)
    asked = [drawn_control(draw) for _ in LINES]
    tally = Tally()
    found = translator.n_best(LINES, 1, controls=asked, tally=tally)
    num_refused = 0
    for line, control, translations in zip(LINES, asked, found, strict=True):
        if is_refused(translator, control):
            num_refused += bool(line)
            assert not translations or not line
            continue
        text = " ".join(translations[0].text.split()) if translations else None
        assert text is not None, control
        for phrase in control.require if line else ():
            count = sum(places(each, text, control) for each in {*phrase.split(" | ")})
            assert count >= control.require.count(phrase), (control, text)
        assert not any(places(phrase, text, control) for phrase in control.avoid), (control, text)
    assert (tally.refused, tally.unsatisfied) == (num_refused, 0)


def test_lines_whose_plain_translation_has_the_phrases_keep_it(translator):
    plain = translator.n_best(LINES, 1)
    asked = [Control((best.text.split()[0],) if best.text.split() else (), part_words=True) for (best,) in plain]
    assert any(control.require for control in asked)
    controlled = translator.n_best(LINES, 1, controls=asked)
    assert [[each._replace(constraints={}) for each in found] for found in controlled] == plain
    assert all(all(each.constraints.values()) for found in controlled for each in found)
    # Of several, those of the plain search that have the phrases are among them, or have given way to better ones.
    several, with_phrases = translator.n_best(LINES, 4), translator.n_best(LINES, 4, controls=asked)
    for line, control, own, other in zip(LINES, asked, several, with_phrases, strict=True):
        scores = [each.score for each in other]
        assert scores == sorted(scores, reverse=True)
        assert all(all(translator.controls.met(control, each.text).values()) for each in other)
        kept = [each for each in own if all(translator.controls.met(control, each.text).values())]
        assert not line or {each.text for each in kept if each.score > scores[-1]} <= {each.text for each in other}
