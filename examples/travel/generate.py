"""Write the travel corpus from its grammar, or check that the committed files are what the grammar gives.

python examples/travel/generate.py            rewrites {train,validation,test}.{es,en}.gz and {validation,test}.links.gz
python examples/travel/generate.py --check    compares them, exit status 1 where they differ
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import sys
from collections import Counter
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import grammar
from grammar import Grammar, Phrase

HERE = Path(__file__).resolve().parent
SEED = 20
SIZES = {"test": 1000, "validation": 500, "train": 30000}
"""Pairs a split, in the order in which the splits are dealt."""
LANGUAGES = ("es", "en")
LINKED = ("validation", "test")
"""Splits whose links are written: those of training would be larger than its text."""
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
"""How text is cut into the words that links count: as `nmt align-corpus --tokenize` cuts it."""
WEIGHT_EXPONENT = 0.3
"""A sentence rule is drawn in proportion to its number of derivations to this power: rich rules more often."""
WEIGHT_LIMIT = 100_000
"""Beyond so many derivations a rule is drawn no more often."""
HELD_OUT_MINIMUM = 20
"""Only rules with at least so many sentences in the corpus give some to validation and test."""


class Pair(NamedTuple):
    """A sentence, its translation, the index of the sentence rule that gave both, and how it did."""

    source: str
    target: str
    rule: int
    phrase: Phrase | None = None

    @property
    def links(self) -> str:
        """The links between the words."""
        return "" if self.phrase is None else links(self.phrase)


def build(directory: Path = HERE / "rules", *, seed: int = SEED) -> dict[str, list[Pair]]:
    """Generate the corpus: split to pairs, all with different Spanish sentences."""
    generator = random.Random(seed)
    pairs = draw_pairs(grammar.load(directory), total=sum(SIZES.values()), generator=generator)
    pairs = sorted(pairs, key=lambda _: generator.random())
    per_rule = Counter(pair.rule for pair in pairs)
    held_out = [pair for pair in pairs if per_rule[pair.rule] >= HELD_OUT_MINIMUM]
    held_out = held_out[: SIZES["test"] + SIZES["validation"]]
    chosen = {pair.source for pair in held_out}
    return {
        "train": [pair for pair in pairs if pair.source not in chosen],
        "validation": held_out[SIZES["test"] :],
        "test": held_out[: SIZES["test"]],
    }


def draw_pairs(rules: Grammar, *, total: int, generator: random.Random) -> list[Pair]:
    """Draw pairs until `total` have different Spanish sentences.

    The first ones come more often from small rules than the last ones, which no longer give anything new.

    Raises:
        ValueError: a Spanish sentence has two translations. The rules have to be changed then: the English is to
            be a function of the Spanish.
    """
    sentences = list(enumerate(rules.sentences))
    weights = [min(rules.derivations(rule), WEIGHT_LIMIT) ** WEIGHT_EXPONENT for rule in rules.sentences]
    pairs: dict[str, Pair] = {}
    while len(pairs) < total:
        index, rule = grammar.pick(sentences, weights, generator=generator)
        phrase = rules.expand(rule, generator=generator)
        pair = Pair(capitalize(phrase.source), capitalize(phrase.target), index, phrase)
        known = pairs.setdefault(pair.source, pair)
        if known.target != pair.target:
            raise ValueError(f"{pair.source!r} is both {known.target!r} and {pair.target!r}")
    return list(pairs.values())


def capitalize(text: str) -> str:
    """Begin every sentence of a text with a capital."""
    return re.sub(r"(?:^|(?<=[.!?] ))[¿¡]?\w", lambda match: match[0].upper(), text)


def links(phrase: Phrase) -> str:
    """Which words translate each other, as far as the rules say it: "0-0" for sure, "1p2" if it is only possible.

    Words that one use of a rule or noun wrote may translate each other. A link is sure if each side has one word to
    choose from: of the rule, of those before the same slot of it, or of one kind of punctuation mark.
    """
    sides = [
        [(match[0], set(labels[slice(*match.span())])) for match in WORD.finditer(text)]
        for text, labels in ((phrase.source, phrase.source_labels), (phrase.target, phrase.target_labels))
    ]
    # What a word may be linked by: the rule alone, the slot within it, its own spelling if it is a mark.
    rules, exact = [], []
    for side in sides:
        rules.append([{label.use for label in labels} for _, labels in side])
        marks = [{(word, label.use) for label in labels if not word[0].isalnum()} for word, labels in side]
        exact.append([labels | of_mark for (_, labels), of_mark in zip(side, marks, strict=True)])
    singles = [{key for key, count in Counter(chain(*side)).items() if count == 1} for side in exact]
    found = []
    for i, j in product(range(len(sides[0])), range(len(sides[1]))):
        if exact[0][i] & exact[1][j] & singles[0] & singles[1]:
            found.append(f"{i}-{j}")
        elif rules[0][i] & rules[1][j]:
            found.append(f"{i}p{j}")
    return " ".join(found)


def file_texts() -> dict[str, str]:
    """Return the text of every file of the corpus by its name."""
    texts = {}
    for split, pairs in build().items():
        for column, language in enumerate(LANGUAGES):
            texts[f"{split}.{language}.gz"] = "".join(f"{pair[column]}\n" for pair in pairs)
        if split in LINKED:
            texts[f"{split}.links.gz"] = "".join(f"{pair.links}\n" for pair in pairs)
    return texts


def write(directory: Path) -> None:
    """Write the files; neither a time nor a name goes into them, so that they are the same every time."""
    for name, text in file_texts().items():
        (directory / name).write_bytes(gzip.compress(text.encode("utf-8"), 9, mtime=0))


def differing_files(directory: Path) -> list[str]:
    """Name the files that are missing or whose text, uncompressed, is not what the grammar gives."""
    return [name for name, text in file_texts().items() if _read(directory / name) != text.encode("utf-8")]


def _read(path: Path) -> bytes | None:
    return gzip.decompress(path.read_bytes()) if path.exists() else None


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the travel corpus from its grammar.")
    parser.add_argument("--check", action="store_true", help="compare the files instead of writing them")
    parser.add_argument(
        "--directory", type=Path, default=HERE, help="where the files are (default: beside this script)"
    )
    options = parser.parse_args()
    if not options.check:
        write(options.directory)
        return 0
    differing = differing_files(options.directory)
    sys.stdout.write("".join(f"{name} differs from what the grammar gives\n" for name in differing) or "up to date\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
