"""The transactions of links: plain functions of a connection, each all or nothing."""

from collections.abc import Mapping, Sequence
from hashlib import blake2s
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core.database import Int64, insert, read_committed
from mainspring.core.ports import Connection
from mainspring.core.problems import PreconditionFailed
from mainspring.social.links.known import TOPIC, Change, encode_change
from mainspring.social.links.model import Link, State, UnknownLink
from mainspring.social.links.tables import history, link, report, rollup, secret, tag

COLUMNS = tuple(link.c[name] for name in Link.__struct_fields__)
ALL_TIME = -1
"""The `day` of the rollup that holds the sums of all days."""

VALUES: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in link.c}
INSERT = insert(link).values(VALUES).on_conflict_do_nothing()
"""Without RETURNING, which doubles what an insertion costs SQLite; the number of rows says whether the code was free."""
MAY_BE_NULL = tuple(column.name for column in link.c if column.nullable and column.name != "owner")
_terms = itemgetter(*MAY_BE_NULL)
NO_TERMS = (None,) * len(MAY_BE_NULL)
INSERT_PLAIN = (
    insert(link)
    .values({name: value for name, value in VALUES.items() if name not in MAY_BE_NULL})
    .on_conflict_do_nothing()
)
"""`INSERT` for a link without any of these terms, as most are: to bind their NULLs takes a seventh of its time."""
UPDATE = (
    sa.update(link)
    .values({name: value for name, value in VALUES.items() if name not in ("id", "domain_id", "code", "created_us")})
    .where(link.c.domain_id == sa.bindparam("at_domain"), link.c.code == sa.bindparam("at_code"))
)
BY_CODE = sa.select(*COLUMNS).where(link.c.domain_id == sa.bindparam("domain_id"), link.c.code == sa.bindparam("code"))
BY_ID = sa.select(*COLUMNS).where(link.c.id == sa.bindparam("id"))
SAME_TARGET = (
    sa.select(*COLUMNS)
    .where(link.c.target_hash == sa.bindparam("target_hash"), link.c.target == sa.bindparam("target"))
    .where(link.c.domain_id == sa.bindparam("domain_id"), link.c.state < State.disabled)
    .where(sa.func.coalesce(link.c.owner, -1) == sa.bindparam("owner"))
    .order_by(link.c.id.desc())
    .limit(20)
)
SPEND = (
    sa.update(link)
    .values(visits_left=link.c.visits_left - 1)
    .where(link.c.domain_id == sa.bindparam("domain_id"), link.c.code == sa.bindparam("code"), link.c.visits_left > 0)
    .returning(*COLUMNS)
)
ADD_TAG = insert(tag).values(tag=sa.bindparam("tag"), link_id=sa.bindparam("link_id")).on_conflict_do_nothing()
DROP_TAG = sa.delete(tag).where(tag.c.tag == sa.bindparam("tag"), tag.c.link_id == sa.bindparam("link_id"))
TAGGED = sa.select(tag.c.link_id).where(tag.c.tag == sa.bindparam("tag")).order_by(tag.c.link_id).limit(200)
TAGS = (
    sa.select(tag.c.tag, sa.func.count())
    .join(link, link.c.id == tag.c.link_id)
    .where(sa.or_(sa.bindparam("everyone", type_=Int64) == 1, link.c.owner == sa.bindparam("owner", type_=Int64)))
    .group_by(tag.c.tag)
    .order_by(tag.c.tag)
)
ADD_HISTORY = sa.insert(history)
HISTORY = (
    sa.select(history.c.version, history.c.at_us, history.c.actor, history.c.before)
    .where(history.c.link_id == sa.bindparam("link_id"))
    .order_by(history.c.version.desc())
    .limit(200)
)
MOVE_ROLLUPS = sa.update(rollup).values(scope=sa.bindparam("to")).where(rollup.c.scope == sa.bindparam("from"))
SUMS = sa.select(rollup.c.scope, rollup.c.n, rollup.c.bots).where(
    rollup.c.day == ALL_TIME, rollup.c.scope.in_(sa.bindparam("scopes", expanding=True))
)
CRAWLABLE = (
    sa.select(link.c.code)
    .where(link.c.domain_id == sa.bindparam("domain_id"), link.c.crawlable, link.c.state == State.active)
    .limit(5_000)
)
SECRETS = sa.select(secret.c.name, secret.c.value).where(
    secret.c.name >= sa.bindparam("prefix"), secret.c.name < sa.bindparam("end")
)
ADD_REPORT = (
    insert(report)
    .values({column.name: sa.bindparam(column.name) for column in report.c})
    .on_conflict_do_nothing()
    .returning(report.c.id)
)
REPORTS = sa.select(sa.func.count()).where(report.c.link_id == sa.bindparam("link_id"))


class Edit(msgspec.Struct, frozen=True):
    """`before` holds the values that the edit replaced, by field; a password is only named."""

    version: int
    at_us: int
    actor: str
    before: dict[str, Any]


def target_hash(target: str) -> int:
    return int.from_bytes(blake2s(target.encode()).digest()[:8], "big", signed=True)


def row_of(one: Link) -> dict[str, Any]:
    row = msgspec.structs.asdict(one)
    row["state"] = int(one.state)
    row["rules"] = one.rules or None
    row["tags"] = one.tags or None
    row["target_hash"] = target_hash(one.target)
    return row


def link_of(row: Sequence[Any]) -> Link:
    values = dict(zip(Link.__struct_fields__, row, strict=True))
    values["rules"] = values["rules"] or ()
    values["tags"] = values["tags"] or ()
    return msgspec.convert(values, Link)


def get(connection: Connection, domain_id: int, code: str) -> Link | None:
    row = connection.execute(BY_CODE, {"domain_id": domain_id, "code": code}).first()
    return None if row is None else link_of(row)


def get_by_id(connection: Connection, id: int) -> Link | None:
    row = connection.execute(BY_ID, {"id": id}).first()
    return None if row is None else link_of(row)


def create(connection: Connection, new: Link, codes: Sequence[str], find: bool = False) -> Link | None:
    """Stores `new` under the first of `codes` that is free; None where all are taken.

    With `find`, a link of the same owner that leads to the same target on the same terms is given instead.
    """
    if find and (known := _like(connection, new)) is not None:
        return known
    row = row_of(new)
    statement = INSERT_PLAIN if _terms(row) == NO_TERMS else INSERT
    for code in codes:
        row["code"] = code
        if connection.execute(statement, row).rowcount:
            break
    else:
        return None
    if new.tags:
        connection.execute_many(ADD_TAG, [{"tag": one, "link_id": new.id} for one in new.tags])
    connection.emit(TOPIC, encode_change(Change(new.domain_id, code, made=True)))
    return msgspec.structs.replace(new, code=code)


def _like(connection: Connection, wanted: Link) -> Link | None:
    parameters = {
        "target_hash": target_hash(wanted.target),
        "target": wanted.target,
        "domain_id": wanted.domain_id,
        "owner": -1 if wanted.owner is None else wanted.owner,
    }
    terms = ("tags", "valid_since_us", "valid_until_us", "max_visits", "rules")
    for row in connection.execute(SAME_TARGET, parameters):
        known = link_of(row)
        if wanted.code in ("", known.code) and all(getattr(known, name) == getattr(wanted, name) for name in terms):
            return known
    return None


def edit(
    connection: Connection, id: int, changes: Mapping[str, Any], actor: str, at_us: int, version: int | None
) -> Link:
    """Changes fields of a link and keeps what they were. Raises `UnknownLink`, and `PreconditionFailed` where it has another
    version than the caller has seen."""
    before = get_by_id(connection, id)
    if before is None or before.state is State.deleted:
        raise UnknownLink
    if version is not None and version != before.version:
        raise PreconditionFailed
    replaced = {name: getattr(before, name) for name, value in changes.items() if getattr(before, name) != value}
    if not replaced:
        return before
    after = msgspec.structs.replace(before, **changes, version=before.version + 1)
    if "max_visits" in replaced:
        used = 0 if before.visits_left is None else (before.max_visits or 0) - before.visits_left
        left = None if after.max_visits is None else max(0, after.max_visits - used)
        after = msgspec.structs.replace(after, visits_left=left)
    _update(connection, after)
    if before.tags != after.tags:
        connection.execute_many(DROP_TAG, [{"tag": one, "link_id": id} for one in set(before.tags) - set(after.tags)])
        connection.execute_many(ADD_TAG, [{"tag": one, "link_id": id} for one in set(after.tags) - set(before.tags)])
    if "password" in replaced:
        replaced["password"] = None
    connection.execute(
        ADD_HISTORY,
        {"link_id": id, "version": before.version, "at_us": at_us, "actor": actor, "before": replaced},
    )
    connection.emit(TOPIC, encode_change(Change(after.domain_id, after.code)))
    return after


@read_committed
def spend_visit(connection: Connection, domain_id: int, code: str) -> Link | None:
    """Takes one visit from a limited link and gives it as it is now; None where none is left."""
    row = connection.execute(SPEND, {"domain_id": domain_id, "code": code}).first()
    if row is None:
        return None
    spent = link_of(row)
    if spent.visits_left == 0:
        connection.emit(TOPIC, encode_change(Change(domain_id, code)))
    return spent


def edits(connection: Connection, id: int) -> list[Edit]:
    return [Edit(*row) for row in connection.execute(HISTORY, {"link_id": id})]


def tags(connection: Connection, owner: int | None) -> dict[str, int]:
    """Tags of the owner's links, or of all where None, with the number of links."""
    return dict(connection.execute(TAGS, {"everyone": int(owner is None), "owner": owner or 0}).all())


def retag(connection: Connection, old: str, new: str | None) -> int:
    """Renames `old` in up to 200 links, or takes it from them where `new` is None; gives how many had it."""
    ids = [id for (id,) in connection.execute(TAGGED, {"tag": old})]
    for id in ids:
        before = get_by_id(connection, id)
        assert before is not None, "a tag's link is never deleted"
        tags = tuple(dict.fromkeys(one for tag in before.tags if (one := new if tag == old else tag)))
        _update(connection, msgspec.structs.replace(before, tags=tags))
        connection.execute(DROP_TAG, {"tag": old, "link_id": id})
        if new is not None:
            connection.execute(ADD_TAG, {"tag": new, "link_id": id})
    return len(ids)


def move_sums(connection: Connection, old: str, new: str) -> None:
    connection.execute(MOVE_ROLLUPS, {"from": old, "to": new})


def _update(connection: Connection, after: Link) -> None:
    row = row_of(after)
    connection.execute(UPDATE, {**row, "at_domain": row.pop("domain_id"), "at_code": row.pop("code")})


def tag_exists(connection: Connection, name: str) -> bool:
    return connection.execute(TAGGED, {"tag": name}).first() is not None


def secrets(connection: Connection, prefix: str) -> list[tuple[str, bytes]]:
    rows = connection.execute(SECRETS, {"prefix": prefix, "end": prefix + "~"})
    return [(name, bytes(value)) for name, value in rows]


def crawlable(connection: Connection, domain_id: int) -> list[str]:
    return [code for (code,) in connection.execute(CRAWLABLE, {"domain_id": domain_id})]


def sums(connection: Connection, scopes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(clicks, of them bots) of all time for each scope that has any."""
    return {scope: (n, bots) for scope, n, bots in connection.execute(SUMS, {"scopes": list(scopes)})}


def add_report(
    connection: Connection, id: int, link_id: int, reporter: str, reason: str, at_us: int, reports_max: int
) -> None:
    """Notes a report, one for each reporter; with enough of them visitors of an active link are asked first."""
    row = {"id": id, "link_id": link_id, "at_us": at_us, "reporter": reporter, "reason": reason}
    if connection.execute(ADD_REPORT, row).first() is None:
        return
    reported = get_by_id(connection, link_id)
    enough = connection.execute(REPORTS, {"link_id": link_id}).scalar() >= reports_max
    if enough and reported is not None and reported.state is State.active:
        edit(connection, link_id, {"state": State.suspect}, "reports", at_us, None)
