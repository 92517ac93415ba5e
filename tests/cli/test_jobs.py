"""Translation from file to file: a job goes on wherever it was killed, and its shards make up the whole.

Most tests translate by an engine of their own, which needs no model, and die by an exception.
"""

import contextlib
import fcntl
import gzip
import io
import itertools
import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from nmt.control.controls import Control, Sampling
from nmt.control.glossary import Glossary
from nmt.data.lines import read_lines
from nmt.errors import DataError
from nmt.tasks.translate import PreparedTranslation, Reading, _Job
from nmt.terminal import jobs
from nmt.terminal.formats import as_jsonl, as_row, as_text
from nmt.terminal.streams import line_counter
from nmt.text import TextPair, Vocabulary, WhitespaceTokenizer
from nmt.text.vocabulary import SPECIAL_TOKENS
from nmt.translation.line_translator import LineTranslator, Translation

WORDS = ["eins", "zwei", "drei", "vier", "fünf"]
ROOT = Path(__file__).parents[2]
PARTS = ["Eins zwei. Drei vier fünf.", "Vier! Zwei eins drei vier.", "Drei."]
LONG = " ".join(PARTS)
VOCABULARY = dict.fromkeys([*WORDS, *LONG.split(), *(f"x{word}" for word in [*WORDS, *LONG.split()])])
LINES = [" ".join(WORDS[(7 * line + place) % 5] for place in range(line % 4)) for line in range(11)]


class Marking(LineTranslator):
    """Writes each word behind an x, a hypothesis a rotation; of what it draws it tells the number.

    pause: seconds that a batch takes.
    """

    engine_name = "Marking"
    pause = 0.0

    def search_batch(self, requests, *, num_hypotheses, settings, token_scores=False):
        time.sleep(self.pause)
        found = []
        for request in requests:
            words = [f"x{self.text.source.vocabulary.token(each)}" for each in request.source_ids[0][:-1]]
            if request.sampling:
                words.append(f"{request.line}-{request.sample}-{request.part}")
            turns = [" ".join([*words[turn:], *words[:turn]]) for turn in range(num_hypotheses)]
            found.append(
                [Translation(text, -n / len(words), -float(n), len(words) + 1) for n, text in enumerate(turns)]
            )
        return found


class Engines(NamedTuple):
    """Stands for `nmt.tasks.engines.Engines`: the engine above is chosen for any number of lines."""

    translator: Marking

    def depends(self, num_lines):
        return {"RUN 1": "update-7"}

    def waits_for_lines(self):
        return False

    def choose(self, num_lines):
        pass

    def open(self):
        return self.translator, []

    def keep_searches(self):
        pass


def prepared(**changes):
    """What translates with the engine above."""
    tokenizer = WhitespaceTokenizer(Vocabulary([*SPECIAL_TOKENS, *VOCABULARY]))
    asked = {
        "num_hypotheses": 1, "asked": Control(), "reading": Reading(),
        "token_scores": False, "sampling": None, "utility": None, "terms": None, "hints": None, "part_tokens": None,
        "language": "de", "alignments": False, "unknown": None, "markup": None,
        **changes,
    }  # fmt: skip
    return PreparedTranslation(_Job(**asked), Engines(Marking(TextPair(tokenizer, tokenizer, joint=True))), {})


def run(folder, name="out", *, resume=True, shard=None, writer=as_text, depends=(), lines=LINES, **changes):
    """Translates `lines`, four at once, from file to file; returns the output."""
    (folder / "in").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    part = jobs.Lines.of(folder / "in", shard=shard, chunk_lines=4)
    wanted = changes.get("num_hypotheses", 1)

    def as_lines(number, line):
        return writer(number, line, wanted)

    jobs.run_job(prepared(**changes), part, folder / name, as_lines, depends=dict(depends), resume=resume)
    return (folder / name).read_bytes()


class Killed(BaseException):
    """Nobody clears up after it."""


def kill_at(patch, number):
    """Let what changes the disk die at one of its calls: before it, in the middle of writing, or after it."""
    place, when = divmod(number, 3)
    calls = 0

    def dying(function):
        def call(*arguments, **settings):
            nonlocal calls
            calls += 1
            if calls - 1 != place:
                return function(*arguments, **settings)
            if when == 1 and function is write:
                function(arguments[0], arguments[1][:3])
            elif when == 2:
                function(*arguments, **settings)
            raise Killed

        return call

    write = os.write
    patch.setattr(jobs.os, "write", dying(write))
    patch.setattr(jobs.os, "fsync", dying(os.fsync))
    patch.setattr(jobs, "replace_file", dying(jobs.replace_file))
    patch.setattr(Path, "replace", dying(Path.replace))
    patch.setattr(jobs.ResumableFile, "stop", jobs.ResumableFile.close)


@pytest.mark.slow
def test_a_job_that_is_killed_at_any_call_goes_on_to_the_same_bytes(tmp_path, monkeypatch, caplog):
    name = "out.gz"
    (tmp_path / "terms").write_text("eins\txeins\nzwei\txzwei\n", encoding="utf-8")
    asked = {"num_hypotheses": 2, "writer": as_jsonl, "terms": Glossary.read(tmp_path / "terms")}
    caplog.set_level("INFO", "nmt")

    def said():
        return [re.sub(" in [0-9].*", "", each) for each in caplog.messages if "going on" not in each]

    (tmp_path / "whole").mkdir()
    whole, told = run(tmp_path / "whole", name, **asked), said()
    assert [message.split()[0] for message in told] == ["glossary:", "11", "flagged"], told
    for number in range(500):
        folder = tmp_path / str(number)
        folder.mkdir()
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            try:
                run(folder, name, **asked)
                break  # it has no such call any more
            except Killed:
                pass
        caplog.clear()
        assert run(folder, name, **asked) == whole
        assert said() in (told, [f"{folder / name} is finished, there is nothing left to do"])
        assert sorted(path.name for path in folder.iterdir()) == ["in", name, f"{name}.journal"]
    assert number >= 60


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("writer", [as_text, as_jsonl])
def test_shards_one_behind_the_other_are_the_whole(tmp_path, count, writer):
    asked = {"writer": writer, "sampling": Sampling(seed=4), "num_hypotheses": 2}
    whole = run(tmp_path, "whole.gz", **asked)
    parts = [run(tmp_path, f"{number}.gz", shard=f"{number}/{count}", **asked) for number in range(1, count + 1)]
    assert gzip.decompress(b"".join(parts)) == gzip.decompress(whole)
    assert gzip.decompress(parts[0]).count(b"\n") == len(LINES) // count * (1 if writer is as_jsonl else 2)


@pytest.mark.parametrize("ending", ["gz", "xz", "bz2", "zst"])
def test_a_chunk_is_a_member_of_a_compressed_file(tmp_path, ending):
    if ending == "zst":
        pytest.importorskip("zstandard")
    plain = run(tmp_path, "out").decode()
    assert plain.count("\n") == len(LINES)
    run(tmp_path, f"out.{ending}")
    assert "".join(f"{line}\n" for line in read_lines(tmp_path / f"out.{ending}")) == plain
    done = json.loads((tmp_path / f"out.{ending}.journal").read_text())
    assert done["size"] == (tmp_path / f"out.{ending}").stat().st_size
    assert run(tmp_path, f"none.{ending}", lines=[]), "an empty file is no compressed file"
    assert list(read_lines(tmp_path / f"none.{ending}")) == []


def half_done(folder, **changes):
    """A job that died after its first chunk."""
    commit = jobs.ResumableFile.commit

    def commit_once(file, *chunk):
        if file.journal.num_lines:
            raise Killed
        commit(file, *chunk)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.ResumableFile, "commit", commit_once)
        patch.setattr(jobs.ResumableFile, "stop", jobs.ResumableFile.close)
        with pytest.raises(Killed):
            run(folder, **changes)
    assert json.loads((folder / "out.journal").read_text())["done"]["lines"] == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depends": {"--format": "tsv"}}, '--resume cannot go on: --format was null and is "tsv". Give what'),
        ({"lines": [*LINES, "eins"]}, "lines of the input was 11 and is 12"),
        ({"lines": ["vier", *LINES[1:]]}, "in has changed: its lines 1 to 4 are not those that were translated"),
        ({"resume": False}, "out.partial holds 4 lines of a run that did not end: give --resume to go on, or delete"),
    ],
)
def test_a_job_goes_on_with_nothing_else(tmp_path, changes, message):
    half_done(tmp_path)
    before = (tmp_path / "out.partial").read_bytes()
    with pytest.raises(DataError, match=re.escape(message)):
        run(tmp_path, **changes)
    assert (tmp_path / "out.partial").read_bytes() == before
    assert run(tmp_path).count(b"\n") == 11
    assert not (tmp_path / "out.partial").exists()


def test_what_was_begun_without_a_chunk_does_not_count(tmp_path):
    """Else the journal would say of a later job what the first was told."""
    depends = {"depends": {"--format": "tsv"}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs.ResumableFile, "commit", lambda *_: 1 / 0)
        patch.setattr(jobs.ResumableFile, "stop", jobs.ResumableFile.close)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path, **depends)
    half_done(tmp_path)
    with pytest.raises(DataError, match=re.escape('--format was null and is "tsv"')):
        run(tmp_path, **depends)
    assert run(tmp_path).count(b"\n") == 11


def test_what_is_finished_is_not_done_again_and_may_be_replaced(tmp_path, caplog):
    first = run(tmp_path)
    caplog.set_level("INFO", "nmt")
    (tmp_path / "out").chmod(0o640)
    assert run(tmp_path) == first
    assert "is finished, there is nothing left to do" in caplog.text
    with pytest.raises(DataError, match="--format was null and is"):
        run(tmp_path, depends={"--format": "jsonl"})
    assert run(tmp_path, resume=False, lines=["vier"]) == b"xvier\n"
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    assert run(tmp_path) == first  # nobody knows how the file was made
    (tmp_path / "out").write_text("changed")
    with pytest.raises(DataError, match=r"out is not what out.journal says of it: delete .*out.journal to"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("out.partial", b"", "out.partial is there, but no journal that says what it is: move it away"),
        ("out.journal", b"my own\n", "out.journal: must be a journal that this version wrote"),
        ("out.journal", b'{"format_version": 2}', "out.journal: must be a journal that this version wrote"),
        ("out.journal", b"[]", "out.journal: must be a journal that this version wrote"),
    ],
)
def test_files_of_others_are_left_alone(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for resume in (False, True):
        with pytest.raises(DataError, match=re.escape(message)):
            run(tmp_path, resume=resume)
    assert (tmp_path / name).read_bytes() == content


def test_lost_bytes_are_noticed(tmp_path):
    half_done(tmp_path)
    os.truncate(tmp_path / "out.partial", 3)
    with pytest.raises(DataError, match=r"out.partial has less than out.journal says: delete both"):
        run(tmp_path)


def test_two_processes_do_not_write_one_file(tmp_path):
    half_done(tmp_path)
    with (tmp_path / "out.partial").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataError, match=r"another process writes .*out: wait for its end"):
            run(tmp_path)
    assert run(tmp_path).count(b"\n") == 11


def test_a_failure_keeps_whole_chunks_or_leaves_nothing(tmp_path, caplog):
    (tmp_path / "out").write_text("old")
    records = [json.dumps({"source": line}) for line in LINES]
    for place, left in ((2, ["in", "out"]), (9, ["in", "out", "out.journal", "out.partial"])):
        with pytest.raises(DataError, match=f"line {place + 1} is no JSON"):
            run(tmp_path, resume=False, reading=Reading(True), lines=[*records[:place], "}", *records[place + 1 :]])
        assert (tmp_path / "out").read_text() == "old"
        assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert "out.partial holds the first 8 lines: the same command with --resume goes on" in caplog.text
    assert run(tmp_path, reading=Reading(True), lines=records).count(b"\n") == 11  # the broken line was mended


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "there/real")
    assert run(tmp_path, resume=False) == (tmp_path / "there/real").read_bytes()
    assert (tmp_path / "out").is_symlink()


# Long lines


def translated(folder, lines, **changes):
    """The translations of lines, best first."""
    content = run(folder, resume=False, lines=lines, writer=as_jsonl, **changes)
    return [json.loads(line)["translations"] for line in content.decode().splitlines()]


def test_scores_and_tokens_of_parts_are_added_up(tmp_path):
    apart = translated(tmp_path, PARTS, num_hypotheses=4)
    short, long = translated(tmp_path, ["vier", LONG], num_hypotheses=4, part_tokens=5)
    sums = sorted((sum(each["score"] for each in parts) for parts in itertools.product(*apart)), reverse=True)
    assert [each["score"] for each in long] == pytest.approx(sums[:4])
    assert long[0]["text"] == " ".join(f"x{word}" for word in LONG.split())
    for each in long:
        assert each["num_tokens"] == 5 + 1 + 5 + 1 + 1 + 1
        assert each["flags"][0] == "split"
        assert each["log_prob"] == -round(-each["log_prob"])
    assert short == translated(tmp_path, ["vier"], num_hypotheses=4)[0]


def test_draws_of_parts_differ_and_leave_those_of_other_lines(tmp_path):
    how = {"sampling": Sampling(seed=5), "num_hypotheses": 2, "part_tokens": 1}
    found = translated(tmp_path, ["zwei", "Vier! Drei.", "vier"], **how)
    assert [[each["text"] for each in line] for line in found] == [
        ["xzwei 0-0-0", "xzwei 0-1-0"],
        ["xVier! 1-0-0 xDrei. 1-0-1", "xVier! 1-1-0 xDrei. 1-1-1"],
        ["xvier 2-0-0", "xvier 2-1-0"],
    ]


def test_only_the_first_part_begins_as_asked_and_phrases_keep_a_line_whole(tmp_path, caplog):
    caplog.set_level("INFO", "nmt")
    (tmp_path / "terms").write_text("drei\txdrei\neins\txvier\n", encoding="utf-8")
    terms = Glossary.read(tmp_path / "terms")
    ((long,),) = translated(tmp_path, [LONG], part_tokens=5, asked=Control(prefix="xEins"))
    assert long["flags"] == ["split"]
    ((long,),) = translated(tmp_path, [LONG], part_tokens=5, terms=terms)
    assert long["flags"] == ["split", "unsatisfied"]
    assert long["constraints"] == {"xdrei | Xdrei": False, "xvier | Xvier": True}
    assert "5 terms found in 1 of 1 lines: 3 placed (60.0%), 2 inflected, 0 not placed" in caplog.text
    ((whole,),) = translated(tmp_path, [LONG], part_tokens=5, asked=Control(require=("xvier",)))
    assert whole["flags"] == []


def test_rows_and_records_name_the_place_of_their_text(tmp_path):
    rows = ["7\tvier eins\t", "\tzwei\t-"]
    content = run(tmp_path, lines=rows, reading=Reading(column=2), writer=as_row)
    assert content == b"7\tvier eins\t\txvier xeins\n\tzwei\t-\txzwei\n"
    with pytest.raises(DataError, match="line 2 must have a column 3, got 2 between tabs: name another by --column"):
        run(tmp_path, lines=[rows[0], "a\tb"], reading=Reading(column=3), resume=False)
    record = {"id": 3, "source": "radio", "de": "vier"}
    content = run(tmp_path, "r", lines=[json.dumps(record)], reading=Reading(True, "de"), writer=as_jsonl)
    assert [*json.loads(content).items()][:4] == [("line", 1), *record.items()]
    with pytest.raises(DataError, match='line 1 must be an object with a text "fr"'):
        run(tmp_path, "s", lines=[json.dumps(record)], reading=Reading(True, "fr"))


# What is said meanwhile


def test_progress_has_a_rate_and_the_time_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nmt.terminal.streams.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with line_counter(total=5000, before=1000, console=console) as count:
        count(100)
        now[0] += 10.0
        count(1200)
    assert "2,300 of 5,000 lines  0:10  120.0 lines/s  0:22 left" in console.file.getvalue()


def test_without_a_terminal_it_is_logged_once_a_minute(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr("nmt.terminal.streams.time.monotonic", lambda: now[0])
    caplog.set_level("INFO", "nmt")
    with line_counter(total=900) as count:
        for _ in range(7):
            count(100)
            now[0] += 25.0
    told = ["400 of 900 lines  1:15  4.0 lines/s  2:05 left", "600 of 900 lines  2:05  4.0 lines/s  1:15 left"]
    assert caplog.messages == told


# The command


@pytest.fixture
def translate(run_nmt, trained_run):
    return lambda *arguments, **given: run_nmt("translate", trained_run.directory, *arguments, **given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resume",), "--resume needs files with --input and --output"),
        (("-i", "SOURCE", "--resume"), "--resume needs files with --input and --output"),
        (("-i", "SOURCE", "-o", os.devnull, "--resume"), "--resume needs files with --input and --output"),
        (("-o", "OUT", "--resume"), "--resume needs files with --input and --output"),
        (("--shard", "1/2"), "--shard needs a file with --input, since its lines are counted first"),
        (("-i", "SOURCE", "--shard", "0/2"), "--shard takes i/n, part i of n, counted from 1, as in 2/8, got 0/2"),
        (("-i", "SOURCE", "--shard", "3/2"), "got 3/2"),
        (("-i", "SOURCE", "--shard", "2"), "got 2"),
        (("-i", "SOURCE", "--shard", "²/3"), "got ²/3"),
        (("-i", "SOURCE", "--chunk-lines", "0"), "--chunk-lines"),
        (("--chunk-lines", "5"), "--chunk-lines needs a file with --input: a stream is translated as it comes"),
        (("--field", "line", "--input-format", "jsonl"), "--field line is a field that translations add"),
        (("--column", "2"), "--column needs --input-format tsv"),
        (("--field", "de", "--input-format", "tsv"), "--field needs --input-format jsonl"),
        (("--column", "0", "--input-format", "tsv"), "--column"),
        (("--part-tokens", "5"), "--part-tokens needs --split-long"),
        (("--split-long", "--replace-unknown"), "--split-long joins parts, so leave out --alignments and"),
    ],
)
def test_what_cannot_be_is_refused(run_nmt, tmp_path, arguments, message):
    places = {"SOURCE": tmp_path / "in", "OUT": tmp_path / "out"}
    places["SOURCE"].write_text("uno\n")
    refused = run_nmt("translate", tmp_path, *(places.get(each, each) for each in arguments))
    assert (refused.code, refused.out) == (2, "")
    assert message in refused.err


PROGRAM = """
import sys
from pathlib import Path
from tests.cli import test_jobs
test_jobs.Marking.pause = 0.02
test_jobs.run(Path(sys.argv[1]), "out.gz", lines=test_jobs.LINES * 20)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_again_and_again_goes_on(tmp_path):
    generator, kills, before = random.Random(3), 0, 0
    journal = tmp_path / "out.gz.journal"
    while True:
        with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT) as process:
            while process.poll() is None and done_lines(journal) == before:
                time.sleep(0.001)
            time.sleep(generator.uniform(0.0, 0.06))
            if kills < 4:
                process.kill()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills, before = kills + 1, done_lines(journal)
    assert kills == 4
    (tmp_path / "whole").mkdir()
    assert (tmp_path / "out.gz").read_bytes() == run(tmp_path / "whole", "out.gz", lines=LINES * 20)


@pytest.mark.slow
def test_the_command_goes_on(translate, trained_run, tmp_path, eagerly, monkeypatch):
    def asked(name):
        return ["-i", trained_run.source, "-o", tmp_path / name, "--samples", 2, "--chunk-lines", 2]

    whole = translate(*asked("whole.gz"))
    assert re.search(r"^5 lines in \d:\d\d: .* lines/s, .* target tokens/s$", whole.err, re.MULTILINE)
    shards = [translate(*asked(f"{shard}.gz"), "--shard", f"{shard}/3") for shard in (1, 2, 3)]
    assert [each.code for each in shards] == [0, 0, 0]
    parts = b"".join((tmp_path / f"{shard}.gz").read_bytes() for shard in (1, 2, 3))
    assert gzip.decompress(parts) == gzip.decompress((tmp_path / "whole.gz").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(
            "nmt.terminal.jobs.ResumableFile.finish", lambda file: (_ for _ in ()).throw(DataError("stopped"))
        )
        stopped = translate(*asked("out.gz"))
    assert "out.gz.partial holds the first 5 lines: the same command with --resume goes on" in stopped.err
    assert "5 lines of a run that did not end: give --resume to go on" in translate(*asked("out.gz")).err
    changed = translate(*asked("out.gz"), "--resume", "--checkpoint", "latest")
    assert 'RUN 1 was "update-00000010 ema' in changed.err
    assert translate(*asked("out.gz"), "--resume").code == 0
    assert (tmp_path / "out.gz").read_bytes() == (tmp_path / "whole.gz").read_bytes()


def done_lines(journal):
    with contextlib.suppress(FileNotFoundError):
        return (json.loads(journal.read_text())["done"] or {"lines": 0})["lines"]
    return 0
