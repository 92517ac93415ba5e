"""Where the lines of a translation come from and where they go: files, pipes and terminals."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from nmt.terminal import options, streams
from nmt.terminal.streams import file_chunks, is_terminal, line_counter, stdin_chunks, text_output
from nmt.terminal.translation_options import Format, JobOptions

if TYPE_CHECKING:
    from nmt.tasks.translate import PreparedTranslation, TranslatedLine


class Place(NamedTuple):
    """Where lines come from and where they go; None for the standard streams."""

    source: Path | None
    output: Path | None
    job: JobOptions

    @property
    def is_between_files(self) -> bool:
        """Whether both are files that can be read, and written, in several goes."""
        return (
            _is_file(self.source)
            and self.output is not None
            and (_is_file(self.output) or not (self.output.exists() or _is_device(self.output)))
        )

    def check(self) -> None:
        """Refuse what the streams cannot do, before anything is looked for."""
        from nmt.terminal import jobs

        if self.job.shard is not None:
            jobs.parse_shard(self.job.shard)
            if not _is_file(self.source) and (self.source is None or self.source.exists()):
                raise options.usage_error("--shard needs a file with --input, since its lines are counted first")
        if self.job.chunk_lines is not None and not _is_file(self.source):
            raise options.usage_error("--chunk-lines needs a file with --input: a stream is translated as it comes")
        if self.job.resume and not self.is_between_files and (self.source is None or self.source.exists()):
            raise options.usage_error(
                "--resume needs files with --input and --output: of a stream nobody knows what was done"
            )

    def write(
        self, prepared: PreparedTranslation, as_lines: Callable[[int, TranslatedLine], str], output_format: Format
    ) -> None:
        """Read, translate and write as lines come, or chunk by chunk from file to file."""
        from nmt.tasks import translation_job
        from nmt.terminal import jobs

        job, chunk_lines = self.job, self.job.chunk_lines or streams.CHUNK_LINES
        lines = None
        if self.source is not None and (_is_file(self.source) or not self.source.exists()):
            lines = jobs.Lines.of(self.source, shard=job.shard, chunk_lines=chunk_lines)
        if lines is not None and self.output is not None and self.is_between_files:
            depends = {
                "--format": output_format, "--chunk-lines": chunk_lines, "--shard": job.shard,
            }  # fmt: skip
            jobs.run_job(prepared, lines, self.output, as_lines, depends=depends, resume=job.resume)
            return
        by_hand = self.source is None and is_terminal(sys.stdin)
        to_terminal = self.output is None and is_terminal(sys.stdout)  # where a live line would be torn by the text
        if lines is not None:
            chunks, first, total = lines.chunks(), lines.first, lines.stop - lines.first
        else:
            chunks, first, total = stdin_chunks() if self.source is None else _begun(file_chunks(self.source)), 0, None
        counter = line_counter(total=total, hidden=by_hand or to_terminal)
        with text_output(self.output) as write, counter as count:
            done = translation_job.Done(first, first)
            translated = prepared(chunks, count, done, num_lines=1 if by_hand else total)
            if by_hand:
                typer.echo("type a line to have it translated; Ctrl-D ends", err=True)
            for number, line in enumerate(translated, start=first + 1):
                write(as_lines(number, line))
        if self.source is not None or self.output is not None:
            done.log()


def _is_device(path: Path) -> bool:
    return path.is_relative_to("/dev")


def _is_file(path: Path | None) -> bool:
    """Whether it is a file whose content stays; an open file of a shell, such as /dev/fd/3, may be half read."""
    return path is not None and path.is_file() and not _is_device(path)


def _begun(chunks: Iterator[list[str]]) -> Iterator[list[str]]:
    """The same chunks, the first one read already: a pipe that cannot be read is refused before a model is opened."""
    first = next(chunks, [])
    return chain([first], chunks)
