"""What other programs leave in text that they cut: how it is recognised, and how the words are joined again.

BLEU of pieces, or of tokens, says something else than BLEU of words, and cannot be compared with it.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nmt.errors import ConfigError

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


def added_by(word: str, segmentation: str) -> str:
    """Return what a word of a line that was cut adds to the `joined` line, but for spaces at the ends.

    Raises:
        ConfigError: that depends on the word before it.
    """
    if segmentation == "joiner":
        raise ConfigError("constraints on the text cannot hold on words cut with ￭, which joins to both sides")
    if segmentation == "sentencepiece":
        return word.replace("▁", " ")
    if segmentation == "bpe" and word.endswith("@@"):
        return word.removesuffix("@@")
    if segmentation == "wordpiece":  # here words begin with a space, so that one can do without
        return _MARKS[segmentation].sub("", f" {word}")
    return f"{word} "


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
        Empty if nothing was found.
    """
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, lines in texts.items():
        sample = [line for line in lines[:: max(1, len(lines) // _LINES_LOOKED_AT)] if line.strip()]
        cut = max(_MARKS, key=lambda mark: sum(map(bool, map(_MARKS[mark].search, sample))))
        for kind, pattern, least in (
            (cut, _MARKS[cut], _LEAST_CUT),
            (PIECES, _PIECES, _LEAST_CUT),
            (TOKENS, _TOKENS, _LEAST_TOKENISED),
        ):
            matches = [match for line in sample if (match := pattern.search(line))]
            if len(matches) <= least * len(sample):
                continue
            share = f"{100 * len(matches) / len(sample):.0f} % of the lines of {name}"
            first = matches[0]
            found[kind].append((share, first.string[max(0, first.start() - 8) : first.end() + 8].strip()))
            if kind == cut:
                sample = [joined(line, cut) for line in sample]
    looks = {TOKENS: "tokenised", PIECES: "cut into pieces by another program"}
    return {
        kind: f"{' and '.join(share for share, _ in sides)} look {looks.get(kind, f'cut into pieces by {kind}')} "
        f"(`{sides[0][1]}`)"
        for kind, sides in found.items()
    }


_SAME = {
    **dict.fromkeys(("CJK", "IDEOGRAPHIC"), "HAN"),
    **dict.fromkeys(("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH"), "KANA"),
}

_SCRIPTS = {
    "LATIN": "en de fr es it pt nl sv da no nb nn fi et lv lt pl cs sk sl hr hu ro tr vi id ms sw ca eu gl ga cy is mt "
    "sq af eo la tl eng deu ger fra fre spa ita por nld dut swe dan fin pol ces cze hun ron rum tur vie ind latn",
    "CYRILLIC": "ru uk be bg mk rus ukr bel bul mkd mac cyrl",
    "HAN": "zh zho chi cmn yue wuu zt hans hant hani",
    "HAN KANA": "ja jpn jpan",
    "HANGUL": "ko kor kore hang",
    "GREEK": "el ell gre grek",
    "ARABIC": "ar fa ur ps ara fas per urd pus arab",
    "HEBREW": "he yi heb yid hebr",
    "DEVANAGARI": "hi mr ne hin mar nep deva",
    "BENGALI": "bn as ben asm beng",
    "THAI": "th tha thai",
    "LAO": "lo lao",
    "KHMER": "km khm",
    "MYANMAR": "my mya bur",
    "GEORGIAN": "ka kat geo",
    "ARMENIAN": "hy hye arm",
    "ETHIOPIC": "am ti amh tir",
    "TAMIL": "ta tam",
    "TELUGU": "te tel",
}
"""Scripts as the names of characters begin, each with its codes of ISO 15924 (four letters), and of ISO 639-1, -2 and
-3 for its languages; those that have several scripts are left out (Serbian, Kazakh, Uzbek): nothing is said of them."""

_BY_CODE = {code: scripts for scripts, codes in _SCRIPTS.items() for code in codes.split()}
_FEWEST_LETTERS = 20
_LEAST_SHARE = 0.2


def scripts_of_language(language: str) -> frozenset[str]:
    """Return the scripts of a language code such as `ja`, `zh-TW` or `srp_Cyrl`; none if that is not known."""
    first, *others = re.split(r"[^a-z0-9]+", language.lower())
    named = [code for code in others if len(code) == 4 and code in _BY_CODE]  # the script decides: zh_Latn
    return frozenset(_BY_CODE.get([*named, first][0], "").split())


def scripts_in(lines: Iterable[str]) -> Counter[str]:
    """Count the letters of text, and the signs that stand with them, by script: `LATIN`, `HAN`, `THAI` and so on."""
    found = Counter[str]()
    for character, count in Counter("".join(lines)).items():
        name = _first_of_name(character)
        if unicodedata.category(character)[0] in "LM" and name != "COMBINING":
            found[name] += count
    return found


def _first_of_name(character: str) -> str:
    name = unicodedata.name(character, "UNKNOWN").split()[0]
    return _SAME.get(name, name)


SCRIPT_NAMES = ("OTHER", *dict.fromkeys(name for names in _SCRIPTS for name in names.split()))
"""Scripts that languages are known by, and one word for all others."""


def script_of(character: str) -> str:
    """Return the script of a letter, of `SCRIPT_NAMES`."""
    name = _first_of_name(character)
    return name if name in SCRIPT_NAMES else SCRIPT_NAMES[0]


def foreign_script(lines: Iterable[str], language: str) -> str | None:
    """Return the script that most of some text is in, if that cannot be the language; None if all is well or unknown.

    Args:
        lines: the text.
        language: its code, as it is said.
    """
    expected, found = scripts_of_language(language), scripts_in(lines)
    letters = found.total()
    if not expected or letters < _FEWEST_LETTERS or sum(found[name] for name in expected) >= _LEAST_SHARE * letters:
        return None
    return found.most_common(1)[0][0]


def in_words(script: str) -> str:
    """Return the name of a script as text has it."""
    return {"HAN": "Chinese characters", "KANA": "kana"}.get(script, f"{script.capitalize()} letters")
