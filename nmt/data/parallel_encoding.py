"""Encoding a stream of blocks, here or in several processes at once; what comes out is the same, in the same order."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from nmt.backend.processors import available_processors
from nmt.data.content_hash import TextBlock
from nmt.data.corpus import compression
from nmt.data.encoding import BlockEncoder, EncodedBlock
from nmt.data.encoding_process import EncodingProcess

_BYTES_A_PROCESS = 4 * 2**20
"""Each process must have so much text to encode, about a second's work, or it is not worth its start."""

_COMPRESSION_RATIO = 3
_MOST_PROCESSES = 8
"""As many as this process can read and hash text for (measured with SentencePiece); more would wait for it."""


def processes_for(paths: Sequence[str], *, at_most: int | None = None) -> int:
    """How many processes to encode the text of some files with; 1 means this one, without another.

    Args:
        paths: the files of both sides.
        at_most: upper bound; the cores there are (at most 8) unless given.
    """
    size = sum(os.path.getsize(path) * (_COMPRESSION_RATIO if _is_compressed(path) else 1) for path in paths)
    return max(1, min(at_most or min(available_processors(), _MOST_PROCESSES), size // _BYTES_A_PROCESS))


def _is_compressed(path: str) -> bool:
    with open(path, "rb") as file:
        return compression(file.read(10)) is not None


def encode_blocks(
    blocks: Iterator[TextBlock], encoder: BlockEncoder, *, processes: int, folder: Path | None = None
) -> Generator[EncodedBlock, None, None]:
    """Encode blocks, in order.

    A generator: close it, and the processes are gone. Tokenizers of a kind that no directory can hold are used here.

    Args:
        blocks: the text; read by the caller's thread, so an error in it comes from here as it is.
        encoder: what encodes.
        processes: how many processes; with 1, this one.
        folder: where the tokenizers lie for the processes meanwhile; the system's place for such files unless given.

    Raises:
        DataError: a process ended before its work was done.
    """
    if processes <= 1 or not encoder.text.is_restorable or not sys.executable:
        return (encoder.encode(block.source_lines, block.target_lines) for block in blocks)
    return _encode_in_processes(blocks, encoder, processes, folder)


def _encode_in_processes(
    blocks: Iterator[TextBlock], encoder: BlockEncoder, number_of_processes: int, folder: Path | None
) -> Generator[EncodedBlock, None, None]:
    """The body of `encode_blocks`: one thread a process hands it a block and waits for the answer."""
    with ExitStack() as stack:
        tokenizers = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nmt-tokenizers-", dir=folder)))
        encoder.text.save(tokenizers)
        threads = ThreadPoolExecutor(number_of_processes, thread_name_prefix="encode")
        stack.callback(threads.shutdown, cancel_futures=True)
        idle: queue.SimpleQueue[EncodingProcess] = queue.SimpleQueue()
        for _ in range(number_of_processes):
            process = EncodingProcess(tokenizers, max_length=encoder.max_length)
            stack.callback(process.stop)  # before the threads are waited for, who would wait for the process
            idle.put(process)

        def encode(block: TextBlock) -> EncodedBlock:
            process = idle.get()
            try:
                return process.encode(block.source, block.target)
            finally:
                idle.put(process)

        pending: deque[Future[EncodedBlock]] = deque()
        for block in blocks:
            pending.append(threads.submit(encode, block))
            if len(pending) > 2 * number_of_processes:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
