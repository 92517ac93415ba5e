"""What each method of the search costs, as a ratio to plain beam search in the same rounds.

    python benchmarks/methods.py runs/multi30k_de_en_transformer
    python benchmarks/methods.py runs/seed-42 --ensemble runs/seed-43 runs/seed-44 --lines 1000

Lines of the test set, in batches as `nmt translate` plans them. Phrases that must appear are two words of the reference
of each line; bans are ten words of other lines, which may send a translation another and longer way, or those of them
that its plain translation lacks; a beginning is the first two words of the reference. Methods take turns, and the
median of the ratios counts. Steps are those of the decoder over all batches, beside those of plain search: what a
method costs beyond them is its own.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from smoke import add_smoke, read_test_set, say

from nmt.backend import session
from nmt.backend.machine import available_processors

if TYPE_CHECKING:
    from nmt.inference.translator import Translator


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory with a test set")
    parser.add_argument("--ensemble", nargs="+", default=[], metavar="RUN", help="models beside the first")
    parser.add_argument("--lines", type=int, default=1000, help="first lines of the test set")
    parser.add_argument("--mbr-lines", type=int, default=64, help="of these, for minimum Bayes risk over 64 samples")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_processors())
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.lines, arguments.mbr_lines, arguments.rounds = 8, 2, 1
    return arguments


COUNTED = list[int]()
"""Steps of each batch since it was cleared."""


def count_steps() -> None:
    """Let every compiled search tell how many steps it took."""
    from nmt.inference.compiled_search import CompiledSearches

    compiled = CompiledSearches.__call__

    def counted(self: Any, wanted: Any) -> Callable[..., Any]:
        def search(*arguments: Any) -> Any:
            result = compiled(self, wanted)(*arguments)
            COUNTED.append(result.token_ids.shape[2])
            return result

        return search

    CompiledSearches.__call__ = counted  # type: ignore[method-assign]


def words_of(text: str) -> list[str]:
    """The words of a line, without what stands around them."""
    return re.findall(r"\w+", text) or ["a"]


def methods(
    translator: Translator, lines: Sequence[str], references: Sequence[str], mbr_lines: int
) -> dict[str, Callable[[], Any]]:
    """What is measured, by its name."""
    from nmt import Control, Sampling
    from nmt.scoring.mbr import choose

    generator = random.Random(1)
    own = [words_of(reference) for reference in references]
    others = [words_of(generator.choice(references)) + words_of(generator.choice(references)) for _ in references]
    written = [set(words_of(text)) for text in translator.translate(lines)]
    unwritten = [[word for word in words if word not in own] for words, own in zip(others, written, strict=True)]
    asked = {
        "two phrases that must appear": [
            Control(require=tuple(generator.sample(words, min(2, len(words))))) for words in own
        ],
        "ten phrases that must not": [Control(avoid=tuple((words * 10)[:10])) for words in others],
        "ten phrases, none of them in the plain text": [
            Control(avoid=tuple((words * 10)[:10] or ["a"])) for words in unwritten
        ],
        "ten phrases, the same for all": [Control(avoid=tuple((others[0] * 10)[:10]))] * len(lines),
        "a beginning of two words": [Control(prefix=" ".join(words[:2])) for words in own],
    }

    def with_controls(controls: Sequence[Control]) -> Callable[[], Any]:
        return lambda: translator.translate(lines, controls=controls)

    def with_settings(**settings: Any) -> Callable[[], Any]:
        other = type(translator)(translator.model, translator.text, translator.search.model_copy(update=settings))
        return lambda: other.translate(lines)

    def by_risk() -> None:
        for each in translator.n_best(lines[:mbr_lines], 64, sampling=Sampling(epsilon=0.02)):
            choose([one.text for one in each])

    beam_size = translator.search.beam_size
    return {
        **{name: with_controls(controls) for name, controls in asked.items()},
        "no repeated 3-grams": with_settings(no_repeat_ngram=3),
        "repetition penalty": with_settings(repetition_penalty=1.2),
        f"{beam_size} diverse groups": with_settings(diverse_groups=beam_size),
        "stop at the first": with_settings(stop="first"),
        "scores of tokens": lambda: translator.n_best(lines, 1, token_scores=True),
        "one sample": lambda: translator.translate(lines, sampling=Sampling()),
        "MBR, chrF, 64 samples": by_risk,
    }


def main() -> None:
    """Measure in rounds and print a table."""
    arguments = parse()
    say("starting TensorFlow")
    session.start(threads=arguments.threads, a_core_each=True)
    import nmt

    logging.getLogger("nmt").setLevel(logging.ERROR)
    lines, references = read_test_set(arguments.run, arguments.lines)
    count_steps()
    translator = nmt.Translator.load(arguments.run)
    measured = methods(translator, lines, references, arguments.mbr_lines)
    if arguments.smoke:
        measured = {name: measured[name] for name in ("a beginning of two words", "MBR, chrF, 64 samples")}
    if arguments.ensemble:
        ensemble = nmt.Translator.load(arguments.run, *arguments.ensemble)
        measured[f"an ensemble of {1 + len(arguments.ensemble)}"] = lambda: ensemble.translate(lines)

    ratios: dict[str, list[float]] = {name: [] for name in measured}
    steps, plain_seconds = {"plain": 0, **dict.fromkeys(measured, 0)}, list[float]()
    for turn in range(arguments.rounds + 1):
        say("warming up" if turn == 0 else f"round {turn}")
        for name, run in measured.items():
            seconds = []
            for what, one in (("plain", lambda: translator.translate(lines)), (name, run)):
                COUNTED.clear()
                begun = time.perf_counter()
                one()
                seconds.append(time.perf_counter() - begun)
                steps[what] = sum(COUNTED)
            share = len(lines) / len(lines[: arguments.mbr_lines]) if name.startswith("MBR") else 1.0
            if turn:
                plain_seconds.append(seconds[0])
                ratios[name].append(seconds[1] * share / seconds[0])
    speed, beam_size = len(lines) / median(plain_seconds), translator.search.beam_size
    print("| method | sentences/s | times plain | steps |\n|---|--:|--:|--:|")
    print(f"| beam {beam_size} | {speed:.1f} | 1 | {steps['plain']} |")
    for name, each in ratios.items():
        ratio = f"{median(each):.2f} ({min(each):.2f}–{max(each):.2f})"
        print(f"| {name} | {speed / median(each):.1f} | {ratio} | {steps[name]} |")


if __name__ == "__main__":
    main()
