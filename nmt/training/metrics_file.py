"""Every figure of a run, one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from nmt.atomic_files import replace_file
from nmt.errors import TrainingError
from nmt.training.events import EndEvent, Reporter, UpdateEvent, ValidationEvent


class MetricsFile(Reporter):
    """Appends what is reported to `metrics.jsonl`.

    Where the disk refuses, the run ends with a `TrainingError`: it goes on from its last checkpoint, and so loses no
    figure.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def on_start(self, update: int) -> None:
        """Open the file, and drop lines of updates that an interrupted start made and that will be made again.

        What an earlier start took for the end goes too.
        """
        with self._writing():
            kept = _lines_up_to(self._path, update) if self._path.exists() else []
            replace_file(self._path, "".join(kept).encode("utf-8"))
            self._file = self._path.open("a", encoding="utf-8")

    def on_update(self, event: UpdateEvent) -> None:
        """Write a line of kind `update`."""
        self._write("update", asdict(event))

    def on_validation(self, event: ValidationEvent) -> None:
        """Write a line of kind `validation`, without the samples."""
        figures = asdict(event.validation)
        del figures["samples"]
        own = {"update": event.update, "is_best": event.is_best, "seconds": event.seconds}
        self._write("validation", own | figures)

    def on_end(self, event: EndEvent) -> None:
        """Write a line of kind `end`."""
        self._write("end", asdict(event))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # all was flushed, but for what has been refused already
                self._file.close()

    def _write(self, kind: str, figures: dict[str, Any]) -> None:
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps({"kind": kind, **figures}) + "\n")
                self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"{self._path}: cannot be written: {error.strerror}; the checkpoints are intact: mend that, and the "
                "same command goes on with the run"
            ) from error


def _lines_up_to(path: Path, update: int) -> list[str]:
    """Return the whole lines of updates up to `update`; a line torn by a kill is dropped."""
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["update"] <= update and record.get("kind") != "end":
            kept.append(line + "\n")
    return kept
