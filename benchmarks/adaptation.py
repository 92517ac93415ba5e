"""What `nmt adapt` gains on new text and loses on old, with replay of 0, 0.25 and 0.5, one run after another.

    python benchmarks/adaptation.py --eutrans /corpora/eutrans --multi30k /corpora/multi30k --work runs/adaptation

Two demonstrations: the travel model (configs/quickstart.yaml) goes to EuTrans, `{training,dev}.{es,en}.gz`; and a model
of Multi30k without its longest fifth (configs/multi30k_de_en_transformer.yaml) goes to that fifth, `{train,val,
test_2016_flickr}.{de,en}.gz`. One that is left out is not run. Models that lie in the work directory already are not
trained again. The table is that of docs/adaptation.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from smoke import CONFIG, TINY, add_smoke, say

MULTI30K = str(Path(CONFIG).with_name("multi30k_de_en_transformer.yaml"))
REPLAY = (0.0, 0.25, 0.5)
LONGEST = 0.2
"""The share of Multi30k that is new text, by the words of the source."""


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eutrans", type=Path, help="folder of EuTrans")
    parser.add_argument("--multi30k", type=Path, help="folder of Multi30k")
    parser.add_argument("--work", type=Path, default=Path("runs/adaptation"), help="where models and text go")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE", help="of all runs")
    add_smoke(parser)
    return parser.parse_args()


def nmt(*words: str) -> str:
    """Run a verb in a process of its own; return what it prints."""
    say("nmt " + " ".join(words))
    done = subprocess.run([sys.executable, "-m", "nmt", *words], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def options(settings: list[str]) -> list[str]:
    """Write settings as a command line does."""
    return [f"--set={setting}" for setting in settings]


def main() -> None:
    """Run what there are corpora for, and print a line per run as it ends."""
    arguments = parse()
    print("| demonstration | replay | new BLEU before | after | old BLEU before | after | called better |")
    print("|---|--:|--:|--:|--:|--:|---|", flush=True)
    short = ["training.max_updates=2", "training.tensorboard=false", "training.validate_every_updates=2"]
    if arguments.smoke:
        travel = "examples/travel/{}.es.gz,examples/travel/{}.en.gz".format
        settings = [*TINY, *short]
        settings[settings.index("data.test=null")] = "data.test.source=examples/travel/validation.es.gz"
        settings.append("data.test.target=examples/travel/validation.en.gz")
        new = {"with": travel("test", "test"), "validation": travel("validation", "validation")}
        demonstrate("smoke", arguments.work, CONFIG, settings, new | {"test": new["validation"]}, REPLAY[1:2], short)
    if arguments.eutrans:
        path = str(arguments.eutrans / "{}.es.gz") + "," + str(arguments.eutrans / "{}.en.gz")
        new = {"with": path.format("training", "training"), "test": path.format("dev", "dev")}
        demonstrate("travel to EuTrans", arguments.work, CONFIG, arguments.overrides, new, REPLAY, arguments.overrides)
    if arguments.multi30k:
        settings, new = by_length(arguments.multi30k, arguments.work / "multi30k")
        settings += arguments.overrides
        demonstrate("longest fifth", arguments.work, MULTI30K, settings, new, REPLAY, arguments.overrides)


def demonstrate(
    name: str,
    work: Path,
    config: str,
    settings: list[str],
    new: dict[str, str],
    shares: tuple[float, ...],
    changes: list[str],
) -> None:
    """Train a model, adapt it with each share of replay, and print the scores."""
    old = work / name.replace(" ", "-") / "old"
    nmt("train", config, *options([f"model_directory={old}", *settings]))
    for share in shares:
        output = old.with_name(f"replay-{share:g}")
        texts = [f"--{option}={corpus}" for option, corpus in new.items()]
        words = ["--replay", f"{share:g}", "-o", str(output), "--overwrite", "--json", *options(changes)]
        found = json.loads(nmt("adapt", str(old), *texts, *words))
        print(row(name, share, found), flush=True)


def row(name: str, share: float, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    scores = {each["name"]: (each["before"][0], each["after"][0]) for each in found["comparisons"]}
    cells = [f"{score:.1f}" for which in ("new", "old") for score in scores[which]]
    return f"| {name} | {share:g} | {' | '.join(cells)} | {'yes' if found['is_better'] else 'no'} |"


def by_length(folder: Path, work: Path) -> tuple[list[str], dict[str, str]]:
    """Cut Multi30k into short and long pairs at the source length that a fifth of training is above."""
    from nmt.data import Corpus

    os.environ["MULTI30K"] = str(folder)  # which the config names
    names = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    corpora = {
        role: list(Corpus(folder / f"{name}.de.gz", folder / f"{name}.en.gz").pairs()) for role, name in names.items()
    }
    lengths = sorted(len(source.split()) for source, _ in corpora["train"])
    most, work_files = lengths[int(len(lengths) * (1 - LONGEST))], {}
    work.mkdir(parents=True, exist_ok=True)
    for role, pairs in corpora.items():
        for kind, chosen in (("short", False), ("long", True)):
            part = [pair for pair in pairs if (len(pair[0].split()) > most) == chosen]
            paths = [work / f"{role}-{kind}.{side}" for side in ("de", "en")]
            for place, path in enumerate(paths):
                path.write_text("".join(f"{pair[place]}\n" for pair in part), encoding="utf-8", newline="")
            work_files[role, kind] = paths
            say(f"{role}, {kind}: {len(part):,} pairs, {'above' if chosen else 'up to'} {most} words")
    settings = [
        f"data.{role}.{side}={work_files[role, 'short'][place]}"
        for role in names
        for place, side in enumerate(("source", "target"))
    ]
    new = {"with": "train", "validation": "validation", "test": "test"}
    return settings, {option: ",".join(map(str, work_files[role, "long"])) for option, role in new.items()}


if __name__ == "__main__":
    main()
