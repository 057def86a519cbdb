"""`/api/ids`: mint any kind, read any id, number in bulk, see who holds which worker id, count in sequences."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mainspring.core.clock import Clock
from mainspring.core.http.routes import Routes
from mainspring.core.once import Once

from .chance import Chance
from .errors import (
    BadCount,
    BadName,
    BadPrefix,
    ClockBehind,
    LayoutTooNarrow,
    NotAnId,
    NotReserved,
    SequenceKind,
    TooFast,
    UnknownKind,
)
from .layouts import LAYOUTS
from .lease import Terms
from .parsing import Id, instant, parse, renderings
from .sequences import NUMBERS_MAX
from .service import Ids
from .setback import Outcome, Setback, play

MINT_MAX = 10_000
BLOCK_MAX = 1_000_000
KINDS = ("snowflake", *LAYOUTS, "uuid7", "ulid", "ksuid", "xid", "typeid", "nanoid")

# How many texts are made before others get their turn on the event loop: about a millisecond's worth.
_AT_ONCE = 500

_REFUSED = (TooFast, ClockBehind, NotReserved)

routes = Routes("ids")


def _count(most: int) -> Meta:
    # Anything is let in, because what is no count has a problem type of its own.
    return Meta(extra_json_schema={"type": "integer", "minimum": 1, "maximum": most}, description=f"1 to {most}")


def _one_of(names: Iterable[str]) -> Meta:
    # Any text is let in, because the answer to an unknown one lists those that there are.
    return Meta(extra_json_schema={"enum": list(names)})


class Wanted(msgspec.Struct, frozen=True):
    """What to mint. `prefix` is for TypeIDs."""

    kind: Annotated[str, _one_of(KINDS)]
    count: Annotated[Any, _count(MINT_MAX)] = 1
    prefix: Annotated[str, Meta(description="Of a TypeID: at most 63 letters a-z and _")] = ""


class Minted(msgspec.Struct, frozen=True):
    """Ids as text, in the order in which they were minted."""

    ids: list[str]


class BlockWanted(msgspec.Struct, frozen=True):
    count: Annotated[Any, _count(BLOCK_MAX)] = 1


class RunView(msgspec.Struct, frozen=True):
    """`count` ids: `first`, `first + step`, …"""

    first: str
    count: int


class Block(msgspec.Struct, frozen=True):
    """One run per millisecond, in rising order."""

    runs: list[RunView]
    step: int


class FieldView(msgspec.Struct, frozen=True):
    """Some bits of an id, from the high end; `value` is a whole number in decimal."""

    name: str
    bits: int
    value: str


class HolderView(msgspec.Struct, frozen=True):
    """A process that held a worker id, and the how-manieth holder of it this was."""

    holder: str
    fence: int


class IdView(msgspec.Struct, frozen=True):
    """An id taken apart. `time` is null where the kind has none or the year is past 9999; `time_us` is always exact.

    `minted_by` is the one process of this deployment that can have minted it, null where none can.
    """

    kind: str
    text: str
    value: str
    bits: int
    time: datetime | None
    time_us: str | None
    worker: int | None
    sequence: int | None
    prefix: str | None
    fields: list[FieldView]
    renderings: dict[str, str]
    minted_by: HolderView | None


class ReadQuery(msgspec.Struct, frozen=True):
    """`layout` says how to read 64 bits; without it as this deployment mints them."""

    layout: Annotated[str, _one_of(("", *LAYOUTS))] = ""


class WorkerView(msgspec.Struct, frozen=True):
    """A worker id. `reserved_at` is the end of its range; `age_ms` the time since its renewal, by this node's clock."""

    worker: int
    holder: str | None
    fence: int
    reserved_at: datetime | None
    renewed_at: datetime | None
    age_ms: int
    free: bool
    ours: bool


class WorkersView(msgspec.Struct, frozen=True):
    """Every worker id that was ever taken. `unready` says why this node cannot mint, null where it can."""

    workers: list[WorkerView]
    worker_max: int
    ours: int | None
    holder: str
    minted: str
    reserved_ms_left: int
    ahead_ms: int
    unready: str | None


class NumbersWanted(msgspec.Struct, frozen=True):
    count: Annotated[Any, _count(NUMBERS_MAX)] = 1


class Numbers(msgspec.Struct, frozen=True):
    """`count` numbers in a row from `first`."""

    name: str
    first: str
    count: int


@routes.post("", problems=(BadCount, UnknownKind, BadPrefix, LayoutTooNarrow, *_REFUSED))
async def mint(body: Wanted, ids: Ids) -> Minted:
    """Mints ids of any kind."""
    count = _checked(body.count, MINT_MAX)
    if body.kind == "snowflake":  # in the layout of this deployment
        return Minted([str(one) for one in ids.take(count)])
    if body.kind in LAYOUTS:
        return Minted([str(one) for one in ids.minter(body.kind).take(count)])
    calls: dict[str, Callable[[], object]] = {
        "uuid7": ids.uuid7,
        "ulid": ids.ulid,
        "ksuid": ids.ksuid,
        "xid": ids.xid,
        "typeid": lambda: ids.typeid(body.prefix),
        "nanoid": ids.nano,
    }
    call = calls.get(body.kind)
    if call is None:
        raise UnknownKind(body.kind, KINDS)
    texts: list[str] = []
    while len(texts) < count:
        texts += [str(call()) for _ in range(min(_AT_ONCE, count - len(texts)))]
        await asyncio.sleep(0)
    return Minted(texts)


@routes.post("/block", problems=(BadCount, *_REFUSED))
async def block(body: BlockWanted, ids: Ids) -> Block:
    """Mints ids for a client that numbers in bulk: one run per millisecond."""
    runs = ids.runs(_checked(body.count, BLOCK_MAX))
    return Block([RunView(str(first), count) for first, count in runs], ids.layout.step)


@routes.get("/workers")
async def workers(ids: Ids, clock: Clock) -> WorkersView:
    """Who holds which worker id, and how this node is doing."""
    rows = await ids.workers()
    now_ms = clock.wall_ns() // 1_000_000
    return WorkersView(
        workers=[
            WorkerView(
                worker=row.worker,
                holder=row.holder,
                fence=row.fence,
                reserved_at=instant(row.reserved_ms * 1000),
                renewed_at=instant(row.renewed_ms * 1000),
                age_ms=now_ms - row.renewed_ms,
                free=row.holder is None or now_ms - row.renewed_ms >= ids.settings.free_after_ms,
                ours=row.worker == ids.worker,
            )
            for row in rows
        ],
        worker_max=ids.layout.worker_max,
        ours=ids.worker,
        holder=ids.holder,
        minted=str(ids.minted),
        reserved_ms_left=ids.reserved_ms_left,
        ahead_ms=ids.ahead_ms,
        unready=ids.unready(),
    )


@routes.post("/simulate", scope="ids:read")
async def simulate(body: Setback, ids: Ids) -> Outcome:
    """Plays a minter whose clock is set back or forward, in virtual time; nothing real is minted."""
    terms = Terms(reserve_ms=ids.settings.reserve_ms, renew_ms=ids.settings.renew_ms)
    return play(body, terms, Chance())


@routes.post("/sequences/{name}", idempotent=True, problems=(BadCount, BadName, SequenceKind))
async def numbers(name: str, body: NumbersWanted | None, once: Once | None, ids: Ids) -> Numbers:
    """Takes the next numbers of a sequence, in a row."""
    count = _checked(body.count if body else 1, NUMBERS_MAX)
    taken = await ids.sequence(name).take(count, once)
    return Numbers(name, str(taken[0]), count)


@routes.get("/{text}", problems=(NotAnId, UnknownKind))
async def read(text: str, query: ReadQuery, ids: Ids) -> IdView:
    """Takes an id of any kind apart: what it is, when and by whom it was minted, and its other notations."""
    layout = query.layout or ids.settings.layout
    if layout not in LAYOUTS:
        raise UnknownKind(layout, LAYOUTS)
    one = parse(text, LAYOUTS[layout])
    return _view(one, await ids.minted_by(one))


def _checked(count: Any, most: int) -> int:
    if type(count) is not int or not 1 <= count <= most:
        raise BadCount(count, most)
    return count


def _view(one: Id, holder: tuple[str, int] | None) -> IdView:
    return IdView(
        kind=one.kind,
        text=one.text,
        value=str(one.value),
        bits=one.bits,
        time=one.time,
        time_us=None if one.at_us is None else str(one.at_us),
        worker=one.worker,
        sequence=one.sequence,
        prefix=one.prefix,
        fields=[FieldView(field.name, field.bits, str(field.value)) for field in one.fields],
        renderings=renderings(one),
        minted_by=HolderView(*holder) if holder else None,
    )
