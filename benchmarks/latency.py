"""How soon a first translation comes, and how long one sentence takes after that.

    python benchmarks/latency.py runs/multi30k_de_en_transformer
    python benchmarks/latency.py runs/multi30k_de_en_transformer --sentences 300 --rounds 5

A light start is that of a process that needs no TensorFlow: `import nmt`, and `nmt --help`. The cold start is measured
from outside: from the start of a process of `nmt translate RUN` to the first line on its standard output, imports of
Python and TensorFlow included. Its parts come from another process that takes the same steps and writes down when. Warm
calls translate one sentence at a time, sentences of the test set, in a process of their own: one that is set up as
`nmt translate` is, and one that only imports the package, as a user's program does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

from smoke import add_smoke, say

LIMITS = {"light start": 0.5, "cold start": 6.0, "warm call": 0.050}
"""What is aimed at, in seconds."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory with a test set")
    parser.add_argument("--sentences", type=int, default=100, help="warm calls, each with another sentence")
    parser.add_argument("--rounds", type=int, default=3, help="cold starts, each in a fresh process")
    add_smoke(parser)
    parser.add_argument("--inside", choices=["parts", "command", "library"], help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)  # seconds since the epoch
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.sentences, arguments.rounds = 2, 1
    return arguments


def main() -> None:
    """Measure in processes of their own, and print."""
    arguments = parse()
    if arguments.inside == "parts":
        parts(arguments.run, started=arguments.started)
        return
    if arguments.inside is not None:
        warm_calls(arguments.run, arguments.sentences, as_command=arguments.inside == "command")
        return
    line = test_lines(arguments.run)[0]
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    for program in (["-c", "import nmt"], ["-m", "nmt", "--help"]):
        say(f"light starts: {' '.join(program)}")
        starts = [light_start(program) for _ in range(arguments.rounds)]
        print(f"light start, {program[1]}: best {min(starts):.2f} s, goal {LIMITS['light start']:.1f} s", flush=True)
    say("cold starts")
    starts = [cold_start(arguments.run, line) for _ in range(arguments.rounds)]
    print(
        f"cold start: median {median(starts):.2f} s ({min(starts):.2f} to {max(starts):.2f}), "
        f"goal {LIMITS['cold start']:.0f} s",
        flush=True,
    )
    for _ in range(arguments.rounds):
        say("a cold start in parts")
        laps = inside("parts", arguments, "--started", str(time.time()))
        print("  " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in laps.items()), flush=True)
    kinds = (("command", "as nmt translate"), ("library", "import nmt"))
    for kind, name in kinds[1:] if arguments.smoke else kinds:
        say(f"warm calls, {name}")
        for search, seconds in inside(kind, arguments, "--sentences", str(arguments.sentences)).items():
            print(
                f"warm call, {name}, {search}: median {1000 * median(seconds):.1f} ms, 95 % under "
                f"{1000 * percentile(seconds, 0.95):.1f} ms, of {len(seconds)} sentences; "
                f"goal {1000 * LIMITS['warm call']:.0f} ms",
                flush=True,
            )


def light_start(program: list[str]) -> float:
    """Return the seconds that Python takes for a program."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def cold_start(run: str, line: str) -> float:
    """Start `nmt translate`, and return the seconds until a line comes out."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "nmt", "translate", run]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        if not process.stdout.readline():
            raise SystemExit(f"{' '.join(command)} failed")
        seconds = time.perf_counter() - started
        process.stdin.close()
    return seconds


def inside(kind: str, arguments: argparse.Namespace, *options: str) -> dict:
    """Measure in a fresh process, and return what it prints as JSON."""
    command = [sys.executable, __file__, arguments.run, "--inside", kind, *options]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet)
    return json.loads(done.stdout.splitlines()[-1])


def parts(run: str, *, started: float) -> None:
    """Do what `nmt translate` does for its first line; print the seconds of each part."""
    laps: dict[str, float] = {}
    last = started

    def lap(name: str) -> None:
        nonlocal last
        now = time.time()
        laps[name], last = now - last, now

    lap("Python")
    import nmt.cli.main  # noqa: F401, for the time that it takes
    from nmt.directory.model_directory import read_settings

    read_settings(run)
    lap("command line and settings")
    from nmt.backend import session

    session.start(a_core_each=True)
    lap("TensorFlow and Keras")
    from nmt.control.controls import Kinds
    from nmt.inference.compiled_translator import CompiledFor, graph_settings
    from nmt.inference.translator import Translator, open_model
    from nmt.translation.line_translator import banned_ids

    lap("the package")
    opened = open_model(run)
    lap("opening the model")
    translator = Translator(opened.model, opened.text, opened.config.search)
    search = opened.config.search
    banned = banned_ids(search, opened.text.target)
    wanted = CompiledFor(graph_settings(search), 1, False, banned, Kinds(), None)
    translator.compiled(wanted).compiled.get_concrete_function()
    lap("tracing the search")
    line = test_lines(run)[:1]
    lap("reading the line")
    translator.translate(line)
    lap("first search")
    translator.translate(line)
    lap("(second search)")
    print(json.dumps(laps))


def warm_calls(run: str, count: int, *, as_command: bool) -> None:
    """Print the seconds that each sentence took, one at a time, by search."""
    if as_command:
        from nmt.backend import session

        session.start(a_core_each=True)
    import nmt

    translator = nmt.Translator.load(run)
    lines = test_lines(run)[:count]
    found = {}
    for name, beam_size in (("beam 5", 5), ("greedy", 1)):
        for line in lines[:3]:
            translator.translate([line], beam_size=beam_size)
        found[name] = []
        for line in lines:
            started = time.perf_counter()
            translator.translate([line], beam_size=beam_size)
            found[name].append(time.perf_counter() - started)
    print(json.dumps(found))


def test_lines(run: str) -> list[str]:
    """The different lines of the test set, in their order."""
    from nmt.config import load
    from nmt.data.lines import read_lines

    test = load(f"{run}/config.yaml").data.test
    if test is None:
        raise SystemExit("the run has no test set: set data.test")
    return list(dict.fromkeys(line for path in test.paths[0] for line in read_lines(path) if line.strip()))


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]


if __name__ == "__main__":
    main()
