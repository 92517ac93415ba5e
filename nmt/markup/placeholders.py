"""Placeholders, addresses of the web and of e-mail: what a translation must have exactly as the source does.

Whatever stands for them in the text that a model reads must appear in what it writes. That is the placeholder itself if
the model copies it, and else a word in its stead, which is put back afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from nmt.control.phrases import is_word
from nmt.markup.tags import PLAIN, Kind, Piece, Writing
from nmt.text import UNK_ID, Tokenizer

_PLACEHOLDER = re.compile(
    r"""
    (?P<address>(?:(?:https?|ftp)://|www\.)[^\s<>"«»“”]+ | [\w.+-]{0,63}\w@[\w-]+(?:\.[\w-]+)+)
    | \$?\{\{?[^\s{}]*\}\}?                                                       # {name} {{name}} ${name} {0:.2f}
    | (?<!\d)(?<!\d\s)%(?:%|@|(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?(?:hh?|ll?|[Lzjt])?[diouxXeEfFgGaAcsSp])
    | %\([^\s()]+\)[-+#0]*\d*(?:\.\d+)?[a-zA-Z] | %\{[^\s{}]+\}                   # %(name)s %{name}
    """,
    re.VERBOSE,
)
"""Those of Python, printf and gettext, and of most libraries of messages; addresses come first, whatever is in them."""

_NUMERIC = re.compile(r"%[^%(){}]*[diouxXeEfFgG]")

_CLOSED = {")": "(", "]": "[", "}": "{"}


def find_placeholders(text: str) -> list[tuple[int, int]]:
    """Find where the placeholders and addresses of a text stand, from left to right."""
    return list(_spans(text))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    place = 0
    while match := _PLACEHOLDER.search(text, place):
        start, place = match.span()
        while match["address"] and _is_behind(text[start:place]):
            place -= 1
        yield start, place


def _is_behind(address: str) -> bool:
    """Whether the last sign of an address belongs to the sentence around it."""
    last = address[-1]
    return last in ".,;:!?'’…" or (last in _CLOSED and address.count(last) > address.count(_CLOSED[last]))


def is_numeric(text: str) -> bool:
    """Whether a placeholder stands for a number, or a text is one."""
    return bool(_NUMERIC.fullmatch(text)) or text.isdecimal()


def hold_placeholders(
    pieces: Sequence[Piece], stand_in: Callable[[str], str | None], writing: Writing = PLAIN
) -> list[Piece]:
    """Cut placeholders out of the text of a line.

    Args:
        pieces: of the line.
        stand_in: says what stands for a placeholder in the text; if None, it is taken out as tags are.
        writing: of the line.
    """
    found = list[Piece]()
    for piece in pieces:
        spans = find_placeholders(piece.text) if piece.kind is Kind.TEXT else []
        done = 0
        for start, end in spans:
            if start > done:
                found.append(Piece(Kind.TEXT, piece.text[done:start], piece.text[done:start]))
            placeholder = piece.text[start:end]
            text = stand_in(placeholder)
            if text is None:
                found.append(Piece(Kind.LONE, writing.written(placeholder), placeholder))
            else:
                found.append(Piece(Kind.HELD, placeholder, text))
            done = end
        if not spans:
            found.append(piece)
        elif done < len(piece.text):
            found.append(Piece(Kind.TEXT, piece.text[done:], piece.text[done:]))
    return found


_SHORTEST_NAME = 3


def candidate_words(sources: Sequence[Tokenizer], target: Tokenizer) -> list[str]:
    """Words that may stand for placeholders: tokens of the target that the source has too, names and numbers first.

    Args:
        sources: tokenizers of the source, each of which must know a word.
        target: that has the word as a token.
    """
    words = dict.fromkeys(filter(None, map(_word, target.surfaces())))
    known = [
        word
        for word in words
        if target.normalized(word) == word
        and all(UNK_ID not in source.encode(word) and source.normalized(word) == word for source in sources)
    ]
    return sorted(known, key=lambda word: not (word.isdecimal() or word.istitle()))


def _word(surface: bytes) -> str:
    """The name, number or word that a token stands for, or nothing."""
    text = surface.decode(errors="replace").strip()
    is_number = text.isascii() and text.isdecimal() and not text.startswith("0")
    return text if is_number or (len(text) >= _SHORTEST_NAME and all(map(is_word, text)) and text.isalpha()) else ""
