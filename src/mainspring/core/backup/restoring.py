"""Putting a backup back: into an empty data folder, or a PostgreSQL without our tables; `force` replaces what is there.

Everything is checked first. A folder's new content is complete beside the old before the two change places; a PostgreSQL
changes in one transaction. A system that is configured to keep its files elsewhere gets them there, in the first of its
folders. From one kind of database to the other the rows go into tables that this version has made.
"""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
    elsewhere: Mapping[str, Sequence[Path]] | None = None,
    progress: Progress = no_progress,
) -> Manifest:
    """Puts the backup `source` into the data folder `data` and, where `database` names a PostgreSQL, its rows there.

    `elsewhere` names the folders of systems that keep their files outside of the folder of their name in `data`.
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
    new = data / NEW_FOLDER
    homes = elsewhere or {}
    firsts = {name: _new_home(folders[0], data) for name, folders in homes.items()}
    outside = [folder for folders in homes.values() for folder in folders if _new_home(folder, data).parent == folder]
    places = [*outside, data]
    try:
        for place in places:
            await asyncio.to_thread(_refuse_unless_empty, place, force)
        try:
            await asyncio.to_thread(_copy_files, source, new, firsts, manifest, progress)
            if not database:
                await _make_file(source, new / DATABASE_FILE, manifest, prepare, progress)
            else:
                await _fill_server(source, database, manifest, prepare, force, progress)
            for place in places:
                # The data folder is the last, as the sign that all is there.
                await asyncio.to_thread(_change_places, place)
        finally:
            for place in places:
                await asyncio.to_thread(shutil.rmtree, place / NEW_FOLDER, ignore_errors=True)
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


def _new_home(folder: Path, data: Path) -> Path:
    """Where a folder's content is put together: beside the old, which for one in the data folder is with all the rest."""
    if folder.absolute().is_relative_to(data.absolute()):
        return data / NEW_FOLDER / folder.absolute().relative_to(data.absolute())
    return folder / NEW_FOLDER


def _refuse_unless_empty(place: Path, force: bool) -> None:
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in (NEW_FOLDER, OLD_FOLDER):
        # Of a restore that was cut short.
        shutil.rmtree(place / left, ignore_errors=True)
    there = sorted(path.name for path in place.iterdir() if path.name not in OF_A_PROCESS)
    if there and not force:
        raise BackupError(f"{place} is not empty ({', '.join(there[:5])}): --force replaces what is there")


def _copy_files(source: Path, new: Path, firsts: Mapping[str, Path], manifest: Manifest, progress: Progress) -> None:
    for folder in (new, *firsts.values()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in manifest.files:
        kind, _, name = file.path.partition("/")
        if kind != DATA_FOLDER:
            continue
        system, _, rest = name.partition("/")
        target = firsts[system] / rest if system in firsts and rest else new / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(source / file.path, target)
        target.chmod(file.mode)
        progress(file.path, file.size_bytes, file.size_bytes)


def _change_places(place: Path) -> None:
    """What is in `restoring`, if anything, becomes the content of the folder; a database comes last."""
    new, old = place / NEW_FOLDER, place / OLD_FOLDER
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("rb") as written:
                os.fsync(written.fileno())
    old.mkdir(mode=0o700)
    for path in list(place.iterdir()):
        if path.name not in (*OF_A_PROCESS, NEW_FOLDER, OLD_FOLDER):
            path.rename(old / path.name)
    if new.exists():
        for path in sorted(new.iterdir(), key=lambda path: path.name == DATABASE_FILE):
            path.rename(place / path.name)
    sync_folder(place)
    shutil.rmtree(old, ignore_errors=True)
