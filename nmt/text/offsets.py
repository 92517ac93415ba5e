"""Where tokens and words stand in raw text, as character offsets, whatever a tokenizer made of the text.

A tokenizer normalises a line and cuts it. The way back has the same two steps: which characters of the normalised line
a token stands for, and which characters of the raw line each of these came from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from nmt.errors import ConfigError

Span: TypeAlias = tuple[int, int]
"""Offsets of the first character and of the one after the last."""

SPACES = " ▁\0\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029"
"""What tokenizers take for a space, and what stands in place of one."""


def is_space(character: str) -> bool:
    """Whether a character is one of `SPACES`."""
    return character in SPACES


def token_spans(pieces: Sequence[bytes], text: str) -> list[Span]:
    """Find where tokens stand in the text that they make up; spaces are theirs only if they stand within.

    Args:
        pieces: the UTF-8 that each token adds to the text, but for spaces. A character may be spread over several, and
            is then in the span of each.
        text: the whole.

    Returns:
        A span a token; of one that adds nothing but spaces, an empty one.

    Raises:
        ConfigError: the text has other characters than the tokens.
    """
    owners = [token for token, piece in enumerate(pieces) for _ in piece]
    places = iter([place for place, character in enumerate(text) if not is_space(character)])
    found: list[list[int]] = [[] for _ in pieces]
    begin = 0
    for character in b"".join(pieces).decode("utf-8", "surrogateescape"):
        end = begin + len(character.encode("utf-8", "surrogateescape"))
        if not is_space(character):
            place = next(places, None)
            if place is None:
                raise ConfigError(f"tokens have more characters than the text that they are said to make up, {text!r}")
            for token in range(owners[begin], owners[end - 1] + 1):
                found[token].append(place)
        begin = end
    if next(places, None) is not None:
        raise ConfigError(f"tokens have fewer characters than the text that they are said to make up, {text!r}")
    spans, following = [], len(text)
    for own in reversed(found):
        following = own[0] if own else following
        spans.append((following, own[-1] + 1 if own else following))
    return spans[::-1]


def raw_spans(spans: Sequence[Span], text: str, raw: str, normalize: Callable[[str], str]) -> list[Span]:
    """Carry spans in a normalised line over to the raw line.

    Args:
        spans: in `text`.
        text: the normalised line.
        raw: what it was.
        normalize: gives the one for the other.

    Returns:
        As many spans. Characters that became one are in its span together; those that one became share its span.
    """
    if text == raw:
        return list(spans)
    starts = _origins(text, raw, normalize)
    # A character ends where the next one that is from elsewhere begins.
    ends, end = [0] * len(text), len(raw)
    for place in range(len(text) - 1, -1, -1):
        ends[place] = end = end if starts[place] == starts[place + 1] else starts[place + 1]
    found = []
    for first, last in spans:
        start, end = starts[first], ends[last - 1] if last > first else starts[first]
        found.append((start, start + len(raw[start:end].rstrip(SPACES))))
    return found


def _origins(text: str, raw: str, normalize: Callable[[str], str]) -> list[int]:
    """For each character of the normalised line, and its end, where in the raw line it comes from; never falling."""
    words = [match.span() for match in re.finditer(r"\S+", raw)]
    normal = [normalize(raw[start:end]) for start, end in words]
    if " ".join(filter(None, normal)) != text:
        return [*_origins_in(text, raw, normalize), len(raw)]
    starts: list[int] = []
    for (start, end), word in zip(words, normal, strict=True):
        if word:
            starts += [start] if starts else []  # the space before it
            inner = range(end - start) if word == raw[start:end] else _origins_in(word, raw[start:end], normalize)
            starts += [start + place for place in inner]
    return [*starts, len(raw)]


def _origins_in(text: str, raw: str, normalize: Callable[[str], str]) -> list[int]:
    """The same of a word: a character comes from the one with which the beginning of the word first gives it."""
    starts: list[int] = []
    for place in range(len(raw)):
        known = len(normalize(raw[: place + 1])) if place + 1 < len(raw) else len(text)
        starts += [place] * (min(known, len(text)) - len(starts))
    return starts
