"""The whole in one process: systems on their ports, without or with doors.

    async with Mainspring(["links"], Config(data="./data")) as mainspring:
        links = await mainspring.service(Links)        # in process, no network
        await mainspring.listen()                      # and now its doors
        print(mainspring.address)

Entering opens the data folder and the ports, and starts events and jobs; a system is built when somebody first asks for it,
or an event or a job is due. Leaving closes the doors first (running requests are finished), then all that was built, in
reverse.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .accounts import Accounts
from .accounts.key_pairs import access_key_of, secret_key_of
from .accounts.model import DEFAULT_SHAPE, ONE_CLICK, digest
from .blobs_port import BlobsPort
from .clock import Clock, SystemClock
from .config import Config
from .data import Action, DataFolder, DataLocked
from .doors import Doors
from .duties import Duties
from .http.request import Application
from .keys import KeyStore
from .listeners import CannotListen
from .log_port import LogPort
from .manifest import Manifest, closure, manifests, resolve
from .outbox import OutboxLog
from .ports import Cache, Database
from .problems import Problem
from .systems import Systems
from .telemetry import Metrics
from .telemetry.process import ProcessMetrics
from .tls import TlsError
from .wiring import Wiring

if TYPE_CHECKING:
    from sqlalchemy import MetaData

log = logging.getLogger(__name__)
T = TypeVar("T")
CORE = Path(__file__).parent


class CannotStart(RuntimeError):
    """What is configured cannot be started; the text says what to do."""


class Mainspring:
    """Some systems (all where none is named) and all that they use.

    `give` replaces what would be built, by type: ports, the clock, services. `console` answers every path that is no
    system's. Raises `UnknownSystem`; entering raises `CannotStart`.
    """

    def __init__(
        self,
        systems: Sequence[str] = (),
        config: Config | None = None,
        *,
        console: Application | None = None,
        give: Mapping[Any, Any] | None = None,
    ) -> None:
        self.config = config or Config()
        self.metrics = Metrics()
        self.clock: Clock = (give or {}).get(Clock) or SystemClock()
        self.accounts: Accounts
        self._console = console
        self._folder: DataFolder | None = None
        self._doors: Doors | None = None
        self._wiring = Wiring()
        for kind, value in {Config: self.config, Metrics: self.metrics, Clock: self.clock, **(give or {})}.items():
            self._wiring.give(kind, value)
        self._wiring.offer(Database, self._database)
        self._wiring.offer(Cache, self._cache)
        self._wiring.offer(OutboxLog, _outbox)
        self._wiring.offer(ProcessMetrics)
        self._systems = Systems(closure(list(systems) or list(manifests())), self.config, self._wiring, self._prepare)
        self._log_port = LogPort(self.config, self._systems, self._wiring)
        self._blobs_port = BlobsPort(self.config, self._systems, self._wiring)
        self._duties = Duties(self._systems, self._wiring, self.clock, self.metrics)
        self.actions: dict[str, Action] = {
            "address": self._tell_address,
            "systems": self._tell_systems,
            "token.create": self._create_token,
            "token.revoke": self._revoke_token,
            "keys": self._keys,
            "backup": self._back_up,
        }
        """What commands ask for over the data folder's socket, by name."""

    async def __aenter__(self) -> "Mainspring":
        try:
            self._folder = DataFolder(Path(self.config.data))
            self._wiring.offer(Accounts, self._open_accounts)
            self.accounts = await self._wiring.get(Accounts)
            self._wiring.offer(KeyStore, self._open_keys)
            await self._wiring.get(ProcessMetrics)
            database, outbox = await self._wiring.get(Database), await self._wiring.get(OutboxLog)
            await self._duties.start(database, outbox, self._log_port)
            await self._folder.listen(self.actions)
        except (DataLocked, OSError, Problem) as error:
            await self._close()
            raise CannotStart(str(error)) from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def listen(self) -> None:
        """Opens the doors: the main port, and every system's own listeners. Raises `CannotStart`."""
        database = await self._wiring.get(Database)
        self._doors = Doors(
            self.config, self._systems, self._wiring, self.accounts, database, self.metrics, self.clock, self._console
        )
        try:
            await self._doors.open(self.systems)
        except (CannotListen, TlsError) as error:
            raise CannotStart(str(error)) from None

    @property
    def address(self) -> str:
        """Where the console and the JSON API answer, with a slash at the end; only after `listen`."""
        if self._doors is None:
            raise RuntimeError("there is no address before listen()")
        return self._doors.address

    @property
    def one_click(self) -> str:
        """A token for everything, for the life of this process."""
        return self.accounts.one_click

    async def service(self, kind: type[T]) -> T:
        """A service of one of the systems, or a port, by its type; its system is built where it was not."""
        for manifest in self._systems.manifests.values():
            if kind.__module__.startswith(f"mainspring.{manifest.family}.{manifest.name}."):
                await self._systems.get(manifest.name)
        found: T = await self._wiring.get(kind)
        return found

    def has(self, system: str) -> bool:
        """Whether `system` is one of those that run here."""
        return system in self._systems.manifests

    def systems(self) -> list[dict[str, Any]]:
        """What `mainspring systems --json` prints: each system with its state and its listeners."""
        rows = self._doors.listeners() if self._doors else {}
        return [
            describe(one, *self._systems.state(one.name), listeners=rows.get(one.name))
            for one in self._systems.manifests.values()
        ]

    async def migrate(self) -> list[str]:
        """Brings the tables of every system to this version; gives the systems' names."""
        return await prepare_all(await self._wiring.get(Database))

    async def _close(self) -> None:
        if self._doors is not None:
            await self._doors.close()
            self._doors = None
        await self._duties.stop()
        await self._systems.stop()
        await self._wiring.stop()
        if self._folder is not None:
            await self._folder.close()
            self._folder = None

    def _database(self) -> Database:
        if self.config.database:
            from .database.postgres import PostgresDatabase

            return PostgresDatabase(self.config.database, metrics=self.metrics, clock=self.clock)
        from .database import SqliteDatabase

        path = Path(self.config.data) / "mainspring.db"
        return SqliteDatabase(path, metrics=self.metrics, clock=self.clock, floor_bytes=self.config.free_bytes_min)

    def _cache(self) -> Cache:
        if self.config.cache:
            from .cache import RedisCache

            return RedisCache(self.config.cache, clock=self.clock, metrics=self.metrics)
        from .cache import MemoryCache

        return MemoryCache(self.clock, self.config.cache_bytes_max, self.metrics)

    async def _open_accounts(self, database: Database) -> Accounts:
        await _prepare_accounts(database)
        return Accounts(database, self.clock, metrics=self.metrics)

    async def _open_keys(self, database: Database) -> KeyStore:
        await _prepare_keys(database)
        return KeyStore(database, self.clock, self.config.master_key)

    async def _prepare(self, manifest: Manifest) -> None:
        await _prepare_system(await self._wiring.get(Database), manifest)

    async def _tell_address(self, _request: dict[str, Any]) -> dict[str, str]:
        return {"address": self.address}

    async def _tell_systems(self, _request: dict[str, Any]) -> list[dict[str, Any]]:
        return self.systems()

    async def _create_token(self, request: dict[str, Any]) -> dict[str, Any]:
        """A token of the owner's with every scope of one system, in the shape that its field's clients demand."""
        system = str(request["system"])
        manifest = closure([system])[-1]
        name = str(request.get("name") or f"{system} command line")
        made = await self.accounts.create_token(ONE_CLICK, name, [f"{system}:*"], manifest.token or DEFAULT_SHAPE)
        told = {"token": made.secret, "system": system, "id": str(made.token.id), "scopes": sorted(made.token.scopes)}
        if manifest.token is not None and manifest.token.key_pair:
            told["access_key"] = access_key_of(made.token.id)
            told["secret_key"] = secret_key_of(digest(made.secret))
        return told

    async def _revoke_token(self, request: dict[str, Any]) -> dict[str, Any]:
        await self.accounts.revoke_token(ONE_CLICK, int(request["id"]))
        return {}

    async def _keys(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        """Does something to one key, or tells of all."""
        from .keys.command import run

        return await run(await self._wiring.get(KeyStore), str(request["act"]), str(request.get("name") or ""))

    async def _back_up(self, request: dict[str, Any]) -> dict[str, Any]:
        from .backup import backup

        database: Database = await self._wiring.get(Database)
        kept = [await self._log_port.kept(), await self._blobs_port.kept()]
        saved = await backup(
            database,
            Path(str(request["target"])),
            data=Path(self.config.data),
            kept=[one for one in kept if one is not None],
            elsewhere=[folder for folders in self.config.elsewhere().values() for folder in folders],
            clock=self.clock,
        )
        return {"files": len(saved.files), "size_bytes": saved.size_bytes, "created_at": saved.created_at}


async def prepare_all(database: Database) -> list[str]:
    """Brings the tables of accounts, keys and every installed system to this version; gives the systems' names."""
    await _prepare_accounts(database)
    await _prepare_keys(database)
    with_tables = [one for one in manifests().values() if one.tables and not one.missing_extra()]
    for manifest in with_tables:
        await _prepare_system(database, manifest)
    return [one.name for one in with_tables]


async def _prepare_accounts(database: Database) -> None:
    await database.prepare("accounts", _account_tables, CORE / "accounts" / "migrations")


def _account_tables() -> "MetaData":
    from .accounts.tables import tables

    return tables


async def _prepare_keys(database: Database) -> None:
    await database.prepare("keys", _key_tables, CORE / "keys" / "migrations")


def _key_tables() -> "MetaData":
    from .keys.tables import tables

    return tables


async def _prepare_system(database: Database, manifest: Manifest) -> None:
    await database.prepare(manifest.name, resolve(manifest.tables), manifest.folder / "migrations")


def describe(
    manifest: Manifest, state: str = "", reason: str = "", listeners: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """One system as lists of systems show it; without a server its listeners are those that it would open."""
    missing = manifest.missing_extra()
    planned = [
        {"name": one.name, "protocol": one.speaks, "address": one.url(f"127.0.0.1:{one.port}"), "state": "planned"}
        for one in manifest.listeners
    ]
    return {
        "name": manifest.name,
        "family": manifest.family,
        "title": manifest.title,
        "summary": manifest.summary,
        "promise": manifest.promise,
        "level": manifest.level,
        "missing": manifest.missing,
        "keywords": manifest.keywords,
        "state": state or ("missing" if missing else "stopped"),
        "reason": reason or missing or "",
        "listeners": planned if listeners is None else listeners,
    }


def _outbox(database: Database, clock: Clock, metrics: Metrics) -> OutboxLog:
    return OutboxLog(database, clock, metrics=metrics)
