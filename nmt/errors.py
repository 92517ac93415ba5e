"""Errors a user can act on.

    NMTError
    ├── ConfigError       a setting is unknown, of the wrong type, or does not fit the others
    ├── DataError         a corpus, a vocabulary or a line of text cannot be used
    ├── CheckpointError   a model directory cannot be written, read or trusted
    ├── ExportError       a model cannot be exported, or an export cannot be written, read or trusted
    └── TrainingError     a run cannot go on (the loss is no longer a number)

Each message says what must hold, what came instead, and what to do. The command line prints it as one line;
anything that is not an NMTError is a defect of ours and keeps its traceback.
"""

import os

NOT_ON_WINDOWS = (
    "nmt runs on Linux and macOS, and on Windows within WSL, but not on Windows itself: install WSL (wsl --install), "
    "and nmt inside it"
)


def looked_for(path: str | os.PathLike[str], error: OSError) -> str:
    """Say in which folder a relative path was not found, to be appended to a message; else nothing."""
    if not isinstance(error, FileNotFoundError) or os.path.isabs(path):
        return ""
    return f" (looked for in {os.getcwd()})"


class NMTError(Exception):
    """Base of every error that a user can act on."""


class ConfigError(NMTError):
    """A setting is unknown, of the wrong type, or does not fit the others."""


class DataError(NMTError):
    """A corpus, a vocabulary or a line of text cannot be used."""


class CheckpointError(NMTError):
    """A model directory cannot be written, read or trusted."""


class ExportError(NMTError):
    """A model cannot be exported, or an export cannot be written, read or trusted."""


class TrainingError(NMTError):
    """A run cannot go on, for example because its loss is no longer a number."""
