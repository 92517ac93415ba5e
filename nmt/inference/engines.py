"""Which engine translates with a model: CTranslate2 if it does the same search, and has its engine, else Keras."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, overload

from nmt.control.controls import Control, Sampling
from nmt.directory.engines import find_engine
from nmt.directory.model_directory import FoundModel, is_export
from nmt.errors import ConfigError, NMTError
from nmt.inference.members import find_members, open_quietly
from nmt.settings.section import AUTO
from nmt.translation.ctranslate2_engine import CTranslate2Translator, lacking_for, lacking_in_model, load_package
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.translator import Translator

KERAS, CTRANSLATE2 = "keras", "ctranslate2"

ENGINES = (AUTO, KERAS, CTRANSLATE2)

MOST_LINES_WITHOUT = 500
"""Lines that do not pay for an engine of their own, which takes about as long as translating them by Keras."""

_LOGGER = logging.getLogger(__name__)

Make: TypeAlias = Callable[[FoundModel], Path]
"""Makes the engine of a model, and returns its directory; raises an NMTError if it cannot be made."""


class Choice(NamedTuple):
    """Which engine translates.

    name: `keras` or `ctranslate2`.
    why: in words.
    directory: of the engine that CTranslate2 reads.
    """

    name: str
    why: str
    directory: Path | None = None

    def log(self) -> Choice:
        """Say which engine works, and why; return the same."""
        _LOGGER.info("engine: %s, %s", self.name, self.why)
        return self


def is_installed() -> bool:
    """Whether CTranslate2 is there; it is not imported."""
    return util.find_spec("ctranslate2") is not None


def lacking(
    found: Sequence[FoundModel],
    *,
    control: Control | None = None,
    sampling: Sampling | None = None,
    others: Sequence[str] = (),
) -> list[str]:
    """List what CTranslate2 cannot have, or what it does in another way than Keras, of all that is asked.

    If it cannot have the models, that alone.

    Args:
        found: the models.
        control: what is asked of words.
        sampling: how translations are drawn, if they are.
        others: what else is asked that Keras alone can do, in words.
    """
    config = found[0].config
    reasons = ["several models"] if len(found) > 1 else []
    reasons += [lacks] if (lacks := lacking_in_model(config.model)) else []
    return reasons or [*lacking_for(control, sampling, config.search), *others]  # nothing else would change that


def choose_engine(
    found: Sequence[FoundModel],
    asked_for: str | None,
    *,
    lacks: Sequence[str] = (),
    num_lines: int = 0,
    make: Make | None = None,
) -> Choice:
    """Choose what translates.

    Args:
        found: the models.
        asked_for: `auto`, `keras` or `ctranslate2`; as `search.engine` of the first model says if None.
        lacks: what `auto` does not take CTranslate2 for, as `lacking` lists it.
        num_lines: that are to be translated, as far as that is known.
        make: makes an engine if there is none and it is worth while.

    Raises:
        ConfigError: CTranslate2 is asked for, and is not installed or has no engine.
        NMTError: it is asked for, and its engine cannot be made.
    """
    wanted, whose = (asked_for, "--engine") if asked_for else (found[0].config.search.engine, "search.engine")
    if wanted == KERAS:
        return Choice(KERAS, f"as {whose} says")
    if wanted == CTRANSLATE2:
        load_package()
        if len(found) > 1:
            raise ConfigError(f"CTranslate2 translates with one model, got {len(found)}: use the engine keras")
        if (directory := find_engine(found[0])) is None and make is None:
            raise ConfigError(
                f"{found[0].directory}: there is no engine for CTranslate2 yet: translate once with --engine "
                "ctranslate2, or a text of more than "
                f"{MOST_LINES_WITHOUT} lines, or train to the end"
            )
        return Choice(CTRANSLATE2, f"as {whose} says", directory or (make and make(found[0])))
    if not is_installed():
        return Choice(KERAS, "as CTranslate2 is not installed: pip install ctranslate2 makes this faster")
    if lacks:
        return Choice(KERAS, f"as CTranslate2 cannot have {', '.join(lacks)}")
    directory = find_engine(found[0])
    if directory is None and make is not None and num_lines > MOST_LINES_WITHOUT:
        try:
            directory = make(found[0])
        except NMTError as error:
            _LOGGER.warning("no engine for CTranslate2 could be made: %s", error)
            return Choice(KERAS, "as CTranslate2 has no engine of this checkpoint")
    if directory is None:
        few = f", which a text of more than {MOST_LINES_WITHOUT} lines makes, and nmt train at its end"
        return Choice(KERAS, f"as CTranslate2 has no engine of this checkpoint yet{few}")
    return Choice(CTRANSLATE2, f"from {directory}", directory)


@overload
def load_translator(
    directory: PathLike | Sequence[PathLike],
    *others: PathLike,
    engine: Literal["keras"],
    checkpoint: str | None = None,
    weights: str | None = None,
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    overrides: Sequence[str] = (),
) -> Translator: ...


@overload
def load_translator(
    directory: PathLike | Sequence[PathLike],
    *,
    engine: Literal["ctranslate2"],
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    threads: int | None = None,
) -> CTranslate2Translator: ...


@overload
def load_translator(
    directory: PathLike | Sequence[PathLike],
    *others: PathLike,
    engine: str | None = None,
    checkpoint: str | None = None,
    weights: str | None = None,
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    overrides: Sequence[str] = (),
    threads: int | None = None,
) -> Translator | CTranslate2Translator: ...


def load_translator(
    directory: PathLike | Sequence[PathLike],
    *others: PathLike,
    engine: str | None = None,
    checkpoint: str | None = None,
    weights: str | None = None,
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    overrides: Sequence[str] = (),
    threads: int | None = None,
) -> Translator | CTranslate2Translator:
    """Load a trained model from its directory, or several that translate together, with the engine of its settings.

    With CTranslate2 neither TensorFlow nor Keras is imported. If `auto` chose that, Keras does what it cannot, such as
    phrases that must appear or scores, and is imported when that is asked for. No engine is made here.
    `Translator.load` is this function; its class imports both.

    Args:
        directory: the model directory, or a checkpoint in it, RUN@best, RUN@update-N or RUN/checkpoints/update-N;
            or several; or what `nmt export` wrote.
        others: of further models with the same languages and target vocabulary; how to search says the first.
        engine: what computes, `auto`, `keras` or `ctranslate2`; as `search.engine` says unless given.
        checkpoint: `best`, `latest` or `update-N`, of each; the best, else the latest unless given.
        weights: `ema` or `raw`, of each; the moving average if it was kept unless given.
        member_weights: of each model in their mean; equal unless given.
        log_linear: whether that is the mean of log probabilities instead of probabilities, see `Ensemble`.
        overrides: settings of the form "search.beam_size=4".
        threads: processor cores of CTranslate2, all unless given; Keras takes those that TensorFlow has.

    Raises:
        CheckpointError: there is no such model or checkpoint, or it cannot be trusted.
        ConfigError: settings cannot be read, the models do not fit each other, or the engine cannot do what is asked,
            is not installed or was not made yet.
        DataError: a vocabulary cannot be read.
        ExportError: there is no such export, or it is damaged.
        RuntimeError: this process was forked from one in which the engine runs.
    """
    directories = [directory] if isinstance(directory, str | os.PathLike) else list(directory)
    directories += others
    if engine not in (None, *ENGINES):
        raise ConfigError(f"the engine must be {', '.join(ENGINES[:-1])} or {ENGINES[-1]}, got {engine}")
    if not directories:
        raise ConfigError("there must be a model directory, got none")
    if engine == KERAS and threads is not None:
        raise ConfigError(
            "threads are for CTranslate2: Keras takes the cores that TensorFlow has, see "
            "tf.config.threading.set_inter_op_parallelism_threads"
        )
    if engine != KERAS and is_export(directories[0]):
        if len(directories) > 1 or checkpoint or weights or member_weights or log_linear:
            raise ConfigError(
                "CTranslate2 translates with one export, which has one checkpoint and one kind of weights: give its "
                "directory alone, or model directories"
            )
        return CTranslate2Translator.load(directories[0], threads=threads, overrides=overrides)
    found = find_members(
        directories, checkpoint=checkpoint, weights=weights, overrides=overrides, member_weights=member_weights
    )
    choice = choose_engine(found, engine, lacks=lacking(found)).log()
    if choice.directory is None:
        return open_quietly(found, member_weights, log_linear=log_linear)
    is_free = (engine or found[0].config.search.engine) == AUTO
    otherwise = partial(open_quietly, found) if is_free else None
    return CTranslate2Translator.open(choice.directory, found[0].config, threads=threads, otherwise=otherwise)
