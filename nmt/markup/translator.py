"""Translating lines with inline tags and placeholders.

Tags are taken out, and put back by the alignment of the finished translation (`nmt.markup.tags`). Placeholders, or
words in their stead, must appear in the translation (`nmt.markup.placeholders`). A model that never saw `{name}` puts
it where that costs least, and loses its thread, while a name that it knows comes out in the right place. So a
placeholder stays itself only if the model can spell it, and copies it of its own accord.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from nmt.alignment.bitext import cut_spans
from nmt.alignment.links import Links
from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.errors import ConfigError
from nmt.inference.alignment import Alignment, AlignmentTally, links_to_closest
from nmt.inference.translator import Translator
from nmt.markup.placeholders import candidate_words, find_placeholders, hold_placeholders, is_numeric
from nmt.markup.tags import (
    PLAIN,
    Kind,
    Marked,
    Piece,
    Writing,
    count_malformed,
    find_held,
    paired,
    put_back,
    read_pieces,
    take_out,
    whole_word,
)
from nmt.scoring.forced import ScoreTally
from nmt.text import UNK_ID
from nmt.translation.flags import Flag
from nmt.translation.line_translator import NO_LINE_ENDS, Tally, Translation, checked_lines

_LOGGER = logging.getLogger(__name__)

KINDS = ("xml", "placeholders")
"""What lines may have: tags, entities and placeholders, or placeholders alone."""

_HIDDEN = "\ufffc"
"""What stands for a placeholder when terms are looked for."""


class TakenOut(NamedTuple):
    """A line without its tags, and what is asked of its translation."""

    line: str
    marked: Marked
    control: Control

    @property
    def text(self) -> str:
        """What is translated: nothing if the line has no words."""
        return "" if self.marked.says_nothing else self.marked.text

    @property
    def needs_alignment(self) -> bool:
        """Whether there are tags elsewhere than around all of the text, or at its ends."""
        text, elements = self.marked.text, self.marked.elements
        return any(
            text[:place].strip() and text[place:].strip() for each in elements for place in (each.start, each.end)
        )

    def hidden(self, text: str) -> str:
        """A part of the text, with a sign in place of what stands for placeholders: for a glossary."""
        for held in self.marked.held:
            text = whole_word(held.text).sub(_HIDDEN, text)
        return text


@dataclass
class MarkupTally:
    """What became of markup, over all calls; counted in lines unless said otherwise.

    lines: all of them.
    marked: with tags or placeholders.
    elements: that they have, an element counted once, tags without a partner too.
    placeholders: that they have.
    stand_ins: of these, those in whose stead a word was translated.
    taken_out: of these, those for which there was no such word, so that they were taken out as tags are.
    unpaired: with tags that have no partner.
    malformed: with a sign that looks like the beginning of a tag.
    translations: of marked lines.
    guessed: elements in them that stand where no alignment told.
    inexact: translations without a placeholder, until it was put back, or with one too many.
    """

    lines: int = 0
    marked: int = 0
    elements: int = 0
    placeholders: int = 0
    stand_ins: int = 0
    taken_out: int = 0
    unpaired: int = 0
    malformed: int = 0
    translations: int = 0
    guessed: int = 0
    inexact: int = 0
    first_unpaired: list[int] = field(default_factory=list)

    def count_line(self, marked: Marked, number: int, *, taken_out: int, malformed: int) -> None:
        """Count a line of the source, with its number from 1."""
        self.lines += 1
        self.marked += bool(marked.elements or marked.held)
        self.elements += len(marked.elements) - taken_out
        self.placeholders += len(marked.held) + taken_out
        self.taken_out += taken_out
        self.stand_ins += sum(held.text != held.placeholder for held in marked.held)
        self.malformed += bool(malformed)
        self.unpaired += bool(marked.unpaired)
        if marked.unpaired and len(self.first_unpaired) < _NAMED_LINES:
            self.first_unpaired.append(number)

    def report(self) -> None:
        """Log the sums, and what is worse than one might think."""
        if self.marked:
            _LOGGER.info(
                "markup: %s tags or pairs and %s placeholders (%s by another word, %s as tags) in %s of %s lines",
                *(f"{count:,}" for count in (self.elements, self.placeholders, self.stand_ins, self.taken_out)),
                f"{self.marked:,}", f"{self.lines:,}",
            )  # fmt: skip
        named = ", ".join(map(str, self.first_unpaired)) + (", ..." if self.unpaired > _NAMED_LINES else "")
        odd = "a placeholder that the model did not write, put in by the alignment, or one too many: flag placeholder"
        for count, noun, words in (
            (self.unpaired, "line", f"tags without a partner, kept as they are (line {named})"),
            (self.malformed, "line", "a < that begins no well-formed tag, and is text"),
            (self.guessed, "tag", "no aligned words, and was put between its neighbours: flag tag"),
            (self.inexact, "translation", odd),
        ):
            if count:
                _LOGGER.warning(
                    "markup: %s %s %s", f"{count:,}", f"{noun} has" if count == 1 else f"{noun}s have", words
                )


_NAMED_LINES = 5


class Markup:
    """Translates lines with inline tags and placeholders.

    What stands for placeholders must appear in the translation, which needs a beam. Draws have none, and groups share
    it; there a placeholder that is missing is put where the alignment tells.

    Args:
        translator: that translates what is left of the lines, and aligns it.
        kind: "xml" for tags, entities and placeholders, "placeholders" for these alone.
        sampling: how translations are drawn, None if they are searched for.
        reserved: texts that a translation may need for itself, such as terms of a glossary.

    Raises:
        ConfigError: the kind is none, or the model cannot be aligned.
    """

    def __init__(
        self,
        translator: Translator,
        kind: str = "xml",
        *,
        sampling: Sampling | None = None,
        reserved: Sequence[str] = (),
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(f"the markup must be {' or '.join(KINDS)}, got {kind!r}")
        self.translator, self.kind = translator, kind
        translator.align([], tally=AlignmentTally())  # refuses a model that has no attention
        self.must_appear = sampling is None and translator.search.diverse_groups == 1
        self.tally = MarkupTally()
        self._reserved = "\n".join(reserved).casefold()
        self._is_spelled: dict[str, bool] = {}
        self._words: list[str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a later process needs to go on alike, in JSON values."""
        return {"words": self._words, "tally": asdict(self.tally)}

    def restore(self, values: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self._words, self.tally = values["words"], MarkupTally(**values["tally"])

    def translate(self, lines: Iterable[str], **how: Any) -> list[str]:
        """Translate each line; see `LineTranslator.translate`."""
        found = self.n_best(lines, 1, **how)
        return [translations[0].text if translations else "" for translations in found]

    def n_best(
        self, lines: Iterable[str], num_hypotheses: int, *, controls: Sequence[Control] | None = None, **how: Any
    ) -> list[list[Translation]]:
        """Find the best translations of each line, with its markup; see `LineTranslator.n_best`."""
        taken = self.take_out(checked_lines(lines), controls)
        found = self.translator.n_best(
            [each.text for each in taken], num_hypotheses, controls=[each.control for each in taken], **how
        )
        return self.put_back(taken, found)

    def _pieces(self, line: str) -> list[Piece]:
        return read_pieces(line) if self.kind == "xml" else [Piece(Kind.TEXT, line, line)]

    def take_out(
        self, lines: Sequence[str], controls: Sequence[Control] | None = None, *, first_line: int = 0
    ) -> list[TakenOut]:
        """Take tags out, and see to it that placeholders appear.

        Args:
            lines: as they are.
            controls: what else is asked of each translation.
            first_line: the number of the first line in all that is translated.
        """
        asked = controls or [NO_CONTROL] * len(lines)
        pieces = [self._pieces(line) for line in lines]
        holding = [place for place, each in enumerate(pieces) if _placeholders(each)]
        tags = [asked[place].tag for place in holding]
        are_copied = self._are_copied([pieces[place] for place in holding], tags)
        copied = {place for place, is_copied in zip(holding, are_copied, strict=True) if is_copied}
        left = [pieces[place] for place in holding if place not in copied]
        if left and self._words is None:
            self._words = self._ranked_words(left, tags[0])
        return [
            self._taken_out(*each, stays=place in copied, number=first_line + place + 1)
            for place, each in enumerate(zip(lines, pieces, asked, strict=True))
        ]

    def _taken_out(self, line: str, pieces: Sequence[Piece], control: Control, *, stays: bool, number: int) -> TakenOut:
        texts = [line, control.prefix, *control.require, *control.avoid, *control.terms]
        taken = "\n".join(texts).casefold()
        free = [word for word in self._words or () if word.casefold() not in taken]
        if control.avoid and _placeholders(pieces):
            free = [word for word in free if self._may_appear(word, control)]
        stand_ins = dict[str, str | None]()

        def stand_in(placeholder: str) -> str | None:
            if stays:
                return placeholder
            if placeholder not in stand_ins:
                fitting = [word for word in free if is_numeric(word) == is_numeric(placeholder)] or free
                itself = placeholder if self._can_spell(placeholder) else None
                stand_ins[placeholder] = word = fitting[0] if fitting else itself
                free[:] = [each for each in free if each != word]
            return stand_ins[placeholder]

        writing = Writing.of(pieces) if self.kind == "xml" else PLAIN
        held = hold_placeholders(pieces, stand_in, writing)
        marked = take_out(paired(held), writing)
        taken_out = sum(piece.kind is Kind.LONE and bool(piece.text) for piece in held)
        malformed = count_malformed(pieces) if self.kind == "xml" else 0
        self.tally.count_line(marked, number, taken_out=taken_out, malformed=malformed)
        terms = (*control.terms, *(each.text for each in marked.held)) if self.must_appear else control.terms
        return TakenOut(line, marked, control._replace(terms=terms))

    def _greedy(self, texts: Sequence[str], tags: Sequence[str | None]) -> list[str]:
        """What the model writes of its own accord, of each text with its tag."""
        beam_size = self.translator.search.diverse_groups  # one hypothesis each
        controls = [Control(tag=tag) for tag in tags]
        return self.translator.translate(texts, beam_size=beam_size, tally=Tally(), controls=controls)

    def _are_copied(self, lines: Sequence[Sequence[Piece]], tags: Sequence[str | None]) -> list[bool]:
        """Whether the model can spell all placeholders of a line, and copies them of its own accord."""
        marked = [take_out(paired(hold_placeholders(pieces, str))) for pieces in lines]
        spelled = [all(self._can_spell(held.text) for held in each.held) for each in marked]
        texts = [each.text if is_spelled else "" for each, is_spelled in zip(marked, spelled, strict=True)]
        translations = self._greedy(texts, tags)
        return [
            is_spelled and not find_held(each.held, text)[1]
            for is_spelled, each, text in zip(spelled, marked, translations, strict=True)
        ]

    def _may_appear(self, word: str, control: Control) -> bool:
        """Whether no ban stands in a word."""
        try:
            self.translator.controls.check(control._replace(terms=(word,)))
        except ConfigError:
            return False
        return True

    def _can_spell(self, placeholder: str) -> bool:
        """Whether the model can read a placeholder and write it as it is."""
        if placeholder not in self._is_spelled:
            controls, sources = self.translator.controls, self.translator.sources
            is_read = not any(UNK_ID in source.encode(placeholder) for source in sources)
            try:
                controls.check(Control(terms=(placeholder,)))
                is_written = controls.tokenizer.normalized(placeholder) == placeholder
            except ConfigError:
                is_written = False
            self._is_spelled[placeholder] = is_read and is_written
        return self._is_spelled[placeholder]

    def _ranked_words(self, lines: Sequence[Sequence[Piece]], tag: str | None) -> list[str]:
        """Words that can stand for placeholders, best first, of text with a tag.

        Best are those that the model copies of its own accord in the place of the placeholders of some lines. Tried are
        those that it copies most probably if they are all of the text.
        """
        words = [
            word
            for word in candidate_words(self.translator.sources, self.translator.text.target)
            if word.casefold() not in self._reserved
        ]
        scores = self.translator.score([(f"{word}.", f"{word}.") for word in words], tags=tag, tally=ScoreTally())
        by_score = sorted(zip(scores, words, strict=True), key=lambda each: -each[0].log_prob)
        likely = [word for _, word in by_score[:_MOST_TRIED]]
        rows = [
            (likely[shift:] + likely[:shift], pieces)
            for shift in range(len(likely)) for pieces in lines[:_NUM_CONTEXTS]
        ]  # fmt: skip
        texts = [take_out(paired(hold_placeholders(pieces, _in_turn(row)))).text for row, pieces in rows]
        texts = self._greedy(texts, [tag] * len(texts))
        copied = Counter[str]()
        for (row, _), text in zip(rows, texts, strict=True):
            copied[row[0]] += len(whole_word(row[0]).findall(text)) == 1
        return sorted(likely, key=lambda word: (-copied[word], not word.istitle()))

    def put_back(self, taken: Sequence[TakenOut], found: Sequence[Sequence[Translation]]) -> list[list[Translation]]:
        """Put tags and placeholders back into the translations of each line."""
        asked = dict.fromkeys(
            (line.text, each.text, line.control.tag)
            for line, translations in zip(taken, found, strict=True) if line.needs_alignment
            for each in translations if each.text
        )  # fmt: skip
        pairs, tags = [each[:2] for each in asked], [each[2] for each in asked]
        aligned = self.translator.align(pairs, tags=tags, soft=True, tally=AlignmentTally())
        alignments = dict(zip(asked, aligned, strict=True))
        return [
            [
                self._with_markup(line, each, alignments.get((line.text, each.text, line.control.tag)))
                for each in translations
            ]
            for line, translations in zip(taken, found, strict=True)
        ]

    def _with_markup(self, line: TakenOut, translation: Translation, alignment: Alignment | None) -> Translation:
        marked, text = line.marked, translation.text
        if marked.says_nothing:
            return translation._replace(text=line.line.translate(NO_LINE_ENDS))
        words = (cut_spans(marked.text), cut_spans(text)) if alignment is None else alignment[2:4]
        restored = put_back(marked, text, words[0], words[1], () if alignment is None else links_both_ways(alignment))
        if marked.elements or marked.held:
            self.tally.translations += 1
            self.tally.guessed += restored.guessed
            self.tally.inexact += not restored.is_exact
        placeholders = {held.text: held.placeholder for held in marked.held}
        odd = {Flag.PLACEHOLDER: not restored.is_exact, Flag.TAG: restored.guessed or marked.unpaired}
        return translation._replace(
            text=restored.text.translate(NO_LINE_ENDS),
            flags=(*translation.flags, *(flag for flag, is_set in odd.items() if is_set)),
            constraints={placeholders.get(phrase, phrase): met for phrase, met in translation.constraints.items()},
        )


def links_both_ways(alignment: Alignment) -> Links:
    """Link each word to the one of the other side that it is closest to, in both directions made one.

    How close two words are is the product of two shares: of what the target word looks at, and of all that looks at the
    source word, the one by the power of 0.2 and the other by that of 0.8, which was best for tags on the validation set
    of the travel corpus. Links by attention alone leave source words without any.
    """
    if alignment.soft is None:
        return set()
    weights = alignment.soft.words.astype(np.float64)  # (J, I)
    of_target, of_source = (weights / np.maximum(weights.sum(axis, keepdims=True), _TINY) for axis in (1, 0))
    return links_to_closest(of_target**0.2 * of_source**0.8)


_NUM_CONTEXTS, _MOST_TRIED = 3, 40
_TINY = np.finfo(np.float64).tiny


def _placeholders(pieces: Sequence[Piece]) -> list[str]:
    texts = [piece.text for piece in pieces if piece.kind is Kind.TEXT]
    return [text[start:end] for text in texts for start, end in find_placeholders(text)]


def _in_turn(words: Sequence[str]) -> Callable[[str], str]:
    """Gives each placeholder another word."""
    given = dict[str, str]()
    return lambda placeholder: given.setdefault(placeholder, words[len(given) % len(words)])
