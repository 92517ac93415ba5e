"""Translation memories: files of TMX (LISA, Translation Memory eXchange 1.4b), read as they stream by.

The parser is the one of the standard library, expat. It opens no file and no address besides what it is fed, and a file
that declares an entity is refused, so that nothing can be fetched, and nothing grows, through one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from nmt.corpora.formats import best_match, languages_of
from nmt.data.corpus import Layout, Unit
from nmt.data.lines import read_blocks
from nmt.errors import DataError
from nmt.types import PathLike
from nmt.version import __version__

_CODES = {"bpt", "ept", "ph", "it", "ut"}
"""Inline elements that hold codes of another format, not text (section "Content markup"); `hi` holds text."""

_PLACES = {"ph", "it", "ut"}
"""Those that stand for something of their own, say a break of the line, which keeps words apart."""

_PLACE = "\0"
_BETWEEN_WORDS = re.compile(rf"(?<=\w){_PLACE}+(?=\w)")
_WHITE_SPACE = re.compile(r"[ \t\r\n]+")
_MOST_LANGUAGES = 20


def read_tmx(path: PathLike, layout: Layout) -> Iterator[Unit]:
    """Yield the segments of two languages of each unit; of a unit without both, why it gives no pair.

    Inline elements are left out with the codes they hold, and white space is one space.

    Raises:
        DataError: the languages are not known, no unit has both, it is no TMX, it declares or needs an entity, or it
            cannot be read; with file and line.
    """
    found = _Units(path, *languages_of(path, layout))
    for block in read_blocks(path):
        yield from found.feed(block)
    yield from found.feed(b"", end=True)


class _Units:
    """What the parser has found of units so far.

    Args:
        path: of the file.
        source, target: the languages.
    """

    def __init__(self, path: PathLike, source: str, target: str) -> None:
        self._path, self._languages = path, (source, target)
        self._missing = f"without {source} or {target}"
        self._choices: dict[tuple[str, ...], list[str | None]] = {}  # what is taken of a unit with such languages
        self._has_root, self._has_pair = False, False
        self._units = list[Unit]()
        self._segments = dict[str, str]()
        self._language = ""
        self._text: list[str] | None = None  # of the segment that is open
        self._codes = 0  # how many elements of codes are open
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._add_text
        parser.EntityDeclHandler = self._refuse_declaration
        parser.SkippedEntityHandler = self._refuse_entity

    def feed(self, block: bytes, *, end: bool = False) -> list[Unit]:
        """Parse what comes next, and return the units that it ends."""
        self._units = []
        try:
            self._parser.Parse(block, end)
        except expat.ExpatError as error:
            raise DataError(
                f"{self._path}, line {error.lineno}: must be XML that is well-formed in the encoding it declares, "
                f"UTF-8 if none, got: {expat.ErrorString(error.code)}"
            ) from error
        except (ValueError, LookupError) as error:  # an encoding that the parser does not have, such as Shift_JIS
            raise DataError(
                f"{self._path}: must be XML in UTF-8, or in an encoding of one byte a character, got {error}: convert "
                "it, say with iconv, and change what it declares"
            ) from error
        if end and not self._has_pair:
            there = ", ".join([*dict.fromkeys(chain(*self._choices))][:_MOST_LANGUAGES]) or "none"
            raise DataError(
                f"{self._path}: must have units with segments in {' and '.join(self._languages)}, got the languages "
                f"{there}: name others, by --source-column and --target-column, or in a config by source_column and "
                "target_column"
            )
        return self._units

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if not self._has_root and name != "tmx":
            raise self._error(f"must be TMX, got XML that begins with <{name}>")
        self._has_root = True
        if self._text is not None:
            if name in _PLACES and not self._codes:
                self._text.append(_PLACE)
            self._codes += name in _CODES
        elif name == "tu":
            self._segments = {}
        elif name == "tuv":
            self._language = attributes.get("xml:lang") or attributes.get("lang") or ""
        elif name == "seg":
            self._text, self._codes = [], 0

    def _add_text(self, text: str) -> None:
        if self._text is not None and not self._codes:
            self._text.append(text)

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name == "seg" and self._text is not None:
            text = _BETWEEN_WORDS.sub(" ", "".join(self._text)).replace(_PLACE, "")
            self._segments.setdefault(self._language, _WHITE_SPACE.sub(" ", text).strip(" "))
            self._text = None
        elif self._text is not None:
            self._codes -= name in _CODES
        elif name == "tu":
            self._units.append(self._unit())

    def _unit(self) -> Unit:
        tags = tuple(self._segments)
        if tags not in self._choices:
            self._choices[tags] = [best_match(tags, language) for language in self._languages]
        source, target = self._choices[tags]
        if source is None or target is None:
            return self._missing
        self._has_pair = True
        return self._segments[source], self._segments[target]

    def _refuse_declaration(self, name: str, *declared: object) -> None:
        raise self._error(f"must declare no entity, got {name}: write what it stands for")

    def _refuse_entity(self, name: str, is_parameter: bool) -> None:
        raise self._error(f"uses the entity {name}, declared in a file that is not opened: write what it stands for")

    def _error(self, reason: str) -> DataError:
        return DataError(f"{self._path}, line {self._parser.CurrentLineNumber}: {reason}")


NOT_IN_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that no XML can hold (XML 1.0, section 2.2)."""

END = "</body>\n</tmx>\n"
"""The last lines of a file."""


def begin(source_language: str) -> str:
    """The first lines of a file."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4">\n'
        f'<header creationtool="nmt" creationtoolversion="{__version__}" segtype="sentence" o-tmf="plain text" '
        f'adminlang="en" srclang={quoteattr(source_language)} datatype="plaintext"/>\n<body>\n'
    )


def unit(source: str, target: str, languages: tuple[str, str]) -> str:
    """The lines of a unit."""
    versions = "".join(
        f"<tuv xml:lang={quoteattr(language)}><seg>{_escaped(text)}</seg></tuv>\n"
        for language, text in zip(languages, (source, target), strict=True)
    )
    return f"<tu>\n{versions}</tu>\n"


def _escaped(text: str) -> str:
    return escape(text, {"\r": "&#13;"})
