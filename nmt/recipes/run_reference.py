"""How settings name a checkpoint of another run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from nmt.checkpoint.selection import split_checkpoint

_CHECKPOINT = re.compile(r"(?P<directory>.+)@(?P<checkpoint>best|latest|update-[0-9]+)", re.DOTALL)


class RunReference(NamedTuple):
    """A model directory, and which of its checkpoints; None leaves the choice to those who read it."""

    directory: str
    checkpoint: str | None


def parse_run_reference(text: str) -> RunReference:
    """Read RUN, RUN@best, RUN@latest, RUN@update-N or RUN/checkpoints/update-N; any other @ belongs to the name of RUN.

    Raises:
        CheckpointError: two checkpoints are named.
    """
    match = _CHECKPOINT.fullmatch(text)
    given, checkpoint = (match["directory"], match["checkpoint"]) if match else (text, None)
    directory, named = split_checkpoint(given, checkpoint)
    return RunReference(given if directory == Path(given) else str(directory), named)
