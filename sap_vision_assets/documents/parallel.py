"""Reading in several processes, in order, with bounded memory, surviving a reader that dies."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 4
"""Items a task: large enough to hide the hand-over, small enough to bound what waits in memory."""
TASKS_PER_WORKER = 2
"""Tasks handed out ahead of the consumer; the executor's own map would hand out all."""


def map_in_order(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    on_crash: Callable[[Item], Result],
) -> Iterator[Result]:
    """function(item) for each item, in order; `function` must be picklable, and must not raise for its item.

    With 1 worker it runs in this process. With more, an item whose process dies (a decoder that crashes, the
    kernel's out-of-memory killer) is tried once more in a process of its own, then becomes on_crash(item).
    """
    if workers <= 1 or multiprocessing.current_process().daemon:  # A daemon may have no children.
        yield from map(function, items)
        return
    position = 0
    while position < len(items):
        try:
            for results in _map_chunks(function, items[position:], workers):
                position += len(results)
                yield from results
        except BrokenProcessPool:
            # All tasks under way are lost, and any of them may have been the cause.
            suspects = items[position : position + CHUNK * TASKS_PER_WORKER * workers]
            position += len(suspects)
            yield from _map_singly(function, suspects, on_crash)


def _map_chunks(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[list[Result]]:
    chunks = deque(items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
    waiting: deque[Future[list[Result]]] = deque()
    executor = _executor(workers)
    try:
        while chunks or waiting:
            while chunks and len(waiting) < TASKS_PER_WORKER * workers:
                waiting.append(executor.submit(_run_chunk, function, chunks.popleft()))
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _run_chunk(function: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [function(item) for item in chunk]


def _map_singly(
    function: Callable[[Item], Result], items: Sequence[Item], on_crash: Callable[[Item], Result]
) -> Iterator[Result]:
    executor = _executor(1)
    try:
        for item in items:
            try:
                yield executor.submit(function, item).result()
            except BrokenProcessPool:
                executor.shutdown(wait=True)
                executor = _executor(1)
                yield on_crash(item)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _executor(workers: int) -> ProcessPoolExecutor:
    # Never fork: the caller may hold threads and locks (Dagster, torch) that a forked child would inherit.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method))
