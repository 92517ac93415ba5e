"""Which words of a translation come from which words of its source, by the attention of the model that reads both.

One pass over each finished pair, its target forced upon the decoder, so that a search has nothing to do with it. The
attention of tokens becomes one of words over the characters that both have in common.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmt.alignment.bitext import cut_spans
from nmt.alignment.links import SYMMETRIZATIONS, Links
from nmt.backend.functions import Spec, compile_function
from nmt.backend.machine import map_at_once
from nmt.data.sequences import TokenSequences
from nmt.errors import ConfigError
from nmt.models.contract import DecodingModel, Seq2Seq
from nmt.models.ensemble import Ensemble
from nmt.models.forced import ReadOut, forced_attention
from nmt.scoring.forced import Target, checked_ids
from nmt.text import EOS_ID, UNK_ID, Tokenizer, WhitespaceTokenizer
from nmt.text.offsets import Span, token_spans
from nmt.text.vocabulary import EOS
from nmt.translation.lengths import MAX_SOURCE_LENGTH, plan_batches
from nmt.translation.line_translator import LineTranslator, Progress
from nmt.types import Tensor

if TYPE_CHECKING:
    from nmt.inference.translator import Translator

_LOGGER = logging.getLogger(__name__)

Weights: TypeAlias = NDArray[np.float32]

DEFAULT_READ_OUT = ReadOut()
SYMMETRIZATION = "grow-diag-final-and"
"""How both directions become one unless said: the word that has the fewest errors, see docs/alignment.md."""


class Soft(NamedTuple):
    """The attention that links come from.

    words: (J, I) of target words to source words; what a row lacks to 1 went to the end of the source.
    tokens: (T, S) of target tokens to source tokens, the last of which is EOS; rows add up to 1.
    source_tokens, target_tokens: as the vocabularies write them.
    source_spans, target_spans: where each token stands in its line, that of EOS at its end.
    token_links: places of a source token and of a target token, as words are linked.
    """

    words: Weights
    tokens: Weights
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    source_spans: tuple[Span, ...]
    target_spans: tuple[Span, ...]
    token_links: tuple[tuple[int, int], ...]


class Alignment(NamedTuple):
    """Which words of a pair of lines translate each other.

    source, target: the lines.
    source_words, target_words: where each word stands in its line, offsets of its first character and of the one after
        its last. Words are those of `nmt.alignment.bitext.cut`; what stands between spaces if the tokenizer cuts there.
    links: places of a source word and of a target word, from 0, sorted.
    soft: the attention, if asked for and if no side is empty.
    cut: whether a line was longer than `MAX_SOURCE_LENGTH` tokens; the words behind have no links.
    replaced: for each UNK in whose place a word was put, if that was asked for, whether the dictionary had it.
    """

    source: str
    target: str
    source_words: tuple[Span, ...]
    target_words: tuple[Span, ...]
    links: tuple[tuple[int, int], ...] = ()
    soft: Soft | None = None
    cut: bool = False
    replaced: tuple[bool, ...] = ()


class How(NamedTuple):
    """What is asked of alignments.

    soft: whether the attention itself is wanted.
    symmetrization: how both directions become one, of `nmt.alignment.links.SYMMETRIZATIONS`.
    unknown: what to put in place of UNK, by the source word; words that are missing stay as they are. None leaves UNK.
    """

    soft: bool = False
    symmetrization: str = SYMMETRIZATION
    unknown: Mapping[str, str] | None = None


@dataclass
class AlignmentTally:
    """What was aligned, over all calls that it is handed to; in pairs unless said otherwise.

    pairs: all of them.
    empty: of which a side is empty, so that there are no links.
    cut: with a side longer than `MAX_SOURCE_LENGTH` tokens.
    words, linked: of the targets, and those of them that have a link.
    unknown: UNK tokens of the targets that were replaced.
    looked_up: of these, those that a dictionary had a word for.
    """

    pairs: int = 0
    empty: int = 0
    cut: int = 0
    words: int = 0
    linked: int = 0
    unknown: int = 0
    looked_up: int = 0

    def count(self, alignment: Alignment) -> None:
        """Count a pair."""
        self.pairs += 1
        self.empty += not (alignment.source_words and alignment.target_words)
        self.cut += alignment.cut
        self.words += len(alignment.target_words)
        self.linked += len({target for _, target in alignment.links})
        self.unknown += len(alignment.replaced)
        self.looked_up += sum(alignment.replaced)

    def report(self) -> None:
        """Log the sums, and what is worse than one might think."""
        if self.unknown:
            self.report_replaced()
        _LOGGER.info(
            "%s pairs: %s of %s target words are linked", f"{self.pairs:,}", f"{self.linked:,}", f"{self.words:,}"
        )
        warnings = {
            "have an empty side, and no links": self.empty,
            f"have a side longer than {MAX_SOURCE_LENGTH} tokens, the rest of which has no links": self.cut,
        }
        for words, count in warnings.items():
            if count:
                _LOGGER.warning("%s of %s pairs %s", f"{count:,}", f"{self.pairs:,}", words)

    def report_replaced(self) -> None:
        """Log what stands in place of tokens that the model did not know."""
        _LOGGER.info(
            "%s unknown tokens replaced: %s by the dictionary, %s by the source word",
            f"{self.unknown:,}", f"{self.looked_up:,}", f"{self.unknown - self.looked_up:,}",
        )  # fmt: skip


class _Side(NamedTuple):
    """A line as a model reads it.

    token_ids: without EOS, no more than are read.
    spans: of these tokens.
    words: of the whole line.
    begin: token ids before these, which are of no text: a tag.
    """

    text: str
    token_ids: list[int]
    spans: list[Span]
    words: list[Span]
    cut: bool
    begin: Sequence[int] = ()


class Aligner:
    """Aligns pairs of lines with a model.

    Of an ensemble those members are asked that cut the source as the first does, and the mean of them is taken.

    Args:
        translator: what has the model.
        read_out: which attention.
        at_once: batches that are computed side by side.

    Raises:
        ConfigError: the model has no attention that can be read, or learned from words that another program cut.
    """

    def __init__(self, translator: Translator, read_out: ReadOut, *, at_once: int) -> None:
        self._lines: LineTranslator = translator
        self._source, self._target, self._at_once = translator.sources[0], translator.text.target, at_once
        if translator.segmentation != "none":
            raise ConfigError(
                f"words that {translator.segmentation} cut before the model saw them cannot be aligned: use a model "
                "that reads plain text"
            )
        self._attention = _compiled(translator.model, translator.sources, read_out)

    def align(
        self,
        pairs: Sequence[tuple[str, Target]],
        begins: Sequence[tuple[list[list[int]], list[int]]],
        *,
        how: How,
        batch_size: int,
        progress: Progress | None,
        tally: AlignmentTally,
    ) -> list[Alignment]:
        """Align pairs, of which source, for each member, and target begin with given ids; see `Translator.align`."""
        if how.symmetrization not in SYMMETRIZATIONS:
            raise ConfigError(f"links are made one by {', '.join(SYMMETRIZATIONS)}, got {how.symmetrization}")
        sources = [self._side(source, self._source) for source, _ in pairs]
        targets = [self._target_side(target, number) for number, (_, target) in enumerate(pairs, 1)]
        sources = [each._replace(begin=begin[0]) for each, (begin, _) in zip(sources, begins, strict=True)]
        targets = [each._replace(begin=begin) for each, (_, begin) in zip(targets, begins, strict=True)]
        found = [
            Alignment(source.text, target.text, tuple(source.words), tuple(target.words), cut=source.cut or target.cut)
            for source, target in zip(sources, targets, strict=True)
        ]
        asked = [place for place, each in enumerate(found) if each.source_words and each.target_words]
        longest = [max(len(sources[place].token_ids) + 1, len(targets[place].token_ids)) for place in asked]
        batches = plan_batches(longest, batch_size=batch_size, at_once=self._at_once)
        if progress is not None and len(asked) < len(pairs):
            progress(len(pairs) - len(asked))

        def compute(batch: NDArray[np.int64]) -> list[Alignment]:
            places = [asked[each] for each in batch]
            rows = self._attention(
                _padded([[*sources[place].begin, *sources[place].token_ids, EOS_ID] for place in places]),
                _padded([[*targets[place].begin, *targets[place].token_ids] for place in places]),
            )
            weights = zip(places, np.asarray(rows), strict=True)
            return [self._linked(sources[place], targets[place], each, how) for place, each in weights]

        for batch, results in zip(batches, map_at_once(compute, batches, at_once=self._at_once), strict=True):
            for each, alignment in zip(batch, results, strict=True):
                found[asked[each]] = alignment
            if progress is not None:
                progress(len(batch))
        for alignment in found:
            tally.count(alignment)
        return found

    def _side(self, line: str, tokenizer: Tokenizer) -> _Side:
        return _read(line, tokenizer.encode(line), tokenizer.spans(line), tokenizer)

    def _target_side(self, target: Target, number: int) -> _Side:
        if isinstance(target, str):
            return self._side(target, self._target)
        token_ids, surfaces = checked_ids(target, number, len(self._target.vocabulary)), self._target.surfaces()
        text = self._lines.text_of(token_ids)
        return _read(text, token_ids, token_spans([surfaces[each] for each in token_ids], text), self._target)

    def _linked(self, source: _Side, target: _Side, padded: Weights, how: How) -> Alignment:
        """Link the words of a pair: `padded` (T, S) has rows and columns of padding at the end, and of tags before."""
        rows = padded[len(target.begin) : len(target.begin) + len(target.token_ids)]
        first = len(source.begin)
        tokens = rows[:, first : first + len(source.token_ids) + 1].copy()
        tokens[:, -1] += rows[:, :first].sum(axis=1)  # to look at the tag is to look at no word, as at EOS
        of_source = memberships(source.spans, source.words)
        looked_up: list[bool] = []
        if how.unknown is not None and UNK_ID in target.token_ids:
            target, looked_up = self._replaced(source, target, tokens[:, :-1] @ of_source, how.unknown)
        words = word_weights(tokens, of_source, memberships(target.spans, target.words))
        end, soft = (len(source.text), len(source.text)), None
        if how.soft:
            names = (*self._source.tokens(source.token_ids), EOS), tuple(self._target.tokens(target.token_ids))
            token_links = links_of(tokens[:, :-1], how.symmetrization)
            soft = Soft(words, tokens.copy(), *names, (*source.spans, end), tuple(target.spans), token_links)
        return Alignment(
            source.text,
            target.text,
            tuple(source.words),
            tuple(target.words),
            links_of(words, how.symmetrization),
            soft,
            source.cut or target.cut,
            tuple(looked_up),
        )

    def _replaced(
        self, source: _Side, target: _Side, weights: Weights, unknown: Mapping[str, str]
    ) -> tuple[_Side, list[bool]]:
        """Put words in place of UNK: `weights` (T, I) of target tokens to source words; and whether each was known."""
        text, spans, looked_up, end = "", list[Span](), list[bool](), 0
        for token_id, (start, stop), row in zip(target.token_ids, target.spans, weights, strict=True):
            text += target.text[end:start]
            written = target.text[start:stop]
            if token_id == UNK_ID:
                word = source.text[slice(*source.words[int(row.argmax())])]
                found = unknown.get(word, unknown.get(word.lower()))
                looked_up.append(found is not None)
                written = word if found is None else found
            spans.append((len(text), len(text) + len(written)))
            text, end = text + written, stop
        replaced = _read(text + target.text[end:], target.token_ids, spans, self._target)
        return replaced._replace(cut=target.cut), looked_up


def _read(text: str, token_ids: list[int], spans: list[Span], tokenizer: Tokenizer) -> _Side:
    """Put a line together, cut to what is read."""
    between_spaces = isinstance(tokenizer, WhitespaceTokenizer)
    words = [match.span() for match in re.finditer(r"\S+", text)] if between_spaces else cut_spans(text)
    cut, most = len(token_ids) > MAX_SOURCE_LENGTH, MAX_SOURCE_LENGTH
    return _Side(text, token_ids[:most], spans[:most], words, cut)


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    return TokenSequences.from_lists(rows).padded(np.arange(len(rows)))[0]


def _compiled(
    model: DecodingModel | Ensemble, sources: Sequence[Tokenizer], read_out: ReadOut
) -> Callable[[Tensor, Tensor], Tensor]:
    """The forced pass of source ids (B, S) and target ids (B, T) to (B, T, S), compiled once for all shapes."""
    given = model.models if isinstance(model, Ensemble) else (model,)
    shares = model.weights if isinstance(model, Ensemble) else (1.0,)
    asked = [
        (member, share)
        for member, share, tokenizer in zip(given, shares, sources, strict=True)
        if tokenizer.fingerprint == sources[0].fingerprint and isinstance(member, Seq2Seq)
    ]
    if not asked:
        raise ConfigError("translations are aligned by a Seq2Seq, or an Ensemble of such, got a model of other kind")
    if len(asked) < len(given):
        _LOGGER.info(
            "alignments are by %d of %d models, which cut the source as the first does", len(asked), len(given)
        )
    members, total = [member for member, _ in asked], sum(share for _, share in asked)

    def attention(source_ids: Tensor, target_ids: Tensor) -> Tensor:
        return forced_attention(members, [share / total for _, share in asked], source_ids, target_ids, read_out)

    return compile_function(attention, (Spec((None, None), "int32"),) * 2)


def memberships(spans: Sequence[Span], words: Sequence[Span]) -> Weights:
    """Tell to which words tokens belong.

    Args:
        spans: of tokens.
        words: in the order in which they stand.

    Returns:
        (tokens, words): the share of each token's characters that is in each word. A token without characters in any
        word, as a lone space, goes with the next that has some; the rows of others at the end are 0.
    """
    begins, ends = (np.array([span[side] for span in spans], np.int64)[:, None] for side in (0, 1))
    starts, stops = (np.array([word[side] for word in words], np.int64)[None, :] for side in (0, 1))
    shared = np.maximum(np.minimum(ends, stops) - np.maximum(begins, starts), 0).astype(np.float32)
    total = shared.sum(axis=1, keepdims=True)
    shares = np.divide(shared, total, out=shared, where=total > 0)
    for token in range(len(spans) - 2, -1, -1):
        if not total[token]:
            shares[token] = shares[token + 1]
    return shares


def word_weights(tokens: Weights, source: Weights, target: Weights) -> Weights:
    """Turn the attention of tokens into that of words.

    Args:
        tokens: (T, S + 1) of target tokens to source tokens and EOS.
        source: (S, I) `memberships`.
        target: (T, J) likewise.

    Returns:
        (J, I): the attention to a word is the sum of that to its tokens, and that of a word the mean of its tokens'.
        Words without tokens have 0.
    """
    sums, counts = target.T @ tokens[:, :-1] @ source, target.sum(axis=0)[:, None]
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


def links_of(weights: Weights, symmetrization: str = SYMMETRIZATION) -> tuple[tuple[int, int], ...]:
    """Link words that look at each other.

    Each target word is linked to the source word for which the product of two shares is greatest: that of its own
    attention, and that of all attention that the source word gets. Each source word is linked likewise, and both
    directions become one.

    Args:
        weights: (J, I), of target words to source words.
        symmetrization: how, of `nmt.alignment.links.SYMMETRIZATIONS`.
    """
    received = weights.sum(axis=0, keepdims=True)
    product = weights * np.divide(weights, received, out=np.zeros_like(weights), where=received > 0)
    return tuple(sorted(links_to_closest(product, symmetrization)))


def links_to_closest(closeness: NDArray[np.floating[Any]], symmetrization: str = SYMMETRIZATION) -> Links:
    """Link each word to the closest of the other side, in both directions made one.

    Args:
        closeness: (J, I), of target words to source words; 0 for what is not linked.
        symmetrization: how, of `nmt.alignment.links.SYMMETRIZATIONS`.
    """
    forward = {(int(i), j) for j, i in enumerate(closeness.argmax(axis=1)) if closeness[j, i] > 0}
    backward = {(i, int(j)) for i, j in enumerate(closeness.argmax(axis=0)) if closeness[j, i] > 0}
    return SYMMETRIZATIONS[symmetrization](forward, backward)
