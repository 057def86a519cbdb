"""The limiter as a system: its store chosen by configuration, its policies and overrides kept in the database.

What is set here is in force on this node at once and on all others within a second: each looks twice a second at one row
that counts changes, and reads all of it again when the count has grown.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec
import sqlalchemy as sa

from mainspring.core.clock import Clock
from mainspring.core.database import insert
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Conflict, Problem
from mainspring.core.telemetry import Metrics
from mainspring.primitives.limiter.limiter import Limiter
from mainspring.primitives.limiter.memory import MemoryStore
from mainspring.primitives.limiter.model import BadKey, BadPolicy, UnknownPolicy
from mainspring.primitives.limiter.notation import format_policy
from mainspring.primitives.limiter.plans import NAME, policy
from mainspring.primitives.limiter.policies import Policy
from mainspring.primitives.limiter.settings import LimiterSettings
from mainspring.primitives.limiter.sql import SqlStore
from mainspring.primitives.limiter.store import KEY_LETTERS_MAX, Store, token
from mainspring.primitives.limiter.tables import change, override
from mainspring.primitives.limiter.tables import policy as table

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
POLICIES_MAX = 1_000
OVERRIDES_MAX = 100_000
RESERVED = frozenset({"policies", "overrides", "check", "simulate", "replay", "live"})
"""Names that would hide an address of the JSON API."""


def make_store(settings: LimiterSettings, database: Database, clock: Clock) -> Store:
    """The store that is configured."""
    deadline_s = settings.deadline_ms / 1000
    if settings.store == "redis":
        from mainspring.primitives.limiter.redis import RedisStore

        return RedisStore(settings.redis_url, clock, deadline_s=deadline_s, prefix=settings.redis_prefix)
    if settings.store == "sql":
        return SqlStore(database, clock, deadline_s=deadline_s)
    return MemoryStore(clock, settings.max_keys)


def make_limiter(settings: LimiterSettings, store: Store, clock: Clock, metrics: Metrics) -> Limiter:
    """The limiter of the whole house, with the configured policies. Raises `BadPolicy`."""
    return Limiter(store, clock, metrics, **settings.policies)


class Stored(msgspec.Struct, frozen=True):
    """A policy as somebody has set it; `version` grows with each change."""

    name: str
    text: str
    version: int
    updated_us: int


class Full(Problem):
    status, type, title = 507, "limiter/full", "There are too many policies or overrides"


class Rulebook:
    """Policies and overrides that outlive a restart; policies go before those that code and configuration define."""

    def __init__(self, database: Database, limiter: Limiter, clock: Clock) -> None:
        self.limiter = limiter
        self._database = database
        self._clock = clock
        self._seen = -1
        self._policies: dict[str, Stored] = {}
        self._overrides: dict[tuple[str, str], str] = {}
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.refresh()
        self._following = asyncio.create_task(self._follow(), name="limiter rulebook")

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def stored(self, name: str) -> Stored | None:
        """The policy that somebody has set under this name, as this node knows it."""
        return self._policies.get(name)

    async def put(self, name: str, text: str, version: int | None = None) -> Stored:
        """Sets a policy. `version` is the one that the caller has seen (0: none), None where any will do.

        Raises `BadPolicy` (422), `Conflict` (409) where the version is another, and `Full` (507).
        """
        if not NAME.fullmatch(name) or name in RESERVED:
            raise BadPolicy(
                "a policy's name is a-z, 0-9, dots, dashes and underscores, at most 64, and no reserved word"
            )
        canonical = format_policy(policy(text))
        stored = await self._database.write(_put_policy, name, canonical, version, self._now_us())
        await self.refresh()
        return stored

    async def delete(self, name: str, version: int | None = None) -> None:
        """Takes back what `put` has set. Raises `UnknownPolicy` (404) and `Conflict` (409)."""
        await self._database.write(_delete_policy, name, version)
        await self.refresh()

    def overrides_of(self, key: str) -> dict[str, str]:
        """The limits of its own that a key has, by policy, as this node knows them."""
        return {name: text for (name, held), text in self._overrides.items() if held == key}

    def overrides(self) -> list[tuple[str, str, str]]:
        """All overrides as (key, policy, text), in order."""
        return sorted((key, name, text) for (name, key), text in self._overrides.items())

    async def put_overrides(self, key: str, limits: Mapping[str, str | None]) -> dict[str, str]:
        """Gives a key limits of its own by policy; None ends one. Gives all that it has now.

        Raises `UnknownPolicy` (404), `BadPolicy` and `BadKey` (422), and `Full` (507), having changed nothing.
        """
        if not 1 <= len(key) <= KEY_LETTERS_MAX or token(key) != key:
            raise BadKey(f"an override's key has 1 to {KEY_LETTERS_MAX} letters, no NUL, and does not begin with #")
        wanted: dict[str, str | None] = {}
        for name, text in limits.items():
            self.limiter.plan(name)
            wanted[name] = None if text is None else format_policy(one_level(text))
        await self._database.write(_put_overrides, key, wanted, self._now_us())
        await self.refresh()
        return self.overrides_of(key)

    async def refresh(self) -> None:
        """Reads everything again where somebody has changed anything."""
        count, policies, overrides = await self._database.read(_read, self._seen)
        if count <= self._seen:
            return
        self._seen, before, held = count, self._policies, self._overrides
        self._policies, self._overrides = policies, overrides
        for name in before.keys() - policies.keys():
            self.limiter.repeal(name)
        for policy_name, key in held.keys() - overrides.keys():
            self.limiter.restore(policy_name, key)
        for name, stored in policies.items():
            if before.get(name) != stored:
                _apply(self.limiter.amend, name, stored.text)
        for (policy_name, key), text in overrides.items():
            if held.get((policy_name, key)) != text:
                _apply(self.limiter.override, policy_name, key, text)

    async def sweep(self) -> None:
        """Deletes what has expired from the store's table."""
        if isinstance(self.limiter.store, SqlStore):
            await self.limiter.store.sweep()

    async def _follow(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            if isinstance(self.limiter.store, MemoryStore):
                self.limiter.store.sweep()
            try:
                await self.refresh()
            except Problem as away:
                log.warning("policies could not be read again: %s", away)

    def _now_us(self) -> int:
        return self._clock.wall_ns() // 1000


def one_level(text: str) -> Policy:
    """The policy of an override, which is for one key. Raises `BadPolicy`."""
    wanted = policy(text)
    if len(wanted.levels) != 1:
        raise BadPolicy("an override is for one key and so has one level")
    return wanted


def _apply(change: Callable[..., None], *what: str) -> None:
    """A policy that this version cannot read, having been written by another one, must not stop the others."""
    try:
        change(*what)
    except BadPolicy as error:
        log.error("%s: %s", " ".join(what), error)


# Transactions

_count = sa.select(change.c.count).where(change.c.id == 1)
_grow = insert(change).values(id=1, count=1)
_grow = _grow.on_conflict_do_update(index_elements=[change.c.id], set_={"count": change.c.count + 1})
_policies = sa.select(table.c.name, table.c.text, table.c.version, table.c.updated_us)
_policy = _policies.where(table.c.name == sa.bindparam("name"))
_policy_count = sa.select(sa.func.count()).select_from(table)
_save_policy = insert(table).values({name: sa.bindparam(name) for name in ("name", "text", "version", "updated_us")})
_save_policy = _save_policy.on_conflict_do_update(
    index_elements=[table.c.name],
    set_={name: _save_policy.excluded[name] for name in ("text", "version", "updated_us")},
)
_drop_policy = sa.delete(table).where(table.c.name == sa.bindparam("name"))
_all_overrides = sa.select(override.c.policy, override.c.key, override.c.text)
_override_count = sa.select(sa.func.count()).select_from(override)
_save_override = insert(override).values({name: sa.bindparam(name) for name in ("policy", "key", "text", "updated_us")})
_save_override = _save_override.on_conflict_do_update(
    index_elements=[override.c.policy, override.c.key],
    set_={name: _save_override.excluded[name] for name in ("text", "updated_us")},
)
_drop_override = sa.delete(override).where(
    override.c.policy == sa.bindparam("policy"), override.c.key == sa.bindparam("key")
)


def _read(connection: Connection, seen: int) -> tuple[int, dict[str, Stored], dict[tuple[str, str], str]]:
    """The count of changes, and where it is another than `seen` all that there is."""
    count = connection.execute(_count).scalar() or 0
    if count == seen:
        return count, {}, {}
    policies = {row[0]: Stored(*row) for row in connection.execute(_policies)}
    overrides = {(name, key): text for name, key, text in connection.execute(_all_overrides)}
    return count, policies, overrides


def _put_policy(connection: Connection, name: str, text: str, version: int | None, now_us: int) -> Stored:
    before = connection.execute(_policy, {"name": name}).first()
    _check_version(before[2] if before else 0, version)
    if before is None and connection.execute(_policy_count).scalar() >= POLICIES_MAX:
        raise Full(f"at most {POLICIES_MAX:,} policies are kept")
    stored = Stored(name, text, (before[2] if before else 0) + 1, now_us)
    connection.execute(_save_policy, msgspec.structs.asdict(stored))
    connection.execute(_grow)
    return stored


def _delete_policy(connection: Connection, name: str, version: int | None) -> None:
    before = connection.execute(_policy, {"name": name}).first()
    if before is None:
        raise UnknownPolicy(f"nobody has set a policy {name[:64]!r}")
    _check_version(before[2], version)
    connection.execute(_drop_policy, {"name": name})
    connection.execute(_grow)


def _check_version(there: int, seen: int | None) -> None:
    if seen is not None and seen != there:
        raise Conflict(f"the policy is at version {there}, you have seen {seen}", version=there)


def _put_overrides(connection: Connection, key: str, limits: Mapping[str, str | None], now_us: int) -> None:
    kept = [{"policy": name, "key": key, "text": text, "updated_us": now_us} for name, text in limits.items() if text]
    ended = [{"policy": name, "key": key} for name, text in limits.items() if text is None]
    if kept and connection.execute(_override_count).scalar() + len(kept) > OVERRIDES_MAX:
        raise Full(f"at most {OVERRIDES_MAX:,} overrides are kept")
    if kept:
        connection.execute_many(_save_override, kept)
    if ended:
        connection.execute_many(_drop_override, ended)
    connection.execute(_grow)
