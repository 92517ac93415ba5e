"""Translating text with a trained model, or several."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nmt.config import Config
from nmt.control.controls import NO_CONTROL, SOURCE, Control, Record, Sampling, check_controls, read_record, read_row
from nmt.control.glossary import Glossary, Report, Term
from nmt.control.hints import HintFinder, log_hints
from nmt.control.record_tags import RecordTags
from nmt.errors import ConfigError, DataError
from nmt.inference.members import warn_of_no_tag
from nmt.tasks.align import Finisher, read_dictionary
from nmt.tasks.engines import Engines
from nmt.tasks.translation_job import SAMPLE_LINES, Done, Part, in_lines, joined_parts, parts_of
from nmt.text import TextPair
from nmt.text.hints import refuse_without_marks
from nmt.text.marks import TOKENS, foreign_script, found_marks, in_words, joined
from nmt.translation.flags import Flag
from nmt.translation.lengths import MAX_SOURCE_LENGTH
from nmt.translation.line_translator import LineTranslator, Progress, Translation, check_num_hypotheses, flag_of_none
from nmt.types import PathLike

if TYPE_CHECKING:
    from nmt.inference.alignment import Alignment
    from nmt.markup.translator import Markup, TakenOut
    from nmt.scoring.mbr import ExpectedUtility

logger = logging.getLogger(__name__)


class Reading(NamedTuple):
    """Where the text stands in a line of input.

    records: whether the lines are JSON records; see `read_record`.
    field: the name of the source in these.
    column: which one the source is, from 1, if the lines are rows of columns between tabs.
    """

    records: bool = False
    field: str = SOURCE
    column: int | None = None

    def record(self, line: str, number: int, asked: Control) -> Record:
        """Return a line, counted from 1, and what is asked of it besides what is asked of all."""
        place = f"line {number}"
        if self.column is not None:
            return read_row(line, asked, place=place, column=self.column)
        if self.records:
            return read_record(line, asked, place=place, field=self.field)
        return Record(line, asked)


WHOLE_LINE = Reading()


class TranslatedLine(NamedTuple):
    """A line of the source and its translations, best first, or in the order in which they were drawn.

    alignments: of each translation, if they are asked for.
    """

    record: Record
    translations: list[Translation]
    alignments: Sequence[Alignment] = ()


def prepare_translation(
    directory: PathLike,
    *others: PathLike,
    engine: str | None = None,
    num_hypotheses: int = 1,
    asked: Control = NO_CONTROL,
    reading: Reading = WHOLE_LINE,
    split_long: bool = False,
    part_tokens: int | None = None,
    token_scores: bool = False,
    sampling: Sampling | None = None,
    utility: str | None = None,
    checkpoint: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    threads: int | None = None,
    input_path: PathLike | None = None,
    output_path: PathLike | None = None,
    glossary: PathLike | None = None,
    hints: PathLike | None = None,
    member_weights: Sequence[float] | None = None,
    log_linear: bool = False,
    alignments: bool = False,
    replace_unknown: bool = False,
    dictionary: PathLike | None = None,
    markup: str | None = None,
) -> PreparedTranslation:
    """Refuse what can be refused before anything is opened, and return what translates.

    Args:
        directory: the model directory, or a checkpoint in it, as RUN@best.
        others: of models that translate together with the first, which says how to search.
        engine: what computes, `auto`, `keras` or `ctranslate2`; as `search.engine` says unless given. What `nmt export`
            wrote has CTranslate2 alone, which loads no TensorFlow.
        num_hypotheses: translations wanted a line, or drawn.
        asked: what is asked of the words of every translation.
        reading: where the text stands in a line.
        split_long: whether lines with more tokens than a part may have are split at ends of sentences; lines that ask
            for phrases of their own stay whole.
        part_tokens: of a part at most; what training reads unless given.
        token_scores: whether translations tell the log probability of each of their tokens.
        sampling: how translations are drawn, instead of looking for the best.
        utility: that by which one of the translations is chosen, see `nmt.scoring.mbr.expected_utility_of`: that
            which agrees most with the others. Draws count alike, hypotheses of a beam by their probability.
        checkpoint: `best`, `latest` or `update-N`; the best, else the latest unless given.
        weights: `ema` or `raw`; unless given the moving average if it was kept, or what validation found better.
        overrides: settings of the form "search.beam_size=4".
        threads: processor cores to use; all unless given.
        input_path: where the lines come from, None for standard input; named if the output would replace it.
        output_path: where the translations go, None for standard output.
        glossary: a file of terms, see `Glossary.read`; what became of them is logged at the end.
        hints: a file of such terms that the model reads, see `nmt.control.hints`; likewise.
        member_weights: of each model in their mean; equal unless given.
        log_linear: whether that is the mean of log probabilities instead of probabilities.
        alignments: whether the words of each translation are to be linked to those of the source.
        replace_unknown: whether the source word that it comes from is to stand in place of an unknown token.
        dictionary: a file of what is to stand there instead, see `nmt.tasks.align.read_dictionary`.
        markup: what lines have besides text, see `nmt.markup.translator.KINDS`; it is there in the translations again.

    Raises:
        NMTError: as `find_members`; or more hypotheses are wanted than the beam holds, the output may not be written,
            the package of the engine is missing, the glossary or the hints cannot be read, the model was trained
            without hints, or the engine cannot do what is asked.
    """
    unknown = None if not replace_unknown else {} if dictionary is None else read_dictionary(dictionary)
    of_most = asked if glossary is None else asked._replace(terms=("a term",))  # what is asked of lines with terms
    asks = {"alignments": alignments, "the replacement of unknown words": replace_unknown, "markup": bool(markup)}
    which: dict[str, Any] = {"checkpoint": checkpoint, "weights": weights, "overrides": overrides}
    how: dict[str, Any] = {"threads": threads, "member_weights": member_weights, "log_linear": log_linear}
    how |= {"control": of_most, "sampling": sampling, "others": [wish for wish, is_asked in asks.items() if is_asked]}
    found = Engines([directory, *others], engine, **how, **which)
    if sampling is None:
        check_num_hypotheses(num_hypotheses, found.config.search)
    check_controls([of_most], 1, sampling, diverse_groups=found.config.search.diverse_groups)
    _check_markup(markup, found.config, alignments=alignments)
    files = {"--glossary": glossary, "--hints": hints, "--dictionary": dictionary}
    inputs = [("--input", input_path), *((name, path) for name, path in files.items() if path is not None)]
    found.refuse_output(output_path, inputs)
    warn_of_no_tag(found.found if asked.tag is None and not reading.records else ())
    job = _Job(
        num_hypotheses=num_hypotheses,
        asked=asked,
        reading=reading,
        token_scores=token_scores or alignments or replace_unknown,
        sampling=sampling,
        utility=_utility_of(utility),
        terms=None if glossary is None else Glossary.read(glossary),
        hints=_read_hints(hints, found),
        part_tokens=min(part_tokens or found.config.data.max_length, MAX_SOURCE_LENGTH) if split_long else None,
        language=found.config.data.source_language,
        alignments=alignments,
        unknown=unknown,
        markup=markup,
    )
    return PreparedTranslation(
        job, found, {"--mbr": utility, "--member-weights": member_weights, "--log-linear": log_linear}
    )


def _read_hints(path: PathLike | None, engines: Engines) -> Glossary | None:
    """Read the terms that models are to read; raise a ConfigError for one that cannot."""
    if path is None:
        return None
    for model in engines.found:
        refuse_without_marks(TextPair.load(model.directory).source)
    return Glossary.read(path)


def _utility_of(name: str | None) -> ExpectedUtility | None:
    if name is None:
        return None

    from nmt.scoring.mbr import expected_utility_of  # which takes a twentieth of a second to import

    return expected_utility_of(name)


def _check_markup(markup: str | None, config: Config, *, alignments: bool) -> None:
    """Refuse markup if nothing could put it back, or if another wish is against it; raise a ConfigError."""
    if not markup:
        return
    if config.data.segmentation != "none":
        raise ConfigError(
            f"markup needs words as they are, and this model reads those that {config.data.segmentation} cut: take the "
            "tags out before the text is cut"
        )
    if alignments:
        raise ConfigError("alignments count characters of lines without tags: leave out either them or the markup")


@dataclass(frozen=True)
class PreparedTranslation:
    """What translates, and has opened nothing yet.

    engines: what it may be done with.
    options: what else outputs depend on that is not asked of a line.
    """

    job: _Job
    engines: Engines
    options: Mapping[str, Any]

    def depends(self, num_lines: int) -> dict[str, Any]:
        """Look which engine and weights these are for so many lines, and list all else that outputs depend on."""
        return {**self.engines.depends(num_lines), **self.job.depends(), **self.options}

    def __call__(
        self,
        chunks: Iterable[Sequence[str]],
        progress: Progress | None = None,
        done: Done | None = None,
        *,
        num_lines: int | None = None,
    ) -> Iterator[TranslatedLine]:
        """Open the model, and return the translations of the lines in order.

        The lines of a chunk are sorted by length and translated together when the first of them is asked for.

        Args:
            chunks: lines, those that follow what is done.
            progress: is told of every batch how many lines it held.
            done: of the same text before; it is kept up to date, and holds what becomes of a chunk before the first
                translation of it is given out.
            num_lines: of the whole text, by which the engine is chosen; those of the first chunk if nobody knows.

        Raises:
            NMTError: the model cannot be opened; while lines are translated, one of them cannot be read.
        """
        if num_lines is None and self.engines.waits_for_lines():
            rest = iter(chunks)
            first = next(rest, [])
            chunks, num_lines = chain([first], rest), len(first)
        self.engines.choose(num_lines or 0)
        translator, _ = self.engines.open()

        def translated() -> Iterator[TranslatedLine]:
            yield from self.job.translate(chunks, translator, progress, done or Done())
            self.engines.keep_searches()  # nobody waits any more

        return translated()

    def skip(self, line: str, number: int, done: Done) -> None:
        """Take note of a line, counted from 1, that was translated before."""
        if len(done.sample) < SAMPLE_LINES:
            done.remember([self.job.reading.record(line, number, self.job.asked).source])


class _Tools(NamedTuple):
    """What the chunks of a text are translated with.

    placing: the terms of a glossary, if there is one, and report: what becomes of them.
    finder: of terms that get a hint, and of_hints: what becomes of these.
    finisher: what adds to finished translations, if anything is asked for.
    """

    translator: LineTranslator
    placing: Glossary | None
    report: Report
    finder: HintFinder
    of_hints: Report
    finisher: Finisher | None


@dataclass(frozen=True)
class _Job:
    """What is asked of all lines; see `prepare_translation`."""

    num_hypotheses: int
    asked: Control
    reading: Reading
    token_scores: bool
    sampling: Sampling | None
    utility: ExpectedUtility | None
    terms: Glossary | None
    hints: Glossary | None
    part_tokens: int | None
    language: str
    alignments: bool
    unknown: Mapping[str, str] | None
    markup: str | None

    def depends(self) -> dict[str, Any]:
        """What translations depend on, but for their text, engine and MBR, by names that users know."""
        return {
            "translations a line": self.num_hypotheses,
            **{f"asked: {name}": value for name, value in self.asked._asdict().items()},
            "sampling": self.sampling and self.sampling._asdict(),
            "--glossary": self.terms and _fingerprint([list(term) for term in self.terms.terms]),
            "--hints": self.hints and _fingerprint([list(term) for term in self.hints.terms]),
            "--input-format": "jsonl" if self.reading.records else "tsv" if self.reading.column else "text",
            "--field": self.reading.field,
            "--column": self.reading.column,
            "--split-long": self.part_tokens,
            "--alignments": self.alignments,
            "--replace-unknown": self.unknown and _fingerprint(self.unknown),
            "--markup": self.markup,
        }

    def translate(
        self, chunks: Iterable[Sequence[str]], translator: LineTranslator, progress: Progress | None, done: Done
    ) -> Iterator[TranslatedLine]:
        """Translate chunk by chunk; what no line could be is refused at once."""
        translator.controls.check(self.asked)
        finisher = self._finisher(translator)
        if finisher is not None and done.aligned is not None:
            vars(finisher.tally).update(done.aligned)
        markup = self._markup(translator)
        if markup is not None and done.markup is not None:
            markup.restore(done.markup)
        segmentation, source, target = translator.segmentation, translator.text.source, translator.text.target
        placing = self.terms and self.terms.with_normalization(
            lambda line: source.normalized(joined(line, segmentation))
        )
        report, of_hints, tags = Report(target.normalized), Report(target.normalized), RecordTags(translator.text)
        for each, counted in ((report, done.terms), (of_hints, done.hints)):
            if counted is not None:
                each.restore(counted)
        if done.tags is not None:
            tags.restore(done.tags)
        finder = HintFinder(source.normalized, self.hints)
        tools = _Tools(translator, placing, report, finder, of_hints, finisher)
        for chunk in chunks:
            started = time.monotonic()
            numbered = enumerate(chunk, done.lines + 1)
            wanted = [self.reading.record(line, number, self.asked) for number, line in numbered]
            if self.reading.records:
                tags.check((record.control.tag for record in wanted), done.lines)
                done.tags = tags.counts
                self._check_records(wanted, translator, done.lines)
            done.remember(record.source for record in wanted)
            found = self._of_marked(wanted, markup, done, tools, progress)
            done.lines += len(chunk)
            done.terms = report.to_json() if placing else None
            done.hints = of_hints.to_json()
            done.aligned = None if finisher is None else vars(finisher.tally).copy()
            done.markup = None if markup is None else markup.to_json()
            done.add_flags(chain.from_iterable(map(_flags_of_best, found)))
            done.seconds += time.monotonic() - started
            yield from found
        # What is to be said about the lines is said of all together.
        tags.report()
        done.tally.report_unknown()
        done.tally.report()
        if placing:
            report.log()
        if self.hints or of_hints.total.found:
            log_hints(of_hints)
        if finisher is not None:
            finisher.report()
        if markup is not None:
            markup.tally.report()
        warn_of_foreign_text(done.sample, self.language, segmentation=segmentation)

    def _check_records(self, records: Sequence[Record], translator: LineTranslator, before: int) -> None:
        """Refuse what records ask for and cannot have, with the line; a DataError."""
        groups = translator.search.diverse_groups
        for number, record in enumerate(records, 1 + before):
            try:
                check_controls([record.control], 1, self.sampling, diverse_groups=groups)
                if record.control.hints:
                    refuse_without_marks(translator.text.source)
            except ConfigError as error:
                raise DataError(f"line {number}: {error}") from error

    def _finisher(self, translator: Any) -> Finisher | None:
        """What adds to finished translations, if anything is asked for."""
        if not self.alignments and self.unknown is None:
            return None
        return Finisher(translator, links=self.alignments, unknown=self.unknown)

    def _markup(self, translator: Any) -> Markup | None:
        """What takes tags out and puts them back, if there are any."""
        if self.markup is None:
            return None
        from nmt.markup.translator import Markup

        terms = self.terms.terms if self.terms else ()
        reserved = list(chain.from_iterable(term.alternatives for term in terms))
        return Markup(translator, self.markup, sampling=self.sampling, reserved=reserved)

    def _of_marked(
        self, wanted: Sequence[Record], markup: Markup | None, done: Done, tools: _Tools, progress: Progress | None
    ) -> list[TranslatedLine]:
        """Translate the lines of a chunk, their markup taken out before and put back behind."""
        if markup is None:
            return self._of_chunk(wanted, (), done, tools, progress)
        sources, controls = [record.source for record in wanted], [record.control for record in wanted]
        taken = markup.take_out(sources, controls, first_line=done.lines)
        plain = [
            record._replace(source=out.text, control=out.control) for record, out in zip(wanted, taken, strict=True)
        ]
        lines = self._of_chunk(plain, taken, done, tools, progress)
        restored = markup.put_back(taken, [line.translations for line in lines])
        return [
            line._replace(record=line.record._replace(source=record.source), translations=translations)
            for line, record, translations in zip(lines, wanted, restored, strict=True)
        ]

    def _of_chunk(
        self,
        wanted: Sequence[Record],
        taken: Sequence[TakenOut],
        done: Done,
        tools: _Tools,
        progress: Progress | None,
    ) -> list[TranslatedLine]:
        """Translate the lines of a chunk together; those without their markup, if it was taken out."""
        translator, placing, report, finder, of_hints, finisher = tools
        plain = [taken[line].hidden(each.source) if taken else each.source for line, each in enumerate(wanted)]
        wanted = [
            record._replace(control=finder.asked(text, record.control))
            for text, record in zip(plain, wanted, strict=True)
        ]
        split = [parts_of(line, record, translator, self.part_tokens) for line, record in enumerate(wanted)]
        parts = list(chain.from_iterable(split))
        terms_of = defaultdict[int, list[Term]](list)
        if placing:
            texts = [taken[part.line].hidden(part.text) if taken else part.text for part in parts]
            added, terms_found = placing.controls(texts, translator.controls)
            parts = [
                part._replace(control=part.control._replace(terms=part.control.terms + more.terms))
                for part, more in zip(parts, added, strict=True)
            ]
            for part, terms in zip(parts, terms_found, strict=True):
                terms_of[part.line] += terms
        found = translator.n_best(
            [part.text for part in parts],
            self.num_hypotheses,
            controls=[part.control for part in parts],
            sampling=self.sampling,
            first_line=done.lines,
            parts_of=[part.line for part in parts],
            token_scores=self.token_scores,
            progress=progress and in_lines(progress, len(parts), len(wanted)),
            tally=done.tally,
        )
        lines = list[TranslatedLine]()
        together = groupby(zip(parts, found, strict=True), key=lambda each: each[0].line)
        for (_, group), record in zip(together, wanted, strict=True):
            lines.append(self._of_parts(record, *zip(*group, strict=True)))
        if finisher is not None:
            sources, tags = [each.source for each in wanted], [each.control.tag for each in wanted]
            finished = finisher.finish(sources, [line.translations for line in lines], tags)
            lines = [
                TranslatedLine(line.record, translations, links)
                for line, translations, links in zip(lines, *finished, strict=True)
            ]
        texts = [line.translations[0].text if line.translations else "" for line in lines]
        of_hints.add([finder.placed(text, line.record.control) for text, line in zip(plain, lines, strict=True)], texts)
        if placing:
            report.add([terms_of[place] for place in range(len(lines))], texts)
        return lines

    def _of_parts(
        self, record: Record, parts: Sequence[Part], translations: Sequence[list[Translation]]
    ) -> TranslatedLine:
        """Make one translation of those of the parts of a line, and if one is to be chosen, choose it."""
        best = translations[0]
        if len(parts) > 1:
            best = joined_parts(translations, self.num_hypotheses, drawn=self.sampling is not None)
        if (utility := self.utility) is not None:
            best = _agreed(best, utility, drawn=self.sampling is not None)
        placed = tuple(chain.from_iterable(part.control.terms for part in parts))
        return TranslatedLine(record._replace(control=record.control._replace(terms=placed)), best)


def _fingerprint(values: Any) -> str:
    """Names what may be large, from JSON values."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def _flags_of_best(line: TranslatedLine) -> Sequence[Flag]:
    return line.translations[0].flags if line.translations else [flag_of_none(line.record.control)]


def _agreed(translations: list[Translation], utility: ExpectedUtility, *, drawn: bool) -> list[Translation]:
    """Return the translation of the highest expected utility alone."""
    log_probs = np.array([translation.log_prob for translation in translations])
    weights = None if drawn else np.exp(log_probs - log_probs.max(initial=-np.inf))
    texts = [translation.text for translation in translations]

    from nmt.scoring.mbr import choose

    return [translations[choose(texts, weights=weights, utility=utility).chosen]] if translations else []


def warn_of_foreign_text(lines: Sequence[str], language: str, *, segmentation: str) -> None:
    """Say that text is in a script that the source language of a model does not have, or is cut in another way.

    Args:
        lines: the text, or its first lines.
        language: that the model translates from.
        segmentation: how the text was cut that it learned from.
    """
    marks = {kind: words for kind, words in found_marks({"the text": lines}).items() if kind != TOKENS}
    if segmentation == "none":
        for words in marks.values():
            logger.warning("%s, which the model never saw: give it plain text", words)
    elif lines and segmentation not in marks:
        logger.warning("the text has no marks of %s, which the model learned from: cut it first", segmentation)
    script = foreign_script(lines, language)
    if script is not None:
        logger.warning("the text is in %s, but the model translates from %s", in_words(script), language)
