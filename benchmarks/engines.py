"""Decoding speed of this toolkit beside CTranslate2: same process, same weights, same input, same number of cores.

    python benchmarks/engines.py runs/multi30k_de_en_transformer

Engines take turns, three rounds. "forced" makes every translation exactly 16 tokens long, so that all produce equally
many; "natural" lets them end, each by its own rule, and prints BLEU. Needs the extra `ctranslate2`. Both are idle while
the other works; close other programs, since CTranslate2 waits for its threads by spinning.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from nmt.backend import session

ROUNDS = 3
LENGTH = 16
ENGINES = {"nmt float32": None, "CTranslate2 float32": "float32", "CTranslate2 int8": "int8"}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory of a Transformer with a test set")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lines", type=int, default=None, help="first lines of the test set; all unless given")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    session.start(threads=arguments.threads)
    from machine import matrix_peak

    import nmt
    from nmt.data import read_lines
    from nmt.inference.evaluation import bleu
    from nmt.recipes.export import export_for_ctranslate2

    translator = nmt.Translator.load(arguments.run)
    config = nmt.load_config(f"{arguments.run}/config.yaml")
    if config.data.test is None:
        raise SystemExit("the run has no test set: set data.test")
    sources, references = (
        [line for path in paths for line in read_lines(path)][: arguments.lines]
        for paths in (config.data.test.source_paths, config.data.test.target_paths)
    )
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[int | None], list[tuple[str, int]]]] = {}
        for name, quantization in ENGINES.items():
            if quantization is None:
                runs[name] = ours(translator, sources, arguments)
                continue
            output = Path(folder, quantization)
            export_for_ctranslate2(arguments.run, output, quantization=quantization)
            runs[name] = theirs(output, quantization, translator, sources, arguments)
        for title, length in (("forced", LENGTH), ("natural", None)):
            speeds: dict[str, list[float]] = {name: [] for name in runs}
            results = {name: run(length) for name, run in runs.items()}  # warm up
            for _ in range(ROUNDS):
                peak = matrix_peak("float32")
                for name, run in runs.items():
                    started = time.perf_counter()
                    results[name] = run(length)
                    seconds = time.perf_counter() - started
                    tokens = sum(count for _, count in results[name])
                    speeds[name].append((tokens if length else len(sources)) / seconds)
                print(f"  peak {peak / 1e9:.0f} GFLOP/s", *(f"{name} {s[-1]:,.0f}" for name, s in speeds.items()))
            baseline = median(speeds["CTranslate2 float32"])
            for name, values in speeds.items():
                quality = bleu([text for text, _ in results[name]], references, tokenization="13a").score
                print(
                    f"{title:<8} beam {arguments.beam_size} batch {arguments.batch_size}  {name:<20} "
                    f"{median(values):8,.0f} {'tokens' if length else 'sentences'}/s ({min(values):,.0f} to "
                    f"{max(values):,.0f})  {median(values) / baseline:.2f} of CTranslate2 float32  "
                    + ("" if length else f"BLEU {quality:.2f}"),
                    flush=True,
                )


def ours(translator, sources, arguments) -> Callable[[int | None], list[tuple[str, int]]]:  # noqa: ANN001
    """Translate with this toolkit: texts and their tokens, EOS counted."""
    natural = translator.search

    def run(length: int | None) -> list[tuple[str, int]]:
        exact = {"min_length": length, "max_length": length, "max_length_offset": length}
        translator.search = natural if length is None else natural.model_copy(update=exact)
        found = translator.n_best(sources, 1, beam_size=arguments.beam_size, batch_size=arguments.batch_size)
        return [(best[0].text, best[0].num_tokens) for best in found]

    return run


def theirs(folder, quantization, translator, sources, arguments) -> Callable[[int | None], list[tuple[str, int]]]:  # noqa: ANN001
    """Translate with CTranslate2 as it comes, with the batches of this toolkit."""
    import ctranslate2

    from nmt.data.sequences import TokenSequences
    from nmt.inference.batching import plan_batches

    engine = ctranslate2.Translator(str(folder), compute_type=quantization, intra_threads=arguments.threads)
    text = translator.text

    def run(length: int | None) -> list[tuple[str, int]]:
        ids = text.source.encode_batch(sources)
        limits = {"min_decoding_length": length - 1, "max_decoding_length": length - 1} if length else {}
        found: list[tuple[str, int]] = [("", 0)] * len(ids)
        for batch in plan_batches(TokenSequences.from_lists(ids).lengths, batch_size=arguments.batch_size):
            pieces = [text.source.tokens(ids[index]) for index in batch]
            results = engine.translate_batch(
                pieces, beam_size=arguments.beam_size, length_penalty=1.0, max_input_length=0, **limits
            )
            for index, result in zip(batch, results, strict=True):
                tokens = result.hypotheses[0]
                found[index] = (text.target.decode([text.target.vocabulary.id(t) for t in tokens]), len(tokens) + 1)
        return found

    return run


if __name__ == "__main__":
    main()
