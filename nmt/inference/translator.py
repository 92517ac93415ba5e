"""Raw text in, raw text out."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from nmt.backend.functions import last_elements
from nmt.backend.machine import stay_in_process
from nmt.checkpoint.weights import load_weights
from nmt.config import Config, SearchSettings
from nmt.control.shortlist import Shortlist
from nmt.directory.model_directory import FoundModel, find_model
from nmt.errors import CheckpointError, ConfigError
from nmt.inference.alignment import DEFAULT_READ_OUT, SYMMETRIZATION, Aligner, Alignment, AlignmentTally, How
from nmt.inference.compiled_search import CompiledSearches, settled_rules
from nmt.inference.compiled_translator import CompiledFor, CompiledTranslator
from nmt.inference.engines import load_translator
from nmt.inference.members import Origin, open_again
from nmt.models.contract import DecodingModel, Seq2Seq, Vocabularies, build_model, read_in_steps
from nmt.models.ensemble import Ensemble
from nmt.models.forced import ReadOut
from nmt.scoring.forced import PairScore, Scorer, ScoreTally, Target
from nmt.search import Rule, SearchResult
from nmt.search.continuation import Continuation, Decoding
from nmt.search.step import SpecialIds
from nmt.text import BOS_ID, EOS_ID, PAD_ID, TextPair, Tokenizer
from nmt.translation.completion import BEAM_SIZE, Completer
from nmt.translation.lengths import length_limits
from nmt.translation.line_translator import (
    Progress,
    Tags,
    Tally,
    Translation,
    banned_ids,
    changed_search,
    checked_pairs,
    encode_lines,
)
from nmt.tying import named_variables
from nmt.types import Memory, PathLike, State, Tensor


class OpenedModel(NamedTuple):
    """All that a model directory holds, ready for use.

    config: its settings, overrides included.
    text: the tokenizers.
    model: with the weights of the checkpoint.
    checkpoint: name of the checkpoint that was read.
    weights: `ema` or `raw`, which of its weights these are.
    directory: the model directory; None if the model is of no directory.
    """

    config: Config
    text: TextPair
    model: Seq2Seq
    checkpoint: str
    weights: str
    directory: Path | None = None


def open_model(directory: PathLike, *, checkpoint: str | None = None, weights: str | None = None) -> OpenedModel:
    """Open a trained model.

    Args:
        directory: the model directory, or a checkpoint in it.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.

    Raises:
        CheckpointError: there is no such model or checkpoint, or it cannot be trusted.
        ConfigError: the settings cannot be read.
        DataError: the vocabulary cannot be read.
    """
    return open_found(find_model(directory, checkpoint=checkpoint, weights=weights))


def open_found(found: FoundModel) -> OpenedModel:
    """Open what `find_model` found, with all that it was asked; raises what `open_model` raises."""
    stay_in_process(Translator.engine_name)
    config, text = found.config, TextPair.load(found.directory)
    model = build_model(vocabularies_of(text), seed=config.seed, **config.model.model_dump())
    loaded = load_weights(found.directory, model, checkpoint=found.checkpoint, weights=found.weights)
    check_tokenizers(text, loaded.path, loaded.manifest.facts)
    return OpenedModel(config, text, model, loaded.name, loaded.weights, Path(found.directory))


def open_members(found: Sequence[FoundModel]) -> list[OpenedModel]:
    """Open what `find_members` found; a model that is there twice is loaded once."""
    each_once = {(each.directory, each.checkpoint, each.weights): each for each in found}
    opened = {key: open_found(each) for key, each in each_once.items()}
    return [opened[each.directory, each.checkpoint, each.weights] for each in found]


def check_tokenizers(text: TextPair, checkpoint: Path, facts: Mapping[str, Any]) -> None:
    """Refuse tokenizers of the right size that are not those of the training: translations would be garbage.

    Args:
        text: the tokenizers.
        checkpoint: what the error names.
        facts: of its manifest; one that records no tokenizers fits any.

    Raises:
        CheckpointError: naming the checkpoint.
    """
    if facts.get("tokenizers") not in (None, text.fingerprints):
        raise CheckpointError(
            f"{checkpoint}: was trained with other tokenizers than those in the model directory: bring back its "
            "tokenizer and vocabulary files"
        )


def vocabularies_of(text: TextPair) -> Vocabularies:
    """What a model has to know of the tokenizers: the sizes, and whether both sides mean the same by their ids."""
    source, target = text.source.vocabulary, text.target.vocabulary
    return Vocabularies(len(source), len(target), shared=source.fingerprint == target.fingerprint)


class Translator(CompiledTranslator):
    """Translates lines of text with a model, its text processing and a search.

    A translator is made for one model and looks at its weights anew each time: of a model in training it shows the
    present state. The search is compiled once for each beam size, length penalty, number of hypotheses and ban that is
    asked for, and then serves batches of every shape. Several threads may use it at the same time, and get what one
    would. One that was loaded from directories can be pickled: it is opened again from the same checkpoints, only once
    for equal pickles in a row.

    Args:
        model: a `Seq2Seq`, or whatever else decodes as one does; or an `Ensemble` of several.
        text: the tokenizers it was trained with; of an ensemble those of its first model.
        search: how translations are looked for; what `SearchSettings()` says unless given.
        segmentation: how words of the text were cut before the model saw it; translations are joined again.
        rules: what else is asked of the tokens of a translation.
        sources: tokenizers of the source, one for each model of an ensemble; that of `text` for all unless given.
        shortlist: target tokens by source tokens, for searches with `search.shortlist`.

    Raises:
        RuntimeError: this process was forked from one in which TensorFlow runs.
    """

    _origin: Origin | None = None
    _loaded: tuple[float, ...] = ()

    def __init__(
        self,
        model: DecodingModel | Ensemble,
        text: TextPair,
        search: SearchSettings | None = None,
        *,
        segmentation: str = "none",
        rules: Sequence[Rule] = (),
        sources: Sequence[Tokenizer] = (),
        shortlist: Shortlist | None = None,
    ) -> None:
        if isinstance(model, Ensemble):
            sources = sources or [text.source] * len(model.models)
        super().__init__(text, search, segmentation=segmentation, sources=sources)
        self.model = model
        self.shortlist = shortlist
        self.rules = tuple(rules)
        self.compiled = CompiledSearches(
            model, num_sources=len(self.sources), vocabulary_size=len(text.target.vocabulary), rules=self.rules
        )
        self._aligners: dict[ReadOut, Aligner] = {}
        self._completers: dict[tuple[str, tuple[int, ...]], Completer] = {}

    load = staticmethod(load_translator)

    @classmethod
    def of(
        cls,
        opened: OpenedModel,
        *others: OpenedModel,
        member_weights: Sequence[float] | None = None,
        log_linear: bool = False,
    ) -> Translator:
        """Return a translator with an opened model, or several, which searches as the settings of the first say."""
        model: DecodingModel | Ensemble = opened.model
        sources = [opened.text.source]
        if others:
            model = Ensemble([opened.model, *(each.model for each in others)], member_weights, log_linear=log_linear)
            # Tokenizers that do the same are one, so that text is cut once for all their models.
            tokenizers = [each.text.source for each in (opened, *others)]
            alike = {tokenizer.fingerprint: tokenizer for tokenizer in tokenizers}
            sources = [alike[tokenizer.fingerprint] for tokenizer in tokenizers]
        config = opened.config
        shortlist = None
        if config.search.shortlist and opened.directory is not None:
            shortlist = Shortlist.load(opened.directory, opened.text)
        segmentation = config.data.segmentation
        made = cls(model, opened.text, config.search, segmentation=segmentation, sources=sources, shortlist=shortlist)
        found = [
            FoundModel(each.directory.absolute(), each.checkpoint, each.weights, each.config)
            for each in (opened, *others)
            if each.directory is not None
        ]
        if len(found) == 1 + len(others):
            made._origin, made._loaded = Origin(tuple(found), member_weights, log_linear), made._look()
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how a copy is made, for `pickle`: the models are opened again from their directories.

        Raises:
            TypeError: the models came from no directory, or their weights have changed since.
        """
        if self._origin is None:
            raise TypeError(
                "a Translator of a model in memory cannot be pickled: save the model in a directory, and take "
                "Translator.load(DIRECTORY)"
            )
        if self._look() != self._loaded:
            places = ", ".join(str(each.directory) for each in self._origin.found)
            raise TypeError(
                f"a Translator is pickled as its directories, but the weights are no longer those of {places}: save "
                "a checkpoint, and load that"
            )
        return open_again, (pickle.dumps((self._origin, self.search)),)

    def _look(self) -> tuple[float, ...]:
        """The sum of each variable, which tells whether weights have changed."""
        return tuple(float(np.sum(each.value)) for each in self._variables())

    def variables_of_search(self) -> tuple[dict[str, Any], list[Any]]:
        """Return the weights of a single model by their names in a checkpoint, and all that it has of variables."""
        return named_variables(cast(Seq2Seq, self.model)), self._variables()

    def _variables(self) -> list[Any]:
        models = self.model.models if isinstance(self.model, Ensemble) else [self.model]
        return [each for model in models for each in getattr(model, "variables", ())]

    def score(
        self,
        pairs: Iterable[tuple[str, Target]],
        *,
        tags: Tags = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        tally: ScoreTally | None = None,
    ) -> list[PairScore]:
        """Compute how probable given translations are; the same token ids have the score that a search reports.

        An empty translation has the probability of ending at once; that of an empty line has log probability 0. A tag
        is given to the model, on whichever side: no score holds its own probability.

        Args:
            pairs: a source line and its translation each, as text or as token ids.
            tags: that of all pairs, or of each.
            batch_size: pairs scored at once; as in `search` unless given.
            progress: is told of every batch how many pairs it held.
            tally: counts what was scored, and what is odd about it, for you to `report`; else that is reported at once.

        Returns:
            One score a pair, in the order of the pairs.

        Raises:
            ConfigError: a setting is out of range, or the model does not know a tag.
            DataError: a target has ids that no target has.
            TypeError: `pairs` is one pair instead of several, or one of them is no pair.
        """
        stay_in_process(self.engine_name)
        counted, settings = tally or ScoreTally(), changed_search(self.search, batch_size=batch_size)
        with self._lock:
            scorer = self._scorer  # one for all threads
        checked = checked_pairs(pairs)
        begins = self.begins_of(tags, len(checked))
        scores = scorer.score(checked, begins, batch_size=settings.batch_size, progress=progress, tally=counted)
        if tally is None:
            counted.report()
        return scores

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self.model, self.text.target, self.sources, at_once=self.batches_at_once())

    def align(
        self,
        pairs: Iterable[tuple[str, Target]],
        *,
        tags: Tags = None,
        read_out: ReadOut = DEFAULT_READ_OUT,
        soft: bool = False,
        symmetrization: str = SYMMETRIZATION,
        unknown: Mapping[str, str] | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        tally: AlignmentTally | None = None,
    ) -> list[Alignment]:
        """Link the words of translations to those of their sources, by the attention of the model that reads both.

        Args:
            pairs: a source line and its translation each, as text or as token ids.
            tags: that of all pairs, or of each; what looks at a tag looks at no word.
            read_out: which attention; that with the fewest errors unless given.
            soft: whether to give the attention itself too.
            symmetrization: how links of both directions become one, of `nmt.alignment.links.SYMMETRIZATIONS`.
            unknown: what to put in place of UNK in targets, by the source word that it comes from; that word itself if
                it is missing. None leaves UNK.
            batch_size: pairs at once; as in `search` unless given.
            progress: is told of every batch how many pairs it held.
            tally: counts what was aligned, and what is odd about it, for you to `report`; else that is told at once.

        Returns:
            One alignment a pair, in the order of the pairs; of an empty line one without links.

        Raises:
            ConfigError: the model has no such attention or does not know a tag, or its tokenizers do not say where
                tokens stand.
            DataError: a target has ids that no target has.
            TypeError: `pairs` is one pair instead of several, or one of them is no pair.
        """
        stay_in_process(self.engine_name)
        counted, settings = tally or AlignmentTally(), changed_search(self.search, batch_size=batch_size)
        with self._lock:
            if read_out not in self._aligners:
                self._aligners[read_out] = Aligner(self, read_out, at_once=self.batches_at_once())
        how, checked = How(soft, symmetrization, unknown), checked_pairs(pairs)
        begins = self.begins_of(tags, len(checked))
        found = self._aligners[read_out].align(
            checked, begins, how=how, batch_size=settings.batch_size, progress=progress, tally=counted
        )
        if tally is None:
            counted.report()
        return found

    def complete(
        self, source: str, prefix: str = "", n: int = 5, *, beam_size: int = BEAM_SIZE, tag: str | None = None
    ) -> list[Translation]:
        """Complete a translation that somebody has begun in several ways, each with another next word.

        That is the word that the text which is given ends in, if it goes on, else the one after it. What the encoder
        made of the last sources is kept, as long as the weights stay what they are.

        Args:
            source: one line.
            prefix: what each translation begins with, to the letter; a space at its end begins a new word.
            n: how many.
            beam_size: hypotheses of each next word that are followed to the end.
            tag: that the model reads with the line; None for none.

        Returns:
            The best translation with each of the n most probable next words, best first; fewer if there are fewer. One
            that ends where the given text does counts as another word. An empty line has the given text alone.

        Raises:
            ConfigError: the vocabulary cannot spell the text that is given, the model does not know the tag, or a
                number is out of range.
            TypeError: `source` is no text.
        """
        if type(n) is bool or not isinstance(n, Integral) or n < 1:
            raise ConfigError(f"n must be 1 or more, got {n!r}: give an int")
        stay_in_process(self.engine_name)
        if not isinstance(source, str):
            raise TypeError(f"source must be one text, got {type(source).__name__}")
        # Ways differ by their next words already, so there are no groups.
        search = self.search.model_copy(update={"diverse_groups": 1})
        settings = changed_search(search, beam_size=beam_size)
        ((before, begin),) = self.begins_of(tag, 1)
        (token_ids,) = encode_lines([source], self.sources, settings, Tally())
        if not any(token_ids):
            return [Translation(prefix, 0.0, 0.0, 0)]
        lengths = np.array([len(token_ids[0]) + 1])
        least, greatest = length_limits(lengths, settings)
        source_ids = [[*first, *ids, EOS_ID] for first, ids in zip(before, token_ids, strict=True)]
        limits, room = (int(least[0]), int(greatest[0])), settings.max_length_offset + 1
        return self._completer(settings).complete(source_ids, prefix, n, limits=limits, room=room, begin=begin)

    def _completer(self, settings: SearchSettings) -> Completer:
        """The compiled search of completions, which remembers sources."""
        banned = banned_ids(settings, self.text.target)
        wanted = (settings.model_dump_json(), banned)
        with self._lock:
            if wanted not in self._completers:
                variables = self._variables()
                continuation = Continuation(
                    decoding(self.model),
                    len(self.sources),
                    special=SpecialIds(PAD_ID, BOS_ID, EOS_ID, banned),
                    beam_size=settings.beam_size,
                    length_penalty=settings.length_penalty,
                    length_penalty_offset=settings.length_penalty_offset,
                    rules=(*self.rules, *settled_rules(settings, len(self.text.target.vocabulary))),
                )
                look = last_elements(variables) if variables else None
                self._completers[wanted] = Completer(continuation, look, self.text.target, self.segmentation)
            return self._completers[wanted]

    def compiled_for(self, wanted: CompiledFor) -> Callable[..., SearchResult]:
        """Return a search; a ConfigError if the model cannot do it."""
        if wanted.search.coverage_penalty and not getattr(self.model, "has_coverage", False):
            raise ConfigError(
                "search.coverage_penalty is for a single recurrent model, whose attention is one: set it to 0"
            )
        models = self.model.models if isinstance(self.model, Ensemble) else [self.model]
        if wanted.search.shortlist and (self.rules or not all(isinstance(each, Seq2Seq) for each in models)):
            raise ConfigError(
                "search.shortlist is for models that are a Seq2Seq and without rules of your own, which would see "
                "other ids: set it to false"
            )
        return self.compiled(wanted)


def decoding(model: DecodingModel | Ensemble) -> Decoding:
    """Return what a completion needs of a model."""
    if isinstance(model, Ensemble):
        return Decoding(lambda *source_ids: model.encode(source_ids), model.output_matrix, model.read, model.decoder)
    if isinstance(model, Seq2Seq):
        return Decoding(model.encode, model.output_matrix, model.read, model.decoder)

    def read(token_ids: Tensor, memory: Memory, _: Any) -> tuple[Tensor, State]:
        return read_in_steps(model.decoder(), token_ids, memory, model.initial_state(memory, 1, 0))

    return Decoding(model.encode, lambda: (), read, lambda _: model.decoder())
