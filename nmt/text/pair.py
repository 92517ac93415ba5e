"""All that stands between raw text and token ids, for both sides, and how it lies in a model directory.

- `tokenizer.json`: kind and settings of each side, and the fingerprints of its files; written last
- `tokenizer.model`: SentencePiece only; `tokenizer.source.model` and `tokenizer.target.model` if there are two
- `vocabulary.txt`: all tokens, one per line; `vocabulary.source.txt` and `vocabulary.target.txt` if there are two

A joint pair is one tokenizer, or two with the same vocabulary that normalise text in different ways.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from nmt.errors import ConfigError, DataError
from nmt.kinds import TOKENIZERS, either, imported_files
from nmt.text.hints import HINT_MARKS
from nmt.text.tokenizer import ListTokenizer, Sample, Tokenizer, in_blocks, normalized
from nmt.text.vocabulary import SPECIAL_TOKENS, UNK_ID, Vocabulary, read_text_file, side_name, write_file
from nmt.types import PathLike

_FORMAT_VERSION = 1
FILE_NAME = "tokenizer.json"
"""The file that `TextPair.save` writes last, and without which there are no tokenizers."""

_JOINT = "joint"

NFC_TARGET = ("nfkc", "nfc")
"""How source and target are normalised unless told: a model reads folded text and writes text as people do."""


@dataclass(frozen=True)
class TextPair:
    """The tokenizers of source and target.

    Attributes:
        source: tokenizer of the source language.
        target: tokenizer of the target language.
        joint: both sides use one vocabulary, so that their embeddings can be tied.
        tag_side: `source` or `target`, which of them the symbol of a tag is put before.

    Raises:
        ConfigError: declared joint, but the vocabularies differ.
    """

    source: Tokenizer
    target: Tokenizer
    joint: bool
    tag_side: str = "source"

    def __post_init__(self) -> None:
        if self.joint and self.source.vocabulary.fingerprint != self.target.vocabulary.fingerprint:
            raise ConfigError("the vocabulary of a joint pair must be equal on both sides: use one tokenizer for both")

    @classmethod
    def learn(
        cls,
        kind: type[Tokenizer],
        source_lines: Iterable[str],
        target_lines: Iterable[str],
        *,
        joint: bool,
        normalization: tuple[str | None, str | None] = NFC_TARGET,
        **settings: Any,
    ) -> TextPair:
        """Learn one tokenizer for both sides, or one per side; text is normalised before, and by them afterwards.

        Args:
            kind: what is learned.
            source_lines: raw text.
            target_lines: raw text of the other language.
            joint: one vocabulary for both sides.
            normalization: of source and target, see `nmt.text.tokenizer.normalized`; None takes lines as they are.
            settings: those of `kind.learn`.

        Raises:
            ConfigError: the vocabulary has no room for what it must hold.
            DataError: a side has no text.
        """
        learner = TextLearner(kind, joint=joint, normalization=normalization, **settings)
        for side, lines in enumerate((source_lines, target_lines)):
            for block in in_blocks(lines):
                learner.update(side, block)
        return learner.learn()

    @classmethod
    def of_one(cls, target: Tokenizer, source_normalization: str | None) -> TextPair:
        """The joint pair of one tokenizer: it is the source's too, unless source text is normalised in another way."""
        same = target.normalization == source_normalization
        return cls(target if same else target.with_normalization(source_normalization), target, joint=True)

    @property
    def vocabularies(self) -> dict[str, Tokenizer]:
        """The tokenizer of each vocabulary: `joint` (the target's, which folds least), or `source` and `target`."""
        return {"joint": self.target} if self.joint else {"source": self.source, "target": self.target}

    def with_vocabularies(self, changed: Mapping[str, Tokenizer]) -> TextPair:
        """The pair with others for some of `vocabularies`; how a joint pair normalises its source stays."""
        if not self.joint:
            sides = {**self.vocabularies, **changed}
            return replace(self, source=sides["source"], target=sides["target"])
        target = changed["joint"]
        same = self.source.normalization == self.target.normalization
        made = self.of_one(target, target.normalization if same else self.source.normalization)
        return replace(made, tag_side=self.tag_side)

    @property
    def tags(self) -> dict[str, int]:
        """The id of the symbol of each tag in the vocabulary of the side that tags are put before."""
        tags = (self.source if self.tag_side == "source" else self.target).tags
        return {tag: token_id for tag, token_id in tags.items() if tag not in HINT_MARKS}

    def with_tags(self, tags: Sequence[str], side: str = "source") -> TextPair:
        """The pair with symbols for tags in the vocabulary of a side, `source` or `target`; itself if it has them all.

        Raises:
            ConfigError: its tokenizers cannot have tags.
        """
        pair = replace(self, tag_side=side) if tags and side != self.tag_side else self
        return pair if {*tags} <= pair.tags.keys() else pair._with_symbols(tags, side)

    def _with_symbols(self, tags: Sequence[str], side: str) -> TextPair:
        name = "joint" if self.joint else side
        return self.with_vocabularies({name: self.vocabularies[name].with_tags(tags)})

    @property
    def has_hint_marks(self) -> bool:
        """Whether the source may have hints."""
        return self.source.tags.keys() >= {*HINT_MARKS}

    def with_hint_marks(self) -> TextPair:
        """The pair with symbols for the marks of hints in the vocabulary of the source; itself if it has them.

        Raises:
            ConfigError: its tokenizers cannot have tags.
        """
        return self if self.has_hint_marks else self._with_symbols(HINT_MARKS, "source")

    def begins(self, tag: str | None) -> tuple[list[int], list[int]]:
        """The token ids that source and target of a line with a tag begin with: its symbol on one side, if it has one.

        Raises:
            ConfigError: there is no symbol for the tag.
        """
        if tag is None:
            return [], []
        if tag not in self.tags:
            has = f"it knows {either([*self.tags])}" if self.tags else "it was trained without tags"
            raise ConfigError(f"the tag must be one that the model was trained with, got {tag or 'nothing'}: {has}")
        symbol = [self.tags[tag]]
        return (symbol, []) if self.tag_side == "source" else ([], symbol)

    def lines_to_learn(self, lines: Iterable[str]) -> Iterator[str]:
        """Raw lines for a vocabulary; for a joint one, what the source reads in another way than the target too."""
        for line in lines:
            yield line
            if self.joint and self.source.normalized(line) != self.target.normalized(line):
                yield self.source.normalized(line)

    @property
    def fingerprints(self) -> list[str]:
        """What tells the tokenizers of source and target from others; manifests record it."""
        return [self.source.fingerprint, self.target.fingerprint]

    @property
    def imports(self) -> list[str] | None:
        """The files that another process has to import before it can `load` these tokenizers after `save`.

        None if no file helps, as their class is one of a running program's own.
        """
        kinds = {type(self.source), type(self.target)}
        files = {found.module: str(found.path) for found in imported_files()}
        needed = [files[kind.__module__] for kind in kinds if kind.__module__ in files]
        ours = [kind for kind in kinds if kind.__module__.startswith("nmt.")]
        found = len(needed) + len(ours) == len(kinds) and all(TOKENIZERS[kind.type] is kind for kind in kinds)
        return needed if found else None

    def save(self, directory: PathLike) -> None:
        """Write the files of both sides into a directory, which is made if it is missing.

        Raises:
            DataError: a file cannot be written.
        """
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{directory}: cannot be made: {error.strerror}") from error
        shared = self.joint and self.source.fingerprint == self.target.fingerprint
        sides = {}
        for side, tokenizer in [("", self.source)] if shared else [("source", self.source), ("target", self.target)]:
            tokenizer.save(directory, side)
            sides[side or _JOINT] = {
                "type": tokenizer.type,
                "settings": tokenizer.settings,
                "vocabulary_size": len(tokenizer.vocabulary),
                "vocabulary_fingerprint": tokenizer.vocabulary.fingerprint,
                "tokenizer_fingerprint": tokenizer.fingerprint,
            }
        content = {"format_version": _FORMAT_VERSION, "joint": self.joint, "sides": sides}
        content |= {} if self.tag_side == "source" else {"tag_side": self.tag_side}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_file(directory / FILE_NAME, text.encode("utf-8"))

    @classmethod
    def load(cls, directory: PathLike) -> TextPair:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing, damaged, or belongs to another model; the message names it.
        """
        directory = Path(directory)
        path = directory / FILE_NAME
        try:
            content = json.loads(read_text_file(path))
            if (version := content["format_version"]) != _FORMAT_VERSION:
                raise DataError(f"{path}: format_version must be {_FORMAT_VERSION}, got {version}")
            names = [_JOINT] if _JOINT in content["sides"] else ["source", "target"]
            sides = [_load_side(directory, name, content["sides"][name]) for name in names]
            return cls(sides[0], sides[-1], content["joint"], content.get("tag_side", "source"))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not a description of tokenizers (missing or malformed: {error})") from error

    @staticmethod
    def exists(directory: PathLike) -> bool:
        """Whether a pair was saved in this directory, completely."""
        return (Path(directory) / FILE_NAME).is_file()


class TextLearner:
    """Gathers, in one reading of parallel text, what the tokenizers of both sides are learned from.

    That is a sample of the lines of each side if their kind takes no more, else the counts of their tokens.

    Args: as for `TextPair.learn`.
    """

    def __init__(
        self,
        kind: type[Tokenizer],
        *,
        joint: bool,
        normalization: tuple[str | None, str | None] = NFC_TARGET,
        **settings: Any,
    ) -> None:
        self._kind, self._joint, self._normalization, self._settings = kind, joint, normalization, settings
        counts = Counter[str]()
        self._gathered: list[Sample[str] | Counter[str]] = [counts, counts if joint else Counter()]
        if kind.maximum_lines is not None:
            limit = kind.maximum_lines // 2 if joint else kind.maximum_lines
            self._gathered = [Sample(limit, seed=settings.get("seed", 0)) for _ in normalization]

    def update(self, side: int, lines: Sequence[str]) -> None:
        """Take in the next raw lines of a side: of the source (0) or the target (1)."""
        gathered = self._gathered[side]
        if isinstance(gathered, Sample):  # normalised later, as that is work
            gathered.update(lines)
        elif issubclass(self._kind, ListTokenizer):
            gathered.update(self._kind.count(self._normalized(side, lines)))

    def learn(self) -> TextPair:
        """Learn the tokenizers, and let go of what was gathered.

        Raises:
            ConfigError: the vocabulary has no room for what it must hold.
            DataError: a side has no text.
        """
        gathered, self._gathered = self._gathered, []
        sides = [
            self._normalized(side, found.lines) if isinstance(found, Sample) else found
            for side, found in enumerate(gathered)
        ]
        if self._joint:
            lines = gathered[0] if isinstance(gathered[0], Counter) else chain(*sides)
            tokenizer = self._kind.learn(lines, **self._settings)
            return TextPair.of_one(tokenizer.with_normalization(self._normalization[1]), self._normalization[0])
        source, target = (
            self._kind.learn(side, **self._settings).with_normalization(form)
            for side, form in zip(sides, self._normalization, strict=True)
        )
        return TextPair(source, target, joint=False)

    def _normalized(self, side: int, lines: Iterable[str]) -> Iterable[str]:
        form = self._normalization[side]
        return lines if form is None else map(partial(normalized, form=form), lines)


def _load_side(directory: Path, name: str, description: dict[str, Any]) -> Tokenizer:
    """One tokenizer, proved to be the one that was saved: a model works with its own tokens only."""
    kind, side = description["type"], "" if name == _JOINT else name
    try:
        tokenizer_class = TOKENIZERS[kind]
    except ConfigError as error:
        raise DataError(f"{directory / FILE_NAME}: {error}") from error
    path = directory / side_name("vocabulary.txt", side)
    if Vocabulary.load(path).fingerprint != description["vocabulary_fingerprint"]:
        raise DataError(f"{path}: has changed since {FILE_NAME} was written: restore it, the model needs its ids")
    tokenizer = tokenizer_class.load(directory, side, description["settings"])
    if tokenizer.fingerprint != description["tokenizer_fingerprint"]:
        raise DataError(f"{directory}: the {name} tokenizer is not the one that {FILE_NAME} describes")
    return tokenizer


class VocabularyDifference(NamedTuple):
    """What became of a vocabulary.

    old_size, new_size: V before and after.
    origins: for each new token id the old ids it comes from: its own if it remained, else those that the old
        tokenizer cuts it into. Never empty.
    added: new tokens, by id, each with the old tokens it was cut into.
    dropped: old tokens that are gone, by id.
    moved: tokens that remained under another id.
    text: how lines of text are cut: `lines`, and the `tokens` and `unknown` ones in them `_before` and `_now`; or None.
    """

    old_size: int
    new_size: int
    origins: tuple[tuple[int, ...], ...]
    added: dict[str, list[str]]
    dropped: list[str]
    moved: int
    text: dict[str, int] | None

    @property
    def kept(self) -> int:
        """Number of tokens that remained."""
        return self.old_size - len(self.dropped)

    def as_json(self) -> dict[str, Any]:
        """All of it that says something to people, as JSON values."""
        return {
            "size_before": self.old_size,
            "size_now": self.new_size,
            "kept": self.kept,
            "moved": self.moved,
            "added": len(self.added),
            "dropped": len(self.dropped),
            "added_tokens": self.added,
            "dropped_tokens": self.dropped,
            "text": self.text,
        }


def compare_vocabularies(old: Tokenizer, new: Tokenizer, *, lines: Sequence[str] | None = None) -> VocabularyDifference:
    """Trace every token of a tokenizer back to another one.

    A token whose cut is empty comes from all tokens that are not special.

    Args:
        old: what a model was trained with.
        new: of the same kind.
        lines: raw text in which the tokens of both are counted.
    """
    old_ids = {token: token_id for token_id, token in enumerate(old.vocabulary.tokens)}
    anything = tuple(range(len(SPECIAL_TOKENS), len(old_ids))) or tuple(old_ids.values())
    origins: list[tuple[int, ...]] = []
    added: dict[str, list[str]] = {}
    for token in new.vocabulary.tokens:
        if token in old_ids:
            origins.append((old_ids[token],))
            continue
        cut = old.cut(token)
        added[token] = old.tokens(cut)
        origins.append(tuple(cut) or anything)
    remaining, text = set(new.vocabulary.tokens), None
    if lines is not None:
        text = {"lines": len(lines)}
        cuts = [list(chain.from_iterable(tokenizer.encode_batch(lines))) for tokenizer in (old, new)]
        text |= {"tokens_before": len(cuts[0]), "tokens_now": len(cuts[1])}
        text |= {"unknown_before": cuts[0].count(UNK_ID), "unknown_now": cuts[1].count(UNK_ID)}
    return VocabularyDifference(
        old_size=len(old_ids),
        new_size=len(origins),
        origins=tuple(origins),
        added=added,
        dropped=[token for token in old.vocabulary.tokens if token not in remaining],
        moved=sum(old_ids.get(token, new_id) != new_id for new_id, token in enumerate(new.vocabulary.tokens)),
        text=text,
    )
