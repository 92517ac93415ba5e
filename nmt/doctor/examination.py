"""One reading of the corpora of a run, and what is found wrong with them."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nmt.data.corpus import Corpus
from nmt.data.lines import is_stream
from nmt.doctor import whole
from nmt.doctor.aligned import alignment_scores
from nmt.doctor.findings import (
    EXAMPLES,
    Examination,
    Example,
    Finding,
    Places,
    blocks_of,
    files_of,
    finding_of,
    is_judging,
)
from nmt.errors import DataError
from nmt.filters.checks import DROP, Block, Check, found_by
from nmt.filters.features import Array, Lines
from nmt.filters.repeated import Overlap, Repeats, pair_keys
from nmt.text.tokenizer import Sample

_LOGGER = logging.getLogger(__name__)

SAMPLED_PAIRS = 20_000
"""Pairs of each corpus, or all if they are fewer, on which languages, tokens and marks are looked at."""

_MOST_LISTED = 512
_FATAL_SHARE = 0.5
_FAR_RATIO = 1.3


class Examiner:
    """Reads a corpus.

    Args:
        name: of the corpus.
        checks: the table as settled.
        languages: codes of both sides; empty if unknown.
        folder: for files of hashes.
        overlap: what of validation and test is looked for; None for these themselves.
        identifier: of languages, if there is one.
        ratio: of characters that is usual, target by source; that of the first block unless given.
    """

    def __init__(
        self, name: str, checks: Mapping[str, Check], languages: tuple[str, str], *, folder: Path,
        overlap: Overlap | None = None, identifier: whole.Languages | None = None, ratio: float | None = None,
    ) -> None:  # fmt: skip
        self.result = Examination(name, names=tuple(checks), ratio=1.0 if ratio is None else ratio)
        self._ratio = ratio
        self.places = Places()
        self.traits = whole.Traits()
        self._checks, self._languages, self._overlap = checks, languages, overlap
        self._exact, self._near = (Repeats(folder, f"{name}.{kind}") for kind in ("exact", "near"))
        self._sample = Sample[tuple[int, tuple[str, str]]](SAMPLED_PAIRS, seed=0)
        self._counts, self._examples = Counter[str](), dict[str, list[Example]]()
        self._reasons, self._longest = list[Array](), list[tuple[int, Example]]()
        check = checks.get("LanguageIDFilter")
        self._identifier = identifier if check is not None and all(languages) else None
        self._identifies_all = check is not None and check.action == DROP

    def read(self, corpus: Corpus, count: Callable[[int], object]) -> Examination:
        """Read all of it; what ends the reading is a finding, and the rest stays unread."""
        try:
            for file in files_of(corpus):
                self.places.begin(self.result.pairs, file)
                self.traits.begin(file.paths[0][0])
                for pairs in blocks_of(file, self.result.left_out):
                    self._take_in(pairs)
                    count(len(pairs))
        except DataError as error:
            self.result.findings.append(
                Finding(
                    "Unreadable", "fatal", self.result.name, str(error),
                    "a training would refuse it too; what comes behind was not looked at",
                )
            )  # fmt: skip
        self._conclude()
        return self.result

    def _take_in(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Look at the next pairs."""
        result, before = self.result, self.result.pairs
        source, target = (Lines(side) for side in zip(*pairs, strict=True))
        if before == 0 and self._ratio is None:
            result.ratio = _usual_ratio(source.lengths, target.lengths)
        block = Block((source, target), self._languages, result.ratio)
        found = found_by(self._checks, block)
        exact = pair_keys(source.hashes, target.hashes)
        near = pair_keys(source.near_hashes, target.near_hashes)
        self._exact.add(exact, before)
        if self._overlap is not None:
            shared = self._overlap.update(block.sides, exact, near)
            if "TestOverlap" in self._checks:
                found["TestOverlap"] = shared
        if self._identifier is not None and self._identifies_all:
            check = self._checks["LanguageIDFilter"]
            found[check.name] = self._identifier.others(pairs, check.threshold or 0.0)
        reasons, warned = np.zeros(len(pairs), np.uint8), np.zeros(len(pairs), bool)
        for place, (name, check) in enumerate(self._checks.items(), start=1):
            if name not in found:
                continue
            rows = found[name]
            self._counts[name] += int(rows.sum())
            examples = self._examples.setdefault(name, [])
            for row in np.flatnonzero(rows)[: EXAMPLES - len(examples)].tolist():
                examples.append(self.places.example(before + row, pairs[row]))
            if check.severity == "warning":
                warned |= rows
            if check.action == DROP:
                reasons[(reasons == 0) & rows] = place
        # What is dropped for another reason is not the first of near pairs, of which the others would go too.
        self._near.add(np.where(reasons > 0, np.uint64(0), near), before)
        self._reasons.append(reasons)
        result.lines_in_warnings += int(warned.sum())
        result.pairs += len(pairs)
        self._measure(block, before, pairs)

    def _measure(self, block: Block, before: int, pairs: Sequence[tuple[str, str]]) -> None:
        """Count lengths and ratios, and keep the longest pairs and a sample."""
        result = self.result
        for side, lengths in zip(block.sides, result.lengths, strict=True):
            lengths += np.bincount(np.minimum(side.num_words, _MOST_LISTED - 1), minlength=_MOST_LISTED)
        source, target = (side.lengths for side in block.sides)
        both = (source > 0) & (target > 0)
        steps = (np.log2(target[both] / source[both]) + 4) * 8
        result.ratios += np.bincount(np.clip(steps, 0, 63).astype(int), minlength=64)
        sizes = source + target
        for row in np.argsort(-sizes)[:EXAMPLES].tolist():
            self._longest.append((int(sizes[row]), self.places.example(before + row, pairs[row])))
        self._longest = sorted(self._longest, key=lambda each: -each[0])[:EXAMPLES]
        self._sample.update(list(enumerate(pairs, start=before)))
        self.traits.update(block, before)

    def _conclude(self) -> None:
        """What can be said once all was read."""
        result, checks = self.result, self._checks
        result.longest = tuple(example for _, example in self._longest)
        result.sample = self._sample.lines
        result.reasons = np.concatenate([np.zeros(0, np.uint8), *self._reasons])
        exact = self._exact.found()
        near = self._near.found() & ~exact
        self.mark("Duplicates", exact)
        self.mark("NearDuplicates", near)
        total = result.pairs
        for name, check in checks.items():
            if check.find or name in ("TestOverlap", "LanguageIDFilter"):
                self._say(name)
        wasted = sum(result.dropped().values())
        if wasted > _FATAL_SHARE * total:
            result.findings.append(
                Finding(
                    "MostlyWrong", "fatal", result.name, "the checks that drop pairs find something in most of them",
                    "a training would learn what is wrong", "look at the findings below: a setting of a language, or a "
                    "file, may be another one than was meant", wasted, total,
                )
            )  # fmt: skip
        result.findings += self.traits.findings(result, self.places)
        if self._identifier is not None:
            check = checks["LanguageIDFilter"]
            result.findings += whole.language_findings(result, check, self._identifier, self.places)

    def ratio_of_all(self) -> float | None:
        """The ratio that is usual in all of it, if it is far from the one that pairs were judged by."""
        lengths = [np.array([len(pair[side]) for _, pair in self.result.sample]) for side in (0, 1)]
        usual, judged = _usual_ratio(*lengths), self.result.ratio
        return usual if max(usual / judged, judged / usual) > _FAR_RATIO else None

    def mark(self, name: str, found: Array) -> None:
        """Say which pairs a check found that looks at all of them together.

        Args:
            name: of the check, which may be off.
            found: (N,) whether it found something in each pair.
        """
        result, check = self.result, self._checks.get(name)
        if check is None:
            return
        self._counts[name] = int(found.sum())
        sampled = [each for each in sorted(self._sample.lines) if found[each[0]]][:EXAMPLES]
        placed = sampled or [(number, ("", "")) for number in np.flatnonzero(found)[:EXAMPLES].tolist()]
        self._examples[name] = [self.places.example(*each) for each in placed]
        if check.action == DROP:
            result.reasons[(result.reasons == 0) & found] = 1 + result.names.index(name)
        self._say(name)

    def _say(self, name: str) -> None:
        """Add what a check found to the findings."""
        if count := self._counts[name]:
            result, examples = self.result, self._examples[name]
            result.findings.append(finding_of(self._checks[name], result.name, count, result.pairs, examples))


def _judged_by_first(result: Examination, ratio: float) -> Finding:
    """What is said of a stream, which cannot be read again with the ratio of all of it."""
    return Finding(
        "LengthRatioFilter", "warning", result.name,
        f"was judged by what is usual in the first pairs, {result.ratio:.2f} characters of the target for one of the "
        f"source, but {ratio:.2f} is in all",
        "the check finds other pairs than it should", "give files, which are read again, in place of a stream",
    )  # fmt: skip


def _mark_disorder(examiner: Examiner, check: Check, corpus: Corpus, count: Callable[[int], object]) -> None:
    """Say which pairs of a corpus do not belong together by a statistical alignment of it, if there is one."""
    try:
        scores = alignment_scores(corpus, count)
    except DataError as error:
        name = examiner.result.name
        examiner.result.findings.append(Finding(check.name, "warning", name, f"nothing was looked at: {error}"))
    else:
        examiner.mark(check.name, scores < (check.threshold or 0.0))


def _usual_ratio(source: Array, target: Array) -> float:
    """The ratio in the middle of those of pairs with both sides; 1 if there are none."""
    both = (source > 0) & (target > 0)
    return float(np.median((target[both] + 1) / (source[both] + 1))) if both.any() else 1.0


def examine(
    corpora: Mapping[str, Corpus],
    checks: Mapping[str, Check],
    *,
    languages: tuple[str, str],
    tagged: Collection[str] = (),
    segmentation: str = "none",
    count: Callable[[int], object],
) -> dict[str, Examination]:
    """Read corpora once each, or twice if they begin with pairs of another ratio, and find what is wrong with them.

    Args:
        corpora: by the names of `DataSettings.corpora`, or others; those of `validation` and `test` are held in memory,
            and looked for in the others.
        checks: as `settled_checks` gives them.
        languages: codes of source and target; empty if unknown.
        tagged: corpora with a tag, which may be of other languages.
        segmentation: of `data.segmentation`.
        count: told how many more pairs were read.
    """
    judging = {name: corpus for name, corpus in corpora.items() if is_judging(name)}
    results, texts = dict[str, Examination](), dict[str, Sequence[tuple[str, str]]]()
    identifier = whole.identifier_for(checks, languages)
    if tagged:
        _LOGGER.info(
            "languages and scripts are not looked at in corpora with a tag, which may be of another direction: %s",
            ", ".join(tagged),
        )
    of = {name: ("", "") if name in tagged else languages for name in corpora}
    with tempfile.TemporaryDirectory(prefix="nmt-doctor-") as name:
        folder = Path(name)
        for role, corpus in judging.items():
            examiner = Examiner(role, checks, of[role], folder=folder, identifier=identifier)
            results[role] = examiner.read(corpus, count)
            texts[role] = [pair for _, pair in sorted(results[role].sample)]
        overlap = Overlap(texts)  # of all corpora to train on together
        for role, corpus in corpora.items():
            if role not in judging:
                how: dict[str, Any] = {"folder": folder, "overlap": overlap, "identifier": identifier}
                examiner = Examiner(role, checks, of[role], **how)
                results[role] = examiner.read(corpus, count)
                if (ratio := examiner.ratio_of_all()) is not None:
                    if "LengthRatioFilter" not in checks:
                        results[role].ratio = ratio
                    elif any(map(is_stream, chain(*corpus.paths))):
                        results[role].findings.append(_judged_by_first(results[role], ratio))
                    else:
                        examiner = Examiner(role, checks, of[role], **how, ratio=ratio)
                        results[role] = examiner.read(corpus, lambda pairs: None)  # which were counted
                check = checks.get("WordAlignFilter")
                if check is not None and not any(each.check == "Unreadable" for each in results[role].findings):
                    _mark_disorder(examiner, check, corpus, count)
                results[role].findings += whole.few_pairs(results[role])
        for finding in whole.overlap_findings(overlap, texts):
            results[finding.corpus].findings.append(finding)
    found = {role: [pair for _, pair in sorted(result.sample)] for role, result in results.items() if result.pairs}
    plain = {role: pairs for role, pairs in found.items() if role not in tagged}
    if main := next((role for role in plain if role not in judging), None):
        told = [
            role for role, result in results.items() if any(each.check == "SwappedSides" for each in result.findings)
        ]
        how = {"languages": languages, "segmentation": segmentation, "told": told}
        for finding in whole.sample_findings(plain, main, **how):
            results[finding.corpus].findings.append(finding)
    return {role: results[role] for role in corpora}
