"""Which records of what was read a share group may give out now: none of an open or aborted transaction where it wants only
committed ones, and none before the time that its header `mainspring-deliver-at` names.

The header holds milliseconds UTC as a decimal number. A record waits at most `share_delay_ms_max` from its own time on; a
header that cannot be read delays nothing. Records that wait take room in the window of those in flight, as locked ones do.
"""

from collections.abc import Sequence

import msgspec

from mainspring.storage.log.codecs import Codec
from mainspring.storage.log.errors import CorruptBatch, UnsupportedCompression
from mainspring.storage.log.records import Batch, Control, batches_in, marker_in, records_in

DELIVER_AT = "mainspring-deliver-at"
_DELIVER_AT = DELIVER_AT.encode()


class Offered(msgspec.Struct, frozen=True):
    """A batch, where it stands in the data. `delays`: wall milliseconds before which a record is not to be given out."""

    first: int
    last: int
    begins: int
    ends: int
    aborted: bool = False
    delays: dict[int, int] = {}


def offered(data: bytes, aborted: Sequence[tuple[int, int]], now_wall_ms: int, delay_ms_max: int) -> list[Offered]:
    """The batches of `data`. `aborted` are (producer id, first offset) of the transactions whose records are nobody's."""
    found: list[Offered] = []
    to_come, skipped = sorted(aborted, key=lambda one: one[1], reverse=True), set[int]()
    for at, batch in batches_in(data):
        while to_come and to_come[-1][1] <= batch.last_offset:
            skipped.add(to_come.pop()[0])
        is_aborted = not batch.control and batch.transactional and batch.producer_id in skipped
        if batch.control:
            said = marker_in(data, at, batch)
            if said is not None and said[0] is Control.ABORT:
                skipped.discard(batch.producer_id)
        delays = {} if batch.control or is_aborted else _delays(data, at, batch, now_wall_ms, delay_ms_max)
        end = at + batch.size_bytes
        found.append(Offered(batch.base_offset, batch.last_offset, at, end, is_aborted, delays))
    return found


def _delays(data: bytes, at: int, batch: Batch, now_wall_ms: int, delay_ms_max: int) -> dict[int, int]:
    end = at + batch.size_bytes
    if batch.codec is Codec.NONE and data.find(_DELIVER_AT, at, end) < 0:
        return {}
    delays: dict[int, int] = {}
    try:
        for record in records_in(memoryview(data)[at:end]):
            for name, value in record.headers:
                if name == DELIVER_AT and value is not None and value.isdigit() and len(value) <= 19:
                    due_ms = min(int(value), record.timestamp_ms + delay_ms_max)
                    if due_ms > now_wall_ms:
                        delays[record.offset] = due_ms
    except (CorruptBatch, UnsupportedCompression):
        return {}  # whoever gets it finds out, and rejects it
    return delays
