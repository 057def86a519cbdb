"""What must hold of a store whatever happened: every reference is counted, and nothing lies beside the rows."""

from pathlib import Path

from sqlalchemy import select

from mainspring.core.ports import Connection
from mainspring.storage.objects import Objects, references
from mainspring.storage.objects.erasure import CODEC_BYTES, shard_length
from mainspring.storage.objects.extents import extent_bytes
from mainspring.storage.objects.model import stripe_lengths
from mainspring.storage.objects.tables import part, stripe, version


def references_found(connection: Connection) -> tuple[dict[int, int], dict[int, int]]:
    """Live bytes of each stripe, as its row says and as counted from everything that refers to it."""
    told = {row[0]: row[1] for row in connection.execute(select(stripe.c.id, stripe.c.live)).all()}
    counted: dict[int, int] = {}
    for statement in (select(version.c.pieces), select(part.c.pieces)):
        for (pieces,) in connection.execute(statement).all():
            for id, length in stripe_lengths(pieces):
                counted[id] = counted.get(id, 0) + length
    return told, counted


async def assert_consistent(objects: Objects) -> None:
    """Counts all references; reclaims, and then looks for a byte that no row accounts for in the segments that were noted
    as being written. (In others there may be dead bytes of what was deleted, which compaction has an eye on.)"""
    told, counted = await objects.database.read(references_found)
    assert told == counted
    noted = set(await objects.database.read(references.begun_segments))
    for _ in range(2):  # what is sealed because something in it is nobody's is cleared by the next
        await objects.upkeep.compaction.reclaim()
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    rows = await objects.database.read(references.stripes_after, 0, 100_000)
    for one, _ in rows:
        size = extent_bytes(shard_length(one.size, one.k), CODEC_BYTES if one.m else 0)
        for place in one.places:
            if place is not None:
                spans.setdefault((place.disk, place.segment), []).append((place.offset, size))
    for disk in objects.engine.store.disks.values():
        for segment in disk.segments.values():
            if segment.sealed and (disk.id, segment.number) in noted:
                assert_nothing_beside(segment.path, sorted(spans.get((disk.id, segment.number), [])))


def assert_nothing_beside(path: Path, spans: list[tuple[int, int]]) -> None:
    data, at = path.read_bytes(), 0
    for offset, length in [*spans, (len(data), 0)]:
        assert not any(data[at:offset]), f"{path} holds an orphan between {at} and {offset}"
        at = offset + length
