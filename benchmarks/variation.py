"""What variation brings: BLEU on clean and varied test sets of models trained with and without, for equal time.

    python benchmarks/variation.py configs/multi30k_de_en_transformer.yaml --minutes 20 --seeds 1 2 3

`nmt vary` makes a copy of the test set for each kind: in capitals on both sides, with title case, without or with final
punctuation, and with typos or changed white space in the source. All models translate all copies; the table has their
mean BLEU over the seeds, and the milliseconds of an update.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from statistics import fmean

from smoke import CONFIG, TINY, add_smoke, say

KINDS = ("upper_case", "title_case", "final_punctuation", "typos", "white_space")
TRAINED = {"without": "null", "with": "{}"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=CONFIG, help="as for nmt train")
    parser.add_argument("--minutes", type=float, default=20, help="of each training (20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="a training with each (1)")
    parser.add_argument("--variation", default=TRAINED["with"], help="the setting of the varied models ({})")
    parser.add_argument("--directory", type=Path, help="where copies and runs stay; else they are deleted")
    parser.add_argument("--no-training", action="store_true", help="only make the test sets, and count their lines")
    add_smoke(parser)
    return parser.parse_args()


def main() -> None:
    """Make the test sets, train the models, and print a table."""
    arguments = parse()
    with nullcontext(arguments.directory) if arguments.directory else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        sets = varied_sets(folder, arguments)
        if arguments.no_training:
            for kind in KINDS:
                texts = [sets[each][0].read_text(encoding="utf-8").split("\n")[:-1] for each in ("clean", kind)]
                changed = sum(line != before for before, line in zip(*texts, strict=True))
                print(f"| {kind} | {len(texts[0])} lines | {changed} sources changed |", flush=True)
            return
        print("| trained | seed | " + " | ".join(sets) + " | ms an update |\n|---|--:|" + "--:|" * (len(sets) + 1))
        for word, variation in (TRAINED | {"with": arguments.variation}).items():
            rows = [trained(folder, word, variation, seed, sets, arguments) for seed in arguments.seeds]
            for seed, row in zip(arguments.seeds, rows, strict=True):
                print(f"| {word} | {seed} | " + " | ".join(f"{figure:.2f}" for figure in row) + " |", flush=True)
            means = (f"{fmean(figures):.2f}" for figures in zip(*rows, strict=True))
            print(f"| {word} | mean | " + " | ".join(means) + " |", flush=True)


def varied_sets(folder: Path, arguments: argparse.Namespace) -> dict[str, tuple[Path, Path]]:
    """Source and reference of the clean test set (of validation if there is none), and of a copy for each kind."""
    from nmt.config import load
    from nmt.data import Corpus

    say("varying the test set")
    data = load([arguments.config], list(TINY) if arguments.smoke else []).data
    languages = (data.source_language, data.target_language)
    corpus = Corpus.of(data, data.names("test" if data.test else "validation")[0])
    pairs = list(corpus.pairs())[: 20 if arguments.smoke else None]
    sets = {kind: (folder / f"{kind}.{languages[0]}", folder / f"{kind}.{languages[1]}") for kind in ("clean", *KINDS)}
    for side, path in enumerate(sets["clean"]):
        path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    for kind in KINDS:
        clean, copy = (folder / f"{name}.{{{','.join(languages)}}}" for name in ("clean", kind))
        run(["vary", str(clean), "-o", str(copy), "--with", kind])
    return sets


def trained(
    folder: Path,
    word: str,
    variation: str,
    seed: int,
    sets: dict[str, tuple[Path, Path]],
    arguments: argparse.Namespace,
) -> list[float]:
    """Train a model; return its BLEU on each set, and the milliseconds of an update."""
    say(f"training {word} variation, seed {seed}")
    directory = folder / f"run-{word}-{seed}"
    limits = {"max_updates": 3 if arguments.smoke else "null", "max_minutes": arguments.minutes, "max_epochs": "null"}
    wanted = [f"training.{name}={value}" for name, value in (limits | {"early_stopping": "null"}).items()]
    wanted += [f"model_directory={directory}", f"seed={seed}", f"data.variation={variation}"]
    settings = list(TINY) if arguments.smoke else []
    run(["train", arguments.config, *(f"--set={each}" for each in (*settings, *wanted))])
    figures = []
    for source, reference in sets.values():
        words = ["evaluate", str(directory), "--json", "--source", str(source), "--reference", str(reference)]
        figures.append(float(json.loads(run(words))["bleu"]["score"]))
    checkpoints = json.loads((directory / "checkpoints" / "index.json").read_text(encoding="utf-8"))
    state = json.loads((directory / "checkpoints" / checkpoints["latest"] / "state.json").read_text(encoding="utf-8"))
    return [*figures, 1000 * state["trained_seconds"] / state["update"]]


def run(words: list[str]) -> str:
    """Run a verb of nmt; its log goes to standard error."""
    done = subprocess.run([sys.executable, "-m", "nmt", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"nmt {words[0]} ended with exit status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
