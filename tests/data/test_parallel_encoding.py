"""Encoding in several processes: the same bytes and the same errors as in one, and a clean end."""

import gc
import gzip
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmt.data import encoding, open_store
from nmt.data.corpus import CorpusReport, TextBlock
from nmt.data.encoding import BlockEncoder, EncodingProcess, encode_blocks, processes_for
from nmt.errors import DataError
from nmt.text import SentencePieceTokenizer, TextPair, WhitespaceTokenizer
from nmt.text import tokenizer as tokenizer_module

LINES = st.lists(
    st.tuples(*[st.text(st.sampled_from("ab \t\r\0\u2028\u0085\u200bßé▁"), max_size=12)] * 2), min_size=1, max_size=40
)
SECONDS_TO_WAIT = 120.0  # before it is taken to hang


@pytest.fixture(scope="module")
def text():
    generator = random.Random(3)
    words = ["".join(generator.choices("abßé", k=generator.randrange(1, 6))) for _ in range(50)]
    lines = [" ".join(generator.choices(words, k=5)) for _ in range(80)]
    sizes = {"vocabulary_size": 60, "character_coverage": 1.0}
    return TextPair.learn(
        SentencePieceTokenizer, lines[:40], lines[40:], model_type="unigram", joint=False, seed=1, **sizes
    )


@pytest.fixture
def any_size(monkeypatch):
    """Processes also for a corpus of a few lines, in blocks of a few."""
    monkeypatch.setattr(encoding, "_BYTES_A_PROCESS", 1)
    monkeypatch.setattr(tokenizer_module, "_BLOCK_LINES", 7)


def processes_where(condition):
    """Ids of the processes whose parent and group fulfil a condition."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it ended meanwhile
            continue
        if state != "Z" and condition(int(parent), int(group)):
            found.append(int(path.parent.name))
    return found


STARTED_BEFORE = []  # for `warm_python`


def children():
    found = processes_where(lambda parent, group: parent == os.getpid())
    return [process for process in found if process not in STARTED_BEFORE]


STARTED_BEFORE += children()


def wait_until(condition):
    limit = time.monotonic() + SECONDS_TO_WAIT
    while not condition() and time.monotonic() < limit:
        time.sleep(0.01)
    assert condition()


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_store_is_the_same_byte_for_byte(text, tmp_path, write_lines, any_size):
    generator = random.Random(5)
    lines = [
        " ".join(generator.choices(["ab", "ß\u2028é", "", "\0", "aaa", "\u200b"], k=generator.randrange(9)))
        for _ in range(150)
    ]
    paths = write_lines("a.es.gz", lines), write_lines("a.en", lines[::-1])
    done = []
    one = open_store(tmp_path / "one", *paths, text=text, max_length=11, processes=1)
    two = open_store(tmp_path / "two", *paths, text=text, max_length=11, processes=2, report_pairs=done.append)
    assert contents(one.path) == contents(two.path)
    assert min(one.report.dropped_nul, one.report.dropped_too_long, one.report.dropped_empty, len(one)) > 0
    assert done == [*range(7, 150, 7), 150]
    assert not children()


def test_another_process_encodes_as_this_one(text, tmp_path):
    text.save(tmp_path)
    process = EncodingProcess(tmp_path, max_length=6)

    @given(pairs=LINES)
    @settings(deadline=None)
    def check(pairs):
        assert process.encode(TextBlock(pairs).texts) == BlockEncoder(text, 6).encode(pairs)

    check()
    process.stop()


@pytest.mark.needs("/proc/self/maps")
def test_it_loads_nothing_heavy_and_not_the_main_module(text, tmp_path):
    text.save(tmp_path / "text")
    program = (
        "import sys\nfrom pathlib import Path\nfrom nmt.data.encoding import EncodingProcess\n"
        "print('main')\n"
        f"process = EncodingProcess(Path({str(tmp_path / 'text')!r}), max_length=5)\n"
        "process.encode((b'ab\\n', b'ab\\n'))\n"
        "maps = open(f'/proc/{process._process.pid}/maps').read()\n"
        "print('sentencepiece' in maps, 'tensorflow' in maps)\nprocess.stop()\n"
    )
    (tmp_path / "script.py").write_text(program)  # without `if __name__ == "__main__"`, as many scripts are
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["main", "True", "False"]


def test_errors_of_the_corpus_are_the_same(text, tmp_path, write_lines, any_size):
    paths = write_lines("a.es", ["ab"] * 90), write_lines("a.en", ["ab"] * 90)
    paths[1].write_bytes(b"ab\n" * 70 + b"a\xffb\n" + b"ab\n" * 19)
    for processes in (1, 2):
        with pytest.raises(DataError, match=r"a\.en, line 71: must be valid UTF-8, got byte 0xff at position 2"):
            open_store(tmp_path / "store", *paths, text=text, max_length=9, processes=processes)
        assert [path.name for path in (tmp_path / "store").iterdir()] == [".train.lock"]
    write_lines("a.en", ["ab"] * 88)
    with pytest.raises(DataError, match=r"same number of lines, got 90 lines in .* and 88 lines in"):
        open_store(tmp_path / "store", *paths, text=text, max_length=9, processes=2)
    assert not children()


def many_blocks():
    """More than a test waits for, and yet not without end."""
    for _ in range(20_000):
        yield TextBlock([("ab ß", "é")] * 50)


@pytest.mark.needs("/proc/self/stat")
def test_a_killed_process_ends_the_work_with_an_error(text):
    encoded = encode_blocks(many_blocks(), BlockEncoder(text, 5), processes=2)
    next(encoded)
    os.kill(children()[0], signal.SIGKILL)
    message = "a process that encoded the corpus ended before its work was done: killed by SIGKILL, as the system does"
    with pytest.raises(DataError, match=message):
        for _ in encoded:
            pass
    assert not children()


@pytest.mark.parametrize("lines", [1, 200_000])  # the pipe holds a few of them, or breaks while it takes more
def test_a_process_that_cannot_encode_says_why(tmp_path, lines):
    process = EncodingProcess(tmp_path, max_length=5)
    with pytest.raises(DataError, match=r"(?s)that encoded the corpus failed:.*tokenizer\.json: cannot be read"):
        process.encode((b"ab\n" * lines, b"ab\n" * lines))
    process.stop()
    process.stop()


@pytest.mark.needs("/proc/self/stat")
def test_work_that_is_given_up_leaves_nothing_running(text):
    threads = threading.active_count()
    encoded = encode_blocks(many_blocks(), BlockEncoder(text, 5), processes=2)
    next(encoded)
    assert len(children()) == 2
    encoded.close()
    assert not children()
    gc.collect()
    assert threading.active_count() == threads


STOPPED = """
import sys
from nmt.data import encoding, open_store
from nmt.cli.main import _stopping_at_sigterm
from nmt.text import TextPair, tokenizer
encoding._BYTES_A_PROCESS, tokenizer._BLOCK_LINES = 1, 7
directory, source, target, model = sys.argv[1:]
with _stopping_at_sigterm():
    open_store(directory, source, target, text=TextPair.load(model), max_length=9, processes=2,
               report_pairs=lambda pairs: print(pairs, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_leaves_neither_processes_nor_half_a_store(text, tmp_path, write_lines, number):
    text.save(tmp_path / "text")
    paths = write_lines("a.es", ["ab ß é"] * 400_000), write_lines("a.en", ["ab"] * 400_000)
    command = [sys.executable, "-c", STOPPED, tmp_path / "store", *paths, tmp_path / "text"]
    build = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert build.stdout.readline()
    os.killpg(build.pid, number) if number == signal.SIGINT else build.send_signal(number)  # Ctrl-C reaches all
    stderr = build.communicate(timeout=SECONDS_TO_WAIT)[1].decode()
    assert build.returncode != 0
    wait_until(lambda: not processes_where(lambda parent, group: group == build.pid))
    names = {path.name.split("-")[0] for path in (tmp_path / "store").iterdir()}
    assert names == {".train.lock", *([".train"] if number == signal.SIGKILL else [])}
    if number == signal.SIGINT:
        assert stderr.rstrip().endswith("KeyboardInterrupt")


def test_tokenizers_of_ones_own_are_used_here(text, monkeypatch):
    class Own(WhitespaceTokenizer):
        def encode(self, line):
            return [5] * len(line)

    def refuse(*arguments, **options):
        raise RuntimeError("a process was started")

    monkeypatch.setattr(encoding, "EncodingProcess", refuse)
    own = Own(text.source.vocabulary)
    encoder = BlockEncoder(TextPair(source=own, target=own, joint=True), 5)
    blocks = iter([TextBlock([("abc", "a"), ("ab", "abcdef")])])
    assert [block.report for block in encode_blocks(blocks, encoder, processes=2)] == [CorpusReport(2, 1, 0, 0, 1, 5)]


def test_small_corpora_do_not_pay_for_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding.machine, "available_processors", lambda: 64)
    small, large = tmp_path / "small", tmp_path / "large.gz"
    small.write_bytes(bytes(2**20))
    with large.open("wb") as file:
        file.write(gzip.compress(b""))
        file.truncate(2**33)
    assert processes_for([str(small), str(small)]) == processes_for([str(small)], at_most=5) == 1
    assert processes_for([str(small), str(large)]) == 8
    assert processes_for([str(small), str(large)], at_most=40) == 40
    with large.open("r+b") as file:  # which begins as before
        file.truncate(3 * 2**20)
    assert processes_for([str(large)]) == 2
