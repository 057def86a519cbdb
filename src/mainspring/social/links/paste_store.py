"""The transactions of pastes: plain functions of a connection, each all or nothing.

A paste ends by its row: `ends_us` is in the past, or 0. Its bodies are deleted later, a mebibyte in a transaction (`drop`).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from mainspring.core.database import Int64, Text, insert, read_committed
from mainspring.core.ports import Connection
from mainspring.social.links.paste_model import (
    COMMENTS_BYTES_MAX,
    COMMENTS_MAX,
    FAR_US,
    FILES_MAX,
    ID,
    VERSIONS_MAX,
    Comment,
    File,
    NotEditable,
    Paste,
    UnknownPaste,
    Version,
    too_large,
)
from mainspring.social.links.paste_tables import FILLER, PART_BYTES, comment, file, part, paste, version

PARTS_A_DROP = 4

_COLUMNS = [
    *(paste.c[name] for name in Paste.__struct_fields__),
    *(version.c[name] for name in Version.__struct_fields__),
]
_FIELDS = len(Paste.__struct_fields__)
_current = paste.join(version, sa.and_(version.c.paste_id == paste.c.id, version.c.number == paste.c.version))
_id = sa.bindparam("id", type_=Text)
_now = sa.bindparam("now_us", type_=Int64)

INSERT = sa.insert(paste).values({column.name: sa.bindparam(column.name) for column in paste.c})
INSERT_VERSION = sa.insert(version).values({column.name: sa.bindparam(column.name) for column in version.c})
INSERT_PART = sa.insert(part).values({column.name: sa.bindparam(column.name) for column in part.c})
INSERT_COMMENT = sa.insert(comment).values({column.name: sa.bindparam(column.name) for column in comment.c})
_file = insert(file).values({column.name: sa.bindparam(column.name) for column in file.c})
PUT_FILE = _file.on_conflict_do_update(
    index_elements=["paste_id", "name"],
    set_={"content_type": _file.excluded.content_type, "size_bytes": _file.excluded.size_bytes},
)
UPDATE = (
    sa.update(paste)
    .values({name: sa.bindparam(f"new_{name}") for name in ("title", "visibility", "ends_us", "version")})
    .where(paste.c.id == _id)
)
GET = sa.select(*_COLUMNS).select_from(_current).where(paste.c.id == _id)
GET_VERSION = sa.select(*(version.c[name] for name in Version.__struct_fields__)).where(
    version.c.paste_id == _id, version.c.number == sa.bindparam("number")
)
VERSIONS = (
    sa.select(*(version.c[name] for name in Version.__struct_fields__))
    .where(version.c.paste_id == _id)
    .order_by(version.c.number)
)
BODY = sa.select(part.c.bytes).where(part.c.paste_id == _id, part.c.body == sa.bindparam("body")).order_by(part.c.n)
TAKE = (
    sa.update(paste)
    .values(reads_left=paste.c.reads_left - 1, ends_us=sa.case((paste.c.reads_left == 1, 0), else_=paste.c.ends_us))
    .where(paste.c.id == _id, paste.c.reads_left > 0, paste.c.ends_us > _now)
    .returning(paste.c.reads_left)
)
END = sa.update(paste).values(ends_us=0).where(paste.c.id == _id, paste.c.ends_us > _now).returning(paste.c.id)
COMMENTS = (
    sa.select(*(comment.c[name] for name in Comment.__struct_fields__))
    .where(comment.c.paste_id == _id)
    .order_by(comment.c.created_us, comment.c.id)
)
FILES = (
    sa.select(file.c.name, file.c.content_type, file.c.size_bytes).where(file.c.paste_id == _id).order_by(file.c.name)
)
DROP_BODY = sa.delete(part).where(part.c.paste_id == _id, part.c.body == sa.bindparam("body"))
DROP_FILE = sa.delete(file).where(file.c.paste_id == _id, file.c.name == sa.bindparam("name"))

_listed = sa.select(*_COLUMNS).select_from(_current).where(paste.c.ends_us > _now)
_before = paste.c.number < sa.bindparam("before", type_=Int64)
_limit = sa.bindparam("limit", type_=Int64)
OWN = (
    _listed.where(paste.c.owner == sa.bindparam("owner", type_=Int64), _before)
    .order_by(paste.c.number.desc())
    .limit(_limit)
)
PUBLIC = _listed.where(paste.c.visibility == "public", _before).order_by(paste.c.number.desc()).limit(_limit)

ENDED = sa.select(paste.c.id).where(paste.c.ends_us <= _now).order_by(paste.c.ends_us).limit(_limit)
SOME_PARTS = sa.select(part.c.body, part.c.n).where(part.c.paste_id == _id).limit(PARTS_A_DROP)
DROP_PART = sa.delete(part).where(
    part.c.paste_id == _id, part.c.body == sa.bindparam("body"), part.c.n == sa.bindparam("n")
)
DROP_ROWS = [
    *(sa.delete(table).where(table.c.paste_id == _id) for table in (version, comment, file)),
    sa.delete(paste).where(paste.c.id == _id),
]

Found = tuple[Paste, Version]


def found_of(row: Sequence[Any]) -> Found:
    return (
        Paste(**dict(zip(Paste.__struct_fields__, row[:_FIELDS], strict=True))),
        Version(*row[_FIELDS:]),
    )


def get(connection: Connection, id: str) -> Found | None:
    """A paste with its current version, whether it has ended or not."""
    row = connection.execute(GET, {"id": id}).first()
    return None if row is None else found_of(row)


def living(connection: Connection, id: str, now_us: int) -> Found:
    """Like `get`. Raises `UnknownPaste` where it has ended, and for what cannot be an id."""
    found = get(connection, id) if ID.fullmatch(id) else None
    if found is None or not found[0].alive(now_us):
        raise UnknownPaste
    return found


def body(connection: Connection, id: str, name: str) -> bytes:
    return b"".join([piece for (piece,) in connection.execute(BODY, {"id": id, "body": name})])


def put_body(connection: Connection, id: str, name: str, content: bytes) -> None:
    pieces = [content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES)]
    rows = [{"paste_id": id, "body": name, "n": n, "filler": FILLER, "bytes": one} for n, one in enumerate(pieces)]
    connection.execute_many(INSERT_PART, rows)


def create(connection: Connection, new: Paste, first: Version, content: bytes) -> None:
    connection.execute(INSERT, msgspec.structs.asdict(new))
    _add_version(connection, new.id, first, content)


def read(connection: Connection, id: str, number: int, now_us: int) -> tuple[Version, bytes]:
    """A version with its body. Raises `UnknownPaste`."""
    living(connection, id, now_us)
    row = connection.execute(GET_VERSION, {"id": id, "number": number}).first()
    if row is None:
        raise UnknownPaste("It has no such version")
    return Version(*row), body(connection, id, f"v{number}")


@read_committed
def take(connection: Connection, id: str, now_us: int) -> tuple[Paste, Version, bytes]:
    """Takes one of the reads that a paste has left, and gives its body; the last one ends it.

    Once this is committed the read is spent, whoever hears of it. Raises `UnknownPaste` where none is left. The one update
    decides; what is read after it is never changed, only dropped, and by a node whose clock is ahead even now.
    """
    taken = connection.execute(TAKE, {"id": id, "now_us": now_us}).first()
    if taken is None:
        raise UnknownPaste
    found = get(connection, id)
    content = b"" if found is None else body(connection, id, f"v{found[0].version}")
    if found is None or len(content) != found[1].size_bytes:
        raise UnknownPaste
    return *found, content


@read_committed
def end(connection: Connection, id: str, now_us: int) -> None:
    """Raises `UnknownPaste` where it had ended before."""
    if connection.execute(END, {"id": id, "now_us": now_us}).first() is None:
        raise UnknownPaste


def edit(
    connection: Connection, before: Paste, after: Paste, following: Version | None, content: bytes, now_us: int
) -> Found:
    """Makes `before` what `after` says, with the version `following` if there is one.

    Raises `UnknownPaste`, and `NotEditable` where somebody else has changed it meanwhile.
    """
    current, shown = living(connection, before.id, now_us)
    if current.version != before.version:
        raise NotEditable("Somebody has changed it meanwhile")
    if following is not None:
        if following.number > VERSIONS_MAX:
            raise NotEditable(f"It has {VERSIONS_MAX} versions already")
        _add_version(connection, before.id, following, content)
    changed = {f"new_{name}": getattr(after, name) for name in ("title", "visibility", "ends_us", "version")}
    connection.execute(UPDATE, {"id": before.id, **changed})
    return after, following or shown


def _add_version(connection: Connection, id: str, new: Version, content: bytes) -> None:
    connection.execute(INSERT_VERSION, {"paste_id": id, **msgspec.structs.asdict(new)})
    put_body(connection, id, f"v{new.number}", content)


def versions(connection: Connection, id: str) -> list[Version]:
    return [Version(*row) for row in connection.execute(VERSIONS, {"id": id})]


def add_comment(connection: Connection, id: str, new: Comment, content: bytes, now_us: int) -> None:
    """Raises `UnknownPaste` for a paste or a parent that is not there, `NotEditable` where comments are closed or full."""
    found, _ = living(connection, id, now_us)
    if not found.discussion:
        raise NotEditable("Its discussion is closed")
    there = comments(connection, id)
    if new.parent_id != id and all(one.id != new.parent_id for one in there):
        raise UnknownPaste("There is no such comment to answer")
    if len(there) >= COMMENTS_MAX or sum(one.size_bytes for one in there) + len(content) > COMMENTS_BYTES_MAX:
        raise NotEditable("Its discussion is full")
    connection.execute(INSERT_COMMENT, {"paste_id": id, **msgspec.structs.asdict(new)})
    put_body(connection, id, f"c{new.id}", content)


def comments(connection: Connection, id: str) -> list[Comment]:
    return [Comment(*row) for row in _rows(connection, COMMENTS, id)]


def discussion(connection: Connection, id: str) -> list[tuple[Comment, bytes]]:
    """The comments in order, with their cipher texts."""
    return [(one, body(connection, id, f"c{one.id}")) for one in comments(connection, id)]


def put_file(connection: Connection, id: str, new: File, content: bytes, bytes_max: int, now_us: int) -> None:
    """Attaches a file, in place of one of the same name. All files together have at most `bytes_max` (`TooLarge`)."""
    living(connection, id, now_us)
    others = [one for one in files(connection, id) if one.name != new.name]
    if len(others) >= FILES_MAX:
        raise NotEditable(f"It has {FILES_MAX} files already")
    if sum(one.size_bytes for one in others) + len(content) > bytes_max:
        raise too_large(bytes_max)
    connection.execute(DROP_BODY, {"id": id, "body": f"f{new.name}"})
    connection.execute(PUT_FILE, {"paste_id": id, **msgspec.structs.asdict(new)})
    put_body(connection, id, f"f{new.name}", content)


def drop_file(connection: Connection, id: str, name: str) -> None:
    """Raises `UnknownPaste` where it has no such file."""
    if all(one.name != name for one in files(connection, id)):
        raise UnknownPaste("It has no such file")
    connection.execute(DROP_BODY, {"id": id, "body": f"f{name}"})
    connection.execute(DROP_FILE, {"id": id, "name": name})


def files(connection: Connection, id: str) -> list[File]:
    return [File(*row) for row in _rows(connection, FILES, id)]


def read_file(connection: Connection, id: str, name: str) -> tuple[File, bytes]:
    """Raises `UnknownPaste` where it has no such file."""
    for one in files(connection, id):
        if one.name == name:
            return one, body(connection, id, f"f{name}")
    raise UnknownPaste("It has no such file")


def listed(connection: Connection, owner: int | None, before: int | None, limit: int, now_us: int) -> list[Found]:
    """The newest pastes of an owner, or the public ones where that is None, that are older than number `before`."""
    asked: dict[str, Any] = {"before": FAR_US if before is None else before, "limit": limit, "now_us": now_us}
    rows = connection.execute(PUBLIC, asked) if owner is None else connection.execute(OWN, {**asked, "owner": owner})
    return [found_of(row) for row in rows.all()]


def search(
    connection: Connection, owner: int, text: str, before: int | None, limit: int, bytes_max: int, now_us: int
) -> tuple[list[Found], int | None]:
    """An owner's newest pastes with `text`, in whatever case, in their title or plain body.

    Looks at bodies of `bytes_max` in all; gives the number to go on before, None where there are no more.
    """
    wanted, matches, looked = text.casefold(), list[Found](), 0
    while True:
        some = listed(connection, owner, before, 50, now_us)
        for one, shown in some:
            before = one.number
            matched = wanted in one.title.casefold()
            if not matched and not one.sealed:
                looked += shown.size_bytes
                matched = wanted in body(connection, one.id, f"v{shown.number}").decode().casefold()
            if matched:
                matches.append((one, shown))
            if len(matches) >= limit or looked >= bytes_max:
                return matches, before
        if len(some) < 50:
            return matches, None


def drop(connection: Connection, now_us: int) -> int:
    """Deletes bodies of pastes that have ended, four pieces at most, and the rows of those that have none left.

    Gives how many pastes it touched: 0 where nothing was left to do.
    """
    touched = 0
    for (id,) in connection.execute(ENDED, {"now_us": now_us, "limit": 20}).all():
        touched += 1
        pieces = connection.execute(SOME_PARTS, {"id": id}).all()
        connection.execute_many(DROP_PART, [{"id": id, "body": name, "n": n} for name, n in pieces])
        if len(pieces) == PARTS_A_DROP:
            break
        for statement in DROP_ROWS:
            connection.execute(statement, {"id": id})
    return touched


def _rows(connection: Connection, statement: Any, id: str) -> list[Any]:
    return connection.execute(statement, {"id": id}).all()
