"""`nmt doctor --clean`: writes what is left of a corpus, and why each other pair is left out.

Scores of models may decide too. Dual conditional cross-entropy (Junczys-Dowmunt, 2018, section 3): with H the
cross-entropy per token of a pair in both directions, exp(-(|H₁ - H₂| + (H₁ + H₂) / 2)), which is low if both models
find it improbable, or disagree. Moore and Lewis (2010): H of a model of the domain less H of a general one; its
exp(-difference), at most 1 as in Junczys-Dowmunt (2018, section 4), is multiplied with the other.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from nmt.corpora.convert import OpenText, Output, left_behind
from nmt.data.corpus import Corpus, describe_counts
from nmt.data.lines import read_lines
from nmt.doctor.findings import Examination, Places, blocks_of, files_of
from nmt.errors import DataError
from nmt.filters.features import Array
from nmt.types import PathLike

LOW_SCORE = "LowScore"


def read_scores(path: PathLike, pairs: int) -> Array:
    """(N,) cross-entropy per token, in nats, from what `nmt score` wrote as tsv or jsonl, a line for each pair.

    Raises:
        DataError: a line is none of these, or there are not as many as pairs.
    """
    found = np.zeros(pairs)
    number = 0
    for number, line in enumerate(read_lines(path), start=1):
        if number > pairs:
            continue
        try:
            log_prob, tokens = _fields(line)
        except (ValueError, KeyError, IndexError, TypeError):
            raise DataError(
                f"{path}, line {number}: must be a line of nmt score --format tsv or jsonl, got {line[:60]!r}"
            ) from None
        found[number - 1] = -log_prob / max(1, tokens)
    if number != pairs:
        raise DataError(f"{path}: must have a score for each of the {pairs:,} pairs, got {number:,} lines")
    return found


def _fields(line: str) -> tuple[float, int]:
    """Log probability and tokens of a line."""
    if line.startswith("{"):
        record = json.loads(line)
        log_prob = record["log_prob"]
        return -math.inf if log_prob is None else float(log_prob), int(record["num_tokens"])
    cells = line.split("\t")
    return float(cells[3]), int(cells[4])


def dual_score(forward: Array, reverse: Array) -> Array:
    """(N,) 0 to 1: how probable both directions find pairs, and how much they agree."""
    return np.exp(-(np.abs(forward - reverse) + (forward + reverse) / 2))


def domain_score(inside: Array, general: Array) -> Array:
    """(N,) 0 to 1: how much more probable targets are in the domain than in general."""
    return np.exp(np.minimum(0.0, general - inside))


def drop_low_scores(result: Examination, scores: Array, keep: float) -> None:
    """Drop those with the lowest scores of the pairs that were left, so that a share of them is kept."""
    left = np.flatnonzero(result.reasons == 0)
    kept = math.ceil(keep * len(left))
    result.names = (*result.names, LOW_SCORE)
    result.reasons[left[np.argsort(-scores[left], kind="stable")[kept:]]] = len(result.names)


def reasons_path(output: Output) -> Path:
    """Where the reasons go: `news.dropped.tsv` for `news.{de,en}.gz`."""
    stem = output.name.partition("{")[0].rstrip(".-_") if not output.kind else output.name
    return Path(f"{stem or 'corpus'}.dropped.tsv")


def clean(
    corpus: Corpus,
    result: Examination,
    output: Output,
    reasons_path: Path,
    *,
    open_text: OpenText,
    count: Callable[[int], object],
) -> str:
    """Write the pairs of a corpus that no check drops, and a line for each other one: file, line and reason.

    Args:
        corpus: is read again.
        result: of its examination.
        output: where pairs go.
        reasons_path: where the reasons go, columns between tabs.
        open_text: opens a file for text.
        count: told how many more pairs were read.

    Returns:
        How many pairs were read, kept and dropped, and why.

    Raises:
        DataError: the corpus cannot be read or has changed, or an output cannot be written.
        ConfigError: an output is an input.
    """
    output.refuse_inputs(corpus)
    kept, before, places, left_out, unwritten = 0, 0, Places(), Counter[str](), Counter[str]()
    with ExitStack() as stack:
        write = stack.enter_context(output.open(open_text, unwritten))
        tell = stack.enter_context(open_text(reasons_path))
        for file in files_of(corpus):
            places.begin(before, file)
            for pairs in blocks_of(file, left_out):
                reasons = result.reasons[before : before + len(pairs)]
                if len(reasons) < len(pairs):
                    raise DataError(f"{file.paths[0][0]}: has more pairs than a moment ago: leave it alone meanwhile")
                kept += write([pair for pair, reason in zip(pairs, reasons.tolist(), strict=True) if not reason])
                rows = np.flatnonzero(reasons).tolist()
                lines = [(places.example(before + row, ("", "")), result.names[reasons[row] - 1]) for row in rows]
                tell("".join(f"{place.file}\t{place.line}\t{reason}\n" for place, reason in lines))
                before += len(pairs)
                count(len(pairs))
    return describe_counts(kept, Counter(result.dropped()) + left_out + unwritten) + left_behind(corpus)
