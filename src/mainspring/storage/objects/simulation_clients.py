"""What uses the object store in its simulation, and notes what it saw, so that it can be held against the promises.

Each key is a register for `core.linear`: a put, a completed upload or a copy writes an ETag, a delete writes None, a put on a
condition compares and sets. What an error answered has not happened. What a power failure left without an answer may have.
A listing in pages reads every key at once, between the call of its first page and that one's answer.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from random import Random
from typing import Any, TypeVar

import msgspec

from mainspring.core.linear import History
from mainspring.storage.objects import Objects
from mainspring.storage.objects.conditions import ReadIf, WriteIf
from mainspring.storage.objects.errors import (
    Locked,
    NoSuchKey,
    NoSuchUpload,
    NoSuchVersion,
    PreconditionFailed,
    ServiceUnavailable,
    SlowDown,
    StorageFull,
)
from mainspring.storage.objects.model import Lock
from mainspring.storage.objects.moves import Delete, Source
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.staging import StagedPut

T = TypeVar("T")

BOX, VAULT = "box", "vault"
KEYS = ("k0", "k1", "k2")
PAIR, STAGE, LIVE = ("pair/a", "pair/b"), ("stage/a", "stage/b"), ("live/a", "live/b")
SMALL_BYTES, STRIPE_BYTES = 4 << 10, 64 << 10
SIZES = (0, 10, 700, SMALL_BYTES, SMALL_BYTES + 1, STRIPE_BYTES // 2, STRIPE_BYTES + 700)
FOR_EVER_US = 9_000_000_000_000_000
REFUSALS = (ServiceUnavailable, SlowDown, StorageFull)
"""What the store may answer to a write where its disks fail; the write has then not happened."""


class Unanswered(Exception):
    """The machine went away before it answered."""


class Kept(msgspec.Struct):
    """A version in the vault that was acknowledged. `gone` is True once its deletion was, None where nobody knows."""

    key: str
    version: str
    etag: str
    locked: bool
    gone: bool | None = False


class Notes:
    """What all clients saw, in all lives of the machine."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.history = History()
        self.sums: dict[str, str] = {}
        self.refused: set[str] = set()
        self.kept: list[Kept] = []
        self.answers = 0
        self._ticks = 0

    def tick(self) -> int:
        self._ticks += 1
        return self._ticks

    def body(self, size: int) -> tuple[bytes, str]:
        """A body that nothing else has, and its ETag."""
        body = self.random.randbytes(size) if size else b""
        return body, self.note(body, hashlib.md5(body, usedforsecurity=False).hexdigest())

    def note(self, body: bytes, etag: str) -> str:
        self.sums[etag] = hashlib.sha256(body).hexdigest()
        return etag


class Client:
    """One of several that use `objects` at the same time until the machine goes: `alive` says whether it is there."""

    def __init__(self, notes: Notes, objects: Objects, alive: Callable[[], bool]) -> None:
        self.notes = notes
        self.objects = objects
        self.alive = alive
        self.random = Random(notes.random.random())

    async def run(self, steps: int) -> None:
        """Raises `AssertionError` where it sees a promise broken."""
        deeds = (
            self.put,
            self.put,
            self.put_if,
            self.put_if,
            self.read,
            self.read,
            self.delete,
            self.upload,
            self.copy,
            self.break_off,
            self.commit_pair,
            self.list_all,
            self.keep,
            self.keep,
            self.discard,
        )
        for _ in range(steps):
            try:
                await self.random.choice(deeds)()
            except Unanswered:
                return
            await asyncio.sleep(self.random.random() * 0.003)

    async def ask(self, work: Awaitable[T]) -> T:
        """What the store answers. Raises `Unanswered` where the machine goes first, whatever it was that was raised."""
        try:
            answer = await work
        except BaseException:
            if not self.alive():
                raise Unanswered from None
            raise
        if not self.alive():
            raise Unanswered
        self.notes.answers += 1
        return answer

    async def write(self, key: Hashable, etag: str | None, work: Awaitable[object]) -> bool:
        """A write of `etag` to a key's register; gives False where it was refused."""
        call = self.notes.history.call(key, "write", etag, at=self.notes.tick())
        try:
            await self.ask(work)
        except (*REFUSALS, NoSuchKey, NoSuchUpload, PreconditionFailed):
            self.notes.history.failed(call)
            return False
        self.notes.history.returned(call, None, at=self.notes.tick())
        return True

    async def compare_and_set(self, key: Hashable, seen: str | None, etag: str, work: Awaitable[object]) -> None:
        call = self.notes.history.call(key, "cas", (seen, etag), at=self.notes.tick())
        try:
            await self.ask(work)
        except REFUSALS:
            self.notes.history.failed(call)
        except (PreconditionFailed, NoSuchKey):
            self.notes.history.returned(call, False, at=self.notes.tick())
        else:
            self.notes.history.returned(call, True, at=self.notes.tick())

    def any_body(self) -> tuple[bytes, str]:
        # Only one body is empty, and a register must tell what wrote it.
        return self.notes.body(self.random.choice(SIZES[1:]))

    async def put(self) -> None:
        body, etag = self.any_body()
        key = self.random.choice(KEYS)
        await self.write(key, etag, self.objects.put(BOX, key, body))

    async def put_if(self) -> None:
        key = self.random.choice(KEYS)
        seen = await self.look(key)
        body, etag = self.any_body()
        condition = WriteIf(none_match="*") if seen is None else WriteIf(match=seen)
        await self.compare_and_set(key, seen, etag, self.objects.put(BOX, key, body, condition=condition))

    async def look(self, key: str) -> str | None:
        try:
            return (await self.ask(self.objects.head(BOX, key))).etag
        except NoSuchKey:
            return None

    async def read(self) -> None:
        key = self.random.choice(KEYS)
        call = self.notes.history.call(key, "read", at=self.notes.tick())
        try:
            etag: str | None = await self.fetch(BOX, key)
        except NoSuchKey:
            etag = None
        except Unanswered:
            self.notes.history.failed(call)
            raise
        self.notes.history.returned(call, etag, at=self.notes.tick())

    async def fetch(self, bucket: str, key: str, version: str | None = None) -> str:
        """Reads an object to its end, and gives its ETag."""
        reader = await self.ask(self.objects.get(bucket, key, version=version))
        body = await self.ask(reader.read())
        etag = reader.object.etag
        assert hashlib.sha256(body).hexdigest() == self.notes.sums.get(etag), f"{key} {etag} reads back otherwise"
        return etag

    async def delete(self) -> None:
        key = self.random.choice(KEYS)
        await self.write(key, None, self.objects.delete(BOX, key))

    async def upload(self) -> None:
        key, uploads = self.random.choice(KEYS), self.objects.uploads
        parts = [self.notes.body(size)[0] for size in (STRIPE_BYTES // 2, 300)]
        sums = [hashlib.md5(part, usedforsecurity=False).digest() for part in parts]
        etag = f"{hashlib.md5(b''.join(sums), usedforsecurity=False).hexdigest()}-{len(parts)}"
        self.notes.note(b"".join(parts), etag)
        try:
            id = await self.ask(uploads.begin(BOX, key))
            rows = [await self.ask(uploads.put_part(BOX, key, id, n, part)) for n, part in enumerate(parts, 1)]
        except REFUSALS:
            return
        if self.random.random() < 0.2:
            await self.ask(uploads.abort(BOX, key, id))
        elif self.random.random() < 0.9:
            wanted = [Wanted(row.number, row.etag) for row in rows]
            await self.write(key, etag, uploads.complete(BOX, key, id, wanted))

    async def copy(self) -> None:
        source, target = self.random.sample(KEYS, 2)
        seen = await self.look(source)
        if seen is not None:
            origin = Source(BOX, source, condition=ReadIf(match=seen))
            await self.write(target, seen, self.objects.copy(origin, BOX, target))

    async def break_off(self) -> None:
        """A body whose sender goes away: nothing of it is ever seen."""
        body, etag = self.notes.body(self.random.choice((300, STRIPE_BYTES + 500, 2 * STRIPE_BYTES)))
        self.notes.refused.add(etag)

        async def sent() -> AsyncIterator[bytes]:
            yield body
            await asyncio.sleep(self.random.random() * 0.01)
            raise ConnectionResetError

        try:
            await self.ask(self.objects.put(BOX, self.random.choice(KEYS), sent()))
        except (ConnectionResetError, *REFUSALS):
            return
        raise AssertionError("a body that broke off was taken")

    async def commit_pair(self) -> None:
        seen = await self.look(PAIR[0])
        body, etag = self.notes.body(self.random.choice((200, SMALL_BYTES + 1)))
        condition = WriteIf(none_match="*") if seen is None else WriteIf(match=seen)
        puts = [StagedPut(key, body) for key in PAIR]
        puts[0].wish.condition = condition
        await self.compare_and_set("pair", seen, etag, self.objects.commit(BOX, puts))

    async def list_all(self) -> None:
        """Page after page, while others write: what the pages show is of the moment of the first."""
        found: dict[str, str] = {}
        count, token = self.random.randint(1, 4), None
        called_at = self.notes.tick()
        page = await self.ask(self.objects.list(BOX, count=count))
        returned_at = self.notes.tick()
        while True:
            found.update((one.key, one.etag) for one in page.entries)
            token = page.token
            if token is None:
                break
            await asyncio.sleep(self.random.random() * 0.02)
            page = await self.ask(self.objects.list(BOX, count=count, token=token))
        assert set(found) <= {*KEYS, *PAIR, *STAGE, *LIVE}, f"{sorted(found)} are listed"
        torn = [pair for pair in (PAIR, STAGE, LIVE) if found.get(pair[0]) != found.get(pair[1])]
        assert not torn, f"of what was committed together a listing shows a half: {torn}"
        assert not self.notes.refused & set(found.values()), "what broke off is listed"
        for key in KEYS:
            self.saw(key, found.get(key), called_at, returned_at)
        for name, pair in (("pair", PAIR), ("stage", STAGE), ("live", LIVE)):
            self.saw(name, found.get(pair[0]), called_at, returned_at)

    def saw(self, key: Hashable, etag: str | None, called_at: int, returned_at: int) -> None:
        call = self.notes.history.call(key, "read", at=called_at)
        self.notes.history.returned(call, etag, at=returned_at)

    async def keep(self) -> None:
        """Puts a version that stays, perhaps under lock."""
        body, etag = self.any_body()
        key, locked = self.random.choice(("v0", "v1")), self.random.random() < 0.4
        lock = Lock(mode="COMPLIANCE", until_us=FOR_EVER_US) if locked else None
        try:
            made = await self.ask(self.objects.put(VAULT, key, body, lock=lock))
        except REFUSALS:
            self.notes.refused.add(etag)
            return
        self.notes.kept.append(Kept(key, made.version, etag, locked))

    async def discard(self) -> None:
        """Deletes a version for good, which a lock forbids."""
        there = [one for one in self.notes.kept if one.gone is False]
        if not there:
            return
        one = self.random.choice(there)
        if not one.locked:
            one.gone = None
        bypass = self.random.random() < 0.5
        try:
            await self.ask(self.objects.delete(VAULT, one.key, one.version, bypass_governance=bypass))
        except Locked:
            assert one.locked, f"{one} is not locked"
            return
        assert not one.locked, f"{one} was deleted in spite of its lock"
        one.gone = True


class Mover(Client):
    """Commits two keys together, and renames both at once, again and again."""

    async def run(self, steps: int) -> None:
        try:
            for _ in range(steps):
                await self.move()
                await asyncio.sleep(self.random.random() * 0.01)
        except Unanswered:
            return

    async def move(self) -> None:
        body, etag = self.notes.body(self.random.choice((100, SMALL_BYTES + 5)))
        if not await self.write("stage", etag, self.objects.commit(BOX, [StagedPut(key, body) for key in STAGE])):
            return
        if self.random.random() < 0.2:
            await self.write("stage", None, self.objects.commit(BOX, [Delete(key) for key in STAGE]))
            return
        leaves = self.notes.history.call("stage", "write", None, at=self.notes.tick())
        if await self.write("live", etag, self.objects.rename_prefix(BOX, "stage/", "live/")):
            self.notes.history.returned(leaves, None, at=self.notes.tick())
        else:
            self.notes.history.failed(leaves)


async def read_everything(client: Client) -> None:
    """Holds what is there at the end against all that was acknowledged."""
    await client.list_all()
    for key in KEYS:
        at = client.notes.tick()
        try:
            etag: str | None = await client.fetch(BOX, key)
        except NoSuchKey:
            etag = None
        client.saw(key, etag, at, client.notes.tick())
    for one in client.notes.kept:
        if one.gone is True:
            await absent(client, one)
        elif one.gone is False:
            assert await client.fetch(VAULT, one.key, one.version) == one.etag, f"{one} is another"
    page: Any = await client.objects.list_versions(VAULT)
    for entry in page.entries:
        assert entry.etag not in client.notes.refused, f"{entry.key} {entry.etag} was refused and is listed"
        await client.fetch(VAULT, entry.key, entry.version)


async def absent(client: Client, one: Kept) -> None:
    try:
        await client.fetch(VAULT, one.key, one.version)
    except NoSuchVersion:
        return
    raise AssertionError(f"{one} was deleted and is there")
