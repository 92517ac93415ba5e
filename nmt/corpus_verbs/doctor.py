"""`nmt doctor`: what is wrong with corpora, found before hours are spent on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from nmt.corpus_verbs.corpora import ReadingOptions
from nmt.terminal import options
from nmt.terminal.streams import json_line, line_counter, text_output

if TYPE_CHECKING:
    from nmt.config import Config
    from nmt.corpora.convert import Output
    from nmt.data import Corpus
    from nmt.doctor.findings import Examination

EXAMPLE = """\b
Examples:
  nmt doctor configs/quickstart.yaml --html doctor.html
  nmt doctor "news.{de,en}.gz" --clean "clean/news.{de,en}.gz" --check LengthRatioFilter=2.5
  zcat news.tsv.gz | nmt doctor - --from tsv --languages de,en --json
"""


_SHARE_KEPT = 0.7


class Cleaning(NamedTuple):
    """What is written, and what decides about it; a group of options."""

    clean: str | None = options.value("--clean", "OUT", "Write what no check drops, named as for nmt convert.")
    to_format: str | None = options.value("--to", "FORMAT", "Of OUT, if no ending says it.")
    dual: tuple[Path, Path] | None = typer.Option(
        None, "--dual", metavar="FORWARD REVERSE", help="nmt score of the targets, and by another model of the sources."
    )
    domain: tuple[Path, Path] | None = typer.Option(
        None, "--domain", metavar="IN GENERAL", help="nmt score by a model of the domain, and by a general one."
    )
    keep: float | None = typer.Option(
        None, "--keep", metavar="SHARE", min=0, max=1,
        help="Of the pairs left, the share with the best scores of --dual or --domain; 0.7 unless given.",
    )  # fmt: skip


class Sources(NamedTuple):
    """What is looked at; those with a tag may be of other languages."""

    config: Config | None
    corpora: dict[str, Corpus]
    languages: tuple[str, str]
    segmentation: str
    tagged: list[str]


def run(
    inputs: list[str] = typer.Argument(
        metavar="CONFIG|INPUT...", help="Configs (.yaml), or files with pairs as nmt convert reads them.",
        show_default=False,
    ),
    check: list[str] | None = typer.Option(
        None, "--check", metavar="NAME=VALUE", help="Threshold of a check, or drop, tell or off; may be repeated."
    ),
    as_json: options.AsJson = False,
    html: Path | None = options.value("--html", "FILE", "Also write a page with histograms and examples."),
    measure: bool = options.flag("--measure", "Also train for 30 updates in a temporary directory, and say how fast."),
    overrides: options.Overrides = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
    *,
    reading: ReadingOptions,
    cleaning: Cleaning,
) -> None:  # fmt: skip
    """Look at the corpora of a run, or at any other, and say what is wrong with them, what it costs, and what helps.

    The exit status is 1 if a training would be wasted. docs/data.md has the checks and their thresholds.
    """
    from nmt.corpora.convert import on_disk
    from nmt.doctor import report
    from nmt.doctor.examination import examine
    from nmt.filters import checks

    settled = checks.settled_checks(check or ())
    sources = _sources(inputs, reading, overrides)
    places = _places_of(cleaning, sources) if cleaning.clean else {}
    if (cleaning.dual or cleaning.domain) and not cleaning.clean:
        raise options.usage_error("--dual and --domain decide what --clean OUT writes: give it too")
    if cleaning.keep is not None and not (cleaning.dual or cleaning.domain):
        raise options.usage_error("--keep takes the pairs with the best scores: give --dual or --domain too")
    if measure and sources.config is None:
        raise options.usage_error("--measure trains by a config, and files were given")
    with ExitStack() as stack:
        if cleaning.clean or "WordAlignFilter" in settled:  # which read it again
            for name in _trained_on(sources):
                sources.corpora[name] = stack.enter_context(on_disk(sources.corpora[name]))
        with line_counter(waiting="reading") as count:
            how: dict[str, Any] = {"languages": sources.languages, "segmentation": sources.segmentation}
            results = examine(sources.corpora, settled, **how, tagged=sources.tagged, count=count)
        remarks = _look_ahead(sources.config, results, measure=measure)
        cleaners = _prepared(places, cleaning, sources, results)
        if html is not None:
            with text_output(html) as write:
                write(report.as_html(results, remarks, title=f"nmt doctor {' '.join(inputs)}"))
        if as_json:
            typer.echo(json_line(report.as_json(results, remarks)), nl=False)
        else:
            for line in report.text_lines(results, remarks):
                typer.echo(line)
        for cleaner in cleaners:
            typer.echo(cleaner(), err=True)
    if report.is_fatal(results):
        raise typer.Exit(1)


def _sources(inputs: Sequence[str], reading: ReadingOptions, overrides: list[str] | None) -> Sources:
    """The corpora that the command line names."""
    from nmt.config import load
    from nmt.corpora import convert
    from nmt.data.corpus import Corpus
    from nmt.errors import ConfigError
    from nmt.settings.section import CONFIG_NAME

    if all(name.lower().endswith((".yaml", ".yml")) for name in inputs):
        if any(reading):
            raise options.usage_error("--from, --languages and columns are for files, and a config has its own")
        config = load([Path(name) for name in inputs], overrides or (), announce=True)
        data = config.data
        corpora = {name: Corpus.of(data, name) for name in data.corpora}
        tagged = [name for name in corpora if data.tag_of(name) is not None]
        return Sources(config, corpora, (data.source_language, data.target_language), data.segmentation, tagged)
    if overrides:
        raise options.usage_error("--set changes a config, and files were given")
    if folders := [name for name in inputs if Path(name).is_dir()]:
        given = folders[0]
        raise ConfigError(f"{given} is a directory: give {Path(given) / CONFIG_NAME}, the config of its run, or files")
    layout = reading.layout(*inputs)
    return Sources(None, {"corpus": convert.open_corpus(inputs, layout)}, layout.languages, "none", [])


def _trained_on(sources: Sources) -> list[str]:
    """The corpora that are cleaned: those to train on."""
    from nmt.doctor.findings import is_judging

    return [name for name in sources.corpora if not is_judging(name)]


def _look_ahead(config: Config | None, results: dict[str, Examination], *, measure: bool) -> list[str]:
    """What the run of a config will make of its corpora: tokens, memory and speed."""
    from nmt.doctor import whole

    result = next(iter(results.values()))
    if config is None or not result.pairs:
        return []
    from nmt.recipes.build_vocabulary import find_text
    from nmt.recipes.train import start_session

    text, longest, remarks = find_text(config), (config.data.max_length + 1,) * 2, list[str]()
    if text is None:
        remarks.append(
            f"tokens: {config.model_directory} has no vocabulary of these settings yet: after nmt build-vocab the "
            "doctor also says what is unknown, does not come back, or is longer than data.max_length"
        )
    else:
        for each in results.values():
            each.findings += whole.token_findings(each, text, max_length=config.data.max_length)
    start_session(config)

    from nmt.recipes import forecast

    remarks.append(forecast.memory_needed(config, text, longest, result.pairs))
    if measure:
        remarks.append(forecast.measured_speed(config, [pair for _, pair in sorted(result.sample)], text))
    return remarks


def _places_of(cleaning: Cleaning, sources: Sources) -> dict[str, Output]:
    """Where the clean text of each corpus to train on goes, by name; refused before the corpus is read."""
    from nmt.corpora.convert import STANDARD_STREAM, Output
    from nmt.errors import ConfigError

    output = Output.parse(str(cleaning.clean), kind=cleaning.to_format, languages=sources.languages)
    names = _trained_on(sources)
    if output.name == STANDARD_STREAM:
        raise ConfigError("--clean writes two files, got standard output: name a file")
    if not (folder := Path(output.source).parent).is_dir():
        raise ConfigError(f"--clean {output.name}: there is no folder {folder}")
    if len(names) == 1:
        places = {names[0]: output}
    elif cleaning.dual or cleaning.domain:
        raise ConfigError(
            f"--dual and --domain score one corpus, got a config with {len(names)}: give the files of one in its place"
        )
    else:
        places = {name: output.named_after(name.partition(".")[2]) for name in names}
    for name, place in places.items():
        place.refuse_inputs(sources.corpora[name])
    return places


def _prepared(
    places: dict[str, Output], cleaning: Cleaning, sources: Sources, results: dict[str, Examination]
) -> list[Callable[[], str]]:
    """What writes each corpus to train on without what checks or scores drop, and tells of it."""
    import numpy as np

    from nmt.doctor import cleaning as cleaner

    def prepared(name: str, own: Output) -> Callable[[], str]:
        corpus, result = sources.corpora[name], results[name]
        if broken := [finding.sentence for finding in result.findings if finding.check == "Unreadable"]:
            return lambda: f"{own.name}: not written: {broken[0]}"
        scores = []
        if cleaning.dual:
            scores.append(cleaner.dual_score(*(cleaner.read_scores(path, result.pairs) for path in cleaning.dual)))
        if cleaning.domain:
            scores.append(cleaner.domain_score(*(cleaner.read_scores(path, result.pairs) for path in cleaning.domain)))
        if scores:
            share = _SHARE_KEPT if cleaning.keep is None else cleaning.keep
            cleaner.drop_low_scores(result, np.prod(scores, axis=0), share)
        reasons = cleaner.reasons_path(own)

        def write() -> str:
            with line_counter(total=result.pairs, waiting="cleaning") as count:
                told = cleaner.clean(corpus, result, own, reasons, open_text=text_output, count=count)
            return f"{own.name}: {told}; reasons: {reasons}"

        return write

    return [prepared(*each) for each in places.items()]
