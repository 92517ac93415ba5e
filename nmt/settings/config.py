"""The root of the settings, everything that describes a run, with its sections `model` and `search`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from nmt import kinds
from nmt.architectures import RNNArchitecture, TransformerArchitecture
from nmt.settings.data import DataSettings
from nmt.settings.section import AUTO, REQUIRED, Choice, CountOrAuto, FilePath, Misfit, Section, setting
from nmt.settings.training import NoamSettings, PlateauSettings, TrainingSettings

FORMAT_VERSION = 1
"""The version of the files that `write` writes; `load` reads it and all before it."""

VERSION_KEY = "format_version"

SHORTLIST_NAME = "shortlist.npz"
"""The file of a model directory with the target tokens that a source makes likely, see `nmt.control.shortlist`."""

STORE_NAME = "token_store"

PARTS = ("embeddings", "output", "encoder", "decoder")
"""The parts of our own models; what they own, their layers say."""

TieEmbeddings = Literal["auto", "none", "source_target", "target_output", "all"]

_TIE_HELP = (
    "Which of source embedding, target embedding and output projection are one variable; "
    "auto: all if the tokenizer is joint, else target_output."
)
_TRANSFORMER, _RNN = TransformerArchitecture(), RNNArchitecture()
_SINES = "since half of a position's encoding are sines and half are cosines"


class ModelSettings(Section):
    """What the settings of every model have, whatever its kind."""

    if TYPE_CHECKING:
        type: str
        tie_embeddings: TieEmbeddings
        hidden_size: int


MODELS = Choice(kinds.MODELS, needs=("tie_embeddings", "hidden_size"))
register_model = MODELS.register


@MODELS.register("transformer")
class TransformerSettings(ModelSettings):
    """The Transformer of Vaswani et al. (2017)."""

    type: Literal["transformer"] = setting("transformer", "The Transformer of Vaswani et al. (2017).")
    tie_embeddings: TieEmbeddings = setting(_TRANSFORMER.tie_embeddings, _TIE_HELP)
    hidden_size: int = setting(
        _TRANSFORMER.hidden_size, "Width of embeddings and layers; divisible by num_heads.", at_least=1
    )
    ffn_size: int = setting(_TRANSFORMER.ffn_size, "Width inside the feed-forward layers.", at_least=1)
    num_heads: int = setting(_TRANSFORMER.num_heads, "Attention heads a layer.", at_least=1)
    num_encoder_layers: int = setting(_TRANSFORMER.num_encoder_layers, "Layers that read the source.", at_least=1)
    num_decoder_layers: int = setting(_TRANSFORMER.num_decoder_layers, "Layers that write the target.", at_least=1)
    dropout: float = setting(
        _TRANSFORMER.dropout, "Dropout on embeddings and on the output of each sublayer.", at_least=0, below=1
    )
    attention_dropout: float = setting(
        _TRANSFORMER.attention_dropout, "Dropout on attention weights.", at_least=0, below=1
    )
    ffn_dropout: float = setting(
        _TRANSFORMER.ffn_dropout, "Dropout inside the feed-forward layers.", at_least=0, below=1
    )
    norm: Literal["pre", "post"] = setting(
        _TRANSFORMER.norm, "Layer norm before each sublayer (steadier) or after it (2017)."
    )
    decoder_mixer: Annotated[str, Choice(kinds.MIXERS)] = setting(
        _TRANSFORMER.decoder_mixer, "What brings earlier positions to a target position, in each layer of the decoder."
    )

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if the heads do not share the hidden size evenly."""
        if self.hidden_size % self.num_heads:
            got, step = self.hidden_size, math.lcm(self.num_heads, 2)  # positions need an even size too
            nearest = step * max(1, math.ceil(got / step - 0.5))
            yield Misfit(
                "hidden_size", f"must be divisible by num_heads, got {got} and {self.num_heads}: try {nearest}"
            )
        elif self.hidden_size % 2:
            nearest = self.hidden_size + self.num_heads  # both are odd here
            yield Misfit("hidden_size", f"must be even, got {self.hidden_size}, {_SINES}: try {nearest}")


@MODELS.register("rnn")
class RNNSettings(ModelSettings):
    """A recurrent encoder-decoder with attention."""

    type: Literal["rnn"] = setting("rnn", "A recurrent encoder-decoder with attention (Bahdanau et al., 2015).")
    tie_embeddings: TieEmbeddings = setting(_RNN.tie_embeddings, _TIE_HELP)
    cell: Annotated[str, Choice(kinds.CELLS)] = setting(_RNN.cell, "The recurrent cell.")
    embedding_size: int = setting(_RNN.embedding_size, "Width of the embeddings.", at_least=1)
    hidden_size: int = setting(_RNN.hidden_size, "Width of the recurrent states.", at_least=1)
    num_encoder_layers: int = setting(
        _RNN.num_encoder_layers, "Layers that read the source, each of them both ways.", at_least=1
    )
    num_decoder_layers: int = setting(_RNN.num_decoder_layers, "Layers that write the target.", at_least=1)
    attention: Literal["additive", "multiplicative"] = setting(
        _RNN.attention, "How the source is attended to: Bahdanau et al. (2015) or Luong et al. (2015)."
    )
    input_feeding: bool = setting(
        _RNN.input_feeding, "Feed the attentional state back into the next step (Luong et al., 2015)."
    )
    dropout: float = setting(
        _RNN.dropout, "Dropout on embeddings, between layers and before the output.", at_least=0, below=1
    )

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if the two directions of the encoder do not share the hidden size evenly."""
        if self.hidden_size % 2:
            got = self.hidden_size
            yield Misfit("hidden_size", f"must be even, got {got}, since each direction has half of it: try {got + 1}")


LEAST_AUTO_RATIO = 1.5
LEAST_AUTO_LENGTH = 256
"""What `auto` never goes below, and means if no training corpus was looked at."""


class SearchSettings(Section):
    """How translations are looked for; lengths are in tokens, the closing one counted."""

    beam_size: int = setting(5, "Hypotheses kept a sentence; 1 is greedy search.", at_least=1)
    length_penalty: float = setting(
        1.0, "Exponent of the length: 0 prefers short translations, more prefers long ones.", at_least=0
    )
    length_penalty_offset: float = setting(
        0.0,
        "A score is log probability / ((offset + length) / (offset + 1)) ^ length_penalty: 0 for a power of the "
        "length, as in Marian and fairseq, 5 as Wu et al. (2016), eq. 14.",
        before=5.0,
        at_least=0,
    )
    coverage_penalty: float = setting(
        0.0,
        "Beta of Wu et al. (2016), eq. 14: scores fall for source tokens that attention has passed by. Recurrent "
        "models only.",
        at_least=0,
    )
    stop: Literal["exact", "first"] = setting(
        "exact",
        "When a sentence is done. exact: when nothing better can come. first: when beam_size hypotheses have ended, "
        "which is faster.",
    )
    no_repeat_ngram: int = setting(
        0, "A translation has no run of that many tokens twice (Paulus et al. 2018); 0: it may.", at_least=0
    )
    repetition_penalty: float = setting(
        1.0,
        "What the log probability of a token is multiplied by if the translation has it already (Keskar et al. 2019); "
        "1: nothing.",
        at_least=1,
    )
    diverse_groups: int = setting(
        1,
        "Groups that the beam is cut into, each of which avoids what those before it write (Vijayakumar et al. 2018); "
        "beam_size must be a multiple.",
        at_least=1,
    )
    diversity: float = setting(
        0.5, "What a token costs a group for each hypothesis of an earlier group that writes it then.", at_least=0
    )
    batch_size: int = setting(64, "Sentences translated at once.", at_least=1)
    engine: Literal["auto", "keras", "ctranslate2"] = setting(
        AUTO,
        "What computes. auto: CTranslate2 if it is installed and does the same search, with the engine of the "
        "checkpoint that training makes at its end, or a call of more than 500 lines; else Keras.",
        before="keras",
    )
    max_length_ratio: Annotated[float, Field(ge=0)] | Literal["auto"] = setting(
        AUTO,
        "A translation has at most max_length_ratio * source length + max_length_offset tokens. auto: the smallest "
        "ratio of 1.5 or more that holds 99.9 % of the training pairs, found when a run begins, which keeps it.",
        before=LEAST_AUTO_RATIO,
    )
    max_length_offset: int = setting(10, "Tokens added to that limit.", at_least=0)
    max_length: CountOrAuto = setting(
        AUTO,
        "Tokens of a translation at most, whatever the source's length. auto: 256, or more if max_length_ratio "
        "allows more to a source of data.max_length tokens, up to 2049 then; the run keeps it.",
        before=LEAST_AUTO_LENGTH,
    )
    shortlist: bool = setting(
        False,
        "Whether only those target tokens are looked at that the source makes likely, which is faster (Jean et al. "
        "2015); scores count them alone. Needs what nmt build-shortlist writes.",
    )
    allow_unknown: bool | None = setting(
        None,
        "Whether a translation may hold <unk>. null: only if the tokenizer is whitespace or character, whose "
        "vocabulary leaves words or letters out; pieces of SentencePiece can say it in another way.",
        before=True,
    )
    min_length_ratio: float = setting(0.0, "A translation has at least that ratio * source length tokens.", at_least=0)
    min_length: int = setting(0, "Tokens of a translation at least, whatever the source's length.", at_least=0)

    @property
    def settled_max_length_ratio(self) -> float:
        """`max_length_ratio`; what `auto` means if no training corpus was looked at."""
        ratio = self.max_length_ratio
        return max(LEAST_AUTO_RATIO, self.min_length_ratio) if ratio == AUTO else ratio

    @property
    def settled_max_length(self) -> int:
        """`max_length`, likewise."""
        return max(LEAST_AUTO_LENGTH, self.min_length) if self.max_length == AUTO else self.max_length

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if no length would be allowed, or the groups do not fit into the beam."""
        if self.beam_size % self.diverse_groups:
            yield Misfit("diverse_groups", f"must divide beam_size, {self.beam_size}, got {self.diverse_groups}")
        if self.min_length > self.settled_max_length:
            yield Misfit(
                "min_length",
                f"must be at most max_length, got {self.min_length} and {self.max_length}: try {self.max_length}",
            )
        if self.min_length_ratio > self.settled_max_length_ratio:
            yield Misfit(
                "min_length_ratio",
                f"must be at most max_length_ratio, got {self.min_length_ratio} and {self.max_length_ratio}: "
                f"try {self.max_length_ratio}",
            )
        if self.max_length_ratio == 0 and self.max_length_offset == 0:
            yield Misfit(
                "max_length_offset", "must be above 0 if max_length_ratio is 0, or no token is allowed: try 256"
            )


class Config(Section):
    """Everything that describes a run: what to learn from, what to train and how to search."""

    model_directory: FilePath = setting(
        REQUIRED, "Where settings, vocabulary, checkpoints and logs of the run are kept.", may_change=True
    )
    seed: int = setting(
        42,
        "All chance of a run follows from it: weights, order, dropout, sampled subwords, and which lines a tokenizer "
        "learns from if there are more than it takes.",
        at_least=0,
        at_most=2**32 - 1,
    )
    data: DataSettings = setting(REQUIRED, "The languages, the corpora and how text becomes tokens.")
    model: Annotated[ModelSettings, MODELS] = setting(TransformerSettings(), "The architecture and its sizes.")
    training: TrainingSettings = setting(TrainingSettings(), "Batches, limits, saving, and the updates.")
    search: SearchSettings = setting(SearchSettings(), "How translations are looked for.", may_change=True)

    @property
    def token_store_directory(self) -> str:
        """Where the encoded corpora are kept: `data.store_directory`, or its place in the model directory."""
        return self.data.store_directory or os.path.join(self.model_directory, STORE_NAME)

    @property
    def named_files(self) -> dict[str, tuple[str, ...]]:
        """The files that are read for the run, by the setting that names them."""
        data, files = self.data, dict[str, tuple[str, ...]]()
        for name, corpus in data.corpora.items():
            if corpus.pairs is None:
                files |= {f"data.{name}.source": corpus.paths[0], f"data.{name}.target": corpus.paths[1]}
            else:
                files[f"data.{name}.pairs"] = tuple(dict.fromkeys(chain(*corpus.paths)))
            if data.hints and corpus.alignment is not None:
                files[f"data.{name}.alignment"] = corpus.alignment_paths
        vectors = self.training.pretrained_embeddings
        for side in ("source", "target"):
            if vectors is not None and (path := getattr(vectors, side)) is not None:
                files[f"training.pretrained_embeddings.{side}"] = (path,)
        return files | ({"data.tokenizer.model": models} if (models := data.tokenizer.model_paths) else {})

    def with_training(self, **changes: Any) -> Config:
        """Return the same run with other values in the section `training`, which are not checked."""
        return self.model_copy(update={"training": self.training.model_copy(update=changes)})

    def misfits(self) -> Iterator[Misfit]:
        """Yields misfits between sections."""
        deciding, judging = self.training.deciding_validation, self.data.names("validation")
        if deciding is not None and f"validation.{deciding}" not in judging:
            names = [name.partition(".")[2] for name in judging if "." in name]
            known = f"one of data.validation, {kinds.either(names)}" if names else "null: data.validation has no names"
            yield Misfit("training.deciding_validation", f"must be {known}, got {deciding}")
        if isinstance(self.data.train, tuple) and self.training.max_epochs is not None:
            yield Misfit(
                "training.max_epochs",
                "must be null if data.train is a list, since each corpus ends an epoch elsewhere, got "
                f"{self.training.max_epochs}: set max_updates, or max_minutes",
            )
        tie = self.model.tie_embeddings
        if tie in ("source_target", "all") and not self.data.tokenizer.joint:
            yield Misfit(
                "model.tie_embeddings",
                f"must be none or target_output if data.tokenizer.joint is false, got {tie}: one embedding for both "
                "languages needs one vocabulary, so try data.tokenizer.joint true, or target_output",
            )
        if self.search.coverage_penalty and self.model.type == "transformer":
            yield Misfit(
                "search.coverage_penalty",
                f"must be 0 for model.type transformer, got {self.search.coverage_penalty:g}: it is for a recurrent "
                "model, whose attention is one",
            )
        named = dict.fromkeys(self.training.freeze, "freeze")
        named |= dict.fromkeys(self.training.learning_rate_factors, "learning_rate_factors")
        for name, key in named.items() if self.model.type in ("transformer", "rnn") else ():
            part, layer = [*name.split("."), ""][:2]
            layers, first = getattr(self.model, f"num_{part}_layers", 0), layer.partition("-")[0]
            if part not in PARTS:
                yield Misfit(f"training.{key}", f"must name parts of the model, {kinds.either(PARTS)}, got {name}")
            elif layers and first.isdecimal() and int(first) >= layers:
                yield Misfit(f"training.{key}", f"must name layers that there are, {part}.0-{layers - 1}, got {name}")
        batch_tokens, max_length = self.training.batch_tokens, self.data.max_length
        key = "batch_tokens"
        if batch_tokens == AUTO:  # chosen to hold the longest pair, but not above what an update shall hold
            key = "effective_batch_tokens"
            batch_tokens = self.training.effective_batch_tokens or max_length + 1
        if batch_tokens <= max_length:
            yield Misfit(
                f"training.{key}",
                f"must be above data.max_length, got {batch_tokens} and {max_length}: a batch holds at least one pair "
                f"and its closing token, so try {key} {max_length + 1} or data.max_length "
                f"{max(batch_tokens - 1, 1)}",
            )


_SMALLEST_USEFUL_PEAK = 1e-5
_LARGEST_USEFUL_ADAM_RATE = 0.1


def advice(config: Config) -> Iterator[str]:
    """Yields remarks on settings that are valid but doubtful, one line each; the run may go on."""
    data, training, longest = config.data, config.training, config.search.max_length
    if data.source_language == data.target_language:
        yield f"data.source_language and data.target_language are both {data.source_language}"
    trained = {path for name in data.names("train") for path in data.corpora[name].paths[0]}
    for name in data.names("validation", "test"):
        corpus = data.corpora[name]
        if trained & {*corpus.paths[0]}:
            key = "source" if corpus.pairs is None else "pairs"
            yield f"data.{name}.{key} is also read for training: its scores say nothing about new text"
    judging = {path: name for name in data.names("validation") for path in data.corpora[name].paths[0]}
    for name in data.names("test"):
        if common := [path for path in data.corpora[name].paths[0] if path in judging]:
            yield (
                f"data.{name} is also data.{judging[common[0]]}, which chooses the best checkpoint: its scores are "
                "better than on new text"
            )
    if longest != AUTO and longest < data.max_length:
        yield (
            f"search.max_length {longest} is below data.max_length {data.max_length}: "
            "long sentences are translated only in part"
        )
    effective = training.effective_batch_tokens
    if effective is not None and training.batch_tokens != AUTO and effective % training.batch_tokens:
        yield (
            f"training.effective_batch_tokens {effective} is no multiple of batch_tokens {training.batch_tokens}: "
            f"an update takes a whole number of batches, about {training.micro_batches}"
        )
    schedule, optimizer, rate = training.schedule, training.optimizer, training.optimizer.learning_rate
    if isinstance(schedule, NoamSettings):
        peak = rate / math.sqrt(config.model.hidden_size * schedule.warmup_updates)
        if peak < _SMALLEST_USEFUL_PEAK:
            yield (
                f"training.schedule noam peaks at a learning rate of {peak:.1g}: its "
                f"training.optimizer.learning_rate is a factor, usually 1 or 2, and it is {rate:g}"
            )
    elif optimizer.type in ("adam", "adamw") and rate >= _LARGEST_USEFUL_ADAM_RATE:
        yield f"training.optimizer.learning_rate {rate:g} is very high for {optimizer.type}: usual are 0.0001 to 0.005"
    if training.on_tie_change != "error" and training.initialize_from is None:
        yield f"training.on_tie_change {training.on_tie_change} means nothing without training.initialize_from"
    vectors = ("embeddings",) if training.pretrained_embeddings is not None else ()
    if training.initialize_from is None and (
        fresh := [part for part in training.freeze if not part.startswith(vectors)]
    ):
        yield f"training.freeze keeps {kinds.either(fresh)} as chance made it: training.initialize_from is not set"
    yield from _about_mixture(data)
    if training.max_updates is not None:
        yield from _about_length(training, training.max_updates)
        yield from _about_stages(data, training.max_updates)


def _about_mixture(data: DataSettings) -> Iterator[str]:
    """Yields that weights of corpora mean nothing."""
    if data.stages and all(stage.weights is not None for stage in data.stages) and isinstance(data.train, tuple):
        weighted = [corpus.name for corpus in data.train if corpus.weight is not None]
        if weighted:
            yield (
                f"data.train: the weights of {', '.join(weighted)} mean nothing, since each of data.stages has its own"
            )


def _about_stages(data: DataSettings, last: int) -> Iterator[str]:
    """Yields that the last stage does not begin in a run of so many updates."""
    taken = sum(stage.until.updates or 0 for stage in data.stages or () if stage.until is not None)
    if data.stages and taken >= last:
        yield (
            f"data.stages: the last one, {data.stages[-1].name or len(data.stages)}, never begins: those before take "
            f"{taken} updates or more, and training.max_updates is {last}"
        )


def _about_length(training: TrainingSettings, last: int) -> Iterator[str]:
    """Yields what comes too late in a run of so many updates."""
    interval, schedule, decay = training.validate_every_updates, training.schedule, training.ema_decay
    if interval > last:
        late = "there is no validation before the end"
        yield f"training.validate_every_updates {interval} is above max_updates {last}: {late}"
        if isinstance(schedule, PlateauSettings):
            yield f"training.schedule plateau never lowers the learning rate: {late}"
    if (stopping := training.early_stopping) is not None and stopping.patience * interval >= last:
        yield (
            f"training.early_stopping cannot act: patience {stopping.patience} times validate_every_updates "
            f"{interval} reaches max_updates {last}"
        )
    if schedule.warmup_updates >= last:
        yield (
            f"training.schedule.warmup_updates {schedule.warmup_updates} is not below max_updates {last}: "
            "the learning rate never reaches its peak"
        )
    if (vectors := training.pretrained_embeddings) is not None and vectors.freeze_updates >= last:
        yield (
            f"training.pretrained_embeddings.freeze_updates {vectors.freeze_updates} is not below max_updates {last}: "
            "the embeddings that they are for are never trained"
        )
    if decay is not None and last * (1 - decay) < 1:
        yield (
            f"training.ema_decay {decay} averages over about {round(1 / (1 - decay))} updates, but max_updates is "
            f"{last}: so short a run averages over about the last ninth of its updates, {(10 + last) // 9}"
        )
