"""Several calls side by side, for batches whose operations take a processor core each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")


def map_at_once(
    function: Callable[[Argument], Result], arguments: Sequence[Argument], *, at_once: int
) -> Iterator[Result]:
    """Map a function over arguments, several side by side in threads, and yield the results in order.

    An error is raised where its result would be. However this ends, what has not begun by then never does.

    Args:
        function: may be called from several threads.
        arguments: what to call it with.
        at_once: calls side by side; one needs no threads.
    """
    if at_once == 1 or len(arguments) < 2:
        yield from map(function, arguments)
        return
    executor = ThreadPoolExecutor(at_once, thread_name_prefix="batch")
    try:
        yield from executor.map(function, arguments)
    finally:
        executor.shutdown(cancel_futures=True)
