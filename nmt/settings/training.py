"""Settings of the section `training`: batches, limits, saving, and how the weights are updated."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from nmt import kinds
from nmt.settings.section import AUTO, PATH_ERROR, WORDS, Choice, CountOrAuto, FilePath, Misfit, Section, setting

PART_NAME = re.compile(r"[a-z_]\w*(\.(\w+|\d+-\d+))*", re.ASCII)
"""How a part of a model is named, see `nmt.models.parts`."""


def _names(value: Any) -> Any:
    """Takes a name or a list of names."""
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        if wrong := [name for name in names if not PART_NAME.fullmatch(name)]:
            raise PydanticCustomError(
                PATH_ERROR, "{problem}", {"problem": f"must name parts as in decoder.0-1, got {wrong[0]}"}
            )
        return tuple(dict.fromkeys(names))
    raise PydanticCustomError(
        PATH_ERROR, "{problem}", {"problem": f"must be a list of parts of the model, got {value}"}
    )


PartNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_names),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, WORDS: "a list of parts of the model"}),
]
"""Parts of a model."""


class Factors(dict[str, float]):
    """Numbers by name, which do not change: settings are frozen, and have a hash."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.dict_schema()  # what the JSON Schema writes its default by


PartFactors = Annotated[
    dict[Annotated[str, Field(pattern=PART_NAME.pattern)], Annotated[float, Field(gt=0)]],
    AfterValidator(Factors),
    PlainSerializer(dict),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}, WORDS: "a number for each part"}),
]
"""Numbers by the names of parts of a model."""

Metric = Literal["bleu", "loss"]

_RATE_HELP = "Learning rate at the peak of the schedule; for noam, the factor in front of its formula (usually 1 or 2)."
_CLIP_HELP = "Largest global norm of the gradient; a longer one is scaled down. null: never."
_WARMUP_HELP = "Updates over which the learning rate rises linearly to its peak."


class OptimizerSettings(Section):
    """What the settings of every optimizer have, whatever its kind."""

    @property
    def slots(self) -> int:
        """Numbers that the optimizer keeps a weight; of a kind that does not say it as many as Adam."""
        return 2

    if TYPE_CHECKING:
        type: str
        learning_rate: float
        clip_norm: float | None


OPTIMIZERS = Choice(kinds.OPTIMIZERS, needs=("learning_rate", "clip_norm"), aside=("clip_norm",))
register_optimizer = OPTIMIZERS.register


class _AnyAdamSettings(OptimizerSettings):
    """What Adam and AdamW share."""

    type: str
    learning_rate: float = setting(0.001, _RATE_HELP, above=0)
    beta_1: float = setting(0.9, "Decay of the mean of the gradient.", at_least=0, below=1)
    beta_2: float = setting(0.98, "Decay of the mean of the squared gradient.", at_least=0, below=1)
    epsilon: float = setting(1e-9, "Added to the root in the denominator of the update.", above=0)
    clip_norm: float | None = setting(1.0, _CLIP_HELP, above=0)


@OPTIMIZERS.register("adam")
class AdamSettings(_AnyAdamSettings):
    """Adam (Kingma and Ba, 2015)."""

    type: Literal["adam"] = setting("adam", "Adam (Kingma and Ba, 2015).")


@OPTIMIZERS.register("adamw")
class AdamWSettings(_AnyAdamSettings):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    type: Literal["adamw"] = setting("adamw", "Adam with decoupled weight decay (Loshchilov and Hutter, 2019).")
    weight_decay: float = setting(
        0.01, "Share of each weight that an update takes off, times the learning rate.", at_least=0
    )


@OPTIMIZERS.register("sgd")
class SGDSettings(OptimizerSettings):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = setting("sgd", "Stochastic gradient descent.")
    learning_rate: float = setting(0.1, _RATE_HELP, above=0)
    momentum: float = setting(0.0, "Share of the last update that is repeated.", at_least=0, below=1)
    nesterov: bool = setting(False, "Look ahead along the momentum (Nesterov).")
    clip_norm: float | None = setting(1.0, _CLIP_HELP, above=0)

    @property
    def slots(self) -> int:
        """Numbers that the optimizer keeps a weight."""
        return 1 if self.momentum else 0

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if Nesterov's momentum has no momentum."""
        if self.nesterov and not self.momentum:
            yield Misfit("nesterov", "needs a momentum above 0, got momentum 0.0: try momentum 0.9 or nesterov false")


class ScheduleSettings(Section):
    """What the settings of every schedule have, whatever its kind."""

    if TYPE_CHECKING:
        type: str
        warmup_updates: int


SCHEDULES = Choice(kinds.SCHEDULES, needs=("warmup_updates",), aside=("metric",))
register_schedule = SCHEDULES.register


@SCHEDULES.register("inverse_sqrt")
class InverseSqrtSettings(ScheduleSettings):
    """Falls with the square root of the update."""

    type: Literal["inverse_sqrt"] = setting("inverse_sqrt", "After the warm-up: peak * sqrt(warmup_updates / update).")
    warmup_updates: int = setting(4000, _WARMUP_HELP, at_least=1)


@SCHEDULES.register("constant")
class ConstantSettings(ScheduleSettings):
    """The peak learning rate from the warm-up on."""

    type: Literal["constant"] = setting("constant", "The peak learning rate from the warm-up on.")
    warmup_updates: int = setting(0, _WARMUP_HELP, at_least=0)


@SCHEDULES.register("noam")
class NoamSettings(ScheduleSettings):
    """The schedule of Vaswani et al. (2017), section 5.3."""

    type: Literal["noam"] = setting(
        "noam", "Vaswani et al. (2017): learning_rate * hidden_size^-0.5 * min(update^-0.5, update * warmup^-1.5)."
    )
    warmup_updates: int = setting(4000, _WARMUP_HELP, at_least=1)


@SCHEDULES.register("plateau")
class PlateauSettings(ScheduleSettings):
    """Lowers the learning rate when the validation metric stops improving."""

    type: Literal["plateau"] = setting("plateau", "Lowered when the validation metric stops improving.")
    metric: Metric = setting("loss", "The validation metric that is watched.")
    factor: float = setting(0.5, "The learning rate is multiplied by it.", above=0, below=1)
    patience: int = setting(3, "Validations without improvement before the rate is lowered.", at_least=1)
    minimum_learning_rate: float = setting(1e-6, "The learning rate is not lowered below it.", at_least=0)
    warmup_updates: int = setting(0, _WARMUP_HELP, at_least=0)


class EarlyStoppingSettings(Section):
    """Ends a run that no longer improves."""

    metric: Metric = setting("bleu", "The validation metric that is watched.")
    patience: int = setting(10, "Validations without improvement before the run ends.", at_least=1)


class PretrainedSettings(Section):
    """Word vectors as the first rows of embeddings, from text files: a token and its numbers on each line."""

    source: FilePath | None = setting(
        None,
        "The .vec file (word2vec, fastText or GloVe as text, plain or compressed) for the source embedding, as wide as "
        "that. It is read when the run begins.",
    )
    target: FilePath | None = setting(
        None,
        "The same for the target embedding, and for the output projection if that is tied to it. If source and target "
        "are tied, a token of both files has the mean of both.",
    )
    freeze_updates: int = setting(0, "Updates for which these embeddings stay as they are.", at_least=0)

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if there is no file."""
        if self.source is None and self.target is None:
            yield Misfit("source", "and target must not both be null: name a file, or leave pretrained_embeddings out")


Tokenization = Literal[
    "auto", "13a", "zh", "char", "intl", "none", "ja-mecab", "ko-mecab", "flores101", "flores200", "spBLEU-1K"
]
"""How sacreBLEU cuts text, by its own names; the last five need a package or a download."""


class TrainingSettings(Section):
    """Batches, limits, saving, and how the weights are updated."""

    batch_tokens: CountOrAuto = setting(
        4096,
        "Padded tokens of the longer side in one batch, at most. auto: a power of two that fits into the memory there "
        "is when training begins, at most 4096 on a processor and 8192 on a GPU; the run keeps it.",
    )
    effective_batch_tokens: int | None = setting(
        None,
        "Tokens an update, on all GPUs and machines together: the gradients of effective_batch_tokens / batch_tokens "
        "batches are summed. null: one batch each.",
        at_least=1,
    )
    max_updates: int | None = setting(100000, "The run ends after so many updates.", may_change=True, at_least=1)
    max_epochs: int | None = setting(None, "The run ends after so many passes.", may_change=True, at_least=1)
    max_minutes: float | None = setting(
        None,
        "The run ends after so many minutes of wall-clock time, of which the last validation gets as much as the one "
        "before it took.",
        may_change=True,
        above=0,
    )
    validate_every_updates: int = setting(
        500, "Updates from one validation to the next; a new best is saved.", may_change=True, at_least=1
    )
    save_every_updates: int = setting(500, "Updates from one checkpoint to the next.", may_change=True, at_least=1)
    log_every_updates: int = setting(50, "Updates from one line of the log to the next.", may_change=True, at_least=1)
    keep_last: int = setting(3, "The newest checkpoints that are kept.", may_change=True, at_least=1)
    keep_best: int = setting(1, "The best checkpoints that are kept besides.", may_change=True, at_least=1)
    loss: Annotated[str, Choice(kinds.LOSSES)] | None = setting(
        None,
        "What an update makes smaller. blockwise and plain are the cross-entropy with label smoothing, computed a "
        "block of tokens at a time, or all logits at once. null: plain if compile is xla, else blockwise. "
        "Validations report the cross-entropy, whatever is chosen.",
    )
    label_smoothing: float = setting(0.1, "Probability taken from the right token and spread.", at_least=0, below=1)
    ema_decay: float | None = setting(
        None,
        "Decay of an exponential moving average of the weights, used to validate and translate. null: none is kept.",
        above=0,
        below=1,
    )
    validate_both_weights: bool = setting(
        True,
        "While a moving average is young, it may be worse than the weights themselves: validate them as well, and use "
        "the better to translate. It costs their loss, and their translations if that is the lower one.",
        may_change=True,
        before=False,
    )
    initialize_from: FilePath | None = setting(
        None,
        "Begin with the weights and tokenizers of another model directory: RUN, RUN@best, RUN@latest or RUN@update-N. "
        "Optimizer, schedule and counters are new. Read until the run has a checkpoint of its own.",
    )
    pretrained_embeddings: PretrainedSettings | None = setting(
        None, "Begin with word vectors that were learned elsewhere. null: none."
    )
    on_tie_change: Literal["error", "average", "source", "target", "output"] = setting(
        "error",
        "If initialize_from has other weight ties: matrices that become one are averaged, or taken from one role; "
        "one that becomes several is copied; error refuses. Without initialize_from it means nothing.",
    )
    freeze: PartNames = setting(
        (),
        "Parts of the model that keep their weights: embeddings, output, encoder, decoder, or what they own, such as "
        "embeddings.source, encoder.0-2 or decoder.1.cross_attention, layers counted from 0. A tied matrix is frozen "
        "in all its roles if one of them is named. What is frozen has no gradient and no slot of the optimizer.",
    )
    learning_rate_factors: PartFactors = setting(
        Factors(),
        "What the learning rate of parts is multiplied by, by the names that freeze takes, such as {encoder: 0.1}. A "
        "variable of several parts has the smallest.",
    )
    pull: float | None = setting(
        None,
        "Adds pull / 2 times the squared distance from the weights of initialize_from to the loss (L2-SP, Li et al. "
        "2018), against forgetting. Their copy in the model directory, anchor.safetensors, is needed as long as the "
        "run goes on. null: none.",
        above=0,
    )
    optimizer: Annotated[OptimizerSettings, OPTIMIZERS] = setting(AdamSettings(), "How gradients become updates.")
    schedule: Annotated[ScheduleSettings, SCHEDULES] = setting(InverseSqrtSettings(), "How the learning rate changes.")
    early_stopping: EarlyStoppingSettings | None = setting(
        None, "Ends a run that no longer improves; {} takes its defaults, null never.", may_change=True
    )
    on_validation_change: Literal["error", "new_scores"] = setting(
        "error",
        "If the text of data.validation changed since the last checkpoint: error refuses to go on; new_scores goes "
        "on, and best score, patience and what the schedule remembers of validations begin anew.",
        may_change=True,
    )
    deciding_validation: str | None = setting(
        None,
        "The name of the corpus in data.validation whose scores pick the best checkpoint, end the run early and lower "
        "the learning rate; null: the first. All are measured.",
        before=None,
    )
    validation_beam_size: int = setting(1, "Beam of the validation's translations; 1 is greedy search.", at_least=1)
    validation_tokenization: Tokenization | None = setting(
        AUTO,
        "How sacreBLEU cuts text for the BLEU of validations, and of `nmt evaluate` unless told. auto: what suits "
        "data.target_language, or the script of the validation corpus if the code says nothing, found when a run "
        "begins, which keeps it. null: as in runs of version 0.1.0, which cut only zh, ja, th, lo, km and my otherwise "
        "than by 13a.",
        before=None,
    )
    sample_translations: int = setting(
        3, "Translations shown in the log at each validation.", may_change=True, at_least=0
    )
    tensorboard: bool = setting(True, "Write TensorBoard files to logs/ in the model directory.", may_change=True)
    compile: Literal["graph", "xla"] = setting(
        "graph", "How the training step is compiled; xla compiles anew for each shape.", may_change=True
    )
    precision: Literal["auto", "float32", "bfloat16"] = setting(
        "auto",
        "The type in which a training step multiplies matrices. Weights, losses, the time loop of the recurrent model "
        "and everything after training stay float32. bfloat16 needs a processor or GPUs that have it; it was measured "
        "to be faster on a processor, and has not been tried on a GPU. auto: bfloat16 if the machine has it and "
        "compile is graph, else float32; a run that goes on keeps what it began with.",
    )
    distribution: Literal["none", "mirrored", "multi_worker"] = setting(
        "none",
        "On what to train together: mirrored takes all GPUs of the machine, multi_worker all machines that the "
        "environment variable TF_CONFIG lists. Each GPU or machine takes whole batches; if effective_batch_tokens "
        "is null, an update takes one batch each.",
        may_change=True,
    )
    deterministic: bool = setting(
        False,
        "Let TensorFlow use only operations that repeat their results bit for bit, for runs on a GPU that must be "
        "repeatable; what it costs there has not been measured. On a CPU updates repeat without it on as many cores "
        "(--threads sets how many), and it costs 0 to 7 % of their time.",
        may_change=True,
    )

    on_short_memory: Literal["refuse", "warn"] = setting(
        "refuse", "What to do if training will need more memory than there is, by estimate.", may_change=True
    )

    @property
    def settled_batch_tokens(self) -> int:
        """`batch_tokens`, which must be a number by now.

        Raises:
            ValueError: it is still `auto`, which `nmt.training.batch_size` turns into a number.
        """
        if self.batch_tokens == AUTO:
            raise ValueError("training.batch_tokens must be a number by now, got auto")
        return self.batch_tokens

    @property
    def micro_batches(self) -> int:
        """Batches an update, once `batch_tokens` is a number."""
        batch_tokens = self.settled_batch_tokens
        return round((self.effective_batch_tokens or batch_tokens) / batch_tokens)

    def misfits(self) -> Iterator[Misfit]:
        """Yields misfits of the limits, the batch and the learning rate."""
        if not (self.max_updates or self.max_epochs or self.max_minutes or self.early_stopping):
            yield Misfit(
                "max_updates",
                "is null, and nothing else ends the run: set max_updates, max_epochs, max_minutes or early_stopping",
            )
        if self.pretrained_embeddings is not None and self.initialize_from is not None:
            yield Misfit("pretrained_embeddings", "must be null if initialize_from is given, whose embeddings are used")
        if self.pull is not None and self.initialize_from is None:
            yield Misfit("pull", f"needs initialize_from, whose weights it pulls to, got {self.pull}: try null")
        if self.precision == "bfloat16" and self.compile == "xla":
            yield Misfit("precision", "must be float32 or auto if compile is xla, got bfloat16: try compile graph")
        if self.loss == "blockwise" and self.compile == "xla":
            yield Misfit("loss", "must be plain or null if compile is xla, got blockwise: try null")
        effective = self.effective_batch_tokens
        if effective is not None and self.batch_tokens != AUTO and effective < self.batch_tokens:
            yield Misfit(
                "effective_batch_tokens",
                f"must be at least batch_tokens, got {effective} and {self.batch_tokens}: "
                f"try batch_tokens {effective}, or effective_batch_tokens null",
            )
        if self.distribution != "none" and self.compile == "xla":
            yield Misfit("compile", f"must be graph if distribution is {self.distribution}, got xla: try graph")
        rate = self.optimizer.learning_rate
        if isinstance(self.schedule, PlateauSettings) and self.schedule.minimum_learning_rate >= rate:
            yield Misfit(
                "schedule.minimum_learning_rate",
                f"must be below optimizer.learning_rate, got {self.schedule.minimum_learning_rate} and {rate}: "
                f"try {rate / 1000:g}",
            )
