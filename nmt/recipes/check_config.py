"""Checking settings without doing anything with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nmt.config import Config, advice, load
from nmt.data.sides import refuse_one_file
from nmt.recipes.run_reference import parse_run_reference
from nmt.types import PathLike


class CheckedConfig(NamedTuple):
    """Settings that are valid.

    config: the effective settings.
    remarks: what may not do what was meant, one line each.
    """

    config: Config
    remarks: list[str]


def check_config(paths: Sequence[PathLike], overrides: Sequence[str] = ()) -> CheckedConfig:
    """Read, merge and check settings as training does, without reading any corpus.

    Args:
        paths: YAML files, merged from left to right.
        overrides: settings of the form "training.seed=7".

    Raises:
        ConfigError: listing all problems.
        DataError: a corpus is one file for both sides.
    """
    config = load(list(paths), overrides, announce=True)
    for name, corpus in (("data.train", config.data.train), ("data.validation", config.data.validation)):
        refuse_one_file(name, corpus.source_paths, corpus.target_paths)
    return CheckedConfig(config, [*advice(config), *_choices_to_come(config), *_missing_files(config)])


def _choices_to_come(config: Config) -> Iterator[str]:
    """Remarks on what training will decide."""
    training = config.training
    if training.batch_tokens == "auto":
        even = (
            "" if training.effective_batch_tokens else "; effective_batch_tokens gives all machines updates of one size"
        )
        yield (
            "training.batch_tokens auto is chosen by the memory there is when training begins, and the run keeps it"
            f"{even}"
        )


def _missing_files(config: Config) -> Iterator[str]:
    """Remarks on what is not here: no error, since the machine that trains may be another one."""
    for name, paths in config.named_files.items():
        yield from (f"{name}: there is no file {path} here" for path in paths if not Path(path).exists())
    initial = config.training.initialize_from
    if initial is not None and not Path(parse_run_reference(initial).directory).is_dir():
        yield f"training.initialize_from: there is no directory {parse_run_reference(initial).directory} here"
