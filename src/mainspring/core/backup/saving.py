"""Taking a backup while everything runs.

The database is one snapshot: SQLite's online backup in one step, or every table of a PostgreSQL read in one REPEATABLE READ
transaction. Files of the data folder are copied after it, so that what the rows name is there.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mainspring import __version__
from mainspring.core.backup import embedded
from mainspring.core.backup.container import (
    DATA_FOLDER,
    FORMAT,
    SQLITE_FILE,
    BackupError,
    Manifest,
    Progress,
    Writer,
    no_progress,
    written_aside,
)
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.database import SqliteDatabase
from mainspring.core.ports import Database

REBUILT = ("views", "cache")
"""Folders of the data folder that are made again from the rest."""

OF_A_PROCESS = ("lock", "control.sock")


async def backup(
    database: Database,
    target: Path,
    *,
    data: Path | None = None,
    clock: Clock | None = None,
    progress: Progress = no_progress,
) -> Manifest:
    """Saves the database, and the files of the data folder `data`, to the new folder `target`.

    Without `data`, an embedded database's own folder is taken. Raises `BackupError`, having left nothing behind.
    """
    if data is None and isinstance(database, SqliteDatabase):
        data = database.path.parent
    if data is not None and target.absolute().resolve().is_relative_to(data.resolve()):
        raise BackupError(f"a backup in {data} would be lost with it: name a folder elsewhere")
    with written_aside(target) as writer:
        if isinstance(database, SqliteDatabase):
            dialect, rows = "sqlite", dict[str, int]()
            await database.backup_to(writer.folder / SQLITE_FILE)
            revisions = await asyncio.to_thread(_take_in, writer, progress)
        else:
            from mainspring.core.backup import server

            dialect = "postgresql"
            parameters: dict[str, Any] = database.parameters  # type: ignore[attr-defined]  # it is the other adapter
            revisions, rows = await asyncio.to_thread(server.dump, parameters, writer, progress)
        if data is not None:
            await asyncio.to_thread(_copy_files, writer, data, _own_files(database, data), progress)
        now_s = (clock or SystemClock()).wall_ns() / 1e9
        now = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds")
        manifest = Manifest(FORMAT, __version__, now, dialect, revisions, rows, tuple(writer.files))
        await asyncio.to_thread(writer.seal, manifest)
    return manifest


def _take_in(writer: Writer, progress: Progress) -> dict[str, str]:
    damage = embedded.damage(writer.folder / SQLITE_FILE)
    if damage:
        raise BackupError(f"the database itself is damaged, so its copy is of no use: {damage}")
    writer.record(SQLITE_FILE, progress)
    return embedded.revisions(writer.folder / SQLITE_FILE)


def _own_files(database: Database, data: Path) -> set[Path]:
    """What the embedded database keeps in the folder."""
    if not isinstance(database, SqliteDatabase):
        return set()
    return {data / f"{database.path.name}{suffix}" for suffix in ("", "-wal", "-shm", "-journal", ".ballast")}


def _copy_files(writer: Writer, data: Path, without: set[Path], progress: Progress) -> None:
    """Copies what is neither the database's nor a process's nor made again; links and sockets are left out."""
    without |= {data / name for name in OF_A_PROCESS}
    for path in sorted(data.rglob("*")):
        relative = path.relative_to(data)
        if path in without or relative.parts[0] in REBUILT or path.is_symlink() or not path.is_file():
            continue
        try:
            writer.add(f"{DATA_FOLDER}/{relative.as_posix()}", path, progress)
        except FileNotFoundError:
            continue  # it was there a moment ago: a temporary file, or one whose row is gone as well
