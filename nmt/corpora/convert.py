"""`nmt convert`: corpora in any format that is read, written in any of ours; and where the pairs of a verb go."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeAlias

from nmt.atomic_files import new_file, same_file
from nmt.corpora import formats, tmx
from nmt.data.corpus import Corpus, Layout, copy_stream, describe_counts, kind_of, reader_of
from nmt.data.lines import is_stream
from nmt.errors import ConfigError, DataError
from nmt.kinds import READERS
from nmt.settings.data import files_of_pairs, languages_in
from nmt.text.tokenizer import in_blocks

_LOGGER = logging.getLogger(__name__)

Pair: TypeAlias = tuple[str, str]
OpenText: TypeAlias = Callable[[Path | None], AbstractContextManager[Callable[[str], object]]]
"""Opens a file, or standard output, and gives what writes text there; the file appears whole."""

WRITTEN = ("tsv", "jsonl", "tmx", "zip")
"""The formats of files with both sides that are written."""

BY_LANGUAGE = ("tmx", "zip")
"""Those whose sides are told by their languages."""

STANDARD_STREAM = "-"
_STDIN = "/dev/stdin"
_CODE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*")


def languages_of(given: str | None, *patterns: str) -> tuple[str, str]:
    """The languages of source and target: as given, else as names such as `corpus.{es,en}` have them, else empty.

    Raises:
        ConfigError: two are not given.
    """
    if given is not None:
        codes = [code.strip() for code in given.split(",")]
        if len(codes) != 2 or not all(codes):
            raise ConfigError(f"--languages takes those of source and target, as in es,en, got {given}")
        return codes[0], codes[1]
    for pattern in patterns:
        found = languages_in(pattern)
        if found and all(map(_CODE.fullmatch, found)):
            return found
    return "", ""


def open_corpus(inputs: Sequence[str], layout: Layout) -> Corpus:
    """The corpus in files as a command line names them.

    Args:
        inputs: files with both sides, or `corpus.{es,en}`, or wildcards of either; or two files of lines, source and
            target; `-` is standard input.
        layout: how files hold both sides.

    Raises:
        ConfigError: a file of lines has no other side.
    """
    named = [_STDIN if name == STANDARD_STREAM else name for name in inputs]
    sources, targets = (list(chain(*side)) for side in zip(*map(files_of_pairs, named), strict=True))
    lines = [
        source for source, target in zip(sources, targets, strict=False)
        if source == target and reader_of(source, layout) is None
    ]  # fmt: skip
    if len(lines) == 2 == len(sources):
        return Corpus(lines[0], lines[1], layout=layout)
    if lines:
        raise ConfigError(
            f"a file of lines has another one for the other side, got {lines[0]}: name both, as 'corpus.{{es,en}}' in "
            "quotes, or say by --from how it holds both"
        )
    return Corpus(sources, targets, layout=layout)


@contextmanager
def on_disk(corpus: Corpus) -> Iterator[Corpus]:
    """The corpus with a copy in place of each stream, so that it can be read more than once.

    Raises:
        DataError: a stream or the disk fails.
    """
    streams = [path for path in dict.fromkeys(chain(*corpus.paths)) if is_stream(path)]
    if not streams:
        yield corpus
        return
    with tempfile.TemporaryDirectory(prefix="nmt-") as folder:
        _LOGGER.info("%s can be read only once: copying it to %s first", " and ".join(streams), folder)
        copies = {path: copy_stream(path, folder, corpus.layout.format) for path in streams}
        sides = ([copies.get(path, path) for path in side] for side in corpus.paths)
        yield Corpus(*sides, layout=corpus.layout)


class Output(NamedTuple):
    """Where pairs go.

    name: as the command line has it.
    source, target: the files of lines; the same one if it holds both sides.
    kind: how it does; empty for files of lines.
    languages: of source and target.
    """

    name: str
    source: str
    target: str
    kind: str
    languages: tuple[str, str]

    @classmethod
    def parse(cls, name: str, *, kind: str | None, languages: tuple[str, str]) -> Output:
        """Understand the name of an output on a command line.

        Raises:
            ConfigError: it does not say how to write, or the format needs languages that are not known.
        """
        sides = _sides(name)
        if sides is not None and languages[0] != languages[1] and languages_in(name) == languages[::-1]:
            raise ConfigError(
                f"{name} must have the source first, got {languages[1]} where pairs go from {languages[0]} into "
                f"{languages[1]}: write {{{','.join(languages)}}}"
            )
        if sides is not None and sides[0] == sides[1]:
            raise ConfigError(f"{name}: source and target must be two files, got {sides[0]} for both")
        if sides is not None and kind is None:
            return cls(name, *sides, "", languages)
        word = kind or kind_of(name)
        if word in READERS.built and word not in WRITTEN:
            raise ConfigError(f"{name}: {word} is read, not written: give one of {', '.join(WRITTEN)}")
        if word not in WRITTEN or sides is not None:
            raise ConfigError(
                f"the output must end in .{', .'.join(WRITTEN)}, or name a file of lines for each side, as "
                f"'out.{{es,en}}' in quotes; or --to says the format, one of these; got {name}"
                + (f" and {kind}" if kind else "")
            )
        if word in BY_LANGUAGE and not all(languages):
            raise ConfigError(
                f"{name}: the languages of source and target stand in it: give them, as --languages es,en"
            )
        if word in BY_LANGUAGE and languages[0] == languages[1]:
            raise ConfigError(f"{name}: {word} tells the sides by their languages, got {languages[0]} for both")
        if word == "zip" and name == STANDARD_STREAM:
            raise ConfigError("a zip archive needs a file, got standard output")
        return cls(name, name, name, word, languages)

    def refuse_other_languages(self, corpus: Corpus) -> None:
        """Refuse to write one language as the other: that the names of the input's files end in them shows which is.

        Raises:
            ConfigError: source and target would change places.
        """
        for source, target in zip(*corpus.paths, strict=False):
            endings = kind_of(source), kind_of(target)
            if all(endings) and endings == self.languages[::-1] != self.languages:
                raise ConfigError(
                    f"{self.name}: {source} would be written as {self.languages[0]}: write {{{','.join(endings)}}}, or "
                    f"--languages {','.join(endings)}; to swap the sides give {target} first"
                )

    def refuse_inputs(self, corpus: Corpus) -> None:
        """Refuse to replace what is read.

        Raises:
            ConfigError: it would be.
        """
        for path in chain(*corpus.paths):
            if any(same_file(Path(path), Path(output)) for output in (self.source, self.target)):
                raise ConfigError(f"the output must be another file than the input, got {path} for both")

    @contextmanager
    def open(self, open_text: OpenText, dropped: Counter[str]) -> Iterator[Callable[[Sequence[Pair]], int]]:
        """What writes pairs, and says how many; the files appear whole at the end.

        Args:
            open_text: opens a file for text.
            dropped: counts why pairs were not written.

        Raises:
            DataError: the disk refuses.
        """
        with ExitStack() as stack:
            if self.kind == "zip":
                yield stack.enter_context(_zip(Path(self.source), self.languages))
                return
            paths = dict.fromkeys((self.source, self.target))
            files = [stack.enter_context(open_text(None if path == STANDARD_STREAM else Path(path))) for path in paths]
            if self.kind == "tmx":
                files[0](tmx.begin(self.languages[0]))

            def write(pairs: Sequence[Pair]) -> int:
                if self.kind == "tmx":
                    given, pairs = len(pairs), [pair for pair in pairs if not any(map(tmx.NOT_IN_XML.search, pair))]
                    if len(pairs) < given:
                        dropped["with a character that no XML can hold"] += given - len(pairs)
                for file, text in zip(files, self._texts(pairs), strict=True):
                    file(text)
                return len(pairs)

            yield write
            if self.kind == "tmx":
                files[0](tmx.END)

    def _texts(self, pairs: Sequence[Pair]) -> list[str]:
        """The text of pairs for each of the files."""
        if self.kind == "tmx":
            return ["".join(tmx.unit(*pair, self.languages) for pair in pairs)]
        if self.kind:
            write = formats.write_tsv if self.kind == "tsv" else formats.write_jsonl
            return ["".join(write(*pair) for pair in pairs)]
        return ["".join(f"{pair[side]}\n" for pair in pairs) for side in (0, 1)]

    def named_after(self, part: str) -> Output:
        """The same for one part of a corpus, whose name goes before the ending: `travel.train.{es,en}.gz`."""
        separator = "."
        if self.kind:
            ending = re.search(rf"\.{self.kind}(\.(gz|xz|bz2|zst))?$", self.name, re.IGNORECASE)
            before, after = (self.name[: ending.start()], ending[0]) if ending else (self.name, "")
        else:
            before, brace, after = self.name.partition("{")
            separator = before[-1:] if before[-1:] in ("-", "_") else "."
            before, after = before.removesuffix(separator), separator + brace + after
        join = "" if not before or before.endswith("/") else separator
        return Output.parse(f"{before}{join}{part}{after}", kind=self.kind or None, languages=self.languages)


def _sides(name: str) -> tuple[str, str] | None:
    """The files of lines that `out.{es,en}` names; a file that is there under that very name is one for both."""
    found = languages_in(name)
    if found is None:
        return None
    source, target = (name.replace("{" + ",".join(found) + "}", side, 1) for side in found)
    return source, target


@contextmanager
def _zip(path: Path, languages: tuple[str, str]) -> Iterator[Callable[[Sequence[Pair]], int]]:
    """Write a zip archive of two files of lines, which are written beside it until both are whole."""
    stem = path.name.removesuffix(".zip").removesuffix(".txt")
    try:
        with new_file(path.resolve()) as place, ExitStack() as stack:
            folder = path.resolve().parent
            sides = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in languages]

            def write(pairs: Sequence[Pair]) -> int:
                for side, file in enumerate(sides):
                    file.write("".join(f"{pair[side]}\n" for pair in pairs).encode())
                return len(pairs)

            yield write
            with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
                for file, language in zip(sides, languages, strict=True):
                    file.seek(0)
                    with archive.open(f"{stem}.{language}", "w", force_zip64=True) as member:
                        shutil.copyfileobj(file, member)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def convert(corpus: Corpus, output: Output, *, open_text: OpenText, count: Callable[[int], object]) -> str:
    """Write a corpus in another format, every pair of it that the format can hold.

    Args:
        corpus: what is read, once, as it comes; an archive in a stream is copied to disk first.
        output: where it goes.
        open_text: opens a file for text.
        count: told how many more pairs were read.

    Returns:
        How many pairs were read, kept and dropped, and why.

    Raises:
        NMTError: the corpus cannot be read, or the output not be written.
    """
    output.refuse_inputs(corpus)
    kept, dropped, tabs = 0, Counter[str](), 0
    archived = "zip" in (corpus.layout.format, *map(kind_of, corpus.paths[0]))
    with ExitStack() as stack:
        if archived:
            corpus = stack.enter_context(on_disk(corpus))
        write = stack.enter_context(output.open(open_text, dropped))
        for block in in_blocks(corpus.units()):
            pairs = [unit for unit in block if not isinstance(unit, str)]
            dropped.update(unit for unit in block if isinstance(unit, str))
            if output.kind == "tsv":
                tabs += sum("\t" in text for pair in pairs for text in pair)
            if pairs:
                kept += write(pairs)
            count(len(block))
    told = describe_counts(kept, dropped) + left_behind(corpus)
    return f"{told}; {tabs:,} lines had tabs, which are spaces now" if tabs else told


_MOST_NAMED = 5


def left_behind(corpus: Corpus) -> str:
    """What is said of what a corpus has besides both sides, which is not written; nothing of a stream."""
    layout, found = corpus.layout, dict[str, None]()
    for source, target in zip(*corpus.paths, strict=True):
        if source == target and not is_stream(source):
            found.update(dict.fromkeys(formats.fields_beside(source, layout.format or kind_of(source), layout)))
    found.update(dict.fromkeys(f"the links in {path}" for path in (layout.links.files if layout.links else ())))
    names = [*found][:_MOST_NAMED]
    more = [f"{len(found) - len(names)} more"] if len(found) > len(names) else []
    return f"; not written, since there is more than both sides: {', '.join([*names, *more])}" if found else ""
