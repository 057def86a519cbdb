"""The newest events of a database that one process alone writes, in memory.

Whoever follows the outbox is usually one commit behind it, so that what it wants next is what has just been committed: to
take it from here costs a list's slice, to select it a good part of what it cost to insert it. Who is further behind than
this reaches reads the rows.
"""

from collections.abc import Collection, Sequence

import msgspec

from mainspring.core.database.sqlite_events import Event
from mainspring.core.ports import Record

EVENTS_MAX = 4096
BYTES_MAX = 4 << 20
"""Roughly, of keys, values and headers; what passes either bound goes, the older half at once."""

_headers_of = msgspec.msgpack.Decoder(tuple[tuple[str, bytes], ...]).decode


class Recent:
    """Records without a gap up to the newest committed one. Belongs to the event loop."""

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._next: int | None = None
        """The offset after the newest record's; None before the first commit, when it is not known."""
        self._size_bytes = 0

    def add(self, first: int | None, events: Sequence[Event]) -> None:
        """These were committed, with the offsets from `first` on; None where they have others."""
        if first is None or first != self._next:
            self._forget(len(self._records))
        if first is None:
            self._next = None
            return
        records = [
            Record(topic, 0, offset, key, value, () if headers is None else _headers_of(headers), at_us)
            for offset, (topic, key, value, headers, at_us) in enumerate(events, first)
        ]
        self._records += records
        self._size_bytes += sum(map(_size_bytes, records))
        self._next = first + len(events)
        while len(self._records) > EVENTS_MAX or self._size_bytes > BYTES_MAX:
            self._forget(-(-len(self._records) // 2))

    def after(
        self, offset: int, records_max: int, topics: Collection[str] | None = None
    ) -> tuple[list[Record], int] | None:
        """See `Database.recent_events`."""
        if self._next is None:
            return None
        place = offset + 1 - (self._next - len(self._records))
        if place < 0:
            return None
        if topics is None:
            return self._records[place : place + records_max], self._next - 1
        found = []
        for record in self._records[place:]:
            if record.topic in topics:
                found.append(record)
                if len(found) >= records_max:
                    break
        return found, self._next - 1

    def _forget(self, count: int) -> None:
        self._size_bytes -= sum(map(_size_bytes, self._records[:count]))
        del self._records[:count]


def _size_bytes(record: Record) -> int:
    headers_bytes = sum(len(name) + len(value) for name, value in record.headers) if record.headers else 0
    return len(record.value) + (0 if record.key is None else len(record.key)) + headers_bytes
