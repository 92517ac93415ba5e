"""A synchronous grammar: rules that write a Spanish and an English sentence at once.

The rules are plain text (`rules/*.txt`). A section begins with ``= NAME kind`` and goes on until the next:

``nouns``
    ``maleta f || suitcase``: Spanish singular, gender (``mp``, ``fp``: used in the plural only), English singular
    (``(p)``: plural in English). Irregular plurals follow a slash: ``jersey/jerséis m || jumper``.
``phrases``
    ``Spanish || English``, either side with slots; gender and number are those of the first noun in it.
``sentences OPENING``
    The same, for whole sentences. Each may be opened by a phrase of the category named (``-`` for none).

A slot names a category in capitals. Two slots of the same name in one rule are the same phrase; a digit makes
another one, always different from the first. The forms of a slot:

========================  ==============================================================================
``[BAG]``                 the phrase: a noun in the singular, ``[BAG*]`` in the plural, ``[BAG~]`` in either
``[el BAG]``              after a determiner that agrees with it (English: ``[a BAG]``, ``[this BAG]``)
``[roto/BAG]``            a word that agrees with it (English: ``[it/BAG]``)
``[COLOUR/BAG]``          a phrase of another category that agrees with it
``[está+BAG]``            a verb in its number (English: ``[is+BAG]``)
========================  ==============================================================================

``*3`` before a rule makes it three times as likely among the rules of its section.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import NamedTuple, TypeVar

import morphology
from quantities import computed_categories

NAME = r"[A-Z][A-Z_]*"
SLOT = re.compile(rf"\[(?:([^\[\]]+?)([ /+]))?({NAME}[*~]?\d?)\]")
NOUN = re.compile(r"(?P<source>[^/]+?)(/(?P<plural>.+?))? (?P<gender>[mf])(?P<only>p?)")
TARGET_NOUN = re.compile(r"(?P<target>[^/]+?)(/(?P<plural>.+?))?(?P<only> \(p\))?")
SUPERFLUOUS = re.compile(r"^\s+|\s(?=[\s,.?!:;]|$)")
MAXIMUM_REDRAWS = 100
Option = TypeVar("Option")


class Label(NamedTuple):
    """Where a character comes from: which use of a rule or noun, and before which slot it stood there, if it did."""

    use: int
    slot: str = ""


class Phrase(NamedTuple):
    """A Spanish text and its English translation, with what other words must agree with.

    `source_labels` and `target_labels` have a label for each character.
    """

    source: str
    target: str
    gender: str = ""
    plural: bool = False
    target_plural: bool = False
    entry: str = ""
    """Of a noun, its singular: what tells that two phrases are the same word."""
    source_labels: tuple[Label, ...] = ()
    target_labels: tuple[Label, ...] = ()


class Slot(NamedTuple):
    """A place in a rule that a phrase fills: the word before it, how the two are joined, the variable."""

    word: str
    joint: str
    variable: str


@dataclass(frozen=True)
class Rule:
    """Two sides, each a sequence of texts and slots; `text` is the rule as written, for messages."""

    source: tuple[str | Slot, ...]
    target: tuple[str | Slot, ...]
    text: str
    weight: int = 1

    @property
    def variables(self) -> list[str]:
        """The variables of the Spanish side in order, each once."""
        return list(dict.fromkeys(_variables(self.source)))


@dataclass
class Grammar:
    """Categories of phrases (rules or nouns) and the sentence rules, with random expansion."""

    nouns: dict[str, list[tuple[Phrase, Phrase]]] = field(default_factory=dict)
    phrases: dict[str, list[Rule]] = field(default_factory=dict)
    sentences: list[Rule] = field(default_factory=list)
    _sizes: dict[str, int] = field(default_factory=dict)
    _uses: Iterator[int] = field(default_factory=itertools.count)

    def expand(self, rule: Rule, *, generator: random.Random) -> Phrase:
        """Draw a phrase for every slot of `rule` and write both sides."""
        drawn: dict[str, Phrase] = {}
        for variable in rule.variables:
            drawn[variable] = self._draw(variable, drawn, generator)
        head = next((phrase for phrase in drawn.values() if phrase.gender), Phrase("", ""))
        use = next(self._uses)
        source, source_labels = _tidy(_fill(segment, drawn, use, _source_pieces) for segment in rule.source)
        target, target_labels = _tidy(_fill(segment, drawn, use, _target_pieces) for segment in rule.target)
        return head._replace(
            source=source, target=target, entry="", source_labels=source_labels, target_labels=target_labels
        )

    def _draw(self, variable: str, drawn: dict[str, Phrase], generator: random.Random) -> Phrase:
        category = _category(variable)
        taken = {phrase.entry or phrase.source for other, phrase in drawn.items() if _category(other) == category}
        for _ in range(MAXIMUM_REDRAWS):
            phrase = self._phrase(category, variable, generator)
            if (phrase.entry or phrase.source) not in taken:
                return phrase
        raise ValueError(f"category {category} has too few phrases to draw a different one for [{variable}]")

    def _phrase(self, category: str, variable: str, generator: random.Random) -> Phrase:
        if category in self.nouns:
            singular, plural = pick(self.nouns[category], generator=generator)
            wants_plural = "*" in variable or ("~" in variable and generator.random() < 0.5)
            noun, label = plural if wants_plural else singular, Label(next(self._uses))
            return noun._replace(source_labels=(label,) * len(noun.source), target_labels=(label,) * len(noun.target))
        rules = self.phrases[category]
        return self.expand(pick(rules, [rule.weight for rule in rules], generator=generator), generator=generator)

    def derivations(self, rule: Rule) -> int:
        """Count the ways to expand `rule` (an upper bound of the different sentences it gives)."""
        return prod(self._size(_category(variable)) * (2 if "~" in variable else 1) for variable in rule.variables)

    def _size(self, category: str) -> int:
        if category in self.nouns:
            return len(self.nouns[category])
        if category not in self._sizes:
            self._sizes[category] = sum(self.derivations(rule) for rule in self.phrases[category])
        return self._sizes[category]

    def check(self) -> None:
        """Raise ValueError where a rule names an unknown category or its sides have different variables."""
        for rule in [*self.sentences, *(rule for rules in self.phrases.values() for rule in rules)]:
            if set(_variables(rule.source)) != set(_variables(rule.target)):
                raise ValueError(f"the two sides have different slots: {rule.text}")
            for variable in rule.variables:
                category = _category(variable)
                if category not in self.nouns and category not in self.phrases:
                    raise ValueError(f"unknown category {category}: {rule.text}")
                if variable.strip("0123456789")[-1] in "*~" and category not in self.nouns:
                    raise ValueError(f"{category} has no plural, it is no category of nouns: {rule.text}")


def load(directory: Path) -> Grammar:
    """Read the grammar from the ``*.txt`` files of a directory and add the computed categories."""
    grammar = Grammar()
    for name, texts in computed_categories().items():
        grammar.phrases[name] = [parse_rule(f"{source} || {target}") for source, target in texts]
    for path in sorted(directory.glob("*.txt")):
        _read_sections(grammar, path)
    grammar.check()
    return grammar


def pick(options: Sequence[Option], weights: Sequence[float] | None = None, *, generator: random.Random) -> Option:
    """Draw one option. Only `Random.random` is used: its values are the same in every Python version."""
    if weights is None:
        return options[int(generator.random() * len(options))]
    remaining = generator.random() * sum(weights)
    for option, weight in zip(options, weights, strict=True):
        remaining -= weight
        if remaining < 0:
            return option
    return options[-1]


def _read_sections(grammar: Grammar, path: Path) -> None:
    kind, name, opening = "", "", "-"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = line.strip()
        if line.startswith("="):
            name, kind, opening = [*line[1:].split(), "-"][:3]
            if name in grammar.nouns or name in grammar.phrases:
                raise ValueError(f"{path.name}:{number}: section {name} exists already")
        elif line and not line.startswith("#"):
            try:
                _add_line(grammar, line, name=name, kind=kind, opening=opening)
            except ValueError as error:
                raise ValueError(f"{path.name}:{number}: {error}") from error


def _add_line(grammar: Grammar, line: str, *, name: str, kind: str, opening: str) -> None:
    if kind == "nouns":
        grammar.nouns.setdefault(name, []).append(parse_noun(line))
    elif kind == "phrases":
        grammar.phrases.setdefault(name, []).append(parse_rule(line))
    elif kind == "sentences":
        grammar.sentences.append(parse_rule(line, opening="" if opening == "-" else f"[{opening}] "))
    else:
        raise ValueError(f"a section is nouns, phrases or sentences, got {kind!r}")


def parse_noun(line: str) -> tuple[Phrase, Phrase]:
    """Parse a line of a section of nouns into its singular and its plural."""
    source_text, _, target_text = line.partition(" || ")
    source, target = NOUN.fullmatch(source_text), TARGET_NOUN.fullmatch(target_text)
    if source is None or target is None:
        raise ValueError(f"a noun is written 'maleta f || suitcase', got {line!r}")
    only, target_only = bool(source["only"]), bool(target["only"])
    singular = Phrase(source["source"], target["target"], source["gender"], only, target_only, source["source"])
    source_plural = singular.source if only else source["plural"] or morphology.pluralize(singular.source)
    target_plural = singular.target if target_only else target["plural"] or morphology.pluralize_target(singular.target)
    return singular, Phrase(source_plural, target_plural, singular.gender, True, True, singular.entry)


def parse_rule(line: str, *, opening: str = "") -> Rule:
    """Parse ``*weight Spanish || English``; `opening` is put before both sides."""
    match = re.fullmatch(r"(?:\*(\d+) )?(.*?) ?\|\| ?(.*)", line)
    if match is None:
        raise ValueError(f"a rule is written 'Spanish || English', got {line!r}")
    source, target = (tuple(_segments(opening + side)) for side in match.groups()[1:])
    return Rule(source, target, line, int(match[1] or 1))


def _segments(side: str) -> Iterator[str | Slot]:
    position = 0
    for match in SLOT.finditer(side):
        yield side[position : match.start()]
        yield Slot(match[1] or "", match[2] or "", match[3])
        position = match.end()
    if "[" in side[position:] or "]" in side[position:]:
        raise ValueError(f"not a slot: {side[position:]!r}")
    yield side[position:]


def _variables(side: Sequence[str | Slot]) -> Iterator[str]:
    for segment in side:
        if isinstance(segment, Slot):
            if re.fullmatch(rf"{NAME}\d?", segment.word):
                yield segment.word
            yield segment.variable


def _category(variable: str) -> str:
    return variable.rstrip("0123456789*~")


Piece = tuple[str, Sequence[Label]]
"""A text and the label of each character."""


def _fill(
    segment: str | Slot,
    drawn: dict[str, Phrase],
    use: int,
    write: Callable[[Slot, dict[str, Phrase], Label], list[Piece]],
) -> list[Piece]:
    if isinstance(segment, str):
        return [_labelled(segment, Label(use))]
    return write(segment, drawn, Label(use, segment.variable))


def _labelled(text: str, label: Label) -> Piece:
    return text, [label] * len(text)


def _source_pieces(slot: Slot, drawn: dict[str, Phrase], label: Label) -> list[Piece]:
    """What a slot becomes on the Spanish side; `label` is for the word before it."""
    phrase = drawn[slot.variable]
    whole = (phrase.source, phrase.source_labels)
    word = drawn[slot.word].source if slot.word in drawn else slot.word
    if slot.joint == " ":
        return [
            _labelled(morphology.determiner(word, phrase.gender, phrase.plural, following=phrase.source), label),
            _labelled(" ", label),
            whole,
        ]
    if not slot.joint:
        return [whole]
    if slot.joint == "+":
        inflected = morphology.verb(word, phrase.plural)
    else:
        inflected = morphology.agree(word, phrase.gender, phrase.plural)
    if slot.word not in drawn:
        return [_labelled(inflected, label)]
    # Of a phrase only the last word is inflected, at its end.
    labels = drawn[slot.word].source_labels
    return [(inflected, (labels + labels[-1:] * len(inflected))[: len(inflected)])]


def _target_pieces(slot: Slot, drawn: dict[str, Phrase], label: Label) -> list[Piece]:
    """What a slot becomes on the English side; `label` is for the word before it."""
    phrase = drawn[slot.variable]
    whole = (phrase.target, phrase.target_labels)
    if slot.word == "a":
        return [_labelled(f"{morphology.article(phrase.target, phrase.target_plural)} ", label), whole]
    if not slot.joint:
        return [whole]
    agreed = _labelled(morphology.agree_target(slot.word, phrase.target_plural), label)
    return [agreed, _labelled(" ", label), whole] if slot.joint == " " else [agreed]


def _tidy(filled: Iterable[list[Piece]]) -> tuple[str, tuple[Label, ...]]:
    """Join pieces, with one space between words and none before punctuation."""
    pieces = [piece for segment in filled for piece in segment]
    text = "".join(text for text, _ in pieces)
    labels = [label for _, labels in pieces for label in labels]
    if not SUPERFLUOUS.search(text):
        return text, tuple(labels)
    superfluous = {place for match in SUPERFLUOUS.finditer(text) for place in range(*match.span())}
    kept = [place for place in range(len(text)) if place not in superfluous]
    return "".join(text[place] for place in kept), tuple(labels[place] for place in kept)
