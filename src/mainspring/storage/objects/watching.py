"""Events of a bucket as they happen, for somebody who watches it over a WebSocket.

The outbox itself is the queue: a watcher is a place in it. It gets a message at most ten times a second, and the next only
when it has taken that one; so a watcher of any speed misses nothing while the events are kept, costs no memory, and holds up
nobody. Each message says where it ends, and a watcher that comes again goes on from there. Any node can be watched, whichever
writes.
"""

from collections.abc import Awaitable, Callable

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.http import Channel
from mainspring.core.outbox import OutboxLog, transactions
from mainspring.core.ports import Database, Record
from mainspring.storage.objects import events
from mainspring.wire import websocket
from mainspring.wire.websocket import Limits, open_channel

EVERY_S = 0.1
MESSAGE_EVENTS_MAX = 200
UNSENT_BYTES_MAX = 4 << 20
"""Room for one message: the next is made when this one is sent."""


class Seen(msgspec.Struct, frozen=True):
    """One event; `name` as S3 has it without its prefix, such as `ObjectCreated:Put`."""

    name: str
    key: str
    version: str
    size_bytes: int
    etag: str
    at_us: int


class Heard(msgspec.Struct, frozen=True):
    """What has happened. `next` is where to go on (`after`); `missed` says that events before these are not kept any more."""

    events: list[Seen]
    next: int
    missed: bool


class Watchers(websocket.Watchers):
    """Those of buckets."""


async def watch(
    channel: Channel,
    database: Database,
    log: OutboxLog,
    clock: Clock,
    watchers: Watchers,
    bucket: str,
    prefix: str,
    after: int | None,
    may_still: Callable[[], Awaitable[object]],
) -> None:
    """Serves one watcher of the keys that begin with `prefix` until it leaves, or until `may_still` raises a `Problem`,
    whose detail it is told. The first message, without events, says where it stands."""
    topics = [events.topic(bucket)]
    news, stop_following = log.follow(topics)
    try:
        async with open_channel(channel, Limits(unsent_bytes_max=UNSENT_BYTES_MAX)) as socket:
            if not await watchers.admit(socket):
                return
            try:
                place = (await database.read(transactions.mark)).after if after is None else after
                socket.send_json(Heard([], place, False))
                while True:
                    news.clear()
                    batch, complete, gap = await log.events_after(place, topics, MESSAGE_EVENTS_MAX)
                    place = batch[-1].offset if complete is None else complete
                    heard = [seen for record in batch if (seen := _seen(record)).key.startswith(prefix) and seen.key]
                    if heard or gap:
                        socket.send_json(Heard(heard, place, gap))
                        await socket.drain()
                    if complete is not None:
                        await news.wait()
                    await may_still()
                    await clock.sleep(EVERY_S)
            finally:
                watchers.leave()
    finally:
        stop_following()


def _seen(record: Record) -> Seen:
    event = events.decode(record.value)
    return Seen(event.name, event.key, event.version, event.size, event.etag, event.seq)
