"""Automata of phrases over tokens say of any text, however it is cut, what a search through the finished text says."""

import random
import re

import numpy as np
import pytest

from nmt.control.lifting import DEAD, OUT_OF_REACH, Surfaces, join, lift, next_state
from nmt.control.phrases import Beginning, Phrase, Text, is_word
from nmt.text import CharacterTokenizer, SentencePieceTokenizer, WhitespaceTokenizer

BYTES = [0xC3, 0xA9, 0x61, 0xE2, 0x82, 0xAC, 0xCC, 0x81, 0x0A]
ALPHABETS = ["ab", "aB ", "ab ", "aé b", "a\u0301eb ", "ab.( "]


def assembled(surfaces, token_ids):
    """The text of tokens, by Python's own decoder."""
    text, spelled = "", b""

    for token_id in token_ids:
        surface = surfaces[token_id]
        if isinstance(surface, int):
            spelled += bytes([surface])
        else:
            text, spelled = text + one_each(spelled) + surface, b""
    return re.sub(" +", " ", (text + one_each(spelled)).translate(str.maketrans("\n", " "))).strip(" ")


def one_each(code):
    """Bytes as text, with one sign for each byte that is part of no character."""
    text = ""
    while code:
        try:
            return text + code.decode()
        except UnicodeDecodeError as error:
            text, code = text + code[: error.start].decode() + "\ufffd", code[error.start + 1 :]
    return text


def places_of(phrase, text):
    """Where a phrase stands in a finished text."""

    def matches(character, given):
        cases = (
            {character, character.lower(), character.upper(), character.title()} if phrase.ignore_case else {character}
        )
        return given in cases

    size = len(phrase.text)
    for begin in range(len(text) - size + 1):
        end = begin + size
        if not all(map(matches, phrase.text, text[begin:end])):
            continue
        goes_on = begin > 0 and is_word(phrase.text[0]) and is_word(text[begin - 1])
        goes_on |= end < len(text) and is_word(phrase.text[-1]) and is_word(text[end])
        if not (phrase.whole_words and goes_on):
            yield end, -begin


def most_apart(phrases, text):
    """How often any of the phrases stands in a text at places that share nothing: those that end first."""
    count, free = 0, 0
    for end, begin in sorted(place for phrase in phrases for place in places_of(phrase, text)):
        if -begin >= free:
            count, free = count + 1, end
    return count


def some_surfaces(draw, alphabet):
    tokens = ["".join(draw.choices(alphabet, k=draw.randint(1, 4))) for _ in range(draw.randint(4, 12))]
    return [None, *tokens, "a", "b", " ", *(BYTES if draw.random() < 0.3 else [])]


def some_phrases(draw, alphabet):
    texts = ["".join(draw.choices(alphabet.lower() + "ab", k=draw.randint(1, 4))) for _ in range(draw.randint(1, 4))]
    texts = [re.sub(" +", " ", text).strip() for text in texts]
    return [Phrase(text, draw.random() < 0.5, draw.random() < 0.3) for text in texts if text]


def reached(automaton, surfaces, token_ids):
    state = automaton.start
    for token_id in token_ids:
        state = next_state(automaton, surfaces, state, token_id)
    return state


@pytest.mark.parametrize("times", [0, 1, 2, 3])
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_every_cut_of_every_text_is_judged_as_the_text_is(alphabet, times):
    draw = random.Random(f"{alphabet}{times}")
    for _ in range(8):
        surfaces, phrases = some_surfaces(draw, alphabet), some_phrases(draw, alphabet) or [Phrase("ab")]
        index = Surfaces(surfaces)
        automaton = lift(Text(phrases, times), index)
        for _ in range(60):
            token_ids = [draw.randrange(1, len(surfaces)) for _ in range(draw.randint(0, 7))]
            state, text = reached(automaton, index, token_ids), assembled(surfaces, token_ids)
            found = most_apart(phrases, text)
            allowed = found >= times if times else not found
            assert (state != DEAD and bool(automaton.may_end[state])) == allowed, (surfaces, phrases, text)


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_missing_tokens_are_the_fewest_that_complete_a_text(alphabet):
    draw = random.Random(alphabet)
    for times in (1, 2):
        surfaces = some_surfaces(draw, alphabet)
        index = Surfaces(surfaces)
        automaton = lift(Text(some_phrases(draw, alphabet) or [Phrase("ab")], times), index)
        states, tokens = range(2, len(automaton.roots)), range(1, len(surfaces))
        moves = {state: [next_state(automaton, index, state, token) for token in tokens] for state in states}
        missing = {state: 0 for state in range(len(automaton.roots)) if automaton.may_end[state]}
        for steps in range(1, 20):
            near = [s for s in states if s not in missing and any(missing.get(to) == steps - 1 for to in moves[s])]
            missing |= dict.fromkeys(near, steps)
        for state in states:
            assert automaton.distance[state] == missing.get(state, OUT_OF_REACH)
            if 0 < automaton.distance[state] < OUT_OF_REACH:
                nearer = [token for token in automaton.advancing[state] if token >= 0]
                assert nearer
                to = [next_state(automaton, index, state, token) for token in nearer]
                assert (automaton.distance[to] < automaton.distance[state]).all()
            # No token takes a text further away than that, now or later.
            if automaton.distance[state] < OUT_OF_REACH:
                assert automaton.distance[state] <= automaton.fallback[state] < OUT_OF_REACH
                assert all(automaton.fallback[to] <= automaton.fallback[state] for to in moves[state])


@pytest.mark.parametrize("text", ["ab", "ab ", "a b", "a", "b a b "])
@pytest.mark.parametrize("alphabet", ["ab ", "aB b "])
def test_a_beginning_is_there_to_the_letter(alphabet, text):
    draw = random.Random(alphabet + text)
    # Two spaces within a token count as one; a token that begins with a space may follow one that is a space.
    surfaces = [
        each for each in some_surfaces(draw, alphabet) if not isinstance(each, int) and "  " not in (each or "")
    ]
    index = Surfaces(surfaces)
    automaton = lift(Beginning(text), index)
    for _ in range(300):
        token_ids = [draw.randrange(1, len(surfaces)) for _ in range(draw.randint(0, 6))]
        state = reached(automaton, index, token_ids)
        so_far = "".join(surfaces[token_id] or "" for token_id in token_ids).lstrip(" ")
        assert (state != DEAD) == (so_far.startswith(text) or text.startswith(so_far)), so_far
        assert (state != DEAD and bool(automaton.may_end[state])) == so_far.startswith(text), so_far


@pytest.mark.parametrize(
    ("phrase", "text", "stands"),
    [
        (Phrase("cafe"), "cafe\u0301", False),  # the accent belongs to the word
        (Phrase("cafe", whole_words=False), "cafe\u0301", True),
        (Phrase("I'm"), "(I'm)", True),
        (Phrase("not"), "notes", False),
        (Phrase("not"), "do not", True),
        (Phrase("New York", ignore_case=True), "to NEW york.", True),
        (Phrase("New York"), "to new york.", False),
        (Phrase("straße", ignore_case=True), "STRASSE", False),  # one character stands for one
        (Phrase("."), "end.", True),
        (Phrase("x_1"), "x_12", False),
    ],
)
def test_words_and_cases(phrase, text, stands):
    characters = sorted({*text, *phrase.text})
    index = Surfaces(characters)
    automaton = lift(Text([phrase]), index)
    state = reached(automaton, index, [characters.index(character) for character in text])
    assert (state == DEAD or not automaton.may_end[state]) == stands


def test_joined_automata_move_as_each_alone():
    draw = random.Random(3)
    surfaces = some_surfaces(draw, "ab ")
    index = Surfaces(surfaces)
    parts = [lift(Text([Phrase("a b")]), index), lift(Text([Phrase("ba")], 2), index), lift(Beginning("ab"), index)]
    joined, starts = join([*parts, parts[0]], len(index))
    assert starts[3] == starts[0]
    for part, start in zip(parts, starts, strict=False):
        for _ in range(100):
            token_ids = [draw.randrange(1, len(surfaces)) for _ in range(6)]
            alone, together = part.start, start
            for token_id in token_ids:
                alone = next_state(part, index, alone, token_id)
                together = next_state(joined, index, together, token_id)
                assert (alone == DEAD) == (together == DEAD)
                assert part.may_end[alone] == joined.may_end[together]
                assert part.distance[alone] == joined.distance[together]


@pytest.fixture(scope="module")
def tokenizers():
    lines = ["the house is green .", "a house , a grün tree", "héllo (there)"] * 10
    pieces = SentencePieceTokenizer.learn(
        lines, model_type="bpe", vocabulary_size=330, character_coverage=1.0, seed=1, byte_fallback=True
    )
    words = WhitespaceTokenizer.learn(lines, vocabulary_size=None, minimum_count=1)
    return [pieces, words, CharacterTokenizer.learn(lines, vocabulary_size=None, minimum_count=1)]


@pytest.mark.parametrize("kind", range(3))
def test_tokens_make_up_the_text_that_is_decoded(tokenizers, kind):
    tokenizer, draw = tokenizers[kind], np.random.default_rng(kind)
    surfaces = tokenizer.surfaces()
    for _ in range(200):
        token_ids = draw.integers(0, len(surfaces), draw.integers(0, 12)).tolist()
        text = one_each(b"".join(surfaces[token_id] for token_id in token_ids))
        assert re.sub(" +", " ", text).strip(" ") == re.sub(" +", " ", tokenizer.decode(token_ids)).strip(" ")
