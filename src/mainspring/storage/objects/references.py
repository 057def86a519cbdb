"""Rows of stripes: what was cut into shards, where they lie, and how many bytes of it anything still refers to.

Whoever refers to a piece adds its length to the stripe's `live`, in the transaction that makes the reference; whoever ends a
reference takes it away again. A stripe without references has no row, and its shards are dead bytes for compaction.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, insert, select, update

from mainspring.core.database import Int64
from mainspring.core.database import insert as upsert
from mainspring.core.ports import Connection
from mainspring.storage.objects.erasure import Profile
from mainspring.storage.objects.model import stripe_lengths
from mainspring.storage.objects.tables import intent, state, stripe
from mainspring.storage.objects.volumes import Place

_PLACE = struct.Struct("<III")
_RESERVED = "stripe ids reserved"

_INSERT = insert(stripe).values({name: bindparam(name) for name in ("id", "k", "m", "size", "live", "placement")})
_LOAD = select(stripe.c.id, stripe.c.k, stripe.c.m, stripe.c.size, stripe.c.placement).where(
    stripe.c.id == bindparam("stripe_id")
)
_AFTER = (
    select(stripe.c.id, stripe.c.k, stripe.c.m, stripe.c.size, stripe.c.placement, stripe.c.live)
    .where(stripe.c.id > bindparam("after", type_=Int64))
    .order_by(stripe.c.id)
    .limit(bindparam("count"))
)
_CHANGE = (
    update(stripe)
    .where(stripe.c.id == bindparam("stripe_id"))
    .values(live=stripe.c.live + bindparam("by", type_=Int64))
    .returning(stripe.c.live)
)
_DROP = delete(stripe).where(stripe.c.id == bindparam("stripe_id"))
_MOVE = (
    update(stripe)
    .where(stripe.c.id == bindparam("stripe_id"), stripe.c.placement == bindparam("before"))
    .values(k=bindparam("k"), m=bindparam("m"), placement=bindparam("after"))
)
_BEGIN = upsert(intent).values(disk=bindparam("disk"), segment=bindparam("segment")).on_conflict_do_nothing()
_INTENTS = select(intent.c.disk, intent.c.segment)
_END = delete(intent).where(intent.c.disk == bindparam("on_disk"), intent.c.segment == bindparam("of_segment"))
_STATE = select(state.c.value).where(state.c.name == bindparam("called"))
_SET_STATE = insert(state).values(name=bindparam("name"), value=bindparam("value"))
_CHANGE_STATE = update(state).where(state.c.name == bindparam("called")).values(value=bindparam("value"))


class Stripe(msgspec.Struct, frozen=True):
    """A payload of `size` bytes in k+m shards; `places[i]` says where shard i lies, None where it is nowhere now."""

    id: int
    k: int
    m: int
    size: int
    places: tuple[Place | None, ...]

    @property
    def profile(self) -> Profile:
        return Profile(self.k, self.m)


def pack_places(places: Iterable[Place | None]) -> bytes:
    return b"".join([_PLACE.pack(*(place or (0, 0, 0))) for place in places])


def unpack_stripe(id: int, k: int, m: int, size: int, placement: bytes) -> Stripe:
    places = tuple(Place(*fields) if fields[0] else None for fields in _PLACE.iter_unpack(placement))
    return Stripe(id, k, m, size, places)


def insert_stripe(connection: Connection, one: Stripe, live: int) -> None:
    """Adds the row of a stripe of which `live` bytes are referred to."""
    connection.execute(
        _INSERT,
        {"id": one.id, "k": one.k, "m": one.m, "size": one.size, "live": live, "placement": pack_places(one.places)},
    )


def load(connection: Connection, id: int) -> Stripe | None:
    row = connection.execute(_LOAD, {"stripe_id": id}).first()
    return None if row is None else unpack_stripe(*row)


def stripes_after(connection: Connection, after: int, count: int) -> list[tuple[Stripe, int]]:
    """The next `count` stripes in order of their ids, each with its live bytes."""
    rows = connection.execute(_AFTER, {"after": after, "count": count}).all()
    return [(unpack_stripe(*row[:5]), row[5]) for row in rows]


def refer(connection: Connection, pieces: bytes) -> bool:
    """Adds a reference to each of the pieces. Gives False where one of them has gone."""
    return all(
        connection.execute(_CHANGE, {"stripe_id": id, "by": length}).scalar() is not None
        for id, length in _by_stripe(pieces).items()
    )


def release(connection: Connection, pieces: bytes) -> None:
    """Takes a reference to each of the pieces away."""
    for id, length in _by_stripe(pieces).items():
        if connection.execute(_CHANGE, {"stripe_id": id, "by": -length}).scalar() == 0:
            connection.execute(_DROP, {"stripe_id": id})


def move(connection: Connection, before: Stripe, after: Stripe) -> bool:
    """Says where a stripe lies now. Gives False, changing nothing, where it has been moved or has gone meanwhile."""
    parameters: Mapping[str, Any] = {
        "stripe_id": before.id,
        "before": pack_places(before.places),
        "k": after.k,
        "m": after.m,
        "after": pack_places(after.places),
    }
    return connection.execute(_MOVE, parameters).rowcount == 1


def begin_segment(connection: Connection, disk: int, segment: int) -> None:
    """Notes that `segment` is about to be written: what is in it without a row is an orphan. It may have been noted by a
    process that died before it made the file."""
    connection.execute(_BEGIN, {"disk": disk, "segment": segment})


def begun_segments(connection: Connection) -> list[tuple[int, int]]:
    """(disk, segment) of every segment that may hold orphans."""
    return [(row[0], row[1]) for row in connection.execute(_INTENTS).all()]


def end_segment(connection: Connection, disk: int, segment: int) -> None:
    connection.execute(_END, {"on_disk": disk, "of_segment": segment})


def reserve_ids(connection: Connection, count: int) -> int:
    """The first of `count` stripe ids that nobody else gets."""
    first = int(read_state(connection, _RESERVED) or b"1")
    write_state(connection, _RESERVED, b"%d" % (first + count))
    return first


def read_state(connection: Connection, name: str) -> bytes | None:
    value: bytes | None = connection.execute(_STATE, {"called": name}).scalar()
    return value


def write_state(connection: Connection, name: str, value: bytes) -> None:
    if not connection.execute(_CHANGE_STATE, {"called": name, "value": value}).rowcount:
        connection.execute(_SET_STATE, {"name": name, "value": value})


def _by_stripe(pieces: bytes) -> dict[int, int]:
    lengths: dict[int, int] = {}
    for id, length in stripe_lengths(pieces):
        lengths[id] = lengths.get(id, 0) + length
    return lengths
