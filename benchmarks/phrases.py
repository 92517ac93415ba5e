"""Phrases that must and must not appear, drawn at random for each line of a test set: whether every line is as asked.

    python benchmarks/phrases.py runs/multi30k_de_en_transformer
    python benchmarks/phrases.py runs/multi30k_de_en_transformer --require 2 --avoid 0

Phrases have one to four words, now and then a half one or another case, and come from references and translations of
other lines. A plain search, and one with the phrases, take turns, three rounds. What is looked for in the finished text
does not use the automata of the search.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import time
import unicodedata
from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from smoke import add_smoke, read_test_set, say

from nmt.backend import session
from nmt.backend.machine import available_processors

if TYPE_CHECKING:
    from nmt import Control, Translator
    from nmt.translation.line_translator import Translation


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="model directory with a test set")
    parser.add_argument("--lines", type=int, default=1000, help="first lines of the test set")
    parser.add_argument("--require", type=int, nargs="+", default=[0, 1, 2, 3], help="phrases that must appear, one of")
    parser.add_argument("--avoid", type=int, nargs="+", default=[0, 1, 2, 3], help="phrases that must not, one of")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=available_processors())
    add_smoke(parser)
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.lines, arguments.rounds = 8, 1
    return arguments


def main() -> None:
    """Draw, translate and count."""
    arguments = parse()
    say("starting TensorFlow")
    session.start(threads=arguments.threads, a_core_each=True)
    import nmt

    sources, references = read_test_set(arguments.run, arguments.lines)
    logging.getLogger("nmt").setLevel(logging.ERROR)  # what becomes of lines is counted below
    translator = nmt.Translator.load(arguments.run)
    say("a plain search warms up")
    plain = translator.n_best(sources, 1)
    draw = random.Random(arguments.seed)
    texts = references + [best[0].text for best in plain if best]
    asked = [drawn_control(draw, texts, draw.choice(arguments.require), draw.choice(arguments.avoid)) for _ in sources]
    asked = [control if is_satisfiable(translator, control) else nmt.Control() for control in asked]
    say("a search with phrases warms up")
    found = translator.n_best(sources, 1, controls=asked)
    seconds: dict[str, list[float]] = {"plain": [], "phrases": []}
    for number in range(arguments.rounds):
        for name, controls in (("plain", None), ("phrases", asked)):
            say(f"round {number + 1}: {name}")
            started = time.perf_counter()
            found = translator.n_best(sources, 1, controls=controls)
            seconds[name].append(time.perf_counter() - started)
    report(asked, found, plain, seconds)


def drawn_control(draw: random.Random, texts: Sequence[str], num_required: int, num_avoided: int) -> Control:
    """What is asked of a line."""
    import nmt

    required = [drawn_phrase(draw, texts) for _ in range(num_required)]
    if required and draw.random() < 0.2:
        required[0] = f"{required[0]} | {drawn_phrase(draw, texts)}"
    if required and draw.random() < 0.1:
        required.append(required[0])
    return nmt.Control(
        tuple(required),
        tuple(drawn_phrase(draw, texts) for _ in range(num_avoided)),
        part_words=draw.random() < 0.2,
        ignore_case=draw.random() < 0.2,
    )


def drawn_phrase(draw: random.Random, texts: Sequence[str]) -> str:
    """One to four words of a text, now and then a part of them, in another case, or with umlauts."""
    phrase = ""
    while not phrase:
        words = draw.choice(texts).split()
        begin = draw.randrange(len(words))
        phrase = " ".join(words[begin : begin + draw.choice([1, 1, 2, 3, 4])])
        if draw.random() < 0.1:
            phrase = phrase[draw.randrange(len(phrase)) :].strip()
        if draw.random() < 0.1:
            phrase = draw.choice([str.upper, str.title, str.lower])(phrase)
        if draw.random() < 0.05:
            phrase = phrase.replace("o", "ö").replace("u", "ü")
    return phrase


def is_satisfiable(translator: Translator, control: Control) -> bool:
    """Whether the translator does not refuse it at once."""
    from nmt.errors import ConfigError

    try:
        translator.controls.check(control)
    except ConfigError:
        return False
    return True


def is_part_of_word(character: str) -> bool:
    """Whether it is a letter, a digit, a mark or an underscore."""
    return character == "_" or unicodedata.category(character)[0] in "LNM"


def places(phrase: str, text: str, control: Control) -> int:
    """How often a phrase stands in a text, at places that share nothing."""
    flags = re.IGNORECASE if control.ignore_case else 0
    count = begin = 0
    while match := re.compile(re.escape(phrase), flags).search(text, begin):
        around = [text[match.start() - 1 : match.start()] + phrase[0], phrase[-1] + text[match.end() : match.end() + 1]]
        goes_on = any(len(pair) == 2 and all(map(is_part_of_word, pair)) for pair in around)
        is_place = control.part_words or not goes_on
        count, begin = count + is_place, match.end() if is_place else match.start() + 1
    return count


def report(
    asked: Sequence[Control],
    found: Sequence[Sequence[Translation]],
    plain: Sequence[Sequence[Translation]],
    seconds: dict[str, list[float]],
) -> None:
    """Print what became of the phrases, scores and times."""
    required = met = avoided = broken = 0
    for control, translations in zip(asked, found, strict=True):
        for phrase in {*control.require}:
            own = " ".join(translations[0].text.split()) if translations else ""  # runs of spaces count as one
            is_met = sum(places(each, own, control) for each in phrase.split(" | ")) >= control.require.count(phrase)
            required, met = required + 1, met + is_met
            if not is_met:
                print(f"not met: {phrase!r} of {control} in {own!r}")
        if translations:
            avoided += len(control.avoid)
            broken += sum(places(phrase, translations[0].text, control) > 0 for phrase in control.avoid)
    both = [(own[0].score, other[0].score) for own, other in zip(found, plain, strict=True) if own and other]
    ratios = [slow / fast for slow, fast in zip(seconds["phrases"], seconds["plain"], strict=True)]
    print(
        f"{len(asked):,} lines, {sum(not control.require for control in asked):,} without phrases that must appear: "
        f"{met:,} of {required:,} met, {broken:,} of {avoided:,} bans broken, {sum(map(bool, found)):,} translated"
    )
    print("mean score {:.4f}, plain {:.4f}".format(*map(fmean, zip(*both, strict=True))))
    print(
        f"{median(seconds['phrases']):.1f} s, plain {median(seconds['plain']):.1f} s: "
        f"{median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
