"""Word vectors that were learned elsewhere, as the first rows of embeddings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from nmt.backend.kernels import array_view, assign_array
from nmt.data.lines import read_lines
from nmt.errors import ConfigError, DataError
from nmt.models.contract import Seq2Seq
from nmt.settings.training import PretrainedSettings
from nmt.text import SPECIAL_TOKENS, SentencePieceTokenizer, TextPair, Tokenizer
from nmt.text.tokenizer import SPACE_SYMBOL
from nmt.tying import named_variables, variable_roles
from nmt.types import PathLike

_NUMBER = re.compile(r" [-+]?[0-9]*\.?[0-9]+(e[-+]?[0-9]+)?$", re.IGNORECASE)
"""How a token ends that is none: by a number."""


class Vectors(NamedTuple):
    """Some of the vectors of a file.

    rows: by token, (E,) each.
    width: E.
    num_lines: vectors in the file.
    repeated: how many of those that were wanted came again, and were left out.
    of_pieces: whether tokens of the file mark the beginning of a word, as those of SentencePiece do.
    """

    rows: dict[str, np.ndarray]
    width: int
    num_lines: int
    repeated: int
    of_pieces: bool


def read_vectors(path: PathLike, wanted: Collection[str]) -> Vectors:
    """Read vectors from text: a token and its numbers on each line, with or without a first line `count width`.

    That is what word2vec, fastText and GloVe write. Numbers are looked at where a token is wanted, their count in every
    line. Of a token that comes again the first vector counts.

    Args:
        path: plain or compressed.
        wanted: the tokens whose vectors are kept.

    Raises:
        DataError: with file and line: another number of numbers, something else than a finite number, or fewer or more
            vectors than the first line says.
    """
    rows: dict[str, np.ndarray] = {}
    width = number = first = repeated = 0
    count, of_pieces = None, False
    for number, line in enumerate(read_lines(path), 1):
        fields = line.rstrip(" ").split(" ")
        if number == 1 and len(fields) == 2 and all(field.isascii() and field.isdecimal() for field in fields):
            count, width, first = int(fields[0]), int(fields[1]), 1
            continue
        width = width or len(fields) - 1
        # A token may hold spaces; if what stands before the numbers is one more, the line has too many.
        token, numbers = " ".join(fields[: len(fields) - width]), fields[len(fields) - width :]
        if width < 1 or not token or _NUMBER.search(token):
            raise DataError(
                f"{path}, line {number}: must hold a token and {width or 'some'} numbers, got {len(fields) - 1} numbers"
            )
        of_pieces = of_pieces or token.startswith(SPACE_SYMBOL)
        repeated += token in rows
        if token not in wanted or token in rows:
            continue
        try:
            row = np.array(numbers, dtype=np.float64)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: must hold {width} numbers behind a token: {error}") from error
        if not np.isfinite(row).all():
            raise DataError(f"{path}, line {number}: must hold finite numbers, got {line[:40]}...")
        rows[token] = row
    if count not in (None, number - first):
        raise DataError(
            f"{path}: must hold {count:,} vectors, as its first line says, got {number - first:,}: is it cut short?"
        )
    if not width:
        raise DataError(f"{path}: must hold vectors, got an empty file")
    return Vectors(rows, width, number - first, repeated, of_pieces)


def embeddings_of(model: Seq2Seq, settings: PretrainedSettings) -> dict[str, list[str]]:
    """Return the embeddings that vectors go into, by canonical role path, each with the sides whose files it takes."""
    roles, canonical = variable_roles(model), {id(each): path for path, each in named_variables(model).items()}
    found: dict[str, list[str]] = {}
    for side in ("source", "target"):
        if getattr(settings, side) is not None:
            found.setdefault(canonical[id(roles[f"{side}_embedding/embeddings"])], []).append(side)
    return found


def begin_with_vectors(model: Seq2Seq, text: TextPair, settings: PretrainedSettings) -> list[str]:
    """Put vectors into embeddings, scaled as the first weights of these are; return what the log says about it.

    All vectors of a file are multiplied by one number, so that the mean of their squared elements becomes 1 / E, which
    the model is made for. A token that no file has keeps its random row.

    Args:
        model: with its first weights.
        text: its tokenizers.
        settings: the files.

    Raises:
        ConfigError: vectors are of another width than the embeddings, or of no token of the vocabulary.
        DataError: a file cannot be read.
    """
    variables, remarks = named_variables(model), []
    for path, sides in embeddings_of(model, settings).items():
        matrix = np.array(array_view(variables[path]))
        sums, counts = np.zeros(matrix.shape), np.zeros((len(matrix), 1))
        for side in sides:
            rows, remark = _rows_of(str(getattr(settings, side)), getattr(text, side), matrix.shape[1], side)
            remarks.append(remark)
            ids, added = list(rows), np.zeros(matrix.shape)
            added[ids] = np.stack(list(rows.values()))
            sums, counts[ids] = sums + added, counts[ids] + 1
        assign_array(variables[path], np.where(counts, sums / np.maximum(counts, 1), matrix).astype(np.float32))
        if len(sides) > 1:
            both = int((counts > 1).sum())
            remarks.append(f"{path} is tied: {both:,} tokens of both files have the mean of both vectors")
        if settings.freeze_updates:
            remarks.append(f"{path} is kept as it is for {settings.freeze_updates:,} updates, in all its roles")
    return remarks


def _rows_of(path: str, tokenizer: Tokenizer, width: int, side: str) -> tuple[dict[int, np.ndarray], str]:
    """Return the scaled vectors of tokens by their ids, and what is to be said of them."""
    vocabulary = tokenizer.vocabulary
    tokens = {number: vocabulary.token(number) for number in range(len(SPECIAL_TOKENS), len(vocabulary))}
    marked = isinstance(tokenizer, SentencePieceTokenizer)
    words = {number: token.removeprefix(SPACE_SYMBOL) if marked else token for number, token in tokens.items()}
    vectors = read_vectors(path, {*tokens.values(), *words.values(), *(word.lower() for word in words.values())})
    if vectors.width != width:
        raise ConfigError(
            f"training.pretrained_embeddings.{side}: {path} must have vectors as wide as the embeddings, {width}, got "
            f"{vectors.width}: set the width of the model to {vectors.width}, or take other vectors"
        )
    rows, how = dict[int, np.ndarray](), Counter[str]()
    for number, token in tokens.items():
        # A piece from within a word is no word, though a word may be written alike.
        is_word = not marked or (token.startswith(SPACE_SYMBOL) and token != SPACE_SYMBOL)
        tried = {"": token} if vectors.of_pieces or not marked else {}
        if is_word:
            tried |= {"as words": words[number], "in lower case": words[number].lower()}
        kind = next((kind for kind, word in tried.items() if word in vectors.rows), None)
        if kind is not None:
            rows[number] = vectors.rows[tried[kind]]
            how[kind] += 1
    size = float(np.sqrt(np.mean(np.square(list(rows.values()))))) if rows else 0.0
    if not size:
        raise ConfigError(
            f"training.pretrained_embeddings.{side}: {path} must have vectors of tokens of the {side} vocabulary, got "
            f"none among {vectors.num_lines:,}: is it of the {side} language?"
        )
    scale = width**-0.5 / size
    kinds = "".join(f", {count:,} of them {kind}" for kind, count in how.items() if kind)
    again = f"; {vectors.repeated:,} came again, of which the first counts" if vectors.repeated else ""
    remark = (
        f"pretrained embeddings: {len(rows):,} of {len(tokens):,} {side} tokens ({len(rows) / len(tokens):.1%}) have a "
        f"vector in {path}{kinds}; scaled by {scale:.3g}, from a root mean square of {size:.3g} to "
        f"{width**-0.5:.3g}{again}"
    )
    return {number: row * scale for number, row in rows.items()}, remark
