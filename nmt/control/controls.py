"""What users ask of the words of a translation, made into tables for the search."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from nmt.errors import ConfigError, DataError
from nmt.text import Tokenizer
from nmt.text.lifting import DEAD, NOTHING, OUT_OF_REACH, Lifted, Surfaces, join, lift
from nmt.text.phrases import Beginning, Phrase, Text


class Control(NamedTuple):
    """What is asked of the translation of one line.

    require: phrases that must appear, as whole words; in "a | b" one of several. A phrase n times needs n places.
    avoid: phrases that must not, as whole words.
    prefix: what the translation begins with, to the letter; a space at its end begins a new word.
    """

    require: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    prefix: str = ""


NO_CONTROL = Control()


class Record(NamedTuple):
    """A line to translate, and what is asked of its translation.

    rest: what else a JSON record has, which is handed through.
    """

    source: str
    control: Control = NO_CONTROL
    rest: Mapping[str, Any] = {}


_FIELDS = {"source": str, "constraints": list, "avoid": list, "prefix": str}


def read_record(line: str, asked: Control, *, place: str) -> Record:
    """Read a JSON record: `source`, and if the line asks for more than all do, `constraints`, `avoid` and `prefix`.

    Args:
        line: one object.
        asked: what is asked of every line.
        place: what an error names.

    Raises:
        DataError: it is no such object.
    """
    try:
        given = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is no JSON: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get("source"), str):
        raise DataError(f'{place} must be an object with a text "source"')
    fields = {name: given.pop(name) for name in _FIELDS if name in given}
    for name, value in fields.items():
        texts = value if isinstance(value, list) else [value]
        if not isinstance(value, _FIELDS[name]) or not all(isinstance(text, str) for text in texts):
            raise DataError(f'{place}: "{name}" must be a {"list of texts" if _FIELDS[name] is list else "text"}')
    control = Control(
        (*asked.require, *fields.get("constraints", ())),
        (*asked.avoid, *fields.get("avoid", ())),
        fields.get("prefix", asked.prefix),
    )
    return Record(fields["source"], control, given)


class Kinds(NamedTuple):
    """Which kinds of control any line of a batch has."""

    avoid: bool = False
    prefix: bool = False
    require: bool = False


def kinds_of(asked: Sequence[Control]) -> Kinds:
    """Return what is asked at all."""
    return Kinds(
        any(control.avoid for control in asked),
        any(control.prefix for control in asked),
        any(control.require for control in asked),
    )


class Sampling(NamedTuple):
    """How translations are drawn from a model; see `nmt.search.rules.Sampled`.

    seed: of the draws, which depend on it, the line, the sample and the step alone; 0 to 2**64 - 1.
    """

    seed: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    epsilon: float = 0.0

    def check(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            ConfigError: naming the option.
        """
        for name, is_right, words in (
            ("temperature", self.temperature > 0, "above 0"),
            ("top-k", self.top_k >= 0, "0 or more"),
            ("top-p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("epsilon", 0 <= self.epsilon < 1, "0 or more and below 1"),
        ):
            if not is_right:
                raise ConfigError(f"{name} must be {words}, got {getattr(self, name.replace('-', '_'))}")

    @property
    def cutting(self) -> dict[str, float]:
        """How probabilities are changed before a draw."""
        return {name: value for name, value in self._asdict().items() if name != "seed"}


def check_controls(asked: Sequence[Control], num_lines: int, sampling: Sampling | None) -> None:
    """Refuse what cannot be asked of lines.

    Raises:
        ConfigError: there is not one control a line, the sampling means nothing, or draws shall have phrases.
    """
    if len(asked) != num_lines:
        raise ConfigError(f"there must be one control a line, got {len(asked)} for {num_lines} lines")
    if sampling is not None:
        sampling.check()
        if any(control.require for control in asked):
            raise ConfigError("phrases that must appear need a beam search: leave out either them or the sampling")


class AutomatonTables(NamedTuple):
    """The arrays of `nmt.search.automaton.Automaton` and `Goals`, and the states in which sentences begin.

    allowed: (B, 2) int32, of what must not appear and of what comes first.
    required: (B, P) int32, of phrases that must appear.
    """

    classes: np.ndarray
    roots: np.ndarray
    class_next: np.ndarray
    exceptions: np.ndarray
    next_states: np.ndarray
    may_end: np.ndarray
    class_scores: np.ndarray
    changes: np.ndarray
    change_scores: np.ndarray
    met: np.ndarray
    distance: np.ndarray
    fallback: np.ndarray
    advancing: np.ndarray
    allowed: np.ndarray
    required: np.ndarray


class Controls:
    """Makes automata of what is asked, for one target vocabulary; what was asked before is kept.

    Args:
        tokenizer: of the target.
        segmentation: how words of the text were cut before the model saw it.
        whole_words: whether phrases are words, and not part of longer ones.
        ignore_case: whether the case of phrases counts for nothing.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, segmentation: str = "none", whole_words: bool = True, ignore_case: bool = False
    ) -> None:
        self.tokenizer, self.segmentation = tokenizer, segmentation
        self.whole_words, self.ignore_case = whole_words, ignore_case
        self.avoiding = lru_cache(maxsize=64)(self._avoiding)
        self.requiring = lru_cache(maxsize=4096)(self._requiring)
        self._text = lru_cache(maxsize=4096)(self._automaton)

    @cached_property
    def surfaces(self) -> Surfaces:
        """What each token adds to the text."""
        surfaces: list[str | int | None] = []
        for each in self.tokenizer.surfaces(self.segmentation):
            try:
                surfaces.append(each.decode() if each else None)
            except UnicodeDecodeError:
                surfaces.append(each[0])
        return Surfaces(surfaces)

    def _phrase(self, text: str) -> Phrase:
        normalized = self.tokenizer.normalized(text)
        if not normalized:
            raise ConfigError(f"a phrase must have characters, got {text!r}")
        return Phrase(normalized, self.whole_words, self.ignore_case)

    def _automaton(self, phrases: tuple[str, ...], times: int) -> Text:
        return Text(map(self._phrase, phrases), times)

    def _avoiding(self, phrases: tuple[str, ...]) -> Lifted:
        return lift(self._automaton(phrases, 0), self.surfaces)

    def _requiring(self, alternatives: str, times: int) -> Lifted:
        lifted = lift(self._automaton(tuple(alternatives.split(" | ")), times), self.surfaces)
        if lifted.start > DEAD and lifted.distance[lifted.start] >= OUT_OF_REACH:
            raise ConfigError(f"{alternatives!r} cannot be spelled by the tokens of the model")
        return lifted

    def _beginning(self, text: str) -> Beginning:
        ends = " " if text.endswith(" ") and text.strip() else ""
        return Beginning(self.tokenizer.normalized(text) + ends)

    def beginning(self, text: str) -> Lifted:
        """The automaton of a prefix."""
        lifted = lift(self._beginning(text), self.surfaces)
        if lifted.start > DEAD and lifted.distance[lifted.start] >= OUT_OF_REACH:
            raise ConfigError(f"the prefix {text!r} cannot be spelled by the tokens of the model")
        return lifted

    def met(self, control: Control, text: str) -> dict[str, bool]:
        """Which phrases that must appear stand in a finished text, each as often as it was asked for."""
        return {
            phrase: _accepts(self._text(tuple(phrase.split(" | ")), times), self.tokenizer.normalized(text))
            for phrase, times in Counter(control.require).items()
        }

    def keeps(self, control: Control, text: str) -> bool:
        """Whether a finished text begins as it must and has nothing that must not appear."""
        text = self.tokenizer.normalized(text)
        begins = not control.prefix or _accepts(self._beginning(control.prefix), text)
        return begins and (not control.avoid or _accepts(self._text(control.avoid, 0), text))

    def tables(self, asked: Sequence[Control]) -> AutomatonTables:
        """Return the tables of a batch."""
        automata = list[Lifted]()

        def place(lifted: Lifted) -> int:
            automata.append(lifted)
            return len(automata) - 1

        allowed, required = list[list[int]](), list[list[int]]()
        for control in asked:
            avoid = place(self.avoiding(control.avoid)) if control.avoid else -1
            prefix = place(self.beginning(control.prefix)) if control.prefix else -1
            allowed.append([avoid, prefix])
            counts = {phrase: control.require.count(phrase) for phrase in control.require}
            required.append([place(self.requiring(phrase, times)) for phrase, times in counts.items()])
        joined, starts = join(automata, len(self.surfaces))
        width = max(1, *map(len, required))
        starts.append(NOTHING)  # of what is not asked: at place −1
        return _tables(
            joined,
            self.surfaces.classes,
            np.array(starts, np.int32)[np.array(allowed)],
            np.array(starts, np.int32)[[row + [-1] * (width - len(row)) for row in required]],
        )


def _accepts(automaton: Text | Beginning, text: str) -> bool:
    """Whether an automaton goes through a text, which ends as a word does."""
    state: Any = automaton.start
    for character in f"{text} ":
        state = automaton.step(state, character)
        if state is None:
            return False
    return automaton.may_end(state)


_NO_KEY = np.iinfo(np.int64).max


def _tables(joined: Lifted, classes: np.ndarray, allowed: np.ndarray, required: np.ndarray) -> AutomatonTables:
    num_tokens = len(classes)
    state, token_id = np.divmod(joined.keys, num_tokens)
    is_dead = joined.class_next == DEAD
    dead_next = joined.next_states == DEAD
    changed = dead_next != is_dead[state, classes[token_id]]
    # What its root says otherwise than the class, a state has to say again, or to deny.
    of_root = joined.roots[state] * num_tokens + token_id
    changed |= np.isin(of_root, joined.keys[changed & (joined.roots[state] == state)])
    return AutomatonTables(
        classes,
        joined.roots,
        joined.class_next,
        np.append(joined.keys, _NO_KEY),
        np.append(joined.next_states, np.int32(NOTHING)),
        joined.may_end,
        np.where(is_dead, -np.inf, 0.0).astype(np.float32),
        np.append(joined.keys[changed], _NO_KEY),
        np.append(np.where(dead_next[changed], -np.inf, 0.0), 0.0).astype(np.float32),
        joined.met,
        joined.distance,
        joined.fallback,
        joined.advancing,
        allowed,
        required,
    )
