"""Links beside what one would use instead: an nginx map, a transaction for each request, a GROUP BY over raw clicks.

Redirects: both servers on one core, h2load on the other, 100,000 codes asked for by Zipf's law, after a turn to warm up.
"""

import asyncio
import itertools
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pysqlite3
import uvloop

from bench.comparison import Comparison, alternate
from bench.load import CLIENT_CPU, SERVER_CPU
from mainspring.core.application import Mainspring
from mainspring.core.cache import Sieve
from mainspring.core.config import Config
from mainspring.core.ports import Log
from mainspring.social.links import Links
from mainspring.social.links.clicks import TOPIC, Batch, Click, encode_batch
from mainspring.social.links.tables import link as link_table

CODES = 100_000
CALLERS = 256
DAY_US = 86_400_000_000
NGINX = """
worker_processes 1; daemon off; error_log stderr crit; pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; map_hash_max_size 400000; map_hash_bucket_size 256;
  map $uri $target {{ include {folder}/map; }}
  server {{
    listen {address};
    location / {{
      if ($target = "") {{ return 404; }}
      add_header Cache-Control "private, max-age=90";
      return 302 $target;
    }}
  }}
}}
"""


def run(seconds: float) -> list[Comparison]:
    """Each comparison is measured for `seconds` a side."""
    with tempfile.TemporaryDirectory(prefix="ms-links-") as folder:
        redirects = list(_redirects(Path(folder), seconds))
    with tempfile.TemporaryDirectory(prefix="ms-links-") as folder:
        return [*redirects, *uvloop.run(_in_process(Path(folder), seconds))]


def _redirects(folder: Path, seconds: float) -> Iterator[Comparison]:
    codes = min(CODES, round(20_000 * seconds))
    with _ours(folder, codes) as ours, _nginx(folder) as nginx:
        lines = [line.split() for line in (folder / "codes").read_text().splitlines()]
        weights = [1 / place for place in range(1, len(lines) + 1)]
        asked = random.Random(1).choices([code for code, _ in lines], weights, k=20_000)
        for name, address in (("ours", ours), ("nginx", nginx)):
            (folder / f"asked-{name}").write_text("".join(f"{address}{code}\n" for code in asked))
            _h2load(folder, name, 2.0)
        latencies: dict[str, list[float]] = {"ours": [], "nginx": []}

        def measured(name: str, turn_s: float) -> float:
            rate, p99_us = _h2load(folder, name, turn_s)
            latencies[name].append(p99_us)
            return rate

        rates = alternate(lambda turn_s: measured("ours", turn_s), lambda turn_s: measured("nginx", turn_s), seconds)
    title = "one nginx worker with a map"
    yield Comparison("redirects on one core", rates[0], title, rates[1], "redirects/s", target=0.5)
    slow = latencies["ours"], title, latencies["nginx"]
    yield Comparison("the slowest in a hundred redirects", *slow, "µs", higher_is_better=False, target=1 / 3)


@contextmanager
def _ours(folder: Path, codes: int) -> Iterator[str]:
    command = [sys.executable, "-m", "bench.social.links_server", str(folder), str(codes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


@contextmanager
def _nginx(folder: Path) -> Iterator[str]:
    pairs = (line.split() for line in (folder / "codes").read_text().splitlines())
    (folder / "map").write_text("".join(f"/{code} {target};\n" for code, target in pairs))
    address = f"127.0.0.1:{_free_port()}"
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, address=address))
    nginx = ["taskset", "-c", str(SERVER_CPU), _program("nginx"), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(nginx) as process:
        try:
            while not (folder / "nginx.pid").exists() and process.poll() is None:
                time.sleep(0.05)
            yield f"http://{address}/"
        finally:
            process.terminate()


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise LookupError(f"this comparison needs {name}, which a Debian package brings")
    return found


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _h2load(folder: Path, name: str, seconds: float) -> tuple[float, float]:
    """Answers a second over 64 connections, and the 99th percentile of their times in microseconds."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    turn = ["-D", str(max(1, round(seconds))), "-i", str(folder / f"asked-{name}"), "--log-file", str(log)]
    command = [
        "taskset",
        "-c",
        str(CLIENT_CPU),
        _program("h2load"),
        "--h1",
        "-c",
        "64",
        "-m",
        "1",
        "-t",
        "1",
        *turn,
    ]
    subprocess.run(command, check=True, capture_output=True)
    fields = [line.split("\t") for line in log.read_text().splitlines()]
    wrong = {status for _, status, _ in fields} - {"302"}
    assert not wrong, f"{name} answered {wrong}"
    times = sorted(int(duration) for _, _, duration in fields)
    return len(times) / max(1, round(seconds)), float(times[len(times) * 99 // 100])


async def _in_process(folder: Path, seconds: float) -> list[Comparison]:
    config = Config(data=str(folder / "data"), free_bytes_min=0)
    async with Mainspring(["links"], config) as mainspring:
        links = await mainspring.service(Links)
        creations = await _creations(links, folder / "data" / "mainspring.db", seconds)
        charts = await _charts(links, await mainspring.service(Log), folder, seconds)  # type: ignore[type-abstract]
    return [creations, charts, _memory()]


async def _creations(links: Links, path: Path, seconds: float) -> Comparison:
    peer = _transaction_each(path)
    ours_s: list[float] = []
    peer_s: list[float] = []
    for _ in range(3):
        ours_s.append(await _created(links, seconds / 3))
        peer_s.append(peer(seconds / 3))
    title = "a transaction for each on the same file"
    return Comparison(f"durable creations, {CALLERS} callers", ours_s, title, peer_s, "links/s", target=10)


async def _created(links: Links, seconds: float) -> float:
    ends_s = time.perf_counter() + seconds
    made = 0

    async def caller() -> None:
        nonlocal made
        while time.perf_counter() < ends_s:
            await links.create("https://www.example.com/some/where")
            made += 1

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return made / seconds


def _transaction_each(path: Path) -> Any:
    """Inserts rows of the very table, each in a transaction of its own that is on the disk before the next."""
    names = [column.name for column in link_table.columns]
    sql = f"INSERT INTO links_link ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    values = dict.fromkeys(names, 0) | dict.fromkeys(("title", "notes", "folder"), "")
    values |= dict.fromkeys(("password", "rules", "tags", "card"), None) | {
        "target": "https://www.example.com/some/where"
    }
    numbers = itertools.count()

    def turn(seconds: float) -> float:
        connection = pysqlite3.connect(str(path), isolation_level=None, timeout=30)
        connection.execute("PRAGMA synchronous=FULL")
        ends_s, made = time.perf_counter() + seconds, 0
        while time.perf_counter() < ends_s:
            row = values | {"id": next(numbers), "code": f"peer-{next(numbers)}"}
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(sql, [row[name] for name in names])
            connection.execute("COMMIT")
            made += 1
        connection.close()
        return made / seconds

    return turn


async def _charts(links: Links, log: Log, folder: Path, seconds: float) -> Comparison:
    """A year of one link by day, out of as many clicks as the time allows: the raw rows cost by the click."""
    clicks = 10_000_000 if seconds >= 10 else 200_000
    made = await links.create("https://www.example.com/some/where", alias="busy")
    days = [Batch("bench", day, [Click(day * DAY_US, 0, "busy", user_agent="bench")]) for day in range(365)]
    await log.append_many(TOPIC, [(None, encode_batch(one)) for one in days])
    scope = f"link:{made.id}"
    while (await links.counting.sums([scope])).get(scope, (0, 0))[0] < 365:  # noqa: ASYNC110  folded by another task
        await asyncio.sleep(0.05)
    raw = pysqlite3.connect(str(folder / "raw.db"), isolation_level=None)
    raw.execute("CREATE TABLE click (link_id INTEGER NOT NULL, at_us INTEGER NOT NULL, country TEXT NOT NULL) STRICT")
    raw.execute("BEGIN")
    step = 365 * DAY_US // clicks
    raw.executemany("INSERT INTO click VALUES (1, ?, 'AT')", ((number * step,) for number in range(clicks)))
    raw.execute("COMMIT")
    raw.execute("CREATE INDEX by_link ON click (link_id, at_us)")
    group = f"SELECT at_us / {DAY_US}, count(*) FROM click WHERE link_id = 1 AND at_us < {365 * DAY_US} GROUP BY 1"
    ours: list[float] = []
    theirs: list[float] = []
    for turn in range(9):
        began_s = time.perf_counter()
        series = await links.stats(scope, 0, 365 * DAY_US, "day")
        ours.append((time.perf_counter() - began_s) * 1000)
        assert len(series.points) == 365
        if turn % 3 == 0:
            began_s = time.perf_counter()
            assert len(raw.execute(group).fetchall()) in (365, 366)
            theirs.append((time.perf_counter() - began_s) * 1000)
    title = f"GROUP BY over {clicks:,} rows"
    target = 100 if clicks == 10_000_000 else None
    return Comparison("a year's chart of a link", ours, title, theirs, "ms", higher_is_better=False, target=target)


def _memory() -> Comparison:
    """What a plain link takes in memory, with its key, its entry and its share of the dictionary."""
    import tracemalloc

    count = 100_000
    tracemalloc.start()
    cache: Sieve[bytes, bytes] = Sieve(count)
    for number in range(count):
        cache.put(b"%07d" % number, b"https://www.example.com/articles/%d/some-longer-title-here" % number)
    cost = tracemalloc.get_traced_memory()[0] / count
    tracemalloc.stop()
    return Comparison("memory of a cached link", [cost], "promised", [300.0], "bytes", higher_is_better=False, target=1)


if __name__ == "__main__":
    for one in run(6.0):
        print(
            f"{one.name}: {statistics.median(one.ours):,.1f} {one.unit}, ratio {one.ratio:.2f} beside {one.peer_name}"
        )
