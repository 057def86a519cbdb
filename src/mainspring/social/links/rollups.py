"""Clicks folded into sums: what makes a chart cost its days and not its clicks.

Each click counts for its link, its link's domain, owner and tags, and for all; one that led nowhere counts as an orphan. A
scope has one row a day with the sums of every dimension and a sketch of its visitors (HyperLogLog, Flajolet et al. 2007).
A batch is folded in one transaction with the note that it was, so that it counts once however often it is delivered, and
in any order, because sums commute.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core.database import insert
from mainspring.core.ports import Connection
from mainspring.social.links.clicks import Batch, Click
from mainspring.social.links.model import Link
from mainspring.social.links.store import ALL_TIME
from mainspring.social.links.tables import batch as batches
from mainspring.social.links.tables import link, rollup, visit
from mainspring.social.links.targets import host_of
from mainspring.social.links.visitors import Visitors, languages

DAY_US = 86_400_000_000
KEYS_MAX = 500
"""Keys that one dimension of one row may have; what comes later counts as `(other)`."""
LG_K = 12

Facets = dict[str, dict[str, list[int]]]
"""{dimension: {key: [clicks, of them bots]}}"""

NOTE_BATCH = (
    insert(batches)
    .values({c.name: sa.bindparam(c.name) for c in batches.c})
    .on_conflict_do_nothing()
    .returning(batches.c.sequence)
)
LINKS = sa.select(link.c.code, link.c.id, link.c.owner, link.c.tags).where(
    link.c.domain_id == sa.bindparam("domain_id"), link.c.code.in_(sa.bindparam("codes", expanding=True))
)
GET = sa.select(rollup.c.scope, rollup.c.n, rollup.c.bots, rollup.c.facets, rollup.c.visitors).where(
    rollup.c.day == sa.bindparam("day"), rollup.c.scope.in_(sa.bindparam("scopes", expanding=True))
)
_put = insert(rollup).values({c.name: sa.bindparam(c.name) for c in rollup.c})
PUT = _put.on_conflict_do_update(
    index_elements=["scope", "day"], set_={name: _put.excluded[name] for name in ("n", "bots", "facets", "visitors")}
)
ADD = _put.on_conflict_do_update(
    index_elements=["scope", "day"], set_={name: rollup.c[name] + _put.excluded[name] for name in ("n", "bots")}
)
ADD_VISIT = sa.insert(visit)

encode_facets = msgspec.msgpack.Encoder().encode
decode_facets = msgspec.msgpack.Decoder(Facets).decode

Seen = tuple[int, tuple[str, ...], bool]
"""Day, the values of all dimensions in the order of `DIMENSIONS`, whether it is a bot: what clicks have in common."""

FOLLOWED = ("click", "qr")
"""The kinds of click that led somewhere; all others are orphans, whatever has been made at their code since."""

DIMENSIONS = ("hour", "country", "city", "referrer", "browser", "os", "device", "language", "source")


class Gain:
    """What one scope gains."""

    __slots__ = ("seen", "visitors")

    def __init__(self) -> None:
        self.seen: dict[Seen, int] = {}
        self.visitors: dict[int, set[bytes]] = {}

    def add(self, other: "Gain") -> None:
        for seen, n in other.seen.items():
            self.seen[seen] = self.seen.get(seen, 0) + n
        for day, visitors in other.visitors.items():
            self.visitors.setdefault(day, set()).update(visitors)


class Reading(msgspec.Struct, frozen=True):
    """A click with what could be found out of it."""

    click: Click
    seen: Seen
    country: str
    city: str
    visitor: bytes | None


def read(click: Click, visitors: Visitors, pseudonym: Callable[[str, str], bytes]) -> Reading:
    """Reads a click; one of a private visitor says when, and no more."""
    day, hour = click.at_us // DAY_US, click.at_us % DAY_US // 3_600_000_000
    source = click.kind
    if click.private:
        return Reading(click, (day, (str(hour), *[""] * 7, source), False), "", "", None)
    agent, place = visitors.agent(click.user_agent), visitors.place(click.address)
    spoken = languages(click.language)
    referrer = host_of(click.referrer)[:255]
    who = (referrer, agent.browser, agent.os, agent.device, spoken[0] if spoken else "")
    values = (str(hour), place.country, place.city, *who, source)
    visitor = None if agent.bot else pseudonym(click.address, click.user_agent)
    return Reading(click, (day, values, agent.bot), place.country, place.city, visitor)


def fold(
    connection: Connection, batch: Batch, news: Sequence[Reading], visit_ids: Sequence[int], at_us: int
) -> list[tuple[int | None, int]]:
    """Adds a batch, read as `news`, unless it was added before; gives (link id, clicks), None for orphans.

    Each visit is listed under one of `visit_ids`; where there are none, none is.
    """
    noted = connection.execute(NOTE_BATCH, {"node": batch.node, "sequence": batch.sequence, "at_us": at_us})
    if noted.first() is None or not news:
        return []
    links = _links(connection, news)
    gains: dict[tuple[int, str], Gain] = defaultdict(Gain)
    rows: list[dict[str, Any]] = []
    for reading in news:
        click = reading.click
        known = links.get((click.domain_id, click.code)) if click.kind in FOLLOWED else None
        gain = gains[click.domain_id, "" if known is None else click.code]
        gain.seen[reading.seen] = gain.seen.get(reading.seen, 0) + 1
        if reading.visitor is not None:
            gain.visitors.setdefault(reading.seen[0], set()).add(reading.visitor)
        if visit_ids:
            rows.append(_row(visit_ids[len(rows)], reading, None if known is None else known[0]))
    if rows:
        connection.execute_many(ADD_VISIT, rows)
    scopes: dict[str, Gain] = defaultdict(Gain)
    counts: list[tuple[int | None, int]] = []
    for (domain_id, code), gain in gains.items():
        known = links.get((domain_id, code))
        counts.append((None if known is None else known[0], sum(gain.seen.values())))
        for scope in _scopes(domain_id, known):
            scopes[scope].add(gain)
    _store(connection, scopes)
    return counts


def credit(connection: Connection, made: Link, clicks: int) -> None:
    """Adds clicks that a link had elsewhere, on the day that it was made, to its sums and those of what it is part of."""
    gain = Gain()
    gain.seen[made.created_us // DAY_US, ("0", *[""] * 7, "import"), False] = clicks
    scopes = _scopes(made.domain_id, (made.id, made.owner, made.tags))
    _store(connection, dict.fromkeys(scopes, gain))


Known = tuple[int, int | None, Sequence[str]]


def _links(connection: Connection, news: Sequence[Reading]) -> dict[tuple[int, str], Known]:
    wanted: dict[int, set[str]] = defaultdict(set)
    for reading in news:
        if reading.click.kind in FOLLOWED:
            wanted[reading.click.domain_id].add(reading.click.code)
    return {
        (domain_id, code): (id, owner, tags or ())
        for domain_id, codes in wanted.items()
        for code, id, owner, tags in connection.execute(LINKS, {"domain_id": domain_id, "codes": sorted(codes)})
    }


def _scopes(domain_id: int, known: Known | None) -> list[str]:
    if known is None:
        return ["orphan", f"orphan:{domain_id}"]
    id, owner, tags = known
    owned = [] if owner is None else [f"owner:{owner}"]
    return ["all", f"link:{id}", f"domain:{domain_id}", *owned, *(f"tag:{tag}" for tag in tags)]


def _row(id: int, reading: Reading, link_id: int | None) -> dict[str, Any]:
    click = reading.click
    return {
        "id": id,
        "link_id": link_id,
        "domain_id": click.domain_id,
        "at_us": click.at_us,
        "kind": click.kind,
        "bot": reading.seen[2],
        "path": click.code,
        "target": click.target or None,
        "referrer": click.referrer,
        "user_agent": click.user_agent,
        "country": reading.country,
        "city": reading.city,
    }


def _store(connection: Connection, scopes: Mapping[str, Gain]) -> None:
    """Adds each scope's gain to its days and to its sums of all time, in the same order on every node."""
    days: dict[int, dict[str, list[tuple[Seen, int]]]] = defaultdict(lambda: defaultdict(list))
    sums = []
    for scope in sorted(scopes):
        n, bots = _count(scopes[scope].seen.items())
        sums.append({"scope": scope, "day": ALL_TIME, "n": n, "bots": bots, "facets": b"\x80", "visitors": None})
        for seen, some in scopes[scope].seen.items():
            days[seen[0]][scope].append((seen, some))
    for day, gained in sorted(days.items()):
        known = {row[0]: row[1:] for row in connection.execute(GET, {"day": day, "scopes": list(gained)})}
        rows = []
        for scope, counts in gained.items():
            n, bots, facets, visitors = known.get(scope, (0, 0, b"\x80", None))
            more, more_bots = _count(counts)
            row = {"scope": scope, "day": day, "n": n + more, "bots": bots + more_bots}
            row["facets"] = encode_facets(_add_facets(decode_facets(facets), counts))
            row["visitors"] = _add_visitors(visitors, scopes[scope].visitors.get(day))
            rows.append(row)
        connection.execute_many(PUT, rows)
    connection.execute_many(ADD, sums)


def _count(counts: Iterable[tuple[Seen, int]]) -> tuple[int, int]:
    n = bots = 0
    for seen, some in counts:
        n += some
        bots += some if seen[2] else 0
    return n, bots


def _add_facets(facets: Facets, counts: Sequence[tuple[Seen, int]]) -> Facets:
    for (_, values, bot), n in counts:
        for dimension, key in zip(DIMENSIONS, values, strict=True):
            keys = facets.setdefault(dimension, {})
            if key not in keys and len(keys) >= KEYS_MAX:
                key = "(other)"
            count = keys.setdefault(key, [0, 0])
            count[0] += n
            count[1] += n if bot else 0
    return facets


def _add_visitors(sketch: bytes | None, visitors: set[bytes] | None) -> bytes | None:
    if not visitors:
        return sketch
    import datasketches  # type: ignore[import-untyped]  # 200 ms the first time: `Links.fold` has loaded it in a thread

    hll = datasketches.hll_sketch
    known = hll(LG_K, datasketches.tgt_hll_type.HLL_4) if sketch is None else hll.deserialize(sketch)
    for visitor in visitors:
        known.update(int.from_bytes(visitor, "big", signed=True))
    return bytes(known.serialize_compact())
