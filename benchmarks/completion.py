"""How long a completion takes while somebody types a translation, word by word.

    python benchmarks/completion.py runs/multi30k_de_en_transformer
    python benchmarks/completion.py runs/multi30k_de_en_transformer --lines 30 --count 5 --beam-size 2

References of the test set are typed: each call has one more word of one, and a space. A first round warms up. Plain
translations of the same lines, one at a time, take turns with completions, so that the ratio holds whatever else runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from statistics import median

from smoke import add_smoke, read_test_set, say

LIMITS = {"median": 0.050, "95 %": 0.100}
"""What is aimed at, in seconds, on two cores."""

PLAIN_EVERY = 5


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory with a test set")
    parser.add_argument("--lines", type=int, default=30, help="first lines of the test set")
    parser.add_argument("--count", type=int, default=5, help="completions a call")
    parser.add_argument("--beam-size", type=int, default=2, help="hypotheses of each next word")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--library", action="store_true", help="start TensorFlow as `import nmt` does, all cores at once"
    )
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.lines, arguments.rounds = 1, 1
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse()
    say("starting TensorFlow")
    from nmt.backend import session

    session.start(a_core_each=not arguments.library)
    import nmt

    logging.getLogger("nmt").setLevel(logging.ERROR)
    sources, references = read_test_set(arguments.run, arguments.lines)
    calls = [(source, typed) for pair in zip(sources, references, strict=True) for source, typed in typing(*pair)]
    translator = nmt.Translator.load(arguments.run)
    for number in range(arguments.rounds + 1):
        say(f"round {number}" if number else "warming up")
        completions, plain = list[float](), list[float]()
        for place, (source, typed) in enumerate(calls):
            started = time.perf_counter()
            translator.complete(source, typed, arguments.count, beam_size=arguments.beam_size)
            completions.append(time.perf_counter() - started)
            if place % PLAIN_EVERY == 0:
                started = time.perf_counter()
                translator.translate([source])
                plain.append(time.perf_counter() - started)
        if number:
            print(
                f"load {os.getloadavg()[0]:.1f}  {len(calls)} completions: median {1000 * median(completions):.1f} ms, "
                f"95 % under {1000 * percentile(completions, 0.95):.1f} ms, goals {1000 * LIMITS['median']:.0f} and "
                f"{1000 * LIMITS['95 %']:.0f} ms; plain translations: median {1000 * median(plain):.1f} ms",
                flush=True,
            )


def typing(source: str, reference: str) -> list[tuple[str, str]]:
    """The source with what somebody has typed before each word of the reference."""
    words = reference.split(" ")
    return [(source, "".join(f"{word} " for word in words[:count])) for count in range(len(words))]


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    return sorted(values)[max(0, round(share * len(values)) - 1)]


if __name__ == "__main__":
    main()
