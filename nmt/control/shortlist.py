"""The target tokens that the source of a line makes likely: the part of a vocabulary in which it is searched.

A product with the whole output matrix is the largest of a step, and nearly all of its numbers are of tokens that have
nothing to do with the sentence. So the search of a batch sees the columns of some tokens alone: the best translations
of each source token by a lexical table (Jean et al. 2015, arXiv:1412.2007, section 3.2; L'Hostis et al. 2016,
arXiv:1610.00072, "word alignment"), and those that are frequent anyway. Each line keeps to its own tokens, whichever
lines are in its batch.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nmt.control.controls import AutomatonTables
from nmt.errors import ConfigError, DataError
from nmt.settings.config import SHORTLIST_NAME
from nmt.text import EOS_ID, SPECIAL_TOKENS, TextPair
from nmt.text.vocabulary import read_file, write_file
from nmt.types import PathLike

BEST, FREQUENT = 100, 100
"""Target tokens of each source token, and of every line, unless told otherwise."""

MULTIPLE = 64
"""Columns are filled up to a multiple, so that batches share the kernels of their products."""

_NUM_SPECIAL = len(SPECIAL_TOKENS)


class Columns:
    """The tokens of a batch, in rising order from the special ones on, as the columns of its logits.

    Args:
        listed: (B, V) bool, the tokens of each line.
        least: columns at least, those that fill up among them.

    Attributes:
        token_ids: (C,) int32; columns that fill up have the id 0, and no line has them.
        allowed: (B, C) bool, those of each line.
    """

    def __init__(self, listed: np.ndarray, *, least: int) -> None:
        used = np.flatnonzero(listed.any(axis=0))
        size = max(len(used), least)
        filling = np.zeros(size + -size % MULTIPLE - len(used), np.int64)
        self.token_ids = np.concatenate([used, filling]).astype(np.int32)
        self.allowed = np.zeros((len(listed), len(self.token_ids)), bool)
        self.allowed[:, : len(used)] = listed[:, used]
        self._places = np.full(listed.shape[1], -1, np.int32)
        self._places[used] = np.arange(len(used))

    def places(self, token_ids: np.ndarray) -> np.ndarray:
        """The columns of tokens, in their shape, int32."""
        return self._places[token_ids]

    def tables(self, tables: AutomatonTables) -> AutomatonTables:
        """Return automata over tokens as automata over columns; what has none cannot be written."""
        num_tokens, num_columns = len(tables.classes), len(self.token_ids)

        def moved(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            """Keys state * V + token as state * C + column, still rising, and what is theirs; the last is no key."""
            state, token_id = np.divmod(keys[:-1], num_tokens)
            kept = self._places[token_id] >= 0
            new = (state * num_columns + self._places[token_id])[kept]
            return np.append(new, keys[-1]), np.append(values[:-1][kept], values[-1])

        exceptions, next_states = moved(tables.exceptions, tables.next_states)
        changes, change_scores = moved(tables.changes, tables.change_scores)
        return tables._replace(
            classes=tables.classes[self.token_ids],
            exceptions=exceptions,
            next_states=next_states,
            changes=changes,
            change_scores=change_scores,
            advancing=np.where(tables.advancing >= 0, self._places[tables.advancing], -1),
        )


@dataclass(frozen=True)
class Shortlist:
    """Which target tokens a source token makes likely.

    Attributes:
        best: (V of the source, N) int32, most probable first; EOS where there are fewer.
        frequent: (M,) int32, the most frequent ones.
        num_tokens: V of the target.
        tokenizers: the fingerprints of both sides, for which alone it means anything.
    """

    best: np.ndarray
    frequent: np.ndarray
    num_tokens: int
    tokenizers: tuple[str, ...]

    def listed(self, source_ids: Sequence[Sequence[int]], more: Sequence[Iterable[int]] | None = None) -> np.ndarray:
        """Mark the tokens of each line, (B, V) bool.

        Args:
            source_ids: of each line.
            more: what else a line needs.
        """
        marked = np.zeros((len(source_ids), self.num_tokens), bool)
        marked[:, :_NUM_SPECIAL] = True
        marked[:, self.frequent] = True
        for row, ids in zip(marked, source_ids, strict=True):
            row[self.best[np.asarray(ids, np.int64)]] = True
        for row, needed in zip(marked, more or (), strict=False):
            row[list(needed)] = True
        return marked

    def save(self, directory: PathLike) -> Path:
        """Write it into a model directory; raises a DataError if that is refused."""
        buffer, path = io.BytesIO(), Path(directory) / SHORTLIST_NAME
        tokenizers, num_tokens = np.array(self.tokenizers), np.array(self.num_tokens)
        np.savez_compressed(
            buffer, best=self.best, frequent=self.frequent, num_tokens=num_tokens, tokenizers=tokenizers
        )
        write_file(path, buffer.getvalue())
        return path

    @classmethod
    def load(cls, directory: PathLike, text: TextPair) -> Shortlist:
        """Read the one of a model directory.

        Args:
            directory: the model directory.
            text: its tokenizers.

        Raises:
            ConfigError: there is none.
            DataError: it cannot be read, or was made for other tokenizers.
        """
        path, advice = Path(directory) / SHORTLIST_NAME, f"build it with nmt build-shortlist {directory}"
        if not path.exists():
            raise ConfigError(f"search.shortlist is true, but there is no {path}: {advice}, or set it to false")
        try:
            with np.load(io.BytesIO(read_file(path)), allow_pickle=False) as arrays:
                tokenizers = tuple(map(str, arrays["tokenizers"]))
                made = cls(arrays["best"], arrays["frequent"], int(arrays["num_tokens"]), tokenizers)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: is no shortlist, or damaged ({error}): {advice}") from error
        if list(made.tokenizers) != text.fingerprints:
            raise DataError(f"{path}: was made for other tokenizers than those of the model directory: {advice} anew")
        return made

    def vocabulary_map(self, text: TextPair) -> str | None:
        """Return it as CTranslate2 reads it: source token, tab, target tokens; a line without source is for all.

        The symbols of tags, which have a space, are left out: none makes a word likely, and what is forced the engine
        adds itself.

        Returns:
            The lines; None if another token has white space, which separates tokens there.
        """
        sources, targets = text.source.vocabulary.tokens, text.target.vocabulary.tokens
        symbols = {*text.source.tags.values()}
        of_text = [token for side in (text.source, text.target) for token_id, token in enumerate(side.vocabulary.tokens)
                   if token_id not in side.tags.values()]  # fmt: skip
        if any(token.split() != [token] for token in of_text):
            return None

        def lines() -> Iterator[str]:
            yield "\t" + " ".join(targets[token_id] for token_id in self.frequent)
            for token_id, (token, row) in enumerate(zip(sources, self.best.tolist(), strict=True)):
                if token_id in symbols:
                    continue
                yield f"{token}\t{' '.join(targets[token_id] for token_id in row if token_id != EOS_ID)}"

        return "".join(f"{line}\n" for line in lines())


def learn(
    pairs: Iterable[tuple[list[str], list[str]]],
    text: TextPair,
    *,
    best: int = BEST,
    frequent: int = FREQUENT,
    max_length: int,
    threads: int = 1,
    report: Callable[[str], object] = str,
) -> Shortlist:
    """Learn a shortlist from pairs of sentences, by IBM Model 1 on their tokens.

    Args:
        pairs: the tokens of both sides.
        text: the tokenizers that cut them.
        best: N.
        frequent: M.
        max_length: tokens a side beyond which a pair does not count.
        threads: how many to use; the result is the same.
        report: is told a line about each iteration.

    Raises:
        DataError: there are no pairs.
    """
    from nmt.alignment.corpus_alignment import align

    aligned = align(pairs, hmm_iterations=0, max_length=max_length, keep_case=True, threads=threads, report=report)
    bitext, sides = aligned.bitext, (text.source.vocabulary, text.target.vocabulary)
    of_source, of_target = (
        np.array([vocabulary.id(word) for word in side.words])
        for vocabulary, side in zip(sides, bitext[:2], strict=True)
    )
    source, target = aligned.word_pairs

    # The rank of each pair among those of its source token; equally good ones by id, whatever the order of the text.
    order = np.lexsort((of_target[target], -aligned.forward.probabilities, source))
    firsts = np.searchsorted(source[order], source[order])
    ranks = np.arange(len(order)) - firsts
    kept, ranks = order[ranks < best], ranks[ranks < best]
    table = np.full((len(sides[0]), best), EOS_ID, np.int32)
    table[of_source[source[kept]], ranks] = of_target[target[kept]]

    counts = np.bincount(bitext.target.ids, minlength=len(of_target))
    most = of_target[np.lexsort((of_target, -counts))][:frequent]
    return Shortlist(table, most.astype(np.int32), len(sides[1]), tuple(text.fingerprints))
