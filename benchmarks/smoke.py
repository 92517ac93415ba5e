"""What all benchmarks share: their smallest size, which shows that they still run, and progress on standard error."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

CONFIG = str(Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml")
"""Trains on the embedded corpus; its paths are relative to the folder above this one."""

TINY = [
    "data.train.source=examples/travel/test.es.gz",
    "data.train.target=examples/travel/test.en.gz",
    "data.test=null",
    "data.tokenizer.vocabulary_size=300",
    "model.hidden_size=16",
    "model.ffn_size=24",
    "model.num_heads=2",
    "model.num_encoder_layers=1",
    "model.num_decoder_layers=1",
    "training.batch_tokens=256",
    "training.schedule.warmup_updates=1",
    "search.max_length_ratio=0",
    "search.max_length_offset=4",
]
"""Settings that make a run of a few seconds of it, on less text."""

_STARTED = time.perf_counter()


def add_smoke(parser: argparse.ArgumentParser) -> None:
    """Give a command line the option `--smoke`."""
    parser.add_argument("--smoke", action="store_true", help="the smallest size, in seconds: its figures mean nothing")


def read_test_set(run: str, count: int) -> tuple[list[str], list[str]]:
    """The first lines of the test set of a run, and their references."""
    from nmt.config import load
    from nmt.data.lines import read_lines

    test = load(f"{run}/config.yaml").data.test
    if test is None:
        raise SystemExit("the run has no test set: set data.test")
    sources, references = ([line for path in paths for line in read_lines(path)][:count] for paths in test.paths)
    return sources, references


def say(text: str) -> None:
    """Tell how far it has come."""
    print(f"[{time.perf_counter() - _STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)
