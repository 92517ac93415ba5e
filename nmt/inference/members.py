"""Which models translate together, and what they must have in common.

No Keras here: what does not fit is refused at once.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from nmt.backend import session
from nmt.checkpoint.index import name_of_update
from nmt.control.shortlist import Shortlist
from nmt.directory.model_directory import FoundModel, find_model, parse_run_reference
from nmt.errors import CheckpointError, ConfigError
from nmt.kinds import either
from nmt.text import TextPair
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.translator import OpenedModel, Translator


_LOGGER = logging.getLogger(__name__)


class Member(NamedTuple):
    """A model that took part in a translation.

    model_directory: where it lies.
    checkpoint: name of the checkpoint that was read.
    weights: `ema` or `raw`, which of its weights these are.
    share: of it in the mean of all members, above 0 to 1.
    """

    model_directory: str
    checkpoint: str
    weights: str
    share: float


def find_members(
    references: Sequence[PathLike],
    *,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    member_weights: Sequence[float] | None = None,
) -> list[FoundModel]:
    """Find the models of an ensemble, or the only one, and read their settings.

    Args:
        references: model directories, or checkpoints in them, RUN@best, RUN@update-N or RUN/checkpoints/update-N.
        checkpoint: `best`, `latest` or `update-N`, of each; the best, else the latest unless given.
        weights: `ema` or `raw`, of each; unless given the moving average if it was kept, or what validation found
            better.
        overrides: settings of the form "search.beam_size=4", of each.
        member_weights: of each model in their mean; equal unless given.

    Returns:
        What was found, in the order given; one that is given twice is there twice.

    Raises:
        CheckpointError: there is no such model, or a reference names another checkpoint than `checkpoint`.
        ConfigError: the settings cannot be read, or the models or the weights do not fit each other.
        DataError: a vocabulary cannot be read.
    """
    found = []
    for reference in references:
        directory, named = parse_run_reference(os.fspath(reference))
        if checkpoint is not None and named not in (None, checkpoint, name_of_update(checkpoint)):
            raise CheckpointError(
                f"{reference} is a checkpoint already, got {checkpoint}: leave that out, or give {directory}"
            )
        found.append(find_model(directory, checkpoint=named or checkpoint, weights=weights, overrides=overrides))
    if member_weights is not None:
        _check_member_weights(member_weights, len(found))
    if len(found) > 1:
        _check_languages(found)
        _check_vocabularies(found)
    return found


def _check_member_weights(member_weights: Sequence[float], num_members: int) -> None:
    if len(member_weights) != num_members or not all(0.0 < weight < math.inf for weight in member_weights):
        given = ", ".join(f"{weight:g}" for weight in member_weights)
        count = "the model" if num_members == 1 else f"each of the {num_members} models"
        raise ConfigError(f"there must be one weight above 0 for {count}, got {given}: leave them out for equal ones")


def _check_languages(found: Sequence[FoundModel]) -> None:
    first, *others = ((each.directory, each.config.data) for each in found)
    for directory, data in others:
        pairs = [(each.source_language, each.target_language) for each in (first[1], data)]
        if pairs[0] != pairs[1]:
            ways = [f"from {source} to {target}" for source, target in pairs]
            raise ConfigError(
                f"models that translate together must be of one language pair, but {first[0]} translates {ways[0]} "
                f"and {directory} {ways[1]}: leave one of them out"
            )


def _check_vocabularies(found: Sequence[FoundModel]) -> None:
    """Refuse models that do not mean the same by the ids of target tokens, of which no mean can be taken."""
    if len({each.config.data.tag_side for each in found if each.config.data.tags}) > 1:
        raise ConfigError("models that translate together must have their tags on one side, but data.tag_side differs")
    first, *others = ((each.directory, TextPair.load(each.directory).target.vocabulary) for each in found)
    for directory, vocabulary in others:
        if vocabulary.fingerprint != first[1].fingerprint:
            raise ConfigError(
                f"models that translate together must have one target vocabulary, but those of {first[0]} "
                f"({len(first[1])} tokens) and {directory} ({len(vocabulary)} tokens) differ: train both with the same"
            )


def open_translator(
    found: Sequence[FoundModel],
    *,
    threads: int | None = None,
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
) -> tuple[Translator, list[OpenedModel]]:
    """Start TensorFlow for searches, and open models to translate with.

    Args:
        found: by `find_members`.
        threads: processor cores to use; all unless given.
        member_weights: of each model in their mean; equal unless given.
        log_linear: whether that is the mean of log probabilities.

    Returns:
        What translates, and its models.

    Raises:
        NMTError: they cannot be opened, or there is no shortlist that fits.
    """
    if found[0].config.search.shortlist:  # one that is missing or does not fit is refused before TensorFlow starts
        Shortlist.load(found[0].directory, TextPair.load(found[0].directory))
    session.start(threads=threads, a_core_each=True)

    from nmt.inference.translator import Translator, open_members

    opened = open_members(found)
    return Translator.of(*opened, member_weights=member_weights, log_linear=log_linear), opened


def open_in_keras(found: FoundModel, threads: int | None = None) -> Translator:
    """Open one model as `open_translator` does, for what another engine cannot do."""
    return open_translator([found], threads=threads)[0]


def open_quietly(
    found: Sequence[FoundModel], member_weights: Sequence[float] | None = None, *, log_linear: bool = False
) -> Translator:
    """Open models within somebody else's program: TensorFlow starts in silence if it has to, with all its defaults."""
    with session.starting_quietly():
        from nmt.inference.translator import Translator, open_members
    return Translator.of(*open_members(found), member_weights=member_weights, log_linear=log_linear)


def warn_of_no_tag(found: Sequence[FoundModel]) -> None:
    """Say that models learned from nothing but text with a tag, where what they are to read has none."""
    for each in found:
        data = each.config.data
        if all(data.tag_of(name) is not None for name in data.names("train")):
            where, tags = f"before each {data.tag_side}", either([*data.tags])
            _LOGGER.warning("%s learned with a tag %s, and none is given: --tag %s", each.directory, where, tags)


class Origin(NamedTuple):
    """Where the models of a translator came from: what a pickle of it holds instead of them.

    found: their directories, with the checkpoints and weights that were read.
    member_weights, log_linear: how they translate together, see `Ensemble`.
    """

    found: tuple[FoundModel, ...]
    member_weights: Sequence[float] | None
    log_linear: bool


@lru_cache(maxsize=1)
def open_again(pickled: bytes) -> Translator:
    """Return a translator like the one that was pickled; TensorFlow starts in silence if it has to.

    The last one is kept: to a worker process it comes with every task.

    Args:
        pickled: `Origin`, and settings of the search.
    """
    origin, search = pickle.loads(pickled)
    made = open_quietly(origin.found, origin.member_weights, log_linear=origin.log_linear)
    made.search = search
    return made
