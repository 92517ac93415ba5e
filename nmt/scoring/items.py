"""What is to be scored or aligned: given translations of lines, from two files or from JSON records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nmt.control.controls import read_object, tag_in
from nmt.errors import DataError
from nmt.scoring.evaluation import read_together
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.scoring.forced import Target


class Item(NamedTuple):
    """A line, and given translations of it.

    source: the line.
    targets: its translations, as text or as token ids.
    record: the JSON record that they came in; empty if they came in none.
    tag: what the model reads with the line; None for nothing.
    """

    source: str
    targets: list[Target]
    record: Mapping[str, Any]
    tag: str | None = None


def read_pair(line: str, place: str, tag: str | None = None) -> Item:
    """Read a JSON record of `source`, and `target` or `target_ids`; its `tag` stands in place of that of all lines.

    Raises:
        DataError: it is no such object.
    """
    record = read_object(line, place)
    target: Target | None = record.get("target")
    if "target_ids" in record:
        target = _token_ids(record["target_ids"], f'{place}: "target_ids"')
    elif not isinstance(target, str):
        raise DataError(f'{place} must have a text "target", or "target_ids"')
    return Item(record["source"], [target], record, tag_in(record, place, tag))


def read_n_best(line: str, place: str, tag: str | None = None) -> Item:
    """Read a JSON record of `source` and `translations`, as `nmt translate --format jsonl` writes them.

    A translation is scored by its `token_ids` if it has such, else by its `text`. The tag is read as by `read_pair`.

    Raises:
        DataError: it is no such object.
    """
    record = read_object(line, place)
    translations = record.get("translations")
    if not isinstance(translations, list) or not all(
        isinstance(each, dict) and isinstance(each.get("text"), str) for each in translations
    ):
        raise DataError(f'{place} must have "translations", a list of objects with a "text"')
    targets: list[Target] = [
        _token_ids(each["token_ids"], f'{place}: "token_ids"') if "token_ids" in each else each["text"]
        for each in translations
    ]
    return Item(record["source"], targets, record, tag_in(record, place, tag))


def _token_ids(given: Any, place: str) -> list[int]:
    if not isinstance(given, list) or not all(type(each) is int for each in given):
        raise DataError(f"{place} must be a list of integers, got {given!r}")
    return given


def pairs_of(source: PathLike, target: PathLike, *, chunk_lines: int, tag: str | None = None) -> Iterator[list[Item]]:
    """Read two files that belong together line by line; each pair gets the tag.

    Raises:
        DataError: one cannot be read, they differ in their number of lines, or are empty.
    """
    sides = read_together(source, target)
    items = [Item(one, [other], {}, tag) for one, other in zip(*sides, strict=True)]
    for start in range(0, len(items), chunk_lines):
        yield items[start : start + chunk_lines]
