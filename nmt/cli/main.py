"""`nmt`: the verbs, and what becomes of an error."""

import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from nmt.errors import NOT_ON_WINDOWS, NMTError
from nmt.terminal.options import Session, spread, usage_error
from nmt.terminal.streams import hold_descriptors, log_to_stderr, named_stdout, settle_stdout
from nmt.version import __version__

EXAMPLE = """\b
Example:
  nmt train configs/quickstart.yaml
  nmt train --help
"""

DONE, FAILED, WRONG_USAGE = 0, 1, 2

_ClickError: type[Exception] = type(usage_error("")).__bases__[0]  # whatever is wrong with arguments is one

VERBS = {
    "train": ("verbs.train", "train", "TRAIN_EXAMPLE", "Train a model; the same command continues a run."),
    "translate": ("verbs.translate", "translate", "TRANSLATE_EXAMPLE", "Translate text, line by line."),
    "evaluate": (
        "verbs.translate",
        "evaluate",
        "EVALUATE_EXAMPLE",
        "Print BLEU and chrF2 of a model or of translations.",
    ),
    "score": ("verbs.score", "score", "SCORE_EXAMPLE", "Print how probable given translations are."),
    "rerank": ("verbs.score", "rerank", "RERANK_EXAMPLE", "Sort n-best lists by a weighted sum of features."),
    "tune-search": ("verbs.score", "tune_search", "TUNE_EXAMPLE", "Find the best length penalty of a model."),
    "export": ("verbs.derived", "export", "EXPORT_EXAMPLE", "Export a model for another engine."),
    "build-shortlist": (
        "verbs.derived",
        "build_shortlist",
        "SHORTLIST_EXAMPLE",
        "Learn which target tokens are likely.",
    ),
    "average": ("verbs.derived", "average", "AVERAGE_EXAMPLE", "Average checkpoints of a run."),
    "adapt": ("verbs.adapt", "adapt", "EXAMPLE", "Go on with a model on other text."),
    "inspect": ("verbs.inspect_model", "run", "EXAMPLE", "Show, compare or verify what a model holds."),
    "update-vocab": ("verbs.derived", "update_vocab", "UPDATE_EXAMPLE", "Give a trained model another vocabulary."),
    "build-vocab": ("verbs.train", "build_vocab", "BUILD_EXAMPLE", "Build vocabulary and tokenizers."),
    "align": ("verbs.align", "align", "ALIGN_EXAMPLE", "Link the words of translations by a model."),
    "attention": ("verbs.align", "attention", "ATTENTION_EXAMPLE", "Draw what a model looks at."),
    "align-corpus": ("corpus_verbs.align_corpus", "run", "EXAMPLE", "Link the words of a parallel corpus."),
    "convert": ("corpus_verbs.corpora", "convert", "CONVERT_EXAMPLE", "Write a corpus in another format."),
    "split": ("corpus_verbs.corpora", "split", "SPLIT_EXAMPLE", "Take validation and test out of a corpus."),
    "vary": ("corpus_verbs.vary", "run", "EXAMPLE", "Write a varied copy of a test set or corpus."),
    "doctor": ("corpus_verbs.doctor", "run", "EXAMPLE", "Say what is wrong with corpora, and clean them."),
    "check-config": ("verbs.train", "check", "CHECK_EXAMPLE", "Check or explain settings."),
}
"""For each verb its module, the function and the example in it, and what it does."""


class _Verb(TyperCommand):
    """A verb that refuses an option of one value if it is given twice, of which the last would win in silence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments."""
        given = Counter(parameter for parameter in self.make_parser(ctx).parse_args(list(args))[2])
        for parameter, count in given.items():
            if count > 1 and not (parameter.multiple or getattr(parameter, "is_flag", False) or parameter.nargs == -1):
                raise usage_error(f"{parameter.opts[-1]} takes one value, and was given {count} times", ctx)
        return super().parse_args(ctx, args)


class _Stopped(BaseException):
    """SIGTERM came while a verb ran; not an error, so that only the clean-up sees it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the name of the program; those of the process unless given.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 128 + N after signal N (130 Ctrl-C, 143 SIGTERM, 141 if
        whoever read the output went away).
    """
    session = Session()
    if sys.platform == "win32":  # where signals, locks and limits that follow are missing
        _say(f"nmt: error: {NOT_ON_WINDOWS}", session)
        return FAILED
    hold_descriptors()
    try:
        with _stopping_at_sigterm(), named_stdout():
            code = _run(list(sys.argv[1:] if arguments is None else arguments), session)
            sys.stdout.flush()
            return code
    except _ClickError as error:
        return _report_usage(error, session)
    except BrokenPipeError:
        settle_stdout()
        return 128 + signal.SIGPIPE
    except (KeyboardInterrupt, typer.Abort):
        return 128 + signal.SIGINT
    except _Stopped:
        return 128 + signal.SIGTERM
    except Exception as error:
        _say(f"nmt: error: {error if isinstance(error, NMTError) else _out_of_memory(error)}", session)
        settle_stdout()
        return FAILED


def _out_of_memory(error: Exception) -> str:
    """What to say when memory was not enough; any other error is a defect of ours, and keeps its traceback."""
    from nmt.backend.machine import is_out_of_memory, ram_limit

    if not is_out_of_memory(error):
        raise error
    limit = ram_limit()
    there = f", there are {limit}" if limit.owner else ""
    return (
        f"memory is not enough for this command{there}: raise the limit, or let it do less at once, with smaller "
        "batches or fewer --threads"
    )


def _run(arguments: list[str], session: Session) -> int:
    """Run a verb; `command.main` is passed by, since it ends the process on its own terms."""
    named = [word for word in arguments[:1] if word in VERBS]
    command = typer.main.get_command(_app(named or VERBS))
    try:
        with command.make_context("nmt", arguments, obj=session) as context, log_to_stderr():
            command.invoke(context)
    except typer.Exit as exit_request:
        return exit_request.exit_code
    return DONE


def _app(verbs: Iterable[str]) -> typer.Typer:
    """Return the program with these verbs: to import all of them, and read their options, takes a tenth of a second."""
    app = typer.Typer(
        name="nmt",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(invoke_without_command=True, epilog=EXAMPLE)(_root)
    for name in verbs:
        place, function, example, summary = VERBS[name]
        module = import_module(f"nmt.{place}")
        verb = spread(getattr(module, function))
        app.command(name, cls=_Verb, epilog=getattr(module, example), short_help=summary)(verb)
    return app


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"nmt {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Neural machine translation: train a model from a YAML config, translate with it, score it."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(WRONG_USAGE)


def _report_usage(error: Exception, session: Session) -> int:
    """One line on what is wrong with the arguments, and where the right ones are listed."""
    context = getattr(error, "ctx", None)
    name = getattr(context, "command_path", None) or "nmt"
    message = str(getattr(error, "format_message", lambda: error)()).strip().rstrip(".")
    message = " ".join(message.replace("Value error, ", "").split())
    _say(f"nmt: error: {message} (see {name} --help)", session)
    return WRONG_USAGE


def _say(message: str, session: Session) -> None:
    """Report an error on standard error, with its traceback if that is wanted."""
    if session.debug and sys.stderr is not None:
        traceback.print_exc(file=sys.stderr)
    typer.echo(message, err=True)


@contextmanager
def _stopping_at_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the program, so that temporary files are removed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
