"""Accounts on whichever database the `database` fixture gives, with a clock that the test moves and quick hashes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import mainspring.core.accounts as package
from mainspring.core.accounts import Accounts
from mainspring.core.accounts.passwords import Argon2
from mainspring.core.accounts.tables import tables
from mainspring.core.clock import VirtualClock
from mainspring.core.database import SqliteDatabase

QUICK = Argon2(memory_kib=8)
MIGRATIONS = Path(package.__file__).parent / "migrations"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqliteDatabase]:
    database = SqliteDatabase(tmp_path / "test.db", floor_bytes=0, ballast_bytes=0)
    await database.start()
    yield database
    await database.stop()


@pytest.fixture
def now() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def accounts(database: SqliteDatabase, now: VirtualClock) -> AsyncIterator[Accounts]:
    await database.prepare("accounts", tables, MIGRATIONS)
    made = Accounts(database, now, argon2=QUICK)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def elsewhere(database: SqliteDatabase, accounts: Accounts, now: VirtualClock) -> AsyncIterator[Accounts]:
    """Another node on the same database."""
    made = Accounts(database, now, argon2=QUICK)
    await made.start()
    yield made
    await made.stop()
