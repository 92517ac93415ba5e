"""What several workers cost: the speed of two processes on this machine, beside that of one with the same updates.

    MULTI30K=/path/to/corpus python benchmarks/workers.py configs/multi30k_de_en_transformer.yaml

The workers share the processor's cores, so they cannot be faster; the ratio says what agreeing and sending gradients
through the network interface of the machine itself take. One worker gets all cores, each of several its part of them.
Both make updates of the same batches; the loss on the validation set at the end shows it, the more so without dropout.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from smoke import CONFIG, TINY, add_smoke, say

from nmt.backend.machine import available_processors


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=CONFIG, help="config file, as for nmt train")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--workers", type=int, default=2, help="processes that train together")
    parser.add_argument("--updates", type=int, default=120, help="of each run; the first quarter is not timed")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind, in turn")
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.overrides, arguments.updates, arguments.rounds = [*TINY, *arguments.overrides], 4, 1
    return arguments


def main() -> None:
    """Train alone and together in turn, and print speeds and their ratio."""
    arguments = parse()
    ratios = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as directory:
            say("one worker")
            alone = train(arguments, Path(directory) / "alone", workers=1)
            say(f"{arguments.workers} workers")
            together = train(arguments, Path(directory) / "together", workers=arguments.workers)
        ratios.append(together["speed"] / alone["speed"])
        print(
            f"one worker {alone['speed']:,.0f} target tokens/s, {arguments.workers} workers {together['speed']:,.0f}: "
            f"{ratios[-1]:.3f}; validation loss {alone['loss']:.4f} and {together['loss']:.4f}",
            flush=True,
        )
    print(f"median of the ratios {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def train(arguments: argparse.Namespace, directory: Path, *, workers: int) -> dict[str, float]:
    """Train with so many workers; return the median speed of the later updates and the loss on the validation set."""
    updates, every = arguments.updates, max(arguments.updates // 12, 1)
    settings = [
        f"model_directory={directory}", f"training.max_updates={updates}", f"training.log_every_updates={every}",
        f"training.validate_every_updates={updates}", f"training.save_every_updates={updates}",
        "training.tensorboard=false", "training.sample_translations=0", "training.max_minutes=null",
        *arguments.overrides,
    ]  # fmt: skip
    settings += [f"training.effective_batch_tokens={arguments.workers * batch_tokens(arguments)}"]
    settings += ["training.distribution=" + ("none" if workers == 1 else "multi_worker")]
    threads = max(available_processors() // workers, 1)
    command = [sys.executable, "-m", "nmt", "train", arguments.config, "--threads", str(threads)]
    command += [word for setting in settings for word in ("--set", setting)]
    addresses = free_addresses(workers)
    running = [
        subprocess.Popen(command, env=environment(addresses, number), stderr=subprocess.DEVNULL)
        for number in range(workers)
    ]
    statuses = [process.wait() for process in running]
    if any(statuses):
        raise SystemExit(f"a run failed; try it by hand:\n{' '.join(command)}")
    records = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    speeds = [record["tokens_per_second"] for record in records if record["kind"] == "update"]
    loss = next(record["loss"] for record in reversed(records) if record["kind"] == "validation")
    return {"speed": median(speeds[len(speeds) // 4 :]), "loss": loss}


def batch_tokens(arguments: argparse.Namespace) -> int:
    """Return the size of a batch of one worker."""
    from nmt.config import load

    return load([arguments.config], arguments.overrides).training.settled_batch_tokens


def free_addresses(count: int) -> list[str]:
    """Return so many addresses of this machine, with ports that nobody uses."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]


def environment(addresses: list[str], number: int) -> dict[str, str]:
    """Return the environment of a worker; of the only one that of this process."""
    if len(addresses) == 1:
        return dict(os.environ)
    task = {"type": "worker", "index": number}
    return {**os.environ, "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}


if __name__ == "__main__":
    main()
