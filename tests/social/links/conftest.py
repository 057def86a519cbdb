"""Links as an embedding program builds them, on both databases, and their listener without a socket."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import mainspring.core.accounts.tables as account_tables
import mainspring.primitives.ids.tables as id_tables
import mainspring.social.links as links_system
from mainspring.core.accounts import Accounts
from mainspring.core.accounts.passwords import Argon2, Passwords
from mainspring.core.cache import MemoryCache
from mainspring.core.clock import Clock, SystemClock
from mainspring.core.config import Config
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Cache, Database, Log
from mainspring.core.telemetry import Metrics
from mainspring.primitives.ids import Ids, IdsSettings
from mainspring.primitives.limiter import Limiter, MemoryStore
from mainspring.social.links import Links, LinksSettings
from mainspring.social.links.paste_http import routes
from mainspring.social.links.paste_renderer import Renderer
from mainspring.social.links.pastes import Pastes
from mainspring.social.links.tables import tables
from mainspring.social.links.wire import application
from tests.asgi import Called, call

GENEROUS = LinksSettings(token_per_minute=1_000_000, unknown_per_minute=1_000_000)
CHEAP = Argon2(memory_kib=64)


async def prepare(database: Any) -> None:
    await database.prepare("links", tables, Path(links_system.__file__).parent / "migrations")
    await database.prepare("accounts", account_tables.tables, Path(account_tables.__file__).parent / "migrations")
    await database.prepare("ids", id_tables.tables, Path(id_tables.__file__).parent / "migrations")


@asynccontextmanager
async def started(
    database: Database,
    settings: LinksSettings = GENEROUS,
    *,
    clock: Clock | None = None,
    log: Log | None = None,
    cache: Cache | None = None,
    config: Config | None = None,
) -> AsyncIterator[Links]:
    """Links on a database whose tables are prepared; several on one database are the nodes of a cluster."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        # Their time is not what is tested, and a clock that jumps an hour leaves their reservation behind.
        ids = Ids(database, SystemClock(), IdsSettings(reserve_ms=60_000))  # a starved machine renews late
        await ids.start()
        stack.push_async_callback(ids.stop)
        own_log = log or OutboxLog(database, clock)  # type: ignore[arg-type]
        if isinstance(own_log, OutboxLog):
            stack.push_async_callback(own_log.stop)
        limiter = Limiter(MemoryStore(clock), clock)
        links = Links(database, own_log, cache or MemoryCache(clock), ids, limiter, clock, settings, config=config)
        links.passwords = links.drafts.passwords = Passwords(CHEAP)
        await links.start()
        stack.push_async_callback(links.stop)
        yield links


Start = Callable[..., Any]


@pytest.fixture
async def start(database: Database) -> AsyncIterator[Start]:
    """`await start(settings=…, clock=…)` gives links on the test's database; all are stopped at its end."""
    await prepare(database)
    async with AsyncExitStack() as stack:

        async def go(settings: LinksSettings = GENEROUS, **more: Any) -> Links:
            return await stack.enter_async_context(started(database, settings, **more))

        yield go


@pytest.fixture
async def links(start: Start) -> Links:
    return await start()  # type: ignore[no-any-return]


@asynccontextmanager
async def pastes_beside(
    links: Links, database: Database, clock: Clock | None = None, *, metrics: Metrics | None = None
) -> AsyncIterator[Pastes]:
    """Pastes on what these links stand on; rendering has as much time as a slow machine needs."""
    clock = clock or links.clock
    pastes = Pastes(database, links.counting._cache, links._ids, links._limiter, clock, links.settings, metrics)
    pastes.passwords, pastes.renderer = Passwords(CHEAP), Renderer(patience_s=60)
    await pastes.start()
    try:
        yield pastes
    finally:
        await pastes.stop()


class Listener:
    """The listener on port 8410 and the JSON API, called in process; `key` is a token with every scope."""

    def __init__(self, links: Links, pastes: Pastes, accounts: Accounts) -> None:
        self.links, self.pastes, self.accounts, self.key = links, pastes, accounts, accounts.one_click
        self.server = application(links, pastes, accounts, links.clock)
        self.json_api = routes.application({Links: links, Pastes: pastes}, accounts.authenticate)

    async def visit(self, target: str, method: str = "GET", **more: Any) -> Called:
        """A request of a stranger."""
        return await call(self.server.exchanges.app, method, target, **more)

    async def shlink(self, method: str, target: str, **more: Any) -> Called:
        return await self.visit(f"/rest/v3{target}", method, headers={"x-api-key": self.key}, **more)

    async def api(self, method: str, target: str, *, token: str | None = None, **more: Any) -> Called:
        return await call(self.json_api, method, f"/api/links{target}", token=token or self.key, **more)


@asynccontextmanager
async def listening(database: Database, links: Links) -> AsyncIterator[Listener]:
    accounts = Accounts(database, links.clock, argon2=CHEAP)
    await accounts.start()
    try:
        async with pastes_beside(links, database) as pastes:
            yield Listener(links, pastes, accounts)
    finally:
        await accounts.stop()


@pytest.fixture
async def listener(database: Database, links: Links) -> AsyncIterator[Listener]:
    async with listening(database, links) as listener:
        yield listener


async def drain(links: Links, log: Log | None = None) -> None:
    """Sends the clicks that were noted, and folds all that is in the log."""
    await links.clicks.flush()
    own_log: Any = log or links.clicks.log
    consumer = own_log.consumer("links.rollups", ["links.clicks"])
    try:
        while await own_log.backlog("links.rollups", "links.clicks"):
            await links.counting.fold(await anext(consumer), consumer)
    finally:
        await consumer.close()
