"""The keys of an installation: made by name, rotated, disabled; they wrap others' data keys and never leave.

Envelope encryption, as key management services have it: whoever has data makes a key for it, has that wrapped here, and keeps
only the wrapped form. A key's own material is wrapped again, under the master key. The operator gives that one (`master_key`,
best as `master_key_file`): then whoever has the database alone can open nothing. Without, the database keeps it, and what is
protected is data that leaves the house without the database. Once one is given, all material is wrapped anew at the next start
and the database's own is forgotten; with several, the first wraps and all open, so that a master key is changed by writing the
new one before the old, starting, and taking the old one away.

Material that was read is remembered for 0.4 s, as callers are: a key that is disabled is refused on every node within a second.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.model import Act
from mainspring.core.accounts.steps import store as accounts
from mainspring.core.clock import Clock
from mainspring.core.database.steps import Steps
from mainspring.core.keys.model import (
    KEY_BYTES,
    Key,
    KeyDisabled,
    KeyTaken,
    MasterKeyError,
    NotAuthentic,
    State,
    checked_name,
    fingerprint,
    master_keys,
)
from mainspring.core.ports import Connection, Database

if TYPE_CHECKING:
    from mainspring.core.keys import store
else:
    store = Steps("mainspring.core.keys.store")

REMEMBERED_NS = 400_000_000
REMEMBERED_MAX = 10_000
REWRAPPED_AT_ONCE = 100
NONCE_BYTES = 12
VERSION_BYTES = 4


class Material(msgspec.Struct, frozen=True):
    """A key with what it wraps by; `by_version` has every version."""

    key: Key
    by_version: dict[int, bytes]


class KeyStore:
    """Keys over a database whose tables (its own, and those of accounts for the audit log) are prepared; `start` it first.

    `master` is the setting `master_key`. In methods that change something `by` is who asks and `address` where from, for the
    audit log. Whoever may use a key is for the caller to decide.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        master: str = "",
        *,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database = database
        self._clock = clock
        self._random = random
        self._given = master_keys(master)
        self._masters = {fingerprint(one): one for one in self._given}
        self._remembered: dict[str, tuple[Material, int]] = {}

    async def start(self) -> None:
        """Raises `MasterKeyError` where something is wrapped under a master key that is not here."""
        own = await self._database.read(store.own_master)
        if own is not None:
            self._masters[own[0]] = own[1]
        if self._given:
            while await self._database.write(self._rewrap, fingerprint(self._given[0])):
                pass
            if own is not None:
                await self._database.write(store.forget_masters)
        elif found := await self._database.read(store.wrapped_otherwise, own[0] if own else "", 1):
            self._master(found[0][2])

    async def keys(self, after: str = "", count: int = 1_000) -> list[Key]:
        """Keys by name, those after `after`."""
        return await self._database.read(store.list_after, after, count)

    async def key(self, name: str) -> Key:
        """Raises `UnknownKey`."""
        return await self._database.read(store.find, name)

    async def create(self, by: Caller, name: str, address: str = "") -> Key:
        """Raises `KeyTaken`, `TooManyKeys`, `Invalid`."""
        return await self._database.write(
            self._create, checked_name(name), self._random(KEY_BYTES), self._act(by, address)
        )

    async def ensure(self, name: str) -> None:
        """Makes the key `name` where there is none: for whoever needs one of its own and asks nobody for it."""
        if name in self._remembered:
            return
        try:
            await self._database.write(self._create, name, self._random(KEY_BYTES), None)
        except KeyTaken:
            return

    async def rotate(self, by: Caller, name: str, address: str = "") -> Key:
        """Gives a key new material, which seals from now on; what was wrapped before opens as ever. Raises `UnknownKey`,
        `TooManyKeys`."""
        return await self._changed(self._rotate, name, self._random(KEY_BYTES), self._act(by, address))

    async def disable(self, by: Caller, name: str, address: str = "") -> Key:
        """From now on a key neither wraps nor unwraps. Raises `UnknownKey`."""
        return await self._changed(_set_state, name, "disabled", self._act(by, address))

    async def enable(self, by: Caller, name: str, address: str = "") -> Key:
        """Raises `UnknownKey`."""
        return await self._changed(_set_state, name, "enabled", self._act(by, address))

    async def wrap(self, name: str, plain: bytes, context: bytes = b"") -> bytes:
        """`plain` (a data key) sealed under the key `name`; opens only with the same context. Raises `UnknownKey`,
        `KeyDisabled`."""
        found = await self._material(name)
        newest = found.key.versions
        sealed = _seal(found.by_version[newest], self._random(NONCE_BYTES), plain, _bound(name, context))
        return newest.to_bytes(VERSION_BYTES) + sealed

    async def unwrap(self, name: str, wrapped: bytes, context: bytes = b"") -> bytes:
        """What was wrapped. Raises `UnknownKey`, `KeyDisabled`, `NotAuthentic`."""
        found = await self._material(name)
        material = found.by_version.get(int.from_bytes(wrapped[:VERSION_BYTES]))
        if material is None:
            raise NotAuthentic
        return _open(material, wrapped[VERSION_BYTES:], _bound(name, context))

    async def _material(self, name: str) -> Material:
        known = self._remembered.get(name)
        if known is not None and self._clock.mono_ns() < known[1]:
            found = known[0]
        else:
            until_ns = self._clock.mono_ns() + REMEMBERED_NS
            key, rows = await self._database.read(self._read, name)
            opened = {at: _open(self._master(by), wrapped, _bound_version(name, at)) for at, by, wrapped in rows}
            found = Material(key, opened)
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[name] = found, until_ns
        if found.key.state != "enabled":
            raise KeyDisabled(f"The key {name!r} is disabled")
        return found

    async def _changed(self, function: Callable[..., Key], *arguments: object) -> Key:
        changed = await self._database.write(function, *arguments)
        self._remembered.pop(changed.name, None)
        return changed

    def _read(self, connection: Connection, name: str) -> tuple[Key, list[tuple[int, str, bytes]]]:
        found = store.materials(connection, name)
        if any(by not in self._masters for _, by, _ in found[1]) and (own := store.own_master(connection)) is not None:
            self._masters[own[0]] = own[1]  # another node has made it since this one began
        return found

    def _create(self, connection: Connection, name: str, material: bytes, act: Act | None) -> Key:
        master, wrapped = self._wrapped(connection, name, 1, material)
        made = store.add(connection, name, master, wrapped, self._now_us())
        if act is not None:
            accounts.note(connection, act, "key.created", name)
        return made

    def _rotate(self, connection: Connection, name: str, material: bytes, act: Act) -> Key:
        newest = store.find(connection, name).versions + 1
        master, wrapped = self._wrapped(connection, name, newest, material)
        accounts.note(connection, act, "key.rotated", name)
        return store.rotate(connection, name, master, wrapped, self._now_us())

    def _wrapped(self, connection: Connection, name: str, version: int, material: bytes) -> tuple[str, bytes]:
        """(master, wrapped material): under the master key that is given, or the one that the database has *now*, since
        another node may have been given one and have forgotten it."""
        if self._given:
            master = self._given[0]
        else:
            fresh = self._random(KEY_BYTES)
            _, master = store.find_or_add_master(connection, fingerprint(fresh), fresh)
            self._masters[fingerprint(master)] = master
            if others := store.wrapped_otherwise(connection, fingerprint(master), 1):
                self._master(others[0][2])
        return fingerprint(master), _seal(master, self._random(NONCE_BYTES), material, _bound_version(name, version))

    def _rewrap(self, connection: Connection, to: str) -> int:
        """Wraps the next material that is under another master key anew; gives how much."""
        rows = store.wrapped_otherwise(connection, to, REWRAPPED_AT_ONCE)
        for name, version, by, wrapped in rows:
            bound = _bound_version(name, version)
            material = _open(self._master(by), wrapped, bound)
            sealed = _seal(self._masters[to], self._random(NONCE_BYTES), material, bound)
            store.rewrap(connection, name, version, to, sealed)
        return len(rows)

    def _master(self, which: str) -> bytes:
        found = self._masters.get(which)
        if found is None:
            raise MasterKeyError(f"master_key: keys are wrapped under the master key {which}, which is not given")
        return found

    def _act(self, by: Caller, address: str) -> Act:
        return Act(by, address, self._now_us())

    def _now_us(self) -> int:
        return self._clock.wall_ns() // 1_000


def _set_state(connection: Connection, name: str, state: State, act: Act) -> Key:
    changed = store.set_state(connection, name, state)
    accounts.note(connection, act, f"key.{state}", name)
    return changed


def _bound(name: str, context: bytes) -> bytes:
    return name.encode() + b"\0" + context


def _bound_version(name: str, version: int) -> bytes:
    return _bound(name, version.to_bytes(VERSION_BYTES))


def _seal(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # 20 ms that most starts never need

    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _open(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError):
        raise NotAuthentic from None
