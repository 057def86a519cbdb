"""The embedded database as a file: what a backup asks of it, and what a restored one needs before it is used."""

import secrets
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as dbapi  # type: ignore[import-untyped]

NAME_HISTORY = (
    "INSERT INTO log_positions (consumer_group, topic, position) VALUES ('', '', ?) "
    "ON CONFLICT (consumer_group, topic) DO UPDATE SET position = excluded.position"
)
LAST_OFFSET = (
    "SELECT max(coalesce((SELECT max(id) FROM log_records), 0), "
    "coalesce((SELECT max(position) FROM log_positions WHERE topic <> ''), 0))"
)


def opened(file: Path) -> Any:
    return dbapi.connect(str(file), isolation_level=None)


def damage(file: Path) -> str | None:
    """The first damage that is found in the file, or None."""
    raw = opened(file)
    try:
        found: str = raw.execute("PRAGMA quick_check(1)").fetchone()[0]
    except dbapi.DatabaseError as error:
        return str(error)
    finally:
        raw.close()
    return None if found == "ok" else found


def revisions(file: Path) -> dict[str, str]:
    """Which revision each system's tables are at."""
    raw = opened(file)
    try:
        return dict(raw.execute("SELECT system, revision FROM core_revisions").fetchall())
    finally:
        raw.close()


def tables(raw: Any) -> list[str]:
    """The names of all tables but SQLite's own."""
    rows = raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'")
    return sorted(name for (name,) in rows.fetchall())


def keep_offsets_rising(raw: Any) -> None:
    """Lets the next event's offset be past all that any group has seen, where the records themselves have been pruned."""
    (last,) = raw.execute(LAST_OFFSET).fetchone()
    raw.execute("DELETE FROM sqlite_sequence WHERE name = 'log_records'")
    raw.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('log_records', ?)", (last,))


def begin_new_history(file: Path) -> None:
    """Gives the order of events a new name, because what others noted about the old one is not true of this file."""
    raw = opened(file)
    try:
        raw.execute(NAME_HISTORY, (-1 - secrets.randbits(62),))
    finally:
        raw.close()
