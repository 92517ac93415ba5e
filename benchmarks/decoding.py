"""Decoding speed of this toolkit beside CTranslate2: same process, same weights, same lines, same number of cores.

    python benchmarks/decoding.py runs/multi30k_de_en_transformer
    python benchmarks/decoding.py runs/multi30k_de_en_transformer --beam-size 1
    python benchmarks/decoding.py runs/multi30k_de_en_transformer --batch-size 1 --lines 60
    python benchmarks/decoding.py runs/multi30k_de_en_transformer --shortlist --lengths natural
    python benchmarks/decoding.py runs/multi30k_de_en_rnn
    python benchmarks/large_model.py /tmp/large && python benchmarks/decoding.py /tmp/large --lines 128 --lengths forced

Engines take turns, three rounds, and the matrix peak is measured in each. `forced` makes every translation exactly 16
tokens long, so that all engines write equally many; `natural` lets them end, each by its own rule, and prints BLEU.
This toolkit searches one batch a core. CTranslate2 does so too where `side by side` is said; else all cores work at a
batch, as it comes. FLOPs count output tokens only: the hypotheses of a beam, and the encoder. With `--shortlist` all
take that of the run (`nmt build-shortlist RUN`). Needs the extra `ctranslate2`; a model that it cannot run is measured
alone. Close other programs: some engines wait by spinning.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from smoke import add_smoke, read_test_set, say

from nmt.backend import session
from nmt.backend.machine import available_processors

if TYPE_CHECKING:
    from nmt import Translator
    from nmt.inference.compiled_translator import CompiledFor
    from nmt.inference.translator import OpenedModel
    from nmt.search import SearchResult

LENGTH = 16
SAMPLE_LINES, MOST_SAMPLE_TOKENS = 4, 20
"""On which the export is compared with the model; `nmt export` takes more."""

OURS = "nmt"
THEIRS = {
    "ct2-float32": ("float32", False),
    "ct2-float32-side": ("float32", True),
    "ct2-int8": ("int8", False),
    "ct2-int8-side": ("int8", True),
}
"""The engines of CTranslate2: what they compute in, and whether batches are searched side by side."""

BASELINE = ("ct2-float32", "ct2-float32-side")
"""The better of these is what the others are compared with."""


class Found(NamedTuple):
    """The best translation of a line: its text and its tokens, EOS counted."""

    text: str
    num_tokens: int


Engine: TypeAlias = Callable[["int | None"], list[Found]]
"""Translates all lines, exactly so many tokens each, or of natural length."""


class Round(NamedTuple):
    """One turn of one engine: how long it took, what it wrote, and the matrix peak of the round in FLOP/s."""

    seconds: float
    found: list[Found]
    peak: float

    @property
    def num_tokens(self) -> int:
        """Output tokens of the best translations."""
        return sum(each.num_tokens for each in self.found)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory with a test set")
    parser.add_argument("--beam-size", type=int, default=5, help="1 is greedy search")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lines", type=int, default=None, help="first lines of the test set; all unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", choices=[OURS, *THEIRS], default=[OURS, *THEIRS])
    parser.add_argument("--lengths", nargs="+", choices=["forced", "natural"], default=["forced", "natural"])
    parser.add_argument("--shortlist", action="store_true", help="project onto the tokens of the run's shortlist")
    parser.add_argument("--threads", type=int, default=available_processors(), help="cores of every engine")
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.batch_size, arguments.lines, arguments.rounds = 2, 5, 1
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse()
    say("starting TensorFlow")
    session.start(threads=arguments.threads, a_core_each=True)
    import nmt
    from nmt.control.shortlist import Shortlist
    from nmt.inference.translator import open_model

    sources, references = read_test_set(arguments.run, arguments.lines)
    opened = open_model(arguments.run)
    shortlist = Shortlist.load(arguments.run, opened.text) if arguments.shortlist else None
    search = opened.config.search.model_copy(update={"shortlist": arguments.shortlist})
    translator = nmt.Translator(opened.model, opened.text, search, shortlist=shortlist)
    logging.getLogger("nmt").setLevel(logging.ERROR)  # that forced translations are as long as allowed is no news
    with tempfile.TemporaryDirectory() as folder:
        engines = open_engines(arguments, opened, translator, sources, Path(folder) / "export")
        for lengths in arguments.lengths:
            length = LENGTH if lengths == "forced" else None
            rounds = measure(engines, length, arguments)
            title = f"{lengths} beam {arguments.beam_size} batch {arguments.batch_size}"
            title += " shortlist" if arguments.shortlist else ""
            report(title, rounds, forced=length is not None, references=references)
            if OURS in engines:
                report_share(title, rounds[OURS], translator, sources, beam_size=arguments.beam_size)
                steps, longest = count_steps(translator, lambda: engines[OURS](length))  # noqa: B023
                print(f"{title}  {OURS}: {steps:.1f} steps a batch, of {longest:.1f} tokens its longest translation")


def open_engines(
    arguments: argparse.Namespace, opened: OpenedModel, translator: Translator, sources: list[str], folder: Path
) -> dict[str, Engine]:
    """Prepare every engine that is asked for and can run the model; CTranslate2 quantises its weights as it loads."""
    from nmt.errors import ExportError
    from nmt.export.ctranslate2_export import SamplePair, export_ctranslate2

    engines: dict[str, Engine] = {}
    if OURS in arguments.engines:
        engines[OURS] = our_engine(arguments, translator, sources)
    wanted = {name: THEIRS[name] for name in arguments.engines if name in THEIRS}
    ids = opened.text.source.encode_batch(sources[:SAMPLE_LINES])
    sample = [SamplePair(line, line[:MOST_SAMPLE_TOKENS]) for line in ids if line]
    try:
        if wanted:
            export_ctranslate2(opened, folder, sample, quantization="float32")
    except ExportError as error:
        print(f"without CTranslate2: {error}")
        return engines
    for name, (compute_type, side_by_side) in wanted.items():
        engines[name] = their_engine(
            arguments, translator, sources, folder, compute_type=compute_type, side_by_side=side_by_side
        )
    return engines


def our_engine(arguments: argparse.Namespace, translator: Translator, sources: list[str]) -> Engine:
    """Translate with this toolkit."""
    natural = translator.search

    def run(length: int | None) -> list[Found]:
        exact = {"min_length": length, "max_length": length, "max_length_offset": length}
        translator.search = natural if length is None else natural.model_copy(update=exact)
        found = translator.n_best(sources, 1, beam_size=arguments.beam_size, batch_size=arguments.batch_size)
        return [Found(best[0].text, best[0].num_tokens) for best in found]

    return run


def their_engine(
    arguments: argparse.Namespace,
    translator: Translator,
    sources: list[str],
    folder: Path,
    *,
    compute_type: str,
    side_by_side: bool,
) -> Engine:
    """Translate with CTranslate2 and its own way of stopping, with the batches of this toolkit."""
    import ctranslate2

    from nmt.backend.machine import map_at_once
    from nmt.data.sequences import TokenSequences
    from nmt.translation.lengths import plan_batches

    at_once = arguments.threads if side_by_side else 1
    engine = ctranslate2.Translator(
        os.fspath(folder),
        compute_type=compute_type,
        inter_threads=at_once,
        intra_threads=arguments.threads // at_once,
    )
    text = translator.text

    def run(length: int | None) -> list[Found]:
        ids = text.source.encode_batch(sources)
        limits = {"min_decoding_length": length - 1, "max_decoding_length": length - 1} if length else {}
        lengths = TokenSequences.from_lists(ids).lengths + 1
        batches = plan_batches(lengths, batch_size=arguments.batch_size, at_once=at_once)

        def translate(batch: np.ndarray) -> list[Found]:
            pieces = [text.source.tokens(ids[index]) for index in batch]
            results = engine.translate_batch(
                pieces, beam_size=arguments.beam_size, length_penalty=1.0, max_input_length=0,
                use_vmap=arguments.shortlist, **limits,
            )  # fmt: skip
            written = [result.hypotheses[0] for result in results]
            return [
                Found(text.target.decode([text.target.vocabulary.id(token) for token in tokens]), len(tokens) + 1)
                for tokens in written
            ]

        found = [Found("", 0)] * len(ids)
        for batch, results in zip(batches, map_at_once(translate, batches, at_once=at_once), strict=True):
            for index, result in zip(batch, results, strict=True):
                found[index] = result
        return found

    return run


def measure(engines: dict[str, Engine], length: int | None, arguments: argparse.Namespace) -> dict[str, list[Round]]:
    """Let the engines take turns, after a round that does not count."""
    from machine import matrix_peak

    for name, engine in engines.items():
        say(f"{name} warms up")
        engine(length)
    measured: dict[str, list[Round]] = {name: [] for name in engines}
    for number in range(1, arguments.rounds + 1):
        say(f"round {number}: the peak of matrix products")
        peak = matrix_peak("float32", side_by_side=arguments.threads, smoke=arguments.smoke)
        for name, engine in engines.items():
            say(f"round {number}: {name}")
            started = time.perf_counter()
            found = engine(length)
            measured[name].append(Round(time.perf_counter() - started, found, peak))
        seconds = "  ".join(f"{name} {turns[-1].seconds:.2f} s" for name, turns in measured.items())
        print(f"  peak {peak / 1e9:.0f} GFLOP/s  {seconds}", flush=True)
    return measured


def report(title: str, measured: dict[str, list[Round]], *, forced: bool, references: list[str]) -> None:
    """Print the speed of each engine, and with natural lengths its BLEU."""
    from nmt.scoring.evaluation import bleu

    medians = {name: median(each.seconds for each in turns) for name, turns in measured.items()}
    fastest = min((medians[name] for name in BASELINE if name in medians), default=None)
    for name, turns in measured.items():
        last = turns[-1]
        count, unit = (last.num_tokens, "output tokens") if forced else (len(last.found), "sentences")
        speeds = [count / each.seconds for each in turns]
        line = f"{title}  {name:<16} {spread(speeds, ',.0f')} {unit}/s  {last.num_tokens:,} output tokens"
        if fastest is not None:
            line += f"  {fastest / medians[name]:.2f} of the best CTranslate2 float32"
        if not forced:
            quality = bleu([each.text for each in last.found], references, tokenization="13a").score
            line += f"  BLEU {quality:.2f}"
        print(line, flush=True)


def report_share(
    title: str, turns: Sequence[Round], translator: Translator, sources: list[str], *, beam_size: int
) -> None:
    """Print the share of the matrix peak that this toolkit reached."""
    from flops import forward_flops

    flops = forward_flops(translator.model)
    source_tokens = sum(len(ids) + 1 for ids in translator.text.source.encode_batch(sources))
    shares = [
        (flops.source * source_tokens + flops.target * beam_size * each.num_tokens) / each.seconds / each.peak
        for each in turns
    ]
    print(f"{title}  {OURS}: {spread(shares, '.3f')} of the float32 peak", flush=True)


def count_steps(translator: Translator, translate: Callable[[], object]) -> tuple[float, float]:
    """Translate once more; return the mean steps of a batch, and the mean length of its longest best translation.

    What the first is greater by is the price of being sure that nothing better can come.
    """
    batches: list[tuple[int, int]] = []
    search_function = translator.compiled

    def counted(wanted: CompiledFor) -> Callable[..., SearchResult]:
        search = search_function(wanted)

        def search_and_count(*inputs: Any) -> SearchResult:
            result = search(*inputs)
            batches.append((result.token_ids.shape[2], int(np.max(result.lengths[:, 0]))))
            return result

        return search_and_count

    translator.compiled = counted  # type: ignore[assignment]
    try:
        translate()
    finally:
        translator.compiled = search_function
    steps, longest = np.mean(batches, axis=0)
    return float(steps), float(longest)


def spread(values: Sequence[float], form: str) -> str:
    """The median with the least and the greatest."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    main()
