"""What is doubtful about the text of corpora, and what of it a model cannot learn: said, and no more."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, takewhile

import numpy as np

from nmt.data.corpus import SIDES
from nmt.data.sequences import Sequences
from nmt.data.store import TokenStore
from nmt.text import marks
from nmt.text.tokenizer import Tokenizer, normalized
from nmt.text.vocabulary import EOS_ID, MOST_UNKNOWN, UNK_ID
from nmt.types import PAD_ID

logger = logging.getLogger(__name__)

LOOKED_AT = 2000
"""Pairs from the beginning of a corpus whose sides are looked at."""

MEASURED_LINES = 20_000
"""Lines, or pairs of them, on which tokens are counted; of more a sample is drawn."""

_MOST_EQUAL = 0.5
_CLEARLY = 1.5

SAID_SHARE, DOUBTFUL_SHARE = 0.05, 0.5
"""Share of the validation or test pairs above which it is said, or a warning, that they are also trained on."""

CHANGED_SHARE = 0.001
"""Share of the targets above which it is a warning that they cannot come back as they are."""

_EXAMPLES = 3


def report_doubts(
    corpora: Mapping[str, Sequence[tuple[str, str]]], *, languages: tuple[str, str], segmentation: str
) -> None:
    """Say what looks wrong about the sides of corpora, and about the marks of other programs in them.

    Args:
        corpora: pairs of lines, all or the first, by the name of their corpus, one to train on first.
        languages: codes of both sides.
        segmentation: of `marks.SEGMENTATIONS`.
    """
    main = next(iter(corpora))
    for name, pairs in corpora.items():
        for doubt in doubts_about_sides(f"data.{name}", pairs, languages=languages):
            logger.warning("%s", doubt)
    for name, pairs in corpora.items():
        if name != main and looks_swapped(pairs, like=corpora[main]):
            logger.warning("data.%s: %s", name, SWAPPED.format(main=f"data.{main}"))
    report_marks(corpora, segmentation)


SWAPPED = (
    "source and target look swapped beside {main}: each shares more words with the other side of that than with its "
    "own, so one of the two is the wrong way round"
)


def doubts_about_sides(name: str, pairs: Sequence[tuple[str, str]], *, languages: tuple[str, str]) -> Iterator[str]:
    """Yield what a user would want to be told about the first pairs of a corpus.

    Args:
        name: of the corpus in the settings, `data.train`.
        pairs: of the corpus, of which the first `LOOKED_AT` are looked at.
        languages: codes of both sides.
    """
    pairs = pairs[:LOOKED_AT]
    equal = sum(source == target for source, target in pairs)
    if equal > _MOST_EQUAL * len(pairs) and languages[0] != languages[1]:
        yield f"{name}: source and target are equal in {equal:,} of {len(pairs):,} pairs: the model learns to copy"
    found = list(map(marks.foreign_script, zip(*pairs, strict=True), languages))
    expected = [marks.scripts_of_language(language) for language in languages]
    if found[0] in expected[1] and found[1] in expected[0]:
        yield (
            f"{name}: source and target look swapped: the source is in {marks.in_words(str(found[0]))}, the target in "
            f"{marks.in_words(str(found[1]))}, but the languages are {languages[0]} to {languages[1]}"
        )
        return
    for side, script, language in zip(SIDES, found, languages, strict=True):
        if script is not None:
            words = marks.in_words(script)
            yield f"{name}.{side} is in {words}, which is not how {language} is written: is it another file?"


def looks_swapped(pairs: Iterable[tuple[str, str]], like: Iterable[tuple[str, str]]) -> bool:
    """Return whether the sides of a corpus share clearly more words with the other side of one that it belongs to.

    Args:
        pairs: of the corpus.
        like: pairs whose sides are right; of both, the first `LOOKED_AT` are looked at.
    """
    sides = [[word for line in side for word in line.split()] for side in zip(*islice(pairs, LOOKED_AT), strict=True)]
    known = [{word for line in side for word in line.split()} for side in zip(*islice(like, LOOKED_AT), strict=True)]

    def share(side: int, other: int) -> float:
        return sum(word in known[other] for word in sides[side]) / max(1, len(sides[side]))

    return all(share(side, 1 - side) > _CLEARLY * share(side, side) for side in (0, 1))


def report_marks(corpora: Mapping[str, Sequence[tuple[str, str]]], segmentation: str) -> None:
    """Say which corpora look cut into pieces in a way that no setting names, or tokenised; see `doubts_about_marks`."""
    for sentence in doubts_about_marks(corpora, segmentation):
        logger.warning("%s", sentence)


def doubts_about_marks(corpora: Mapping[str, Sequence[tuple[str, str]]], segmentation: str) -> Iterator[str]:
    """Yield which corpora look cut into pieces in a way that no setting names, or tokenised.

    Args:
        corpora: pairs of lines by the name of their corpus, `train` or `validation`.
        segmentation: that the settings name, of `marks.SEGMENTATIONS`.
    """
    texts = {}
    for name, pairs in corpora.items():
        for side, lines in zip(SIDES, map(list, zip(*pairs, strict=True)), strict=True):
            texts[f"data.{name}.{side}"] = words = marks.joined_side(lines, segmentation)
            if segmentation != "none" and words is lines:
                yield (
                    f"data.{name}.{side} has no marks of data.segmentation {segmentation}: cut all text in the same "
                    "way, or set none if nothing is cut"
                )
    as_pieces = "translations will be pieces, what is translated has to be, and BLEU of pieces is not that of words: "
    consequences = {
        marks.TOKENS: "translations will look so too, what is translated has to, and BLEU cannot be compared with "
        "that of plain text: give plain text if there is some",
        marks.PIECES: f"{as_pieces}join them with the program that cut them, and let nmt learn its own pieces",
    }
    for kind, words in marks.found_marks(texts).items():
        joins = (
            f"{as_pieces}set data.segmentation {kind} in a new run to have words; nmt evaluate --join {kind} scores "
            "this one"
        )
        yield f"{words}: {consequences.get(kind, joins)}"


SHARED, COST_OF_SHARED = "stand in data.train too, word for word", "its scores say little of new text"


class SharedPairs:
    """Which of the pairs that judge a model are also trained on, word for word; of each pair, only a hash is kept.

    Args:
        corpora: the pairs that judge it, by the name of their corpus: `validation` or `test`.
    """

    def __init__(self, corpora: Mapping[str, Iterable[tuple[str, str]]]) -> None:
        self._hashes = {name: [hash(pair) for pair in pairs] for name, pairs in corpora.items()}
        self._all = {key for keys in self._hashes.values() for key in keys}
        self._seen = set[int]()

    def update(self, block: Sequence[tuple[str, str]]) -> None:
        """Take in the next pairs of the training corpus."""
        self._seen |= self._all.intersection(map(hash, block))

    def report(self) -> None:
        """Say how many there are, if that is a share that counts."""
        for name, keys in self._hashes.items():
            number = sum(key in self._seen for key in keys)
            if number > SAID_SHARE * len(keys):
                logger.log(
                    logging.WARNING if number > DOUBTFUL_SHARE * len(keys) else logging.INFO,
                    "%s of %s pairs of data.%s %s: %s",
                    f"{number:,}", f"{len(keys):,}", name, SHARED, COST_OF_SHARED,
                )  # fmt: skip


def report_unknown(what: str, source: Iterable[Sequence[int]], target: Iterable[Sequence[int]]) -> float:
    """Log the share of tokens that are `<unk>`, which a model can neither read nor learn to write.

    Args:
        what: the text, in words.
        source: token ids of its lines, PAD and EOS not counted.
        target: likewise.

    Returns:
        The share in the target, 0 to 1; 0 if it has no tokens.
    """
    shares = [unknown_share(side) for side in (source, target)]
    sentence = f"unknown tokens in {what}: {shares[0]:.2%} of the source, {shares[1]:.2%} of the target"
    if max(shares) <= MOST_UNKNOWN:
        logger.info("%s", sentence)
    else:
        logger.warning("%s: %s; %s", sentence, COST_OF_UNKNOWN, FEWER_UNKNOWN)
    return shares[1]


COST_OF_UNKNOWN = "the model can neither read nor write what they stand for"
FEWER_UNKNOWN = (
    "a larger data.tokenizer.vocabulary_size or character_coverage, a lower minimum_count or type sentencepiece leaves "
    "fewer"
)


def unknown_share(sequences: Iterable[Sequence[int]]) -> float:
    """The share of tokens that are `<unk>`, 0 to 1, PAD and EOS not counted."""
    token_ids = np.fromiter(chain.from_iterable(sequences), np.int64)
    tokens = int(((token_ids != PAD_ID) & (token_ids != EOS_ID)).sum())
    return int((token_ids == UNK_ID).sum()) / max(1, tokens)


def report_unknown_in_store(store: TokenStore, what: str = "the training corpus") -> None:
    """Log the share of unknown tokens in an encoded training corpus, or in pairs spread evenly over it."""
    indices = np.arange(0, len(store), max(1, len(store) // MEASURED_LINES))
    blocks = np.array_split(indices, 1 + len(indices) // 1000)

    def rows(side: Sequences) -> Iterator[Sequence[int]]:
        return (row for block in blocks for row in side.padded(block)[0])

    report_unknown(what, rows(store.source), rows(store.target))


def changed_targets(tokenizer: Tokenizer, lines: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Find targets that a model could never write as they are: they come back from their tokens changed.

    A word that is not in a vocabulary of words is no surprise, and not counted.

    Args:
        tokenizer: of the target.
        lines: of the target, or a sample of them.

    Returns:
        By the cause in words, each line as it is wanted and as it comes back.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for line, ids in zip(lines, tokenizer.encode_batch(lines), strict=True):
        wanted, given = normalized(line, "nfc"), tokenizer.decode(ids)
        if given == wanted or (UNK_ID in ids and tokenizer.type == "whitespace"):
            continue
        if UNK_ID in ids:
            cause = "with unknown characters"
        elif normalized(tokenizer.normalized(line), "nfc") != wanted:
            cause = "folded by normalisation (data.normalization.target, or the rule of a finished model)"
        else:
            cause = "with signs that the tokenizer uses itself, such as ▁"
        found[cause].append((wanted, given))
    return found


def report_changed_targets(tokenizer: Tokenizer, lines: Sequence[str]) -> None:
    """Say how many of the lines are `changed_targets`, and why."""
    found = changed_targets(tokenizer, lines)
    count = sum(map(len, found.values()))
    if not count:
        return
    level = logging.WARNING if count > CHANGED_SHARE * len(lines) else logging.INFO
    logger.log(level, "%s of %s targets cannot be written by the model as they are:", f"{count:,}", f"{len(lines):,}")
    for cause, pairs in found.items():
        logger.log(level, "  %s %s, for example:", f"{len(pairs):,}", cause)
        for pair in pairs[:_EXAMPLES]:
            logger.log(level, "    %s", difference(*pair))


def difference(wanted: str, given: str) -> str:
    """Say what a text becomes, from a little before the place where that begins."""
    equal = takewhile(lambda signs: signs[0] == signs[1], zip(wanted, given, strict=False))
    begin = max(0, len(list(equal)) - 10)
    return f"{wanted[begin : begin + 30]!r} becomes {given[begin : begin + 30]!r}"
