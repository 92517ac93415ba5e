"""Settings of the section `data`: the languages, the corpora and how text becomes tokens."""

import os
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from glob import glob, has_magic
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema

from nmt import kinds
from nmt.kinds import either
from nmt.settings.section import REQUIRED, WORDS, Choice, FilePath, FilePaths, Misfit, OneOrMany, Section, setting

SPECIAL_SYMBOLS = 4
_JOINT_HELP = "One vocabulary for both languages; tying the source embedding to the target side needs it."
_SIZE_HELP = "Upper bound of the vocabulary per language (of both, if joint), the four special symbols counted."
_COUNT_HELP = "A {unit} that is seen less often in the training corpus is unknown."


class TokenizerSettings(Section):
    """What the settings of every tokenizer have, whatever its kind."""

    if TYPE_CHECKING:
        type: str
        joint: bool
        vocabulary_size: int | None

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The finished models that are taken in place of one that is learned."""
        return ()


TOKENIZERS = Choice(kinds.TOKENIZERS, needs=("joint", "vocabulary_size"))
register_tokenizer = TOKENIZERS.register


@TOKENIZERS.register("sentencepiece")
class SentencePieceSettings(TokenizerSettings):
    """Subword pieces learned from the training corpus by SentencePiece."""

    type: Literal["sentencepiece"] = setting("sentencepiece", "Subword pieces learned by SentencePiece.")
    model: FilePaths | None = setting(
        None,
        "A finished SentencePiece model (.model) in place of one that is learned, or if joint is false a list of "
        "two, for source and target. It is taken as it is, with its own normalisation: data.normalization and the "
        "settings for learning are not used.",
        before=None,
    )
    model_type: Literal["unigram", "bpe"] = setting("unigram", "How SentencePiece chooses its pieces.")
    joint: bool = setting(True, _JOINT_HELP)
    vocabulary_size: int = setting(8000, _SIZE_HELP + " A narrow corpus gives fewer.", above=SPECIAL_SYMBOLS)
    character_coverage: float = setting(
        1.0,
        "Share of the corpus's characters that get a piece; 0.9995 for Chinese or Japanese.",
        at_least=0.98,  # SentencePiece takes no less
        at_most=1,
    )

    byte_fallback: bool = setting(
        False,
        "Spell a character that has no piece by its bytes, in place of <unk>. It takes 256 of vocabulary_size; if "
        "character_coverage is 1.0 no training text holds them, so that their embeddings are never learned.",
    )

    @property
    def model_paths(self) -> tuple[str, ...]:
        """The finished models: none, one for both sides, or one for each."""
        return (self.model,) if isinstance(self.model, str) else self.model or ()

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if there are more or fewer finished models than vocabularies."""
        wanted, found = 1 if self.joint else 2, len(self.model_paths)
        if found not in (0, wanted):
            kind = "one path if joint is true" if self.joint else "a list of two paths if joint is false"
            yield Misfit("model", f"must be {kind}, got {found}: set joint {'false' if self.joint else 'true'}?")


@TOKENIZERS.register("whitespace")
class WhitespaceSettings(TokenizerSettings):
    """Words as the whitespace of the text separates them."""

    type: Literal["whitespace"] = setting("whitespace", "Words as the whitespace separates them; for tokenized text.")
    joint: bool = setting(False, _JOINT_HELP)
    vocabulary_size: int | None = setting(
        30000, _SIZE_HELP + " The most frequent words are kept; null keeps all.", above=SPECIAL_SYMBOLS
    )
    minimum_count: int = setting(1, _COUNT_HELP.format(unit="word"), at_least=1)


@TOKENIZERS.register("character")
class CharacterSettings(TokenizerSettings):
    """Single characters."""

    type: Literal["character"] = setting("character", "Single characters.")
    joint: bool = setting(False, _JOINT_HELP)
    vocabulary_size: int | None = setting(
        None, _SIZE_HELP + " The most frequent characters are kept; null keeps all.", above=SPECIAL_SYMBOLS
    )
    minimum_count: int = setting(1, _COUNT_HELP.format(unit="character"), at_least=1)


class NormalizationSettings(Section):
    """How text is normalised before it is cut into tokens; white space is collapsed whatever is chosen."""

    source: Literal["none", "nfc", "nfkc"] = setting(
        "nfkc",
        "What the model reads. nfkc folds what looks alike (full-width letters, ligatures, `…`), so that unseen forms "
        "meet known ones; nfc only composes accents; none changes no character.",
    )
    target: Literal["none", "nfc", "nfkc"] = setting(
        "nfc", "What the model learns to write. nfkc would make it write `?` for `？`, `...` for `…` and 102 for 10²."
    )


FORMATS = Choice(kinds.READERS)

Column = Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1)]
"""A column by its number, or by its name."""

_BRACES = re.compile(r"\{([^{},/]+),([^{},/]+)\}")


def matching_files(pattern: str) -> tuple[str, ...]:
    """Returns the files that a pattern with `*`, `?` or `[...]` matches, sorted; itself if it matches none."""
    if os.path.lexists(pattern) or not has_magic(pattern):
        return (pattern,)
    return tuple(sorted(glob(pattern, recursive=True))) or (pattern,)


def languages_in(pattern: str) -> tuple[str, str] | None:
    """Returns what stands between the braces of `corpus.{es,en}`, which names a file for each side."""
    found = _BRACES.search(pattern)
    return None if found is None or os.path.lexists(pattern) else (found[1], found[2])


def files_of_pairs(pattern: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the files of source and target that a pattern names: the same ones if they hold both sides.

    Of `data/*.{es,en}`, each file has its other side by its name, whether that is there or not.
    """
    found = _BRACES.search(pattern)
    if found is None or os.path.lexists(pattern):
        files = matching_files(pattern)
        return files, files
    before, after = pattern[: found.start()], pattern[found.end() :]
    starts, ends = ([before + side for side in found.groups()], [side + after for side in found.groups()])
    if not has_magic(after):
        rests = {path[: -len(end)] for path, end in _there([(before + end, end) for end in ends])}
        source, target = (tuple(rest + end for rest in sorted(rests)) for end in ends)
    elif not has_magic(before):
        rests = {path[len(start) :] for path, start in _there([(start + after, start) for start in starts])}
        source, target = (tuple(start + rest for rest in sorted(rests)) for start in starts)
    elif any(map(has_magic, found.groups())):
        source, target = (matching_files(start + after) for start in starts)
    else:
        sides = dict[str, list[str]]()
        for path, start in _there([(start + after, start) for start in starts]):
            sides.setdefault(start, []).append(path)
        source_files, target_files = ({*sides.get(start, ())} for start in starts)
        pairs = {(path, _partner(path, found[1], found[2], (before, after), target_files)) for path in source_files}
        pairs |= {(_partner(path, found[2], found[1], (before, after), source_files), path) for path in target_files}
        source, target = (tuple(pair[side] for pair in sorted(pairs)) for side in (0, 1))
    return source, target


def _there(patterns: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the files of some patterns, each with what its pattern has beside it; the patterns if there are none."""
    matched = [(path, mark) for pattern, mark in patterns for path in matching_files(pattern)]
    return [(path, mark) for path, mark in matched if os.path.lexists(path)] or matched


def _partner(path: str, own: str, other: str, around: tuple[str, str], there: Container[str]) -> str:
    """Returns the file of the other side by its name, which need not be there.

    Args:
        path: of a file.
        own: the language of this side.
        other: that of the other one.
        around: the patterns before and behind them.
        there: the files of the other side.
    """
    names = list[str]()
    for place in re.finditer(f"(?={re.escape(own)})", path):
        parts = path[: place.start()], path[place.start() + len(own) :]
        # A star may match a slash here, which it must not.
        if all(
            fnmatchcase(part, pattern) and ("**" in pattern or part.count("/") == pattern.count("/"))
            for part, pattern in zip(parts, around, strict=True)
        ):
            names.append(other.join(parts))
    return next((name for name in names if name in there), names[0])


_OF_PAIRS = ("format", "source_column", "target_column", "loss_weight_column", "alignment_column")
"""What says where things stand in files of pairs."""


class CorpusSettings(Section):
    """A parallel corpus: files of lines for each side (`source`, `target`), or files with both (`pairs`)."""

    source: FilePaths | None = setting(
        None,
        "Text in the source language, a sentence per line, plain or as gzip, xz, bzip2 or zstd. A path may have the "
        "wildcards *, ? and [...], which stand for all files that match, sorted.",
        may_change=True,
    )
    target: FilePaths | None = setting(
        None, "Its translation: line n translates line n of the source.", may_change=True
    )
    pairs: FilePaths | None = setting(
        None,
        "In place of both, files that hold both sides, known by their endings (docs/data.md), or corpus.{es,en} for "
        "the files corpus.es and corpus.en.",
        may_change=True,
    )
    format: Annotated[str, FORMATS] | None = setting(
        None, "How files of pairs hold both sides, if the endings of their names do not say it.", may_change=True
    )
    source_column: Column | None = setting(
        None,
        "Where the source stands in files of pairs. tsv: a column by its number, from 1, or by its name in the first "
        "line (null: 1); jsonl: a field (null: source); tmx, zip: a language (null: that of the run).",
        may_change=True,
    )
    target_column: Column | None = setting(
        None, "Where the target stands: likewise (null: column 2, field target).", may_change=True
    )
    loss_weight_column: Column | None = setting(
        None,
        "Where the weight of each pair in the training loss stands in files of pairs (tsv: a column, jsonl: a field): "
        "0 leaves the pair out, 2 counts like the pair twice. Null: all count alike. For data.train.",
        may_change=True,
    )
    alignment: FilePaths | None = setting(
        None,
        "Links between the words of each pair, a line for each (`0-0 1-2`, as nmt align-corpus writes them), for the "
        "kinds tags and placeholders of data.variation: as many files as of source. For data.train.",
        may_change=True,
    )
    alignment_column: Column | None = setting(
        None,
        "In place of that, where the links stand in files of pairs (tsv: a column, jsonl: a field).",
        may_change=True,
    )
    alignment_tokenized: bool = setting(
        False,
        "Whether links count words and punctuation, as `nmt align-corpus --tokenize` cuts them; else what stands "
        "between spaces.",
        may_change=True,
    )

    @property
    def paths(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files of source and target as they are there now; of a file with both sides, it is both."""
        if self.pairs is None:
            sources, targets = ([*map(matching_files, _as_tuple(side))] for side in (self.source, self.target))
        else:
            sources, targets = map(list, zip(*map(files_of_pairs, _as_tuple(self.pairs)), strict=True))
        return sum(sources, ()), sum(targets, ())

    @property
    def alignment_paths(self) -> tuple[str, ...]:
        """The files of links as they are there now."""
        return sum(map(matching_files, _as_tuple(self.alignment)), ())

    @classmethod
    def replaced(cls, below: Mapping[str, Any], above: Mapping[str, Any]) -> Iterator[str]:
        """Yields the way in which files were named, if those above are named in the other, and columns with it."""
        source, target = above.get("source"), above.get("target")
        if source is not None or target is not None:
            yield "pairs"
            yield from _OF_PAIRS if source != target else ()
        elif above.get("pairs") is not None:
            yield from ("source", "target")

    def misfits(self) -> Iterator[Misfit]:
        """Yields misfits of the two ways to name files; which there are is not looked at."""
        sides = {"source": self.source, "target": self.target}
        if self.alignment is not None and self.alignment_column is not None:
            yield Misfit(
                "alignment", "stands in place of alignment_column, and both are given: set one of them to null"
            )
        if self.pairs is not None:
            if given := [name for name, paths in sides.items() if paths is not None]:
                yield Misfit(
                    "pairs", f"stands in place of source and target, got {' and '.join(given)} too: set null there"
                )
            return
        if missing := [name for name, paths in sides.items() if paths is None]:
            for name in missing:
                yield Misfit(name, "is missing: a path or a list of paths (or pairs, for a file with both sides)")
            return
        sources, targets = (len(_as_tuple(paths)) for paths in sides.values())
        if sources != targets:
            yield Misfit(
                "source", f"must have as many files as target, got {sources} and {targets}: list them in matching order"
            )
        for name in _OF_PAIRS:
            if getattr(self, name) is not None and not {*_as_tuple(self.source)} & {*_as_tuple(self.target)}:
                yield Misfit(name, "is for pairs, files that hold both sides, and source and target are given")


_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NamedCorpusSettings(CorpusSettings):
    """A corpus in a list of several."""

    name: str = setting(REQUIRED, "How the corpus is called in logs and other settings: letters, digits, _ and -.")
    tag: str | None = setting(
        None,
        "A text such as <bt> or <2de>: one symbol of the vocabulary that is put before each source, or target if "
        "data.tag_side says so, and never read from text. A new one needs a new vocabulary.",
        min_length=1,
    )

    def misfits(self) -> Iterator[Misfit]:
        """Yields misfits of the name, and those of every corpus."""
        yield from super().misfits()
        if not _NAME.fullmatch(self.name) or self.name in MixedCorpusSettings.model_fields:
            yield Misfit("name", f"must be of letters, digits, _ and -, and none of the settings, got {self.name!r}")
        if self.tag is not None and not (
            self.tag.isprintable() and self.tag == self.tag.strip() and " " not in self.tag
        ):
            yield Misfit("tag", f"must be one word, got {self.tag!r}: try <{''.join(self.tag.split()).strip('<>')}>")


class FilterSettings(Section):
    """What pairs of a corpus are left out, and counted by their reasons."""

    min_length: int = setting(1, "Tokens of each side at least, the closing one not counted.", at_least=1)
    max_length: int | None = setting(None, "Tokens of each side at most, if fewer than data.max_length.", at_least=1)
    max_ratio: float | None = setting(None, "Tokens of the longer side to those of the shorter, at most.", at_least=1)
    drop_copies: bool = setting(False, "Leave out pairs whose source is their target.")

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit if no length is allowed."""
        if self.max_length is not None and self.max_length < self.min_length:
            yield Misfit("max_length", f"must be at least min_length, {self.min_length}, got {self.max_length}")


class MixedCorpusSettings(NamedCorpusSettings):
    """A corpus of a mixture."""

    weight: float | None = setting(
        None,
        "Its share of the pairs, in relation to the weights of the others. Null, for all of a list or for none: by "
        "its size, see data.temperature.",
        at_least=0,
    )
    filters: FilterSettings | None = setting(None, "What pairs are left out.")


class UntilSettings(Section):
    """What ends a stage: so many updates, or so many passes through one of its corpora."""

    updates: int | None = setting(None, "Updates within the stage.", at_least=1)
    epochs: float | None = setting(None, "Passes through the corpus that `of` names, within the stage.", above=0)
    of: str | None = setting(None, "The name of that corpus; null if there is one.")

    def misfits(self) -> Iterator[Misfit]:
        """Yields a misfit unless it is one of both."""
        if (self.updates is None) == (self.epochs is None):
            yield Misfit("updates", "or epochs must be given, and one of them alone: say {updates: 20000}")
        elif self.of is not None and self.epochs is None:
            yield Misfit("of", "is for epochs: an update is one of the whole mixture")


Weights = Annotated[
    dict[str, Annotated[float, Field(ge=0)]],
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number"}, WORDS: "a weight for each name"}),
]


class StageSettings(Section):
    """A part of a run with weights of its own."""

    name: str | None = setting(None, "How the log calls it; null: its number, from 1.", min_length=1)
    weights: Weights | None = setting(
        None, "The weight of each corpus, by name; one that is not named takes no part. Null: as in data.train."
    )
    until: UntilSettings | None = setting(
        None, "When the next stage begins: after the batch that fulfils it. All stages but the last have it."
    )


Rates = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=1)]],
    WithJsonSchema(
        {"type": "object", "additionalProperties": {"type": "number"}, WORDS: "a rate from 0 to 1 for each kind"}
    ),
]


Stages = Annotated[
    tuple[StageSettings, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


_UNVARIED = "what judges a model is not varied"
_FOR_TRAINING = {
    "loss_weight_column": "what judges a model counts every pair alike",
    "alignment": _UNVARIED,
    "alignment_column": _UNVARIED,
}


def _as_tuple(paths: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else paths or ()


class DataSettings(Section):
    """The languages, the corpora and how text becomes tokens."""

    source_language: str = setting(REQUIRED, "The language translated from, as a code such as de.", min_length=1)
    target_language: str = setting(REQUIRED, "The language translated into, as a code such as en.", min_length=1)
    train: Annotated[
        CorpusSettings | tuple[MixedCorpusSettings, ...], OneOrMany(CorpusSettings, MixedCorpusSettings)
    ] = setting(
        REQUIRED,
        "The corpus to learn from, or a list of named ones that are mixed. Its files may move within a run, its text "
        "may not change.",
        may_change=True,
    )
    validation: Annotated[
        CorpusSettings | tuple[NamedCorpusSettings, ...], OneOrMany(CorpusSettings, NamedCorpusSettings)
    ] = setting(
        REQUIRED,
        "The corpus that picks the best checkpoint, or a list of named ones, of which training.deciding_validation "
        "picks it; every line counts. Its files may move within a run; if its text changes, "
        "training.on_validation_change decides.",
        may_change=True,
    )
    test: (
        Annotated[CorpusSettings | tuple[NamedCorpusSettings, ...], OneOrMany(CorpusSettings, NamedCorpusSettings)]
        | None
    ) = setting(None, "The corpus that `nmt evaluate` translates, or a list of named ones.", may_change=True)
    temperature: float = setting(
        1.0,
        "If data.train is a list without weights, each corpus has a share in proportion to its pairs ^ (1 / "
        "temperature): 1 is by size, 5 gives small ones much more (Arivazhagan et al., 2019).",
        before=1.0,
        above=0,
    )
    tag_side: Literal["source", "target"] = setting(
        "source",
        "Where the tags of corpora stand, in the whole run: before each source, where the encoder reads them; or "
        "before each target, as its first token, which is predicted in training and forced in translation.",
        before="source",
    )
    stages: Stages | None = setting(
        None, "Parts of the run that mix the corpora of data.train in other ways, one after the other.", before=None
    )
    tokenizer: Annotated[TokenizerSettings, TOKENIZERS] = setting(
        SentencePieceSettings(), "How lines of text become tokens."
    )
    normalization: NormalizationSettings | None = setting(
        NormalizationSettings(),
        "How text is normalised. Null, as in runs of version 0.1.0: SentencePiece folds both sides (nfkc), other "
        "tokenizers change nothing.",
        before=None,
    )
    segmentation: Literal["none", "bpe", "sentencepiece", "wordpiece", "joiner"] = setting(
        "none",
        "How words of the corpora were cut before they came here: bpe (subword-nmt, fastBPE: `fr@@ om`), sentencepiece "
        "(`▁fr om`), wordpiece (`fr ##om`), joiner (OpenNMT: `fr￭ om`). Translations are joined to words then, and "
        "BLEU is of words; what is translated has to be cut in the same way.",
        before="none",
    )
    subword_sampling: float | None = setting(
        None,
        "Train on cuts of the text that are drawn anew in each epoch, with P(cut)^alpha (Kudo, 2018), against "
        "overfitting a small corpus: alpha, 0.2 (many small pieces) to 0.5. Null: the best cut alone.",
        above=0,
    )
    variation: Rates | None = setting(
        None,
        "Kinds of variation of the training pairs, each with its share of the lines, drawn anew in each epoch: "
        "upper_case, title_case, final_punctuation, typos, white_space, noise, merge, word_dropout, word_swap; and of "
        "corpora with an alignment, tags and placeholders (docs/data.md). {} stands for {upper_case: 0.07, title_case: "
        "0.05, final_punctuation: 0.2, typos: 0.05, noise: 0.0005}, null for none.",
        before=None,
    )
    max_length: int = setting(
        100, "Tokens a side, the closing one not counted; longer training pairs are dropped and counted.", at_least=1
    )
    store_directory: FilePath | None = setting(
        None,
        "Where the encoded corpora are kept; several runs may share it. Null: token_store in the model directory.",
        may_change=True,
    )

    @property
    def corpora(self) -> dict[str, CorpusSettings]:
        """All corpora by the settings that describe them: `train`, or of a list `train.NAME` for each; and so on."""
        found = dict[str, CorpusSettings]()
        for part, corpora in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            if isinstance(corpora, tuple):
                found |= {f"{part}.{corpus.name}": corpus for corpus in corpora}
            elif corpora is not None:
                found[part] = corpora
        return found

    def names(self, *parts: str) -> list[str]:
        """The keys of `corpora` that are of some parts: of `train`, `validation` or `test`."""
        return [name for name in self.corpora if name.partition(".")[0] in parts]

    def with_corpora(self, changed: Mapping[str, CorpusSettings]) -> Self:
        """Returns the settings with others for some of `corpora`."""
        parts = dict[str, Any]()
        for part in {name.partition(".")[0] for name in changed}:
            one = changed.get(part)  # if it is no list
            parts[part] = one or tuple(changed.get(f"{part}.{each.name}", each) for each in getattr(self, part))
        return self.model_copy(update=parts)

    @property
    def hints(self) -> list[str]:
        """The kinds of variation that write hints into the source, for which links between words are needed."""
        return [word for word in ("tags", "placeholders") if (self.variation or {}).get(word)]

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of all corpora, each once, in the order of the config."""
        return tuple(dict.fromkeys(filter(None, map(self.tag_of, self.corpora))))

    def tag_of(self, name: str) -> str | None:
        """The tag of one of `corpora`."""
        corpus = self.corpora[name]
        return corpus.tag if isinstance(corpus, NamedCorpusSettings) else None

    @property
    def normalization_forms(self) -> tuple[str | None, str | None]:
        """How source and target are normalised; None takes text as it is."""
        if self.normalization is None:
            return ("nfkc", "nfkc") if isinstance(self.tokenizer, SentencePieceSettings) else (None, None)
        return self.normalization.source, self.normalization.target

    def misfits(self) -> Iterator[Misfit]:
        """Yields misfits of languages and names, and of the tokenizer with cuts to be drawn, or made before."""
        tokenizer, languages = self.tokenizer, (self.source_language, self.target_language)
        yield from self._misfits_of_mixture()
        for name, corpus in self.corpora.items():
            if name.partition(".")[0] != "train":
                for key, why in _FOR_TRAINING.items():
                    if getattr(corpus, key) is not None:
                        yield Misfit(f"{name}.{key}", f"is for data.train: {why}")
            elif self.hints and corpus.alignment is None and corpus.alignment_column is None:
                yield Misfit(
                    f"{name}.alignment",
                    f"is missing, and data.variation has {either(self.hints)}, which needs links between words: write "
                    "them with nmt align-corpus",
                )
            for pattern in _as_tuple(corpus.pairs):
                if languages_in(pattern) == languages[::-1] != languages:
                    right = "{" + ",".join(languages) + "}"
                    other = (
                        ""
                        if self.tag_of(name) is None
                        else ", or, if its tag is of the other direction, source and target"
                    )
                    yield Misfit(f"{name}.pairs", f"must name the source first, got {pattern}: write {right}{other}")
        if self.segmentation == "sentencepiece" and isinstance(tokenizer, SentencePieceSettings):
            yield Misfit(
                "segmentation",
                "must be none if data.tokenizer has type sentencepiece, got sentencepiece: the pieces of another "
                "model are words of a tokenizer of type whitespace",
            )
        if self.variation is not None:
            yield from self._misfits_of_variation(self.variation)
        knows_cuts = isinstance(tokenizer, SentencePieceSettings) and tokenizer.model_type == "unigram"
        if self.subword_sampling is not None and not knows_cuts:
            given = "model_type bpe" if isinstance(tokenizer, SentencePieceSettings) else f"type {tokenizer.type}"
            yield Misfit(
                "subword_sampling",
                f"must be null if data.tokenizer has {given}: only a sentencepiece tokenizer of model_type unigram "
                "says how probable a cut is",
            )

    def _misfits_of_variation(self, rates: Mapping[str, float]) -> Iterator[Misfit]:
        """Yields misfits of the kinds of variation, and of settings that it does not go with."""
        if self.subword_sampling is not None:
            yield Misfit("variation", "must be null if subword_sampling is set: choose one of the two")
        if self.segmentation != "none":
            yield Misfit(
                "variation", f"must be null if segmentation is {self.segmentation}: it varies words, not pieces"
            )

    def _misfits_of_mixture(self) -> Iterator[Misfit]:
        """Yields misfits of lists of corpora, their weights and stages."""
        for part in ("train", "validation", "test", "stages"):
            listed, noun = getattr(self, part), "stage" if part == "stages" else "corpus"
            names = [each.name or str(at) for at, each in enumerate(listed, 1)] if isinstance(listed, tuple) else []
            if listed == ():
                yield Misfit(part, f"must have a {noun} at least, got an empty list")
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                yield Misfit(part, f"must give each {noun} a name of its own, got {twice[0]} twice")
        if self.tag_side == "target" and not self.tags:
            yield Misfit("tag_side", "is for corpora with tags, and there is none: give one a tag, or set it to source")
        if not isinstance(self.train, tuple):
            if self.stages is not None or self.temperature != 1.0:
                key = "temperature" if self.stages is None else "stages"
                yield Misfit(key, "is for a list of corpora in data.train, each with a name, and there is one without")
            return
        weights = {corpus.name: corpus.weight for corpus in self.train}
        if None in weights.values() and {*weights.values()} != {None}:
            without = next(name for name, weight in weights.items() if weight is None)
            yield Misfit("train", f"must give all corpora a weight or none, got none for {without}")
        elif None not in weights.values() and self.temperature != 1.0:
            yield Misfit("temperature", "is for corpora without weights, which are mixed by their sizes")
        elif self.train and not self.stages and not any(weight is None or weight for weight in weights.values()):
            yield Misfit("train", "must give a corpus a weight above 0, got 0 for all")
        for number, stage in enumerate((self.train and self.stages) or ()):
            yield from self._misfits_of_stage(number, stage, stage.weights if stage.weights is not None else weights)

    def _misfits_of_stage(self, at: int, stage: StageSettings, weights: Mapping[str, float | None]) -> Iterator[Misfit]:
        known = [corpus.name for corpus in self.train] if isinstance(self.train, tuple) else []
        mixed = [name for name, weight in weights.items() if weight is None or weight > 0]
        key, last = f"stages.{at}", at == len(self.stages or ()) - 1
        if unknown := [name for name in weights if name not in known]:
            yield Misfit(f"{key}.weights", f"must name corpora of data.train, got {unknown[0]}: try {either(known)}")
        elif not mixed:
            yield Misfit(f"{key}.weights", "must give a corpus a weight above 0, got none")
        if last == (stage.until is not None):
            wrong = "is set, but the last stage lasts until the run ends" if last else "is missing: what ends the stage"
            yield Misfit(f"{key}.until", wrong + (": remove it, or add a stage" if last else ", say {updates: 20000}"))
        elif stage.until is not None and stage.until.epochs is not None:
            if stage.until.of is None and len(mixed) > 1:
                yield Misfit(f"{key}.until.of", f"is missing: epochs of which corpus, {either(mixed)}?")
            elif stage.until.of is not None and stage.until.of not in mixed:
                yield Misfit(f"{key}.until.of", f"must be a corpus of the stage, got {stage.until.of}")
