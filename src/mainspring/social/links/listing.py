"""Finding links: one statement for every combination of filters, compiled once for each order.

A filter that is not used is switched off by its own parameter, so that no SQL is ever put together from a request.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from mainspring.core.database import Int64, Text
from mainspring.core.ports import Connection
from mainspring.social.links.model import Link, State
from mainspring.social.links.store import ALL_TIME, COLUMNS, link_of
from mainspring.social.links.tables import link, rollup, tag

Order = Literal["created", "code", "target", "title", "clicks", "humans"]
FAR_US = (1 << 62) - 1


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which links: all of what is given must be true of one. Deleted links are never found.

    `text` stands somewhere in code, target, title or tags; with `every_tag` a link has all of `tags`, else any; `without`
    likewise takes links away; `unspent` ones have visits left, `valid_at_us` ones are valid then.
    """

    text: str = ""
    tags: tuple[str, ...] = ()
    every_tag: bool = False
    without: tuple[str, ...] = ()
    without_every: bool = False
    domain_id: int | None = None
    folder: str | None = None
    archived: bool | None = None
    owner: int | None = None
    since_us: int = 0
    until_us: int = FAR_US
    unspent: bool = False
    valid_at_us: int | None = None


def _on(name: str) -> Any:
    return sa.bindparam(name, type_=Int64) == 1


def _number(name: str) -> Any:
    return sa.bindparam(name, type_=Int64)


def _tags_among(name: str) -> Any:
    found = sa.select(sa.func.count()).where(
        tag.c.link_id == link.c.id, tag.c.tag.in_(sa.bindparam(name, expanding=True))
    )
    return found.scalar_subquery()


_text = sa.bindparam("text", type_=Text)
_found = sa.func.lower(sa.func.concat(link.c.code, " ", link.c.target, " ", link.c.title, " ", link.c.tags))
WHERE = sa.and_(
    link.c.state != State.deleted,
    sa.or_(_on("any_text"), _found.like(_text, escape="\\")),
    _tags_among("tags") >= _number("tags_min"),
    _tags_among("without") < _number("without_min"),
    sa.or_(_on("any_domain"), link.c.domain_id == _number("domain_id")),
    sa.or_(_on("any_folder"), link.c.folder == sa.bindparam("folder", type_=Text)),
    sa.or_(_on("any_archived"), link.c.archived == sa.bindparam("archived", type_=link.c.archived.type)),
    sa.or_(_on("any_owner"), link.c.owner == _number("owner")),
    link.c.created_us >= _number("since_us"),
    link.c.created_us < _number("until_us"),
    sa.or_(_on("any_left"), link.c.visits_left.is_(None), link.c.visits_left > 0),
    sa.or_(_on("any_time"), link.c.valid_until_us.is_(None), link.c.valid_until_us > _number("valid_at_us")),
)
COUNT = sa.select(sa.func.count()).select_from(link).where(WHERE)
AFTER = (
    sa.select(*COLUMNS)
    .where(WHERE, link.c.id < _number("before_id"))
    .order_by(link.c.id.desc())
    .limit(_number("limit"))
)

_clicks = rollup.alias()
_joined = link.outerjoin(
    _clicks, sa.and_(_clicks.c.scope == sa.literal("link:") + sa.cast(link.c.id, sa.Text()), _clicks.c.day == ALL_TIME)
)
_orders: dict[Order, Any] = {
    "created": link.c.id,
    "code": link.c.code,
    "target": link.c.target,
    "title": link.c.title,
    "clicks": sa.func.coalesce(_clicks.c.n, 0),
    "humans": sa.func.coalesce(_clicks.c.n - _clicks.c.bots, 0),
}
PAGES: dict[tuple[Order, bool], Any] = {
    (order, down): sa.select(*COLUMNS)
    .select_from(_joined if order in ("clicks", "humans") else link)
    .where(WHERE)
    .order_by(key.desc() if down else key, link.c.id.desc() if down else link.c.id)
    .limit(_number("limit"))
    .offset(_number("offset"))
    for order, key in _orders.items()
    for down in (True, False)
}


def parameters(wanted: Filter) -> dict[str, Any]:
    escaped = wanted.text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return {
        "any_text": int(not wanted.text),
        "text": f"%{escaped}%",
        "tags": wanted.tags or ("",),
        "tags_min": (len(set(wanted.tags)) if wanted.every_tag else 1) if wanted.tags else 0,
        "without": wanted.without or ("",),
        "without_min": (len(set(wanted.without)) if wanted.without_every else 1) if wanted.without else 1,
        "any_domain": int(wanted.domain_id is None),
        "domain_id": wanted.domain_id or 0,
        "any_folder": int(wanted.folder is None),
        "folder": wanted.folder or "",
        "any_archived": int(wanted.archived is None),
        "archived": bool(wanted.archived),
        "any_owner": int(wanted.owner is None),
        "owner": wanted.owner or 0,
        "since_us": wanted.since_us,
        "until_us": wanted.until_us,
        "any_left": int(not wanted.unspent),
        "any_time": int(wanted.valid_at_us is None),
        "valid_at_us": wanted.valid_at_us or 0,
    }


def after(connection: Connection, wanted: Filter, before_id: int | None, limit: int) -> list[Link]:
    """The newest `limit` links older than `before_id`."""
    place = {"before_id": FAR_US if before_id is None else before_id, "limit": limit}
    return [link_of(row) for row in connection.execute(AFTER, parameters(wanted) | place)]


def page(
    connection: Connection, wanted: Filter, order: Order, down: bool, offset: int, limit: int
) -> tuple[Sequence[Link], int]:
    """One numbered page, and how many links there are on all of them."""
    asked = parameters(wanted)
    rows = connection.execute(PAGES[order, down], {**asked, "offset": offset, "limit": limit})
    return [link_of(row) for row in rows], int(connection.execute(COUNT, asked).scalar())
