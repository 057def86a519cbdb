"""Scrubbing: every shard is read again within a month, so that damage is found while there is still parity to mend it.

The walk goes over stripes in the order of their ids and remembers where it stands. It reads for at most a twentieth of the
time, and not faster than needed to come round once in `scrub_days`.
"""

import msgspec

from mainspring.core.ports import Connection, Database
from mainspring.storage.objects import references
from mainspring.storage.objects.healing import Healing
from mainspring.storage.objects.stripes import StripeStore

_STANDING = "scrub"


class Standing(msgspec.Struct):
    """How far a round has come, and what the last one found."""

    after: int = 0
    begun_us: int = 0
    stripes: int = 0
    shards: int = 0
    bad: int = 0
    last_begun_us: int = 0
    last_ended_us: int = 0
    last_shards: int = 0
    last_bad: int = 0


class Scrubbing:
    def __init__(self, store: StripeStore, database: Database, healing: Healing) -> None:
        self._store = store
        self._database = database
        self._healing = healing

    async def standing(self) -> Standing:
        return await self._database.read(_read)

    async def scrub(self, count: int, now_us: int) -> int:
        """Reads every shard of the next `count` stripes and queues the damaged ones; gives how many stripes were read. At
        the end of a round it gives 0, and the next call begins anew."""
        standing = await self._database.read(_read)
        if standing.begun_us == 0:
            standing.begun_us = now_us
        rows = await self._database.read(references.stripes_after, standing.after, count)
        for stripe, _ in rows:
            _, bad = await self._store.shards.fragments(stripe, len(stripe.places))
            standing.stripes += 1
            standing.shards += len(stripe.places)
            standing.bad += len(bad)
            if bad:
                self._healing.note(stripe, len(bad))
        if rows:
            standing.after = rows[-1][0].id
        else:
            standing = Standing(
                last_begun_us=standing.begun_us,
                last_ended_us=now_us,
                last_shards=standing.shards,
                last_bad=standing.bad,
            )
        await self._database.write(_write, standing)
        return len(rows)


def _read(connection: Connection) -> Standing:
    found = references.read_state(connection, _STANDING)
    return Standing() if found is None else msgspec.json.decode(found, type=Standing)


def _write(connection: Connection, standing: Standing) -> None:
    references.write_state(connection, _STANDING, msgspec.json.encode(standing))
