"""Alignment error rates (Och and Ney 2003) of `nmt.alignment`, on the travel corpus and on 100 lines of Multi30k.

python benchmarks/alignment.py                          the travel corpus, whose generator writes its links
python benchmarks/alignment.py --multi30k DIRECTORY     also test_2016_flickr.{de,en}.gz, with train.{de,en}.gz

Each corpus is aligned together with its training text, by each model, and read off by each symmetrisation.
"""

import argparse
import sys
import time
from pathlib import Path

import smoke

from nmt.alignment.bitext import cut
from nmt.alignment.corpus_alignment import ITERATIONS, align
from nmt.alignment.links import SYMMETRIZATIONS, Gold, alignment_error_rate, parse_links
from nmt.backend.machine import available_processors
from nmt.data.lines import read_lines

ROOT = Path(__file__).resolve().parent.parent
TRAVEL = ROOT / "examples" / "travel"
MULTI30K_GOLD = ROOT / "benchmarks" / "data" / "multi30k_alignment.de-en.tsv"

Words = tuple[list[str], list[str]]


def read_pairs(directory: Path, split: str, languages: tuple[str, str]) -> list[Words]:
    """The words of both sides of each pair of a split."""
    source, target = (read_lines(directory / f"{split}.{language}.gz") for language in languages)
    return [(cut(source_line), cut(target_line)) for source_line, target_line in zip(source, target, strict=True)]


def travel() -> tuple[list[Words], dict[int, Gold]]:
    """The test pairs of the travel corpus, then those of training, and the links of pairs by their places."""
    lines = enumerate(read_lines(TRAVEL / "test.links.gz"))
    pairs = [pair for split in ("test", "train") for pair in read_pairs(TRAVEL, split, ("es", "en"))]
    return pairs, {place: parse_links(line) for place, line in lines}


def multi30k(directory: Path) -> tuple[list[Words], dict[int, Gold]]:
    """The same for Multi30k."""
    lines = [line.split("\t") for line in read_lines(MULTI30K_GOLD)]
    splits = ("test_2016_flickr", "train")
    pairs = [pair for split in splits for pair in read_pairs(directory, split, ("de", "en"))]
    return pairs, {int(number) - 1: parse_links(links) for number, links in lines}


def measure(pairs: list[Words], gold: dict[int, Gold], *, hmm_iterations: int, threads: int) -> str:
    """A table of error rates, and the time that the alignment took."""
    began = time.perf_counter()
    aligned = align(pairs, hmm_iterations=hmm_iterations, threads=threads)
    lines = [f"{len(pairs):,} pairs in {time.perf_counter() - began:.1f} s, {len(gold)} of them with gold links"]
    for name in SYMMETRIZATIONS:
        found = enumerate(aligned.links(name))
        rate = alignment_error_rate((links, gold[place]) for place, links in found if place in gold)
        lines.append(f"  {name:<20} AER {rate.aer:.3f}  precision {rate.precision:.3f}  recall {rate.recall:.3f}")
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--multi30k", type=Path, metavar="DIRECTORY")
    parser.add_argument("--threads", type=int, default=available_processors())
    smoke.add_smoke(parser)
    options = parser.parse_args()
    corpora = {"travel": travel()} | ({"Multi30k": multi30k(options.multi30k)} if options.multi30k else {})
    for name, (pairs, gold) in corpora.items():
        if options.smoke:
            pairs, gold = pairs[:50], {place: links for place, links in gold.items() if place < 50}
        for model, hmm_iterations in (("Model 1", 0), ("HMM", ITERATIONS)):
            smoke.say(f"{name}, {model}")
            table = measure(pairs, gold, hmm_iterations=hmm_iterations, threads=options.threads)
            sys.stdout.write(f"{name}, {model}: {table}\n")


if __name__ == "__main__":
    main()
