"""What other programs leave in text that they cut: how it is recognised, and how the words are joined again.

BLEU of pieces, or of tokens, says something else than BLEU of words, and cannot be compared with it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

_MARKS = {
    "bpe": re.compile("@@(?: |$)"),  # subword-nmt, fastBPE: `fr@@ om`
    "sentencepiece": re.compile("▁"),  # `▁fr om`
    "wordpiece": re.compile("(?:^| )##(?=[^ #])"),  # BERT: `fr ##om`
    "joiner": re.compile(" ?￭ ?"),  # the Tokenizer of OpenNMT: `fr￭ om`
}
"""By the name of a segmentation, what it puts between the pieces of a word; removed, it leaves the word."""

SEGMENTATIONS = ("none", *_MARKS)

# A space before a full stop or a comma, but not before other signs, where French has one; and escapes of Moses.
_TOKENS = re.compile(
    r" [.,。，、](?= |$)|&(?:quot|apos|amp|lt|gt|#91|#93|#124);|@-@| (?:n't|'re|'ve|'ll)(?= |$)", re.IGNORECASE
)

TOKENS = "tokens"

_PIECES = re.compile(r"</w>|(?:^| )Ġ| @@(?=[^ @])")  # `fr om</w>`, `fr om Ġthe` (GPT-2), `fr @@om`

PIECES = "pieces"

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
        What was found, in words with names, shares and an example: by segmentation for what looks cut, under `PIECES`
        if it was cut in a way that cannot be joined here, and under `TOKENS` for what looks tokenised, as by Moses.
        Empty where nothing was found.
    """
    found: dict[str, list[tuple[str, float, str]]] = defaultdict(list)
    for name, lines in texts.items():
        sample = [line for line in lines[:: max(1, len(lines) // _LINES_LOOKED_AT)] if line.strip()]
        shares = {mark: _share(pattern, sample) for mark, pattern in _MARKS.items()}
        segmentation = max(shares, key=lambda mark: shares[mark])
        if shares[segmentation] > _LEAST_CUT:
            found[segmentation].append((name, shares[segmentation], _example(_MARKS[segmentation], sample)))
            sample = [joined(line, segmentation) for line in sample]
        share = _share(_PIECES, sample)
        if share > _LEAST_CUT:
            found[PIECES].append((name, share, _example(_PIECES, sample)))
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
    how = {TOKENS: "tokenised", PIECES: "cut into pieces by another program"}.get(kind, f"cut into pieces by {kind}")
    return f"{shares} look {how} (`{sides[0][2]}`)"


_SAME = {"CJK": "HAN", "IDEOGRAPHIC": "HAN", "HIRAGANA": "KANA", "KATAKANA": "KANA", "KATAKANA-HIRAGANA": "KANA"}

_LANGUAGES = {
    "LATIN": "en de fr es it pt nl sv da no nb nn fi et lv lt pl cs sk sl hr hu ro tr vi id ms sw ca eu gl ga cy is mt "
    "sq af eo la tl eng deu ger fra fre spa ita por nld dut swe dan fin pol ces cze hun ron rum tur vie ind",
    "CYRILLIC": "ru uk be bg mk rus ukr bel bul mkd mac",
    "HAN": "zh zho chi cmn yue wuu zt",
    "HAN KANA": "ja jpn",
    "HANGUL": "ko kor",
    "GREEK": "el ell gre",
    "ARABIC": "ar fa ur ps ara fas per urd pus",
    "HEBREW": "he yi heb yid",
    "DEVANAGARI": "hi mr ne hin mar nep",
    "BENGALI": "bn as ben asm",
    "THAI": "th tha",
    "LAO": "lo lao",
    "KHMER": "km khm",
    "MYANMAR": "my mya bur",
    "GEORGIAN": "ka kat geo",
    "ARMENIAN": "hy hye arm",
    "ETHIOPIC": "am ti amh tir",
    "TAMIL": "ta tam",
    "TELUGU": "te tel",
}
"""Codes of ISO 639-1, -2 and -3, by their scripts as the names of characters begin; those that have several are left
out (Serbian, Kazakh, Uzbek), and nothing is said of them."""

_CODES = {
    "latn": "LATIN", "cyrl": "CYRILLIC", "hans": "HAN", "hant": "HAN", "hani": "HAN", "jpan": "HAN KANA",
    "kore": "HANGUL", "hang": "HANGUL", "grek": "GREEK", "arab": "ARABIC", "hebr": "HEBREW", "deva": "DEVANAGARI",
    "beng": "BENGALI", "thai": "THAI",
}  # fmt: skip
"""Codes of ISO 15924, which decide where a language code has one: zh_Latn."""

_BY_LANGUAGE = {language: scripts for scripts, languages in _LANGUAGES.items() for language in languages.split()}
_FEWEST_LETTERS = 20
_LEAST_SHARE = 0.2


def scripts_of_language(language: str) -> frozenset[str]:
    """Return the scripts of a language code such as `ja`, `zh-TW` or `srp_Cyrl`; none where that is not known."""
    first, *others = re.split(r"[^a-z0-9]+", language.lower())
    named = [_CODES[part] for part in others if part in _CODES]
    return frozenset((named[0] if named else _BY_LANGUAGE.get(first, "")).split())


def foreign_script(lines: Iterable[str], language: str) -> str | None:
    """Return the script that most of some text is in, if that cannot be the language; None if all is well or unknown.

    Args:
        lines: the text.
        language: its code, as it is said.
    """
    expected, found = scripts_of_language(language), Counter[str]()
    for character, count in Counter("".join(lines)).items():
        if character.isalpha():
            name = unicodedata.name(character, "UNKNOWN").split()[0]
            found[_SAME.get(name, name)] += count
    letters = found.total()
    if not expected or letters < _FEWEST_LETTERS or sum(found[name] for name in expected) >= _LEAST_SHARE * letters:
        return None
    return found.most_common(1)[0][0]


def in_words(script: str) -> str:
    """Return the name of a script as text has it."""
    return {"HAN": "Chinese characters", "KANA": "kana"}.get(script, f"{script.capitalize()} letters")
