"""`nmt convert`, `nmt split` and `nmt vary` through the command line, from and to any format."""

import gzip
import os
import re
import threading
import unicodedata
import zipfile
from itertools import combinations, pairwise

import pytest

from nmt.corpora.convert import Output
from nmt.corpora.split import near_hash
from nmt.data.corpus import Corpus, Layout

PAIRS = [
    ("Où est-ce ?", "Where?"),
    ("", "empty"),
    ("a\u2028b <b> & \u00a0c", 'x "y"'),
    ("trois", "three"),
    ("z", "\x02"),
]
LAYOUT = Layout(languages=("fr", "en"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for side, name in enumerate(("c.fr", "c.en")):
        (tmp_path / name).write_text("".join(f"{pair[side]}\n" for pair in PAIRS), encoding="utf-8", newline="")
    return tmp_path


def read(*paths):
    return list(Corpus(paths[0], paths[-1], layout=LAYOUT).pairs())


def test_any_format_becomes_any_other(run_nmt, here):
    written = ["c.{fr,en}", "c.tsv.gz", "c.jsonl.xz", "c.tmx.bz2", "c.zip", "last.{fr,en}.gz"]
    kept, count = PAIRS, len(PAIRS)
    for before, after in pairwise(written):
        done = run_nmt("convert", before, after, "--languages", "fr,en")
        lost = after == "c.tmx.bz2"
        kept = kept[:-1] if lost else kept
        reason = ": 1 with a character that no XML can hold" if lost else ""
        assert (done.code, done.out) == (0, ""), done.err
        assert done.err == f"{count:,} pairs read, {len(kept):,} kept, {count - len(kept):,} dropped{reason}\n"
        count = len(kept)
    assert read("last.fr.gz", "last.en.gz") == PAIRS[:-1]
    assert read("c.tsv.gz") == read("c.jsonl.xz") == PAIRS
    assert zipfile.ZipFile("c.zip").namelist() == ["c.fr", "c.en"]
    assert run_nmt("convert", "c.fr", "c.en", "-", "--to", "tsv").out == "".join(f"{s}\t{t}\n" for s, t in PAIRS)


def test_what_a_format_cannot_hold_is_counted(run_nmt, here):
    (here / "m.tmx").write_text(
        '<tmx><body><tu><tuv xml:lang="fr"><seg>a</seg></tuv></tu><tu><tuv xml:lang="fr-CA"><seg>b</seg></tuv>'
        '<tuv xml:lang="en"><seg>B</seg></tuv></tu></body></tmx>'
    )
    done = run_nmt("convert", "m.tmx", "m.{fr,en}")
    assert done.err == "2 pairs read, 1 kept, 1 dropped: 1 without fr or en\n"
    assert read("m.fr", "m.en") == [("b", "B")]
    (here / "t.jsonl").write_text('{"source": "a\\tb", "target": "c"}\n')
    assert run_nmt("convert", "t.jsonl", "t.tsv").err.endswith("; 1 lines had tabs, which are spaces now\n")


def test_pipes_and_standard_input_are_read_as_they_come(run_nmt, here):
    run_nmt("convert", "c.{fr,en}", "c.zip")
    for pipe, inputs in (("p.zip", ["p.zip"]), ("p.fr", ["p.fr", "c.en"])):
        os.mkfifo(pipe)
        content = (here / pipe.replace("p.", "c.")).read_bytes()
        writer = threading.Thread(target=(here / pipe).write_bytes, args=[content])
        writer.start()
        done = run_nmt("convert", *inputs, "o.tsv", "--languages", "fr,en")
        writer.join()
        assert ("can be read only once: copying it to" in done.err) == (pipe == "p.zip")
        assert read("o.tsv") == PAIRS
    run_nmt("convert", "o.tsv", "c.jsonl")
    with open("c.jsonl") as file:
        kept = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            assert run_nmt("convert", "-", "-", "--from", "jsonl", "--to", "tsv").lines[0] == "\t".join(PAIRS[0])
        finally:
            os.dup2(kept, 0)
            os.close(kept)


def test_what_is_more_than_both_sides_is_said_not_to_be_written(run_nmt, here):
    said = "; not written, since there is more than both sides: "
    (here / "g.tsv").write_text("id\tfr\ten\tquality\n1\ta b\tc d\t0.5\n")
    done = run_nmt("convert", "g.tsv", "o.jsonl", "--source-column", "fr", "--target-column", "en")
    assert done.err == f"1 pair read, 1 kept, 0 dropped{said}id, quality\n"
    (here / "h.tsv").write_text("a b\tc d\t0.5\n" * 30)
    assert run_nmt("convert", "h.tsv", "o.tsv").err.endswith(f"{said}column 3\n")
    (here / "h.jsonl").write_text('{"source": "a", "target": "b", "meta": {"score": 1}}\n')
    assert run_nmt("convert", "h.jsonl", "o.tsv").err.endswith(f"{said}meta\n")
    done = run_nmt("doctor", "h.tsv", "--clean", "k.tsv", "--languages", "fr,en")
    assert f"30 kept, 0 dropped{said}column 3" in done.err


def test_an_archive_is_written_where_whole_blocks_are_dropped(run_nmt, here):
    (here / "b.tsv").write_text("\tonly\n" * 2048 + "hola amigo\thello friend\n")
    assert run_nmt("doctor", "b.tsv", "--clean", "o.zip", "--languages", "es,en").code == 1  # most of it is wrong
    archive = zipfile.ZipFile("o.zip")
    assert [archive.read(f"o.{code}").decode() for code in ("es", "en")] == ["hola amigo\n", "hello friend\n"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["c.fr", "c.en"], "a file of lines has another one for the other side|the output must end in .tsv, .jsonl"),
        (["c.fr", "o.tsv"], "a file of lines has another one for the other side, got c.fr: name both, as 'corpus."),
        (["c.tsv"], "give INPUT and OUTPUT, got c.tsv alone"),
        (["c.tsv", "o.{fr,en}", "--to", "tmx"], "the output must end in .tsv, .jsonl, .tmx, .zip, or name a file of"),
        (["c.tsv", "o.txt", "--to", "csv"], "got o.txt and csv"),
        (["c.tsv", "o.tmx"], "o.tmx: the languages of source and target stand in it: give them, as --languages es,en"),
        (["c.tsv", "o.tmx", "--languages", "fr"], "--languages takes those of source and target, as in es,en, got fr"),
        (["c.tsv", "-", "--to", "zip", "--languages", "fr,en"], "a zip archive needs a file, got standard output"),
        (["c.tsv", "o.tmx", "--languages", "fr,fr"], "o.tmx: tmx tells the sides by their languages, got fr for both"),
        (["c.tsv", "o.{fr,fr}"], "o.{fr,fr}: source and target must be two files, got o.fr for both"),
        (["c.tsv", "./c.tsv"], "the output must be another file than the input, got c.tsv for both"),
        (
            ["c.fr", "c.en", "o.{en,fr}"],
            "o.{en,fr}: c.fr would be written as en: write {fr,en}, or --languages fr,en; to",
        ),
        (["c.{fr,en}", "o.tmx", "--languages", "en,fr"], "o.tmx: c.fr would be written as en: write {fr,en}, or"),
        (["c.{fr,de}", "o.tsv"], "c.de: cannot be read: No such file"),
        (["c.tsv", "none/o.zip", "--languages", "fr,en"], "none/o.zip: cannot be written: No such file or directory"),
        (["n*.tsv", "o.tsv"], r"n\*.tsv: cannot be read: No such file"),
        (["c.{fr,en}", "o.{en,fr}"], "o.{en,fr} must have the source first, got en where pairs go from fr into en: wr"),
        (["c.{fr,en}", "o.tsv", "--target-column", "2"], "hold one each: cut the columns out first"),
        (["c.tsv", "o.jsonl", "--source-column", "7"], "c.tsv, line 1: must have at least 7 columns between tabs"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(run_nmt, here, arguments, message):
    (here / "c.tsv").write_text("a\tb\n")
    done = run_nmt("convert", *arguments)
    assert done.code in (1, 2)
    assert done.err.startswith("nmt: error: ")
    assert done.err.count("\n") == 1
    assert re.search(message, done.err), done.err
    assert not list(here.glob("o.*"))
    assert (here / "c.tsv").read_text() == "a\tb\n"


def plainly_near(text):
    """The same lines as `near_hash` tells apart, by another way; for Latin text."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if character.isalpha())


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Él  llegó, a las 10.", "el llego a las 11", True),
        ("Straße", "STRASSE!", True),
        ("ﬁn", "fin", True),
        ("कि", "कु", False),
        ("が", "か", False),
        ("a", "b", False),
    ],
)
def test_near_lines(one, other, near):
    assert (near_hash(one) == near_hash(other)) is near
    assert near_hash(" 12 - 3…") is None


def test_a_split_has_no_leaks_and_loses_nothing(run_nmt, here):
    pairs = [
        (f"mot {chr(97 + n % 23)}{chr(97 + n // 23 % 26)}, {n}", f"word {chr(97 + n % 19)}{'x' * (n // 40)}")
        for n in range(900)
    ]
    pairs += [("", "x"), ("y", "\0"), ("12", "12")]
    (here / "all.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in pairs))
    (here / "out").mkdir()
    sizes = ("--validation", 40, "--test", 30)
    done = run_nmt("split", "all.tsv", "out/c.{fr,en}.gz", *sizes)
    assert done.code == 0, done.err
    parts = {name: read(f"out/c.{name}.fr.gz", f"out/c.{name}.en.gz") for name in ("train", "validation", "test")}
    assert [len(parts[name]) for name in ("validation", "test")] == [40, 30]
    near = 901 - sum(map(len, parts.values()))
    assert done.err == (
        f"903 pairs read, {len(parts['train'])} to train, 40 to validation, 30 to test, {near + 2} dropped: "
        f"{near} near a line of validation or test, 1 with an empty side, 1 with a NUL character\n"
    )
    assert near > 0
    for side in (0, 1):
        found = ({plainly_near(pair[side]) for pair in part} for part in parts.values())
        assert not any(one & other for one, other in combinations(found, 2))
    assert [*filter(set(parts["train"]).__contains__, pairs)] == parts["train"]  # in order
    assert ("12", "12") in parts["train"]

    again = {}
    for seed in (42, 43):
        run_nmt("split", "all.tsv", f"out/{seed}.jsonl", *sizes, "--seed", seed)
        again[seed] = read(f"out/{seed}.test.jsonl")
    assert again[42] == parts["test"] != again[43]
    assert "take fewer" in run_nmt("split", "all.tsv", "out/d.tsv", "--validation", 899, "--test", 0).err
    told = run_nmt("split", "all.tsv", "out/d.tsv", "--validation", 9).err
    assert "for validation (9) and test (2,000), as --validation and --test say or by default" in " ".join(told.split())
    assert not list((here / "out").glob("d.*"))
    assert "got 0 for both" in run_nmt("split", "all.tsv", "d.tsv", "--validation", 0, "--test", 0).err


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("a/c.{fr,en}.gz", "a/c.test.{fr,en}.gz"),
        ("{fr,en}", "test.{fr,en}"),
        ("a/news-{fr,en}.txt", "a/news-test-{fr,en}.txt"),
        ("a.b/c.TSV.gz", "a.b/c.test.TSV.gz"),
        ("c.tmx", "c.test.tmx"),
    ],
)
def test_names_of_parts(name, part):
    assert Output.parse(name, kind=None, languages=("fr", "en")).named_after("test").name == part


def test_a_copy_of_source_lines_is_varied_line_by_line(run_nmt, here):
    before = (here / "c.fr").read_text(encoding="utf-8").split("\n")
    done = run_nmt("vary", "c.fr", "-o", "copy.fr.gz", "--with", "upper_case")
    assert (done.code, done.err) == (0, "5 lines written, 4 changed\n")
    with gzip.open(here / "copy.fr.gz", "rt", encoding="utf-8", newline="") as file:
        assert file.read().split("\n") == [line.upper() for line in before]


def test_the_ending_of_a_file_says_what_keyboard_it_was_typed_on(run_nmt, here):
    (here / "t.fr").write_text("qqqqqqqqqqqqqqqqqqqq\n" * 99)
    (here / "t.txt").write_bytes((here / "t.fr").read_bytes())
    for name, letters in (("t.fr", "azsw"), ("t.txt", "wa")):  # beside, above and below q
        assert run_nmt("vary", name, "-o", "o", "--with", "typos").code == 0
        assert {*(here / "o").read_text()} - {"q", "\n"} == {*letters}


def test_a_copy_of_a_corpus_is_varied_on_both_sides_and_the_same_for_the_same_seed(run_nmt, here):
    words = ["vary", "c.{fr,en}", "--with", "upper_case:0.5", "--with", "final_punctuation"]
    for name, seed in (("one.tsv", "1"), ("two.tsv", "1"), ("three.tsv", "3")):
        run_nmt(*words, "-o", name, "--seed", seed)
    one, two, three = ((here / f"{name}.tsv").read_bytes() for name in ("one", "two", "three"))
    assert one == two != three
    for pair in read(here / "one.tsv"):
        assert pair[0].isupper() == pair[1].isupper() or not all(pair)
    assert read(here / "one.tsv")[0][0].lower() == "où est-ce"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["c.fr", "-o", "x", "--with", "merge:0.5"], "--with merge needs both sides, got one"),
        (["c.fr", "-o", "x", "--with", "typo"], ": did you mean typos"),
        (["c.fr", "-o", "c.fr", "--with", "typos"], "the output must be another file than the input, got c.fr"),
        (["missing.fr", "-o", "x", "--with", "typos"], "missing.fr"),
    ],
)
def test_what_cannot_be_varied_is_refused(run_nmt, here, words, message):
    done = run_nmt("vary", *words)
    assert done.code == 1
    assert message in done.err
    assert not (here / "x").exists()
