"""`nmt align-corpus`, from two files to links, with the travel corpus as the judge."""

import gzip
from pathlib import Path

import pytest

from nmt.alignment.links import alignment_error_rate, parse_links
from nmt.data.lines import read_lines

ROOT = Path(__file__).parents[2]
TRAVEL = ROOT / "examples" / "travel"


@pytest.fixture
def write(tmp_path):
    """A function that writes the two sides of a corpus, and returns their paths."""

    def write_sides(source, target):
        paths = tmp_path / "a.es", tmp_path / "a.en"
        for path, text in zip(paths, (source, target), strict=True):
            path.write_text(text, encoding="utf-8")
        return paths

    return write_sides


def test_travel_is_aligned_as_its_rules_say(run_nmt, tmp_path):
    texts = [TRAVEL / "test.es.gz", TRAVEL / "test.en.gz"]
    links, lexicon = tmp_path / "links.gz", tmp_path / "lexicon.tsv"
    outcome = run_nmt(
        "align-corpus", *texts, "--tokenize", "--tokens", tmp_path / "cut", "-o", links, "--lexical", lexicon,
        "--iterations", 3,
    )  # fmt: skip
    assert (outcome.code, outcome.out) == (0, "")
    gold = map(parse_links, read_lines(TRAVEL / "test.links.gz"))
    found = [parse_links(line) for line in gzip.decompress(links.read_bytes()).decode().split("\n")[:-1]]
    rate = alignment_error_rate(zip((links.sure for links in found), gold, strict=True))
    assert rate.aer < 0.08  # 0.05 as measured
    assert "source to target, HMM, iteration 6: perplexity" in outcome.err
    summary = outcome.err.split("\n")[-2]
    count = sum(len(links.sure) for links in found)
    words = sum(len(line.split()) for line in read_lines(tmp_path / "cut.target"))
    assert summary.startswith(f"1,000 pairs: {count / words:.2f} links a target word, ")
    translations = {tuple(line.split("\t")[:2]): line.split("\t")[2:] for line in lexicon.read_text().splitlines()}
    assert all(float(probability) > 0.5 for probability in translations["habitación", "room"])
    assert next(read_lines(tmp_path / "cut.source")).startswith("Buenas noches , me marcho")


def test_lines_that_cannot_be_aligned_are_empty_and_said(run_nmt, write):
    paths = write("uno dos\n\nuno\ntres dos uno cuatro\n", "one two\none\n \nthree\n")
    outcome = run_nmt("align-corpus", *paths, "--max-length", 3, "--model", "ibm1", "--iterations", 2)
    assert outcome.code == 0
    assert len(outcome.lines) == 4
    assert outcome.lines[0]
    assert outcome.lines[1:] == ["", "", ""]
    assert "4 pairs (2 with an empty side, 1 longer than 3 words: without links): " in outcome.err
    assert "HMM" not in outcome.err


def test_raw_text_is_noticed(run_nmt, write):
    paths = write("Uno dos.\n¿Tres?\n", "One two.\nThree?\n")
    warning = "nmt: warning: punctuation is not separated from words in this text"
    assert warning in run_nmt("align-corpus", *paths).err
    assert warning not in run_nmt("align-corpus", *paths, "--tokenize").err
    assert warning not in run_nmt("align-corpus", *write("uno dos .\n", "one two .\n")).err


@pytest.mark.parametrize(
    ("source", "target", "arguments", "code", "message"),
    [
        ("uno\ndos\n", "one\n", (), 1, "must have the same number of lines, got 2 lines in"),
        ("\n\n", "one\ntwo\n", (), 1, "a pair of lines with words on both sides, got 2 with an empty side"),
        ("uno\n", "one\n", ("--tokens", "cut"), 2, "give --tokenize too"),
        ("uno\n", "one\n", ("--symmetrization", "grow"), 2, "grow-diag-final-and"),
    ],
)
def test_what_is_refused(run_nmt, write, tmp_path, source, target, arguments, code, message):
    output = tmp_path / "links"
    outcome = run_nmt("align-corpus", *write(source, target), "-o", output, *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err.split("\n")[-2]
    assert not output.exists()


def test_gold_of_multi30k_is_sound():
    """Which is measured with in benchmarks/alignment.py, from text that is not here."""
    rows = [line.split("\t") for line in read_lines(ROOT / "benchmarks" / "data" / "multi30k_alignment.de-en.tsv")]
    assert [int(number) for number, _ in rows] == list(range(10, 1001, 10))
    gold = [parse_links(links, number) for number, links in rows]
    assert all(len(links.sure) > 0.5 * len(links.possible) for links in gold)
    assert all(
        links.split() == sorted(set(links.split()), key=lambda link: [*map(int, link.replace("p", "-").split("-"))])
        for _, links in rows
    )
