"""The search as one compiled function for each kind of request, from batches of ids to hypotheses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

from nmt.backend.functions import Spec, compile_function, is_traced
from nmt.config import SearchSettings
from nmt.control.controls import AutomatonTables, Kinds
from nmt.control.lifting import NUM_CLASSES
from nmt.inference.compiled_translator import CompiledFor
from nmt.models.contract import DecodingModel
from nmt.models.ensemble import Ensemble
from nmt.models.narrowed import Part
from nmt.search import Rule, SearchResult, beam_search
from nmt.search.automaton import Allowed, Automaton, Goals, MustAppear
from nmt.search.groups import DiverseGroups, for_each_group, merge_groups
from nmt.search.rules import NoRepeatedNgrams, RepetitionPenalty, Sampled
from nmt.search.step import Choose
from nmt.text import BOS_ID, EOS_ID, PAD_ID
from nmt.types import Tensor

_SIGNATURE = (
    Spec((None, None), "int32"),  # source ids (B, S)
    Spec((None,), "int32"),  # least lengths (B,)
    Spec((None,), "int32"),  # greatest lengths (B,)
    Spec((), "int32"),  # B
    Spec((), "int32"),  # the greatest of the greatest lengths
)

_TABLES = AutomatonTables(
    classes=Spec((None,), "int32"),
    roots=Spec((None,), "int32"),
    class_next=Spec((None, NUM_CLASSES), "int32"),
    exceptions=Spec((None,), "int64"),
    next_states=Spec((None,), "int32"),
    may_end=Spec((None,), "bool"),
    class_scores=Spec((None, NUM_CLASSES), "float32"),
    changes=Spec((None,), "int64"),
    change_scores=Spec((None,), "float32"),
    distance=Spec((None,), "int32"),
    fallback=Spec((None,), "int32"),
    advancing=Spec((None, None), "int32"),
    allowed=Spec((None, 2), "int32"),
    required=Spec((None, None), "int32"),
)
"""What a search with controls takes besides."""

_COLUMNS = (Spec((None,), "int32"), Spec((None, None), "bool"))
"""What a search with a shortlist takes besides: (C,) and (B, C) of `nmt.control.shortlist.Columns`."""

_UNIFORMS = Spec((None, None), "float32")
"""What sampling takes besides, (B, T)."""

_FIRST = Spec((None,), "int32")
"""What a search with tags of the target takes besides: (B,), the symbol that each target begins with."""


class CompiledSearches:
    """The searches of a model, each compiled when it is first asked for; threads may share them.

    Args:
        model: a `Seq2Seq`, or whatever else decodes as one does; or an `Ensemble`.
        num_sources: source ids that a batch has: one for each model of an ensemble.
        vocabulary_size: of the target.
        rules: what is asked of all searches.
    """

    def __init__(
        self, model: DecodingModel | Ensemble, *, num_sources: int, vocabulary_size: int, rules: Sequence[Rule]
    ) -> None:
        self._model, self._num_sources, self._vocabulary_size = model, num_sources, vocabulary_size
        self._rules = tuple(rules)
        self._compiled: dict[CompiledFor, Callable[..., SearchResult]] = {}
        self._lock = Lock()

    def _rules_of(
        self, wanted: CompiledFor, more: Sequence[Tensor], batch_size: Tensor, vocabulary_size: int | Tensor
    ) -> tuple[list[Rule], Choose | None]:
        """The rules of a search, and what chooses among hypotheses.

        Args:
            wanted: of the search.
            more: tables of controls, and uniform numbers, if it takes any.
            batch_size: sentences, each of which counts once a group.
            vocabulary_size: tokens that are looked at.
        """
        settings, choose = wanted.search, None
        rules = [*self._rules, *settled_rules(settings, vocabulary_size)]
        if settings.diverse_groups > 1:
            diverse = DiverseGroups(settings.diverse_groups, settings.diversity, batch_size, EOS_ID)
            rules.append(diverse)
            choose = diverse.choose
        if any(wanted.controls):
            controlling, choose_with_phrases = control_rules(AutomatonTables(*more[: len(_TABLES)]), wanted.controls)
            rules += controlling
            choose = choose_with_phrases or choose
        if wanted.sampling:
            never = {PAD_ID, BOS_ID, *wanted.banned_ids}
            cutting: dict[str, Any] = wanted.sampling.cutting
            rules.append(Sampled(more[-1], never=never, eos_id=EOS_ID, **cutting))
        return rules, choose

    def _signature_of(self, wanted: CompiledFor) -> tuple[Spec, ...]:
        """What a search takes: `_SIGNATURE`, the source as other members cut it, and what is asked besides."""
        signature: tuple[Spec, ...] = (*_SIGNATURE, *_SIGNATURE[:1] * (self._num_sources - 1))
        signature += (_FIRST,) if wanted.tagged else ()
        signature += _COLUMNS if wanted.search.shortlist else ()
        signature += _TABLES if any(wanted.controls) else ()
        return signature + ((_UNIFORMS,) if wanted.sampling else ())

    def traced(self) -> dict[CompiledFor, Callable[..., SearchResult]]:
        """Return those that have been called; none if TensorFlow runs functions eagerly."""
        with self._lock:
            return {wanted: each for wanted, each in self._compiled.items() if is_traced(each)}

    def __call__(self, wanted: CompiledFor) -> Callable[..., SearchResult]:
        """Return the search, which takes what `_signature_of` lists."""
        num_others = self._num_sources - 1
        settings, groups = wanted.search, wanted.search.diverse_groups
        beam_size = 1 if wanted.sampling else settings.beam_size // groups
        signature = self._signature_of(wanted)

        def search(
            source_ids: Tensor,
            least_lengths: Tensor,
            greatest_lengths: Tensor,
            batch_size: Tensor,
            most_steps: Tensor,
            *more: Tensor,
        ) -> SearchResult:
            others, more = more[:num_others], more[num_others:]
            first_ids, more = (more[0], more[1:]) if wanted.tagged else (None, more)
            model: Any = self._model
            part = Part(*more[:2]) if settings.shortlist else None
            if part is not None:
                model, more = part.of(model), more[2:]
            memory = model.encode([source_ids, *others] if isinstance(model, Ensemble) else source_ids)
            if groups > 1:
                memory = for_each_group(memory, groups)
            vocabulary_size = self._vocabulary_size if part is None else part.size
            rules, choose = self._rules_of(wanted, more, batch_size, vocabulary_size)
            covering: dict[str, Any] = {"with_coverage": True} if settings.coverage_penalty else {}
            result = beam_search(
                model.decoder(),
                model.initial_state(memory, beam_size, most_steps + int(wanted.tagged), **covering),
                memory=memory,
                batch_size=batch_size,
                bos_id=BOS_ID,
                eos_id=EOS_ID,
                pad_id=PAD_ID,
                min_length=least_lengths,
                max_length=greatest_lengths,
                beam_size=beam_size,
                num_hypotheses=wanted.num_hypotheses,
                length_penalty=settings.length_penalty,
                length_penalty_offset=settings.length_penalty_offset,
                stops_at_first=settings.stop == "first",
                with_token_scores=wanted.with_token_scores,
                add_to_score=(lambda state: settings.coverage_penalty * model.coverage(state)) if covering else None,
                banned_ids=wanted.banned_ids,
                rules=rules,
                choose=choose,
                first_ids=first_ids,
            )
            if part is not None:
                result = result._replace(token_ids=part.tokens(result.token_ids))
            return result if groups == 1 else merge_groups(result, groups)

        with self._lock:
            if wanted not in self._compiled:
                self._compiled[wanted] = compile_function(search, signature)
            return self._compiled[wanted]


def settled_rules(settings: SearchSettings, vocabulary_size: int | Tensor) -> list[Rule]:
    """Return the rules that settings ask for."""
    rules: list[Rule] = []
    if settings.repetition_penalty > 1:
        rules.append(RepetitionPenalty(settings.repetition_penalty, vocabulary_size))
    if settings.no_repeat_ngram:
        rules.append(NoRepeatedNgrams(settings.no_repeat_ngram))
    return rules


def control_rules(tables: AutomatonTables, kinds: Kinds) -> tuple[list[Rule], Choose | None]:
    """Return the rules of what is asked in a batch, and what chooses among hypotheses if phrases must appear."""
    automaton = Automaton(*(getattr(tables, name) for name in Automaton._fields))
    goals = Goals(*(getattr(tables, name) for name in Goals._fields))
    rules: list[Rule] = [
        Allowed(automaton, tables.allowed[:, place], EOS_ID) for place, is_asked in enumerate(kinds[:2]) if is_asked
    ]
    if not kinds.require:
        return rules, None
    must_appear = MustAppear(automaton, tables.required, goals, EOS_ID)
    return [*rules, must_appear], must_appear.choose
