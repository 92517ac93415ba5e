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


def say(text: str) -> None:
    """Tell how far it has come."""
    print(f"[{time.perf_counter() - _STARTED:6.1f} s] {text}", file=sys.stderr, flush=True)
