"""Options that several verbs share."""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from nmt.terminal.streams import show_everything

DASH = Path("-")
"""The path that stands for standard input or output."""


class WeightsKind(StrEnum):
    """Which weights of a checkpoint."""

    EMA = "ema"
    RAW = "raw"


@dataclass
class Session:
    """What one call of the command line knows beyond the arguments of its verb.

    debug: whether errors show where they came from.
    """

    debug: bool = False


def _note_debug(context: typer.Context, value: bool) -> bool:
    if value and isinstance(context.obj, Session):
        context.obj.debug = True
        show_everything()
    return value


def _refuse_repeated_keys(overrides: list[str] | None) -> list[str] | None:
    """Refuse a setting that is given two values, of which the last would win in silence."""
    for key, count in Counter(override.partition("=")[0].strip() for override in overrides or ()).items():
        if count > 1:
            raise usage_error(f"--set {key} takes one value, and was given {count} times")
    return overrides


def _import_files(paths: list[Path] | None) -> list[Path] | None:
    """Load a user's own files, before anything is read that names their kinds."""
    if paths:
        from nmt.backend import session

        session.import_files(paths)
    return paths


def value(names: str, metavar: str, words: str, *, least: float | None = None, default: Any = None) -> Any:
    """An option that takes a value: a parameter's default, or within the type of one that several verbs share.

    Args:
        names: as its help shows them, `-o, --output`.
        metavar: what stands for the value there.
        words: what it means.
        least: smallest number that it takes.
        default: of a parameter; a shared type leaves it to the verb.
    """
    return typer.Option(default, *names.split(", "), metavar=metavar, help=words, min=least)


COLUMN = "Number or name of a column of tsv, field of jsonl, language of tmx or zip."


def column_of(given: str | None) -> int | str | None:
    """A column as the command line has it: a number, or a name."""
    return int(given) if given and given.isdecimal() and int(given) else given


def flag(name: str, words: str) -> Any:
    """An option without a value: the default of a parameter.

    Args:
        name: as its help shows it.
        words: what it means.
    """
    return typer.Option(False, name, help=words)


ModelDirectory = Annotated[
    Path, typer.Argument(metavar="RUN", help="Model directory of a trained model.", show_default=False)
]
ModelDirectories = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        help="Model directory of a trained model; RUN@best, RUN@latest or RUN@update-N names a checkpoint. Several "
        "translate together, and the first says how to search.",
        show_default=False,
    ),
]
MemberWeights = Annotated[
    str | None,
    value("--member-weights", "W,W,...", "Of each RUN in the mean of several; equal unless given.", default=...),
]
LogLinear = Annotated[
    bool, typer.Option("--log-linear", help="Take the mean of log probabilities of several RUN, not of probabilities.")
]
ConfigFiles = Annotated[
    list[Path],
    typer.Argument(metavar="CONFIG...", help="YAML file; several are merged from left to right.", show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        callback=_refuse_repeated_keys,
        help="Change a setting, such as seed=7; may be repeated for others.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, metavar="N", help="Processor cores to use; all unless given."),
]
Imports = Annotated[
    list[Path] | None,
    typer.Option(
        "--import",
        metavar="FILE",
        callback=_import_files,
        help="Load a Python file with kinds of your own, such as a schedule; may be repeated.",
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", callback=_note_debug, is_eager=True, help="Show the traceback of an error, and more logs."),
]


class Engine(StrEnum):
    """What computes translations."""

    AUTO = "auto"
    KERAS = "keras"
    CTRANSLATE2 = "ctranslate2"


EngineChoice = Annotated[
    Engine | None, typer.Option("--engine", help="What computes, in place of search.engine; one line says which does.")
]
Checkpoint = Annotated[
    str | None,
    value("--checkpoint", "WHICH", "best, latest or update-N; the best, else the latest, unless given.", default=...),
]
Weights = Annotated[
    WeightsKind | None,
    typer.Option(
        "--weights",
        help="The moving average or the last weights; unless given the average if kept, or what validated better.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, with all there is to say.")]
BeamSize = Annotated[
    int | None,
    value("--beam-size", "K", "Hypotheses kept a sentence; as configured unless given.", least=1, default=...),
]
Tag = Annotated[
    str | None,
    value("--tag", "TAG", "The tag of data.train that the model reads with each line.", default=...),
]
LengthPenalty = Annotated[
    float | None,
    value("--length-penalty", "X", "More gives longer text; as configured unless given.", least=0, default=...),
]
Shortlist = Annotated[
    bool | None,
    typer.Option(
        "--shortlist/--no-shortlist",
        help="Look only at target tokens that the source makes likely; see nmt build-shortlist.",
        show_default=False,
    ),
]


class ModelOptions(NamedTuple):
    """How models are opened; a group of options, see `spread`."""

    checkpoint: Checkpoint = None
    weights: Weights = None
    member_weights: MemberWeights = None
    log_linear: LogLinear = False
    overrides: Overrides = None
    threads: Threads = None
    imports: Imports = None
    debug: Debug = False

    def arguments(self, **search: float | None) -> dict[str, Any]:
        """The arguments of a recipe that opens models, `threads` apart.

        Args:
            search: settings of the search that have an option of their own; None if that is not given.
        """
        return {
            "checkpoint": self.checkpoint,
            "weights": self.weights,
            "member_weights": member_weights(self.member_weights),
            "log_linear": self.log_linear,
            "overrides": with_search(self.overrides, search),
        }


def spread(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb as typer reads it: each parameter whose type is a group of options becomes those options.

    Args:
        verb: a function. A group is a NamedTuple of options, each with a default.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if hasattr(hint, "_field_defaults")}
    parameters = list[inspect.Parameter]()
    for name, parameter in inspect.signature(verb).parameters.items():
        if name in groups:
            fields = get_type_hints(groups[name], include_extras=True)
            defaults = groups[name]._field_defaults
            parameters += [
                parameter.replace(name=field, default=defaults[field], annotation=fields[field]) for field in defaults
            ]
        else:
            parameters.append(parameter.replace(annotation=hints[name]))

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field: given.pop(field) for field in group._fields})
        verb(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def usage_error(message: str, context: Any = None) -> Exception:
    """What to raise when arguments do not fit each other; `nmt.cli.main` reports it with exit code 2.

    Args:
        message: what is wrong.
        context: of the verb, whose help is named then; what runs already has one.
    """
    # typer brings its own copy of click, or needs the package, depending on its version: so the class is reached.
    return typer.BadParameter.__bases__[0](message, context)


def member_weights(text: str | None) -> list[float] | None:
    """The numbers of `--member-weights`."""
    try:
        return None if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise usage_error(f"--member-weights takes a number for each RUN, as in 0.7,0.3, got {text}") from None


def with_search(overrides: list[str] | None, options: Mapping[str, float | None]) -> list[str]:
    """All overrides of settings, with those that have an option of their own, which may not be given both ways.

    Args:
        overrides: of the form "search.beam_size=4".
        options: settings of the search, None if the option is not given.
    """
    given = {f"search.{name}": value for name, value in options.items() if value is not None}
    for override in overrides or ():
        if (key := override.partition("=")[0].strip()) in given:
            option = key.removeprefix("search.").replace("_", "-")
            raise usage_error(f"--{option} and --set {key} give one setting two values: leave one of them out")
    return [*(overrides or []), *(f"{key}={value}" for key, value in given.items())]
