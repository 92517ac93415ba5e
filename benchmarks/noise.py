"""What noise in a corpus costs, and what cleaning brings back: BLEU on clean, noisy and cleaned text.

    python benchmarks/noise.py configs/multi30k_de_en_transformer.yaml --minutes 20

To the clean training corpus as many bad pairs are added as make up the share of `--noise`, in equal parts of the kinds
of Khayrallah and Koehn (2018, On the Impact of Various Types of Noise on Neural Machine Translation): pairs that are
misaligned; words of the target in disorder; another language (Spanish, of the travel corpus) on one side; source or
target copied to the other side; and segments of two words, which may be right. `nmt doctor --clean` gets all of it, and
the table says how many pairs of each kind it drops. Then three models train one after the other, each for as long, and
translate the same test set. `--no-training` ends with the table.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from smoke import CONFIG, TINY, add_smoke, say

if TYPE_CHECKING:
    from nmt.settings.data import DataSettings

TRAVEL = Path(__file__).resolve().parents[1] / "examples" / "travel"
KINDS = ("misaligned", "misordered", "wrong language", "untranslated", "short")

Pair = tuple[str, str]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default=CONFIG, help="as for nmt train")
    parser.add_argument("--noise", type=float, default=0.3, help="share of bad pairs in the noisy corpus (0.3)")
    parser.add_argument("--minutes", type=float, default=20, help="of each training (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the noise (1)")
    checks = ["LanguageIDFilter=drop", "WordAlignFilter=drop"]
    parser.add_argument("--check", nargs="*", default=checks, help=f"as for nmt doctor ({' '.join(checks)})")
    parser.add_argument("--directory", type=Path, help="where corpora and runs stay; else they are deleted")
    parser.add_argument("--no-training", action="store_true", help="only make the corpora, and say what is dropped")
    add_smoke(parser)
    return parser.parse_args()


def main() -> None:
    """Make the corpora, train on each, and print a table."""
    from nmt.config import load
    from nmt.data import Corpus

    arguments = parse()
    settings = list(TINY) if arguments.smoke else []
    data = load([arguments.config], settings).data
    clean = list(Corpus.of(data, "train").pairs())
    clean = [pair for pair in clean if all(side.strip() and "\t" not in side for side in pair)]
    with nullcontext(arguments.directory) if arguments.directory else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        noisy = with_noise(clean, arguments.noise, random.Random(arguments.seed))
        write(folder / "clean.tsv", clean)
        write(folder / "noisy.tsv", [pair for _, pair in noisy])
        print("| kind | pairs | dropped |\n|---|--:|--:|")
        for kind, count, dropped in cleaned(folder, noisy, arguments, data):
            print(f"| {kind} | {count:,} | {dropped / max(1, count):.1%} |", flush=True)
        if arguments.no_training:
            return
        print("\n| trained on | BLEU |\n|---|--:|")
        scores = {corpus: trained(folder, corpus, arguments, settings) for corpus in ("clean", "noisy", "cleaned")}
        for corpus, bleu in scores.items():
            print(f"| {corpus} | {bleu:.2f} |", flush=True)
        lost, won = scores["clean"] - scores["noisy"], scores["cleaned"] - scores["noisy"]
        print(f"\nnoise costs {lost:.2f} BLEU, cleaning brings back {won:.2f}")


def write(path: Path, pairs: list[Pair]) -> None:
    """Write pairs as columns between tabs."""
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")


def with_noise(clean: list[Pair], share: float, generator: random.Random) -> list[tuple[str, Pair]]:
    """The clean pairs and bad ones, each with its kind, in an order that is drawn."""
    from nmt.data import Corpus

    spanish = [source for source, _ in Corpus(TRAVEL / "train.es.gz", TRAVEL / "train.en.gz").pairs()]

    def misordered(pair: Pair) -> Pair:
        words = pair[1].split()
        generator.shuffle(words)
        return pair[0], " ".join(words)

    def wrong_language(pair: Pair) -> Pair:
        other = generator.choice(spanish)
        return (other, pair[1]) if generator.random() < 0.5 else (pair[0], other)

    def untranslated(pair: Pair) -> Pair:
        copied = pair[generator.random() < 0.5]
        return copied, copied

    make: dict[str, Callable[[Pair], Pair]] = {
        "misaligned": lambda pair: (pair[0], generator.choice(clean)[1]),
        "misordered": misordered,
        "wrong language": wrong_language,
        "untranslated": untranslated,
        "short": lambda pair: (" ".join(pair[0].split()[:2]), " ".join(pair[1].split()[:2])),
    }
    count = round(len(clean) * share / (1 - share))
    found = [("clean", pair) for pair in clean]
    for place in range(count):
        kind = KINDS[place % len(KINDS)]
        found.append((kind, make[kind](generator.choice(clean))))
    generator.shuffle(found)
    return found


def cleaned(
    folder: Path, noisy: list[tuple[str, Pair]], arguments: argparse.Namespace, data: DataSettings
) -> list[tuple[str, int, int]]:
    """Clean the noisy corpus; return how many pairs of each kind there were, and were dropped."""
    say("cleaning")
    checks = [f"--check={each}" for each in arguments.check]
    languages = f"{data.source_language},{data.target_language}"
    command = ["doctor", str(folder / "noisy.tsv"), "--languages", languages, *checks]
    run([*command, "--clean", str(folder / "cleaned.tsv"), "--json"], status=(0, 1))
    if not (told := folder / "cleaned.tsv.dropped.tsv").exists():  # its status is 1 too if the corpus is bad
        raise SystemExit("nmt doctor cleaned nothing, see above")
    reasons = told.read_text(encoding="utf-8").splitlines()
    dropped = Counter(noisy[int(line.split("\t")[1]) - 1][0] for line in reasons)
    counts = Counter(kind for kind, _ in noisy)
    return [(kind, counts[kind], dropped[kind]) for kind in ("clean", *KINDS)]


def trained(folder: Path, corpus: str, arguments: argparse.Namespace, settings: list[str]) -> float:
    """Train on a corpus, and return BLEU on the test set, or on validation if there is none."""
    from nmt.config import load

    say(f"training on {corpus} text")
    directory = folder / f"run-{corpus}"
    limits = {"max_updates": 3 if arguments.smoke else "null", "max_minutes": arguments.minutes, "max_epochs": "null"}
    wanted = [f"training.{name}={value}" for name, value in (limits | {"early_stopping": "null"}).items()]
    wanted += [f"model_directory={directory}", f"data.train.pairs={folder / corpus}.tsv"]
    wanted += ["data.train.source=null", "data.train.target=null"]
    wanted = [each for each in settings if not each.startswith("data.train.")] + wanted
    run(["train", arguments.config, *(f"--set={each}" for each in wanted)])
    data = load(directory / "config.yaml").data
    words = ["evaluate", str(directory), "--json"]
    if data.test is None:
        words += ["--source", *data.validation.paths[0], "--reference", *data.validation.paths[1]]
    return float(json.loads(run(words))["bleu"]["score"])


def run(words: list[str], status: tuple[int, ...] = (0,)) -> str:
    """Run a verb of nmt; its log goes to standard error."""
    done = subprocess.run([sys.executable, "-m", "nmt", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in status:
        raise SystemExit(f"nmt {words[0]} ended with exit status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
