"""What the key store asks of the database: each function is a step of a transaction."""

from sqlalchemy import bindparam, delete, func, insert, select, update

from mainspring.core.database import insert as upsert
from mainspring.core.keys.model import KEYS_MAX, VERSIONS_MAX, Key, KeyTaken, State, TooManyKeys, UnknownKey
from mainspring.core.keys.tables import keys, masters, versions
from mainspring.core.ports import Connection

_KEY = (keys.c.name, keys.c.state, keys.c.newest, keys.c.created_us, keys.c.rotated_us)
_FIND = select(*_KEY).where(keys.c.name == bindparam("of_name"))
_LIST = select(*_KEY).where(keys.c.name > bindparam("after")).order_by(keys.c.name).limit(bindparam("count"))
_COUNT = select(func.count()).select_from(keys)
_ADD = insert(keys)
_CHANGE = (
    update(keys)
    .where(keys.c.name == bindparam("of_name"))
    .values(state=bindparam("state"), newest=bindparam("newest"), rotated_us=bindparam("rotated_us"))
)
_VERSIONS = select(versions.c.version, versions.c.master, versions.c.wrapped).where(
    versions.c.name == bindparam("of_name")
)
_ADD_VERSION = insert(versions)
_WRAPPED_OTHERWISE = (
    select(versions.c.name, versions.c.version, versions.c.master, versions.c.wrapped)
    .where(versions.c.master != bindparam("than"))
    .order_by(versions.c.name, versions.c.version)
    .limit(bindparam("count"))
)
_REWRAP = (
    update(versions)
    .where(versions.c.name == bindparam("of_name"), versions.c.version == bindparam("of_version"))
    .values(master=bindparam("master"), wrapped=bindparam("wrapped"))
)
_MASTER = select(masters.c.fingerprint, masters.c.material)
_ADD_MASTER = upsert(masters).on_conflict_do_nothing()
_FORGET_MASTERS = delete(masters)


def find(connection: Connection, name: str) -> Key:
    """Raises `UnknownKey`."""
    row = connection.execute(_FIND, {"of_name": name}).first()
    if row is None:
        raise UnknownKey(f"There is no key {name[:128]!r}")
    return Key(*row)


def list_after(connection: Connection, after: str, count: int) -> list[Key]:
    return [Key(*row) for row in connection.execute(_LIST, {"after": after, "count": count}).all()]


def materials(connection: Connection, name: str) -> tuple[Key, list[tuple[int, str, bytes]]]:
    """A key, and (version, master, wrapped material) of each of its versions. Raises `UnknownKey`."""
    found = find(connection, name)
    rows = connection.execute(_VERSIONS, {"of_name": name}).all()
    return found, [(int(row[0]), str(row[1]), bytes(row[2])) for row in rows]


def add(connection: Connection, name: str, master: str, wrapped: bytes, now_us: int) -> Key:
    """Raises `KeyTaken`, `TooManyKeys`."""
    if connection.execute(_FIND, {"of_name": name}).first() is not None:
        raise KeyTaken(f"There is a key {name!r}")
    if connection.execute(_COUNT, {}).scalar() >= KEYS_MAX:
        raise TooManyKeys
    key = Key(name, "enabled", 1, now_us, now_us)
    connection.execute(
        _ADD, {"name": name, "state": key.state, "newest": 1, "created_us": now_us, "rotated_us": now_us}
    )
    connection.execute(_ADD_VERSION, {"name": name, "version": 1, "master": master, "wrapped": wrapped})
    return key


def rotate(connection: Connection, name: str, master: str, wrapped: bytes, now_us: int) -> Key:
    """Raises `UnknownKey`, `TooManyKeys`."""
    found = find(connection, name)
    if found.versions >= VERSIONS_MAX:
        raise TooManyKeys
    newest = found.versions + 1
    connection.execute(_ADD_VERSION, {"name": name, "version": newest, "master": master, "wrapped": wrapped})
    connection.execute(_CHANGE, {"of_name": name, "state": found.state, "newest": newest, "rotated_us": now_us})
    return Key(name, found.state, newest, found.created_us, now_us)


def set_state(connection: Connection, name: str, state: State) -> Key:
    """Raises `UnknownKey`."""
    found = find(connection, name)
    parameters = {"of_name": name, "state": state, "newest": found.versions, "rotated_us": found.rotated_us}
    connection.execute(_CHANGE, parameters)
    return Key(name, state, found.versions, found.created_us, found.rotated_us)


def own_master(connection: Connection) -> tuple[str, bytes] | None:
    """The master key that the database itself keeps, with its fingerprint."""
    row = connection.execute(_MASTER, {}).first()
    return None if row is None else (str(row[0]), bytes(row[1]))


def find_or_add_master(connection: Connection, fingerprint: str, fresh: bytes) -> tuple[str, bytes]:
    found = own_master(connection)
    if found is None:
        connection.execute(_ADD_MASTER, {"fingerprint": fingerprint, "material": fresh})
        return fingerprint, fresh
    return found


def forget_masters(connection: Connection) -> None:
    connection.execute(_FORGET_MASTERS, {})


def wrapped_otherwise(connection: Connection, than: str, count: int) -> list[tuple[str, int, str, bytes]]:
    """(name, version, master, wrapped) of material that is wrapped under another master key."""
    rows = connection.execute(_WRAPPED_OTHERWISE, {"than": than, "count": count}).all()
    return [(str(row[0]), int(row[1]), str(row[2]), bytes(row[3])) for row in rows]


def rewrap(connection: Connection, name: str, version: int, master: str, wrapped: bytes) -> None:
    connection.execute(_REWRAP, {"of_name": name, "of_version": version, "master": master, "wrapped": wrapped})
