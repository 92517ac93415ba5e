"""The alignment of the words of two files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

from nmt.alignment.bitext import cut
from nmt.alignment.corpus_alignment import Alignment, align
from nmt.alignment.links import pharaoh
from nmt.control.phrases import is_word
from nmt.data.corpus import Corpus
from nmt.types import PathLike

_LOGGER = logging.getLogger(__name__)

_LOOKED_AT = 1000
_MOST_GLUED = 0.5
"""Share of lines whose last mark is no word of its own, above which text seems to be raw."""

Write = Callable[[str], object]


class Outcome(NamedTuple):
    """What became of a corpus.

    pairs: pairs of lines.
    empty, too_long: pairs without links, and why.
    links: of all pairs.
    source_words, target_words: of the pairs that were aligned.
    unlinked_source, unlinked_target: how many of them have no link.
    perplexities: of the target by the source, and of the source by the target.
    """

    pairs: int
    empty: int
    too_long: int
    links: int
    source_words: int
    target_words: int
    unlinked_source: int
    unlinked_target: int
    perplexities: tuple[float, float]


def align_corpus(
    source: PathLike,
    target: PathLike,
    *,
    write: Write,
    write_tokens: tuple[Write, Write] | None = None,
    write_lexical: Write | None = None,
    symmetrization: str,
    tokenize: bool,
    model1_iterations: int,
    hmm_iterations: int,
    max_length: int,
    keep_case: bool,
    threads: int,
) -> Outcome:
    """Align two files, line n of the one with line n of the other.

    Args:
        source: the file of one language.
        target: the file of the other.
        write: is given a line of links in Pharaoh format for each pair of lines.
        write_tokens: are given the words of each line of both sides, as they were cut.
        write_lexical: is given a line a word pair: source word, target word, P(target | source), P(source | target).
        symmetrization: how both directions become one.
        tokenize: whether to cut words and punctuation; else words are what stands between spaces.
        model1_iterations: of EM with Model 1.
        hmm_iterations: of EM with the HMM that follows.
        max_length: words a side beyond which a pair is not aligned.
        keep_case: whether words that differ in case alone are different words.
        threads: how many to use.

    Raises:
        DataError: the files cannot be read or aligned.
    """

    def words() -> Iterator[tuple[list[str], list[str]]]:
        split = cut if tokenize else str.split
        glued = 0
        for number, pair in enumerate(Corpus(source, target).pairs(), start=1):
            cut_pair = split(pair[0]), split(pair[1])
            for side, side_write in zip(cut_pair, write_tokens or (), strict=False):
                side_write(" ".join(side) + "\n")
            glued += not tokenize and any(map(_is_glued, cut_pair))
            if number == _LOOKED_AT and glued > _MOST_GLUED * number:
                _warn_of_raw_text()
            yield cut_pair
        if number < _LOOKED_AT and glued > _MOST_GLUED * number:
            _warn_of_raw_text()

    alignment = align(
        words(),
        model1_iterations=model1_iterations,
        hmm_iterations=hmm_iterations,
        max_length=max_length,
        keep_case=keep_case,
        threads=threads,
        report=_LOGGER.info,
    )
    if alignment.dropped:
        _LOGGER.warning(
            "the corpus has more word pairs than are kept: the %s with the weakest association were dropped",
            f"{alignment.dropped:,}",
        )
    if write_lexical is not None:
        for pair in alignment.lexical_table():
            write_lexical(f"{pair.source}\t{pair.target}\t{pair[2]:.6f}\t{pair[3]:.6f}\n")
    return _write_links(alignment, write, symmetrization)


def _is_glued(words: list[str]) -> bool:
    return bool(words) and len(words[-1]) > 1 and is_word(words[-1][0]) and not is_word(words[-1][-1])


def _warn_of_raw_text() -> None:
    _LOGGER.warning("punctuation is not separated from words in this text, so they count as one: give --tokenize")


def _write_links(alignment: Alignment, write: Write, symmetrization: str) -> Outcome:
    count = linked_source = linked_target = 0
    for links in alignment.links(symmetrization):
        write(f"{pharaoh(links)}\n")
        count += len(links)
        linked_source += len({i for i, _ in links})
        linked_target += len({j for _, j in links})
    bitext = alignment.bitext
    source_words, target_words = len(bitext.source.ids), len(bitext.target.ids)
    return Outcome(
        pairs=len(bitext.source.starts) - 1,
        empty=bitext.empty,
        too_long=bitext.too_long,
        links=count,
        source_words=source_words,
        target_words=target_words,
        unlinked_source=source_words - linked_source,
        unlinked_target=target_words - linked_target,
        perplexities=(alignment.forward.perplexity, alignment.backward.perplexity),
    )
