"""Alignment error rates (Och and Ney 2003) of the attention of a trained model, beside those of `nmt.alignment`.

    python benchmarks/attention.py runs/travel                          on the test set of the travel corpus
    python benchmarks/attention.py runs/multi30k --multi30k DIRECTORY   on 100 lines of test_2016_flickr.{de,en}.gz

Each layer of the decoder is read off, and the mean of all, as it is and shifted by a step (SHIFT-ATT). `argmax` links
each target word to the source word that it looks at most, as papers do; the others are symmetrisations.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from alignment import TRAVEL, multi30k, travel
from smoke import add_smoke, say

from nmt.alignment.links import Gold, Links, alignment_error_rate
from nmt.data.lines import read_lines

SYMMETRIZED = ("grow-diag-final-and", "intersection")


def read(directory: Path | None) -> tuple[list[tuple[str, str]], list[Gold]]:
    """The pairs that have gold links, and these."""
    _, gold = travel() if directory is None else multi30k(directory)
    folder, split, languages = (TRAVEL, "test", ("es", "en")) if directory is None else (
        directory, "test_2016_flickr", ("de", "en")
    )  # fmt: skip
    source, target = (list(read_lines(folder / f"{split}.{language}.gz")) for language in languages)
    return [(source[place], target[place]) for place in gold], list(gold.values())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory")
    parser.add_argument("--multi30k", type=Path, metavar="DIRECTORY")
    add_smoke(parser)
    arguments = parser.parse_args()
    pairs, gold = read(arguments.multi30k)
    if arguments.smoke:
        pairs, gold = pairs[:3], gold[:3]
    say("starting TensorFlow")
    from nmt.backend import session

    session.start(a_core_each=True)
    import nmt
    from nmt.inference.alignment import links_of
    from nmt.models.forced import ReadOut

    logging.getLogger("nmt").setLevel(logging.ERROR)
    translator = nmt.Translator.load(arguments.run)
    layers = [*range(1, len(getattr(translator.model, "decoder_blocks", ())) + 1)]
    for layer in [*layers, 0] if layers else [None]:
        for shift in (False, True):
            say(f"layer {layer}, shifted: {shift}")
            aligned = translator.align(pairs, read_out=ReadOut(layer, None, shift), soft=True)
            found: dict[str, list[Links]] = {"argmax": []}
            for alignment in aligned:
                weights = alignment.soft.words  # no side is empty here
                found["argmax"].append({(int(best), word) for word, best in enumerate(weights.argmax(axis=1))})
                for name in SYMMETRIZED:
                    found.setdefault(name, []).append(set(links_of(weights, name)))
            rates = {name: alignment_error_rate(zip(links, gold, strict=True)) for name, links in found.items()}
            words = "  ".join(
                f"{name} {rate.aer:.3f} (precision {rate.precision:.3f}, recall {rate.recall:.3f})"
                for name, rate in rates.items()
            )
            which = "" if layer is None else f"layer {layer} " if layer else "mean of layers "
            print(f"{which}{'shifted ' if shift else ''}AER: {words}", flush=True)


if __name__ == "__main__":
    main()
