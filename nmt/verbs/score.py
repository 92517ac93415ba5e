"""Verbs that say how good translations are, and sort them: `nmt score`, `nmt rerank` and `nmt tune-search`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nmt.errors import DataError
from nmt.terminal import options
from nmt.terminal.streams import CHUNK_LINES, file_chunks, json_line, line_counter, stdin_chunks, text_output
from nmt.verbs.translate import Format

if TYPE_CHECKING:
    from nmt.scoring.forced import PairScore
    from nmt.scoring.items import Item
    from nmt.tasks.score import NBestList
    from nmt.tasks.tune_search import Point, Searched, TunedSearch

Normalization = StrEnum("Normalization", {"NONE": "none", "TOKENS": "tokens", "LENGTH_PENALTY": "length-penalty"})
ListFormat = StrEnum("ListFormat", ["TEXT", "LIST"])

SCORE_EXAMPLE = """\b
Examples:
  nmt score runs/travel --source examples/travel/test.es.gz --target examples/travel/test.en.gz
  nmt score runs/travel --source hotel.es --target hotel.en --format jsonl --normalize tokens
  nmt translate runs/travel --n-best 5 --format jsonl < hotel.es | nmt score runs/travel-2 --n-best -
"""


def score(
    directories: options.ModelDirectories,
    source: Path | None = options.value("--source", "FILE", "Source lines."),
    target: Path | None = options.value("--target", "FILE", "Their translations, line for line."),
    pairs: Path | None = options.value("--pairs", "FILE", "JSON lines of source, and target or target_ids, instead."),
    n_best: Path | None = options.value("--n-best", "FILE", "JSON lines of nmt translate --n-best, instead."),
    output_path: Path = options.value("-o, --output", "FILE", "Where to write.", default=options.DASH),
    output_format: Format | None = typer.Option(
        None,
        "--format",
        help="text: a score a line; tsv: line, rank, score, log probability, tokens and text; jsonl: also of each "
        "token. jsonl for --n-best unless given, else text.",
    ),
    normalization: Normalization = typer.Option(
        Normalization.NONE, "--normalize", help="What the log probability is divided by."
    ),
    tag: options.Tag = None,
    name: str = options.value("--name", "NAME", "Of the field that --n-best adds.", default="model"),
    length_penalty: options.LengthPenalty = None,
    batch_size: int | None = options.value("--batch-size", "N", "Pairs scored at once.", least=1),
    *,
    model: options.ModelOptions,
) -> None:
    """Print the log probability of given translations; perplexity is logged at the end.

    The same token ids have the score that nmt translate reports. Text is cut by the tokenizer, which need not give the
    ids that a search wrote.
    """
    from nmt.tasks import score as recipe

    if (source is None) != (target is None) or [source, pairs, n_best].count(None) != 2:
        raise options.usage_error("give --source and --target, or --pairs, or --n-best")
    if length_penalty is not None and normalization is not Normalization.LENGTH_PENALTY:
        raise options.usage_error("--length-penalty is for --normalize length-penalty: give that too")
    read = pairs or n_best
    files = {"--source": source, "--target": target, "--pairs": pairs, "--n-best": n_best}
    inputs = [(flag, None if path == options.DASH else path) for flag, path in files.items() if path]
    output = None if output_path == options.DASH else output_path
    prepared = recipe.prepare_model(
        directories,
        threads=model.threads,
        inputs=inputs,
        output_paths=[output],
        tagged=bool(tag or read),
        **model.arguments(length_penalty=length_penalty, batch_size=batch_size),
    )
    chunks = read_items(source, target, read or options.DASH, n_best=n_best is not None, tag=tag)
    chosen = output_format or (Format.JSONL if n_best else Format.TEXT)

    penalty = {"length_penalty": prepared.search.length_penalty, "offset": prepared.search.length_penalty_offset}
    with text_output(output) as write, line_counter(hidden=output is None) as count:
        scored = recipe.score_items(chunks, prepared.open(), progress=count)
        for number, (item, scores) in enumerate(scored, 1):
            numbers = [each.normalized(normalization.value, **penalty) for each in scores]
            if chosen is Format.TEXT:
                write("".join(f"{each:.6f}\n" for each in numbers))
            elif chosen is Format.TSV:
                of_line = zip(item.targets, scores, numbers, strict=True)
                write("".join(_tsv(number, *each) for each in enumerate(of_line, 1)))
            else:
                write(_jsonl(number, item, scores, numbers, None if n_best is None else name))


def read_items(
    source: Path | None, target: Path | None, records: Path, *, n_best: bool, tag: str | None
) -> Iterator[list[Item]]:
    """Read two files line by line, or if there are none JSON lines of pairs, or of n-best lists, as they come.

    Args:
        source: a file, or None.
        target: likewise.
        records: JSON lines, or `-`.
        n_best: whether these are n-best lists.
        tag: of all that name none.
    """
    from nmt.scoring.items import pairs_of, read_n_best, read_pair

    if source and target:
        yield from pairs_of(source, target, chunk_lines=CHUNK_LINES, tag=tag)
        return
    read, number = read_n_best if n_best else read_pair, 0
    for chunk in stdin_chunks() if records == options.DASH else file_chunks(records):
        yield [read(line, f"line {number + place}", tag) for place, line in enumerate(chunk, 1)]
        number += len(chunk)


def _tsv(number: int, rank: int, scored: tuple[Any, PairScore, float]) -> str:
    target, result, value = scored
    text = " ".join(target.split("\t")) if isinstance(target, str) else " ".join(map(str, target))
    return f"{number}\t{rank}\t{value:.6f}\t{result.log_prob:.6f}\t{result.num_tokens}\t{text}\n"


def _number(value: float) -> float | None:
    """A number as JSON can have it."""
    return value if math.isfinite(value) else None


def _jsonl(number: int, item: Item, scores: list[PairScore], numbers: list[float], name: str | None) -> str:
    """An object a source line: a pair with its score, or an n-best record with a field more for each translation."""
    content: dict[str, Any] = {"line": number, "source": item.source, **item.record}
    details = [
        {"score": _number(value), **each._asdict(), "log_prob": _number(each.log_prob),
         "token_log_probs": [*map(_number, each.token_log_probs)]}
        for each, value in zip(scores, numbers, strict=True)
    ]  # fmt: skip
    if name is None:
        content = {"line": number, "source": item.source, "target": item.targets[0], **item.record, **details[0]}
        if "target_ids" in item.record and "target" not in item.record:
            del content["target"]
    else:
        for each in item.record["translations"]:
            if taken := {name, f"{name}_tokens", f"{name}_token_log_probs"} & each.keys():
                raise DataError(f"line {number}: translations have {min(taken)} already: give another --name")
        content["translations"] = [
            {**each, name: detail["score"], f"{name}_tokens": detail["num_tokens"],
             f"{name}_token_log_probs": detail["token_log_probs"]}
            for each, detail in zip(item.record["translations"], details, strict=True)
        ]  # fmt: skip
    return json_line(content)


RERANK_EXAMPLE = """\b
Examples:
  nmt rerank list.jsonl --weights score=1,length=0.2 > best.en
  nmt rerank validation.jsonl --reverse runs/en-es --tune validation.en -o weights.json
  nmt rerank test.jsonl --reverse runs/en-es --weights weights.json > test.out.en
"""


def rerank(
    n_best: Path = typer.Argument(metavar="N_BEST", help="JSON lines of nmt translate --n-best, or a list of Moses."),
    model: list[Path] | None = options.value("--model", "RUN", "Adds the feature forward; several score together."),
    reverse: list[Path] | None = options.value("--reverse", "RUN", "Adds reverse: of the source given the target."),
    reverse_tag: str | None = options.value("--reverse-tag", "TAG", "The tag that the model of --reverse reads."),
    weights: str | None = options.value("--weights", "FILE|NAME=X,...", "Of features, at most eight."),
    features: str | None = options.value("--features", "NAME,...", "To tune; unless given score, length and models."),
    tune: list[Path] | None = options.value("--tune", "FILE", "Reference to find weights by; may be repeated."),
    seed: int | None = options.value("--seed", "N", "Of the starts of --tune; 1 unless given.", least=0),
    source: Path | None = options.value("--source", "FILE", "What was translated, for models and a list of Moses."),
    tokenization: str | None = options.value("--tokenize", "NAME", "How sacreBLEU cuts text; as suits the script."),
    output_path: Path = options.value("-o, --output", "FILE", "Where to write.", default=options.DASH),
    output_format: ListFormat = typer.Option(
        ListFormat.TEXT, "--format", help="text: the best translation of each line; list: all, sorted, as they came."
    ),
    threads: options.Threads = None,
    imports: options.Imports = None,
    debug: options.Debug = False,
) -> None:
    """Sort the translations of each line by a weighted sum of features, or find the weights with --tune.

    Features are score (of the search), length (words), forward, reverse, and every number that the list itself has.
    """
    from nmt.inference.output_directory import refuse_inputs
    from nmt.scoring import rerank as sorting
    from nmt.tasks import score as recipe

    wishes: dict[str, Any] = {"--tune": tune, "--weights": weights, "--model": model, "--reverse": reverse}
    wishes |= {"--reverse-tag": reverse_tag, "--features": features, "--tokenize": tokenization, "--seed": seed}
    given_options = [option for option, value in wishes.items() if value or value == 0]
    _check_reranking(given_options, as_list=output_format is ListFormat.LIST)
    output = None if output_path == options.DASH else output_path
    models = {"forward": model or [], "reverse": reverse or []}
    given = recipe.read_weights(weights) if weights else {name: 1.0 for name, runs in models.items() if runs}
    names = list(given)
    if tune:
        names = features.split(",") if features else ["score", "length", *names]
    inputs = [("N_BEST", n_best), *(("--source", each) for each in [source] if each)]
    inputs += [("--tune", each) for each in tune or ()]
    inputs += [("--weights", Path(weights))] if weights and Path(weights).is_file() else []
    refuse_inputs(output, inputs)
    found = recipe.read_list(n_best, source=source)
    for name, runs in models.items():
        if runs and name in names:
            is_reverse = name == "reverse"
            tagged = bool(reverse_tag) if is_reverse else any(record.get("tag") for record in found.records or ())
            prepared = recipe.prepare_model(runs, threads=threads, inputs=inputs, output_paths=[output], tagged=tagged)
            found = recipe.add_model(found, name, prepared.open(), reverse=is_reverse, tag=reverse_tag)
        elif runs:
            raise options.usage_error(f"the weights have no {name}, for which a model is given")
    with text_output(output) as write:
        if tune:
            how: dict[str, Any] = {"tokenization": tokenization, "seed": 1 if seed is None else seed}
            write(json.dumps(recipe.tuned(found, names, tune, **how), indent=2) + "\n")
        else:
            matrix = sorting.matrix_of(found.candidates, names)
            ranks = sorting.order(matrix, [given[name] for name in names])
            write(_sorted(found, ranks, as_list=output_format is ListFormat.LIST))


def _check_reranking(given: Sequence[str], *, as_list: bool) -> None:
    """Refuse options that say too little, or of which one would be ignored."""
    tunes, of_tuning = "--tune" in given, [each for each in ("--features", "--tokenize", "--seed") if each in given]
    if tunes and "--weights" in given:
        raise options.usage_error("--tune finds weights: leave out --weights")
    if not {"--tune", "--weights", "--model", "--reverse"} & {*given}:
        raise options.usage_error("give --weights, or a model to sort by, or --tune and a reference to find weights")
    if of_tuning and not tunes:
        raise options.usage_error(f"{' and '.join(of_tuning)} decide how --tune finds weights: give it too")
    if tunes and as_list:
        raise options.usage_error("--tune writes weights: leave out --format list")
    if "--reverse-tag" in given and "--reverse" not in given:
        raise options.usage_error("--reverse-tag is for the model of --reverse: give it too")


def _sorted(found: NBestList, ranks: list[list[int]], *, as_list: bool) -> str:
    """The best translation of each line, or all of them as they came."""
    lines = [[each[rank] for rank in places] for each, places in zip(found.candidates, ranks, strict=True)]
    if not as_list:
        return "".join(f"{each[0].text if each else ''}\n" for each in lines)
    if found.records is None:
        return "".join(f"{' ||| '.join(candidate.written)}\n" for each in lines for candidate in each)
    return "".join(
        json_line({**record, "translations": [candidate.written for candidate in each]})
        for record, each in zip(found.records, lines, strict=True)
    )


TUNE_EXAMPLE = """\b
Examples:
  nmt tune-search runs/travel
  nmt tune-search runs/travel --source news.es --reference news.en --write
"""


def tune_search(
    directories: options.ModelDirectories,
    source: Path | None = options.value("--source", "FILE", "Text to translate, in place of data.validation."),
    references: list[Path] | None = options.value("--reference", "FILE", "Its translation, line by line; repeatable."),
    write: bool = options.flag("--write", "Write the penalty into the settings of RUN, if a search with it is better."),
    as_json: options.AsJson = False,
    beam_size: options.BeamSize = None,
    tag: options.Tag = None,
    *,
    model: options.ModelOptions,
) -> None:
    """Find the length penalty with which a model translates its validation set best.

    One n-best list is sorted by many penalties, of Wu et al. (2016) and by a power of the length; then the set is
    searched with the best of each formula, and with the default.
    """
    from nmt.tasks import tune_search as recipe

    directory, *others = directories
    if write and others:
        raise options.usage_error("--write is for one RUN, got several")
    if tag is not None and source is None:
        raise options.usage_error("--tag is for --source: the validation sets of the config have their own")
    arguments = {**model.arguments(beam_size=beam_size), "tag": tag}
    prepared = recipe.prepare_tuning(directory, *others, source=source, references=references or (), **arguments)
    with line_counter(total=prepared.num_lines) as count:
        found = prepared.run(threads=model.threads, progress=count)
    writes = write and found.best is not found.present
    if writes:
        recipe.write_search(directory, found.best.point)
    if as_json:
        searched = {"present": _as_json(found.present), "others": [*map(_as_json, found.others)]}
        content = {**searched, "best": _as_json(found.best), "points": [point._asdict() for point in found.points]}
        typer.echo(json.dumps({**content, "num_translations": found.num_translations, "written": writes}))
        return
    typer.echo(_tuned_in_words(found))
    if write:
        done = "written into the settings of" if writes else "no better in a search: nothing is written into"
        typer.echo(f"{done} {directory}")


def _tuned_in_words(found: TunedSearch) -> str:
    """A table of all penalties, and what a search with the best is worth."""
    by_formula = {(point.offset, point.exponent): point for point in found.points}
    offsets, exponents = ([*dict.fromkeys(values)] for values in zip(*by_formula, strict=True))
    lines = [f"BLEU and length ratio of the best of {found.num_translations} translations a line, by penalty:"]
    lines.append("length_penalty" + "".join(f"  {f'offset {offset:g}':12}" for offset in offsets).rstrip())
    for exponent in exponents:
        row = (by_formula[offset, exponent] for offset in offsets)
        lines.append(f"{exponent:14.1f}" + "".join(f"  {point.bleu:6.2f} {point.ratio:5.3f}" for point in row))
    for name, each in (("now: ", found.present), *(("then:", each) for each in found.others)):
        lines.append(f"{name} {_in_words(each.point)}: BLEU {each.bleu:.2f} in a search")
    if found.best is found.present:
        lines.append("none of the others gains 0.1 BLEU or more in a search: keep it")
    else:
        point = found.best.point
        lines.append(
            f"best: --set search.length_penalty={point.exponent:g} --set search.length_penalty_offset={point.offset:g}"
        )
    return "\n".join(lines)


def _as_json(found: Searched) -> dict[str, float]:
    """A penalty with BLEU of the list and of the search."""
    return {**found.point._asdict(), "searched": found.bleu}


def _in_words(point: Point) -> str:
    return f"search.length_penalty={point.exponent:g} search.length_penalty_offset={point.offset:g}"
