"""One connection to Redis for all callers: commands of one moment travel together, and nobody waits past a deadline.

What comes while answers are awaited travels next, so that batches grow with the load. While the server is away calls fail
at once without touching the network, and one task tries to reach it again; nobody else has to.
"""

import asyncio
import logging
from collections import deque
from hashlib import sha1
from typing import Any

import redis.asyncio as driver
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from mainspring.core.backoff import Backoff
from mainspring.primitives.limiter.model import StoreAway

log = logging.getLogger(__name__)

PENDING_MAX = 20_000
BATCH_MAX = 256
CONNECT_S = 1.0
RETRY_S = 0.5


class Link:
    """`call` sends one packed command and gives its reply; `script` is loaded at each connection and when it is missing."""

    def __init__(self, url: str, script: str, deadline_s: float) -> None:
        self.sha = sha1(script.encode(), usedforsecurity=False).hexdigest().encode()
        self._load = packed(b"SCRIPT", b"LOAD", script.encode())
        self._deadline_s = deadline_s
        self._pool = driver.ConnectionPool.from_url(url, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=None)
        self._pending: deque[_Call] = deque()
        self._woken = asyncio.Event()
        self._away: StoreAway | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect; calls that come meanwhile wait for it, no longer than their deadline."""
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name="limiter redis")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def call(self, command: bytes) -> Any:
        """The reply. Raises `StoreAway`."""
        if self._away is not None:
            raise StoreAway(self._away.reason)
        if len(self._pending) >= PENDING_MAX:
            raise StoreAway("overload")
        self.start()
        loop = asyncio.get_running_loop()
        waiting = _Call(command, loop.create_future(), loop.time())
        self._pending.append(waiting)
        self._woken.set()
        return await waiting.reply

    async def _serve(self) -> None:
        """Connects, serves until that fails, tells everybody, and connects again."""
        backoff = Backoff(0.05, RETRY_S)
        while True:
            connection: Any = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await self._connect(connection)
                self._away = None
                backoff.reset()
                while True:
                    self._woken.clear()
                    if not self._pending:
                        await self._woken.wait()
                    await self._exchange(connection)
            except asyncio.CancelledError:
                self._fail("stopped")
                raise
            except Exception as error:
                # Whatever it was, a new connection is tried: a limiter that is never heard of again would be worse.
                if self._away is None:
                    expected = isinstance(error, RedisError | OSError)
                    log.warning("the limiter's Redis is away: %s", error or "no answer", exc_info=not expected)
                self._fail(_reason(error))
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(backoff.next_s())

    async def _connect(self, connection: Any) -> None:
        connecting = asyncio.create_task(self._greet(connection))
        try:
            await asyncio.wait({connecting}, timeout=self._deadline_s / 2)
            if not connecting.done():
                self._fail("connecting")
            await connecting
        finally:
            connecting.cancel()

    async def _greet(self, connection: Any) -> None:
        async with asyncio.timeout(CONNECT_S):
            await connection.connect()
            await connection.send_packed_command([self._load])
            await connection.read_response()

    async def _exchange(self, connection: Any) -> None:
        """Sends what is waiting and reads the replies, in half the time that a call has: the other half it may have waited.

        An error of one command is its own, one of the link is everybody's.
        """
        batch = [self._pending.popleft() for _ in range(min(len(self._pending), BATCH_MAX))]
        late = asyncio.get_running_loop().time() - self._deadline_s / 2
        while (
            self._pending and self._pending[0].since < late
        ):  # more comes than Redis takes: who is too far back is told so
            self._pending.popleft().refuse("overload")
        talking = asyncio.create_task(self._talk(connection, batch))
        try:
            await asyncio.wait({talking}, timeout=self._deadline_s / 2)
            if not talking.done():
                # Perhaps it was this loop that was late: what has arrived meanwhile is read before Redis is blamed.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if not talking.done():
                raise TimeoutError
            talking.result()
        except BaseException as error:
            for call in batch:
                call.refuse(_reason(error))
            raise
        finally:
            talking.cancel()

    async def _talk(self, connection: Any, batch: list["_Call"]) -> None:
        unknown: list[_Call] = []
        demoted: ReadOnlyError | None = None
        await connection.send_packed_command([call.command for call in batch])
        for call in batch:
            try:
                call.answer(await connection.read_response(disable_decoding=True))
            except NoScriptError:
                unknown.append(call)
            except ReadOnlyError as error:
                demoted = error
                call.refuse("readonly")
            except ResponseError as error:
                log.warning("the limiter's Redis refused a decision: %s", error)
                call.refuse(_reason(error))
        if unknown:
            await connection.send_packed_command([self._load, *(call.command for call in unknown)])
            await connection.read_response()
            for call in unknown:
                call.answer(await connection.read_response(disable_decoding=True))
        if demoted is not None:
            raise demoted  # another server may be the primary now: the address is looked up again

    def _fail(self, reason: str) -> None:
        """The server is away: so says everyone who waits, and everyone who asks until it is back."""
        self._away = StoreAway(reason)
        while self._pending:
            self._pending.popleft().refuse(reason)


class _Call:
    __slots__ = ("command", "reply", "since")

    def __init__(self, command: bytes, reply: asyncio.Future[Any], since: float) -> None:
        self.command = command
        self.reply = reply
        self.since = since

    def answer(self, reply: Any) -> None:
        if not self.reply.done():  # whoever asked may have gone
            self.reply.set_result(reply)

    def refuse(self, reason: str) -> None:
        if not self.reply.done():
            self.reply.set_exception(StoreAway(reason))


def packed(*arguments: bytes) -> bytes:
    """A command in RESP, as it is sent."""
    return b"*%d\r\n" % len(arguments) + b"".join(map(bulk, arguments))


def bulk(argument: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%s\r\n" % (len(argument), argument)


def _reason(error: BaseException) -> str:
    """One word for metrics, from few."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ResponseError):
        known = ("oom", "readonly", "misconf", "loading", "busy", "noperm", "noauth", "clusterdown", "crossslot")
        text = f"{type(error).__name__} {error}".lower().replace("outofmemory", "oom ")
        return next((word for word in known if word in text), "refused")
    return "stopped" if isinstance(error, asyncio.CancelledError) else "unreachable"
