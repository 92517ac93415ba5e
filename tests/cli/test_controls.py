"""What is asked of translations on the command line: phrases, beginnings, draws, the choice among several."""

import json

import pytest

pytestmark = [pytest.mark.usefixtures("eagerly"), pytest.mark.slow]

LINES = b"uno dos\n\ntres cuatro\nsiete\n"


def test_phrases_appear_or_do_not(run_nmt, trained_run):
    asked = run_nmt("translate", trained_run.directory, "--require", "seven", "--require", "nine | two", stdin=LINES)
    assert asked.code == 0, asked.err
    assert asked.lines[1] == ""
    for line in (asked.lines[0], *asked.lines[2:]):
        assert "seven" in line.split()
        assert {"nine", "two"} & {*line.split()}
    written = sorted({*run_nmt("translate", trained_run.directory, stdin=LINES).out.split()})[:3]
    bans = [part for word in written for part in ("--avoid", word)]
    avoided = run_nmt("translate", trained_run.directory, *bans, stdin=LINES)
    assert avoided.code == 0, avoided.err
    assert not {*written} & {*avoided.out.split()}


def test_a_beginning_is_given(run_nmt, trained_run):
    begun = run_nmt("translate", trained_run.directory, "--prefix", "nine t", stdin=LINES)
    assert all(line.startswith("nine t") for line in begun.lines if line)


def test_records_ask_for_themselves_and_are_handed_through(run_nmt, trained_run):
    records = [
        {"source": "uno dos", "constraints": ["seven"], "id": 4},
        {"source": "uno dos", "avoid": ["one"], "prefix": "nine "},
        {"source": "uno dos", "meta": {"x": [1]}, "line": 70, "translations": [], "flags": ["unsatisfied"]},
        {"source": "uno dos", "constraints": ["NIN"], "part_words": True, "ignore_case": True},
    ]
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    done = run_nmt("translate", trained_run.directory, "--input-format", "jsonl", "--format", "jsonl", stdin=text)
    assert done.code == 0, done.err
    first, second, third, fourth = map(json.loads, done.lines)
    assert "nin" in fourth["translations"][0]["text"]
    assert "seven" in first["translations"][0]["text"].split()
    assert (first["id"], third["meta"]) == (4, {"x": [1]})
    assert second["translations"][0]["text"].startswith("nine")
    assert "one" not in second["translations"][0]["text"].split()
    plain = run_nmt("translate", trained_run.directory, stdin=b"uno dos\n")
    assert third["translations"][0]["text"] == plain.lines[0]
    assert third["line"] == 3
    assert "flags" not in third, "those of an earlier translation"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("uno dos", "line 1 is no JSON"),
        ('{"source": "uno", "rate": NaN}', "line 1 is no JSON: NaN is no number of JSON"),
        ("[" * 100_000, "line 1 is no JSON: "),
        ("[1]", 'line 1 must be an object with a text "source"'),
        ('{"source": "uno", "constraints": "seven"}', 'line 1: "constraints" must be a list of texts'),
        (
            '{"source": "uno", "require": ["one"]}',
            'are called "constraints" in a record, got "require"',
        ),
        ('{"source": "uno", "avoid": [1]}', 'line 1: "avoid" must be a list of texts'),
        ('{"source": "uno", "part_words": 1}', 'line 1: "part_words" must be true or false'),
        ('{"source": "uno", "id": "\\ud83d"}', "line 1 must be text, got one half of a surrogate pair"),
        (
            '{"source": "\\ud83d\\ude00"}\n{"source": "uno", "hints": {"uno": "one"}}',
            "line 2: hints need a model",
        ),
        ('{"source": "uno", "prefix": []}', 'line 1: "prefix" must be a text'),
    ],
)
def test_records_that_are_none_are_named(run_nmt, trained_run, line, message):
    refused = run_nmt("translate", trained_run.directory, "--input-format", "jsonl", stdin=f"{line}\n".encode())
    assert refused.code == 1
    assert message in refused.err


def test_a_record_that_asks_for_phrases_of_a_draw_is_named(run_nmt, trained_run):
    records = b'{"source": "uno"}\n{"source": "uno", "constraints": ["one"]}\n'
    refused = run_nmt("translate", trained_run.directory, "--input-format", "jsonl", "--samples", 2, stdin=records)
    assert refused.code == 1
    assert "line 2: phrases that must appear need a beam search" in refused.err


def test_lines_that_ask_for_what_cannot_be_stay_empty_and_are_named(run_nmt, trained_run):
    records = [
        {"source": "uno dos"},
        {"source": "uno dos", "constraints": ["one two"], "avoid": ["two"]},
        {"source": "uno dos", "constraints": ["dragón"]},
        {"source": ""},
    ]
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    done = run_nmt("translate", trained_run.directory, "--input-format", "jsonl", stdin=text)
    assert done.code == 0, done.err
    assert [bool(line) for line in done.lines] == [True, False, False, False]
    assert "2 lines are left untranslated, as nothing can be as asked: line 2: 'one two' must appear" in done.err
    assert "; line 3: 'dragón' cannot be spelled by the tokens of the model" in done.err


def test_phrases_may_be_parts_of_words_in_any_case(run_nmt, trained_run):
    plain = run_nmt("translate", trained_run.directory, stdin=LINES).out
    part = plain.split()[0][:2]
    banned = run_nmt(
        "translate", trained_run.directory, "--avoid", part.upper(), "--part-words", "--ignore-case", stdin=LINES
    )
    assert banned.code == 0, banned.err
    assert part in plain
    assert part not in banned.out


def test_draws_depend_on_seed_and_line_alone(run_nmt, trained_run):
    def drawn(*arguments, lines=LINES):
        done = run_nmt("translate", trained_run.directory, "--samples", 3, "--temperature", 2, *arguments, stdin=lines)
        assert done.code == 0, done.err
        assert len(done.lines) == 3 * lines.count(b"\n")
        return done.lines

    first = drawn()
    assert drawn("--batch-size", 1) == first
    assert drawn(lines=LINES[:8]) == first[:3]
    assert len({*first[:3]}) > 1
    assert drawn("--sampling-seed", 1) != first
    assert len({*drawn("--top-k", 1)[:3]}) == 1


@pytest.mark.parametrize("utility", ["chrf", "chrf++", "bleu"])
def test_one_of_several_is_chosen(run_nmt, trained_run, utility):
    drawn = ("--samples", 8, "--temperature", 2)
    all_of_them = run_nmt("translate", trained_run.directory, *drawn, stdin=b"uno dos\n").lines
    (chosen,) = run_nmt("translate", trained_run.directory, *drawn, "--mbr", utility, stdin=b"uno dos\n").lines
    assert chosen in all_of_them
    beam = run_nmt("translate", trained_run.directory, "--n-best", 3, "--beam-size", 3, "--mbr", utility, stdin=LINES)
    assert len(beam.lines) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--samples", 2, "--require", "seven"), "phrases that must appear need a beam search"),
        (("--temperature", 2), "need --samples N"),
        (("--require", "dragón"), "'dragón' cannot be spelled by the tokens of the model"),
        (("--prefix", "Ω"), "the prefix 'Ω' cannot be spelled by the tokens of the model"),
        (("--avoid", " "), "a phrase must have characters"),
        (
            ("--require", "one two", "--avoid", "two"),
            "'one two' must appear, but 'two', which stands in it, must not: leave out one of the two",
        ),
        (("--prefix", "one two ", "--avoid", "two"), "the prefix 'one two ' has 'two', which must not appear"),
        (("--mbr", "rouge", "--samples", 2), "rouge"),
        (("--mbr", "chrf"), "--mbr chooses among several translations a line: give --samples N or --n-best N"),
        (("--samples", 2, "--n-best", 2), "--samples draws without a search: leave out --n-best and --beam-size"),
        (("--samples", 2, "--beam-size", 3), "--samples draws without a search"),
        (("--samples", 2, "--sampling-seed", 2**64), "seed must be 0 to 2**64 - 1, got 18446744073709551616"),
        (("--avoid", "one | two"), "what must not appear has no alternatives, got 'one | two': give each by itself"),
        (("--samples", 2, "--temperature", 0), "temperature"),
        (("--samples", 2, "--top-p", 1.5), "top-p"),
    ],
)
def test_what_cannot_be_is_refused(run_nmt, trained_run, arguments, message):
    refused = run_nmt("translate", trained_run.directory, *arguments, stdin=LINES)
    assert refused.code in (1, 2)
    assert message in refused.err


def test_what_does_not_fit_is_said(run_nmt, trained_run):
    short = ("--set", "search.max_length=2", "--require", "seven", "--require", "nine")
    left = run_nmt("translate", trained_run.directory, *short, stdin=b"uno dos\n")
    assert left.lines == [""]
    assert "1 line is left untranslated: no translation that is short enough is as asked" in left.err
