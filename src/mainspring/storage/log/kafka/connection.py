"""One client's connection: frames in, answers out in the order of their requests.

As in Kafka, a request begins when all before it have been answered; Produce alone runs ahead, for its records are placed when
it is read and only their durability is waited for. A client may send as much as it likes: what cannot begin waits here up to
a bound, then in the socket. So a client that does not read its answers, has five Produce requests unanswered, or is muted by a
quota, stops being read, and nobody else notices.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from mainspring.storage.log.kafka import codec
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.codec import Malformed
from mainspring.storage.log.kafka.frames import Frames
from mainspring.storage.log.kafka.quotas import REQUEST
from mainspring.storage.log.kafka.refusals import Disconnect, failure_code
from mainspring.storage.log.kafka.registry import ApiKey, Context, Entry, Later, Raw, table
from mainspring.storage.log.kafka.session import Session

_log = logging.getLogger(__name__)
_UNREAD_BYTES_MAX = 256 * 1024
_WRITTEN_BYTES_MAX = 1 << 20
_UNSUPPORTED_VERSION, _INVALID_REQUEST = 35, 42
_BEFORE_AUTHENTICATION = frozenset({ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE, ApiKey.SASL_AUTHENTICATE})
_UNAUTHENTICATED_BYTES_MAX = 524_288
"""As Kafka's `sasl.server.max.receive.size`: a stranger cannot make us hold more."""


class _Slot:
    """The place of one request in the order of answers: empty until its answer is there."""

    __slots__ = ("context", "done", "frame")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.done = False
        self.frame: Any = None


class Room(Protocol):
    """Counts the connections of a listener by their address."""

    def enter(self, connection: "Connection", address: str) -> bool: ...

    def leave(self, connection: "Connection", address: str) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """`shared` is the listener's receive memory."""

    __slots__ = (
        "_broker", "_busy_ns", "_clients", "_closing", "_frames", "_going", "_muted", "_paused", "_produces", "_room",
        "_session", "_slots", "_table", "_transport", "_unread", "_unread_bytes", "_writable", "active_ns",
    )  # fmt: skip

    def __init__(self, broker: Broker, room: "Room", shared: memoryview) -> None:
        self._broker = broker
        self._table: Mapping[int, Entry] = table()
        self._frames = Frames(shared, broker.settings.socket_request_bytes_max)
        self._room = room
        self._slots: deque[_Slot] = deque()
        self._unread: deque[memoryview] = deque()
        self._unread_bytes = 0
        self._produces = 0
        self._writable = True
        self._muted = False
        self._paused = False
        self._closing = False
        self._going = False
        self._busy_ns = 0
        self._clients: list[tuple[bytes, str | None]] = [(b"", None), (b"", None)]
        self.active_ns = broker.clock.mono_ns()

    # What the loop calls.

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        peer = transport.get_extra_info("peername") or ("127.0.0.1", 0)
        local = transport.get_extra_info("sockname") or ("127.0.0.1", 0)
        self._session = Session(peer[0], local[0], local[1])
        self._broker.security.greet(self._session, transport)
        if self._must_authenticate():
            self._frames.frame_bytes_max = min(self._frames.frame_bytes_max, _UNAUTHENTICATED_BYTES_MAX)
        transport.set_write_buffer_limits(high=_WRITTEN_BYTES_MAX)
        if not self._room.enter(self, self._session.address):
            self._closing = True
            transport.abort()
            return
        if wait_ms := self._broker.quotas.connection_wait_ms(self._session.address):
            self._mute(wait_ms)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._frames.room()

    def buffer_updated(self, nbytes: int) -> None:
        frames = self._frames.received(nbytes)
        if not frames:
            return
        self.active_ns = self._broker.clock.mono_ns()
        unread = self._unread
        unread.extend(frames)
        for frame in frames:
            self._unread_bytes += len(frame)
        self._go_on()

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        self._writable = False
        self._balance()

    def resume_writing(self) -> None:
        self._writable = True
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._unread.clear()
        self._slots.clear()
        self._room.leave(self, self._session.address)
        self._session.end()

    def go_away(self) -> None:
        """Closes once what runs is answered; asked by the listener when it stops."""
        self._close("")

    def look_after(self, idle_since_ns: int) -> None:
        """Cuts off a client that has been silent since, with nothing that it waits for."""
        if self.active_ns < idle_since_ns and not self._slots:
            self._transport.abort()

    # Requests.

    def _go_on(self) -> None:
        """Begins what may begin."""
        if self._going:
            return
        self._going = True
        try:
            unread = self._unread
            while unread and self._writable and not self._muted and not self._closing:
                frame = unread[0]
                if self._slots and not self._runs_ahead(frame):
                    break
                unread.popleft()
                self._unread_bytes -= len(frame)
                self._begin(frame)
        except (Malformed, Disconnect) as error:
            self._close(str(error))
        finally:
            self._going = False
        self._balance()

    def _balance(self) -> None:
        """Reads on, or not."""
        crowded = self._unread_bytes > _UNREAD_BYTES_MAX or self._produces >= self._broker.settings.produces_ahead_max
        pause = crowded or self._muted or self._closing or not self._writable
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _mute(self, throttle_ms: int) -> None:
        self._muted = True
        asyncio.get_running_loop().call_later(throttle_ms / 1000, self._unmute)

    def _unmute(self) -> None:
        self._muted = False
        if not self._transport.is_closing():
            self._go_on()

    def _close(self, reason: str) -> None:
        """Begins nothing more, and closes once what runs is answered."""
        if reason:
            _log.info("closing the connection of %s: %s", self._session.address, reason)
        self._closing = True
        self._unread.clear()
        self._unread_bytes = 0
        if not self._slots:
            self._transport.close()

    def _runs_ahead(self, frame: memoryview) -> bool:
        """Whether a request may begin beside others: a Produce behind nothing but Produce."""
        return len(frame) > 1 and not (frame[0] or frame[1]) and self._produces == len(self._slots)

    def _begin(self, frame: memoryview) -> None:
        if self._session.raw_login and self._session.login is not None:
            self._begin_raw(frame)
            return
        key, version, correlation_id = codec.header(frame)
        entry = self._table.get(key)
        if entry is None:
            raise Disconnect(f"no such key: {key}")
        if self._must_authenticate() and key not in _BEFORE_AUTHENTICATION:
            raise Disconnect(f"{entry.key.name} before authentication")
        context = Context(self._broker, self._session, key, version, correlation_id, None)
        if version not in entry.versions:
            self._refuse_version(entry, context, frame)
            return
        try:
            context.client_id, at = self._client(frame, codec.is_flexible(key, version))
            request = Raw(frame, at) if entry.raw else codec.read(key, version, frame, at)
        except Malformed as malformed:
            self._refuse_malformed(context, malformed)
            return
        self._broker.counted(entry.key)
        if self._broker.quotas.limited:
            self._charge(context)
        slot = _Slot(context)
        self._slots.append(slot)
        if key == ApiKey.PRODUCE:
            self._produces += 1
        begun_ns = self._broker.clock.mono_ns() if self._broker.quotas.limited else 0
        try:
            answer = entry.handler(request, context)
        except (Malformed, Disconnect):
            self._slots.pop()
            raise
        except Exception as error:
            self._failed(slot, error)
            return
        if begun_ns:
            self._busy_ns = self._broker.clock.mono_ns() - begun_ns
        self._await(slot, answer)

    def _client(self, frame: memoryview, flexible: bool) -> tuple[str | None, int]:
        """The client's id, and where the body begins; a client says the same in every request, so it is read once."""
        head, client_id = self._clients[flexible]
        at = 8 + len(head)
        if head and frame[8:at] == head:
            return client_id, at
        client_id, at = codec.client(frame, flexible=flexible)
        self._clients[flexible] = bytes(frame[8:at]), client_id
        return client_id, at

    def _charge(self, context: Context) -> None:
        """Counts the time that the request before took of our loop, in percents of a second."""
        percents = self._busy_ns / 10_000_000
        context.throttle_ms = self._broker.quotas.charge(REQUEST, context.principal, context.client_id, percents)

    def _begin_raw(self, frame: memoryview) -> None:
        """A message of a login that began with version 0 of SaslHandshake: it has no header, and neither has its answer."""
        from mainspring.storage.log.kafka.sasl_keys import raw_answer

        context = Context(self._broker, self._session, ApiKey.SASL_AUTHENTICATE, 0, 0, None)
        slot = _Slot(context)
        self._slots.append(slot)
        self._await(slot, raw_answer(bytes(frame), context))

    def _await(self, slot: _Slot, answer: Any) -> None:
        if isinstance(answer, Later):
            answer.then = lambda value: self._answered(slot, value)
        elif isinstance(answer, Awaitable):
            task = asyncio.ensure_future(answer)
            task.add_done_callback(lambda done: self._finished(slot, done))
        else:
            self._answered(slot, answer)

    def _must_authenticate(self) -> bool:
        session = self._session
        if session.expires_ns is not None and self._broker.clock.mono_ns() >= session.expires_ns:
            session.authenticated = False
            return True
        return self._broker.settings.authentication and not session.authenticated

    def _refuse_version(self, entry: Entry, context: Context, frame: memoryview) -> None:
        """Says UNSUPPORTED_VERSION where the client can read it: ApiVersions in version 0, others in the nearest version
        that has an error code at its top."""
        nearest = max(min(context.api_version, entry.versions[-1]), entry.versions[0])
        asked, context.api_version = context.api_version, nearest
        if entry.refuse is not None:
            answer = entry.refuse(frame, asked, context)
        elif "error_code" in codec.answer_names(context.api_key, nearest):
            answer = {"error_code": _UNSUPPORTED_VERSION}
        else:
            raise Disconnect(f"{entry.key.name} has no version {asked}")
        slot = _Slot(context)
        self._slots.append(slot)
        self._answered(slot, answer)

    def _refuse_malformed(self, context: Context, malformed: Malformed) -> None:
        """Says INVALID_REQUEST where the client can read it; nothing after such a request is trusted."""
        if "error_code" not in codec.answer_names(context.api_key, context.api_version):
            raise malformed
        context.then_close = True
        slot = _Slot(context)
        self._slots.append(slot)
        self._answered(slot, {"error_code": _INVALID_REQUEST})

    # Answers.

    def _finished(self, slot: _Slot, done: "asyncio.Future[Any]") -> None:
        if done.cancelled():
            self._slots.clear()
            self._close("a request was cancelled, since we stop")
        elif error := done.exception():
            self._failed(slot, error)
        else:
            self._answered(slot, done.result())

    def _failed(self, slot: _Slot, error: BaseException) -> None:
        context = slot.context
        code = failure_code(error)
        if code is None:
            if isinstance(error, Malformed | Disconnect):
                self._close(str(error))
                return
            _log.error("%s failed", ApiKey(context.api_key).name, exc_info=error)
            code = -1
        if "error_code" in codec.answer_names(context.api_key, context.api_version):
            self._answered(slot, {"error_code": code})
        else:
            self._close(f"{ApiKey(context.api_key).name} could not be answered: {error}")

    def _answered(self, slot: _Slot, answer: Any) -> None:
        if isinstance(answer, dict):
            context = slot.context
            answer.setdefault("throttle_time_ms", context.throttle_ms)
            answer = codec.answer(context.api_key, context.api_version, context.correlation_id, answer)
        slot.frame = answer
        slot.done = True
        slots = self._slots
        if not slots or slots[0] is not slot:
            return
        transport = self._transport
        while slots and slots[0].done:
            first = slots.popleft()
            context = first.context
            if context.api_key == ApiKey.PRODUCE and self._produces:
                self._produces -= 1
            if first.frame is not None and not transport.is_closing():
                if isinstance(first.frame, list):
                    transport.writelines(first.frame)
                else:
                    transport.write(first.frame)
            if context.api_key == ApiKey.SASL_AUTHENTICATE and self._session.authenticated:
                self._frames.frame_bytes_max = self._broker.settings.socket_request_bytes_max
            if context.throttle_ms:
                self._mute(context.throttle_ms)
            if context.then_close:
                self._close("")
        if self._closing and not slots:
            transport.close()
        elif not self._going:
            self._go_on()
