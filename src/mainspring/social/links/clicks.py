"""Clicks on their way from a visit to the log: noted in a ring, sent in batches, never waited for.

`note` only appends. Every 100 ms what is in the ring becomes records of the topic `links.clicks`, each a batch of at most 200
clicks with the name of this process and a number, by which a second delivery is recognised. Where the log is away batches
wait, within bounds; what does not fit is dropped and counted, because a visitor never waits. Kill -9 loses what the last
100 ms brought.

What is written of a visitor: the address cut to its network, User-Agent, referrer and language; with `DNT` or `Sec-GPC` only
that there was a click.
"""

import asyncio
import logging
import re
from collections import deque
from secrets import token_hex

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.ports import Log
from mainspring.core.problems import Problem
from mainspring.core.telemetry import Metrics
from mainspring.social.links.visitors import Proxies, network_of

TOPIC = "links.clicks"
RING_CLICKS_MAX = 65_536
HEAD_BYTES_MAX = 8_192
BATCH_CLICKS_MAX = 200
WAITING_BATCHES_MAX = 2_000
EVERY_S = 0.1
TARGET_LETTERS_MAX = 1_000
"""So much of everything is written that the largest batch fits into a record of the log (1 MiB)."""

_log = logging.getLogger(__name__)
_WANTED = re.compile(
    rb"\r\n(user-agent|referer|accept-language|dnt|sec-gpc|x-forwarded-for):[ \t]*([^\r\n]*)", re.IGNORECASE
)

_LETTERS_MAX = {b"user-agent": 300, b"referer": 500, b"accept-language": 100, b"x-forwarded-for": 500}


class Click(msgspec.Struct, array_like=True, frozen=True):
    """One visit as it is written. `kind` is `click`, `qr`, or why an orphan led nowhere: `base_url`,
    `invalid_short_url`, `regular_404`. `target` is set where a rule chose it. `private` visitors asked not to be followed."""

    at_us: int
    domain_id: int
    code: str
    kind: str = "click"
    target: str = ""
    address: str = ""
    user_agent: str = ""
    referrer: str = ""
    language: str = ""
    private: bool = False


class Batch(msgspec.Struct, array_like=True, frozen=True):
    node: str
    sequence: int
    clicks: list[Click]


encode_batch = msgspec.msgpack.Encoder().encode
decode_batch = msgspec.msgpack.Decoder(Batch).decode

Noted = tuple[int, int, str, str, str, str, bytes]
"""at_us, domain id, code, kind, target, address, head"""


class Clicks:
    """The ring and its task. `node` names this process, differently at each start."""

    def __init__(self, log: Log, clock: Clock, metrics: Metrics | None = None, proxies: Proxies | None = None) -> None:
        self.node = token_hex(8)
        self.dropped = 0
        self.noted = 0
        self.log, self._clock = log, clock
        self._proxies = proxies or Proxies()
        self._ring: deque[Noted] = deque()
        self._waiting: deque[bytes] = deque()
        self._sequence = 0
        self._heads: dict[bytes, tuple[str, str, str, str, bool]] = {}
        self._some = asyncio.Event()
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        if metrics is not None:
            metrics.counter("links_clicks", "Clicks noted").follow(lambda: self.noted)
            metrics.counter("links_clicks_dropped", "Clicks that found ring or log full").follow(lambda: self.dropped)
            metrics.gauge("links_clicks_waiting", "Clicks not yet in the log", sample=lambda: self.waiting)

    @property
    def waiting(self) -> int:
        return len(self._ring) + BATCH_CLICKS_MAX * len(self._waiting)

    def note(self, at_us: int, domain_id: int, code: str, kind: str, target: str, address: str, head: bytes) -> None:
        """Notes a visit; `head` is the request's head, of which only some headers will be read."""
        if len(self._ring) >= RING_CLICKS_MAX:
            self.dropped += 1
            return
        self._ring.append((at_us, domain_id, code, kind, target[:TARGET_LETTERS_MAX], address, head))
        self.noted += 1
        if len(self._ring) == 1:
            self._some.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="links: clicks")

    async def stop(self) -> None:
        """Sends what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._ring or self._waiting:
            await self.flush()

    async def flush(self) -> None:
        """Sends all that was noted. Raises what the log raised; then nothing is lost and the next call tries again."""
        async with self._sending:
            ring = self._ring
            while ring:
                # An await between batches lets requests in; a batch itself takes a millisecond at most.
                clicks = [self._click(*ring.popleft()) for _ in range(min(BATCH_CLICKS_MAX, len(ring)))]
                self._sequence += 1
                if len(self._waiting) >= WAITING_BATCHES_MAX:
                    self.dropped += len(decode_batch(self._waiting.popleft()).clicks)
                self._waiting.append(encode_batch(Batch(self.node, self._sequence, clicks)))
                await asyncio.sleep(0)
            while self._waiting:
                some = [self._waiting[at] for at in range(min(100, len(self._waiting)))]
                await self.log.append_many(TOPIC, [(self.node.encode(), batch) for batch in some])
                for _ in some:
                    self._waiting.popleft()

    async def _run(self) -> None:
        pause_s = EVERY_S
        while True:
            await self._some.wait()
            await self._clock.sleep(pause_s)
            self._some.clear()
            try:
                await self.flush()
                pause_s = EVERY_S
            except Problem as problem:
                if pause_s == EVERY_S:
                    _log.warning("clicks wait: %s", problem)
                pause_s = min(5.0, pause_s * 2)
                self._some.set()

    def _click(self, at_us: int, domain_id: int, code: str, kind: str, target: str, address: str, head: bytes) -> Click:
        # One browser sends the same head again and again, but for its first line.
        rest = head[head.find(b"\r\n") : HEAD_BYTES_MAX]
        known = self._heads.get(rest)
        if known is None:
            if len(self._heads) >= 1_000:
                self._heads.clear()
            known = self._heads[rest] = _read(rest)
        user_agent, referrer, language, forwarded, private = known
        if private:
            return Click(at_us, domain_id, code, kind, target, private=True)
        network = network_of(self._proxies.client(address, forwarded))
        return Click(at_us, domain_id, code, kind, target, network, user_agent, referrer, language)


def _read(head: bytes) -> tuple[str, str, str, str, bool]:
    found: dict[bytes, bytes] = {name.lower(): value for name, value in _WANTED.findall(head)}
    agent, referrer, languages, forwarded = (
        found.get(name, b"")[:letters_max].decode("utf-8", "replace").replace("\0", "")
        for name, letters_max in _LETTERS_MAX.items()
    )
    return agent, referrer, languages, forwarded, found.get(b"dnt") == b"1" or found.get(b"sec-gpc") == b"1"
