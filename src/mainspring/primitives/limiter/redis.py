"""The store on Redis >= 6.2 or Valkey: one script for every algorithm and a whole hierarchy, one round trip.

Time is the server's, states expire there by themselves, and all keys of one decision in a hierarchy share a hash tag.

The exceptions to strictness: a fail-over that loses writes can admit again what was lost, at most one limit for each key;
and a server whose clock is put forward refills early.
"""

from collections.abc import Callable
from heapq import nlargest
from typing import Any

import msgspec

from mainspring.core.clock import Clock, SystemClock
from mainspring.primitives.limiter.decide import Ask, Charge, Limit, Outcome
from mainspring.primitives.limiter.model import FRESH, State
from mainspring.primitives.limiter.quota import Quota
from mainspring.primitives.limiter.redis_link import Link, bulk, packed
from mainspring.primitives.limiter.script import SCRIPT, Told, calendar_page, numbers, state_of
from mainspring.primitives.limiter.store import KeyState, shown, token

DEADLINE_S = 0.05
_SCAN_KEYS = 500
_KNOWN_MAX = 10_000


class RedisStore:
    """`url` is `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database; keys begin with `prefix`.

    Whoever asks has an answer, or `StoreAway`, within `deadline_s`. `time_us` gives the time to decide by, where 0 (the
    default) means the server's own; tests pass another.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        clock: Clock | None = None,
        *,
        deadline_s: float = DEADLINE_S,
        prefix: str = "limiter",
        time_us: Callable[[], int] = lambda: 0,
    ) -> None:
        self._clock = clock or SystemClock()
        self._prefix = prefix
        self._time_us = time_us
        self._link = Link(url, SCRIPT, deadline_s)
        self._evalsha = bulk(b"EVALSHA") + bulk(self._link.sha)
        self._known: dict[str, tuple[bytes, Limit, bytes]] = {}

    async def start(self) -> None:
        self._link.start()

    async def stop(self) -> None:
        await self._link.stop()

    async def ask(self, ask: Ask) -> Outcome:
        reply = await self._decide(ask, self._time_us() or self._clock.wall_ns() // 1000)
        if len(reply) == 1:  # the server's clock shows another period than ours: its page is sent instead
            reply = await self._decide(ask, reply[0])
        now_us, allowed, *told = reply
        cost = ask.amount if ask.verb in ("hit", "peek") else 0
        rules = [charge.limit.rule for charge in ask.charges]
        return Outcome(allowed, Told(rules, told, now_us, cost, allowed), now_us * 1000)

    async def keys(self, bucket: str, limit: Limit, top: int, scanned_max: int) -> list[KeyState]:
        begins = f"{self._prefix}:{bucket}:"
        pattern = begins.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?").replace("[", "\\[") + "*"
        cursor, seen, found = b"0", 0, list[KeyState]()
        while seen < scanned_max:
            scan = packed(b"SCAN", cursor, b"MATCH", pattern.encode(), b"COUNT", b"%d" % _SCAN_KEYS)
            cursor, names = await self._link.call(scan)
            seen += _SCAN_KEYS
            if names:
                stored = await self._link.call(packed(b"MGET", *names))
                now_ns = await self._now_ns()
                for name, state in zip(names, stored, strict=True):
                    key = _key(name[len(begins.encode()) :])
                    found.append(KeyState.of(key, limit.rule, _state(limit, state), now_ns))
                found = nlargest(top, (one for one in found if one.used), key=lambda one: one.used)
            if cursor == b"0":
                break
        return found

    async def _now_ns(self) -> int:
        if self._time_us():
            return self._time_us() * 1000
        seconds, micros = await self._link.call(packed(b"TIME"))
        return int(seconds) * 10**9 + int(micros) * 1000

    async def _decide(self, ask: Ask, now_us: int) -> list[Any]:
        reply: list[Any] = msgspec.msgpack.decode(await self._link.call(self._command(ask, now_us)))
        return reply

    def _command(self, ask: Ask, now_us: int) -> bytes:
        """One EVALSHA. `now_us` is not what decides, it chooses the page of the calendar that is sent along."""
        charges = ask.charges
        tokens = [token(charge.key) for charge in charges]
        # The keys of a hierarchy belong together in the slot of its outermost one; keys side by side stand for themselves.
        tag = tokens[-1] if _depth(charges[0]) != _depth(charges[-1]) else None
        names, described = [], []
        for charge, kept in zip(charges, tokens, strict=True):
            prefix, limit, numbers = self._known.get(charge.bucket) or (b"", None, b"")
            if limit is not charge.limit:
                prefix, numbers = self._describe(charge, now_us)
            names.append(bulk(prefix + _suffix(kept if tag is None else tag, kept)))
            described.append(numbers)
        count = len(charges)
        head = (ask.verb.encode(), b"%d" % ask.amount, b"%d" % (ask.at_ns // 1000), b"%d" % self._time_us())
        return b"".join(
            [b"*%d\r\n" % (7 + 9 * count), self._evalsha, bulk(b"%d" % count), *names, *map(bulk, head), *described]
        )

    def _describe(self, charge: Charge, now_us: int) -> tuple[bytes, bytes]:
        """What the names of a bucket's keys begin with, and its rule's numbers as they are sent."""
        rule = charge.limit.rule
        kind, *six = numbers(rule)
        if isinstance(rule, Quota):
            six = [rule.limit, *calendar_page(rule, now_us)]
        prefix = f"{self._prefix}:{charge.bucket}:".encode()
        sent = b"".join([bulk(b"%d" % kind), bulk(b"%d" % charge.limit.shadow), *(bulk(b"%d" % one) for one in six)])
        if not rule.calendar:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[charge.bucket] = prefix, charge.limit, sent
        return prefix, sent


def _depth(charge: Charge) -> str:
    return charge.bucket.split("/", 2)[1]


def _suffix(tag: str, kept: str) -> bytes:
    """`{key}`, or `n:{tag}key` where n is how many letters the tag has: a name is this after its prefix and bucket."""
    return f"{{{kept}}}".encode() if tag == kept else f"{len(tag)}:{{{tag}}}{kept}".encode()


def _key(rest: bytes) -> str:
    """The key in a name, without its prefix and bucket."""
    text = rest.decode("utf-8", "replace")
    if text.startswith("{"):
        return shown(text[1:-1])
    letters, _, tagged = text.partition(":")
    return shown(tagged[int(letters) + 2 :])


def _state(limit: Limit, stored: bytes | None) -> State:
    """A stored state; none where it has gone meanwhile, or is nothing of ours."""
    if stored is None:
        return FRESH
    try:
        return state_of(limit.rule, msgspec.msgpack.decode(stored, type=list[int]))
    except (msgspec.MsgspecError, IndexError):
        return FRESH
