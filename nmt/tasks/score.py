"""Scoring given translations with a model, and sorting n-best lists."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nmt.config import SearchSettings
from nmt.control.record_tags import RecordTags
from nmt.data.lines import read_lines
from nmt.errors import DataError
from nmt.inference import output_directory
from nmt.inference.members import find_members, open_translator, warn_of_no_tag
from nmt.scoring import evaluation, rerank
from nmt.scoring.items import Item, read_n_best
from nmt.scoring.rerank import Candidate
from nmt.text.marks import found_marks
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.translator import Translator
    from nmt.scoring.forced import PairScore
    from nmt.translation.line_translator import Progress

logger = logging.getLogger(__name__)

_SAMPLE_LINES = 1000


class PreparedModel(NamedTuple):
    """A model that was found: how it searches, and what opens it."""

    search: SearchSettings
    open: Callable[[], Translator]


def prepare_model(
    directories: Sequence[PathLike],
    *,
    threads: int | None = None,
    inputs: Sequence[tuple[str, PathLike | None]] = (),
    output_paths: Sequence[PathLike | None] = (None,),
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    tagged: bool = False,
    **which: Any,
) -> PreparedModel:
    """Find a model, or several that score together, and refuse what can be refused before TensorFlow starts.

    Args:
        directories: as for `nmt.tasks.translate.prepare_translation`, like what follows.
        threads: processor cores to use; all unless given.
        inputs: what names the files that are read, and their paths; None is standard input.
        output_paths: where results go, None for standard output.
        member_weights: of each model in their mean; equal unless given.
        log_linear: whether that is the mean of log probabilities.
        tagged: whether what it reads may have tags; of a model that needs one, it is said if it has none.
        **which: `checkpoint`, `weights` and `overrides` of `find_members`.

    Raises:
        NMTError: as `find_members`; or the output may not be written.
    """
    found = find_members(directories, member_weights=member_weights, **which)
    for each in found:
        for output in output_paths:
            output_directory.refuse_output(output, inputs=inputs, directory=each.directory, config=each.config)
    if not tagged:
        warn_of_no_tag(found)

    def open_model() -> Translator:
        return open_translator(found, threads=threads, member_weights=member_weights, log_linear=log_linear)[0]

    return PreparedModel(found[0].config.search, open_model)


def score_items(
    chunks: Iterable[Sequence[Item]], translator: Translator, *, progress: Progress | None = None
) -> Iterator[tuple[Item, list[PairScore]]]:
    """Score the translations of each item, chunk by chunk, and report at the end."""
    from nmt.scoring.forced import ScoreTally

    tally, targets, named = ScoreTally(), list[str](), RecordTags(translator.text)
    for items in chunks:
        named.check(item.tag for item in items if item.record)
        pairs = [(item.source, target) for item in items for target in item.targets]
        tags = [item.tag for item in items for _ in item.targets]
        targets += [target for _, target in pairs if isinstance(target, str)][: _SAMPLE_LINES - len(targets)]
        scores = iter(translator.score(pairs, tags=tags, progress=progress, tally=tally))
        for item in items:
            yield item, [next(scores) for _ in item.targets]
    named.report()
    tally.report()
    segmentation = translator.segmentation
    if segmentation != "none" and targets and segmentation not in found_marks({"the targets": targets}):
        logger.warning("the targets have no marks of %s, which the model learned from: cut them first", segmentation)


class NBestList(NamedTuple):
    """Translations of each of some lines.

    sources: the lines, None if nobody knows them.
    candidates: of each line.
    records: JSON records of the lines; None if the list is in the format of Moses.
    """

    sources: list[str] | None
    candidates: list[list[Candidate]]
    records: list[dict[str, Any]] | None


def read_list(path: PathLike, *, source: PathLike | None = None) -> NBestList:
    """Read an n-best list, ours in JSON or one in the format of Moses, and count the words of each translation.

    Args:
        path: the list; compressed ones are decompressed.
        source: what was translated; one in JSON knows it.

    Raises:
        DataError: a file cannot be read, or the list is no such list, or does not fit its source.
    """
    lines = list(read_lines(path))
    sources = None if source is None else list(read_lines(source))
    if lines and lines[0].lstrip().startswith("{"):
        items = [read_n_best(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
        candidates = [
            [Candidate(each["text"], rerank.features_of(each), each) for each in item.record["translations"]]
            for item in items
        ]
        records: list[dict[str, Any]] | None = [dict(item.record) for item in items]
        if sources is not None and len(sources) != len(items):
            raise DataError(f"{source} must have a line for each of {len(items):,} of {path}, got {len(sources):,}")
        sources = sources or [item.source for item in items]
    else:
        candidates, records = [[] for _ in sources or ()], None
        for place, line in enumerate(lines, 1):
            number, candidate = rerank.read_moses(line, f"{path}, line {place}")
            if number < 0 or (sources is not None and number >= len(sources)):
                raise DataError(f"{path}, line {place}: ids must be 0 to the last line of the source, got {number}")
            candidates += [[] for _ in range(number + 1 - len(candidates))]
            candidates[number].append(candidate)
    if missing := sum(not each for each in candidates):
        logger.warning("%s of %s lines have no translations", f"{missing:,}", f"{len(candidates):,}")
    if not any(candidates):
        raise DataError(f"{path} must hold translations, got none")
    return NBestList(
        sources, [[with_feature(each, "length", len(each.text.split())) for each in of] for of in candidates], records
    )


def with_feature(candidate: Candidate, name: str, value: float) -> Candidate:
    """Return a translation with another feature."""
    return candidate._replace(features={**candidate.features, name: value})


def add_model(
    found: NBestList, name: str, translator: Translator, *, reverse: bool = False, tag: str | None = None
) -> NBestList:
    """Add the log probability that a model gives to each translation, or to the source given the translation.

    A record's own tag is of the direction of the list; the other one has `tag`.

    Raises:
        DataError: the source is not known.
    """
    if found.sources is None:
        raise DataError("a model needs what was translated, which lists of Moses do not have: give --source")
    lines = list(zip(found.sources, found.candidates, strict=True))
    pairs: list[Any] = [(source, each.text) for source, candidates in lines for each in candidates]
    own = [tag] * len(lines) if reverse or found.records is None else [each.get("tag") for each in found.records]
    tags = [each for each, (_, of) in zip(own, lines, strict=True) for _ in of]
    scores = iter(translator.score([pair[::-1] for pair in pairs] if reverse else pairs, tags=tags))
    candidates = [[with_feature(each, name, next(scores).log_prob) for each in of] for of in found.candidates]
    return found._replace(candidates=candidates)


def read_weights(given: str) -> dict[str, float]:
    """Read weights of features from a file that `tuned` made, or of the form `score=0.7,length=0.3`.

    Raises:
        ConfigError: it is neither.
        DataError: the file cannot be read, or holds no weights.
    """
    if not Path(given).is_file():
        return rerank.parse_weights(given)
    try:
        weights = json.loads("\n".join(read_lines(given)))["weights"]
        return {str(name): float(value) for name, value in weights.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{given} must be what nmt rerank --tune wrote, a JSON object with weights: {error}") from error


def tuned(
    found: NBestList, names: Sequence[str], references: Sequence[PathLike], *, tokenization: str | None, seed: int
) -> dict[str, Any]:
    """Find the weights of features with the highest BLEU, and say what they gain.

    Raises:
        ConfigError: there are too many features, or the tokenisation cannot be used.
        DataError: the references do not fit the list, or its translations have not the features.
    """
    lines = [list(read_lines(path)) for path in references]
    for path, each in zip(references, lines, strict=True):
        if len(each) != len(found.candidates):
            raise DataError(f"{path} must have a line for each of {len(found.candidates):,}, got {len(each):,}")
    matrix = rerank.matrix_of(found.candidates, names)
    cut = evaluation.settled_tokenization(tokenization, lines)
    statistics = rerank.bleu_statistics(found.candidates, lines, tokenization=cut)
    weights, before, after = rerank.tune(matrix, statistics, names, seed=seed)
    logger.info("BLEU of %s lines: %.2f as the list came, %.2f by the weights", f"{len(matrix):,}", before, after)
    return {
        "weights": weights, "bleu_before": before, "bleu_after": after, "lines": len(matrix), "tokenization": cut,
        "seed": seed, "reference": [str(path) for path in references],
    }  # fmt: skip
