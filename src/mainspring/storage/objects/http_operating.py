"""The part of the JSON API that looks at the store itself: its disks, healing, scrubbing, usage, and events as they happen."""

from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta

from mainspring.core.accounts.caller import Caller
from mainspring.core.clock import Clock
from mainspring.core.http import Channel
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Database
from mainspring.core.problems import Conflict, Forbidden, NotFound
from mainspring.storage.objects import http_views as views
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.http_access import Name, may, routes
from mainspring.storage.objects.http_views import Disk, Heal, Scrubbed, Usage
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.service import Objects
from mainspring.storage.objects.watching import Watchers, watch


class EventsQuery(msgspec.Struct, frozen=True):
    bucket: Name
    prefix: Annotated[str, Meta(max_length=1_024)] = ""
    after: Annotated[int, Meta(ge=0, le=2**62)] | None = None


@routes.websocket("/events", problems=(ObjectsError, Forbidden))
async def watch_events(
    channel: Channel,
    query: EventsQuery,
    caller: Caller,
    door: Door,
    database: Database,
    log: OutboxLog,
    clock: Clock,
    watchers: Watchers,
) -> None:
    """What happens to the keys of a bucket, as it happens. `after` goes on from the `next` of an earlier message."""
    may_still = partial(may, door, caller, query.bucket, "s3:ListBucket")
    await may_still()
    await watch(channel, database, log, clock, watchers, query.bucket, query.prefix, query.after, may_still)


@routes.get("/disks")
async def disks(objects: Objects) -> list[Disk]:
    """Every directory that stands for a disk, with what it holds."""
    return [views.of_disk(one) for one in await objects.upkeep.disks()]


@routes.post("/disks/{disk}/drain", scope="objects:admin", problems=(NotFound, Conflict))
async def drain(disk: int, objects: Objects) -> list[Disk]:
    """Moves everything off a disk; what it holds is written elsewhere first."""
    known = {one.id: one.state for one in await objects.upkeep.disks()}
    if disk not in known:
        raise NotFound("There is no disk of this number")
    if not any(state == "live" for id, state in known.items() if id != disk):
        raise Conflict("What it holds would have nowhere to go: no other disk is live")
    await objects.upkeep.drain(disk)
    return [views.of_disk(one) for one in await objects.upkeep.disks()]


@routes.get("/heal")
async def heal_state(objects: Objects) -> Heal:
    """What waits to be healed, and what scrubbing has found."""
    return views.of_healing(objects.upkeep.healing, objects.engine.store)


@routes.post("/heal", scope="objects:admin")
async def heal(objects: Objects) -> Heal:
    """Looks at the disks and heals what is known to be damaged, now."""
    await objects.upkeep.look()
    await objects.upkeep.heal()
    return views.of_healing(objects.upkeep.healing, objects.engine.store)


@routes.post("/scrub", scope="objects:admin")
async def scrub(objects: Objects) -> Scrubbed:
    """Reads every shard again, now."""
    return views.of_standing(await objects.upkeep.scrub_all())


@routes.get("/usage")
async def usage(objects: Objects) -> Usage:
    """What is stored, and what of it is live."""
    return views.of_usage(await objects.upkeep.usage(), await objects.upkeep.disks())
