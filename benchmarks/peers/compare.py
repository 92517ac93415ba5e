"""This toolkit beside its peers on one machine: the same text, pieces, sizes of a Transformer, and beam.

    python benchmarks/peers/compare.py --data /path/to/multi30k --work /tmp/peers --install
    python benchmarks/peers/compare.py --data /path/to/multi30k --work /tmp/peers --toolkits nmt Marian --rounds 5

Each peer gets a virtual environment of its own in the working folder; one that does not install, or that translates
for more than `--most-seconds`, is left out, with its reason. All trainings, and all translations, take turns: a round
is one of each. Seconds are of whole processes from their start: imports, the model and the text included. Models are
trained for `--updates` alone, so what they translate is of no worth, and its length is another with each: the tokens
that it wrote are shown beside. Bare CTranslate2 translates with the weights of this toolkit.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from toolkits import TOOLKITS, Task

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "multi30k_de_en_transformer.yaml"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of Multi30k: train.de.gz, train.en.gz, ...")
    parser.add_argument("--work", type=Path, required=True, help="folder for environments, models and logs")
    parser.add_argument("--toolkits", nargs="+", choices=list(TOOLKITS), default=list(TOOLKITS))
    parser.add_argument("--install", action="store_true", help="install what is missing, with pip")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--lines", type=int, default=1000, help="of the test set")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--most-seconds", type=float, default=300, help="of one translation; more: left out")
    return parser.parse_args()


def main() -> None:
    """Install, train and translate in turns, and print the tables."""
    arguments = parse()
    arguments.work.mkdir(parents=True, exist_ok=True)
    os.environ |= {"MULTI30K": str(arguments.data), "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    names = [name for name in arguments.toolkits if is_installed(arguments, name)]
    tasks = {name: task_of(arguments, name) for name in names}
    trainings = {name: [] for name in names if TOOLKITS[name].train}
    make_run(arguments, tasks)
    for number in range(arguments.rounds):
        for name in list(trainings):
            say(f"training {name}, round {number + 1}")
            try:
                trainings[name].append(train(name, tasks[name]))
            except subprocess.CalledProcessError as error:
                ended = f"ended with status {error.returncode}" if error.returncode else "logged no update"
                say(f"left out: {name} {ended}, see {tasks[name].folder / 'train.log'}")
                del trainings[name], tasks[name]
    show_trainings(trainings)
    translations = translate_in_turns(arguments, tasks)
    for count, rows in translations.items():
        show_translations(count, rows)


def say(text: str) -> None:
    """Tell how far it has come."""
    print(f"[{time.strftime('%H:%M:%S')}, load {os.getloadavg()[0]:.1f}] {text}", file=sys.stderr, flush=True)


def bin_of(arguments: argparse.Namespace, name: str) -> Path:
    """The programs of a peer."""
    return arguments.work / name.lower().replace("-", "_") / "bin"


def is_installed(arguments: argparse.Namespace, name: str) -> bool:
    """Whether a toolkit is there, now or after an installation; says why not."""
    packages, folder = TOOLKITS[name].packages, bin_of(arguments, name).parent
    if not packages or (folder / "installed").exists():
        return True
    if not arguments.install:
        say(f"left out: {name} is not installed in {folder}: give --install")
        return False
    say(f"installing {name}: {' '.join(packages)}")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"left out: {name} does not install: {done.stderr.strip().splitlines()[-1]}")
        return False
    (folder / "installed").touch()
    return True


def task_of(arguments: argparse.Namespace, name: str) -> Task:
    """What a toolkit is given."""
    work = arguments.work.resolve()
    folder = work / "models" / name.lower().replace(" ", "_").replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    run, config, programs = work / "run", [str(CONFIG)], bin_of(arguments, name).resolve()
    return Task(folder, work / "pieces", run, config, programs, arguments.updates, arguments.beam_size)


def make_run(arguments: argparse.Namespace, tasks: dict[str, Task]) -> None:
    """Train the run whose pieces and weights the others share, unless it is there, and export it."""
    task = task_of(arguments, "nmt")
    if not task.run.exists():
        say("training the run whose pieces all share")
        train("nmt", task)
        shutil.copytree(task.folder / "run", task.run)
    if not task.pieces.exists():
        write_pieces(arguments, task)
    for quantization in ("float32", "int8"):
        export = task.run.parent / f"export_{quantization}"
        if not export.exists() and f"CTranslate2 {quantization}" in tasks:
            words = ["export", str(task.run), str(export), "--format", "ctranslate2", "--quantization", quantization]
            subprocess.run([sys.executable, "-m", "nmt", *words], check=True, stdout=subprocess.DEVNULL)


def write_pieces(arguments: argparse.Namespace, task: Task) -> None:
    """Cut the text into the pieces of the run, for those that read pieces."""
    from nmt.text import SPECIAL_TOKENS, TextPair

    text = TextPair.load(task.run)
    task.pieces.mkdir()
    vocabulary = [token for token in text.source.vocabulary.tokens if token not in SPECIAL_TOKENS]
    (task.pieces / "tokens").write_text("\n".join(vocabulary) + "\n", "utf-8")
    sides = {"source": ("de", text.source), "target": ("en", text.target)}
    for part, name in (("train", "train"), ("test", "test_2016_flickr")):
        for side, (language, tokenizer) in sides.items():
            lines = gzip.decompress((arguments.data / f"{name}.{language}.gz").read_bytes()).decode().splitlines()
            (task.pieces / f"{part}.{side}.text").write_text("\n".join(lines) + "\n", "utf-8")
            cut = (" ".join(tokenizer.tokens(tokenizer.encode(line))) for line in lines)
            (task.pieces / f"{part}.{side}").write_text("\n".join(cut) + "\n", "utf-8")


def train(name: str, task: Task) -> dict[str, float]:
    """Train anew; returns the seconds to the first logged updates, of the whole, and the rate of the later half."""
    toolkit = TOOLKITS[name]
    shutil.rmtree(task.folder, ignore_errors=True)
    task.folder.mkdir(parents=True)
    toolkit.prepare(task)
    assert toolkit.train is not None
    found, started = [], time.perf_counter()
    with (
        open(task.folder / "train.log", "w", encoding="utf-8") as log,
        subprocess.Popen(
            toolkit.train(task), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=task.folder
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if match := toolkit.logged.search(line):
                found.append((time.perf_counter() - started, float(match["rate"].replace(",", ""))))
    if process.returncode or not found:
        raise subprocess.CalledProcessError(process.returncode, name)
    rates = [rate for _, rate in found[len(found) // 2 :]]
    return {"first": found[0][0], "whole": time.perf_counter() - started, "rate": median(rates)}


def translate_in_turns(
    arguments: argparse.Namespace, tasks: dict[str, Task]
) -> dict[int, dict[str, list[tuple[float, int]]]]:
    """The seconds of each process and the tokens that it wrote, by number of lines and toolkit."""
    found: dict[int, dict[str, list[tuple[float, int]]]] = {}
    for count in (1, arguments.lines):
        rows = found.setdefault(count, {name: [] for name in tasks})
        for number in range(arguments.rounds):
            for name in list(rows):
                task, toolkit = tasks[name], TOOLKITS[name]
                lines = (task.pieces / f"test.source{'.text' if toolkit.reads_text else ''}").read_text("utf-8")
                source, output = task.folder / "source", task.folder / "output"
                source.write_text("".join(lines.splitlines(keepends=True)[:count]), "utf-8")
                say(f"{count} lines with {name}, round {number + 1}")
                started = time.perf_counter()
                command = toolkit.translate(task, source.resolve(), output.resolve())
                if problem := run(command, task.folder, seconds=arguments.most_seconds):
                    say(f"left out: {count} lines with {name}: {problem}")
                    del rows[name]
                    continue
                rows[name].append((time.perf_counter() - started, len(output.read_text("utf-8").split())))
    return found


def run(command: list[str], folder: Path, *, seconds: float) -> str | None:
    """Run a command in a folder; return why it did not end well."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"took more than {seconds:g} s"
    return [f"status {done.returncode}", *done.stderr.strip().splitlines()][-1] if done.returncode else None


def spread(values: list[float], form: str) -> str:
    """The median, least and greatest."""
    return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def show_trainings(trainings: dict[str, list[dict[str, float]]]) -> None:
    """Print the table of trainings, each beside the first."""
    print("| training | first logged updates, s | times | target tokens/s, later half | times |\n|---|--:|--:|--:|--:|")
    base: Any = next(iter(trainings.values()), None)
    for name, rounds in trainings.items():
        first, rate = [each["first"] for each in rounds], [each["rate"] for each in rounds]
        ratios = [
            median(values) / median([each[key] for each in base]) for key, values in (("first", first), ("rate", rate))
        ]
        print(f"| {name} | {spread(first, '.1f')} | {ratios[0]:.2f} | {spread(rate, ',.0f')} | {ratios[1]:.2f} |")
    print(flush=True)


def show_translations(count: int, rows: dict[str, list[tuple[float, int]]]) -> None:
    """Print the table of translations, each beside the first."""
    if not rows:
        return
    print(f"| {count} lines, whole process | s | times | words or pieces written |\n|---|--:|--:|--:|")
    base = median([seconds for seconds, _ in next(iter(rows.values()))])
    for name, rounds in rows.items():
        seconds = [each for each, _ in rounds]
        print(f"| {name} | {spread(seconds, '.2f')} | {median(seconds) / base:.2f} | {rounds[-1][1]:,} |")
    print(flush=True)


if __name__ == "__main__":
    main()
