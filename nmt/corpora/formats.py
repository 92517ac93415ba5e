"""Files that hold both sides of a corpus: columns between tabs, JSON lines, zip archives of Moses files (OPUS).

Each format is a reader, found by `nmt.kinds.READERS`, and what writes a pair of lines. A line feed within a text
becomes a space, since a pair of lines has none.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from nmt.data.corpus import NO_MORE, Layout, Pair, Unit, say_once
from nmt.data.lines import decode_line, read_lines
from nmt.errors import DataError, looked_for
from nmt.types import PathLike

_LINE_ENDS = re.compile(r"\r?\n")


def read_tsv(path: PathLike, layout: Layout) -> Iterator[Pair]:
    """Yield two columns of each line; a tab ends a column, whatever quotes there are. An empty line has empty columns.

    If a column is given by its name, the first line holds the names. Others have weights and links, if they are asked
    for.

    Raises:
        DataError: a column is missing or has no weight or links, with file and line; or what `read_lines` raises.
    """
    lines, names = read_lines(path), list[str]()
    columns = layout.columns_or(1, 2)
    if any(isinstance(column, str) for column in columns):
        names = next(lines, "").split("\t")
        for column in columns:
            if isinstance(column, str) and column not in names:
                found = ", ".join(name if len(name) < 40 else f"{name[:37]}..." for name in names[:10])
                raise DataError(
                    f"{path}, line 1: must name the columns, one of them {column}, got {found}: give another name, or "
                    "a number from 1 on if the first line is a pair"
                )
    else:
        lines = _warned_of_names(lines, path, layout.languages)
    places = [names.index(column) if isinstance(column, str) else column - 1 for column in columns]
    least = max(places) + 1
    for number, line in enumerate(lines, start=1 + len(names[:1])):
        cells = line.split("\t")
        if names and any(cells[len(names) :]):
            raise DataError(
                f"{path}, line {number}: must have {len(names)} columns between tabs, as line 1 names them, got "
                f"{len(cells)}: a tab stands within a text"
            )
        if len(cells) < least:
            if line:
                raise DataError(
                    f"{path}, line {number}: must have at least {least} columns between tabs, got {len(cells)}"
                )
            cells = [""] * least
        more = [cells[place] for place in places[2:]] if line else NO_MORE
        yield layout.unit((cells[places[0]], cells[places[1]]), more, f"{path}, line {number}")


_NAME, _NUMBER = re.compile(r"[^\W\d][\w.:-]*"), re.compile(r"[-+]?[\d.,]+(e[-+]?\d+)?", re.IGNORECASE)
_USUAL = {"id", "source", "target", "src", "tgt", "trg", "text", "score", "quality"}


def _warned_of_names(lines: Iterator[str], path: PathLike, languages: tuple[str, str]) -> Iterator[str]:
    """The same lines; a first one that looks like names of columns is a pair, unless somebody says so."""
    first, second = next(lines, None), next(lines, None)
    if first is None:
        return lines
    names = first.split("\t")
    if _look_like_names(names, second, languages):
        shown = ", ".join(names[:10])
        say_once(
            f"{path}: the first line, {shown}, is read as a pair: if it names the columns, give source_column and "
            f"target_column by name (--source-column, --target-column), of these",
            logging.WARNING,
        )
    return chain([first], lines if second is None else chain([second], lines))


def _look_like_names(names: list[str], second: str | None, languages: tuple[str, str]) -> bool:
    """Whether a first line names both sides, or holds three words or more, one of them usual or above a number."""
    lower = [name.lower() for name in names]
    if tuple(lower[:2]) in (("source", "target"), ("src", "tgt"), ("src", "trg"), languages):
        return True
    if len(names) < 3 or second is None or not all(map(_NAME.fullmatch, names)):
        return False
    return bool(_USUAL & {*lower}) or any(map(_NUMBER.fullmatch, second.split("\t")))


def write_tsv(source: str, target: str) -> str:
    """A line of two columns; a tab within a text becomes a space."""
    return "{}\t{}\n".format(*(text.replace("\t", " ") for text in (source, target)))


def read_jsonl(path: PathLike, layout: Layout) -> Iterator[Pair]:
    """Yield two fields of the object in each line, and its weight and links if they are asked for.

    `a.b` is the field b of the object in field a, and `a.0` the first element of a list, an empty text if it has none.

    Raises:
        DataError: a line is no object, or has no such text, with file and line; or what `read_lines` raises.
    """
    fields = [str(column) for column in layout.columns_or("source", "target")]
    for number, line in enumerate(read_lines(path), start=1):
        place = f"{path}, line {number}"
        if not line.strip():
            yield layout.unit(("", ""), NO_MORE, place)
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: must be a JSON object, got what is no JSON: {error}") from error
        source, target = (_text_in(record, field, place) for field in fields[:2])
        more, others = [_field_of(record, field) for field in fields[2:]], '" and "'.join(fields[2:])
        yield layout.unit((source, target), more, f'{place}, field "{others}"')


def _field_of(record: Any, field: str) -> Any:
    """What a record has in a field, or in a field of a field, or of an element; None if there is no such field."""
    if not isinstance(record, dict):
        return None
    for name in [field] if field in record else field.split("."):
        if isinstance(record, list) and name.isdecimal():
            if int(name) >= len(record):
                return ""  # as of an empty line, of which nmt translate writes no translation
            record = record[int(name)]
        else:
            record = record.get(name) if isinstance(record, dict) else None
    return record


def _text_in(record: Any, field: str, place: str) -> str:
    found = _field_of(record, field)
    if not isinstance(found, str):
        if not isinstance(record, dict):
            raise DataError(f"{place}: must be a JSON object, got {json.dumps(record)[:60]}")
        raise DataError(
            f'{place}: must have a text "{field}", got the fields {", ".join(map(str, record)) or "of an empty object"}'
            ": name others by source_column and target_column"
        )
    try:
        found.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f'{place}: "{field}" must be text, got one half of a surrogate pair') from error
    return _LINE_ENDS.sub(" ", found)


def fields_beside(path: PathLike, kind: str, layout: Layout) -> list[str]:
    """The columns or fields that the first line of a tsv or jsonl file has besides both sides; none of other files."""
    first = next(read_lines(path), "") if kind in ("tsv", "jsonl") else ""
    if kind == "tsv":
        columns = layout.columns_or(1, 2)[:2]
        is_named = any(isinstance(column, str) for column in columns)
        return [
            cell if is_named else f"column {place}"
            for place, cell in enumerate(first.split("\t"), start=1)
            if place not in columns and cell not in columns
        ]
    with suppress(ValueError, RecursionError):  # which are said where all of it is read
        record = json.loads(first or "{}")
        sides = tuple(map(str, layout.columns_or("source", "target")[:2]))
        used = [side if side in record else side.split(".")[0] for side in sides]
        return [name for name in record if name not in used] if isinstance(record, dict) else []
    return []


def write_jsonl(source: str, target: str) -> str:
    """A line with an object of two fields."""
    return f"{json.dumps({'source': source, 'target': target}, ensure_ascii=False)}\n"


def matches(tag: str, language: str) -> bool:
    """Whether the language of a text is one that is looked for: `de-DE` and `de_AT` are `de`, but `de` is no `de-DE`.

    As basic filtering of RFC 4647, section 3.3.1, with the underscore for the hyphen too.
    """
    tag, language = (code.replace("_", "-").lower() for code in (tag, language))
    return tag == language or tag.startswith(f"{language}-")


def languages_of(path: PathLike, layout: Layout) -> tuple[str, str]:
    """The languages to look for in a file.

    Raises:
        DataError: they are not known.
    """
    source, target = map(str, layout.columns_or(*layout.languages)[:2])
    if not (source and target):
        raise DataError(
            f"{path}: the languages of source and target must be known to find them in it: give --languages es,en"
        )
    return source, target


class _Members(NamedTuple):
    """The files of both sides in an archive."""

    source: str
    target: str


def read_zip(path: PathLike, layout: Layout) -> Iterator[Unit]:
    """Yield the pairs of the Moses files in a zip archive, NAME.de and NAME.en, without unpacking it.

    Raises:
        DataError: it has no such files, they differ in their number of lines, or it cannot be read.
    """
    languages = languages_of(path, layout)
    with _naming(path), zipfile.ZipFile(path) as archive:
        found = _members(archive.namelist(), *languages)
        if not found:
            names = ", ".join(archive.namelist()[:10]) or "nothing"
            raise DataError(f"{path}: must hold Moses files, NAME.{languages[0]} and NAME.{languages[1]}, got {names}")
        for members in found:
            with ExitStack() as files:
                sides = [_lines_of(files.enter_context(archive.open(name)), f"{path}: {name}") for name in members]
                for number, (source, target) in enumerate(zip_longest(*sides), start=1):
                    if source is None or target is None:
                        name = members.source if source is None else members.target
                        raise DataError(
                            f"{path}: both sides of a corpus must have the same number of lines, but {name} ends "
                            f"after {number - 1:,}, before the other"
                        )
                    yield source, target


def _lines_of(file: Any, name: str) -> Iterator[str]:
    return (decode_line(line, name, number) for number, line in enumerate(file, start=1))


def _members(names: list[str], source: str, target: str) -> list[_Members]:
    """The files of source and target with one stem; that whose ending is the language itself goes before `de_AT`."""
    by_stem: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.startswith("__MACOSX/"):  # what a Mac adds of each file
            continue
        by_stem.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
    found = list[_Members]()
    for stem, endings in by_stem.items():
        sides = [best_match(endings, language) for language in (source, target)]
        if stem and None not in sides:
            found.append(_Members(*(f"{stem}.{side}" for side in sides)))
    return found


def best_match(tags: Sequence[str], language: str) -> str | None:
    """The tag that is a language itself, else the first one that is a variety of it."""
    found = [tag for tag in tags if matches(tag, language)]
    return min(found, key=len, default=None)


@contextmanager
def _naming(path: PathLike) -> Iterator[None]:
    """Turn what is wrong with an archive into an error with its name."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: must be a zip archive that can be read, got a damaged or locked one: {error}"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}{looked_for(path, error)}") from error
