"""`nmt split`: validation and test taken out of a corpus, so that training has no line like one of theirs.

Two lines are near if they have the same letters: case, accents, digits, punctuation and white space apart. What is
near on either side is kept apart. The corpus is read three times and never held: memory is for what is taken.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from nmt.corpora.convert import STANDARD_STREAM, OpenText, Output, Pair, left_behind, on_disk
from nmt.data.corpus import Corpus
from nmt.errors import ConfigError, DataError
from nmt.text.tokenizer import Sample, in_blocks

PARTS = ("train", "validation", "test")

_SPARE = 4
"""How many pairs are drawn for each that is wanted, to choose those from that are like no other."""

_LEAST_DRAWN = 2000
_LARGEST_VOWEL_CLASS = 9
"""Of the canonical combining classes of Unicode: those above are accents, tones and points, not vowels or voicing."""


def is_part_of_letter(character: str) -> bool:
    """Whether a character, of text in the form NFKD, counts when near lines are looked for."""
    category = unicodedata.category(character)[0]
    return category == "L" or (category == "M" and unicodedata.combining(character) <= _LARGEST_VOWEL_CLASS)


class _Letters(dict[int, str | None]):
    """What `str.translate` puts in place of each character: nothing unless it is part of a letter."""

    def __missing__(self, code: int) -> str | None:
        self[code] = chr(code) if is_part_of_letter(chr(code)) else None
        return self[code]


_LETTERS = _Letters()


def near_hash(text: str) -> int | None:
    """64 bits that are the same for near lines, see above; None if a text has no letter."""
    letters = unicodedata.normalize("NFKD", text.casefold()).translate(_LETTERS)
    return int.from_bytes(hashlib.blake2b(letters.encode(), digest_size=8).digest()) if letters else None


class _Candidate(NamedTuple):
    """A pair that may be taken: its place in the corpus, and the hashes of both sides."""

    number: int
    hashes: tuple[int, int]


def split(
    corpus: Corpus,
    output: Output,
    sizes: Mapping[str, int],
    *,
    seed: int,
    open_text: OpenText,
    count: Callable[[int], object],
) -> str:
    """Write a corpus in parts: the pairs that are taken for validation and test, and what may be trained on.

    Pairs are drawn by chance, and of those drawn the ones are taken first whose sides are near to no other line of the
    corpus, since what is near to one that is taken is lost for training.

    Args:
        corpus: what is read.
        output: where it goes, each part with its name before the ending.
        sizes: how many pairs `validation` and `test` get.
        seed: of the chance.
        open_text: opens a file for text.
        count: told how many more pairs were read, of three times all.

    Returns:
        How many pairs were read, went to each part, and were dropped, and why.

    Raises:
        ConfigError: nothing is to be taken, or an output is an input.
        DataError: the corpus cannot be read, is too small, or an output cannot be written.
    """
    if output.name == STANDARD_STREAM:
        raise ConfigError("a split writes several files, got standard output: name a file, after which they are named")
    parts = {name: output.named_after(name) for name in PARTS if name == "train" or sizes[name]}
    if len(parts) == 1:
        raise ConfigError("a split takes pairs for validation, for test or for both, got 0 for both")
    for part in parts.values():
        part.refuse_inputs(corpus)
    with on_disk(corpus) as corpus, ExitStack() as stack:
        dropped, kept = Counter[str](), Counter[str]()
        writers = {name: stack.enter_context(part.open(open_text, dropped)) for name, part in parts.items()}
        taken, hashes = _choose(corpus, sizes, seed=seed, count=count)
        for block in in_blocks(_usable(corpus, dropped)):
            found: dict[str, list[Pair]] = {name: [] for name in parts}
            for number, pair in block:
                if number in taken:
                    found[taken[number]].append(pair)
                elif any(near_hash(text) in side for text, side in zip(pair, hashes, strict=True)):
                    dropped[f"near a line of {' or '.join([*parts][1:])}"] += 1
                else:
                    found["train"].append(pair)
            for name, pairs in found.items():
                kept[name] += writers[name](pairs) if pairs else 0
            count(len(block))
        if not kept["train"]:
            raise DataError("no pair is left to train on: every one is near to one that was taken")
    total = kept.total() + dropped.total()
    told = f"{total:,} pairs read, " + ", ".join(f"{kept[name]:,} to {name}" for name in parts)
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.most_common())
    return f"{told}, {dropped.total():,} dropped" + (f": {reasons}" if reasons else "") + left_behind(corpus)


def _usable(corpus: Corpus, dropped: Counter[str]) -> Iterator[tuple[int, Pair]]:
    """Number and text of the pairs that have text on both sides; why others have not is counted."""
    for number, unit in enumerate(corpus.units()):
        if isinstance(unit, str):
            dropped[unit] += 1
        elif not (unit[0].strip() and unit[1].strip()):
            dropped["with an empty side"] += 1
        elif "\0" in unit[0] or "\0" in unit[1]:
            dropped["with a NUL character"] += 1
        else:
            yield number, unit


def _choose(
    corpus: Corpus, sizes: Mapping[str, int], *, seed: int, count: Callable[[int], object]
) -> tuple[dict[int, str], tuple[set[int], set[int]]]:
    """Choose pairs; return which part each gets by its number, and the hashes of their sources and targets."""
    wanted = sizes["validation"] + sizes["test"]
    sample = Sample[tuple[int, Pair]](_SPARE * wanted + _LEAST_DRAWN, seed=seed)
    for block in in_blocks(_usable(corpus, Counter())):
        sample.update(block)
        count(len(block))
    drawn = list[_Candidate]()
    for number, (source, target) in sorted(sample.lines):
        hashes = near_hash(source), near_hash(target)
        if hashes[0] is not None and hashes[1] is not None:
            drawn.append(_Candidate(number, (hashes[0], hashes[1])))

    # How often lines near to those drawn are in the corpus, by side.
    found = tuple(dict.fromkeys((candidate.hashes[side] for candidate in drawn), 0) for side in (0, 1))
    for block in in_blocks(_usable(corpus, Counter())):
        for _, pair in block:
            for text, counts in zip(pair, found, strict=True):
                if (near := near_hash(text)) in counts:
                    counts[near] += 1
        count(len(block))

    random.Random(seed).shuffle(drawn)
    drawn.sort(key=lambda candidate: sum(counts[near] for counts, near in zip(found, candidate.hashes, strict=True)))
    parts = iter(["validation"] * sizes["validation"] + ["test"] * sizes["test"])
    taken, hashes_taken = dict[int, str](), (set[int](), set[int]())
    for candidate in drawn:
        if len(taken) < wanted and not any(
            near in side for near, side in zip(candidate.hashes, hashes_taken, strict=True)
        ):
            taken[candidate.number] = next(parts)
            for near, side in zip(candidate.hashes, hashes_taken, strict=True):
                side.add(near)
    if len(taken) < wanted:
        raise DataError(
            f"{', '.join(dict.fromkeys(corpus.paths[0]))}: must have {wanted:,} pairs that are not near to each other "
            f"for validation ({sizes['validation']:,}) and test ({sizes['test']:,}), as --validation and --test say or "
            f"by default, got {len(taken):,}: take fewer by both"
        )
    return taken, hashes_taken
