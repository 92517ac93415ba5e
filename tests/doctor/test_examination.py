"""A corpus that is made bad in some way is said to be so, with the lines; a clean one is left alone."""

import gzip
import itertools
import json
import logging
import random
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from nmt.cli.main import main
from nmt.data import Corpus
from nmt.data.corpus import Layout
from nmt.doctor import report
from nmt.doctor.examination import examine
from nmt.doctor.whole import token_findings
from nmt.errors import ConfigError
from nmt.filters.checks import settled_checks
from nmt.text import SPECIAL_TOKENS, TextPair, Vocabulary, WhitespaceTokenizer

TRAVEL = Path(__file__).parents[2] / "examples/travel"
PAIRS, JUDGING = 700, 60
ROWS = (5, 300, 699)
CYRILLIC = "Вчера мы ели рыбу в маленьком ресторане у моря."


def travel(role, count):
    return list(itertools.islice(Corpus(*(TRAVEL / f"{role}.{code}.gz" for code in ("es", "en"))).pairs(), count))


@pytest.fixture(scope="module")
def clean():
    return travel("train", PAIRS), travel("validation", JUDGING)


@pytest.fixture
def found(tmp_path):
    """A function that writes corpora, examines them, and gives the findings by corpus and check."""

    def find(train, validation, *changes, languages=("es", "en")):
        corpora = {}
        for name, pairs in {"train": train, "validation": validation}.items():
            for side, code in enumerate(languages):
                text = "".join(f"{pair[side]}\n" for pair in pairs)
                (tmp_path / f"{name}.{code}").write_text(text, encoding="utf-8", newline="\n")
            paths = [str(tmp_path / f"{name}.{code}") for code in languages]
            corpora[name] = Corpus(*paths, layout=Layout(languages=languages))
        results = examine(corpora, settled_checks(changes), languages=languages, count=lambda number: None)
        return {(name, each.check): each for name, result in results.items() for each in result.findings}, results

    return find


def test_a_clean_corpus_has_nearly_no_lines_in_findings(found, clean):
    findings, results = found(*clean)
    assert results["train"].lines_in_warnings <= 0.01 * PAIRS
    assert {each.severity for each in findings.values()} == {"note"}
    assert not report.is_fatal(results)
    assert results["train"].reasons.sum() == 0


def test_the_corpora_of_a_mixture_overlap_together(tmp_path, clean):
    """What half of a validation set stands in, and in another corpus the other half, is trained on whole."""
    train, validation = clean
    half, corpora = len(validation) // 2, dict[str, Corpus]()
    parts = {"train.a": train + validation[:half], "train.b": train + validation[half:], "validation": validation}
    for name, pairs in parts.items():
        (tmp_path / f"{name}.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in pairs), encoding="utf-8")
        corpora[name] = Corpus(tmp_path / f"{name}.tsv", tmp_path / f"{name}.tsv")
    results = examine(corpora, settled_checks(), languages=("es", "en"), count=int)
    (overlap,) = (each for each in results["validation"].findings if each.check == "Overlap")
    assert (overlap.severity, overlap.count, overlap.total) == ("fatal", len(validation), len(validation))


# What is done to three lines of the corpus, and the check that finds them.
BROKEN_LINES = {
    "an empty source": ("EmptyFilter", lambda s, t: ("", t)),
    "an empty target": ("EmptyFilter", lambda s, t: (s, "")),
    "white space alone": ("EmptyFilter", lambda s, t: (s, " \t\u3000")),
    "a NUL": ("ControlCharacterFilter", lambda s, t: (s[:5] + "\0" + s[5:], t)),
    "an escape character": ("ControlCharacterFilter", lambda s, t: (s, t + "\x1b[0m")),
    "UTF-8 read as Latin 1": ("EncodingFilter", lambda s, t: (f"él {s}".encode().decode("latin-1"), t)),
    "UTF-8 read as Windows 1252": ("EncodingFilter", lambda s, t: (s, f"“{t}".encode().decode("cp1252"))),
    "a replacement character": ("EncodingFilter", lambda s, t: (s, t.replace("e", "\ufffd", 1))),
    "a zero-width space": ("InvisibleCharacterFilter", lambda s, t: (s, t[:4] + "\u200b" + t[4:])),
    "a private character": ("InvisibleCharacterFilter", lambda s, t: (s, t + " \ue000")),
    "a byte order mark within": ("InvisibleCharacterFilter", lambda s, t: (s + "\ufeff", t)),
    "a very long line": ("LengthFilter", lambda s, t: (" ".join(map(str.format, ["palabra{}"] * 120, range(120))), t)),
    "text without spaces": ("LongWordFilter", lambda s, t: (s, "onetwothreefour" * 4)),
    "a target far too long": ("LengthRatioFilter", lambda s, t:
        (s, f"{t} And so we said to them: {t} {s} That is it.")),
    "a target far too short": ("LengthRatioFilter", lambda s, t: (f"{s} Le dijimos que no hay otro camino.", "Well.")),
    "s p a c e d text": ("AverageWordLengthFilter", lambda s, t: (s, " ".join(t.replace(" ", "")))),
    "signs alone": ("AlphabetRatioFilter", lambda s, t: ("*** --- ||| ==", "*** --- ||| ==")),
    "a target in Cyrillic": ("CharacterScoreFilter", lambda s, t: (s, CYRILLIC)),
    "a source in Greek": ("CharacterScoreFilter", lambda s, t: ("Θα ήθελα ένα δωμάτιο", t)),
    "a Cyrillic letter in a word": ("MixedScriptFilter", lambda s, t: (s, t + " pаper")),
    "a word that repeats": ("RepetitionFilter", lambda s, t: (s, t + " the the the the")),
    "words that repeat": ("RepetitionFilter", lambda s, t: (s, t + " and so on and so on and so on and so on")),
    "a letter that repeats": ("RepetitionFilter", lambda s, t: (s, t + " aaaaaaaaaaaaaaaa")),
    "tags": ("HtmlTagFilter", lambda s, t: (f'<p class="x">{s}</p>', f"<p>{t}</p>")),
    "entities": ("HtmlEntityFilter", lambda s, t: (s, t + " &#8217;")),
    "escapes": ("EscapeFilter", lambda s, t: (s, t + "\\n")),
    "a copy": ("SimilarityFilter", lambda s, t: ("Ayer comimos pescado en la plaza",) * 2),
    "nearly a copy": ("SimilarityFilter", lambda s, t:
        ("Ayer comimos pescado en una plaza", "Ayer comimos pescado en la plaza")),
    "another number": ("NonZeroNumeralsFilter", lambda s, t: (s + " En 1987.", t + " In 2346.")),
    "a number on one side": ("NonZeroNumeralsFilter", lambda s, t:
        (s + " Son 12345 euros.", t + " It is a lot of money.")),
    "an address on one side": ("AddressFilter", lambda s, t: (s + " Véase https://example.org/a", t)),
    "a mail address on one side": ("AddressFilter", lambda s, t: (s, t + " Write to a.b@example.org")),
    "brackets on one side": ("BracketFilter", lambda s, t: (s, t[:-1] + " (by car).")),
    "many full stops": ("TerminalPunctuationFilter", lambda s, t: (s, "A. B. C. D. E. F. " + t)),
    "a question for a statement": ("FinalPunctuationFilter", lambda s, t: ("Está aquí.", "Is it here?")),
    "sentences on one side": ("SentenceCountFilter", lambda s, t: ("Sí", "Yes. He left. We did not.")),
    "many sentences": ("SeveralSentencesFilter", lambda s, t:
        ("Uno va. Dos van. Tres van.", "One goes. Two go. Three go.")),
    "capitals on one side": ("UppercaseFilter", lambda s, t: (s, t.upper())),
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN_LINES)
def test_broken_lines_are_found_where_they_are(found, clean, damage):
    check, change = BROKEN_LINES[damage]
    pairs = list(clean[0])
    for row in ROWS:
        pairs[row] = change(*pairs[row])
    finding = found(pairs, clean[1])[0]["train", check]
    assert finding.count == len(ROWS)
    assert [example.line for example in finding.examples] == [row + 1 for row in ROWS]
    assert all(example.file.endswith("train.es") for example in finding.examples)
    assert finding.cost
    assert finding.remedy


def shifted(pairs):
    return list(zip([s for s, _ in pairs], ["Extra.", *[t for _, t in pairs][:-1]], strict=True))


def shuffled(pairs):
    targets = [target for _, target in pairs]
    random.Random(1).shuffle(targets)
    return [(source, target) for (source, _), target in zip(pairs, targets, strict=True)]


def swapped(pairs):
    return [pair[::-1] for pair in pairs]


def tokenised(pairs):
    return [tuple(re.sub(r"([.,?!¿¡])", r" \1 ", text).strip() for text in pair) for pair in pairs]


def cut(pairs):
    return [(source, target[:45]) for source, target in pairs]


# What is done to whole corpora (train, validation), and the finding that says so.
BROKEN_CORPORA = {
    "shifted sides": ("train", "ShiftedSides", "fatal", lambda t, v: (shifted(t), v)),
    "shuffled sides": ("train", "UnrelatedSides", "fatal", lambda t, v: (shuffled(t), v)),
    "a validation set with its sides swapped": ("validation", "SwappedSides", "fatal", lambda t, v: (t, swapped(v))),
    "a target that is the source": ("train", "WrongSides", "fatal", lambda t, v: ([(s, s) for s, _ in t], v)),
    "a target in another script": ("train", "WrongSides", "fatal", lambda t, v: ([(s, CYRILLIC) for s, _ in t], v)),
    "exact duplicates": ("train", "Duplicates", "note", lambda t, v: (t + t[:20], v)),
    "near duplicates": ("train", "NearDuplicates", "note", lambda t, v:
        (t + [(s.upper(), u + "!") for s, u in t[:20]], v)),
    "validation within train": ("validation", "Overlap", "fatal", lambda t, v: (t + v, v)),
    "some of validation within train": ("validation", "Overlap", "warning", lambda t, v: (t + v[:20], v)),
    "near lines of validation": ("validation", "NearOverlap", "warning", lambda t, v:
        (t + [(s + "!", u + "!") for s, u in v], v)),
    "parts of validation": ("validation", "NgramOverlap", "note", lambda t, v: (
        t + [(f"Bueno {s} y ya", f"Well {u} and so") for s, u in v], v)),
    "text cut by subword-nmt": ("train", "Marks", "warning", lambda t, v:
        ([(s.replace("a", "a@@ "), u) for s, u in t], v)),
    "tokenised text": ("train", "Marks", "warning", lambda t, v: (tokenised(t), v)),
    "text cut at a length": ("train", "CutLines", "warning", lambda t, v: (cut(t), v)),
    "lower case, but for validation": ("validation", "StyleDiffers", "warning", lambda t, v: (
        [(s.lower(), u.lower()) for s, u in t], v)),
    "more lines on one side": ("train", "Unreadable", "fatal", lambda t, v:
        ([*t[:-1], (t[-1][0] + "\nx", t[-1][1])], v)),
    "an empty file": ("train", "Unreadable", "fatal", lambda t, v: ([], v)),
    "most pairs copies": ("train", "MostlyWrong", "fatal", lambda t, v: ([("", u) for _, u in t[:500]] + t[500:], v)),
    "few pairs": ("train", "FewPairs", "note", lambda t, v: (t[:100], v)),
}  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN_CORPORA)
def test_broken_corpora_are_said(found, clean, damage):
    corpus, check, severity, change = BROKEN_CORPORA[damage]
    findings, results = found(*change(list(clean[0]), list(clean[1])))
    assert findings[corpus, check].severity == severity
    assert report.is_fatal(results) == (severity == "fatal")


SWAPS = {
    "train": ({"train": "have a source in en and a target in es"}, {"validation": "one of the two"}),
    "validation": ({"validation": "have a source in en and a target in es"}, {"validation": "one of the two"}),
    "both": ({"train": "have a source in en", "validation": "have a source in en"}, {}),
}


@pytest.mark.parametrize("which", SWAPS)
def test_what_is_swapped_is_told_by_language_or_else_beside_each_other(found, clean, which):
    pytest.importorskip("py3langid")
    train, validation = (swapped(pairs) if which in (name, "both") else pairs for name, pairs in
                         zip(("train", "validation"), clean, strict=True))  # fmt: skip
    for checks, expected in zip(((), ("LanguageIDFilter=off",)), SWAPS[which], strict=True):
        findings, results = found(train, validation, *checks)
        said = {corpus: each.sentence for (corpus, check), each in findings.items() if check == "SwappedSides"}
        assert said.keys() == expected.keys()
        assert all(words in said[corpus] for corpus, words in expected.items())
        assert not any(check == "LanguageIDFilter" and corpus in said for corpus, check in findings)
        assert report.is_fatal(results) == bool(expected)


def test_what_is_swapped_in_part_is_judged_by_all_of_it(found, clean):
    pytest.importorskip("py3langid")
    train = travel("train", 1400)
    few, most = swapped(train[:300]) + train[300:], swapped(train[:1000]) + train[1000:]
    findings, _ = found(few, clean[1])
    assert ("train", "SwappedSides") not in findings
    assert findings["train", "LanguageIDFilter"].count > 250
    findings, _ = found(most, clean[1])
    assert findings["train", "SwappedSides"].remedy.endswith(", of the part that is swapped")
    assert findings["train", "LanguageIDFilter"].count > 800


def test_a_swapped_file_among_others_is_named(tmp_path):
    pytest.importorskip("py3langid")
    pairs, paths = travel("train", 900), []
    for name, part in (("right", pairs[:600]), ("wrong", swapped(pairs[600:]))):
        paths.append(tmp_path / f"{name}.tsv")
        paths[-1].write_text("".join(f"{source}\t{target}\n" for source, target in part), encoding="utf-8")
    result = examine({"corpus": Corpus(paths, paths)}, settled_checks(), languages=("es", "en"), count=int)["corpus"]
    (finding,) = (each for each in result.findings if each.severity == "fatal")
    assert finding.check == "SwappedSides"
    assert finding.sentence.startswith(f"source and target are swapped in {tmp_path}/wrong.tsv: of some pairs ")


@pytest.mark.parametrize(("languages", "is_found"), [(("de", "en"), True), (("gl", "en"), False)])
def test_a_corpus_of_another_language_is_fatal_unless_that_is_a_near_relative(found, clean, languages, is_found):
    pytest.importorskip("py3langid")
    findings, _ = found(*clean, languages=languages)
    assert (("train", "WrongLanguage") in findings) == is_found
    if is_found:
        assert findings["train", "WrongLanguage"].sentence == "most sources are in es, where de to en is wanted"


def test_text_that_is_cut_into_characters_is_of_its_language(found, clean):
    pytest.importorskip("py3langid")
    cut = [[(" ".join(source), " ".join(target)) for source, target in pairs] for pairs in clean]
    assert not {check for _, check in found(*cut)[0]} & {"WrongLanguage", "SwappedSides"}


def test_short_lines_that_are_swapped_are_known_together(found):
    pytest.importorskip("py3langid")
    words = [("el perro", "the dog"), ("la casa", "the house"), ("muy bien", "very good"), ("mi hermano", "my brother"),
             ("gracias", "thank you"), ("buenos días", "good morning"), ("el queso", "the cheese")]  # fmt: skip
    findings, _ = found(swapped(words) * 20, words)
    assert findings["train", "SwappedSides"].severity == "fatal"
    assert ("validation", "SwappedSides") not in findings


def test_unrelated_text_in_one_of_several_files_is_fatal(tmp_path):
    pairs, paths = travel("train", 3000), []
    for name, part in (("good", pairs[:2400]), ("bad", shuffled(pairs[2400:]))):
        paths.append(tmp_path / f"{name}.tsv")
        paths[-1].write_text("".join(f"{source}\t{target}\n" for source, target in part), encoding="utf-8")
    results = examine({"corpus": Corpus(paths, paths)}, settled_checks(), languages=("es", "en"), count=int)
    (finding,) = (each for each in results["corpus"].findings if each.check == "UnrelatedSides")
    assert f"have nothing to do with each other in {tmp_path}/bad.tsv (correlation" in finding.sentence
    assert report.is_fatal(results)
    text = "".join(f"{source}\t{target}\n" for source, target in shifted(pairs[:2400]))
    paths[0].write_text(text, encoding="utf-8")
    results = examine({"corpus": Corpus(paths, paths)}, settled_checks(), languages=("es", "en"), count=int)
    assert {"UnrelatedSides", "ShiftedSides"} <= {each.check for each in results["corpus"].findings}


def test_a_remedy_is_of_the_action_that_is_set_and_of_what_is_cleaned(found, clean):
    pairs = [("", target) if row in ROWS else (source, target) for row, (source, target) in enumerate(clean[0])]
    doubled = [*clean[1], *clean[1][:5]]
    findings, _ = found(pairs + pairs[:30], doubled, "EmptyFilter=tell", "Duplicates=drop")
    assert findings["train", "EmptyFilter"].remedy == "--clean keeps them; --check EmptyFilter=drop drops them"
    assert findings["train", "Duplicates"].remedy == "--clean drops them"
    assert findings["validation", "Duplicates"].remedy == (
        "this set is not cleaned: nmt doctor with its files and --clean OUT writes it without them"
    )


def test_ways_to_be_bad_are_many():
    assert len(BROKEN_LINES) + len(BROKEN_CORPORA) >= 40


def test_invalid_text_is_said_with_its_line_and_ends_the_reading(tmp_path):
    (tmp_path / "x.es").write_bytes(b"uno\ndos \xff\ntres\n")
    (tmp_path / "x.en").write_text("one\ntwo\nthree\n")
    corpus = Corpus(tmp_path / "x.es", tmp_path / "x.en")
    result = examine({"corpus": corpus}, settled_checks(), languages=("", ""), count=int)["corpus"]
    (finding,) = [each for each in result.findings if each.severity == "fatal"]
    assert "x.es, line 2: must be valid UTF-8" in finding.sentence


def test_a_place_counts_within_its_own_file(tmp_path, clean):
    paths = []
    for number, pairs in enumerate((clean[0][:40], [*clean[0][40:50], ("x y", "")])):
        paths.append(tmp_path / f"{number}.tsv")
        paths[-1].write_text("a\tb\n" + "".join(f"{s}\t{t}\n" for s, t in pairs))
    corpus = Corpus(paths, paths, layout=Layout(columns=("a", "b")))
    result = examine({"corpus": corpus}, settled_checks(), languages=("", ""), count=int)["corpus"]
    (finding,) = [each for each in result.findings if each.check == "EmptyFilter"]
    assert (finding.examples[0].file, finding.examples[0].line) == (str(paths[1]), 12)


def test_tokens_are_counted_and_what_they_lose_is_said(found, clean):
    result = found(*clean)[1]["train"]
    words = {word for _, pair in result.sample for line in pair for word in line.split()} - {"the", "The"}
    vocabulary = Vocabulary([*SPECIAL_TOKENS, *sorted(words)])
    tokenizer = WhitespaceTokenizer(vocabulary, normalization="nfc")
    findings = {
        each.check: each for each in token_findings(result, TextPair(tokenizer, tokenizer, joint=True), max_length=14)
    }
    targets = [pair[1].split() for _, pair in result.sample]
    lengths = [max(len(pair[0].split()), len(pair[1].split())) for _, pair in result.sample]
    assert findings["TooManyTokens"].count == sum(length > 14 for length in lengths)
    unknown = sum(word in ("the", "The") for line in targets for word in line) / sum(map(len, targets))
    assert findings["UnknownTokens"].sentence.startswith(f"{unknown:.2%} of the tokens of the target are unknown")
    assert f"target {sum(map(len, targets)) / PAIRS:.1f} (" in findings["Tokens"].sentence


def test_words_that_do_not_translate_each_other_are_found(found, clean):
    pairs = travel("train", 1500)
    bad = list(range(0, 1500, 30))
    targets = [pairs[row][1] for row in bad]
    for row, target in zip(bad, [*targets[1:], targets[0]], strict=True):
        pairs[row] = (pairs[row][0], target)
    findings, results = found(pairs, clean[1], "WordAlignFilter=0.3")
    dropped = np.flatnonzero(results["train"].reasons).tolist()
    assert len({*dropped} & {*bad}) > 0.8 * len(bad)
    assert len({*dropped} - {*bad}) < 0.05 * len(pairs)
    assert findings["train", "WordAlignFilter"].count == len(dropped)


def test_languages_are_known_by_a_model_that_ships_in_its_package(found, clean):
    pytest.importorskip("py3langid")
    pairs = list(clean[0])
    for row in ROWS:
        pairs[row] = ("Wir haben gestern in einem kleinen Hotel am Bahnhof übernachtet.", pairs[row][1])
    findings, results = found(pairs, clean[1], "LanguageIDFilter=drop")
    assert {*ROWS} <= {*np.flatnonzero(results["train"].reasons).tolist()}
    assert findings["train", "LanguageIDFilter"].count <= len(ROWS) + 0.01 * PAIRS


@pytest.mark.parametrize(
    ("languages", "words"), [(("", ""), "are not known: give --languages"), (("spa", "eng"), "no spa and no eng")]
)
def test_languages_that_nobody_can_know_drop_nothing_without_a_word(languages, words, caplog):
    pytest.importorskip("py3langid")
    with pytest.raises(ConfigError, match=f"LanguageIDFilter: .*{words}"):
        examine({}, settled_checks(["LanguageIDFilter=drop"]), languages=languages, count=int)
    with caplog.at_level(logging.INFO):
        examine({}, settled_checks(), languages=languages, count=int)
    assert words in caplog.text


def test_of_near_pairs_one_that_nothing_else_drops_stays(found, clean):
    row = 7
    pairs = list(clean[0])
    wrong, right = (tuple(f"{text} {number}" for text, number in zip(pairs[row], numbers, strict=True))
                    for numbers in ((345, 112), (12, 12)))  # fmt: skip
    pairs[row : row + 1] = [wrong, right, right]
    _, results = found(pairs, clean[1], "NearDuplicates=drop", "Duplicates=drop")
    result = results["train"]
    reasons = [result.names[reason - 1] if reason else "" for reason in result.reasons[row : row + 3]]
    assert reasons == ["NonZeroNumeralsFilter", "", "Duplicates"]


@pytest.mark.parametrize("turned", [False, True])
def test_the_usual_ratio_is_that_of_all_pairs(found, clean, turned):
    """A corpus that begins with a block of another kind is judged by its own ratio all the same."""
    good = [(source, target[: len(target) // 4]) for source, target in travel("train", 5000)]
    other = [(f"{source} {source}",) * 2 for source, _ in good[:2048]]
    pairs = good + other if turned else other + good
    result = found(pairs, clean[1], "LengthRatioFilter=3", "SimilarityFilter=off")[1]["train"]
    dropped = result.names.index("LengthRatioFilter") + 1
    rows = np.flatnonzero(result.reasons == dropped)
    assert result.ratio == pytest.approx(0.25, abs=0.05)
    assert len(rows) > 1500
    assert all((row >= len(good)) == turned for row in rows)


def test_what_can_be_read_is_looked_at_up_to_the_line(tmp_path):
    (tmp_path / "x.tsv").write_text("hola amigo\thello friend\n" * 1500 + "broken\n", encoding="utf-8")
    corpus = Corpus(tmp_path / "x.tsv", tmp_path / "x.tsv")
    result = examine({"corpus": corpus}, settled_checks(), languages=("", ""), count=int)["corpus"]
    assert (result.pairs, len(result.reasons)) == (1500, 1500)
    assert any("x.tsv, line 1501" in each.sentence for each in result.findings)


def test_a_corpus_that_cannot_be_aligned_still_has_a_report(tmp_path):
    (tmp_path / "x.tsv").write_text("\tx\ny\t\n", encoding="utf-8")
    corpus, checks = Corpus(tmp_path / "x.tsv", tmp_path / "x.tsv"), settled_checks(["WordAlignFilter=drop"])
    result = examine({"corpus": corpus}, checks, languages=("", ""), count=int)["corpus"]
    assert {each.check for each in result.findings} >= {"EmptyFilter", "WordAlignFilter"}


def test_a_pair_of_an_archive_is_told_by_its_number(tmp_path):
    with zipfile.ZipFile(tmp_path / "o.zip", "w") as archive:
        for name, lines in {"a.es": "uno\ndos\n", "a.en": "one\ntwo\n", "b.es": "\n", "b.en": "x\n"}.items():
            archive.writestr(name, lines)
        archive.writestr("__MACOSX/._a.es", "junk\n")
        archive.writestr("__MACOSX/._a.en", "junk\n")
    corpus = Corpus(tmp_path / "o.zip", tmp_path / "o.zip", layout=Layout(languages=("es", "en")))
    result = examine({"corpus": corpus}, settled_checks(), languages=("es", "en"), count=int)["corpus"]
    (finding,) = [each for each in result.findings if each.check == "EmptyFilter"]
    assert result.pairs == 3
    assert finding.examples[0].place == f"{tmp_path}/o.zip, pair 3"


# The verb


class Page(HTMLParser):
    """Tags that are left open, and what a page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.bars = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        self.bars += tag == "rect"
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.bars += tag == "rect"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def bad(tmp_path, clean, monkeypatch):
    """A corpus in which a few pairs are bad, in the working directory."""
    monkeypatch.chdir(tmp_path)
    pairs = list(clean[0])
    pairs[3], pairs[9], pairs[11] = ("", pairs[3][1]), ("<b>Uno</b> y dos", "<b>One</b> &amp; two"), pairs[10]
    for side, code in enumerate(("es", "en")):
        Path(f"bad.{code}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    return pairs


def test_a_corpus_is_cleaned_and_each_pair_accounted_for(bad, capsys):
    arguments = [
        "doctor",
        "bad.{es,en}",
        "--clean",
        "good.tsv.gz",
        "--check",
        "Duplicates=drop",
        "--json",
        "--html",
        "x.html",
    ]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "700 pairs read, 697 kept, 3 dropped: " in told.err
    left = [pair for row, pair in enumerate(bad) if row not in (3, 9, 11)]
    assert gzip.decompress(Path("good.tsv.gz").read_bytes()).decode() == "".join(f"{s}\t{t}\n" for s, t in left)
    reasons = [line.split("\t") for line in Path("good.tsv.gz.dropped.tsv").read_text().splitlines()]
    assert reasons == [
        ["bad.es", "4", "EmptyFilter"], ["bad.es", "10", "HtmlTagFilter"], ["bad.es", "12", "Duplicates"]
    ]  # fmt: skip
    content = json.loads(told.out)
    assert content["corpora"]["corpus"]["dropped"] == {"EmptyFilter": 1, "HtmlTagFilter": 1, "Duplicates": 1}
    assert sum(content["corpora"]["corpus"]["source_words"]) == PAIRS
    page = Page()
    page.feed(Path("x.html").read_text(encoding="utf-8"))
    page.close()
    assert page.open == []
    assert page.loads == []
    assert page.bars > 20
    text = Path("x.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;Uno&lt;/b&gt;" in text
    assert "<b>Uno" not in text


def test_scores_of_models_choose_too(bad, capsys):
    generator = np.random.default_rng(3)
    forward, reverse = generator.uniform(-40, -1, (2, PAIRS))
    tokens = generator.integers(3, 9, PAIRS)
    for name, log_probs in (("f.tsv", forward), ("r.tsv", reverse)):
        Path(name).write_text(
            "".join(
                f"{n}\t1\t0\t{x!r}\t{k}\ttext\n"
                for n, (x, k) in enumerate(zip(log_probs.tolist(), tokens, strict=True))
            )
        )
    assert main(["doctor", "bad.{es,en}", "--clean", "good.{es,en}", "--dual", "f.tsv", "r.tsv", "--keep", "0.5"]) == 0
    capsys.readouterr()

    def badness(row):
        one, other = -forward[row] / tokens[row], -reverse[row] / tokens[row]
        return abs(one - other) + (one + other) / 2

    best = sorted((row for row in range(PAIRS) if row not in (3, 9)), key=badness)[:349]
    assert Path("good.es").read_text().splitlines() == [bad[row][0] for row in sorted(best)]
    Path("f.tsv").write_text("1\t1\t0\t-3\t4\tx\n")
    assert main(["doctor", "bad.{es,en}", "--clean", "good.{es,en}", "--dual", "f.tsv", "r.tsv"]) == 1
    assert "f.tsv: must have a score for each of the 700 pairs, got 1 lines" in capsys.readouterr().err


def test_the_exit_status_says_whether_a_training_would_be_wasted(bad, capsys):
    Path("bad.en").write_text("one line\n")
    assert main(["doctor", "bad.{es,en}"]) == 1
    assert "fatal: Unreadable: both sides of a corpus must have the same number of lines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "LengthFilte=3"], "--check takes one of EmptyFilter, .*, got LengthFilte"),
        (["--check", "src_trg_ratio=x"], "--check LengthRatioFilter takes drop, tell or off, or a number of times"),
        (["--check", "LengthFilter=-3"], "--check LengthFilter takes .*, or a number of words .*, got -3"),
        (["--check", "HtmlTagFilter=3"], "--check HtmlTagFilter takes drop, tell or off, got 3"),
        (["--clean", "bad.{es,en}"], "the output must be another file than the input, got bad.es for both"),
        (["--clean", "none/good.{es,en}"], "--clean none/good.{es,en}: there is no folder none"),
        (["--clean", "good.txt"], "the output must end in .tsv"),
        (["--dual", "a", "b"], "--dual and --domain decide what --clean OUT writes"),
        (["--keep", "0.5", "--clean", "good.{es,en}"], "--keep takes the pairs with the best scores"),
        (["--clean", "good.{es,es}"], "good.{es,es}: source and target must be two files, got good.es for both"),
        (["--measure"], "--measure trains by a config, and files were given"),
        (["--set", "seed=3"], "--set changes a config, and files were given"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(bad, capsys, arguments, message):
    assert main(["doctor", "bad.{es,en}", *arguments]) in (1, 2)
    assert re.search(message, capsys.readouterr().err)


def test_a_run_is_looked_at_by_its_config(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 1
    assert f"{tmp_path} is a directory: give {tmp_path}/config.yaml" in " ".join(capsys.readouterr().err.split())
