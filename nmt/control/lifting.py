"""Automata over characters lifted to the tokens of a vocabulary (Koo et al. 2024, arXiv:2407.08103).

From most states a token leads where it leads from a state that has begun nothing, and from there mostly by the kinds of
its ends alone: what differs is a list, found by walks through a tree of the vocabulary that end where nothing differs.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from nmt.control.phrases import Beginning, Text, is_word, kind

NOTHING, DEAD = 0, 1
"""The state of every automaton that asks for nothing more, and the one from which no text is allowed."""

OUT_OF_REACH = 1 << 20
"""More tokens than any phrase misses: there are none that complete it."""

_SPACES = re.compile(" {2,}")

_UNFINISHED = "\ufffd"
"""What bytes become that do not make up a character."""


NUM_CLASSES = 10

_OF_EACH_KIND = " .a"
"""A character of each kind; see `nmt.control.phrases`."""


class Surfaces:
    """What each token of a vocabulary adds to the text, and a tree of it.

    Args:
        surfaces: by token id: text, a single byte of a character that is spelled by bytes, or None for a token that is
            not written.

    Attributes:
        classes: (V,) int32: by which a token changes a state if no phrase begins in it: the kinds of both its ends.
        present: the classes of tokens that are written.
        children: of each node of the tree, 0 at the root, where each character leads; nodes come after their parents.
        ends: of each node, the tokens whose text ends there.
        node_classes: of each node, as `classes` for the text up to it.
    """

    def __init__(self, surfaces: Sequence[str | int | None]) -> None:
        self.surfaces = [_SPACES.sub(" ", each) if isinstance(each, str) else each for each in surfaces]
        self.bytes = {token_id: each for token_id, each in enumerate(surfaces) if isinstance(each, int)}
        self.classes = np.array([_token_class(each) for each in self.surfaces], np.int32)
        self.present = np.unique(self.classes[[each is not None for each in surfaces]])
        self.children: list[dict[str, int]] = [{}]
        self.ends: list[list[int]] = [[]]
        self.node_classes = [NUM_CLASSES - 1]
        # The edges of the tree by character, as (parent, child): all, and those at which a word may begin.
        self._edges, self._at_words = defaultdict[str, list[_Edge]](list), defaultdict[str, list[_Edge]](list)
        for token_id, each in enumerate(self.surfaces):
            if isinstance(each, str):
                self._add(token_id, each)

    def _add(self, token_id: int, text: str) -> None:
        node = 0
        for place, character in enumerate(text):
            if character not in self.children[node]:
                following = self.children[node][character] = len(self.children)
                self._edges[character].append((node, following))
                if node == 0 or not is_word(text[place - 1]):
                    self._at_words[character].append((node, following))
                self.children.append({})
                self.ends.append([])
                self.node_classes.append(_token_class(text[: place + 1]))
            node = self.children[node][character]
        if text:
            self.ends[node].append(token_id)

    def __len__(self) -> int:
        """V."""
        return len(self.surfaces)

    def edges(self, anywhere: Iterable[str], at_words: Iterable[str]) -> list[tuple[int, int, str]]:
        """The edges with some characters, with others where a word may begin, as (child, parent, character), rising."""
        found = {(*edge[::-1], each) for each in anywhere for edge in self._edges.get(each, ())}
        return sorted(found | {(*edge[::-1], each) for each in at_words for edge in self._at_words.get(each, ())})


_Edge: TypeAlias = tuple[int, int]


def _token_class(surface: str | int | None) -> int:
    return 3 * kind(surface[0]) + kind(surface[-1]) if isinstance(surface, str) and surface else NUM_CLASSES - 1


class Lifted(NamedTuple):
    """An automaton over tokens with S states; `NOTHING` and `DEAD` are two of them.

    start: the state of an empty text.
    roots: (S,) int32: the state that has begun nothing, whose moves are those of a state unless it has an exception.
    class_next: (S, C) int32: of a root, the next state by the class of the token, unless it has an exception itself.
    keys: (E,) int64, rising: state * V + token of the exceptions.
    next_states: (E,) int32: where they lead.
    may_end: (S,) bool: whether the text may end.
    distance: (S,) int32: tokens that are missing at least until it may end; `OUT_OF_REACH` if no tokens do it.
    fallback: (S,) int32: the same after a token that brings nothing nearer.
    advancing: (S, M) int32: of phrases that must appear, tokens after which fewer are missing, −1 for none.
    """

    start: int
    roots: np.ndarray
    class_next: np.ndarray
    keys: np.ndarray
    next_states: np.ndarray
    may_end: np.ndarray
    distance: np.ndarray
    fallback: np.ndarray
    advancing: np.ndarray


_Place: TypeAlias = tuple[Any, bytes]
"""A state of an automaton over characters, and the bytes of a character that has not ended."""


_Step: TypeAlias = Callable[[Any, str], Any]


def _no_step(state: Any, character: str) -> None:
    """Allow nothing."""


class _Lifting:
    """The states of an automaton over tokens, made as they are reached, and their moves."""

    def __init__(self, text: Text | Beginning, surfaces: Surfaces) -> None:
        self.text, self.surfaces = text, surfaces
        self.places: list[_Place] = [(None, b"")] * 2
        self.roots, self.class_next = [NOTHING, DEAD], [[NOTHING] * NUM_CLASSES, [DEAD] * NUM_CLASSES]
        self.exceptions: list[dict[int, int]] = [{}, {}]
        self._ids, self._alike = dict[_Place, int](), dict[bytes, bytes]()
        spelled = (character.encode() for character in text.characters())
        self._begins_character = {code[:size] for code in spelled for size in range(1, len(code))}
        self._by_class: list[Any] = []
        self.start = self._id((text.start, b""))
        for state in itertools.count(2):
            if state == len(self.places):
                break
            self._expand(state)

    def _id(self, place: _Place | None) -> int:
        """The number of a place, which becomes a state if it is none yet."""
        if place is None:
            return DEAD
        if self.text.is_over(place[0]):
            return NOTHING
        if place not in self._ids:
            self._ids[place] = len(self.places)
            self.places.append(place)
            self.roots.append(-1)
            self.class_next.append([])
            self.exceptions.append({})
        return self._ids[place]

    def _id_of(self, state: Any) -> int:
        """The number of a state at the end of a character."""
        return DEAD if state is None else self._id((state, b""))

    def _expand(self, state: int) -> None:
        """Find the moves of a state, unless they are known."""
        if self.class_next[state]:
            return
        place = self.places[state]
        text_state, unfinished = place
        begun_nothing = self.text.nothing_begun(text_state)
        # By all but the bytes that go on with a character it moves as if that had been none.
        self.roots[state] = root = self._id(self._read(place, "") if unfinished else (begun_nothing, b""))
        if root == state:
            self.class_next[state] = self._next_by_class(text_state)
        else:
            self._expand(root)
            self.class_next[state] = self.class_next[root]
        if root == state:
            moves = self._moves_of_root(text_state)
        else:
            moves = {} if unfinished else self._differences([(0, text_state, begun_nothing)], self.text.step)
        self.exceptions[state] = {token_id: self._id_of(to) for token_id, to in moves.items()}
        for token_id, byte in self.surfaces.bytes.items():
            if not unfinished or byte in _CONTINUATION_BYTES:
                to = self._id(self._read_byte(place, byte))
                if to != self.move(root, token_id):
                    self.exceptions[state][token_id] = to

    def _next_by_class(self, state: Any) -> list[int]:
        """Where a state that has begun nothing is led by a token of each class in which nothing begins."""
        after_two: list[Any] = [None] * (NUM_CLASSES - 1)
        if isinstance(self.text, Text):
            plain = self.text.plain
            after_one = [plain.step(state, first) for first in _OF_EACH_KIND]
            after_two = [each and plain.step(each, last) for each in after_one for last in _OF_EACH_KIND]
        self._by_class = [*after_two, state]
        return [self._id_of(each) for each in self._by_class]

    def _moves_of_root(self, state: Any) -> dict[int, Any]:
        """The tokens that lead a state that has begun nothing elsewhere than their classes do, and where."""
        text = self.text
        if isinstance(text, Beginning):
            return self._differences([(0, state, None)], _no_step)
        moves, entered = dict[int, Any](), set[int]()
        for node, parent, character in self.surfaces.edges(text.anywhere.children, text.at_words.children):
            before = self._by_class[self.surfaces.node_classes[parent]]
            if node not in entered and before is not None:
                own, plain = text.step(before, character), text.plain.step(before, character)
                if own != plain:
                    moves |= self._differences([(node, own, plain)], text.plain.step, entered)
        return moves

    def _differences(
        self, open_nodes: list[tuple[int, Any, Any]], other_step: _Step, entered: set[int] | None = None
    ) -> dict[int, Any]:
        """Walk the tree with two automata at once, as long as they are in different states.

        Args:
            open_nodes: a node, and the states of both there.
            other_step: of the second; the first is that of the phrases.
            entered: is told the nodes where they differ.

        Returns:
            The tokens at whose end they differ, and the state of the first there.
        """
        found, entered = dict[int, Any](), set() if entered is None else entered
        while open_nodes:
            node, own, other = open_nodes.pop()
            entered.add(node)
            found.update(dict.fromkeys(self.surfaces.ends[node], own))
            children = self.surfaces.children[node]
            for character in self.text.telling(own, other, children):
                own_next = None if own is None else self.text.step(own, character)
                other_next = None if other is None else other_step(other, character)
                if own_next != other_next:
                    open_nodes.append((children[character], own_next, other_next))
        return found

    def _read(self, place: _Place, text: Any) -> _Place | None:
        """Go on by text; bytes that are no character without it become as many signs of that."""
        state, unfinished = place
        for character in _UNFINISHED * len(unfinished) + text:
            state = self.text.step(state, character)
            if state is None:
                return None
        return state, b""

    def _read_byte(self, place: _Place, byte: int) -> _Place | None:
        """Go on by a byte."""
        state, unfinished = place
        unfinished += bytes([byte])
        try:
            return self._read((state, b""), unfinished.decode().translate(_LINE_ENDS))
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data":
                if unfinished in self._begins_character:
                    return state, unfinished
                return self.text.nothing_begun(state), self._like(unfinished)
        after = self._read(place, "")
        if len(unfinished) == 1 or after is None:
            return None if after is None else self._read(after, _UNFINISHED)
        return self._read_byte(after, byte)

    def _like(self, beginning: bytes) -> bytes:
        """The first beginning of a character that lacks as many bytes and leaves as much open: one stands for all."""
        if beginning not in self._alike:
            kinds, lacks = _kinds_by_beginning(), _length(beginning) - len(beginning)
            alike = (
                each
                for each, kind in kinds.items()
                if kind == kinds[beginning]
                and _length(each) - len(each) == lacks
                and each not in self._begins_character
            )
            self._alike[beginning] = beginning if kinds[beginning] == _BOTH else next(alike)
        return self._alike[beginning]

    def move(self, state: int, token_id: int) -> int:
        """Where a token leads."""
        for each in (state, self.roots[state]):
            if token_id in self.exceptions[each]:
                return self.exceptions[each][token_id]
        return self.class_next[state][self.surfaces.classes[token_id]]


_BOTH = 3
"""Some of the characters are parts of words and some are not; see `_kinds_by_beginning`."""

_CONTINUATION_BYTES = range(0x80, 0xC0)
_LINE_ENDS = str.maketrans("\n\r\0", "   ")


@cache
def _kinds_by_beginning() -> dict[bytes, int]:
    """The kinds of the characters that begin with some bytes, as bits, for all that are no whole character."""
    kinds: dict[bytes, int] = defaultdict(int)
    for code in (*range(0x80, 0xD800), *range(0xE000, sys.maxunicode + 1)):
        character = chr(code)
        spelled, kind = character.encode(), 1 << is_word(character)
        for size in range(1, len(spelled)):
            kinds[spelled[:size]] |= kind
    return kinds


def _length(beginning: bytes) -> int:
    """Bytes of a character, from its first one."""
    return 2 if beginning[0] < 0xE0 else 3 if beginning[0] < 0xF0 else 4


def lift(text: Text | Beginning, surfaces: Surfaces) -> Lifted:
    """Make an automaton over tokens of one over characters."""
    lifting = _Lifting(text, surfaces)
    num_states, num_tokens = len(lifting.places), len(surfaces)
    moves = [(state, token_id, to) for state, own in enumerate(lifting.exceptions) for token_id, to in own.items()]
    state, token_id, to = np.array(sorted(moves), np.int64).reshape(-1, 3).T
    may_end, left = np.ones(num_states, bool), np.zeros(num_states, np.int32)
    may_end[DEAD] = False
    for number, (place, unfinished) in enumerate(lifting.places[2:], start=2):
        ended: Any = text.step(place, _UNFINISHED) if unfinished else place
        may_end[number] = ended is not None and text.may_end(ended)
        left[number] = text.times - place.met if isinstance(text, Text) else 0
    roots, class_next = np.array(lifting.roots, np.int32), np.array(lifting.class_next, np.int32)
    distance = _distances(may_end, roots, class_next[:, surfaces.present], state, to)
    # The furthest that a text with as many phrases can be.
    within_reach = np.where(distance < OUT_OF_REACH, distance, 0)
    furthest = np.zeros(text.times + 1, np.int32)
    np.maximum.at(furthest, left, within_reach)
    return Lifted(
        lifting.start,
        roots,
        class_next,
        state * num_tokens + token_id,
        to.astype(np.int32),
        may_end,
        distance,
        np.maximum(furthest[left], distance),
        _advancing(lifting, distance)
        if text.times and isinstance(text, Text)
        else np.full((num_states, 1), -1, np.int32),
    )


def _distances(
    may_end: np.ndarray, roots: np.ndarray, class_next: np.ndarray, state: np.ndarray, to: np.ndarray
) -> np.ndarray:
    """Tokens that each state misses at least until the text may end, (S,) int32, by moves of its own and its root's."""
    distance = np.where(may_end, 0, OUT_OF_REACH).astype(np.int32)
    while True:
        nearest = np.full(len(distance), OUT_OF_REACH, np.int32)
        np.minimum.at(nearest, state, distance[to])
        nearest = np.minimum(nearest, nearest[roots])
        nearest = np.minimum(nearest, distance[class_next].min(axis=1))
        closer = np.minimum(distance, nearest + 1)
        if np.array_equal(closer, distance):
            return distance
        distance = closer


_MOST_ADVANCING = 8
"""Tokens that bring a state nearer which are kept."""


def _advancing(lifting: _Lifting, distance: np.ndarray) -> np.ndarray:
    """The tokens after which a state misses fewer, (S, M) int32, −1 for none."""
    lists: list[list[int]] = [[]] * len(distance)
    classes = lifting.surfaces.classes
    for state in np.flatnonzero((distance > 0) & (distance < OUT_OF_REACH)).tolist():
        tokens = {**lifting.exceptions[lifting.roots[state]], **lifting.exceptions[state]}
        nearer = [token_id for token_id, to in tokens.items() if distance[to] < distance[state]]
        if not nearer:  # a space, or whatever ends a word
            closer = [each for each, to in enumerate(lifting.class_next[state]) if distance[to] < distance[state]]
            nearer = [int(each) for each in np.flatnonzero(np.isin(classes, closer)) if each not in tokens]
        lists[state] = sorted(nearer)[:_MOST_ADVANCING]
    width = max(map(len, lists), default=0) or 1
    return np.array([tokens + [-1] * (width - len(tokens)) for tokens in lists], np.int32)


def join(automata: Sequence[Lifted], num_tokens: int) -> tuple[Lifted, list[int]]:
    """Put automata side by side; `NOTHING` and `DEAD` are those of all.

    Returns:
        All of them, and the start of each. One that is given several times is there once.
    """
    distinct = {id(each): each for each in automata}
    offsets, size = dict[int, int](), 2
    for key, each in distinct.items():
        offsets[key], size = size - 2, size + len(each.roots) - 2
    width = max([1, *(each.advancing.shape[1] for each in distinct.values())])

    def shifted(states: np.ndarray, offset: int) -> np.ndarray:
        return np.where(states < 2, states, states + offset).astype(np.int32)

    def stacked(name: str, first: Any) -> np.ndarray:
        parts = [getattr(each, name)[2:] for each in distinct.values()]
        return np.concatenate([np.asarray(first, parts[0].dtype if parts else np.int32), *parts])

    both = [(each, offsets[key]) for key, each in distinct.items()]
    reserved = [[NOTHING] * NUM_CLASSES, [DEAD] * NUM_CLASSES]
    joined = Lifted(
        NOTHING,
        np.concatenate([[NOTHING, DEAD], *(shifted(each.roots[2:], by) for each, by in both)]).astype(np.int32),
        np.concatenate([reserved, *(shifted(each.class_next[2:], by) for each, by in both)]).astype(np.int32),
        np.concatenate([np.zeros(0, np.int64), *(each.keys + by * num_tokens for each, by in both)]),
        np.concatenate([np.zeros(0, np.int32), *(shifted(each.next_states, by) for each, by in both)]),
        stacked("may_end", [True, False]).astype(bool),
        stacked("distance", [0, OUT_OF_REACH]),
        stacked("fallback", [0, OUT_OF_REACH]),
        np.concatenate(
            [np.full((2, width), -1)]
            + [
                np.pad(e.advancing[2:], ((0, 0), (0, width - e.advancing.shape[1])), constant_values=-1)
                for e, _ in both
            ]
        ).astype(np.int32),
    )
    return joined, [int(shifted(np.array(each.start), offsets[id(each)])) for each in automata]


def next_state(automaton: Lifted, surfaces: Surfaces, state: int, token_id: int) -> int:
    """Move by a token."""
    for each in (state, int(automaton.roots[state])):
        key = each * len(surfaces) + token_id
        place = int(np.searchsorted(automaton.keys, key))
        if place < len(automaton.keys) and automaton.keys[place] == key:
            return int(automaton.next_states[place])
    return int(automaton.class_next[state, surfaces.classes[token_id]])
