"""A translator whose search is one compiled function for each kind of request: what the function is given and returns.

No Keras here: a function that was compiled before does without.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from nmt.backend import session
from nmt.config import SearchSettings
from nmt.control.controls import Control, Kinds, Sampling, kinds_of
from nmt.control.shortlist import Columns, Shortlist
from nmt.data.sequences import TokenSequences
from nmt.errors import ConfigError
from nmt.text import SPECIAL_TOKENS
from nmt.translation.line_translator import LineTranslator, Request, Translation, banned_ids


class CompiledFor(NamedTuple):
    """What is part of the graph of a search; all the rest may differ from batch to batch.

    search: the settings that matter, all others being those of `SearchSettings()`.
    num_hypotheses: of each group of the beam.
    tagged: whether each target begins with a token that is given.
    """

    search: SearchSettings
    num_hypotheses: int
    with_token_scores: bool
    banned_ids: tuple[int, ...]
    controls: Kinds
    sampling: Sampling | None
    tagged: bool = False


_OF_BATCH = {"batch_size", "max_length", "max_length_ratio", "max_length_offset", "min_length", "min_length_ratio"}
"""Settings of a search that may differ from batch to batch."""


def graph_settings(settings: SearchSettings) -> SearchSettings:
    """Return the settings with those at their defaults that may differ from batch to batch."""
    return settings.model_copy(update=SearchSettings().model_dump(include=_OF_BATCH))


class CompiledTranslator(LineTranslator):
    """Translates lines by compiled searches, whoever compiled them; see `LineTranslator`."""

    engine_name = "TensorFlow"
    shortlist: Shortlist | None = None

    @abstractmethod
    def compiled_for(self, wanted: CompiledFor) -> Callable[..., Any]:
        """Return a search, which takes what `CompiledSearches` lists, and returns the fields of `SearchResult`.

        One that samples is given by those alone who have imported Keras.

        Raises:
            ConfigError: the model cannot do what is wanted.
        """

    def batches_at_once(self) -> int:
        """Return one batch a processor core: two searches on a core each are done sooner than two by both cores."""
        return session.searches_at_once()

    def search_batch(
        self, requests: Sequence[Request], *, num_hypotheses: int, settings: SearchSettings, token_scores: bool = False
    ) -> list[list[Translation]]:
        """Translate a batch.

        Raises:
            ConfigError: the model has no coverage.
        """
        source_ids, *other_ids = (
            TokenSequences.from_lists(sources).padded(np.arange(len(requests)))[0]
            for sources in zip(*(request.source_ids for request in requests), strict=True)
        )
        lines = requests
        requests = [request for request in requests for _ in range(settings.diverse_groups)]  # each is a sentence
        asked = [request.control for request in requests]
        sampling = requests[0].sampling
        of_group = settings.beam_size if settings.stop == "first" else num_hypotheses
        wanted = CompiledFor(
            graph_settings(settings),
            1 if sampling else -(-of_group // settings.diverse_groups),
            token_scores,
            banned_ids(settings, self.text.target),
            kinds_of(asked),
            sampling and sampling._replace(seed=0),
            requests[0].first_id is not None,
        )
        search = self.compiled_for(wanted)
        least = np.array([request.min_length for request in requests], np.int32)
        greatest = np.array([request.max_length for request in requests], np.int32)
        arguments = [source_ids, least, greatest, np.int32(len(requests)), greatest.max(), *other_ids]
        tables = self.controls.tables(asked) if any(wanted.controls) else ()
        begun = [np.array([request.first_id for request in requests], np.int32)] if wanted.tagged else []
        if settings.shortlist:
            columns = self._columns(lines, settings)
            begun = [columns.places(each) for each in begun]
            arguments += [*begun, columns.token_ids, columns.allowed]
            tables = columns.tables(tables) if tables else ()
        else:
            arguments += begun
        arguments += tables
        if sampling:
            from nmt.search.rules import uniform_numbers  # Keras is there, see `compiled_for`

            draws = [(request.line, request.sample, request.part) for request in requests]
            arguments.append(uniform_numbers(sampling.seed, draws, int(greatest.max())))
        result = search(*arguments)
        fields = [np.asarray(field).tolist() for field in result if field is not None]
        found = [self._translations(rows, settings)[:num_hypotheses] for rows in zip(*fields, strict=True)]
        # What came to no end is not as asked.
        asked = asked[:: settings.diverse_groups]
        return [
            each if control.asks_nothing else [one for one in each if one.finished]
            for control, each in zip(asked, found, strict=True)
        ]

    def _columns(self, requests: Sequence[Request], settings: SearchSettings) -> Columns:
        """The tokens in which a batch is searched."""
        if self.shortlist is None:
            raise ConfigError(
                "search.shortlist needs a shortlist: build one with nmt build-shortlist RUN, and load the translator "
                'with overrides=["search.shortlist=true"]'
            )
        needed = list[list[int]]()
        for request in requests:
            phrases = () if request.control.asks_nothing else self.controls.needs(request.control)
            first = () if request.first_id is None else (request.first_id,)
            needed.append([*phrases, *first, *self._hinted(request.control)])
        listed = self.shortlist.listed([request.source_ids[0] for request in requests], needed)
        # The search looks at so many extensions of a hypothesis, banned ones among them.
        return Columns(listed, least=settings.beam_size + len(SPECIAL_TOKENS))

    def _hinted(self, control: Control) -> Iterator[int]:
        """The tokens of the translations that hints give, also where they begin a sentence."""
        for _, translation, _ in control.hints:
            for text in (translation, translation[:1].upper() + translation[1:]):
                yield from self.text.target.encode(text)

    def _translations(self, rows: Sequence[list[Any]], settings: SearchSettings) -> list[Translation]:
        """The hypotheses of a sentence, from the fields of `SearchResult`."""
        found = []
        for token_ids, score, log_prob, length, finished, *token_scores in zip(*rows, strict=True):
            if length:  # else there is no such hypothesis
                text = self.text_of(token_ids[:length])
                tokens = self.text.target.tokens(token_ids[:length]) if token_scores else ()
                scores = tuple(each for row in token_scores for each in row[:length])
                of_tokens = tuple(tokens), scores
                made = Translation(text, score, log_prob, length, finished, *of_tokens, shortlist=settings.shortlist)
                found.append(made)
        return found
