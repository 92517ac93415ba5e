"""Other tokenizers for a trained model: extended by text, learned anew from text, or brought along."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, TypeVar

import numpy as np

from nmt.config import CharacterSettings, Config, CorpusSettings, SentencePieceSettings, WhitespaceSettings
from nmt.data import TokenStore, read_pairs
from nmt.data.corpus import read_lines
from nmt.errors import ConfigError, DataError
from nmt.text import (
    EOS_ID,
    PAD_ID,
    UNK_ID,
    CharacterTokenizer,
    SentencePieceTokenizer,
    TextPair,
    Tokenizer,
    WhitespaceTokenizer,
)
from nmt.text.builders import learn_character, learn_whitespace
from nmt.text.extension import (
    adopt_character,
    adopt_sentencepiece,
    adopt_whitespace,
    extend_character,
    extend_whitespace,
)
from nmt.text.sentencepiece_training import extend_sentencepiece, sample_lines, train_sentencepiece
from nmt.text.vocabulary import MOST_UNKNOWN
from nmt.types import PathLike

logger = logging.getLogger(__name__)

Given = TypeVar("Given")


class SideFiles(NamedTuple):
    """Files that say something about vocabularies.

    both: about the joint vocabulary.
    source, target: about the vocabulary of one side.
    """

    both: tuple[PathLike, ...] = ()
    source: tuple[PathLike, ...] = ()
    target: tuple[PathLike, ...] = ()


def files_by_vocabulary(text: TextPair, files: SideFiles) -> dict[str, tuple[PathLike, ...]]:
    """Return the files of each vocabulary, by `joint`, or by `source` and `target`; a side may have none.

    Raises:
        ConfigError: files are given for vocabularies that the model does not have, or none at all.
    """
    if not any(files):
        raise ConfigError("another vocabulary needs files to come from, got none")
    if text.joint and (files.source or files.target):
        raise ConfigError(
            "this model has one vocabulary for both languages: give files for both (--with, --tokenizer), not for a "
            "side"
        )
    if not text.joint and files.both:
        raise ConfigError(
            "this model has a vocabulary for each language: say whose files these are (--with-source and "
            "--with-target, --source-tokenizer and --target-tokenizer)"
        )
    if text.joint:
        return {"joint": files.both}
    return {side: given for side, given in (("source", files.source), ("target", files.target)) if given}


def extended_text(
    config: Config,
    text: TextPair,
    corpora: SideFiles,
    *,
    minimum_count: int | None = None,
    max_new_tokens: int | None = None,
) -> TextPair:
    """Append the tokens that text has and a vocabulary lacks; old tokens keep their ids.

    Args:
        config: of the model; its tokenizer settings are those for learning from the text.
        text: the tokenizers of the model.
        corpora: text of both languages, or of each.
        minimum_count: tokens that occur less often are left out; as configured, else 1, unless given.
        max_new_tokens: how many tokens a vocabulary may gain.

    Raises:
        ConfigError: files are given for vocabularies that the model does not have.
        DataError: a file cannot be read or has no text.
    """
    settings = config.data.tokenizer
    usual_count = 1 if isinstance(settings, SentencePieceSettings) else settings.minimum_count
    count = usual_count if minimum_count is None else minimum_count

    def extend(tokenizer: Tokenizer, paths: Sequence[PathLike]) -> Tokenizer:
        lines = _in_both_forms(text, text_lines(paths))
        match tokenizer, settings:
            case SentencePieceTokenizer(), SentencePieceSettings():
                return extend_sentencepiece(
                    tokenizer,
                    lines,
                    vocabulary_size=settings.vocabulary_size,
                    character_coverage=settings.character_coverage,
                    seed=config.seed,
                    minimum_count=count,
                    max_new_tokens=max_new_tokens,
                )
            case WhitespaceTokenizer(), WhitespaceSettings():
                return extend_whitespace(tokenizer, lines, minimum_count=count, max_new_tokens=max_new_tokens)
            case CharacterTokenizer(), CharacterSettings():
                return extend_character(tokenizer, lines, minimum_count=count, max_new_tokens=max_new_tokens)
        raise _unlike(tokenizer, config)

    return _changed_sides(text, files_by_vocabulary(text, corpora), extend)


def learned_text(config: Config, text: TextPair, corpora: SideFiles) -> TextPair:
    """Learn vocabularies anew from text alone, with the tokenizer settings of the config.

    Args and errors: as for `extended_text`.
    """
    settings, forms = config.data.tokenizer, config.data.normalization_forms

    def learn(tokenizer: Tokenizer, paths: Sequence[PathLike]) -> Tokenizer:
        lines = map(tokenizer.normalized, _in_both_forms(text, text_lines(paths)))
        form = tokenizer.normalization
        if form is None and isinstance(tokenizer, SentencePieceTokenizer):  # what its file says is in no settings
            form = forms[0 if tokenizer is text.source else 1]
        return learned(tokenizer, lines).with_normalization(form)

    def learned(tokenizer: Tokenizer, lines: Iterable[str]) -> Tokenizer:
        match tokenizer, settings:
            case SentencePieceTokenizer(), SentencePieceSettings():
                return train_sentencepiece(
                    lines,
                    model_type=settings.model_type,
                    vocabulary_size=settings.vocabulary_size,
                    character_coverage=settings.character_coverage,
                    seed=config.seed,
                    byte_fallback=settings.byte_fallback,
                )
            case WhitespaceTokenizer(), WhitespaceSettings(vocabulary_size=size, minimum_count=least):
                return learn_whitespace(lines, vocabulary_size=size, minimum_count=least)
            case CharacterTokenizer(), CharacterSettings(vocabulary_size=size, minimum_count=least):
                return learn_character(lines, vocabulary_size=size, minimum_count=least)
        raise _unlike(tokenizer, config)

    return _changed_sides(text, files_by_vocabulary(text, corpora), learn)


def adopted_text(config: Config, text: TextPair, files: SideFiles) -> TextPair:
    """Read finished vocabularies of the kind that the model has: SentencePiece models, or lists of tokens.

    Args:
        config: of the model.
        text: its tokenizers.
        files: one for the joint vocabulary, or one a side.

    Raises:
        ConfigError: files are given for vocabularies that the model does not have, or several for one.
        DataError: a file cannot be read, or is no such vocabulary.
    """

    def adopt(tokenizer: Tokenizer, paths: Sequence[PathLike]) -> Tokenizer:
        if len(paths) != 1:
            raise ConfigError(f"a vocabulary comes from one file, got {len(paths)}: {', '.join(map(str, paths))}")
        if tokenizer.type != config.data.tokenizer.type:
            raise _unlike(tokenizer, config)
        adopted, form = _ADOPTERS[type(tokenizer)](paths[0]), tokenizer.normalization
        return adopted if form is None else adopted.with_normalization(form)

    return _changed_sides(text, files_by_vocabulary(text, files), adopt)


_ADOPTERS: dict[type[Tokenizer], Callable[[PathLike], Tokenizer]] = {
    SentencePieceTokenizer: adopt_sentencepiece,
    WhitespaceTokenizer: adopt_whitespace,
    CharacterTokenizer: adopt_character,
}


def text_lines(paths: Sequence[PathLike]) -> Iterator[str]:
    """Yield the lines of files that hold text.

    Raises:
        DataError: a file cannot be read, or all its lines are empty.
    """
    for path in paths:
        has_text = False
        for line in read_lines(path):
            has_text = has_text or bool(line.strip())
            yield line
        if not has_text:
            raise DataError(f"{path}: must have text to learn tokens from, got only empty lines")


def _changed_sides(
    text: TextPair, given: Mapping[str, Given], change: Callable[[Tokenizer, Given], Tokenizer]
) -> TextPair:
    """Change the vocabularies that something is given for: a joint one stays joint, and the other side as it is.

    How text is normalised stays too: a joint vocabulary is changed as that of the target, which is normalised least.
    """
    if text.source is text.target:
        tokenizer = change(text.source, given["joint"])
        return TextPair(source=tokenizer, target=tokenizer, joint=True)
    if text.joint:
        target = change(text.target, given["joint"])
        return TextPair(target.with_normalization(text.source.normalization), target, joint=True)
    sides = {"source": text.source, "target": text.target}
    changed = {side: change(old, given[side]) if side in given else old for side, old in sides.items()}
    return TextPair(**changed, joint=False)


def _in_both_forms(text: TextPair, lines: Iterable[str]) -> Iterator[str]:
    """Yield lines for a vocabulary; of a joint one, whose sides are normalised in two ways, in the source's way too."""
    for line in lines:
        yield line
        if text.joint and text.source.normalized(line) != text.target.normalized(line):
            yield text.source.normalized(line)


def _unlike(tokenizer: Tokenizer, config: Config) -> ConfigError:
    return ConfigError(
        f"data.tokenizer.type must be {tokenizer.type} as in the model's tokenizer.json, "
        f"got {config.data.tokenizer.type}"
    )


MEASURED_LINES = 20_000
"""Lines of each vocabulary's text on which tokens are counted; of more a sample is drawn."""


class TextMeasure(NamedTuple):
    """How text is cut, before and now.

    lines: of the text, or of a sample of it.
    tokens_before, tokens_now: in these lines.
    unknown_before, unknown_now: those of them that are `<unk>`.
    """

    lines: int
    tokens_before: int
    tokens_now: int
    unknown_before: int
    unknown_now: int


def measure_text(old: TextPair, new: TextPair, corpora: SideFiles) -> dict[str, TextMeasure]:
    """Count the tokens of text under old and new tokenizers, by vocabulary.

    Raises:
        DataError: a file cannot be read.
    """
    measures = {}
    for name, paths in files_by_vocabulary(old, corpora).items():
        side = "source" if name == "joint" else name
        lines = sample_lines(text_lines(paths), MEASURED_LINES, seed=0)
        before, now = (list(chain.from_iterable(getattr(text, side).encode_batch(lines))) for text in (old, new))
        measures[name] = TextMeasure(len(lines), len(before), len(now), before.count(UNK_ID), now.count(UNK_ID))
    return measures


def report_unknown(what: str, source: Iterable[Sequence[int]], target: Iterable[Sequence[int]]) -> None:
    """Log the share of tokens that are `<unk>`, which a model can neither read nor learn to write.

    Args:
        what: the text, in words.
        source: token ids of its lines, PAD and EOS not counted.
        target: likewise.
    """
    shares = [unknown_share(side) for side in (source, target)]
    sentence = f"unknown tokens in {what}: {shares[0]:.2%} of the source, {shares[1]:.2%} of the target"
    if max(shares) <= MOST_UNKNOWN:
        logger.info("%s", sentence)
    else:
        logger.warning(
            "%s: the model can neither read nor write what they stand for; a larger data.tokenizer.vocabulary_size or "
            "character_coverage, a lower minimum_count or type sentencepiece leaves fewer",
            sentence,
        )


def report_unknown_in_store(store: TokenStore) -> None:
    """Log the share of unknown tokens in an encoded training corpus, or in pairs spread evenly over it."""
    indices = np.arange(0, len(store), max(1, len(store) // MEASURED_LINES))
    blocks = np.array_split(indices, 1 + len(indices) // 1000)
    sides = ((row for block in blocks for row in side.padded(block)[0]) for side in (store.source, store.target))
    report_unknown("the training corpus", *sides)


def report_unknown_in_pairs(text: TextPair, train: CorpusSettings) -> None:
    """Log the share of unknown tokens in a training corpus that is not encoded yet, or in a sample of it.

    Raises:
        DataError: it cannot be read.
    """
    pairs = sample_lines(read_pairs(train.source_paths, train.target_paths), MEASURED_LINES, seed=0)
    source, target = zip(*pairs, strict=True)
    report_unknown("the training corpus", text.source.encode_batch(source), text.target.encode_batch(target))


def unknown_share(sequences: Iterable[Sequence[int]]) -> float:
    """Return the share of `<unk>` among the tokens of sequences, PAD and EOS not counted; 0 where there are none."""
    unknown = tokens = 0
    for sequence in sequences:
        token_ids = np.asarray(sequence)
        unknown += int(np.count_nonzero(token_ids == UNK_ID))
        tokens += int(np.count_nonzero((token_ids != PAD_ID) & (token_ids != EOS_ID)))
    return unknown / max(1, tokens)
