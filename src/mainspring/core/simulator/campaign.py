"""Many seeds of one simulation, on every core.

A simulation is a function of its seed that raises where a promise is broken. Seeds go out to worker processes in small
chunks, so that progress is seen and a failure stops the rest soon; the failing seed, run alone, shows the same.
"""

import logging
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context

import msgspec

CHUNK_SEEDS = 8


class Failure(msgspec.Struct, frozen=True):
    """A seed that broke a promise and what was said about it."""

    seed: int
    message: str


class Outcome(msgspec.Struct, frozen=True):
    """How many seeds ran and which failed, the lowest first."""

    seeds: int
    failures: tuple[Failure, ...]


def campaign(
    call: Callable[[int], object] | str,
    seeds: Sequence[int],
    workers: int | None = None,
    on_progress: Callable[[int, int, int], None] | None = None,
    *,
    failures_max: int = 1,
) -> Outcome:
    """Runs `call(seed)` for every seed and stops after `failures_max` that raised.

    `call` is a function that a process can import, or its name as `module:function`. With one worker all runs in this
    process. `on_progress(done, total, failed)` is called in this process after each chunk.
    """
    workers = workers or os.cpu_count() or 1
    chunks = (seeds[at : at + CHUNK_SEEDS] for at in range(0, len(seeds), CHUNK_SEEDS))
    done, failures = 0, []
    for count, found in _run_here(call, chunks) if workers == 1 else _run_apart(call, chunks, workers):
        done += count
        failures += found
        if on_progress is not None:
            on_progress(done, len(seeds), len(failures))
        if len(failures) >= failures_max:
            break
    return Outcome(done, tuple(sorted(failures, key=lambda failure: failure.seed)))


Part = tuple[int, list[Failure]]


def _run_here(call: Callable[[int], object] | str, chunks: Iterator[Sequence[int]]) -> Iterator[Part]:
    for chunk in chunks:
        yield _run_chunk(call, chunk)


def _run_apart(call: Callable[[int], object] | str, chunks: Iterator[Sequence[int]], workers: int) -> Iterator[Part]:
    # Spawned, not forked: whoever calls may have threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: dict[Future[Part], Sequence[int]] = {}
        try:
            while True:
                while len(running) < 2 * workers and (chunk := next(chunks, None)) is not None:
                    running[pool.submit(_run_chunk, call, chunk)] = chunk
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    chunk = running.pop(future)
                    try:
                        yield future.result()
                    except BrokenProcessPool:
                        yield len(chunk), [Failure(chunk[0], f"a worker process died in seeds {list(chunk)}")]
                        return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_chunk(call: Callable[[int], object] | str, seeds: Sequence[int]) -> Part:
    function = _resolve(call) if isinstance(call, str) else call
    failures = []
    # What is logged of so many faults is no news here; the failing seed, run alone, shows it.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        for seed in seeds:
            try:
                function(seed)
            except AssertionError as error:
                failures.append(Failure(seed, str(error) or traceback.format_exc(limit=-3)))
            except Exception:
                failures.append(Failure(seed, traceback.format_exc(limit=-6)))
    finally:
        logging.disable(before)
    return len(seeds), failures


def _resolve(name: str) -> Callable[[int], object]:
    module, _, attribute = name.partition(":")
    found: Callable[[int], object] = getattr(import_module(module), attribute)
    return found
