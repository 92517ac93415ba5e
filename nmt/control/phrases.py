"""Phrases that a translation must or must not have, or begins with, as automata over characters.

What counts is the text that comes out, however it is cut into tokens; in it runs of spaces count as one, and the line
begins and ends with one. The automata are of the kind of Aho and Corasick (1975), with states made when they are met.
`nmt.control.lifting` makes them automata over tokens.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import cache, cached_property
from typing import NamedTuple


class Phrase(NamedTuple):
    """A piece of text.

    text: as it stands in normalised text.
    whole_words: whether it begins and ends with a word: no letter, digit, mark or underscore follows one of these.
    ignore_case: whether each of its characters also stands for its upper, lower and title case.
    """

    text: str
    whole_words: bool = True
    ignore_case: bool = False


@cache
def is_word(character: str) -> bool:
    """Whether a character is part of a word. Marks are: an accent belongs to the letter before it."""
    return character == "_" or unicodedata.category(character)[0] in "LNM"


UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Characters of scripts without spaces between words, as a regular expression has them in brackets."""

_IS_UNSPACED = re.compile(f"[{UNSPACED}]")


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script without spaces between words."""
    return bool(_IS_UNSPACED.match(character))


def kind(character: str) -> int:
    """0 for a space, 1 for another character that belongs to no word, 2 for one of a word."""
    return 0 if character == " " else 1 + is_word(character)


def folded(text: str) -> str:
    """The text without case, character by character: what matches whatever its case is equal."""
    folded = (character.upper().lower() for character in text)
    return "".join(new if len(new) == 1 else old for old, new in zip(text, folded, strict=True))


def _cases(character: str, ignore_case: bool) -> frozenset[str]:
    changed = (character, character.lower(), character.upper(), character.title()) if ignore_case else (character,)
    return frozenset(case for case in changed if len(case) == 1)


class _Node:
    """A place in the phrases of an automaton.

    children: by which characters one gets further.
    ends: whether a phrase ends here, whatever follows.
    ends_word: whether one ends here if no word goes on.
    """

    def __init__(self) -> None:
        self.children: dict[str, list[_Node]] = {}
        self.ends = self.ends_word = False

    def add(self, phrase: Phrase) -> None:
        """Add a phrase from here on."""
        node, text = self, phrase.text
        for character in text:
            following = _Node()
            for case in _cases(character, phrase.ignore_case):
                node.children.setdefault(case, []).append(following)
            node = following
        node.ends_word = phrase.whole_words and is_word(text[-1])
        node.ends = not node.ends_word


class _State(NamedTuple):
    """Where a text stands.

    met: whole phrases so far.
    before: the kind of the last character.
    waits: whether a phrase stands there if no word goes on.
    begun: the places that were reached in phrases.
    """

    met: int = 0
    before: int = 0
    waits: bool = False
    begun: frozenset[_Node] = frozenset()


class Text:
    """An automaton over characters: what must not, or must, stand in a text.

    Args:
        phrases: any of them.
        times: how often one of them must stand there, at places that share no character; 0: none of them must.
    """

    def __init__(self, phrases: Iterable[Phrase], times: int = 0) -> None:
        self.times = times
        self.anywhere, self.at_words = _Node(), _Node()
        for phrase in phrases:
            starts_word = phrase.whole_words and is_word(phrase.text[0])
            (self.at_words if starts_word else self.anywhere).add(phrase)
        self.start = _State()
        self._steps: dict[tuple[_State, str], _State | None] = {}

    def step(self, state: _State, character: str) -> _State | None:
        """Go on by a character; None if that is not allowed."""
        key = (state, character)
        if key not in self._steps:
            self._steps[key] = self._step(state, character)
        return self._steps[key]

    def _step(self, state: _State, character: str) -> _State | None:
        if (character == " " and state.before == 0) or (self.times and state.met == self.times):
            return state
        own_kind = kind(character)
        met, begun = state.met, state.begun
        if state.waits and own_kind < 2:
            if not self.times:
                return None
            met, begun = met + 1, frozenset()
        reached = [node for place in begun for node in place.children.get(character, ())]
        reached += self.anywhere.children.get(character, ())
        if state.before < 2:
            reached += self.at_words.children.get(character, ())
        if any(node.ends for node in reached):
            if not self.times:
                return None
            met, reached = min(met + 1, self.times), []
        if self.times and met == self.times:
            return _State(met)
        waits = any(node.ends_word for node in reached)
        return _State(met, own_kind, waits, frozenset(node for node in reached if node.children))

    def may_end(self, state: _State) -> bool:
        """Whether a text may end there; its end is the end of a word."""
        return not state.waits if not self.times else state.met + state.waits >= self.times

    def read(self, text: str, state: _State | None) -> _State | None:
        """Go on by a text."""
        for character in text:
            state = state and self.step(state, character)
        return state

    def holds_in(self, text: str) -> bool:
        """Whether a whole text is as asked."""
        state = self.read(text, self.start)
        return state is not None and self.may_end(state)

    def lets_begin(self, text: str) -> bool:
        """Whether a text may begin so; its end may be within a word."""
        return self.read(text, self.start) is not None

    def lets_in(self, phrase: Phrase) -> bool:
        """Whether a phrase, in one of its cases, may stand in a text somewhere."""
        within_word = not (phrase.whole_words and is_word(phrase.text[0]))
        reached = {self.start._replace(before=2 if within_word else 0)}
        for character in phrase.text:
            moved = (self.step(state, case) for state in reached for case in _cases(character, phrase.ignore_case))
            reached = {state for state in moved if state is not None}
        ends_word = phrase.whole_words and is_word(phrase.text[-1])
        return any(not (ends_word and state.waits) for state in reached)

    def nothing_begun(self, state: _State) -> _State:
        """The same without what was begun."""
        return state._replace(begun=frozenset())

    def is_over(self, state: _State) -> bool:
        """Whether nothing is asked any more."""
        return bool(self.times) and state.met == self.times

    @cached_property
    def plain(self) -> Text:
        """The same without phrases: how a text moves in which none begins."""
        return Text((), self.times)

    def telling(self, one: _State | None, other: _State | None, characters: Collection[str]) -> Collection[str]:
        """Which of the characters two states have to read to tell whether they stay apart."""
        if one is None or other is None or one[:3] != other[:3]:
            return characters
        found = {each for node in one.begun | other.begun for each in node.children if each in characters}
        return found | {" "} if one.before == 0 and " " in characters else found

    def characters(self) -> Iterable[str]:
        """The characters that it tells apart."""
        nodes = {self.anywhere, self.at_words}
        while nodes:
            yield from itertools.chain.from_iterable(node.children for node in nodes)
            nodes = {child for node in nodes for children in node.children.values() for child in children}


class Beginning:
    """An automaton over characters: a text that must come first, to the letter; a state is how much of it has come."""

    times = 1

    def __init__(self, text: str) -> None:
        self.text, self.start = text, 0

    def step(self, state: int, character: str) -> int | None:
        """Go on by a character; None if that is another than the next one."""
        if state == len(self.text) or (character == " " and state == 0):  # a first token begins with a space
            return state
        return state + 1 if self.text[state] == character else None

    def may_end(self, state: int) -> bool:
        """Whether all of it has come."""
        return state == len(self.text)

    is_over = may_end

    def nothing_begun(self, state: int) -> int:
        """Return the state: each has moves of its own."""
        return state

    def telling(self, one: int | None, other: int | None, characters: Collection[str]) -> Collection[str]:
        """Return all characters: each state has few."""
        return characters

    def characters(self) -> Iterable[str]:
        """The characters that it tells apart."""
        return self.text
