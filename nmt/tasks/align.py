"""Aligning given translations with a model, words in place of unknown ones, and the picture of an attention."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nmt.atomic_files import replace_file
from nmt.control.controls import Control
from nmt.control.record_tags import RecordTags
from nmt.data.lines import read_lines
from nmt.errors import ConfigError, DataError
from nmt.text.vocabulary import UNK_ID
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.alignment import Alignment, Span
    from nmt.inference.translator import Translator
    from nmt.scoring.items import Item
    from nmt.translation.line_translator import Progress, Translation

_LOGGER = logging.getLogger(__name__)

MOST_DRAWN = 150
"""Tokens a side of a picture, at most."""
_INCHES_A_TOKEN, _DOTS_AN_INCH = 0.32, 150


def align_items(
    chunks: Iterable[Sequence[Item]],
    translator: Translator,
    *,
    read_out: Mapping[str, Any],
    soft: bool,
    symmetrization: str,
    progress: Progress | None = None,
) -> Iterator[tuple[Item, Alignment]]:
    """Align pairs chunk by chunk, and report at the end.

    Args:
        chunks: of pairs, each with one target.
        translator: what has the model.
        read_out: fields of `nmt.models.forced.ReadOut`.
        soft: whether the attention itself is wanted.
        symmetrization: how links of both directions become one.
        progress: is told of every batch how many pairs it held.
    """
    from nmt.inference.alignment import AlignmentTally
    from nmt.models.forced import ReadOut

    tally, which, named = AlignmentTally(), ReadOut(**read_out), RecordTags(translator.text)
    for items in chunks:
        named.check(item.tag for item in items if item.record)
        pairs, tags = [(item.source, item.targets[0]) for item in items], [item.tag for item in items]
        how: dict[str, Any] = {"read_out": which, "soft": soft, "symmetrization": symmetrization}
        found = translator.align(pairs, tags=tags, progress=progress, tally=tally, **how)
        yield from zip(items, found, strict=True)
    named.report()
    tally.report()


class Finisher:
    """What is done with finished translations by one forced pass: links, and words in place of unknown tokens.

    Args:
        translator: what made them.
        links: whether all are to be aligned; else those alone that have unknown tokens.
        unknown: words to put in place of these, by the source word; None leaves them.

    Raises:
        ConfigError: the model cannot align.
    """

    def __init__(self, translator: Translator, *, links: bool, unknown: Mapping[str, str] | None) -> None:
        from nmt.inference.alignment import AlignmentTally

        self._translator, self._links, self._unknown = translator, links, unknown
        self.tally = AlignmentTally()
        translator.align([], tally=self.tally)  # says now what cannot be

    def finish(
        self, lines: Sequence[str], found: Sequence[Sequence[Translation]], tags: Sequence[str | None]
    ) -> tuple[list[list[Translation]], list[list[Alignment]]]:
        """Return the translations of lines, which tell their tokens, and the alignment of each if that is wanted.

        Args:
            lines: the sources.
            found: the translations of each.
            tags: that of each line.
        """
        vocabulary = self._translator.text.target.vocabulary
        asked = [
            (place, rank, [vocabulary.id(token) for token in translation.tokens])
            for place, translations in enumerate(found)
            for rank, translation in enumerate(translations)
        ]
        if not self._links:
            asked = [each for each in asked if UNK_ID in each[2]]
        pairs = [(lines[place], token_ids) for place, _, token_ids in asked]
        of_pairs = [tags[place] for place, *_ in asked]
        aligned = self._translator.align(pairs, tags=of_pairs, unknown=self._unknown, tally=self.tally)
        finished = [list(translations) for translations in found]
        alignments: list[list[Alignment]] = [[] for _ in found]
        for (place, rank, _), alignment in zip(asked, aligned, strict=True):
            finished[place][rank] = finished[place][rank]._replace(text=alignment.target)
            alignments[place].append(alignment)
        return finished, alignments if self._links else [[] for _ in found]

    def report(self) -> None:
        """Log how many words stand in place of unknown tokens, if that was asked for."""
        if self._unknown is not None:
            self.tally.report_replaced()


def attention_to(
    translator: Translator, sentence: str, target: str | None, *, tag: str | None = None, read_out: Mapping[str, Any]
) -> Alignment:
    """Align a sentence, with its tag, and its translation, that of the model unless given; the attention is kept.

    Raises:
        ConfigError: the model has no such attention.
        DataError: the sentence is empty, or the model has no translation.
    """
    from nmt.inference.alignment import AlignmentTally
    from nmt.models.forced import ReadOut

    given: Any = target
    if target is None:
        (found,) = translator.n_best([sentence], 1, controls=[Control(tag=tag)], token_scores=True)
        if not found:
            raise DataError("the model has no translation of the sentence: give one with --target")
        given = [translator.text.target.vocabulary.id(token) for token in found[0].tokens]
    tally = AlignmentTally()  # one pair speaks for itself
    how: dict[str, Any] = {"read_out": ReadOut(**read_out), "soft": True, "tally": tally}
    (alignment,) = translator.align([(sentence, given)], tags=tag, **how)
    return alignment


def words_of(line: str, spans: Sequence[Span]) -> list[str]:
    """Return the words of a line."""
    return [line[start:end] for start, end in spans]


FIELDS = {
    "source_words", "target_words", "links", "word_weights", "source_tokens", "target_tokens", "source_spans",
    "target_spans", "token_links", "token_weights",
}  # fmt: skip
"""What `as_record` gives, or a part of it."""


def as_record(alignment: Alignment) -> dict[str, Any]:
    """Return words, links and, if it is there, the attention as JSON values; numbers have six decimals."""
    record: dict[str, Any] = {
        "source_words": alignment.source_words,
        "target_words": alignment.target_words,
        "links": alignment.links,
    }
    if (soft := alignment.soft) is not None:
        record |= {
            "word_weights": soft.words.round(6).tolist(),
            "source_tokens": soft.source_tokens,
            "target_tokens": soft.target_tokens,
            "source_spans": soft.source_spans,
            "target_spans": soft.target_spans,
            "token_links": soft.token_links,
            "token_weights": soft.tokens.round(6).tolist(),
        }
        # From float32 to the number with six decimals that it stands for.
        for name in ("word_weights", "token_weights"):
            record[name] = [[round(weight, 6) for weight in row] for row in record[name]]
    return record


def read_dictionary(path: PathLike) -> dict[str, str]:
    """Read words to put in place of unknown ones.

    Args:
        path: a line a word: source word, tab, target word; or the lexical table of `nmt align-corpus`, of which the
            most probable translation of each word is taken.

    Raises:
        DataError: it cannot be read, a line is something else, or a word is there twice.
    """
    found: dict[str, tuple[float, str]] = {}
    for number, line in enumerate(read_lines(path), 1):
        source, *rest = line.split("\t")
        if len(rest) not in (1, 3) or not (source.strip() and rest[0].strip()):
            raise DataError(f"{path}, line {number} must be a source word, a tab and a target word, got {line!r}")
        try:
            probability = float(rest[1]) if len(rest) == 3 else 1.0
        except ValueError:
            raise DataError(f"{path}, line {number}: the third column must be a number, got {rest[1]!r}") from None
        before = found.get(source)
        if before is not None and len(rest) == 1:
            raise DataError(f"{path}, line {number}: {source!r} is there twice: leave one of the lines")
        if before is None or probability > before[0]:
            found[source] = (probability, rest[0])
    if not found:
        raise DataError(f"{path} must hold words, got none")
    return {source: target for source, (_, target) in found.items()}


def load_matplotlib() -> Any:
    """Import what draws.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import matplotlib.figure
    except ImportError as error:
        raise ConfigError(
            "pictures need Matplotlib, which is not installed: pip install matplotlib, or in a checkout pip install -e "
            '".[plot]"'
        ) from error
    return matplotlib


def draw_attention(alignment: Alignment, path: PathLike, *, title: str) -> None:
    """Draw the attention of tokens as a heat map, target tokens from top to bottom, into a PNG file.

    Raises:
        ConfigError: Matplotlib is missing.
        DataError: there is nothing to draw or too much, or the file cannot be written.
    """
    matplotlib, soft = load_matplotlib(), alignment.soft
    if soft is None:
        raise DataError("there is no attention to draw: source and target must hold a word each")
    height, width = soft.tokens.shape
    if max(height, width) > MOST_DRAWN:
        raise DataError(f"a picture has at most {MOST_DRAWN} tokens a side, got {width} by {height}: take less text")
    size = tuple(1.8 + _INCHES_A_TOKEN * max(count, 6) for count in (width, height))
    figure = matplotlib.figure.Figure(size, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(soft.tokens, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    axes.set_xticks(range(width), soft.source_tokens, rotation=90)
    axes.set_yticks(range(height), soft.target_tokens)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_title(title, fontsize="medium")
    figure.colorbar(image, ax=axes, shrink=0.6, label="attention")
    content = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(content, format="png", dpi=_DOTS_AN_INCH)
    if any("missing from font" in str(each.message) for each in caught):
        _LOGGER.warning("%s has boxes in place of characters that the font of Matplotlib lacks", path)
    try:
        replace_file(Path(path), content.getvalue())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error
