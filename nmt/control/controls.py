"""What users ask of the words of a translation, made into tables for the search."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from nmt.control.lifting import DEAD, NOTHING, OUT_OF_REACH, Lifted, Surfaces, join, lift
from nmt.control.phrases import Beginning, Phrase, Text
from nmt.errors import ConfigError, DataError
from nmt.text import Tokenizer
from nmt.text.tokenizer import normalized


class Matching(NamedTuple):
    """What counts as a place of a phrase; see `Control`."""

    part_words: bool = False
    ignore_case: bool = False

    def phrase(self, text: str) -> Phrase:
        """A phrase of normalised text."""
        return Phrase(text, whole_words=not self.part_words, ignore_case=self.ignore_case)


class Control(NamedTuple):
    """What is asked of the translation of one line.

    require: phrases that must appear; in "a | b" one of several. A phrase n times needs n places.
    avoid: phrases that must not.
    prefix: what the translation begins with, to the letter; a space at its end begins a new word.
    part_words: whether phrases of `require` and `avoid` may also be parts of words, unlike those of others.
    ignore_case: whether each letter of them also stands for its upper, lower and title case.
    terms: as `require`, but always whole words with their case: those of a glossary.
    tag: the symbol that the model reads before the line, such as `<2de>`; it asks nothing of the words.
    hints: terms of the source with translations that the model reads beside them, and whether the case of the term
        counts; the model decides what it makes of them, see `nmt.control.hints`.
    """

    require: tuple[str, ...] = ()
    avoid: tuple[str, ...] = ()
    prefix: str = ""
    part_words: bool = False
    ignore_case: bool = False
    terms: tuple[str, ...] = ()
    tag: str | None = None
    hints: tuple[tuple[str, str, bool], ...] = ()

    @property
    def asks_nothing(self) -> bool:
        """Whether a translation may be what it likes."""
        return not (self.require or self.avoid or self.prefix or self.terms)

    @property
    def must_appear(self) -> bool:
        """Whether any phrase must."""
        return bool(self.require or self.terms)

    @property
    def without_phrases(self) -> Control:
        """The same without phrases that must appear."""
        return self._replace(require=(), terms=())

    @property
    def matching(self) -> Matching:
        """What counts as a place of a phrase."""
        return Matching(self.part_words, self.ignore_case)


NO_CONTROL = Control()


SOURCE = "source"
"""The field of a JSON record with the text to translate, unless another is named."""


class Record(NamedTuple):
    """A line to translate, and what is asked of its translation.

    rest: what else a JSON record has, which is handed through, or the columns of a row.
    field: the name that the source has in it.
    """

    source: str
    control: Control = NO_CONTROL
    rest: Mapping[str, Any] = {}
    field: str = SOURCE


_FIELDS = {
    "constraints": list, "avoid": list, "prefix": str, "part_words": bool, "ignore_case": bool
}  # fmt: skip
_WORDS = {str: "text", list: "list of texts", bool: "true or false"}


def read_object(line: str, place: str, field: str = SOURCE) -> dict[str, Any]:
    """Read a JSON object that has a text under a name; `place` is what an error names.

    Raises:
        DataError: it is no such object.
    """
    try:
        given = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is no JSON: {error}") from error
    if not isinstance(given, dict) or not isinstance(given.get(field), str):
        raise DataError(f'{place} must be an object with a text "{field}"')
    if _SURROGATE.search(line):
        try:
            json.dumps(given, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"{place} must be text, got one half of a surrogate pair") from error
    return given


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _refuse_constant(word: str) -> None:
    """NaN and Infinity, which Python reads, and no other reader of JSON."""
    raise ValueError(f"{word} is no number of JSON")


def tag_in(record: Mapping[str, Any], place: str, tag: str | None) -> str | None:
    """Return the tag that a JSON record names, null for none; that of all lines if it does not say.

    Raises:
        DataError: it is no text; `place` is what the error names.
    """
    found = record.get("tag", tag)
    if found is not None and not isinstance(found, str):
        raise DataError(f'{place}: "tag" must be a text')
    return found


def read_record(line: str, asked: Control, *, place: str, field: str = SOURCE) -> Record:
    """Read a JSON record: the source, and what the line asks for besides, or instead of what all do.

    `constraints`, `avoid` and `hints` are added. `prefix` and `tag` are replaced, as are `part_words` and
    `ignore_case`, which hold for all phrases of the line.

    Args:
        line: one object.
        asked: what is asked of every line.
        place: what an error names.
        field: the name of the source in it.

    Raises:
        DataError: it is no such object.
    """
    given = read_object(line, place, field)
    source = given.pop(field)
    if "require" in given:
        raise DataError(f'{place}: phrases that must appear are called "constraints" in a record, got "require"')
    tag = tag_in(given, place, asked.tag)
    given.pop("tag", None)
    hints = given.pop("hints", {})
    if not isinstance(hints, dict) or not all(isinstance(each, str) and each.strip() for each in chain(*hints.items())):
        raise DataError(f'{place}: "hints" must be an object of terms with their translations, got {hints!r:.60}')
    fields = {name: given.pop(name) for name in _FIELDS if name in given}
    for name, value in fields.items():
        texts = value if isinstance(value, list) else []
        if not isinstance(value, _FIELDS[name]) or not all(isinstance(text, str) for text in texts):
            article = "" if _FIELDS[name] is bool else "a "
            raise DataError(f'{place}: "{name}" must be {article}{_WORDS[_FIELDS[name]]}')
    control = Control(
        (*asked.require, *fields.get("constraints", ())),
        (*asked.avoid, *fields.get("avoid", ())),
        fields.get("prefix", asked.prefix),
        fields.get("part_words", asked.part_words),
        fields.get("ignore_case", asked.ignore_case),
        tag=tag,
        hints=(*((term, translation, False) for term, translation in hints.items()), *asked.hints),
    )
    return Record(source, control, given, field)


def read_row(line: str, asked: Control, *, place: str, column: int) -> Record:
    """Read a row of columns between tabs, of which one, counted from 1, is the source; no sign quotes a tab.

    Raises:
        DataError: the row is shorter; `place` is what the error names.
    """
    columns = line.split("\t")
    if column > len(columns):
        raise DataError(
            f"{place} must have a column {column}, got {len(columns)} between tabs: name another by --column"
        )
    return Record(columns[column - 1], asked, {"columns": columns})


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
        any(control.must_appear for control in asked),
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
            ("seed", 0 <= self.seed < 2**64, "0 to 2**64 - 1"),
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


def check_controls(asked: Sequence[Control], num_lines: int, sampling: Sampling | None, *, diverse_groups: int) -> None:
    """Refuse what cannot be asked of lines.

    Raises:
        ConfigError: there is not one control a line, the sampling means nothing, draws shall have phrases, or groups
            shall have phrases or be drawn.
        TypeError: phrases are one text instead of several.
    """
    for control in asked:
        for name in ("require", "avoid", "terms"):
            if isinstance(phrases := getattr(control, name), str):
                raise TypeError(f"{name} must be several phrases, got one text: give ({phrases!r},)")
    if len(asked) != num_lines:
        raise ConfigError(f"there must be one control a line, got {len(asked)} for {num_lines} lines")
    if sampling is not None:
        sampling.check()
        if any(control.must_appear for control in asked):
            raise ConfigError("phrases that must appear need a beam search: leave out either them or the sampling")
    if diverse_groups > 1 and (sampling or any(control.must_appear for control in asked)):
        raise ConfigError(
            "search.diverse_groups is for a beam without phrases that must appear, and not for samples: set it to 1"
        )


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
    """

    def __init__(self, tokenizer: Tokenizer, *, segmentation: str = "none") -> None:
        self.tokenizer, self.segmentation = tokenizer, segmentation
        self.avoiding = lru_cache(maxsize=64)(self._avoiding)
        self.requiring = lru_cache(maxsize=4096)(self._requiring)
        self.beginning = lru_cache(maxsize=4096)(self._beginning)
        # Automata over characters grow as they are used, so few are kept: those of a batch or two, whose lines are
        # looked at before the search, in it and after it.
        self._text_required = lru_cache(maxsize=256)(self._text_of_required)
        self._text_avoided = lru_cache(maxsize=128)(self._text_of_avoided)
        self._left = lru_cache(maxsize=4096)(self._without_banned)

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

    def _phrase(self, text: str, matching: Matching) -> Phrase:
        if not (phrase := self._normalized(text)):
            raise ConfigError(f"a phrase must have characters, got {text!r}")
        return matching.phrase(phrase)

    def _normalized(self, text: str) -> str:
        return normalized(self.tokenizer.normalized(text), "none")  # the tokenizer of an earlier version does nothing

    def _alternatives(self, required: str, matching: Matching) -> list[Phrase]:
        return [self._phrase(text, matching) for text in required.split(" | ")]

    def _text_of_avoided(self, phrases: tuple[str, ...], matching: Matching) -> Text:
        return Text(self._phrase(text, matching) for text in phrases)

    def _text_of_required(self, required: str, times: int, matching: Matching) -> Text:
        return Text(self._alternatives(required, matching), times)

    def _avoiding(self, phrases: tuple[str, ...], matching: Matching) -> Lifted:
        return lift(self._text_avoided(phrases, matching), self.surfaces)

    def _requiring(self, required: str, times: int, matching: Matching) -> Lifted:
        lifted = lift(self._text_required(required, times, matching), self.surfaces)
        if lifted.start > DEAD and lifted.distance[lifted.start] >= OUT_OF_REACH:
            raise ConfigError(f"{required!r} cannot be spelled by the tokens of the model")
        return lifted

    def check(self, asked: Control) -> None:
        """Refuse what no translation can be, before anything is searched.

        Raises:
            ConfigError: a phrase has no characters, the tokens cannot spell what must be there, or a phrase that must
                not appear stands in another that must, in each of its alternatives, or in the prefix.
        """
        if asked.prefix:
            self.beginning(asked.prefix)
        for each in self._wanted(asked):
            self.requiring(*each)
        if asked.avoid:
            self._check_avoided(asked)

    def _without_banned(
        self, required: str, matching: Matching, avoid: tuple[str, ...], avoid_matching: Matching
    ) -> str:
        """The alternatives of a phrase that what must not appear leaves."""
        avoided = self._text_avoided(avoid, avoid_matching)
        texts = required.split(" | ")
        left = [text for text in texts if avoided.lets_in(self._phrase(text, matching))]
        if not left:
            phrase = self._phrase(texts[0], matching)
            banned = next(text for text in avoid if not self._text_of_avoided((text,), avoid_matching).lets_in(phrase))
            raise ConfigError(
                f"{required!r} must appear, but {banned!r}, which stands in it, must not: leave out one of the two"
            )
        return " | ".join(left)

    def _wanted(self, asked: Control) -> list[tuple[str, int, Matching]]:
        """What must appear, how often, and what counts as a place of it, without what is banned."""
        own, terms = Counter(asked.require), Counter(asked.terms)
        wanted = [
            *((required, times, asked.matching) for required, times in own.items()),
            *((required, times, Matching()) for required, times in terms.items()),
        ]
        if not asked.avoid:
            return wanted
        return [
            (self._left(required, matching, asked.avoid, asked.matching), times, matching)
            for required, times, matching in wanted
        ]

    def _check_avoided(self, asked: Control) -> None:
        for phrase in asked.avoid:
            if " | " in phrase:
                raise ConfigError(f"what must not appear has no alternatives, got {phrase!r}: give each by itself")
        text = self._prefix(asked.prefix)
        if not self._text_avoided(asked.avoid, asked.matching).lets_begin(text):
            banned = next(
                each for each in asked.avoid if not self._text_of_avoided((each,), asked.matching).lets_begin(text)
            )
            raise ConfigError(
                f"the prefix {asked.prefix!r} has {banned!r}, which must not appear: leave out one of them"
            )

    def _prefix(self, text: str) -> str:
        return self._normalized(text) + (" " if text.endswith(" ") and text.strip() else "")

    def _beginning(self, text: str) -> Lifted:
        """The automaton of a prefix."""
        lifted = lift(Beginning(self._prefix(text)), self.surfaces)
        if lifted.start > DEAD and lifted.distance[lifted.start] >= OUT_OF_REACH:
            raise ConfigError(f"the prefix {text!r} cannot be spelled by the tokens of the model")
        return lifted

    def met(self, asked: Control, text: str) -> dict[str, bool]:
        """Which phrases that must appear stand in a finished text, as the search sees it, each as often as asked."""
        phrases = [*dict.fromkeys(asked.require), *dict.fromkeys(asked.terms)]
        if not phrases:
            return {}
        wanted, text, met = self._wanted(asked), self._normalized(text), dict.fromkeys(phrases, True)
        for phrase, each in zip(phrases, wanted, strict=True):  # one may be both required and a term
            met[phrase] &= self._text_required(*each).holds_in(text)
        return met

    def keeps(self, asked: Control, text: str) -> bool:
        """Whether a finished text begins as it must and has nothing that must not appear."""
        if not (asked.prefix or asked.avoid):
            return True
        text = self._normalized(text)
        begins = f"{text} ".startswith(self._prefix(asked.prefix))
        return begins and (not asked.avoid or self._text_avoided(asked.avoid, asked.matching).holds_in(text))

    def needs(self, asked: Control) -> set[int]:
        """The tokens that a beginning may be made of, and those that bring phrases that must appear nearer."""
        found = [self.requiring(*each).advancing for each in self._wanted(asked)]
        if asked.prefix:
            beginning = self.beginning(asked.prefix)
            found.append(beginning.keys[beginning.next_states != DEAD] % len(self.surfaces))
        return {token_id for each in found for token_id in each.ravel().tolist() if token_id >= 0}

    def tables(self, asked: Sequence[Control]) -> AutomatonTables:
        """Return the tables of a batch."""
        automata = list[Lifted]()

        def place(lifted: Lifted) -> int:
            automata.append(lifted)
            return len(automata) - 1

        allowed, required = list[list[int]](), list[list[int]]()
        for control in asked:
            avoid = place(self.avoiding(control.avoid, control.matching)) if control.avoid else -1
            prefix = place(self.beginning(control.prefix)) if control.prefix else -1
            allowed.append([avoid, prefix])
            required.append([place(self.requiring(*each)) for each in self._wanted(control)])
        joined, starts = join(automata, len(self.surfaces))
        width = max(1, *map(len, required))
        starts.append(NOTHING)  # of what is not asked: at place −1
        return _tables(
            joined,
            self.surfaces.classes,
            np.array(starts, np.int32)[np.array(allowed)],
            np.array(starts, np.int32)[[row + [-1] * (width - len(row)) for row in required]],
        )


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
        joined.distance,
        joined.fallback,
        joined.advancing,
        allowed,
        required,
    )
