"""The kinds of variation that write hints into the source: words with what they are linked to in the target.

They are OpusTrainer's modifier Tags (hplt-project/OpusTrainer, README): `tags` its own, `placeholders` its `replace`.
Words that are linked one to one, to nothing else on either side, may get a hint, but for those that are equal on both
sides, which need none. Signs at the ends of words are left out, so that a hint is for a word as a glossary has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple, TypeAlias

from nmt.alignment.bitext import word_spans
from nmt.alignment.links import Links
from nmt.text.hints import Stretches, hinted

Hinted: TypeAlias = tuple[Stretches, str]
"""A source with hints, and its target."""

Hinting: TypeAlias = Callable[[tuple[str, str], "list[Candidate]", Random], Hinted]
"""A kind of variation that writes hints."""

_MOST_HINTS = 6
"""As many tags as OpusTrainer puts into a line at most (num_tags)."""

_LETTERS = (3, 9)
"""Of a word that means nothing."""


class Candidate(NamedTuple):
    """Where a word of the source and the one of the target that it is linked to begin and end."""

    source: tuple[int, int]
    target: tuple[int, int]


def candidates(pair: tuple[str, str], links: Links, *, tokenized: bool) -> list[Candidate]:
    """Return the words of a pair that may get a hint, in the order of the source.

    Args:
        pair: source and target.
        links: between its words.
        tokenized: which words they count, see `nmt.alignment.bitext.word_spans`.
    """
    spans = [word_spans(line, tokenized=tokenized) for line in pair]
    counts = [Counter(link[side] for link in links) for side in (0, 1)]
    found = []
    for link in sorted(links):
        if counts[0][link[0]] > 1 or counts[1][link[1]] > 1:
            continue
        source, target = (_bare(pair[side], spans[side][link[side]]) for side in (0, 1))
        words = pair[0][slice(*source)], pair[1][slice(*target)]
        if all(words) and words[0] != words[1]:
            found.append(Candidate(source, target))
    return found


def _bare(line: str, span: tuple[int, int]) -> tuple[int, int]:
    """A word without the signs at its ends; nothing is left of one that has no letter or digit."""
    start, end = span
    while start < end and not line[start].isalnum():
        start += 1
    while start < end and not f"a{line[end - 1]}".isidentifier():  # accents and vowel signs are part of a word
        end -= 1
    return start, end


def _drawn(found: list[Candidate], chance: Random) -> list[Candidate]:
    """Some of the candidates, one at least and a third at most, in order."""
    count = chance.randint(1, max(1, min(_MOST_HINTS, len(found) // 3)))
    return sorted(chance.sample(found, count))


def tags(pair: tuple[str, str], found: list[Candidate], chance: Random) -> Hinted:
    """Give some words of the source their translations as hints."""
    source, target = pair
    return hinted(source, [(*each.source, target[slice(*each.target)]) for each in _drawn(found, chance)]), target


def placeholders(pair: tuple[str, str], found: list[Candidate], chance: Random) -> Hinted:
    """Give some words of the source words that mean nothing as hints, which take the place of their translations.

    So a hint is learned to be followed, whatever word it is for (the mode `replace` of OpusTrainer's Tags). A word that
    means nothing is of letters of the target, which its vocabulary has for certain.
    """
    source, target = pair
    drawn = _drawn(found, chance)
    letters = sorted({letter for letter in target if letter.isalpha()}) or ["x"]
    words = ["".join(chance.choices(letters, k=chance.randint(*_LETTERS))) for _ in drawn]
    of_target = sorted(zip((each.target for each in drawn), words, strict=True))
    marked = hinted(source, [(*each.source, word) for each, word in zip(drawn, words, strict=True)])
    for (start, end), word in reversed(of_target):
        target = target[:start] + word + target[end:]
    return marked, target
