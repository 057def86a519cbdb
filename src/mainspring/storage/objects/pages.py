"""Group commit of small objects: whatever is waiting shares one page, one erasure coding, one sync and one transaction.

While one page's rows are committed the next page is already being written. In a page no object straddles two data shards
where that costs little, so that reading one touches one disk.
"""

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec
from awscrt.checksums import crc32c  # type: ignore[import-untyped]

from mainspring.core.crash import crash_point
from mainspring.core.ports import Connection, Database
from mainspring.storage.objects import lookups, references, versions
from mainspring.storage.objects.erasure import Profile
from mainspring.storage.objects.errors import ObjectsError, SlowDown
from mainspring.storage.objects.model import Bucket, Piece, pack_pieces, stripe_lengths
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.stripes import StripeStore, Written
from mainspring.storage.objects.versions import Draft, Placed

ENTRIES_MAX = {"sqlite": 128, "postgresql": 64}
WAITING_MAX = 8192
ROOMY = 8
"""A page this many times as large as its largest entry can afford to leave the end of a shard empty."""


class Entry(msgspec.Struct):
    bucket: str
    body: bytes
    draft: Draft
    profile: Profile | None
    done: "asyncio.Future[Placed]"


class Pages:
    """The group-commit loop. `put` returns once the object is there for everybody, durably."""

    def __init__(self, store: StripeStore, database: Database, numbers: Numbers, settings: ObjectsSettings) -> None:
        self.written = 0
        self._store = store
        self._database = database
        self._numbers = numbers
        self._page_bytes = settings.page_bytes
        self._entries_max = ENTRIES_MAX[database.dialect]
        self._waiting: deque[Entry] = deque()
        self._loop: asyncio.Task[None] | None = None
        self._commits: set[asyncio.Task[None]] = set()

    async def put(self, bucket: str, body: bytes, draft: Draft, profile: Profile | None = None) -> Placed:
        """Raises what the draft's condition raises, `SlowDown` when too many wait, `StorageFull`."""
        if len(self._waiting) >= WAITING_MAX:
            raise SlowDown()
        done: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()
        self._waiting.append(Entry(bucket, body, draft, profile, done))
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name="pages of small objects")
        return await done

    async def stop(self) -> None:
        """Finishes what was accepted."""
        while self._loop is not None or self._commits:
            tasks = [*self._commits, *([self._loop] if self._loop is not None else [])]
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        try:
            while self._waiting:
                entries = self._take()
                try:
                    written = await self._write(entries)
                except Exception as error:
                    _answer(entries, [error] * len(entries))
                    continue
                task = asyncio.create_task(self._commit(entries, written))
                self._commits.add(task)
                task.add_done_callback(self._commits.discard)
                # One page ahead of the database is enough: more would only grow the queue in front of it.
                if len(self._commits) > 1:
                    await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._loop = None
            if self._waiting:  # only where this task was cancelled
                _answer(list(self._waiting), [SlowDown("stopping")] * len(self._waiting))
                self._waiting.clear()

    def _take(self) -> list[Entry]:
        """As many waiting entries of one profile as a page holds, at least one."""
        profile, size = self._waiting[0].profile, 0
        entries: list[Entry] = []
        while self._waiting and len(entries) < self._entries_max:
            entry = self._waiting[0]
            if entry.profile != profile or (entries and size + len(entry.body) > self._page_bytes):
                break
            size += len(entry.body)
            entries.append(self._waiting.popleft())
        return entries

    async def _write(self, entries: Sequence[Entry]) -> Written | None:
        bodies = [entry.body for entry in entries if entry.body]
        if not bodies:
            return None
        profile, _ = self._store.placing.choose(entries[0].profile)
        payload, offsets = lay_out(bodies, profile.k)
        written = await self._store.write(payload, profile)
        try:
            await self._store.sync([written])
        except BaseException:
            self._store.release([written])
            raise
        stripe, at = written.stripe.id, iter(offsets)
        for entry in entries:
            if entry.body:
                piece = Piece(stripe, next(at), len(entry.body), crc32c(entry.body))
                entry.draft.pieces, entry.draft.page = pack_pieces([piece]), stripe
        self.written += 1
        return written

    async def _commit(self, entries: Sequence[Entry], written: Written | None) -> None:
        stripe = None if written is None else written.stripe
        drafts = [(entry.bucket, entry.draft) for entry in entries]
        try:
            results: Sequence[Placed | Exception] = await self._database.write(
                commit_page, self._numbers, stripe, drafts
            )
            crash_point("objects.put.committed")
        except Exception as error:
            results = [error] * len(entries)
        if written is not None:
            self._store.release([written])
        _answer(entries, results)


def commit_page(
    connection: Connection, numbers: Numbers, stripe: Stripe | None, drafts: Sequence[tuple[str, Draft]]
) -> list[Placed | ObjectsError]:
    """Makes each draft a version, or says why not; what is refused leaves no trace."""
    if stripe is not None:
        references.insert_stripe(connection, stripe, sum(len_of(draft.pieces) for _, draft in drafts))
    buckets: dict[str, Bucket] = {}
    results: list[Placed | ObjectsError] = []
    for name, draft in drafts:
        try:
            bucket = buckets.get(name)
            if bucket is None:
                bucket = buckets[name] = lookups.find_bucket(connection, name)
            results.append(versions.put(connection, numbers, bucket, draft))
        except ObjectsError as refusal:
            if draft.pieces:
                references.release(connection, draft.pieces)
            results.append(refusal)
    crash_point("objects.put.transaction")
    return results


def len_of(pieces: bytes) -> int:
    return sum(length for _, length in stripe_lengths(pieces))


def lay_out(bodies: Sequence[bytes], k: int) -> tuple[bytes, list[int]]:
    """The payload of a page, and where each body begins in it."""
    total, largest = sum(map(len, bodies)), max(map(len, bodies))
    if k == 1 or total < ROOMY * largest:
        offsets, at = [], 0
        for body in bodies:
            offsets.append(at)
            at += len(body)
        return b"".join(bodies), offsets
    length = -(-total // k) + largest
    shards: list[list[bytes]] = [[]]
    offsets, used = [], 0
    for body in bodies:
        if used + len(body) > length:
            shards[-1].append(bytes(length - used))
            shards.append([])
            used = 0
        offsets.append((len(shards) - 1) * length + used)
        shards[-1].append(body)
        used += len(body)
    # The codec cuts the payload into k equal shards, so it must be k times `length` long.
    payload = b"".join([part for shard in shards for part in shard])
    return payload + bytes(k * length - len(payload)), offsets


def _answer(entries: Sequence[Entry], results: Sequence[Placed | Exception]) -> None:
    for entry, result in zip(entries, results, strict=True):
        if entry.done.done():
            continue
        if isinstance(result, Exception):
            entry.done.set_exception(result)
        else:
            entry.done.set_result(result)
