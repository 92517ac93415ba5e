"""A long translation from file to file, chunk by chunk, each on the disk before the next one begins.

`OUT.partial` grows by a chunk at a time, and then `OUT.journal` says how much of it counts. Whenever the process is
killed, the two tell another one how to go on. `OUT` itself appears whole, at the end.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nmt.atomic_files import read_regular_file, recover_directory, replace_file, sync_folder
from nmt.errors import DataError
from nmt.terminal.options import usage_error
from nmt.terminal.streams import check_replaceable, chunked, compressor, hand_on_mode, line_counter, naming

if TYPE_CHECKING:
    from nmt.tasks.translate import PreparedTranslation, TranslatedLine
    from nmt.tasks.translation_job import Done

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1

_CLOSED = -1


class Lines(NamedTuple):
    """The lines of a file, or those of a part of them.

    path: the file.
    total: all its lines.
    first, stop: the part, lines counted from 0.
    chunk_lines: how many of them, at most, are sorted by length and translated together.
    """

    path: Path
    total: int
    first: int
    stop: int
    chunk_lines: int

    @classmethod
    def of(cls, path: Path, *, shard: str | None, chunk_lines: int) -> Lines:
        """Count the lines of a file, and take the part that `--shard` names.

        Raises:
            DataError: the file cannot be read.
        """
        from nmt.data.lines import read_lines

        number, count = (1, 1) if shard is None else parse_shard(shard)
        total = sum(1 for _ in read_lines(path))
        return cls(path, total, total * (number - 1) // count, total * number // count, chunk_lines)

    def read(self, start: int | None = None) -> Iterator[str]:
        """Yield the lines of the part, from one of them on."""
        from nmt.data.lines import read_lines

        return islice(read_lines(self.path), self.first if start is None else start, self.stop)

    def chunks(self) -> Iterator[list[str]]:
        """Yield them in chunks."""
        return chunked(self.read(), self.chunk_lines)


def parse_shard(text: str) -> tuple[int, int]:
    """Return number and count of `i/n`."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise usage_error(f"--shard takes i/n, part i of n, counted from 1, as in 2/8, got {text}")
    return int(number), int(count)


class Journal(NamedTuple):
    """What `OUT.journal` says.

    depends: what the output depends on besides the text, by names that users know.
    size: bytes of the output that are done.
    lines_sha256: of the lines that are done.
    done: what became of them, see `nmt.tasks.translation_job.Done`; None before the first chunk.
    finished: whether that is all.
    """

    depends: Mapping[str, Any]
    size: int = 0
    lines_sha256: str = ""
    done: Mapping[str, Any] | None = None
    finished: bool = False

    @property
    def num_lines(self) -> int:
        """How many lines are done."""
        return 0 if self.done is None else self.done["lines"] - self.done["first"]

    @classmethod
    def read(cls, path: Path) -> Journal | None:
        """Read the file; None if there is none.

        Raises:
            DataError: it is no journal, or one of another version.
        """
        try:
            content = json.loads(read_regular_file(path))
            if content.pop("format_version") == FORMAT_VERSION:
                return cls(**content)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        raise DataError(f"{path}: must be a journal that this version wrote, but holds something else: move it away")

    def write(self, path: Path) -> None:
        """Put it in the place of the file, on the disk."""
        content = {"format_version": FORMAT_VERSION, **self._asdict()}
        replace_file(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())


class ResumableFile:
    """An output file that grows chunk by chunk; see the top of this module.

    Args:
        output: the file.
        depends: what its content depends on besides the text.
        resume: whether to go on, if there is anything to go on from. The journal then stays at the end, so that the
            same command again has nothing left to do.
    """

    def __init__(self, output: Path, *, depends: Mapping[str, Any], resume: bool) -> None:
        self.output, self.target, self.resume = output, output.resolve(), resume
        self.partial, self.journal_path = (
            self.target.with_name(f"{self.target.name}.{ending}") for ending in ("partial", "journal")
        )
        self.journal = Journal(json.loads(json.dumps(depends)))
        self._compress = compressor(output.suffix)
        self._file = _CLOSED

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.journal.finished and self._file == _CLOSED

    def open(self) -> None:
        """Begin, or go on.

        Raises:
            DataError: it cannot be written, another process writes it, or it cannot go on from what is there.
        """
        found = Journal.read(self.journal_path)
        if found is None and self.partial.exists():
            raise DataError(f"{self.partial} is there, but no journal that says what it is: move it away")
        if found is not None and not (found.finished and not self.resume):
            self._check(found)
        else:
            found = None
        with naming(self.output):
            replaced = check_replaceable(self.target)
            if found is None:
                self.journal.write(self.journal_path)
            elif found.finished and not self.partial.exists():
                self._check_finished(found)
                self.journal = found
                return
            self._lock()
            recover_directory(self.journal_path)  # what a process that was killed had begun of it
            found = Journal.read(self.journal_path)  # nobody else changes it from now on
            if found is None or not (found.num_lines or found.finished):
                if found != self.journal:  # what another was to do, and has done nothing of
                    self.journal.write(self.journal_path)
                found = self.journal
            self._check(found)
            if os.fstat(self._file).st_size < found.size:
                raise DataError(
                    f"{self.partial} has less than {self.journal_path.name} says: delete both, and begin again"
                )
            os.ftruncate(self._file, found.size)
            os.lseek(self._file, 0, os.SEEK_END)
            self.journal = found
            if replaced is not None:  # before any text is in it
                hand_on_mode(self.target, self.partial, replaced)

    def _check(self, found: Journal) -> None:
        """Refuse to go on with something else, or not to go on although much is done."""
        if not self.resume:
            if found.num_lines:
                raise DataError(
                    f"{self.partial} holds {found.num_lines:,} lines of a run that did not end: give --resume to go "
                    f"on, or delete {self.journal_path.name} and it to begin again"
                )
            return
        wanted = self.journal.depends
        names = [name for name in {**found.depends, **wanted} if found.depends.get(name) != wanted.get(name)]
        if names and (found.num_lines or found.finished):
            told = [f"{name} was {_shown(found.depends.get(name))} and is {_shown(wanted.get(name))}" for name in names]
            raise DataError(
                f"{self.output} was begun in another way, so --resume cannot go on: {'; '.join(told)}. Give what it "
                f"was begun with, or delete {self.journal_path} to begin again"
            )

    def _check_finished(self, found: Journal) -> None:
        if not self.target.is_file() or self.target.stat().st_size != found.size:
            raise DataError(
                f"{self.output} is not what {self.journal_path.name} says of it: delete {self.journal_path} to "
                "translate again"
            )

    def _lock(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self.partial, flags, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(self._file), os.lstat(self.partial)):
                return
        except (BlockingIOError, FileNotFoundError):
            pass
        self.close()
        raise DataError(f"another process writes {self.output}: wait for its end, or stop it")

    def commit(self, text: str, done: Done, lines_sha256: str) -> None:
        """Write a chunk: first the text, then the journal that counts it, each to the disk.

        Raises:
            DataError: the disk refuses.
        """
        with naming(self.output):
            size = self.journal.size + (self._append(text.encode()) if text else 0)
            journal = Journal(self.journal.depends, size, lines_sha256, done.to_json())
            journal.write(self.journal_path)
            self.journal = journal

    def _append(self, content: bytes) -> int:
        written = view = memoryview(self._compress(content))
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        return len(written)

    def finish(self) -> None:
        """Let the file appear.

        Raises:
            DataError: the disk refuses.
        """
        with naming(self.output):
            if not self.journal.finished:
                size = self.journal.size or self._append(b"")
                self.journal._replace(size=size, finished=True).write(self.journal_path)
            self.partial.replace(self.target)
            sync_folder(self.target.parent)
            if not self.resume:
                self.journal_path.unlink()
        self.close()

    def stop(self) -> None:
        """Leave what is done for another process, and nothing if that is nothing."""
        if self._file == _CLOSED:
            return
        if self.journal.num_lines:
            logger.warning(
                "%s holds the first %s lines: the same command with --resume goes on",
                self.partial, f"{self.journal.num_lines:,}",
            )  # fmt: skip
        else:
            with suppress(OSError):
                self.partial.unlink(missing_ok=True)
                self.journal_path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give the file back to others."""
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


@contextmanager
def resumable(output: Path, *, depends: Mapping[str, Any], resume: bool) -> Iterator[ResumableFile]:
    """Open an output; on a failure, what is done stays for another process."""
    file = ResumableFile(output, depends=depends, resume=resume)
    try:
        file.open()
        yield file
    except BaseException:
        file.stop()
        raise


def run_job(
    prepared: PreparedTranslation,
    lines: Lines,
    output: Path,
    as_lines: Callable[[int, TranslatedLine], str],
    *,
    depends: Mapping[str, Any],
    resume: bool,
) -> None:
    """Translate from file to file, and say at the end what became of the lines.

    Args:
        prepared: what translates.
        lines: of the input.
        output: the file.
        as_lines: makes text of the number of a line, from 1, and its translations.
        depends: what the output depends on besides the text and what `prepared` says.
        resume: whether to go on from what an earlier process did.

    Raises:
        NMTError: as `ResumableFile.open`; the model cannot be opened, a line cannot be read, or the disk refuses.
    """
    from nmt.tasks.translation_job import Done

    depends = {**prepared.depends(lines.total), **depends, "lines of the input": lines.total}
    with resumable(output, depends=depends, resume=resume) as file:
        done = Done(lines.first, lines.first)
        if file.journal.done is not None:
            done = Done.from_json(file.journal.done)
        content, unread = hashlib.sha256(), lines.read()
        for number, line in enumerate(islice(unread, done.lines - lines.first), start=lines.first + 1):
            content.update(f"{line}\n".encode())
            prepared.skip(line, number, done)
        if done.lines > lines.first and content.hexdigest() != file.journal.lines_sha256:
            raise DataError(
                f"{lines.path} has changed: its lines {lines.first + 1:,} to {done.lines:,} are not those that were "
                f"translated: delete {file.journal_path} to begin again"
            )
        if file.complete:
            logger.info("%s is finished, there is nothing left to do", output)
            return
        if file.journal.num_lines:
            logger.info("going on after %s lines of %s", f"{file.journal.num_lines:,}", output)

        def read() -> Iterator[list[str]]:
            for chunk in chunked(unread, lines.chunk_lines):
                content.update("".join(f"{line}\n" for line in chunk).encode())
                yield chunk

        counter = line_counter(total=lines.stop - lines.first, before=done.lines - lines.first)
        with counter as count:
            written = list[str]()
            for number, translated in enumerate(prepared(read(), count, done), start=done.lines + 1):
                written.append(as_lines(number, translated))
                if number == done.lines:  # the last one of its chunk
                    file.commit("".join(written), done, content.hexdigest())
                    written.clear()
        file.finish()
        done.log()
