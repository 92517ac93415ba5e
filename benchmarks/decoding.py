"""Speed of translation with a trained model, as a share of the matrix peak measured in the same process.

    python benchmarks/decoding.py runs/multi30k_de_en_transformer

Translates the test set of the run three times and prints output tokens a second, GFLOP/s and the peak. With --length
every translation is made exactly so long: the speed of a step, without what sentences of unequal length cost and
without the steps after which a search is sure of its best hypothesis.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

from nmt.backend import session


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory")
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--length", type=int, default=None, help="tokens of every translation, EOS counted")
    parser.add_argument("--threads", type=int, default=None)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = parse()
    session.start(threads=arguments.threads)
    from flops import forward_flops
    from machine import matrix_peak

    import nmt
    from nmt.data import read_lines

    translator = nmt.Translator.load(arguments.run)
    if arguments.length is not None:
        exact = {"min_length": arguments.length, "max_length": arguments.length, "max_length_offset": arguments.length}
        translator.search = translator.search.model_copy(update=exact)
    config = nmt.load_config(f"{arguments.run}/config.yaml")
    if config.data.test is None:
        raise SystemExit("the run has no test set: set data.test")
    lines = [line for path in config.data.test.source_paths for line in read_lines(path)]
    flops = forward_flops(translator.model)
    source_tokens = sum(len(ids) + 1 for ids in translator.text.source.encode_batch(lines))
    shares = []
    options = {"beam_size": arguments.beam_size, "batch_size": arguments.batch_size}
    translator.translate(lines[: arguments.batch_size], **options)
    for _ in range(3):
        peak = matrix_peak("float32")
        started = time.perf_counter()
        found = translator.n_best(lines, 1, **options)
        seconds = time.perf_counter() - started
        output_tokens = sum(best[0].num_tokens for best in found)
        operations = flops.source * source_tokens + flops.target * arguments.beam_size * output_tokens
        shares.append(operations / seconds / peak)
        print(
            f"{output_tokens / seconds:,.0f} output tokens/s  {len(lines) / seconds:,.1f} sentences/s  "
            f"{operations / seconds / 1e9:.0f} GFLOP/s  peak {peak / 1e9:.0f} float32  share {shares[-1]:.3f}"
        )
    print(
        f"beam {arguments.beam_size}, batch {arguments.batch_size}, length {arguments.length or 'natural'}: "
        f"median {median(shares):.3f} of the float32 peak ({min(shares):.3f} to {max(shares):.3f})"
    )


if __name__ == "__main__":
    main()
