"""A store several times the memory limit is read through, in a process that the system refuses more."""

import os
import subprocess
import sys

import numpy as np
import pytest

from nmt.data import TokenStore
from nmt.data.batches import plan_epoch
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import TokenSequences, record_of
from nmt.streams import BatchStream

PAIRS, TOKENS, REPEATED = 60_000, 400, 2_000

EPOCH = """
import resource, sys
from pathlib import Path
import numpy as np
from nmt.data import TokenStore
from nmt.streams import BatchStream
from nmt.data.corpus import CorpusReport
from nmt.data.sequences import StoredSequences

folder, pairs, tokens, megabytes = Path(sys.argv[1]), *map(int, sys.argv[2:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
limit = int(status["VmSize"].split()[0]) * 1024 + megabytes * 2**20  # what Python and NumPy have, and so much more
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
lengths = np.full(pairs, tokens, np.uint16)
sides = [StoredSequences(folder / "records", lengths, token_dtype=np.dtype(np.uint16)) for _ in range(2)]
store = TokenStore(folder, *sides, CorpusReport(pairs, pairs, 0, 0, 0, tokens), "")
stream = BatchStream(store, batch_tokens=20 * tokens, seed=3)
drawn = sum(len(next(stream).source_ids) for _ in range(stream.batches_in_epoch(0)))
print(drawn, stream.cursor.epoch)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is that of Linux")
def test_an_epoch_of_a_store_larger_than_memory(tmp_path):
    generator = np.random.default_rng(2)
    block = b"".join(
        record_of(generator.integers(4, 9999, TOKENS).astype(np.uint16).tobytes()) for _ in range(REPEATED)
    )
    with (tmp_path / "records").open("wb") as file:
        for _ in range(PAIRS // REPEATED):
            file.write(block)
    megabytes = 12
    assert (tmp_path / "records").stat().st_size > 3.5 * megabytes * 2**20
    command = [sys.executable, "-c", EPOCH, *map(str, (tmp_path, PAIRS, TOKENS, megabytes))]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.split(), done.stderr) == ([str(PAIRS), "1"], "")


def test_what_is_kept_of_a_pair_is_small():
    generator = np.random.default_rng(4)
    lengths = [generator.integers(2, 101, 50_000).astype(np.uint16) for _ in range(2)]
    plan = plan_epoch(*lengths, batch_tokens=4096, seed=1, epoch=0)
    assert plan.pairs.nbytes == 4 * 50_000
    assert plan.bounds.nbytes < 50_000


def test_no_more_than_two_plans_are_kept():
    sequences = TokenSequences.from_lists([[5, 3]] * 30)
    stream = BatchStream(
        TokenStore(None, sequences, sequences, CorpusReport(30, 30, 0, 0, 0, 9), ""), batch_tokens=4, seed=1
    )
    for epoch in range(5):
        stream.batches_in_epoch(epoch)
    assert sorted(stream._plans) == [3, 4]
