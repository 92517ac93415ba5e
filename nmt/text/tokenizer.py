"""What every tokenizer can do, from how it is learned to its files; and the two that look tokens up in a list."""

from __future__ import annotations

import hashlib
import json
import random
import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, islice
from math import exp, floor, log, log1p
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from sentencepiece import SentencePieceNormalizer

from nmt.errors import ConfigError, DataError
from nmt.text.marks import added_by
from nmt.text.offsets import Span, raw_spans, token_spans
from nmt.text.vocabulary import BOS_ID, EOS_ID, SPECIAL_TOKENS, Vocabulary, side_name
from nmt.types import PAD_ID, PathLike

Line = TypeVar("Line")

_BLOCK_LINES = 8192

NORMALIZER_RULES = {"none": "identity", "nfc": "identity", "nfkc": "nmt_nfkc"}
"""The rule of SentencePiece that goes into a model file for each way to normalise; it has none for NFC."""

_SILENT_IDS = frozenset((PAD_ID, BOS_ID, EOS_ID))
# What separates words or ends lines. Spaces that mean something (no-break, ideographic, thin) are characters.
# A single space between words, which is nearly all there is, is no match: it would be replaced by itself.
_WHITE_SPACE = re.compile("[\t-\r \x1c-\x1f\x85\u2028\u2029]{2,}|[\t-\r\x1c-\x1f\x85\u2028\u2029]")


class Tokenizer(ABC):
    """Turns a line of raw text into token ids, and token ids into detokenised text.

    A special symbol is never read from text: a line that contains the letters `</s>` gives ordinary tokens.
    A token id that stands for an unknown token decodes to `<unk>`; the other special ids decode to nothing.

    type: The name under which settings and model directories know this kind of tokenizer.
    normalization: How a line is normalised before it is cut, see `normalized`; None if the tokenizer takes it as it
        is.
    maximum_lines: Lines to learn from at most; of more a sample is drawn. None for no bound, when tokens are counted.
    """

    type: ClassVar[str]
    vocabulary: Vocabulary
    normalization: str | None = None
    maximum_lines: ClassVar[int | None] = 1_000_000

    @classmethod
    def learn(cls, lines: Iterable[str], *args: Any, **settings: Any) -> Self:
        """Learn a tokenizer from lines that are normalised already.

        Settings have the names that they have under `data.tokenizer`; `seed` is that of the run.

        Raises:
            ConfigError: the vocabulary has no room for what it must hold.
            DataError: there is no text.
        """
        raise ConfigError(f"a tokenizer of type {cls.type} cannot be learned")

    def extend(self, lines: Iterable[str], *args: Any, **settings: Any) -> Self:
        """Append the tokens that raw text has and the vocabulary lacks; old tokens keep their ids.

        Settings are those of `learn` that apply, and two that every kind takes: `minimum_count`, the occurrences below
        which a token is left out, and `max_new_tokens`, None for no bound.

        Returns:
            The extended tokenizer, or this one itself if nothing is missing.

        Raises:
            ConfigError, DataError: as for `learn`.
        """
        raise ConfigError(f"a tokenizer of type {self.type} cannot be extended")

    @classmethod
    def adopt(cls, path: PathLike) -> Self:
        """Read a finished tokenizer of this kind that was made elsewhere, whatever the ids of its special tokens are.

        Raises:
            DataError: the file cannot be read, or holds no such tokenizer; the message names it.
        """
        raise ConfigError(f"a tokenizer of type {cls.type} cannot be taken from {path}")

    @abstractmethod
    def encode(self, line: str) -> list[int]:
        """Token ids of one line, without BOS and EOS."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int]) -> str:
        """Detokenised text of token ids (Python or NumPy integers)."""

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Token ids of many lines, equal to `encode` of each and faster."""
        return [self.encode(line) for line in lines]

    def cut(self, token: str) -> list[int]:
        """Token ids of a token of another tokenizer of this kind; its own if it knows the token."""
        return [self.vocabulary.id(token)]

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """The tokens of ids as the vocabulary writes them, special ones included: for looking at, not for readers."""
        return [self.vocabulary.token(int(token_id)) for token_id in token_ids]

    def surfaces(self, segmentation: str = "none") -> list[bytes]:
        """For each token id the UTF-8 that it adds to the decoded text.

        `decode` gives what they make up, but for spaces at the ends and the length of runs of spaces. A byte that is
        no part of a character decodes to U+FFFD.

        Args:
            segmentation: how words were cut before the model saw them, of `nmt.text.marks.SEGMENTATIONS`; then what
                they make up is the joined text.

        Raises:
            ConfigError: what a token adds cannot be said without its neighbours.
        """
        raise ConfigError(
            f"constraints on the text need to know what each token adds to it, which a tokenizer of type {self.type} "
            "does not say: write its method surfaces"
        )

    def pieces(self, line: str) -> list[bytes]:
        """For each token of a line the UTF-8 that it stands for in the `normalized` line, but for spaces.

        Raises:
            ConfigError: the tokenizer does not say.
        """
        raise ConfigError(
            f"alignments need to know what each token stands for, which a tokenizer of type {self.type} does not say: "
            "write its method pieces"
        )

    def spans(self, line: str) -> list[Span]:
        """Where in the raw line each of its tokens stands; see `nmt.text.offsets`."""
        text = self.normalized(line)
        return raw_spans(token_spans(self.pieces(line), text), text, line, self.normalized)

    @abstractmethod
    def with_normalization(self, normalization: str | None) -> Self:
        """The same vocabulary, for text that is normalised in another way."""

    def normalized(self, line: str) -> str:
        """A line as it is before it is cut: what `decode` gives back if every token is known."""
        return line if self.normalization is None else normalized(line, self.normalization)

    def with_tags(self, tags: Iterable[str]) -> Self:
        """The same tokenizer with symbols for tags behind its tokens; those that it has stay where they are.

        Raises:
            ConfigError: tokenizers of this kind have none.
        """
        if {*tags} <= self.tags.keys():
            return self
        raise ConfigError(f"a tokenizer of type {self.type} cannot have tags: write its method with_tags")

    @property
    def tags(self) -> dict[str, int]:
        """The id of the symbol of each tag. No text gives it, and it decodes to nothing."""
        return {}

    @property
    def settings(self) -> dict[str, Any]:
        """How the tokenizer was built, for `tokenizer.json`."""
        return {} if self.normalization is None else {"normalization": self.normalization}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides how text is encoded: type, settings and vocabulary."""
        content = [self.type, self.settings, self.vocabulary.fingerprint]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()

    def save(self, directory: Path, side: str) -> None:
        """Write the files of this tokenizer; `side` is "source", "target" or "" if both sides share it."""
        self.vocabulary.save(directory / side_name("vocabulary.txt", side))

    @classmethod
    @abstractmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> Tokenizer:
        """Read the files that `save` wrote; DataError names the one that cannot be used."""


def normalized(line: str, form: str) -> str:
    """Normalise a line: white space is collapsed to single spaces in any case, and there is none at the ends.

    Args:
        line: raw text.
        form: "none"; "nfc", which composes letters and accents; "nfkc", which folds what looks alike as well
            (Unicode Standard Annex 15), with SentencePiece's additions: characters without width and control
            characters are spaces or nothing.
    """
    if form == "nfkc":
        line = _folding().Normalize(line.encode("utf-8", "replace").decode("utf-8"))
    elif form == "nfc":
        line = unicodedata.normalize("NFC", line)
    return _WHITE_SPACE.sub(" ", line).strip(" ")


@cache
def _folding() -> SentencePieceNormalizer:
    rule = NORMALIZER_RULES["nfkc"]
    return SentencePieceNormalizer(
        rule_name=rule, add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False
    )


TAG_MARK = " "
"""What begins the token of a tag: no token of a text holds a space, whichever of our tokenizers made it."""


def tags_of(vocabulary: Vocabulary) -> dict[str, int]:
    """The id of the symbol of each tag in a vocabulary of which no other token begins with a space."""
    marked = ((token, token_id) for token_id, token in enumerate(vocabulary.tokens) if token[:1] == TAG_MARK)
    return {token[len(TAG_MARK) :]: token_id for token, token_id in marked}


def spoken_ids(token_ids: Iterable[int]) -> list[int]:
    """The ids that decode to text: all but PAD, BOS and EOS."""
    return [token_id for token_id in map(int, token_ids) if token_id not in _SILENT_IDS]


class Sample(Generic[Line]):
    """All lines of a stream if they are few, else `limit` of them, each with the same chance.

    Algorithm L (Li 1994, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))"): one pass, memory for
    the sample alone, and almost no work for the lines that are passed over.
    """

    def __init__(self, limit: int, *, seed: int) -> None:
        self.lines: list[Line] = []
        self._limit, self._generator = limit, random.Random(seed)
        self._seen, self._next, self._largest_key = 0, limit, 1.0

    def update(self, block: Sequence[Line]) -> None:
        """Take in the next lines of the stream."""
        if self._seen < self._limit:
            self.lines += block[: self._limit - self._seen]
            if len(self.lines) == self._limit:
                self._pass_over()
        while self._next < self._seen + len(block):  # only once the sample is full
            self.lines[self._generator.randrange(self._limit)] = block[self._next - self._seen]
            self._next += 1
            self._pass_over()
        self._seen += len(block)

    def _pass_over(self) -> None:
        """Draw how many lines are passed over before the next one is taken in."""
        self._largest_key *= exp(log(1.0 - self._generator.random()) / self._limit)
        # for a large limit the key may round to 1, whose logarithm below would not exist
        self._next += floor(log(1.0 - self._generator.random()) / log1p(-min(self._largest_key, 1.0 - 1e-16)))


def in_blocks(lines: Iterable[Line], size: int | None = None) -> Iterator[list[Line]]:
    """Cut a stream of lines into blocks, so that work is done on many at once and never on all."""
    remaining = iter(lines)
    while block := list(islice(remaining, size or _BLOCK_LINES)):
        yield block


def sample_lines(lines: Iterable[Line], limit: int, *, seed: int) -> list[Line]:
    """Return the `Sample` of all lines."""
    sample = Sample[Line](limit, seed=seed)
    for block in in_blocks(lines):
        sample.update(block)
    return sample.lines


# Text that looks like a special token gets a backslash, and one more if it has some already, so it can be undone.
_LOOKS_SPECIAL = re.compile(r"\\*(?:" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")

SPACE_SYMBOL = "▁"
_ESCAPED_SYMBOL = f"\\{SPACE_SYMBOL}"


class ListTokenizer(Tokenizer):
    """Looks tokens up in a list: what the tokenizers of words and of characters have in common.

    Args:
        vocabulary: all tokens.
        normalization: how a line is normalised before it is split, see `normalized`; None takes it as it is.

    Attributes:
        unit: what a line of the list must be, in words.
        separator: what stands between two tokens of a text.
    """

    unit: ClassVar[str]
    separator: ClassVar[str]
    maximum_lines: ClassVar[int | None] = None

    def __init__(self, vocabulary: Vocabulary, *, normalization: str | None = None) -> None:
        self.vocabulary, self.normalization = vocabulary, normalization
        self._surfaces = [*SPECIAL_TOKENS, *map(self.surface, vocabulary.tokens[len(SPECIAL_TOKENS) :])]
        self._tags = tags_of(vocabulary)
        self._silent = _SILENT_IDS | {*self._tags.values()}

    @staticmethod
    @abstractmethod
    def split(line: str) -> list[str]:
        """The tokens of a line."""

    @staticmethod
    @abstractmethod
    def surface(token: str) -> str:
        """What a token is in text."""

    @classmethod
    def learn(cls, lines: Iterable[str] | Counter[str], *, vocabulary_size: int | None, minimum_count: int) -> Self:
        """Collect the most frequent tokens of all lines, equally frequent ones in the order of their characters.

        Args:
            lines: normalised text, or how often each of its tokens occurs, see `count`.
            vocabulary_size: upper bound of the vocabulary, special tokens included; None for no bound.
            minimum_count: tokens that occur less often are unknown.

        Raises:
            ConfigError: the vocabulary has no room for anything but special tokens.
            DataError: there is no text, or no token that occurs so often.
        """
        if vocabulary_size is not None and vocabulary_size <= len(SPECIAL_TOKENS):
            raise ConfigError(
                f"vocabulary_size must be more than the {len(SPECIAL_TOKENS)} special tokens, got {vocabulary_size}"
            )
        tokens = cls._frequent(lines, minimum_count)
        if not tokens:
            raise DataError(f"no token occurs minimum_count = {minimum_count} times or more: lower minimum_count")
        return cls(Vocabulary([*SPECIAL_TOKENS, *tokens][:vocabulary_size]))

    def extend(self, lines: Iterable[str], *, minimum_count: int = 1, max_new_tokens: int | None = None) -> Self:
        """Append the tokens that are missing, the most frequent first; see `Tokenizer.extend`."""
        known = self.vocabulary.tokens
        old = set(known)
        frequent = self._frequent(map(self.normalized, lines), minimum_count)
        missing = [token for token in frequent if token not in old][:max_new_tokens]
        if not missing:
            return self
        return type(self)(Vocabulary([*known, *missing]), normalization=self.normalization)

    @classmethod
    def adopt(cls, path: PathLike) -> Self:
        """Read a list with a token per line, see `Vocabulary.adopt`; a line that no text can give is refused."""
        vocabulary = Vocabulary.adopt(path)
        for token in vocabulary.tokens[len(SPECIAL_TOKENS) :]:
            if cls.split(cls.surface(token)) != [token]:
                raise DataError(f"{Path(path)}: each line must be {cls.unit}, got {token!r}")
        return cls(vocabulary)

    @classmethod
    def count(cls, lines: Iterable[str]) -> Counter[str]:
        """Count the tokens of normalised text."""
        return Counter(chain.from_iterable(map(cls.split, lines)))

    @classmethod
    def _frequent(cls, lines: Iterable[str] | Counter[str], minimum_count: int) -> list[str]:
        counts = lines if isinstance(lines, Counter) else cls.count(lines)
        if not counts:
            raise DataError("a vocabulary needs text to learn from, got only empty lines")
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [token for token, count in ranked if count >= minimum_count]

    def encode(self, line: str) -> list[int]:
        """Token ids of one line."""
        return [self.vocabulary.id(token) for token in self.split(self.normalized(line))]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The tokens as they are in text."""
        spoken = (token_id for token_id in map(int, token_ids) if token_id not in self._silent)
        return self.separator.join(self._surfaces[token_id] for token_id in spoken)

    def surfaces(self, segmentation: str = "none") -> list[bytes]:
        """For each token id the UTF-8 that it adds to the decoded text."""
        if segmentation != "none" and self.separator != " ":
            raise ConfigError(f"only words can be pieces of {segmentation}, got a tokenizer of type {self.type}")
        texts = [added_by(word, segmentation) for word in self._surfaces] if self.separator else self._surfaces
        return [b"" if token in self._silent else text.encode("utf-8", "replace") for token, text in enumerate(texts)]

    def pieces(self, line: str) -> list[bytes]:
        """For each token of a line the UTF-8 that it stands for, known or not."""
        return [self.surface(token).encode("utf-8", "replace") for token in self.split(self.normalized(line))]

    def with_tags(self, tags: Iterable[str]) -> Self:
        """The same tokenizer with symbols for tags behind its tokens."""
        missing = [TAG_MARK + tag for tag in tags if tag not in self._tags]
        vocabulary = Vocabulary([*self.vocabulary.tokens, *missing])
        return type(self)(vocabulary, normalization=self.normalization) if missing else self

    @property
    def tags(self) -> dict[str, int]:
        """The id of the symbol of each tag."""
        return dict(self._tags)

    def with_normalization(self, normalization: str | None) -> Self:
        """The same tokens, for text that is normalised in another way."""
        return type(self)(self.vocabulary, normalization=normalization)

    @classmethod
    def load(cls, directory: Path, side: str, settings: dict[str, Any]) -> Self:
        """Read `vocabulary.txt` (or the one of a side)."""
        vocabulary = Vocabulary.load(directory / side_name("vocabulary.txt", side))
        return cls(vocabulary, normalization=settings.get("normalization"))


class WhitespaceTokenizer(ListTokenizer):
    """Splits at spaces and tabs, and nowhere else; joins by one space."""

    type: ClassVar[str] = "whitespace"
    unit, separator = "a word", " "

    @staticmethod
    def split(line: str) -> list[str]:
        """Tokens between spaces and tabs. `str.split()` would also split at U+2028, U+0085, U+00A0 and many others."""
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        if "<" not in line:
            return words
        return [f"\\{word}" if _LOOKS_SPECIAL.fullmatch(word) else word for word in words]

    @staticmethod
    def surface(token: str) -> str:
        """A word, without the backslash of one that looks like a special token."""
        return token[1:] if _LOOKS_SPECIAL.fullmatch(token) else token


class CharacterTokenizer(ListTokenizer):
    """One token for each code point; the space is written `▁` to be seen, and a `▁` of the text escaped."""

    type: ClassVar[str] = "character"
    unit, separator = "one character", ""

    @staticmethod
    def split(line: str) -> list[str]:
        """The code points of a line as tokens."""
        if SPACE_SYMBOL in line:
            symbols = {" ": SPACE_SYMBOL, SPACE_SYMBOL: _ESCAPED_SYMBOL}
            return [symbols.get(character, character) for character in line]
        return list(line.replace(" ", SPACE_SYMBOL))

    @staticmethod
    def surface(token: str) -> str:
        """A character."""
        return {SPACE_SYMBOL: " ", _ESCAPED_SYMBOL: SPACE_SYMBOL}.get(token, token)
