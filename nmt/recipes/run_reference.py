"""How settings name a checkpoint of another run."""

from __future__ import annotations

import re
from typing import NamedTuple

_CHECKPOINT = re.compile(r"(?P<directory>.+)@(?P<checkpoint>best|latest|update-[0-9]+)", re.DOTALL)


class RunReference(NamedTuple):
    """A model directory, and which of its checkpoints; None leaves the choice to those who read it."""

    directory: str
    checkpoint: str | None


def parse_run_reference(text: str) -> RunReference:
    """Read RUN, RUN@best, RUN@latest or RUN@update-N; any other @ belongs to the name of the directory."""
    match = _CHECKPOINT.fullmatch(text)
    return RunReference(match["directory"], match["checkpoint"]) if match else RunReference(text, None)
