"""Accounts on whichever database the `database` fixture gives, with a clock that the test moves and quick hashes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import mainspring.core.accounts as package
from mainspring.core.accounts import Accounts
from mainspring.core.accounts.passwords import Argon2
from mainspring.core.accounts.tables import tables
from mainspring.core.clock import VirtualClock

QUICK = Argon2(memory_kib=8)
MIGRATIONS = Path(package.__file__).parent / "migrations"


@pytest.fixture
def now() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def accounts(database: Any, now: VirtualClock) -> AsyncIterator[Accounts]:
    await database.prepare("accounts", tables, MIGRATIONS)
    made = Accounts(database, now, argon2=QUICK)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def elsewhere(database: Any, accounts: Accounts, now: VirtualClock) -> AsyncIterator[Accounts]:
    """Another node on the same database."""
    made = Accounts(database, now, argon2=QUICK)
    await made.start()
    yield made
    await made.stop()
