"""Clicks folded into sums: what makes a chart cost its days and not its clicks.

Each click counts for its link, its link's domain, owner and tags, and for all; one that led nowhere counts as an orphan. A
scope has one row a day with the sums of every dimension and a sketch of its visitors (HyperLogLog, Flajolet et al. 2007).
A batch is folded in one transaction with the note that it was, so that it counts once however often it is delivered, and
in any order, because sums commute.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from mainspring.core.ports import Connection
from mainspring.social.links.clicks import Batch, Click
from mainspring.social.links.store import ALL_TIME
from mainspring.social.links.tables import batch, link, rollup, visit
from mainspring.social.links.targets import host_of
from mainspring.social.links.visitors import Visitors, languages, pseudonym

DAY_US = 86_400_000_000
KEYS_MAX = 500
"""Keys that one dimension of one row may have; what comes later counts as `(other)`."""
LG_K = 12

Facets = dict[str, dict[str, list[int]]]
"""{dimension: {key: [clicks, of them bots]}}"""

NOTE_BATCH = (
    insert(batch)
    .values({c.name: sa.bindparam(c.name) for c in batch.c})
    .on_conflict_do_nothing()
    .returning(batch.c.sequence)
)
LINKS = sa.select(link.c.code, link.c.id, link.c.owner, link.c.tags).where(
    link.c.domain_id == sa.bindparam("domain_id"), link.c.code.in_(sa.bindparam("codes", expanding=True))
)
GET = sa.select(rollup.c.n, rollup.c.bots, rollup.c.facets, rollup.c.visitors).where(
    rollup.c.scope == sa.bindparam("scope"), rollup.c.day == sa.bindparam("day")
)
PUT = insert(rollup).values({c.name: sa.bindparam(c.name) for c in rollup.c})
PUT = PUT.on_conflict_do_update(
    index_elements=["scope", "day"], set_={name: PUT.excluded[name] for name in ("n", "bots", "facets", "visitors")}
)
ADD_VISIT = sa.insert(visit)

encode_facets = msgspec.msgpack.Encoder().encode
decode_facets = msgspec.msgpack.Decoder(Facets).decode

Seen = tuple[int, tuple[str, ...], bool]
"""Day, the values of all dimensions in the order of `DIMENSIONS`, whether it is a bot: what clicks have in common."""

FOLLOWED = ("click", "qr")
"""The kinds of click that led somewhere; all others are orphans, whatever has been made at their code since."""

DIMENSIONS = ("hour", "country", "city", "referrer", "browser", "os", "device", "language", "source")


class Sum:
    """What one scope gains."""

    __slots__ = ("seen", "visitors")

    def __init__(self) -> None:
        self.seen: Counter[Seen] = Counter()
        self.visitors: dict[int, set[bytes]] = defaultdict(set)

    def add(self, other: "Sum") -> None:
        self.seen.update(other.seen)
        for day, visitors in other.visitors.items():
            self.visitors[day] |= visitors


class Reading(msgspec.Struct, frozen=True):
    """A click with what could be found out of it."""

    click: Click
    seen: Seen
    country: str
    city: str
    visitor: bytes | None


def read(click: Click, visitors: Visitors, key: bytes) -> Reading:
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
    visitor = None if agent.bot else pseudonym(key, click.address, click.user_agent)
    return Reading(click, (day, values, agent.bot), place.country, place.city, visitor)


def fold(
    connection: Connection,
    batches: Sequence[tuple[Batch, Sequence[Reading]]],
    visit_ids: Iterable[int],
    url: Callable[[int, str], str],
    at_us: int,
    *,
    keep_visits: bool,
) -> list[tuple[int | None, int]]:
    """Adds the batches that were not added before; gives (link id, clicks) of what was, None for orphans."""
    news = [
        reading
        for one, readings in batches
        if connection.execute(NOTE_BATCH, {"node": one.node, "sequence": one.sequence, "at_us": at_us}).first()
        for reading in readings
    ]
    if not news:
        return []
    links = _links(connection, news)
    sums: dict[tuple[int, str], Sum] = defaultdict(Sum)
    rows: list[dict[str, Any]] = []
    for reading, visit_id in zip(news, visit_ids, strict=False):
        click = reading.click
        known = links.get((click.domain_id, click.code)) if click.kind in FOLLOWED else None
        gained = sums[click.domain_id, "" if known is None else click.code]
        gained.seen[reading.seen] += 1
        if reading.visitor is not None:
            gained.visitors[reading.seen[0]].add(reading.visitor)
        if keep_visits:
            rows.append(_row(visit_id, reading, None if known is None else known[0], url))
    if rows:
        connection.execute_many(ADD_VISIT, rows)
    scopes: dict[str, Sum] = defaultdict(Sum)
    counts: list[tuple[int | None, int]] = []
    for (domain_id, code), gained in sums.items():
        known = links.get((domain_id, code))
        counts.append((None if known is None else known[0], gained.seen.total()))
        for scope in _scopes(domain_id, known):
            scopes[scope].add(gained)
    for scope in sorted(scopes):
        _put(connection, scope, scopes[scope])
    return counts


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


def _row(id: int, reading: Reading, link_id: int | None, url: Callable[[int, str], str]) -> dict[str, Any]:
    click = reading.click
    return {
        "id": id,
        "link_id": link_id,
        "domain_id": click.domain_id,
        "at_us": click.at_us,
        "kind": click.kind,
        "bot": reading.seen[2],
        "url": url(click.domain_id, click.code),
        "target": click.target or None,
        "referrer": click.referrer,
        "user_agent": click.user_agent,
        "country": reading.country,
        "city": reading.city,
    }


def _put(connection: Connection, scope: str, gained: Sum) -> None:
    by_day: dict[int, list[tuple[Seen, int]]] = defaultdict(list)
    for seen, n in gained.seen.items():
        by_day[seen[0]].append((seen, n))
    total = bots = 0
    for day, counts in by_day.items():
        n = sum(count for _, count in counts)
        automatic = sum(count for seen, count in counts if seen[2])
        row = connection.execute(GET, {"scope": scope, "day": day}).first()
        known_n, known_bots, known_facets, known_visitors = row or (0, 0, None, None)
        facets = _add_facets({} if known_facets is None else decode_facets(known_facets), counts)
        connection.execute(
            PUT,
            {
                "scope": scope,
                "day": day,
                "n": known_n + n,
                "bots": known_bots + automatic,
                "facets": encode_facets(facets),
                "visitors": _add_visitors(known_visitors, gained.visitors.get(day)),
            },
        )
        total += n
        bots += automatic
    row = connection.execute(GET, {"scope": scope, "day": ALL_TIME}).first()
    known_n, known_bots = (row[0], row[1]) if row else (0, 0)
    sums = {"scope": scope, "day": ALL_TIME, "n": known_n + total, "bots": known_bots + bots}
    connection.execute(PUT, {**sums, "facets": b"\x80", "visitors": None})


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
