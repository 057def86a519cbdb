"""API tokens of the house's accounts, as Kafka clients log in with them."""

from pathlib import Path

import mainspring.core.accounts as package
from mainspring.core.accounts.model import ONE_CLICK
from mainspring.core.accounts.passwords import Argon2
from mainspring.core.accounts.service import Accounts
from mainspring.core.accounts.tables import tables
from mainspring.core.clock import SystemClock
from mainspring.core.ports import Database
from mainspring.storage.log.kafka.acls import Operation
from mainspring.storage.log.kafka.listener import token_finder
from mainspring.storage.log.kafka.security import Token


async def test_an_api_token_of_an_account_allows_what_its_scopes_do(database: Database) -> None:
    await database.prepare("accounts", tables, Path(package.__file__).parent / "migrations")
    accounts = Accounts(database, SystemClock(), argon2=Argon2(memory_kib=64))
    await accounts.start()
    try:
        owner = await accounts.set_up(ONE_CLICK, "owner", "a rather long password")
        reading = await accounts.create_token(ONE_CLICK, "reading", ["log:read"], account_id=owner.id)
        find = token_finder(accounts)
        assert await find(accounts.one_click) == Token(ONE_CLICK.name)
        found = await find(reading.secret)
        assert found is not None
        assert found.name == "owner"
        assert {Operation.WRITE, Operation.ALTER, Operation.DELETE} <= found.denied
        assert Operation.READ not in found.denied
        assert await find("stolen") is None
    finally:
        await accounts.stop()
