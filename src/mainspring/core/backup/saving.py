"""Taking a backup while everything runs.

The database is one snapshot: SQLite's online backup in one step, or every table of a PostgreSQL read in one REPEATABLE READ
transaction. Systems that keep files of their own (the log) rest meanwhile, and say right after it what they hold; that and the
other files of the data folder are copied then. So what the rows name is there, and nothing that follows from rows which the
snapshot lacks.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
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
    Image,
    Kept,
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
    kept: Sequence[Kept] = (),
    elsewhere: Sequence[Path] = (),
    clock: Clock | None = None,
    progress: Progress = no_progress,
) -> Manifest:
    """Saves the database, and the files of the data folder `data`, to the new folder `target`.

    Without `data`, an embedded database's own folder is taken. `kept` are systems that run and keep files there, or in
    the folders `elsewhere`. Raises `BackupError`, having left nothing behind.
    """
    if data is None and isinstance(database, SqliteDatabase):
        data = database.path.parent
    if data is not None and target.absolute().resolve().is_relative_to(data.resolve()):
        raise BackupError(f"a backup in {data} would be lost with it: name a folder elsewhere")
    with written_aside(target) as writer, ExitStack() as images:
        async with AsyncExitStack() as resting:
            for one in kept:
                await resting.enter_async_context(one.at_rest())
            if isinstance(database, SqliteDatabase):
                await database.backup_to(writer.folder / SQLITE_FILE)
            else:
                from mainspring.core.backup import server

                parameters: dict[str, Any] = database.parameters  # type: ignore[attr-defined]  # it is the other adapter
                revisions, rows = await asyncio.to_thread(server.dump, parameters, writer, progress)
            taken = []
            for one in kept:
                taken.append((one.folder, one.image()))
                images.callback(taken[-1][1].drop)
        if isinstance(database, SqliteDatabase):
            revisions, rows = await asyncio.to_thread(_take_in, writer, progress), {}
        for folder, image in taken:
            await asyncio.to_thread(_copy_image, writer, folder, image, progress)
        if data is not None:
            without = _own_files(database, data) | {folder.absolute() for folder in elsewhere}
            await asyncio.to_thread(_copy_files, writer, data, without, {one.folder for one in kept}, progress)
        now_s = (clock or SystemClock()).wall_ns() / 1e9
        now = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="seconds")
        manifest = Manifest(FORMAT, __version__, now, database.dialect, revisions, rows, tuple(writer.files))
        await asyncio.to_thread(writer.seal, manifest)
    return manifest


def _copy_image(writer: Writer, folder: str, image: Image, progress: Progress) -> None:
    for file in image.files:
        writer.add(f"{DATA_FOLDER}/{folder}/{file.name}", file.path, progress, file.size_bytes)


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


def _copy_files(writer: Writer, data: Path, without: set[Path], folders: set[str], progress: Progress) -> None:
    """Copies what is neither the database's nor a process's nor made again, nor in `folders`; no links or sockets."""
    without |= {data / name for name in OF_A_PROCESS}
    for path in sorted(data.rglob("*")):
        relative = path.relative_to(data)
        if not without.isdisjoint((path, *path.absolute().parents)):
            continue
        if relative.parts[0] in {*REBUILT, *folders} or path.is_symlink() or not path.is_file():
            continue
        try:
            writer.add(f"{DATA_FOLDER}/{relative.as_posix()}", path, progress)
        except FileNotFoundError:
            continue  # it was there a moment ago: a temporary file, or one whose row is gone as well
