"""The `Cache` port on a Redis 6.2 or later, or a Valkey, through the `redis` package, which only this module imports.

A cache that is slow is worse than none: every call has a deadline well under a second, and after a failure calls fail at
once, without touching the network, until a back-off has passed and ONE of them has tried again. What a caller sees then is
an empty cache: `get` gives None, `set` is dropped, a lock is not got, all counted. Only `increment` raises, because a
counter that silently starts again would be a lie.

All subscriptions of a process share one connection, which is made again when it is lost; messages published in between
are lost, as they are in Redis.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from secrets import token_bytes
from typing import Any

import redis.asyncio as driver
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from mainspring.core.backoff import Backoff
from mainspring.core.cache.counts import Counts
from mainspring.core.cache.limits import (
    INT64_MAX,
    INT64_MIN,
    NOT_A_COUNTER,
    VALUE_BYTES_MAX,
    check_key,
    check_message,
    ttl_ms,
)
from mainspring.core.cache.mailbox import Mailbox
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry.metrics import Metrics

TIMEOUT_S_MIN, TIMEOUT_S_MAX = 0.05, 30.0
CONNECT_S = 1.0
PING_S = 5.0
"""A subscription connection that has been silent this long is asked for a sign of life, and given as long to show it."""

_NOT_A_COUNTER = ("not an integer or out of range", "would overflow")

_log = logging.getLogger(__name__)


class _Away(Exception):
    """The server did not answer, or is given time to recover."""


class _Script:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# The sum is read back as text, because a number in Lua is a float and forgets beyond 53 bits.
_INCREMENT = _Script("""
redis.call('INCRBY', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('GET', KEYS[1])
""")
_RELEASE = _Script("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0")


class RedisCache:
    """`url` is `redis://`, `rediss://` (TLS) or `unix://`; its query may name a user, a password and a database.

    Keys begin with `prefix`, so that others may live on the same server. `timeout_s` bounds the wait for an answer: 50 ms
    to 1 s is of use, a test on a slow machine may allow more. At most `connections_max` calls are under way at once; the
    others wait, no longer than that either.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "mainspring:",
        timeout_s: float = 0.25,
        connections_max: int = 32,
        clock: Clock | None = None,
        random: Random | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        if not TIMEOUT_S_MIN <= timeout_s <= TIMEOUT_S_MAX:
            raise ValueError(f"a cache call is given {TIMEOUT_S_MIN} to {TIMEOUT_S_MAX} s, not {timeout_s}")
        self.counts = Counts()
        if metrics is not None:
            self.counts.report(metrics, "redis")
        self._prefix = prefix.encode()
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._backoff = Backoff(first_s=0.05, most_s=1.0, random=random)
        self._away_until_ns = 0
        self._pool: Any = driver.BlockingConnectionPool.from_url(
            url,
            max_connections=connections_max,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=max(CONNECT_S, timeout_s),
            # A call that failed may have been carried out: to send it again would count twice.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._client: Any = driver.Redis.from_pool(self._pool)
        self._mailboxes: dict[bytes, list[Mailbox]] = {}
        self._settled: dict[bytes, asyncio.Event] = {}
        """For each channel asked for on this connection: whether the server has confirmed, or the connection failed."""
        self._link: driver.Connection | None = None
        self._pump: asyncio.Task[None] | None = None
        self._resting = False
        """Whether the subscriptions wait for the server to come back."""

    async def get(self, key: str) -> bytes | None:
        check_key(key)
        try:
            value: bytes | None = await self._call("GET", self._name(b"v:", key))
        except _Away:
            value = None
        if value is None:
            self.counts.misses += 1
        else:
            self.counts.hits += 1
        return value

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        check_key(key)
        lifetime_ms = ttl_ms(ttl_s)
        name = self._name(b"v:", key)
        try:
            if len(value) > VALUE_BYTES_MAX:
                self.counts.drops += 1
                await self._call("DEL", name)
            else:
                await self._call("SET", name, value, "PX", lifetime_ms)
        except _Away:
            self.counts.drops += 1

    async def add(self, key: str, value: bytes, ttl_s: float) -> bool:
        check_key(key)
        lifetime_ms = ttl_ms(ttl_s)
        if len(value) > VALUE_BYTES_MAX:
            self.counts.drops += 1
            return False
        try:
            return await self._call("SET", self._name(b"v:", key), value, "PX", lifetime_ms, "NX") is not None
        except _Away:
            self.counts.drops += 1
            return False

    async def delete(self, *keys: str) -> None:
        """What cannot be deleted now stays until its time to live ends; it is counted as an error."""
        for key in keys:
            check_key(key)
        if not keys:
            return
        with suppress(_Away):
            await self._call("DEL", *(self._name(b"v:", key) for key in keys))

    async def increment(self, key: str, by: int = 1, *, ttl_s: float) -> int:
        """Raises `Unavailable` where the server is away, `ValueError` where value or sum is not a 64-bit integer."""
        check_key(key)
        lifetime_ms = ttl_ms(ttl_s)
        if not INT64_MIN <= by <= INT64_MAX:
            raise ValueError(NOT_A_COUNTER)
        try:
            return int(await self._script(_INCREMENT, self._name(b"v:", key), by, lifetime_ms))
        except _Away:
            raise Unavailable("the cache server does not answer") from None

    async def publish(self, channel: str, message: bytes) -> None:
        check_key(channel)
        check_message(message)
        try:
            await self._call("PUBLISH", self._name(b"c:", channel), message)
        except _Away:
            self.counts.drops += 1

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Entered once the server has confirmed; where it is away, after the bound of a call: the rest comes later."""
        check_key(channel)
        name = self._name(b"c:", channel)
        mailbox = Mailbox(self.counts.lose_message)
        self._mailboxes.setdefault(name, []).append(mailbox)
        try:
            await self._subscribe(name)
            yield mailbox
        finally:
            mailbox.close()
            # `stop` may have been faster.
            readers = self._mailboxes.get(name, [])
            if mailbox in readers:
                readers.remove(mailbox)
            if not readers and self._mailboxes.pop(name, None) is not None:
                await self._unsubscribe(name)

    @asynccontextmanager
    async def best_effort_lock(self, name: str, ttl_s: float) -> AsyncIterator[bool]:
        """Not got where the server is away."""
        check_key(name)
        lifetime_ms = ttl_ms(ttl_s)
        key, token = self._name(b"l:", name), token_bytes(16)
        try:
            got = await self._call("SET", key, token, "PX", lifetime_ms, "NX") is not None
        except _Away:
            got = False
        try:
            yield got
        finally:
            if got:
                # Compared on the server: whoever has it after our time was up keeps it.
                with suppress(_Away):
                    await self._script(_RELEASE, key, token)

    async def stop(self) -> None:
        """Ends every subscription and closes every connection."""
        for mailboxes in self._mailboxes.values():
            for mailbox in mailboxes:
                mailbox.close()
        self._mailboxes.clear()
        pump, self._pump = self._pump, None
        if pump is not None:
            pump.cancel()
            await asyncio.wait([pump])
        await self._pool.disconnect()

    def _name(self, kind: bytes, key: str) -> bytes:
        return self._prefix + kind + key.encode("utf-8", "surrogatepass")

    async def _call(self, *command: Any) -> Any:
        """Raises `_Away`, and `ResponseError` where the server refused the command itself."""
        now = self._clock.mono_ns()
        if now < self._away_until_ns:
            self.counts.errors += 1
            raise _Away
        tries_alone = self._away_until_ns != 0
        if tries_alone:
            # The others need not wait with this call: it ends well before that time.
            self._away_until_ns = now + round(4 * (CONNECT_S + self._timeout_s) * 1e9)
        try:
            answer = await self._client.execute_command(*command)
        except ResponseError as error:
            self._is_back()
            if isinstance(error, NoScriptError) or any(words in str(error) for words in _NOT_A_COUNTER):
                raise
            # Read-only after a fail-over, out of memory, another type: it answers, but is no use for this call.
            self.counts.errors += 1
            raise _Away from error
        except (RedisError, OSError) as error:
            raise self._lose(error, tries_alone) from None
        except asyncio.CancelledError:
            if tries_alone:
                self._away_until_ns = now
            raise
        self._is_back()
        return answer

    async def _script(self, script: _Script, key: bytes, *arguments: Any) -> Any:
        try:
            try:
                return await self._call("EVALSHA", script.sha, 1, key, *arguments)
            except NoScriptError:
                return await self._call("EVAL", script.text, 1, key, *arguments)
        except ResponseError:
            raise ValueError(NOT_A_COUNTER) from None

    def _is_back(self) -> None:
        if self._away_until_ns:
            _log.info("the cache server answers again")
            self._away_until_ns = 0
            self._backoff.reset()

    def _lose(self, error: Exception, tried_alone: bool) -> _Away:
        self.counts.errors += 1
        if not self._away_until_ns:
            _log.warning("the cache server does not answer: %s", error)
        if tried_alone or not self._away_until_ns:
            self._away_until_ns = self._clock.mono_ns() + round(self._backoff.next_s() * 1e9)
        return _Away()

    async def _subscribe(self, name: bytes) -> None:
        if self._pump is None:
            self._pump = asyncio.create_task(self._keep_subscribed(), name="cache subscriptions")
        settled = self._settled.get(name)
        if settled is None:
            settled = self._settled[name] = asyncio.Event()
            if self._resting:
                settled.set()
            await self._send("SUBSCRIBE", name)
        await settled.wait()

    async def _unsubscribe(self, name: bytes) -> None:
        if name in self._settled and self._settled[name].is_set():
            # One that is not confirmed yet is left alone, so that a confirmation always belongs to the last SUBSCRIBE.
            del self._settled[name]
            await self._send("UNSUBSCRIBE", name)

    async def _send(self, command: str, name: bytes) -> None:
        if self._link is None:
            return
        try:
            await self._link.send_command(command, name)
        except (RedisError, OSError):
            # The pump meets the same fault and subscribes to everything again.
            self.counts.errors += 1

    async def _keep_subscribed(self) -> None:
        backoff = Backoff(first_s=0.05, most_s=1.0)
        while True:
            link = self._pool.make_connection()
            try:
                await link.connect()
                for name in self._mailboxes:
                    self._settled.setdefault(name, asyncio.Event())
                self._link, self._resting = link, False
                await link.send_command("SUBSCRIBE", *self._settled)
                await self._receive(link, backoff)
            except (RedisError, OSError) as error:
                self.counts.errors += 1
                if not backoff.failures:
                    _log.warning("the cache server's subscriptions are lost for now: %s", error)
            finally:
                self._link, self._resting = None, True
                for settled in self._settled.values():
                    settled.set()
                self._settled.clear()
                await link.disconnect(nowait=True)
            await self._clock.sleep(backoff.next_s())

    async def _receive(self, link: driver.Connection, backoff: Backoff) -> None:
        """Hands out what comes; ends where the connection has been silent for too long."""
        asked = False
        while True:
            answer = await link.read_response(timeout=PING_S, disconnect_on_error=False)
            if answer is None:
                if asked:
                    raise driver.TimeoutError("no sign of life")
                await link.send_command("PING")
                asked = True
                continue
            asked = False
            if not isinstance(answer, list):
                continue
            kind, name, payload = (*answer, None)[:3]
            if kind == b"message":
                for mailbox in self._mailboxes.get(name, ()):
                    mailbox.put(payload)
            elif kind == b"subscribe":
                backoff.reset()
                if name in self._settled:
                    self._settled[name].set()
