"""Parallel text: `Corpus`, what reads the files of one, and what is counted and hashed while that is done."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, wraps
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nmt.alignment.links import LinksOf
from nmt.atomic_files import temporary_path
from nmt.data.lines import read_lines
from nmt.errors import ConfigError, DataError
from nmt.kinds import READERS
from nmt.text.tokenizer import in_blocks
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.settings.data import DataSettings

_LOGGER = logging.getLogger(__name__)


class Layout(NamedTuple):
    """How a file holds both sides of a corpus.

    Attributes:
        format: the word of its reader; None is the ending of its name.
        columns: where source and target stand: a column by its number, from 1, or by its name in the first line; a
            field of JSON lines; a language. None is where the format has them.
        languages: of source and target, as codes; empty if they are not known.
        weight_column: where the weight of a pair in the training loss stands; None if none is read.
        links: where the links between words stand; None if none are read.
    """

    format: str | None = None
    columns: tuple[int | str | None, int | str | None] = (None, None)
    languages: tuple[str, str] = ("", "")
    weight_column: int | str | None = None
    links: LinksOf | None = None

    def columns_or(self, source: int | str, target: int | str) -> tuple[int | str, ...]:
        """Where source, target and, if they are read, weight and links stand, for a format with the first two there."""
        given_source, given_target = self.columns
        found = source if given_source is None else given_source, target if given_target is None else given_target
        more = self.weight_column, self.links and self.links.column
        return *found, *(column for column in more if column is not None)

    def unit(self, pair: tuple[str, str], more: Sequence[object], place: str) -> Pair:
        """A pair with what else columns have of it, of which `place` is the file and line.

        Raises:
            DataError: there is no weight or there are no links.
        """
        column = self.links and self.links.column
        weight = "1.0" if self.weight_column is None else loss_weight(more[0], place)
        if self.links is not None and column is not None:
            return *pair, weight, self.links.checked(more[-1], pair, place)
        return pair if self.weight_column is None else (*pair, weight)


BY_ENDING = Layout()
"""The ending of a file's name says all."""

Unit: TypeAlias = tuple[str, str] | str
"""A pair of lines, or why a part of a file gives none, as a phrase such as "without es or en"."""

Weighed: TypeAlias = tuple[str, str, str]
"""A pair of lines and its weight in the training loss, as `loss_weight` gives it."""

Pair: TypeAlias = tuple[str, str] | Weighed | tuple[str, str, str, str]
"""The same with the links of its words behind, as `LinksOf.checked` gives them; then there is a weight in any case."""

Reader: TypeAlias = Callable[[PathLike, Layout], Iterator[str | Pair]]
"""Yields what a file holds that has both sides. No text of a pair holds a line feed.

If the layout has a `weight_column`, each pair comes with its weight, and if links are in a column, with weight and
links: see `Layout.unit`."""

_WEIGHTS = 1e-6, 1e6
"""The least weight but 0 and the largest: sums of such are exact enough in float32."""


def loss_weight(value: object, place: str) -> str:
    """The weight of a pair in the training loss, as text that gives the same number again.

    Args:
        value: what a file has for it, a text or a number.
        place: file and line.

    Raises:
        DataError: it is no such number.
    """
    try:
        weight = -1.0 if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        weight = -1.0
    if not (weight == 0 or _WEIGHTS[0] <= weight <= _WEIGHTS[1]):
        low, high = _WEIGHTS
        raise DataError(f"{place}: must have a loss weight, 0 or a number from {low:g} to {high:g}, got {value!r:.60}")
    return repr(weight)


def register_reader(ending: str) -> Callable[[Reader], Reader]:
    """Let the decorated function read the corpora in files whose names have an ending, say `.po`, compressed or not.

    It may read by `read_lines` or `read_blocks`, which decompress.

    Raises:
        ConfigError: this is no ending, or one of ours.
    """
    if not ending.startswith("."):
        raise ConfigError(f"a reader is registered for an ending such as .po, got {ending!r}")
    return READERS.register(ending[1:])


NO_MORE = ("1", "")
"""What other columns of an empty line have: weight and links."""

SIDES = ("source", "target")


class Corpus:
    """Parallel text: line n of the target translates line n of the source.

    Args:
        source: a path, or the paths of several files.
        target: the same number of paths; the n-th file belongs to the n-th of the other side. If it is the same file,
            that has both sides.
        layout: how files hold both sides.
    """

    def __init__(
        self,
        source: PathLike | Sequence[PathLike],
        target: PathLike | Sequence[PathLike],
        *,
        layout: Layout = BY_ENDING,
    ) -> None:
        self.paths, self.layout = (_as_paths(source), _as_paths(target)), layout

    @classmethod
    def of(cls, data: DataSettings, name: str) -> Corpus:
        """Return a corpus of the settings by its name there, one of `DataSettings.corpora`."""
        settings = data.corpora[name]
        columns = settings.source_column, settings.target_column
        languages, links = (data.source_language, data.target_language), None
        if data.hints and name in data.names("train"):
            links = LinksOf(settings.alignment_paths, settings.alignment_column, settings.alignment_tokenized)
        layout = Layout(settings.format, columns, languages, settings.loss_weight_column, links)
        return cls(*settings.paths, layout=layout)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """All pairs of lines, in order, none left out; what a file has besides them is counted in the log.

        Raises:
            DataError: what `read_lines` raises, or the reader of a file; the two sides differ in their number of files
                or lines; a file is empty.
        """
        rows = self._counted()
        return rows if self.layout.weight_column is None and self.layout.links is None else (row[:2] for row in rows)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """The pairs, each with weight and links behind if the layout says where they stand; raises the same."""
        return self._counted()

    def _counted(self) -> Iterator[Any]:
        links = self.layout.links
        for number, paths in enumerate(self._files()):
            kept, dropped, units = 0, Counter[str](), self._units_of(*paths)
            if links is not None and links.files:
                path = links.file_of(number, len(self.paths[0]))
                units = links.beside(units, read_lines(path), path)
            for unit in units:
                if isinstance(unit, str):
                    dropped[unit] += 1
                else:
                    kept += 1
                    yield unit
            if dropped:
                say_once(f"{paths[0]}: {describe_counts(kept, dropped)}")

    def units(self) -> Iterator[Unit]:
        """The same, with the reason in the place of each part that gives no pair; raises what `pairs` raises."""
        units = chain.from_iterable(self._units_of(*paths) for paths in self._files())
        return (unit if isinstance(unit, str) else unit[:2] for unit in units)

    def _files(self) -> Iterator[tuple[str, str]]:
        sources, targets = self.paths
        if len(sources) != len(targets):
            raise DataError(
                f"both sides of a corpus must have the same number of files, got {len(sources)} source files "
                f"({', '.join(sources)}) and {len(targets)} target files ({', '.join(targets)})"
            )
        of_both = self.layout.format, *self.layout.columns
        if any(of_both) and self.layout.weight_column is None and not {*sources} & {*targets}:
            raise DataError(
                f"format and columns are of files that hold both sides, and {sources[0]} and {targets[0]} hold one "
                "each: cut the columns out first, or leave format and columns away"
            )
        return zip(sources, targets, strict=True)

    def _units_of(self, source: str, target: str) -> Iterator[Any]:
        reader, column = reader_of(source, self.layout) if source == target else None, self.layout.weight_column
        of_links = self.layout.links and self.layout.links.column
        if reader is None and column is None and of_links is None:
            yield from _pairs_of(source, target)
            return
        num_pairs, least = 0, 4 if of_links is not None else 3 if column is not None else 2
        for unit in reader(source, self.layout) if reader else [("", "")]:
            if not isinstance(unit, str) and len(unit) < least:
                what, key = ("loss weights", "loss_weight") if of_links is None else ("links", "alignment")
                raise DataError(
                    f"{source}: must be a file with columns or fields, say tsv or jsonl, to have {what} in "
                    f"{of_links or column}: convert it, or remove {key}_column"
                )
            num_pairs += not isinstance(unit, str)
            yield unit
        if not num_pairs:
            raise DataError(f"a corpus must hold at least one pair of lines, got none in {source}")

    def content_hash(self) -> str:
        """The SHA-256 of its text, weights and links, which `TokenStore.content_hash` is too; reads it from end to end.

        Raises:
            DataError: see `pairs`.
        """
        return hash_pairs(self.rows())

    def refuse_one_file(self, name: str, *, of_pairs: bool = False) -> None:
        """Refuse one file of lines for both sides, also by another name: a model would learn to copy.

        Args:
            name: of the corpus in the settings, `data.train`.
            of_pairs: whether the settings name it as files that hold both sides.

        Raises:
            DataError: naming the file.
        """
        for source, target in zip(*self.paths, strict=False):
            same = source == target
            with suppress(OSError):  # what is missing is said when it is read
                same = same or Path(source).samefile(target)
            if same and reader_of(source, self.layout) is None:
                if of_pairs:
                    raise DataError(
                        f"{name}.pairs must name files that hold both sides, and {source} ends in none of "
                        f"{', '.join(READERS.built)}: give {name}.format, or write 'corpus.{{es,en}}' for a file of "
                        "each side, or source and target; --import loads a reader of your own"
                    )
                raise DataError(
                    f"{name}.source and {name}.target must be two files, line n of one translating line n of the "
                    f"other, got {source} for both: if it has both sides, give it as {name}.pairs, with {name}.format "
                    "if its name does not end in that, say tsv for columns between tabs"
                )


def pairs_of(data: DataSettings, part: str) -> Iterator[tuple[str, str]]:
    """All pairs of a part of the settings, `train` for instance: of its only corpus, or of one after the other.

    Raises:
        DataError: what `Corpus.pairs` raises.
    """
    return chain.from_iterable(Corpus.of(data, name).pairs() for name in data.names(part))


def describe_counts(kept: int, dropped: Counter[str]) -> str:
    """Say how many pairs were read, kept and dropped, and why."""
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.most_common())
    return _described(kept, sum(dropped.values()), reasons)


def _described(kept: int, dropped: int, reasons: str) -> str:
    read = kept + dropped
    line = f"{read:,} pair{'s' * (read != 1)} read, {kept:,} kept, {dropped:,} dropped"
    return f"{line}: {reasons}" if dropped else line


@cache
def say_once(sentence: str, level: int = logging.INFO) -> None:
    """Log what is true of a file once, however often that is read."""
    _LOGGER.log(level, "%s", sentence)


def _as_paths(paths: PathLike | Sequence[PathLike]) -> list[str]:
    """A path or a list of paths as a list of strings."""
    return [os.fspath(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]


def reader_of(path: PathLike, layout: Layout = BY_ENDING) -> Reader | None:
    """What reads a file that has both sides, by the ending of its name without that of its compression.

    None if there are lines of one side in such files.

    Raises:
        ConfigError: the layout names no format.
    """
    word = layout.format or kind_of(path)
    if not layout.format and word not in READERS.built:
        return None
    return READERS[word] if READERS.is_ours(word) else _checked_reader(word, READERS[word])


def _checked_reader(word: str, reader: Reader) -> Reader:
    """A reader of a user's own, which must yield pairs of texts without line feeds, or why there is none."""

    @wraps(reader)  # by whose name a store is known
    def checked(path: PathLike, layout: Layout) -> Iterator[str | Pair]:
        most = 2 + (layout.weight_column is not None) + (layout.links is not None and layout.links.column is not None)
        for number, unit in enumerate(reader(path, layout), 1):
            found: Any = [unit] * 2 if isinstance(unit, str) else unit
            if not (
                isinstance(found, tuple | list)
                and 2 <= len(found) <= most
                and all(isinstance(each, str) and "\n" not in each for each in found)
            ):
                raise DataError(
                    f"{path}: the reader of {word} must yield source and target, two texts without a line feed, got "
                    f"{unit!r:.80} at {number:,}"
                )
            yield unit

    return checked


def kind_of(path: PathLike) -> str:
    """The ending of the name of a file, in lower case, without its dot and without that of its compression."""
    return Path(re.sub(r"\.(gz|xz|bz2|zst)$", "", os.fspath(path))).suffix[1:].lower()


def holds_both_sides(path: PathLike, first_line: str) -> bool:
    """Whether a file that is read as lines has both sides by its name; a .tsv without a tab is lines."""
    kind = kind_of(path)
    return kind in READERS.built and (kind != "tsv" or "\t" in first_line)


def _pairs_of(source_path: str, target_path: str) -> Iterator[tuple[str, str]]:
    source_lines, target_lines = read_lines(source_path), read_lines(target_path)
    count = 0
    for source, target in zip_longest(source_lines, target_lines):
        if source is None or target is None:
            rest = 1 + sum(1 for _ in chain(source_lines, target_lines))  # the side that has ended has none
            counts = [count + rest * (line is not None) for line in (source, target)]
            of_source, of_target = (f"{number:,} line{'s' * (number != 1)}" for number in counts)
            raise DataError(
                "both sides of a corpus must have the same number of lines, "
                f"got {of_source} in {source_path} and {of_target} in {target_path}"
            )
        if count == 0:
            for line, path in ((source, source_path), (target, target_path)):
                if holds_both_sides(path, line):
                    raise DataError(
                        f"{path}: must hold one side of a corpus, one sentence per line, got a file with both "
                        f"(.{kind_of(path)}): give it as pairs, in a config as in train: {{pairs: {path}}}"
                    )
        count += 1
        yield source, target
    if count == 0:
        raise DataError(f"a corpus must hold at least one pair of lines, got empty files: {source_path}, {target_path}")


def copy_stream(path: PathLike, directory: PathLike, word: str | None = None) -> str:
    """Copy what can be read only once into a directory, under a name that its content gives; return the copy's path.

    Args:
        path: the stream.
        directory: is made if there is none.
        word: of the reader; that of the path's ending unless given.

    Raises:
        DataError: the stream cannot be read, or the disk refuses.
    """
    kind, content = word or kind_of(path), hashlib.sha256()
    temporary = temporary_path(Path(directory) / "stream")
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "rb") as stream, temporary.open("wb") as file:
            while block := stream.read(1 << 20):
                content.update(block)
                file.write(block)
        ending = f".{kind}" if kind in READERS.built else ""
        return os.fspath(temporary.replace(temporary.with_name(f"stream-{content.hexdigest()[:16]}{ending}")))
    except OSError as error:
        raise DataError(f"{path}: cannot be copied to {directory}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class CorpusReport:
    """Counts of pairs; those read are those kept and those dropped.

    Attributes:
        pairs_read: pairs of lines in the corpus.
        kept: pairs that training sees.
        dropped_empty: pairs with a side that holds nothing but white space.
        dropped_nul: pairs with a NUL character.
        dropped_too_long: pairs with a side of more than `max_length` tokens.
        max_length: the limit of tokens per side, EOS not counted.
        filtered: pairs that filters of the corpus dropped, by the reason, as a phrase.
    """

    pairs_read: int
    kept: int
    dropped_empty: int
    dropped_nul: int
    dropped_too_long: int
    max_length: int
    filtered: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: CorpusReport) -> CorpusReport:
        """Return the counts of two parts of a corpus together."""
        filtered = dict(Counter(self.filtered) + Counter(other.filtered))
        counts = {name: count + getattr(other, name) for name, count in vars(self).items() if name != "filtered"}
        return CorpusReport(**counts | {"max_length": self.max_length, "filtered": filtered})

    @property
    def dropped(self) -> int:
        """All pairs that training does not see."""
        return self.dropped_empty + self.dropped_nul + self.dropped_too_long + sum(self.filtered.values())

    def describe(self) -> str:
        """One line for logs."""
        return _described(self.kept, self.dropped, self.reasons())

    def reasons(self) -> str:
        """Why pairs were dropped, as a phrase; empty if none was."""
        counts = {
            f"longer than {self.max_length} tokens": self.dropped_too_long,
            "with an empty side": self.dropped_empty,
            "with a NUL character": self.dropped_nul,
            **self.filtered,
        }
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.items() if count)


@dataclass(frozen=True)
class TextBlock:
    """Some pairs of lines of a corpus, in a row, with their weights and links if they have some."""

    pairs: Sequence[tuple[str, ...]]

    @cached_property
    def texts(self) -> tuple[bytes, ...]:
        r"""Source, target, weights and links if there are some, in UTF-8, each line closed by `\n`."""
        sides = zip(*self.pairs, strict=True)
        return tuple("".join(f"{line}\n" for line in lines).encode("utf-8") for lines in sides)


class ContentHash:
    """The SHA-256 of the text of a corpus, both sides, weights and links if it has some, given block by block."""

    def __init__(self) -> None:
        self._sides = [hashlib.sha256(), hashlib.sha256()]

    def blocks(self, pairs: Iterable[tuple[str, ...]]) -> Iterator[TextBlock]:
        """Yield the next pairs of lines in blocks, each of which is taken in before."""
        for block in map(TextBlock, in_blocks(pairs)):
            self._sides += [hashlib.sha256() for _ in block.texts[len(self._sides) :]]
            for content, text in zip(self._sides, block.texts, strict=True):
                content.update(text)
            yield block

    def hexdigest(self) -> str:
        """The hash of all pairs so far, in hexadecimal."""
        return hashlib.sha256("".join(content.hexdigest() for content in self._sides).encode()).hexdigest()


def hash_pairs(pairs: Iterable[tuple[str, ...]]) -> str:
    """Return what `Corpus.content_hash` is of a corpus that holds such pairs."""
    content = ContentHash()
    deque(content.blocks(pairs), maxlen=0)
    return content.hexdigest()
