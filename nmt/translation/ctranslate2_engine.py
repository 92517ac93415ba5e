"""Raw text in, raw text out, by CTranslate2 in place of Keras: no TensorFlow is loaded.

Greedy search is the same search. The beam search of CTranslate2 takes the same steps as ours, but it ranks by log
probability / length ** length_penalty, and stops when a number of hypotheses is finished, whether a better one can
still come or not. So it is asked for more than the beam holds (`PATIENCE`), and all that it finds are scored and ranked
here by the formula of the settings: scores mean the same, and hardly a translation differs.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from nmt.backend.machine import available_processors, stay_in_process, text_of
from nmt.config import Config, SearchSettings
from nmt.control.controls import NO_CONTROL, Control, Sampling
from nmt.directory import model_directory
from nmt.errors import ConfigError, ExportError
from nmt.settings.config import ModelSettings
from nmt.text import BOS_ID, EOS_ID, PAD_ID, TextPair
from nmt.translation.lengths import length_penalty
from nmt.translation.line_translator import LineTranslator, Request, Translation, banned_ids
from nmt.types import PathLike

PATIENCE = 2
"""Finished hypotheses to wait for, in beam sizes (Kasai et al. 2022, arXiv:2204.05424); CTranslate2's default is 1."""

_LOGGER = logging.getLogger(__name__)

TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2, "int16": 5e-2, "int8": 0.1}
"""How weights may be stored; how far a pair's tokens may then lie from the model in log probability, on average."""

Hypotheses: TypeAlias = dict[tuple[int, ...], float | None]
"""What the engine found for a sentence: token ids without EOS, and the log probability of these and EOS; None if the
engine does not tell."""


def load_package() -> Any:
    """Import the package `ctranslate2`.

    Raises:
        ConfigError: it is not installed.
    """
    if overflows_in_8_bits(text_of(Path("/proc/cpuinfo"))):
        os.environ.setdefault("CT2_USE_MKL", "1")  # read by the package when it is imported
    try:
        import ctranslate2
    except ImportError as error:
        raise ConfigError(
            "CTranslate2 is not installed, and this needs it: pip install ctranslate2, or in a checkout pip install -e "
            '".[ctranslate2]"'
        ) from error
    return ctranslate2


def overflows_in_8_bits(processor: str) -> bool:
    """Whether sums of 8-bit products overflow in oneDNN, which CTranslate2 takes for processors that are not Intel's.

    Without instructions for them (VNNI), oneDNN adds two products in 16 bits: log probabilities of an int8 export were
    off by 0.3 to 2 a token. MKL, which the package brings too, adds them right.

    Args:
        processor: the content of /proc/cpuinfo.
    """
    is_x86_without = "avx2" in processor and "vnni" not in processor
    return is_x86_without and "GenuineIntel" not in processor


def check_exportable(config: Config, output: Path, *, quantization: str, overwrite: bool) -> None:
    """Refuse what cannot be exported, before a model is opened.

    Raises:
        ConfigError: the package ctranslate2 is not installed.
        ExportError: the model is no Transformer, there is no such quantization, or something lies in the way.
    """
    if lacks := lacking_in_model(config.model):
        raise ExportError(f"CTranslate2 knows no model but a transformer with attention, and cannot have {lacks}")
    load_package()
    if quantization not in TOLERANCES:
        raise ExportError(f"the quantization must be one of {', '.join(TOLERANCES)}, got {quantization}")
    if output.exists() and not (output.is_dir() and not model_directory.entries(output)):
        if not model_directory.has_key(output / model_directory.EXPORT_NAME):
            raise ExportError(f"{output}: must be an empty place or an earlier export, but holds something else")
        if not overwrite:
            raise ExportError(
                f"{output}: holds an export already: give --overwrite to replace it, or another directory"
            )


def open_engine(
    directory: PathLike, quantization: str, *, threads: int | None = None, workers: int | None = None
) -> Any:
    """Open the files of an export.

    Weights are computed with as they are stored, or in float32 if this processor has no efficient way to do so. Each
    core searches batches of its own, which takes less time than all cores together on one.

    Args:
        directory: of the export.
        quantization: how its weights are stored.
        threads: processor cores to use; all unless given.
        workers: that search at once; one for each core unless given.

    Returns:
        A `ctranslate2.Translator`.

    Raises:
        ConfigError: the package is not installed.
        ExportError: a file is missing or damaged.
    """
    package = load_package()
    supported = package.get_supported_compute_types("cpu")
    if quantization not in supported:
        _LOGGER.info("this processor computes in float32 what is stored as %s", quantization)
    cores = threads or available_processors()
    workers = workers or cores
    try:
        return package.Translator(
            os.fspath(directory),
            compute_type=quantization if quantization in supported else "float32",
            inter_threads=workers,
            intra_threads=max(1, cores // workers),
        )
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"{Path(directory)}: CTranslate2 cannot read it ({' '.join(str(error).split())}): export the model again"
        ) from error


def lacking_in_model(model: ModelSettings) -> str | None:
    """Say what CTranslate2 cannot have of a model, None if it can have it."""
    if model.type != "transformer":
        return f"model.type {model.type}"
    mixer = getattr(model, "decoder_mixer", None)
    return None if mixer == "attention" else f"model.decoder_mixer {mixer}"


def impossible_for(control: Control, sampling: Sampling | None, settings: SearchSettings) -> list[str]:
    """List what CTranslate2 cannot do of a request, since it lets nobody into its steps."""
    reasons = {
        "phrases that must or must not appear": bool(control.must_appear or control.avoid),
        "a beginning with a space at its end": control.prefix.endswith(" "),
        "--epsilon": sampling is not None and sampling.epsilon > 0,
        "search.diverse_groups": settings.diverse_groups > 1,
        "search.coverage_penalty": settings.coverage_penalty > 0,
        "hints with a shortlist": bool(control.hints) and settings.shortlist,
    }
    return [what for what, is_asked in reasons.items() if is_asked]


def lacking_for(control: Control | None, sampling: Sampling | None, settings: SearchSettings) -> list[str]:
    """List what CTranslate2 cannot do of a request, or does in its own way, so that it is not taken unasked."""
    control = control or NO_CONTROL
    has_least, in_beam = settings.min_length > 1 or settings.min_length_ratio > 0, settings.beam_size > 1
    reasons = {
        "a beginning to the letter": bool(control.prefix),
        "draws by line and seed": sampling is not None,
        "search.repetition_penalty": settings.repetition_penalty > 1,
        # What is banned in its beam gives its probability to the others before they are ranked.
        "a least length in a beam": in_beam and has_least,
        "search.no_repeat_ngram in a beam": in_beam and settings.no_repeat_ngram > 0,
        "a shortlist of each line": settings.shortlist,
    }
    return [*impossible_for(control, sampling, settings), *(what for what, is_asked in reasons.items() if is_asked)]


def refuse_request(control: Control, sampling: Sampling | None, settings: SearchSettings) -> None:
    """Refuse what CTranslate2 cannot do.

    Raises:
        ConfigError: naming all of it.
    """
    if asked := impossible_for(control, sampling, settings):
        raise ConfigError(
            f"CTranslate2 lets nobody into its steps, and cannot have {', '.join(asked)}: use --engine keras, with "
            "the model directory"
        )


_SEEDING = threading.Lock()
"""The seed is one for the process: whoever draws holds it until the last draw."""


class CTranslate2Translator(LineTranslator):
    """Translates lines of text with an export of a model.

    Args:
        engine: a `ctranslate2.Translator`.
        text: the tokenizers of the model.
        search: how translations are looked for; what `SearchSettings()` says unless given.
        num_positions: longest source that the export can read, EOS counted, and translation that it can write.
        segmentation: how words of the text were cut before the model saw it; translations are joined again.
        otherwise: opens the same model in Keras, for what CTranslate2 cannot do; without it, that is refused.
        has_shortlist: whether the export has a vocabulary map.

    Raises:
        RuntimeError: this process was forked from one in which CTranslate2 runs.
    """

    engine_name = "CTranslate2"
    computes_with = "ctranslate2"
    _origin: tuple[Path, Config, int | None] | None = None
    _keras: Any = None

    def __init__(
        self,
        engine: Any,
        text: TextPair,
        search: SearchSettings | None = None,
        *,
        num_positions: int,
        segmentation: str = "none",
        otherwise: Callable[[], Any] | None = None,
        has_shortlist: bool = False,
    ) -> None:
        super().__init__(text, search, segmentation=segmentation)
        self.has_shortlist = has_shortlist
        self.engine = engine
        self.otherwise = otherwise
        self.num_positions = num_positions
        made = text.target.settings
        # If no target ever held UNK, it is as improbable as PAD and BOS are, and leaving it out changes no score.
        self._learned_unknown = made.get("character_coverage") != 1.0 and not made.get("byte_fallback")
        self._target_ids = {token: token_id for token_id, token in enumerate(text.target.vocabulary.tokens)}

    @classmethod
    def load(
        cls, directory: PathLike, *, threads: int | None = None, overrides: Sequence[str] = ()
    ) -> CTranslate2Translator:
        """Load an export from its directory, which is all that is needed.

        Args:
            directory: what `nmt export` wrote.
            threads: processor cores to use; all unless given.
            overrides: settings of the form "search.beam_size=4".

        Raises:
            ConfigError: the package is not installed, or the settings cannot be read.
            DataError: its vocabulary cannot be read.
            ExportError: there is no such export, or it is damaged.
        """
        return cls.open(directory, model_directory.read_export_settings(directory, overrides), threads=threads)

    @classmethod
    def open(
        cls,
        directory: PathLike,
        config: Config,
        *,
        threads: int | None = None,
        otherwise: Callable[[], Any] | None = None,
    ) -> CTranslate2Translator:
        """Do the same with settings that were read before, and with what opens the model in Keras."""
        stay_in_process(cls.engine_name)
        directory, facts, text = Path(directory), model_directory.read_facts(directory), TextPair.load(directory)
        # The engine would translate with whatever is there.
        if text.fingerprints != facts.tokenizers:
            raise ExportError(
                f"{directory}: its tokenizers are not those that its model was exported with: export the model again"
            )
        if model_directory.hash_of_model(directory) != facts.model_sha256:
            raise ExportError(
                f"{directory / model_directory.MODEL_NAME}: is not what was exported: export the model again"
            )
        engine = open_engine(directory, facts.quantization, threads=threads)
        has_shortlist = (directory / model_directory.MAP_NAME).is_file()
        made = cls(
            engine,
            text,
            config.search,
            num_positions=facts.num_positions,
            segmentation=config.data.segmentation,
            otherwise=otherwise,
            has_shortlist=has_shortlist,
        )
        made._origin = directory.absolute(), config, threads
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Say how a copy is made, for `pickle`: the export is opened again from its directory.

        Raises:
            TypeError: it came from none.
        """
        if self._origin is None:
            raise TypeError("only what CTranslate2Translator.load returns can be pickled, as its directory")
        return _opened_again, (pickle.dumps((*self._origin, self.search, self.otherwise)),)

    def score(self, *pairs: Any, **how: Any) -> Any:
        """Compute how probable given translations are, by Keras; see `Translator.score`."""
        return self._in_keras("scores").score(*pairs, **how)

    def align(self, *pairs: Any, **how: Any) -> Any:
        """Link the words of translations to those of their sources, by Keras; see `Translator.align`."""
        return self._in_keras("alignments").align(*pairs, **how)

    def complete(self, *begun: Any, **how: Any) -> Any:
        """Complete a translation that somebody has begun, by Keras; see `Translator.complete`."""
        return self._in_keras("completions").complete(*begun, **how)

    def _in_keras(self, what: str) -> Any:
        """The same model in Keras, opened when it is first needed.

        Raises:
            ConfigError: this is an export, which has no model directory.
        """
        if self.otherwise is None:
            raise ConfigError(
                "an export for CTranslate2 can translate, n_best and stream: score, align and complete with the model "
                "directory that it was made of"
            )
        with self._lock:
            if self._keras is None:
                _LOGGER.info("engine: keras also, as CTranslate2 cannot have %s", what)
                self._keras = self.otherwise()
            return self._keras

    def refuse_control(self, control: Control, *, place: str) -> None:
        """Refuse phrases, which need a door to the steps of a search, if no Keras stands by."""
        settings = self.search.model_copy(update={"diverse_groups": 1, "coverage_penalty": 0.0})
        if self.otherwise is not None:
            return
        try:
            refuse_request(control, None, settings)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from None

    def batches_at_once(self) -> int:
        """Return one batch a core."""
        return self.engine.num_translators

    def _in_batches(self, requests: Sequence[Request], *how: Any, **options: Any) -> Iterator[list[Any]]:
        """Search in batches; draws by an engine of one worker that is new.

        Each worker draws from a generator of its own, which is seeded when the worker draws for the first time: several
        would draw the same, and an old one goes on where it was, whatever the seed.
        """
        sampling = requests[0].sampling if requests else None
        if sampling is None or self._origin is None or self.otherwise is not None:  # which Keras does
            yield from super()._in_batches(requests, *how, **options)
            return
        directory, _, threads = self._origin
        quantization = model_directory.read_facts(directory).quantization
        with _SEEDING:
            load_package().set_random_seed((sampling.seed + requests[0].line) % 2**32)
            drawing = CTranslate2Translator(
                open_engine(directory, quantization, threads=threads, workers=1),
                self.text,
                self.search,
                num_positions=self.num_positions,
                segmentation=self.segmentation,
                has_shortlist=self.has_shortlist,
            )
            yield from drawing._in_batches(requests, *how, **options)

    def search_batch(
        self, requests: Sequence[Request], *, num_hypotheses: int, settings: SearchSettings, token_scores: bool = False
    ) -> list[list[Translation]]:
        """Translate a batch.

        Raises:
            ConfigError: translations may be longer than the export can write, or more is asked than it can do.
        """
        if self.otherwise is not None and (lacks := self._lacking(requests, settings)):
            return self._in_keras(", ".join(lacks)).search_batch(
                requests, num_hypotheses=num_hypotheses, settings=settings, token_scores=token_scores
            )
        hints = next((request.control.hints for request in requests if request.control.hints), ())
        refuse_request(NO_CONTROL._replace(hints=hints), requests[0].sampling, settings)
        begun = [() if request.first_id is None else (request.first_id,) for request in requests]
        self._check_limits(settings, taken=max(map(len, begun)))
        # CTranslate2 appends EOS. Exports of before have no position for it behind a tag and the longest source.
        read = [request.source_ids[0][:-1][: self.num_positions - 1] for request in requests]
        tokens = [self.text.source.tokens(ids) for ids in read]
        found = self._found(tokens, requests, num_hypotheses, settings)

        # The engine scores what has no log probability yet; if it was cut, EOS at its real cost.
        unscored = [
            (place, ids)
            for place, each in enumerate(found)
            for ids, known in each.items()
            if known is None or token_scores
        ]
        of_all, by_token = set(unscored), dict[tuple[int, tuple[int, ...]], tuple[float, ...]]()
        if unscored:
            sources, targets = [tokens[place] for place, _ in unscored], [(*begun[at], *ids) for at, ids in unscored]
            results = self.engine.score_batch(sources, [*map(self.text.target.tokens, targets)], max_input_length=0)
            for (place, token_ids), result in zip(unscored, results, strict=True):
                log_probs = result.log_probs[len(begun[place]) :]  # the tag is given, not written
                found[place][token_ids] = math.fsum(log_probs)
                if token_scores:
                    by_token[place, token_ids] = tuple(log_probs)

        # The best by our formula; those that are no numbers do not exist.
        ranked = []
        for place, hypotheses in enumerate(found):
            scored = [
                (log_prob / length_penalty(len(ids) + 1, settings.length_penalty, settings.length_penalty_offset), ids)
                for ids, log_prob in hypotheses.items()
                if log_prob is not None and math.isfinite(log_prob)
            ]
            scored.sort(key=lambda each: -each[0])
            translations = []
            for score, ids in scored[:num_hypotheses]:
                of_tokens = by_token.get((place, ids), ())
                written = tuple(self.text.target.tokens([*ids, EOS_ID])) if of_tokens else ()
                log_prob = hypotheses[ids] or 0.0
                made = Translation(self.text_of(ids), score, log_prob, len(ids) + 1, True, written, of_tokens)
                of_shortlist = settings.shortlist and (place, ids) not in of_all
                translations.append(made._replace(engine=self.computes_with, shortlist=of_shortlist))
            ranked.append(translations)
        return ranked

    def _check_limits(self, settings: SearchSettings, *, taken: int) -> None:
        """Refuse a shortlist that is not there, and translations longer than the positions that are not taken."""
        if settings.shortlist and not self.has_shortlist:
            raise ConfigError(
                "search.shortlist is true, but the export has no shortlist: run nmt build-shortlist RUN, and export "
                "RUN again"
            )
        longest, room = settings.settled_max_length, self.num_positions - taken
        if longest > room:
            raise ConfigError(
                f"search.max_length must be at most {room} for this export, got {longest}: "
                "lower it, or export the model with it"
            )

    @staticmethod
    def _lacking(requests: Sequence[Request], settings: SearchSettings) -> list[str]:
        """What the engine cannot have, or has in its own way, of any request."""
        asked = dict.fromkeys(request.control for request in requests)
        lacks = [what for control in asked for what in lacking_for(control, requests[0].sampling, settings)]
        return list(dict.fromkeys(lacks))

    def _found(
        self,
        tokens: Sequence[list[str]],
        requests: Sequence[Request],
        num_hypotheses: int,
        settings: SearchSettings,
    ) -> list[Hypotheses]:
        """What CTranslate2 finds for each sentence, not beyond its own limit."""
        found: list[Hypotheses] = [{} for _ in tokens]
        target, banned = self.text.target, banned_ids(settings, self.text.target)
        sampling = requests[0].sampling
        beam_size = 1 if sampling else settings.beam_size
        patience = 1 if beam_size == 1 or settings.stop == "first" else PATIENCE
        drawing = _drawing(sampling)
        tags = [[] if request.first_id is None else [request.first_id] for request in requests]
        first = max(map(len, tags))  # that of the batch, as lines with a tag of the target have batches of their own
        changes_scores = bool(
            drawing
            or settings.no_repeat_ngram
            or settings.repetition_penalty > 1
            or any(request.control.prefix for request in requests)
            or first
        )
        # The engine takes one limit a call. A least length changes the search, so sentences that share it go together.
        by_least = sorted(range(len(requests)), key=lambda place: requests[place].min_length)
        for minimum, group in groupby(by_least, key=lambda place: requests[place].min_length):
            places = list(group)
            results = self.engine.translate_batch(
                [tokens[place] for place in places],
                max_input_length=0,
                max_decoding_length=first + max(requests[place].max_length for place in places),
                min_decoding_length=first + max(minimum - 1, 0) if minimum > 1 else 0,
                target_prefix=[
                    target.tokens([*tags[place], *target.encode(requests[place].control.prefix)]) for place in places
                ],
                beam_size=beam_size,
                num_hypotheses=round(beam_size * patience),
                patience=patience,
                length_penalty=settings.length_penalty,
                suppress_sequences=[[token] for token in target.tokens([PAD_ID, BOS_ID, *banned])],
                no_repeat_ngram_size=settings.no_repeat_ngram,
                repetition_penalty=settings.repetition_penalty,
                use_vmap=settings.shortlist,
                return_scores=True,
                return_end_token=True,
                **drawing,
            )
            # When the engine bans a token, it shares out its probability: the scores are not those of the model.
            exact = minimum <= 1 and not (banned and self._learned_unknown) and not changes_scores
            for place, result in zip(places, results, strict=True):
                greatest = requests[place].max_length
                for words, score in zip(result.hypotheses, result.scores, strict=True):
                    token_ids = tuple(self._target_ids[token] for token in words[first:])
                    # What is longer than allowed, EOS counted, is cut; each hypothesis counts once.
                    ended = token_ids[-1:] == (EOS_ID,) and len(token_ids) <= greatest
                    log_prob = score * len(token_ids) ** settings.length_penalty if ended and exact else None
                    found[place].setdefault(token_ids[:-1] if ended else token_ids[: greatest - 1], log_prob)
        return found


def _drawing(sampling: Sampling | None) -> dict[str, Any]:
    """Return what the engine is to be told of draws, nothing if there are none."""
    if sampling is None:
        return {}
    return {
        "sampling_temperature": sampling.temperature,
        "sampling_topk": sampling.top_k,
        "sampling_topp": sampling.top_p,
    }


@lru_cache(maxsize=1)
def _opened_again(pickled: bytes) -> CTranslate2Translator:
    """Return a translator like the one that was pickled; the last one is kept, see `nmt.inference.members`."""
    directory, config, threads, search, otherwise = pickle.loads(pickled)
    made = CTranslate2Translator.open(directory, config, threads=threads, otherwise=otherwise)
    made.search = search
    return made
