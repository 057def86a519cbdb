"""An object store on directories of its own, on both sides of the Database port, that can be stopped and opened again."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import mainspring.core.accounts
import mainspring.core.keys
import mainspring.storage.objects
from mainspring.core.accounts import tables as accounts_tables
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.keys import KeyStore
from mainspring.core.keys import tables as keys_tables
from mainspring.storage.objects import Objects, ObjectsSettings
from mainspring.storage.objects.files import Files, Space
from mainspring.storage.objects.tables import tables
from tests.fixtures_database import embedded_database

MIGRATIONS = Path(mainspring.storage.objects.__file__).parent / "migrations"
STRIPE_BYTES = 64 << 10
SMALL_BYTES = 4 << 10


class RoomyFiles(Files):
    """A file system that believes that it has room, and that a test can make fail."""

    def __init__(self) -> None:
        self.free_bytes = 1 << 40

    def space(self, directory: Path) -> Space:
        super().space(directory)
        return Space(self.free_bytes, 1 << 41)


def small_settings(**settings: Any) -> ObjectsSettings:
    """Settings under which a hundred kilobytes are a large object."""
    sizes = {"stripe_bytes": STRIPE_BYTES, "small_bytes": SMALL_BYTES, "part_bytes_min": 1, "stream_wait_s": 60.0}
    return ObjectsSettings(**{**sizes, **settings})


async def key_store(database: Any, clock: Clock | None = None) -> KeyStore:
    """A key store on the same database, started."""
    for name, module, own in (
        ("accounts", mainspring.core.accounts, accounts_tables.tables),
        ("keys", mainspring.core.keys, keys_tables.tables),
    ):
        await database.prepare(name, own, Path(str(module.__file__)).parent / "migrations")
    store = KeyStore(database, clock or SystemClock())
    await store.start()
    return store


class Store:
    """The store in `folder` with so many directories; `open` may be called again after `stop`."""

    def __init__(
        self, database: Any, folder: Path, directories: int, clock: Clock, files: Files, settings: Any
    ) -> None:
        self.database = database
        self.directories = [folder / f"disk{number}" for number in range(directories)]
        self.clock = clock
        self.files = files
        self.settings = settings
        self.keys: KeyStore | None = None
        self.objects: Objects

    async def open(self) -> Objects:
        self.objects = Objects(
            self.database,
            self.clock,
            self.settings,
            keys=self.keys,
            directories=self.directories,
            files=self.files,
        )
        await self.objects.start()
        return self.objects

    async def again(self) -> Objects:
        await self.objects.stop()
        return await self.open()


MakeStore = Callable[..., Any]


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[MakeStore]:
    """Makes opened stores on one embedded database: `await make_store(6)` has six directories."""
    async with embedded_database(tmp_path) as database, stores(database, tmp_path) as make:
        yield make


@asynccontextmanager
async def stores(database: Any, folder: Path) -> AsyncIterator[MakeStore]:
    """What `make_store` gives, on this database. A module whose rules are the same on both overrides the fixture by it."""
    made: list[Store] = []
    await database.prepare("objects", tables, MIGRATIONS)

    async def make(
        directories: int = 1, *, clock: Clock | None = None, files: Files | None = None, **settings: Any
    ) -> Store:
        store = Store(
            database,
            folder,
            directories,
            clock or SystemClock(),
            files or RoomyFiles(),
            small_settings(**settings),
        )
        await store.open()
        made.append(store)
        return store

    try:
        yield make
    finally:
        for store in made:
            await store.objects.stop()


@pytest.fixture
async def objects(database: Any, tmp_path: Path) -> AsyncIterator[Objects]:
    """A store on one directory with the bucket `box`, on both databases."""
    await database.prepare("objects", tables, MIGRATIONS)
    keys = await key_store(database)
    made = Objects(
        database, SystemClock(), small_settings(), keys=keys, directories=[tmp_path / "disk"], files=RoomyFiles()
    )
    await made.start()
    await made.create_bucket("box")
    yield made
    await made.stop()


async def keys_of(objects: Objects, bucket: str = "box", **asked: Any) -> list[str]:
    """All keys of a bucket, page after page."""
    keys: list[str] = []
    token = None
    while True:
        page = await objects.list(bucket, token=token, **asked)
        keys += [one.key for one in page.entries]
        token = page.token
        if token is None:
            return keys


async def bytes_of(objects: Objects, key: str, bucket: str = "box", **asked: Any) -> bytes:
    return await (await objects.get(bucket, key, **asked)).read()


def names(entries: Sequence[Any]) -> list[str]:
    return [one.key for one in entries]
