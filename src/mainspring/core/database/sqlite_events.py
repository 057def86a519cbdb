"""Events on their way into the outbox of a SQLite file.

A row takes a few microseconds as a statement of its own, and half of that as one of many: so `emit` notes an event, and what
one transaction has noted becomes rows together, at its end or before a statement that reads the outbox. Until then the rows
are missing from nobody's view, because the transaction is not committed.

The offsets are the numbers that SQLite gives the rows: one after the other, since one thread writes, and never again.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]

TABLE = "log_records"
COLUMNS = "topic, key, value, headers, at_us"
ROWS_AT_ONCE = 64
"""A statement for each power of two up to this one, so that a handful of them is prepared."""

NOTED_MAX = 1024
"""A function that emits more than this has them written while it runs."""

Event = tuple[str, bytes | None, bytes, bytes | None, int]
"""Topic, key, value, headers packed as in `log_records`, microseconds UTC."""

REFUSALS = (dbapi.Error, OverflowError, UnicodeEncodeError)
"""What the driver raises where a value is not one that can be stored, or the file does not take it."""

encode_headers = msgspec.msgpack.Encoder().encode


def _statement(rows: int) -> str:
    return f"INSERT INTO {TABLE} ({COLUMNS}) VALUES {', '.join(['(?, ?, ?, ?, ?)'] * rows)}"


_STATEMENTS = {1 << n: _statement(1 << n) for n in range(ROWS_AT_ONCE.bit_length())}


class Emitted:
    """What the running transaction has emitted. For the one thread that writes.

    `events` are all of them, in order. Once they are rows, `first` is the offset of the first one, and each of the others
    has the next one; it is None where rows were also put between them in another way.
    """

    def __init__(self, raw: Any) -> None:
        self.events: list[Event] = []
        self.first: int | None = None
        self._written = 0
        self._cursor = raw.cursor()
        self._execute: Callable[[str, Sequence[Any]], Any] = self._cursor.execute

    def begin(self) -> None:
        """A transaction begins."""
        self.events = []
        self._written = 0

    def emit(
        self, topic: str, value: bytes, key: bytes | None, headers: Sequence[tuple[str, bytes]], at_us: int
    ) -> None:
        if type(value) is not bytes:
            value = _fixed(value)
        if key is not None and type(key) is not bytes:
            key = _fixed(key)
        events = self.events
        events.append((topic, key, value, encode_headers(headers) if headers else None, at_us))
        if len(events) - self._written >= NOTED_MAX:
            self.write()

    def write(self) -> None:
        """Makes rows of what is none yet. Raises what the driver raises."""
        events, written = self.events, self._written
        while left := len(events) - written:
            rows = ROWS_AT_ONCE if left >= ROWS_AT_ONCE else 1 << (left.bit_length() - 1)
            self._execute(_STATEMENTS[rows], [*chain.from_iterable(events[written : written + rows])])
            first = self._cursor.lastrowid - rows + 1 - written
            if not written:
                self.first = first
            elif self.first != first:
                self.first = None
            self._written = written = written + rows

    def forget_after(self, count: int) -> None:
        """The transaction was rolled back to where it had emitted `count` events, all of them rows by then."""
        del self.events[count:]
        self._written = count


def _fixed(value: Any) -> Any:
    """Bytes that stay as they are, whatever becomes of a buffer that was given; what is no bytes is SQLite's to refuse."""
    return bytes(value) if isinstance(value, bytearray | memoryview) else value
