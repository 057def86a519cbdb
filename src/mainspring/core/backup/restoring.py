"""Putting a backup back: into an empty data folder, or a PostgreSQL without our tables; `force` replaces what is there.

Everything is checked first. A folder's new content is complete beside the old before the two change places; a PostgreSQL
changes in one transaction. From one kind of database to the other the rows go into tables that this version has made.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mainspring.core.backup import crossing, embedded
from mainspring.core.backup.container import (
    DATA_FOLDER,
    SQLITE_FILE,
    BackupError,
    Manifest,
    Progress,
    check,
    no_progress,
    sync_folder,
)
from mainspring.core.backup.saving import OF_A_PROCESS
from mainspring.core.data import DataFolder, DataLocked
from mainspring.core.database import SqliteDatabase
from mainspring.core.ports import Database

DATABASE_FILE = "mainspring.db"
NEW_FOLDER, OLD_FOLDER = "restoring", "replaced"

Prepare = Callable[[Database], Awaitable[object]]


async def restore(
    source: Path,
    data: Path,
    *,
    database: str = "",
    prepare: Prepare | None = None,
    force: bool = False,
    progress: Progress = no_progress,
) -> Manifest:
    """Puts the backup `source` into the data folder `data` and, where `database` names a PostgreSQL, its rows there.

    `prepare(database)` makes the tables of every system; it is only called where a backup of one kind of database goes into
    the other. Raises `BackupError` where the backup is damaged, where something is there already and not `force`, and where
    a server owns the folder: then nothing has been changed.
    """
    manifest = await asyncio.to_thread(check, source, progress)
    if source.absolute().resolve().is_relative_to(data.resolve()):
        raise BackupError(f"the backup is in {data} itself: move it elsewhere first")
    try:
        folder = DataFolder(data)
    except (DataLocked, OSError) as error:
        raise BackupError(str(error)) from None
    try:
        await asyncio.to_thread(_refuse_unless_empty, data, force)
        new = data / NEW_FOLDER
        try:
            await asyncio.to_thread(_copy_files, source, new, manifest, progress)
            if not database:
                await _make_file(source, new / DATABASE_FILE, manifest, prepare, progress)
            else:
                await _fill_server(source, database, manifest, prepare, force, progress)
            await asyncio.to_thread(_change_places, data)
        finally:
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
    except OSError as error:
        raise BackupError(f"the backup cannot be put back: {error}") from error
    finally:
        await folder.close()
    return manifest


async def _make_file(source: Path, file: Path, manifest: Manifest, prepare: Prepare | None, progress: Progress) -> None:
    if manifest.dialect == "sqlite":
        await asyncio.to_thread(shutil.copyfile, source / SQLITE_FILE, file)
        # The journal has to be the kind that the server expects, and everything on the disk, before it counts.
        await asyncio.to_thread(embedded.begin_new_history, file)
        return
    database = SqliteDatabase(file, ballast_bytes=0, floor_bytes=0)
    await database.start()
    try:
        await crossing.make_tables(database, manifest, prepare)
    finally:
        await database.stop()
    await asyncio.to_thread(crossing.into_file, source, file, manifest, progress)
    await asyncio.to_thread(embedded.begin_new_history, file)


async def _fill_server(
    source: Path, dsn: str, manifest: Manifest, prepare: Prepare | None, force: bool, progress: Progress
) -> None:
    from mainspring.core.backup import server
    from mainspring.core.database.postgres import PostgresDatabase

    database = PostgresDatabase(dsn)
    parameters: dict[str, Any] = database.parameters
    if manifest.dialect == "postgresql":
        await asyncio.to_thread(server.load, parameters, source, manifest, force=force, progress=progress)
        return
    await asyncio.to_thread(crossing.clear_server, parameters, source, force)
    await database.start()
    try:
        await crossing.make_tables(database, manifest, prepare)
    finally:
        await database.stop()
    await asyncio.to_thread(crossing.into_server, source, parameters, progress)


def _refuse_unless_empty(data: Path, force: bool) -> None:
    for left in (NEW_FOLDER, OLD_FOLDER):
        # Of a restore that was cut short.
        shutil.rmtree(data / left, ignore_errors=True)
    there = sorted(path.name for path in data.iterdir() if path.name not in OF_A_PROCESS)
    if there and not force:
        raise BackupError(f"{data} is not empty ({', '.join(there[:5])}): --force replaces what is there")


def _copy_files(source: Path, new: Path, manifest: Manifest, progress: Progress) -> None:
    new.mkdir(mode=0o700)
    for file in manifest.files:
        kind, _, name = file.path.partition("/")
        if kind != DATA_FOLDER:
            continue
        target = new / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(source / file.path, target)
        target.chmod(file.mode)
        progress(file.path, file.size_bytes, file.size_bytes)


def _change_places(data: Path) -> None:
    """What is in `restoring` becomes the content of the folder; the database comes last, as the sign that all is there."""
    new, old = data / NEW_FOLDER, data / OLD_FOLDER
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb") as written:
                os.fsync(written.fileno())
    old.mkdir(mode=0o700)
    for path in list(data.iterdir()):
        if path.name not in (*OF_A_PROCESS, NEW_FOLDER, OLD_FOLDER):
            path.rename(old / path.name)
    for path in sorted(new.iterdir(), key=lambda path: path.name == DATABASE_FILE):
        path.rename(data / path.name)
    sync_folder(data)
    shutil.rmtree(old, ignore_errors=True)
