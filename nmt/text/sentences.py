"""Sentences of a line: where they end, how a long line becomes several shorter ones, and one line again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

_CLOSING = "\"'”’“»›)\\]}」』）】》"
_OPENING = "\"'“‘„«‹(\\[{¿¡「『（【《"

_END = re.compile(
    rf"(?P<sign>[.!?…؟۔।॥։።]+)[{_CLOSING}]*\s+(?=[{_OPENING}]*(?P<next>\w))|[。！？｡]+[{_CLOSING}]*\s*(?=\S)"
)
"""What may end a sentence within a line, up to where the next one begins."""

_SHORT = re.compile(
    r"(?<![\w.])(?:\w|[0-9]{1,2}|(?:\w\.)+\w|mr|mrs|ms|dr|prof|sr|sra|st|jr|hr|fr|mme|mlle|nr|núm|bd|vol|pp|fig|vs|"
    r"bzw|ca|cf|e\.g|i\.e)$",
    re.IGNORECASE,
)
"""What a full stop may follow that ends no sentence: initials, ordinal numbers (`3. Mai`) and titles."""

_LONGEST_SHORT = 12

_WITHOUT_SPACE = re.compile("[\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff60\U00020000-\U0003ffff]")
"""Chinese and Japanese characters and signs, around which sentences stand without a space."""


def sentence_starts(line: str) -> list[int]:
    """Return the places at which sentences begin; the first is 0.

    A sentence ends at a full stop, a question or exclamation mark or an ellipsis, with the quotes and brackets that
    close behind it, if a space and no small letter follow, or at such a sign of Chinese or Japanese. A full stop behind
    an initial, a title or a number of one or two digits is taken for an abbreviation.
    """
    starts = [0]
    for match in _END.finditer(line):
        if match["sign"] is not None:
            is_short = match["sign"] == "." and _SHORT.search(
                line, max(0, match.start() - _LONGEST_SHORT), match.start()
            )
            if match["next"].islower() or is_short:
                continue
        starts.append(match.end())
    return starts


def split_line(line: str, num_tokens: Callable[[str], int], limit: int) -> list[str]:
    """Split a line at ends of sentences into as few parts as have `limit` tokens at most.

    Args:
        line: raw text.
        num_tokens: counts the tokens of a text.
        limit: of a part; a sentence with more is a part by itself.

    Returns:
        The parts without spaces around them; the line alone, as it is, if it is short enough or one sentence.
    """
    starts = sentence_starts(line)
    if len(starts) == 1 or num_tokens(line) <= limit:
        return [line]
    parts, begun = list[str](), 0
    for start, end in pairwise([*starts, len(line)]):
        if start > begun and num_tokens(line[begun:end].strip()) > limit:
            parts.append(line[begun:start].strip())
            begun = start
    return [*parts, line[begun:].strip()]


def join_sentences(texts: Iterable[str]) -> str:
    """Join translations of the parts of a line: by a space, but none beside a character of Chinese or Japanese."""
    joined = ""
    for text in filter(None, texts):
        apart = joined and not (_WITHOUT_SPACE.match(joined[-1]) or _WITHOUT_SPACE.match(text[0]))
        joined += f" {text}" if apart else text
    return joined
