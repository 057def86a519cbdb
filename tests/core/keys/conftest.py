"""A key store on whichever database the `database` fixture gives, with a clock that the test moves."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import mainspring.core.accounts as accounts
import mainspring.core.keys as package
from mainspring.core.accounts.tables import tables as accounts_tables
from mainspring.core.clock import VirtualClock
from mainspring.core.keys import KeyStore
from mainspring.core.keys.tables import tables

OpenKeys = Callable[..., Awaitable[KeyStore]]


@pytest.fixture
def now() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def open_keys(database: Any, now: VirtualClock) -> OpenKeys:
    """Opens the store as a node would that was given this master key: `await open_keys(master)`."""
    await database.prepare("accounts", accounts_tables, Path(accounts.__file__).parent / "migrations")
    await database.prepare("keys", tables, Path(package.__file__).parent / "migrations")

    async def open_keys(master: str = "") -> KeyStore:
        store = KeyStore(database, now, master)
        await store.start()
        return store

    return open_keys
