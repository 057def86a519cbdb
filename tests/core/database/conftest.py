"""The database of these tests, with the tables of `shelf`."""

import pytest

from mainspring.core.ports import Database
from tests.core.database import shelf


@pytest.fixture
async def shelves(database: Database) -> Database:
    await database.prepare("shelf", shelf.tables)  # type: ignore[attr-defined]
    return database
