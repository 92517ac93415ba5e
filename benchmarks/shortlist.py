"""What shortlists of several sizes cost in BLEU and save in time, beside the search in the whole vocabulary.

    python benchmarks/shortlist.py runs/multi30k_de_en_transformer
    python benchmarks/shortlist.py runs/travel --best 20 50 --frequent 50 --beam-size 1

Lines of the test set, in batches as `nmt translate` plans them. The table is learned from the training corpus of the
run, once for all sizes. After a first round, which compiles, sizes take turns, and the median of the ratios to the
whole vocabulary in the same rounds counts: of wall time, and of processor time, which other jobs disturb less. Columns
are those of a batch on average; equal lines are those translated as with the whole vocabulary.
"""

from __future__ import annotations

import argparse
import logging
import time
from statistics import mean, median

from smoke import add_smoke, read_test_set, say


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory with a test set")
    parser.add_argument("--lines", type=int, default=1000, help="first lines of the test set")
    parser.add_argument("--best", type=int, nargs="+", default=[20, 50, 100, 200], help="tokens of a source token")
    parser.add_argument("--frequent", type=int, nargs="+", default=[100, 500], help="most frequent tokens")
    parser.add_argument("--beam-size", type=int, help="as configured unless given")
    parser.add_argument("--batch-size", type=int, help="as configured unless given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.lines, arguments.rounds, arguments.best, arguments.frequent = 4, 1, [2], [5]
    return arguments


def main() -> None:
    """Measure and print."""
    arguments = parse()
    say("starting TensorFlow")
    from nmt.backend import session

    session.start(threads=arguments.threads, a_core_each=True)
    import nmt
    from nmt.control.shortlist import Columns, Shortlist
    from nmt.directory.model_directory import read_settings
    from nmt.scoring.evaluation import evaluate_lines
    from nmt.tasks.build_shortlist import learn_from_corpus

    logging.getLogger("nmt").setLevel(logging.ERROR)
    sources, references = read_test_set(arguments.run, arguments.lines)
    translator = nmt.Translator.load(arguments.run, overrides=["search.engine=keras"])
    say("learning the table")
    sizes = {"best": max(arguments.best), "frequent": max(arguments.frequent)}
    full, _ = learn_from_corpus(read_settings(arguments.run), translator.text, **sizes, threads=1)
    of_sizes: dict[tuple[int, int] | None, Shortlist | None] = {
        (best, frequent): Shortlist(full.best[:, :best], full.frequent[:frequent], full.num_tokens, full.tokenizers)
        for frequent in arguments.frequent
        for best in arguments.best
    }
    of_sizes = {None: None, **of_sizes}
    columns: dict[tuple[int, int] | None, list[int]] = {size: [] for size in of_sizes}
    counted = Columns.__init__

    def count(self: Columns, *given: object, **named: object) -> None:
        counted(self, *given, **named)  # type: ignore[arg-type]
        columns[now].append(len(self.token_ids))

    Columns.__init__ = count  # type: ignore[method-assign]
    search, found, seconds = translator.search, dict[object, list[str]](), dict[object, list[tuple[float, float]]]()
    for number in range(arguments.rounds + 1):
        say(f"round {number}" if number else "compiling")
        for now, shortlist in of_sizes.items():
            translator.shortlist = shortlist
            translator.search = search.model_copy(update={"shortlist": shortlist is not None})
            started = time.perf_counter(), time.process_time()
            found[now] = translator.translate(
                sources, beam_size=arguments.beam_size, batch_size=arguments.batch_size, tally=nmt.Tally()
            )
            if number:
                wall, own = time.perf_counter() - started[0], time.process_time() - started[1]
                seconds.setdefault(now, []).append((wall, own))
    print("  N   M  columns    BLEU  equal  faster (wall)  faster (processor)")
    for now in of_sizes:
        bleu = evaluate_lines(found[now], references).bleu.score
        equal = mean(one == other for one, other in zip(found[now], found[None], strict=True))
        ratios = [median(w[i] / s[i] for w, s in zip(seconds[None], seconds[now], strict=True)) for i in range(2)]
        name = "all tokens" if now is None else f"{now[0]:3} {now[1]:3} {mean(columns[now]):8.0f}"
        print(f"{name:<16}{bleu:8.2f} {equal:6.1%} {ratios[0]:14.2f} {ratios[1]:19.2f}", flush=True)
    print(f"all tokens: {median(each[0] for each in seconds[None]):.2f} s, {full.num_tokens:,} tokens")


if __name__ == "__main__":
    main()
