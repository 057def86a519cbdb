"""Charts: read from the sums of whole days, so that a year costs at most 366 rows however many clicks it had."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec
import sqlalchemy as sa

from mainspring.core.database import Int64
from mainspring.core.ports import Connection
from mainspring.social.links.rollups import DAY_US, decode_facets
from mainspring.social.links.store import ALL_TIME, sums
from mainspring.social.links.tables import batch, link, rollup, tag, visit

By = Literal["hour", "day", "month", "country", "city", "referrer", "browser", "os", "device", "language", "source"]

DAYS_MAX = 3_660
ROLLUPS = (
    sa.select(rollup.c.day, rollup.c.n, rollup.c.bots, rollup.c.facets)
    .where(rollup.c.scope == sa.bindparam("scope"))
    .where(rollup.c.day >= sa.bindparam("first"), rollup.c.day < sa.bindparam("end"), rollup.c.day != ALL_TIME)
    .order_by(rollup.c.day)
)
VISITORS = (
    sa.select(rollup.c.visitors)
    .where(rollup.c.scope == sa.bindparam("scope"), rollup.c.visitors.is_not(None))
    .where(rollup.c.day >= sa.bindparam("first"), rollup.c.day < sa.bindparam("end"))
)
DROP = sa.delete(rollup).where(rollup.c.scope == sa.bindparam("scope"))

VISIT_COLUMNS = tuple(column for column in visit.c)
_on = {
    name: sa.bindparam(name, type_=Int64)
    for name in ("any_link", "any_domain", "any_tag", "any_owner", "orphans", "humans_only")
}
VISITS_WHERE = sa.and_(
    sa.or_(_on["any_link"] == 1, visit.c.link_id == sa.bindparam("link_id", type_=Int64)),
    sa.or_(_on["any_domain"] == 1, visit.c.domain_id == sa.bindparam("domain_id", type_=Int64)),
    sa.or_(_on["any_tag"] == 1, visit.c.link_id.in_(sa.select(tag.c.link_id).where(tag.c.tag == sa.bindparam("tag")))),
    sa.or_(
        _on["any_owner"] == 1,
        visit.c.link_id.in_(sa.select(link.c.id).where(link.c.owner == sa.bindparam("owner", type_=Int64))),
    ),
    sa.case((visit.c.link_id.is_(None), 1), else_=0) == _on["orphans"],
    sa.or_(_on["humans_only"] == 0, sa.not_(visit.c.bot)),
    sa.or_(sa.bindparam("kind") == "", visit.c.kind == sa.bindparam("kind")),
    visit.c.at_us >= sa.bindparam("since_us", type_=Int64),
    visit.c.at_us < sa.bindparam("until_us", type_=Int64),
)
VISITS = (
    sa.select(*VISIT_COLUMNS, link.c.target)
    .select_from(visit.outerjoin(link, link.c.id == visit.c.link_id))
    .where(VISITS_WHERE)
    .order_by(visit.c.at_us.desc(), visit.c.id.desc())
    .limit(sa.bindparam("limit", type_=Int64))
    .offset(sa.bindparam("offset", type_=Int64))
)
COUNT_VISITS = sa.select(sa.func.count()).select_from(visit).where(VISITS_WHERE)
DROP_ROWS_MAX = 2_000


def _dropping(condition: sa.ColumnElement[bool]) -> sa.Delete:
    return sa.delete(visit).where(visit.c.id.in_(sa.select(visit.c.id).where(condition).limit(DROP_ROWS_MAX)))


DROP_OF_LINK = _dropping(visit.c.link_id == sa.bindparam("link_id", type_=Int64))
DROP_ORPHANS = _dropping(visit.c.link_id.is_(None))
DROP_OLD = _dropping(visit.c.at_us < sa.bindparam("before_us", type_=Int64))
DROP_OLD_BATCHES = sa.delete(batch).where(batch.c.at_us < sa.bindparam("before_us"))


class Point(msgspec.Struct, frozen=True):
    """`key` is an instant's beginning (`2026-01-31T13`, `2026-01-31`, `2026-01`) or a value; empty where not known."""

    key: str
    clicks: int
    bots: int


class Series(msgspec.Struct, frozen=True):
    """Sums of a scope. `visitors` is an estimate of how many different people came, within 2 %."""

    clicks: int
    bots: int
    visitors: int
    points: list[Point]


class Visit(msgspec.Struct, frozen=True):
    id: int
    link_id: int | None
    domain_id: int
    at_us: int
    kind: str
    bot: bool
    path: str
    target: str | None
    referrer: str
    user_agent: str
    country: str
    city: str


class VisitFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which single visits; `orphans` led nowhere, all others led to a link."""

    link_id: int | None = None
    domain_id: int | None = None
    tag: str | None = None
    owner: int | None = None
    orphans: bool = False
    humans_only: bool = False
    kind: str = ""
    since_us: int = 0
    until_us: int = (1 << 62) - 1


def series(connection: Connection, scope: str, since_us: int, until_us: int, by: By) -> Series:
    """The sums of the days that [since, until) touches, by one dimension.

    Points in time come in order, without those that had nothing; values by their clicks, most first.
    """
    place = {"scope": scope, "first": since_us // DAY_US, "end": -(-until_us // DAY_US)}
    clicks = bots = 0
    values: dict[str, list[int]] = {}
    for day, n, automatic, packed in connection.execute(ROLLUPS, place):
        clicks += n
        bots += automatic
        date = datetime.fromtimestamp(day * 86_400, UTC)
        if by in ("day", "month"):
            found = {date.strftime("%Y-%m-%d" if by == "day" else "%Y-%m"): [n, automatic]}
        else:
            found = decode_facets(packed).get(by, {})
        for key, (some, of_bots) in found.items():
            if by == "hour":
                key = f"{date:%Y-%m-%d}T{int(key):02}"
            count = values.setdefault(key, [0, 0])
            count[0] += some
            count[1] += of_bots
    points = [Point(key, *count) for key, count in values.items()]
    if by in ("hour", "day", "month"):
        points.sort(key=lambda point: point.key)
    else:
        points.sort(key=lambda point: (-point.clicks, point.key))
    return Series(clicks, bots, _visitors(connection, place), points)


def visits(connection: Connection, wanted: VisitFilter, offset: int, limit: int) -> tuple[list[Visit], int]:
    """Single visits, newest first, as far as they are still kept, and how many there are."""
    asked = {
        "any_link": int(wanted.link_id is None),
        "link_id": wanted.link_id or 0,
        "any_domain": int(wanted.domain_id is None),
        "domain_id": wanted.domain_id or 0,
        "any_tag": int(wanted.tag is None),
        "tag": wanted.tag or "",
        "any_owner": int(wanted.owner is None),
        "owner": wanted.owner or 0,
        "orphans": int(wanted.orphans),
        "humans_only": int(wanted.humans_only),
        "kind": wanted.kind,
        "since_us": wanted.since_us,
        "until_us": wanted.until_us,
    }
    found = []
    for *row, current_target in connection.execute(VISITS, {**asked, "offset": offset, "limit": limit}):
        one = Visit(*row)
        # Where no rule chose, the visitor went to the link's own target.
        found.append(msgspec.structs.replace(one, target=one.target or current_target))
    return found, int(connection.execute(COUNT_VISITS, asked).scalar())


def drop_some(connection: Connection, link_id: int | None) -> int:
    """Deletes up to 2,000 visits of a link, or of orphans; gives how many it were."""
    statement = DROP_ORPHANS if link_id is None else DROP_OF_LINK
    return connection.execute(statement, {} if link_id is None else {"link_id": link_id}).rowcount


def drop_sums(connection: Connection, scopes: Sequence[str]) -> int:
    """Deletes the sums of these scopes and gives how many clicks the first had; what they were part of keeps them."""
    total = sums(connection, scopes[:1]).get(scopes[0], (0, 0))[0]
    for scope in scopes:
        connection.execute(DROP, {"scope": scope})
    return total


def sweep(connection: Connection, visits_before_us: int, batches_before_us: int) -> int:
    """Deletes up to 2,000 visits whose time is up, and notes of batches that nobody will deliver again."""
    connection.execute(DROP_OLD_BATCHES, {"before_us": batches_before_us})
    return connection.execute(DROP_OLD, {"before_us": visits_before_us}).rowcount


def _visitors(connection: Connection, place: dict[str, object]) -> int:
    sketches = [sketch for (sketch,) in connection.execute(VISITORS, place)]
    if not sketches:
        return 0
    import datasketches  # type: ignore[import-untyped]

    union = datasketches.hll_union(12)
    for sketch in sketches:
        union.update(datasketches.hll_sketch.deserialize(sketch))
    estimate: float = union.get_estimate()
    return round(estimate)
