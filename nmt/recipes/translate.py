"""Translating text with a trained model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nmt.checkpoint.selection import split_checkpoint
from nmt.config import SearchSettings
from nmt.errors import ConfigError
from nmt.inference.export_directory import read_export_settings
from nmt.inference.model_directory import read_settings
from nmt.text.scripts import foreign_script, in_words
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.translation import LineTranslator, Translation


_SAMPLE_LINES = 1000
_LOGGER = logging.getLogger(__name__)


class TranslatedLine(NamedTuple):
    """A line of the source and its translations, best first."""

    source: str
    translations: list[Translation]


def translate(
    directory: PathLike,
    chunks: Iterable[Sequence[str]],
    *,
    num_hypotheses: int = 1,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[TranslatedLine]:
    """Translate lines that come in chunks, each chunk when it comes, in order.

    The model is opened, and whatever is wrong with it raised, before the first line is asked for.

    Args:
        directory: the model directory, or a checkpoint in it.
        chunks: lines of raw text; those of one chunk are sorted by length and translated together.
        num_hypotheses: translations wanted a line.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average where it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".
        progress: is told of every batch how many lines it held.

    Returns:
        Each line with its translations.

    Raises:
        NMTError: as `Translator.load`, or more hypotheses are wanted than the beam holds.
    """
    directory, checkpoint = split_checkpoint(directory, checkpoint)
    check_num_hypotheses(num_hypotheses, read_settings(directory, overrides).search)

    from nmt.inference.opening import open_model
    from nmt.inference.translator import Translator

    opened = open_model(directory, checkpoint=checkpoint, weights=weights, overrides=overrides)
    config = opened.config
    translator = Translator(opened.model, opened.text, config.search, segmentation=config.data.segmentation)
    language = config.data.source_language
    return _translated(chunks, translator, language, num_hypotheses=num_hypotheses, progress=progress)


def translate_with_ctranslate2(
    directory: PathLike,
    chunks: Iterable[Sequence[str]],
    *,
    num_hypotheses: int = 1,
    threads: int | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Iterator[TranslatedLine]:
    """Translate lines as `translate` does, with an export of the model in place of the model.

    Args:
        directory: what `nmt export` wrote.
        chunks: lines of raw text; those of one chunk are sorted by length and translated together.
        num_hypotheses: translations wanted a line.
        threads: processor cores to use; all unless given.
        overrides: settings of the form "search.beam_size=4".
        progress: is told of every batch how many lines it held.

    Returns:
        Each line with its translations.

    Raises:
        NMTError: as `CTranslate2Translator.load`, or more hypotheses are wanted than the beam holds.
    """
    config = read_export_settings(directory, overrides)
    check_num_hypotheses(num_hypotheses, config.search)

    from nmt.inference.ctranslate2_engine import CTranslate2Translator

    translator = CTranslate2Translator.load(directory, threads=threads, overrides=overrides)
    language = config.data.source_language
    return _translated(chunks, translator, language, num_hypotheses=num_hypotheses, progress=progress)


def _translated(
    chunks: Iterable[Sequence[str]],
    translator: LineTranslator,
    language: str,
    *,
    num_hypotheses: int,
    progress: Callable[[int], None] | None,
) -> Iterator[TranslatedLine]:
    """Translate chunk by chunk; what is to be said about the lines is said of all together, at the end."""
    from nmt.inference.translation import Tally

    tally, sample = Tally(), list[str]()
    for chunk in chunks:
        sample += chunk[: _SAMPLE_LINES - len(sample)]
        found = translator.n_best(chunk, num_hypotheses, progress=progress, tally=tally)
        for source, translations in zip(chunk, found, strict=True):
            yield TranslatedLine(source, translations)
    tally.report_unknown()
    tally.report()
    warn_of_foreign_text(sample, language)


def warn_of_foreign_text(lines: Iterable[str], language: str) -> None:
    """Say that text is in a script that the source language of the model does not have."""
    script = foreign_script(lines, language)
    if script is not None:
        _LOGGER.warning("the text is in %s, but the model translates from %s", in_words(script), language)


def check_num_hypotheses(num_hypotheses: int, settings: SearchSettings) -> None:
    """Refuse to look for more hypotheses than the beam holds.

    Raises:
        ConfigError: with the beam size that it takes.
    """
    if not 1 <= num_hypotheses <= settings.beam_size:
        raise ConfigError(
            f"the number of hypotheses must be 1 to search.beam_size, got {num_hypotheses} and {settings.beam_size}: "
            f"set the beam size to {num_hypotheses}"
        )
