"""What other programs leave in text that they cut: how it is recognised, and how the words are joined again.

BLEU of pieces, or of tokens, says something else than BLEU of words, and cannot be compared with it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

_MARKS = {
    "bpe": re.compile("@@(?: |$)"),  # subword-nmt, fastBPE: `fr@@ om`
    "sentencepiece": re.compile("▁"),  # `▁fr om`
    "wordpiece": re.compile("(?:^| )##(?=[^ #])"),  # BERT: `fr ##om`
    "joiner": re.compile(" ?￭ ?"),  # the Tokenizer of OpenNMT: `fr￭ om`
}
"""By the name of a segmentation, what it puts between the pieces of a word; removed, it leaves the word."""

SEGMENTATIONS = ("none", *_MARKS)

# A space before a full stop or a comma, but not before other signs, where French has one; and escapes of Moses.
_TOKENS = re.compile(r" [.,。，、](?= |$)|&(?:quot|apos|amp|lt|gt|#91|#93|#124);|@-@")

TOKENS = "tokens"

_LINES_LOOKED_AT = 10_000
_LEAST_CUT, _LEAST_TOKENISED = 0.02, 0.1
"""Shares of lines above which text is taken for such text; tokens are seen in plain text now and then."""


def joined(line: str, segmentation: str) -> str:
    """Join the words of a line that was cut.

    Args:
        line: pieces with one space between them.
        segmentation: of `SEGMENTATIONS`; "none" returns the line as it is.
    """
    if segmentation == "none":
        return line
    if segmentation == "sentencepiece":  # spaces stand between all pieces, and the mark where there was one
        return line.replace(" ", "").replace("▁", " ").strip(" ")
    return _MARKS[segmentation].sub("", line)


def joined_side(lines: Sequence[str], segmentation: str) -> Sequence[str]:
    """Join the words of all lines; what has no marks at all was joined before, and stays as it is."""
    if segmentation == "none" or not any(map(_MARKS[segmentation].search, lines)):
        return lines
    return [joined(line, segmentation) for line in lines]


def found_marks(texts: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Look at lines, all or some that are spread evenly, for marks of other programs.

    Args:
        texts: lines by the name of where they come from.

    Returns:
        What was found, in words with names, shares and an example: by segmentation for what looks cut, and under
        `TOKENS` for what looks tokenised, as by Moses. Empty where nothing was found.
    """
    found: dict[str, list[tuple[str, float, str]]] = defaultdict(list)
    for name, lines in texts.items():
        sample = [line for line in lines[:: max(1, len(lines) // _LINES_LOOKED_AT)] if line.strip()]
        shares = {mark: _share(pattern, sample) for mark, pattern in _MARKS.items()}
        segmentation = max(shares, key=lambda mark: shares[mark])
        if shares[segmentation] > _LEAST_CUT:
            found[segmentation].append((name, shares[segmentation], _example(_MARKS[segmentation], sample)))
            sample = [joined(line, segmentation) for line in sample]
        share = _share(_TOKENS, sample)
        if share > _LEAST_TOKENISED:
            found[TOKENS].append((name, share, _example(_TOKENS, sample)))
    return {kind: _in_words(kind, sides) for kind, sides in found.items()}


def _share(pattern: re.Pattern[str], lines: Sequence[str]) -> float:
    return sum(map(bool, map(pattern.search, lines))) / max(1, len(lines))


def _example(pattern: re.Pattern[str], lines: Sequence[str]) -> str:
    """What is found first, with a little before and after it."""
    line, match = next((line, match) for line in lines if (match := pattern.search(line)))
    return line[max(0, match.start() - 8) : match.end() + 8].strip()


def _in_words(kind: str, sides: Sequence[tuple[str, float, str]]) -> str:
    shares = " and ".join(f"{100 * share:.0f} % of the lines of {name}" for name, share, _ in sides)
    return f"{shares} look {'tokenised' if kind == TOKENS else f'cut into pieces by {kind}'} (`{sides[0][2]}`)"
