"""The options of `nmt translate` in groups: what is asked of words, draws, finished texts, jobs and lines of input."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from nmt.terminal import options

if TYPE_CHECKING:
    from nmt.control.controls import Control, Sampling
    from nmt.tasks.translate import Reading

Format = StrEnum("Format", ["TEXT", "JSONL", "TSV"])
Input = StrEnum("Input", ["TEXT", "JSONL", "TSV"])

ADDED_FIELDS = ("line", "translations", "engine", "flags")
"""Fields of a JSON record that translating sets."""

PART_WORDS = "Phrases of --require and --avoid may be parts of words: lodg bans lodging."
IGNORE_CASE = "Letters of these phrases also stand for their other case."
GLOSSARY = "Terms to place: term, tab, translation or 'a | b', or a term alone to keep."
HINTS = "Terms likewise, which a model that was trained with hints reads and may use."


class ControlOptions(NamedTuple):
    """What is asked of the words of every translation."""

    require: Annotated[
        list[str] | None,
        options.value("--require", "PHRASE", "What must appear, as whole words; 'a | b': one of them.", default=...),
    ] = None
    avoid: Annotated[list[str] | None, options.value("--avoid", "PHRASE", "What must not appear.", default=...)] = None
    prefix: Annotated[str, options.value("--prefix", "TEXT", "What each translation begins with.", default=...)] = ""
    part_words: Annotated[bool, typer.Option("--part-words", help=PART_WORDS)] = False
    ignore_case: Annotated[bool, typer.Option("--ignore-case", help=IGNORE_CASE)] = False
    tag: options.Tag = None
    glossary: Annotated[Path | None, options.value("--glossary", "FILE", GLOSSARY, default=...)] = None
    hints: Annotated[Path | None, options.value("--hints", "FILE", HINTS, default=...)] = None

    @property
    def control(self) -> Control:
        """What the search has to do, terms of a glossary and hints apart."""
        from nmt.control.controls import Control

        must, avoid = tuple(self.require or ()), tuple(self.avoid or ())
        return Control(must, avoid, self.prefix, self.part_words, self.ignore_case, tag=self.tag)


class SamplingOptions(NamedTuple):
    """How translations are drawn, if they are."""

    samples: Annotated[
        int | None,
        options.value("--samples", "N", "Draw N translations a line, without a search.", least=1, default=...),
    ] = None
    temperature: Annotated[
        float, options.value("--temperature", "T", "Of draws: above 1 more varied.", default=...)
    ] = 1.0
    top_k: Annotated[int, options.value("--top-k", "K", "Draw from the K best tokens; 0: from all.", default=...)] = 0
    top_p: Annotated[
        float, options.value("--top-p", "P", "Draw from the best tokens with this probability.", default=...)
    ] = 1.0
    epsilon: Annotated[float, options.value("--epsilon", "P", "Draw from tokens of at least this.", default=...)] = 0.0
    sampling_seed: Annotated[int, options.value("--sampling-seed", "N", "Of the draws.", least=0, default=...)] = 0

    @property
    def sampling(self) -> Sampling | None:
        """How to draw, or None; refuses what draws need if there are none."""
        from nmt.control.controls import Sampling

        sampling = Sampling(self.sampling_seed, self.temperature, self.top_k, self.top_p, self.epsilon)
        if self.samples is None and sampling != Sampling():
            raise options.usage_error("--temperature, --top-k, --top-p, --epsilon and --sampling-seed need --samples N")
        return None if self.samples is None else sampling


class MarkupKind(StrEnum):
    """What lines have besides text; see `nmt.markup.translator.KINDS`."""

    XML = "xml"
    PLACEHOLDERS = "placeholders"


MARKUP = "Keep tags, entities and placeholders ({name}, %s, addresses), or placeholders alone."


class FinishOptions(NamedTuple):
    """What is done with finished translations by one more pass of the model over them."""

    markup: Annotated[MarkupKind | None, typer.Option("--markup", help=MARKUP)] = None

    alignments: Annotated[
        bool, typer.Option("--alignments", help="Link words to those of the source, with offsets; in jsonl.")
    ] = False
    replace_unknown: Annotated[
        bool, typer.Option("--replace-unknown", help="Put the aligned source word in place of <unk>.")
    ] = False
    dictionary: Annotated[
        Path | None,
        options.value("--dictionary", "FILE", "Or its translation: source word, tab, target word.", default=...),
    ] = None

    def check(self, output_format: Format) -> None:
        """Refuse what would be ignored."""
        if self.alignments and output_format is not Format.JSONL:
            raise options.usage_error("--alignments needs --format jsonl; nmt align gives links alone")
        if self.dictionary is not None and not self.replace_unknown:
            raise options.usage_error("--dictionary is for --replace-unknown: give both")


RECORDS = (
    "jsonl: an object for each line: source, its own constraints, avoid, prefix, hints, tag, part_words, ignore_case; "
    "tsv: columns between tabs."
)
SHARD = "Translate part I of N alone, from 1; the outputs of all parts, one behind the other, are the whole."
RESUME = "Go on from what an earlier process left; it must have been told the same."
SPLIT = "Translate lines that are longer than training reads in parts, split at ends of sentences, and flag them."


class JobOptions(NamedTuple):
    """How much of a file is translated, and in which steps."""

    resume: Annotated[bool, typer.Option("--resume", help=RESUME)] = False
    shard: Annotated[str | None, options.value("--shard", "I/N", SHARD, default=...)] = None
    chunk_lines: Annotated[
        int | None,
        options.value("--chunk-lines", "N", "Lines written at once; 10000 unless given.", least=1, default=...),
    ] = None
    split_long: Annotated[bool, typer.Option("--split-long", help=SPLIT)] = False
    part_tokens: Annotated[
        int | None,
        options.value("--part-tokens", "N", "Of --split-long; data.max_length unless given.", least=1, default=...),
    ] = None

    def check(self, finish: FinishOptions) -> None:
        """Refuse what would be ignored, or cannot be."""
        if self.part_tokens is not None and not self.split_long:
            raise options.usage_error("--part-tokens needs --split-long")
        if self.split_long and (finish.alignments or finish.replace_unknown):
            raise options.usage_error("--split-long joins parts, so leave out --alignments and --replace-unknown")


class InputOptions(NamedTuple):
    """Where the text stands in a line of input."""

    input_format: Annotated[Input, typer.Option("--input-format", help=RECORDS)] = Input.TEXT
    field: Annotated[
        str | None, options.value("--field", "NAME", "Of jsonl: where the text is; source unless given.", default=...)
    ] = None
    column: Annotated[
        int | None,
        options.value("--column", "N", "Of tsv: where the text is; 1 unless given.", least=1, default=...),
    ] = None

    @property
    def reading(self) -> Reading:
        """Where the text stands; refuses what belongs to another format."""
        from nmt.tasks.translate import Reading

        if self.field in ADDED_FIELDS:
            raise options.usage_error(f"--field {self.field} is a field that translations add: rename it before")
        of_format = {Input.JSONL: ("--field", self.field), Input.TSV: ("--column", self.column)}
        for wanted, (name, value) in of_format.items():
            if value is not None and self.input_format is not wanted:
                raise options.usage_error(f"{name} needs --input-format {wanted}")
        return Reading(
            records=self.input_format is Input.JSONL,
            field=self.field or "source",
            column=(self.column or 1) if self.input_format is Input.TSV else None,
        )
