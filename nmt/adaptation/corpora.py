"""The text of an adaptation: the new one, what of it is held out, and the old corpora, with the shares they had."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from itertools import count as numbers_from
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from nmt.atomic_files import replace_file
from nmt.corpora.split import near_hash
from nmt.data import Corpus
from nmt.data.corpus import Layout, reader_of
from nmt.errors import ConfigError, DataError
from nmt.settings.data import DataSettings, NamedCorpusSettings, files_of_pairs, languages_in
from nmt.text.tokenizer import sample_lines

FOLDER = "adaptation"
"""Where a new model directory keeps the text that was made for it."""

ASKED, SETTINGS = "asked.json", "settings.yaml"
"""The files there of what an adaptation was asked to be, by options, and of the settings that were chosen."""

Pairs = Sequence[tuple[str, str]]

OLD_NAME = "old"
"""What the only corpus of the old run is called in the mixture; those of a list keep their names."""

_WEIGHT = "weight"
"""The field of a copy that holds the loss weight of each pair."""

_NO_LINKS = {"alignment": None, "alignment_column": None, "alignment_tokenized": False}


Columns: TypeAlias = tuple[int | str | None, int | str | None]
"""Where source and target stand in files of pairs, as `Layout` has it."""


def corpus_of(given: str, languages: tuple[str, str], columns: Columns = (None, None)) -> Corpus:
    """Open a corpus that is given as `SOURCE,TARGET`, as a file of pairs, or as `corpus.{es,en}`.

    Raises:
        ConfigError: a file of lines stands for both sides, or the languages in braces stand the wrong way round.
    """
    if languages[0] != languages[1] and languages_in(given) == languages[::-1]:
        raise ConfigError(
            f"{given} must have the source first, got {languages[1]} for a model from {languages[0]} into "
            f"{languages[1]}: write {{{','.join(languages)}}}, or, if --tag is of the other direction, SOURCE,TARGET"
        )
    source, comma, target = given.partition(",")
    layout = Layout(columns=columns, languages=languages)
    sources, targets = ((source,), (target,)) if comma and "{" not in given else files_of_pairs(given)
    for path, other in zip(sources, targets, strict=False):
        if path == other and reader_of(path, layout) is None:
            raise ConfigError(
                f"a file of lines has another one for the other side, got {path} for both: give SOURCE,TARGET, "
                "'corpus.{es,en}' in quotes, or a file of pairs, .tsv for instance"
            )
    return Corpus(sources, targets, layout=layout)


class HeldOut:
    """The lines of validation and test, by what near ones share: training shall have none like them.

    Args:
        pairs: that are held out.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._sides = [{*map(_nearness, side)} for side in zip(*pairs, strict=True)]

    def is_near(self, row: Sequence[str]) -> bool:
        """Whether a side of a pair, which may have its loss weight behind, is near to a line of the same side."""
        return any(_nearness(text) in side for text, side in zip(row, self._sides, strict=False))


def _nearness(text: str) -> int | str:
    """What near lines share, as `nmt split` keeps them apart; a line without letters is near to itself alone."""
    number = near_hash(text)
    return text if number is None else number


class Replayed(NamedTuple):
    """A training corpus of the old run that takes part in the new one.

    name: its own there, or `OLD_NAME`.
    share: of it among all of them, above 0; together they are 1.
    pairs: how many are left.
    near: how many are left out because they are near to a held-out line; if there are any, training reads a copy.
    corpus: opens it.
    settings: those of its own as JSON values: files, columns, tag and filters.
    """

    name: str
    share: float
    pairs: int
    near: int
    corpus: Corpus
    settings: Mapping[str, Any]

    def entry(self, folder: Path, *, replay: float, absolute: bool) -> dict[str, Any]:
        """Return the corpus as `data.train` of the new run lists it.

        Args:
            folder: where a copy lies.
            replay: share of all old corpora in the mixture.
            absolute: whether a relative path must not stay one.
        """
        own = {"name": self.name, **self.settings, **_NO_LINKS, "weight": float(f"{replay * self.share:.6g}")}
        if self.near:
            paths = {"source": None, "target": None, "pairs": str(self._copy(folder))}
            columns = dict.fromkeys(("format", "source_column", "target_column"))
            weighed = self.settings["loss_weight_column"] is not None
            return own | paths | columns | {"loss_weight_column": _WEIGHT if weighed else None}
        for side in ("source", "target", "pairs") if absolute else ():
            given = own[side]
            own[side] = os.path.abspath(given) if isinstance(given, str) else given and [*map(os.path.abspath, given)]
        return own

    def write_copy(self, folder: Path, held: HeldOut) -> None:
        """Write the pairs that are not near to a held-out line, with their weights if they have some."""
        with self._copy(folder).open("w", encoding="utf-8", newline="") as file:
            for row in self.corpus.rows():
                if not held.is_near(row):
                    values = [*row[:2], *map(float, row[2:])]
                    record = dict(zip(("source", "target", _WEIGHT), values, strict=False))
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _copy(self, folder: Path) -> Path:
        return folder / f"replay-{self.name}.jsonl"


def replayed_corpora(
    data: DataSettings, held: HeldOut, kept: Mapping[str, int] = MappingProxyType({})
) -> list[Replayed]:
    """Read the training corpora of the old run, and return those that its last stage mixed, with their shares.

    A share is by the weight of the corpus in that stage or, if there are no weights, by its pairs and
    `data.temperature`.

    Args:
        data: settings of the old run.
        held: what no pair may be near to.
        kept: pairs that filters and limits left of corpora, by their names in the settings; of others all count.

    Raises:
        DataError: a corpus is not there, or nothing is left of them.
    """
    unvaried = data.model_copy(update={"variation": None})  # which needs links, and they are not replayed
    last = data.stages[-1].weights if data.stages else None
    found = list[Replayed]()
    for name in data.names("train"):
        settings = data.corpora[name]
        own = settings.name if isinstance(settings, NamedCorpusSettings) else OLD_NAME
        weight = getattr(settings, "weight", None) if last is None else last.get(own, 0.0)
        if weight == 0:
            continue
        corpus, counts = Corpus.of(unvaried, name), [0, 0]
        try:
            for row in corpus.rows():
                counts[held.is_near(row)] += 1
        except DataError as error:
            raise DataError(
                f"the old corpus must be there to be replayed: {error}: give other text in the source language with "
                "--replay-source, which the old model translates, or --replay 0"
            ) from error
        if counts[0]:
            size = counts[0] * kept.get(name, sum(counts)) / sum(counts)
            weight = size ** (1.0 / data.temperature) if weight is None else weight
            found.append(Replayed(own, weight, counts[0], counts[1], corpus, settings.model_dump(mode="json")))
    if not found:
        raise DataError("no pair of the old corpus is left that is not near to a validation or test line: --replay 0")
    total = sum(each.share for each in found)
    return [each._replace(share=each.share / total) for each in found]


def describe(replayed: Sequence[Replayed], replay: float, names: Sequence[str]) -> str:
    """Say in one line what is replayed, and what of it is left out.

    Args:
        replayed: the old corpora that are.
        replay: their share of what is trained on.
        names: of all training corpora of the old run, in its settings.
    """
    parts = ", ".join(f"{each.name} {replay * each.share:.3g} ({each.pairs:,} pairs)" for each in replayed)
    near = sum(each.near for each in replayed)
    left_out = f"; {near:,} left out because a side of them is near to a held-out line, by a copy" if near else ""
    if idle := [
        name for name in names if "." in name and name.partition(".")[2] not in [each.name for each in replayed]
    ]:
        left_out += (
            f"; nothing of {', '.join(idle)}: no part of the old run's end, or near to held-out lines as a whole"
        )
    return f"replay: {replay:g} of what is trained on, drawn from the old corpora, {parts}{left_out}"


def without_held_out(read: Mapping[str, Pairs], *, seed: int) -> tuple[dict[str, Pairs], HeldOut, str]:
    """Take validation and test out of a corpus if they are not given; no line near to one of theirs is left in it.

    Args:
        read: the text of `train`, and of `validation` and `test` where they are given.
        seed: of the draw.

    Returns:
        The text of all three, what is near to which is held out, and what became of the corpus in words.
    """
    texts, pairs = dict(read), read["train"]
    distinct = list(dict.fromkeys(pairs))
    size = min(500, len(distinct) // 20)
    for name in ("validation", "test"):
        if name not in texts:
            if not size:
                different = f"{len(distinct)} different" if len(distinct) < len(pairs) else f"{len(pairs)}"
                raise DataError(f"a corpus of {different} pairs is too small to take a {name} set from: give --{name}")
            texts[name] = sample_lines(distinct, size, seed=seed)
            chosen = {*texts[name]}
            distinct = [pair for pair in distinct if pair not in chosen]
    parts = {name: texts[name] for name in ("validation", "test")}
    held = HeldOut(chain(*parts.values()))
    texts["train"] = left = [pair for pair in pairs if not held.is_near(pair)]
    if not left:
        raise DataError("no pair of the new corpus is left that is not near to one of its validation or test set")
    named = ", ".join(f"{len(part):,} for {name}" for name, part in parts.items())
    left_out = f"{len(pairs) - len(left):,} left out because a side of them is near to a line that is held out"
    remark = f"new corpus: {len(pairs):,} pairs read, {len(left):,} kept for training, {left_out} ({named})"
    return texts, held, remark


@dataclass(frozen=True)
class RunText:
    """The text of a new run.

    output: its model directory.
    languages: of source and target.
    tag: of the new text; None for none.
    replay: share of what is replayed, 0 for none.
    replayed: the old corpora; none if translations are replayed in their place.
    """

    output: Path
    languages: tuple[str, str]
    tag: str | None
    replay: float
    replayed: Sequence[Replayed]

    def files(self, part: str) -> tuple[Path, Path]:
        """Return the files of source and target of a text that is written here."""
        is_plain = self.tag is None and self.languages[0] != self.languages[1]  # a tag may be of another direction
        endings = self.languages if is_plain else ("source", "target")
        name = part if part == "replay" else f"new-{part}"
        source, target = (self.output / FOLDER / f"{name}.{ending}" for ending in endings)
        return source, target

    def settings(self, old: DataSettings) -> dict[str, Any]:
        """Return what `data` has in the new run, as JSON values."""
        taken = {each.name for each in self.replayed}
        name = next(each for each in chain(["new"], map("new-{}".format, numbers_from(2))) if each not in taken)
        corpora = {part: [self._entry(part, name)] for part in ("train", "validation", "test")}
        if self.replay:
            is_away = not self.output.resolve().is_relative_to(Path.cwd())  # relative paths are not found from there
            folder = self.output / FOLDER
            again = [each.entry(folder, replay=self.replay, absolute=is_away) for each in self.replayed]
            corpora["train"][0]["weight"] = float(f"{1 - self.replay:.6g}")
            corpora["train"] += again or [self._entry("replay", "replay") | {"weight": self.replay}]
        is_tagged = any(each.get("tag") for each in chain(*corpora.values()))
        is_listed = {part: len(each) > 1 or self.tag is not None for part, each in corpora.items()}
        return {
            **old.model_dump(mode="json"),
            **{part: each if is_listed[part] else _alone(each[0]) for part, each in corpora.items()},
            "tag_side": old.tag_side if is_tagged else "source",
            "temperature": 1.0,
            "stages": None,
        }

    def write(self, texts: Mapping[str, Pairs], held: HeldOut, asked: Mapping[str, Any]) -> None:
        """Write texts, two files of lines each, copies of old corpora that are not replayed whole, and what was asked.

        Raises:
            ConfigError: the folder cannot be written.
        """
        folder = self.output / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for part, pairs in texts.items():
                for side, path in enumerate(self.files(part)):
                    path.write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8", newline="")
            for each in self.replayed:
                if each.near:
                    each.write_copy(folder, held)
            replace_file(folder / ASKED, json.dumps(asked, indent=1).encode())
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written: {error.strerror}: choose another -o") from error

    def _entry(self, part: str, name: str) -> dict[str, Any]:
        source, target = map(str, self.files(part))
        return {"name": name, "source": source, "target": target} | ({"tag": self.tag} if self.tag else {})


def _alone(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a corpus of a list as one without a name."""
    return {key: value for key, value in entry.items() if key != "name"}
