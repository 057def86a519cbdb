"""`Objects`: what other code calls. Buckets, objects and their versions, in the words of S3, without its wire.

A result means that it is durable and that every later call sees it. An error means that nothing has changed.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.ports import Connection, Database
from mainspring.core.telemetry import Metrics
from mainspring.storage.objects import buckets, checksums, listing, references, versions
from mainspring.storage.objects.checksums import Digests
from mainspring.storage.objects.conditions import ALWAYS, ReadIf, WriteIf
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.errors import InvalidArgument
from mainspring.storage.objects.intake import Body
from mainspring.storage.objects.listing import Ask, Page, Token
from mainspring.storage.objects.model import (
    NULL,
    About,
    Bucket,
    Checksum,
    Deleted,
    Lock,
    LockDefault,
    Object,
    Versioning,
    checked_bucket_name,
    checked_metadata,
    checked_tags,
    key_bytes,
    pack_pieces,
    parse_version,
    unpack_pieces,
)
from mainspring.storage.objects.reading import Reader, resolve_range
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.versions import Draft, Found, Numbers, Placed
from mainspring.storage.objects.volumes import Files

REGION = "us-east-1"


class Objects:
    """An object store on directories. By hand: prepare the tables, `start`, and `stop` at the end.

    Errors are those of `errors`, each with the S3 code that a client knows it by. Times are microseconds UTC.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: ObjectsSettings | None = None,
        metrics: Metrics | None = None,
        config: Config | None = None,
        *,
        directories: Sequence[Path] = (),
        files: Files | None = None,
    ) -> None:
        """`directories` stand for disks; without any, those of the settings, or one in the data folder of `config`."""
        self.settings = settings = settings or ObjectsSettings()
        self.clock = clock
        self._database = database
        chosen = list(directories) or [Path(one) for one in settings.directories]
        if not chosen and config is not None:
            chosen = [Path(config.data) / "objects"]
        self._engine = Engine(database, clock, settings, chosen, self._bad_stripe, files)

    async def start(self) -> None:
        await self._engine.start()

    async def stop(self) -> None:
        await self._engine.stop()

    def now_us(self) -> int:
        return self.clock.wall_ns() // 1000

    def _bad_stripe(self, stripe: Stripe) -> None:
        pass

    # Buckets

    async def create_bucket(self, name: str, *, owner: str = "", region: str = REGION, lock: bool = False) -> Bucket:
        """Makes a bucket; with `lock` it has object lock. Raises `InvalidBucketName`, `BucketAlreadyOwnedByYou`,
        `BucketAlreadyExists`."""
        checked_bucket_name(name)
        return await self._database.write(buckets.create, name, owner, region, lock, self.now_us())

    async def delete_bucket(self, name: str) -> None:
        """Raises `NoSuchBucket`, `BucketNotEmpty`."""
        await self._database.write(buckets.remove, name, self.now_us())

    async def bucket(self, name: str) -> Bucket:
        """Raises `NoSuchBucket`."""
        return await self._database.read(versions.find_bucket, name)

    async def list_buckets(
        self, *, owner: str | None = None, prefix: str = "", after: str = "", count: int = buckets.BUCKETS_PAGE_MAX
    ) -> list[Bucket]:
        """Buckets by name, of one owner or of all."""
        return await self._database.read(buckets.list_some, owner, prefix, after, min(count, buckets.BUCKETS_PAGE_MAX))

    async def set_versioning(self, bucket: str, versioning: Versioning) -> None:
        await self._database.write(buckets.set_versioning, bucket, versioning)

    async def set_lock_default(self, bucket: str, default: LockDefault) -> None:
        """Turns object lock on, or changes what new versions get."""
        await self._database.write(buckets.set_lock, bucket, default)

    async def setting(self, bucket: str, kind: str) -> bytes:
        """A document that was given for the bucket. Raises `NoSuchConfiguration`."""
        return await self._database.read(buckets.read_setting, bucket, kind)

    async def bucket_with_settings(self, bucket: str) -> tuple[Bucket, dict[str, bytes]]:
        """The bucket and all of its documents, by kind: what a door needs to decide on a request."""
        return await self._database.read(buckets.read_settings, bucket)

    async def set_setting(self, bucket: str, kind: str, document: bytes | None) -> None:
        """Stores a document, or with None forgets it."""
        await self._database.write(buckets.write_setting, bucket, kind, document)

    # Objects

    async def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None = None,
        headers: dict[str, str] | None = None,
        metadata: dict[str, str] | None = None,
        condition: WriteIf = ALWAYS,
        checksum: Checksum | None = None,
        md5: str | None = None,
        tags: dict[str, str] | None = None,
        lock: Lock | None = None,
        storage_class: str = "STANDARD",
        owner: str = "",
        acl: bytes = b"",
        event: str = "ObjectCreated:Put",
    ) -> Object:
        """Stores `body` under `key` once all of it is durable.

        `headers` are the system headers to give back (lower case); `checksum` names an algorithm and maybe the value it must
        have; `md5` is a Content-MD5 (base64). A chunk that a body's iterator yields may change once the next is asked for;
        what the iterator raises ends the put. Raises also `BadDigest`, `IncompleteBody`, `EntityTooLarge`, `StorageFull`.
        """
        key_bytes(key)
        about = About(headers or {}, checked_metadata(metadata or {}), None, storage_class, owner, acl=acl)
        wish, expected_md5 = checksums.checked(checksum), checksums.checked_md5(md5)
        await self.bucket(bucket)
        digests = Digests(wish.algorithm if wish else checksums.DEFAULT)
        received = await self._engine.intake.receive(body, digests, size=size)
        try:
            checksums.compare(digests, expected_md5, wish)
            draft = Draft(
                key,
                received.size,
                digests.md5,
                pack_pieces(received.pieces),
                msgspec.structs.replace(about, checksum=digests.checksum),
                tags=checked_tags(tags or {}) or None,
                lock=lock,
                condition=condition,
                event=event,
            )
            if received.small is not None:
                placed = await self._engine.pages.put(bucket, received.small, draft)
            else:
                stripes = [(one.stripe, len_of(one.stripe)) for one in received.written]
                placed = await self._database.write(_put_large, self._engine.numbers, bucket, stripes, draft)
        finally:
            self._engine.store.release(received.written)
        return _made(bucket, draft, placed)

    async def get(
        self,
        bucket: str,
        key: str,
        range: tuple[int | None, int | None] | None = None,
        version: str | None = None,
        *,
        part: int | None = None,
        condition: ReadIf | None = None,
        as_of_us: int | None = None,
    ) -> Reader:
        """An object and its bytes. `range` is (first, last) inclusive; (first, None) to the end; (None, n) the last n.

        Raises `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `MethodNotAllowed` (a delete marker by its version),
        `InvalidRange`, `InvalidPartNumber`, `PreconditionFailed`, `NotModified`.
        """
        found = await self._find(bucket, key, version, condition, as_of_us)
        start, stop = resolve_range(found.object, range, part)
        return Reader(
            self._engine.store,
            found.object,
            unpack_pieces(found.pieces),
            found.stripe,
            start,
            stop,
            None,
            self._engine.readers.add,
            self._engine.readers.discard,
        )

    async def head(
        self,
        bucket: str,
        key: str,
        version: str | None = None,
        *,
        condition: ReadIf | None = None,
        as_of_us: int | None = None,
    ) -> Object:
        """What `get` would give, without its bytes."""
        return (await self._find(bucket, key, version, condition, as_of_us)).object

    async def delete(
        self,
        bucket: str,
        key: str,
        version: str | None = None,
        *,
        condition: WriteIf = ALWAYS,
        bypass_governance: bool = False,
    ) -> Deleted:
        """Deletes a key (with versioning: puts a marker on it) or, for good, one version. Raises `Locked`, or what the
        condition raises. What is not there is deleted already."""
        key_bytes(key)
        return await self._database.write(
            _delete, self._engine.numbers, bucket, key, version, condition, bypass_governance
        )

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        *,
        count: int = listing.KEYS_MAX,
        token: str | None = None,
        as_of_us: int | None = None,
    ) -> Page:
        """Keys after `after`, with common prefixes rolled up at `delimiter`. With the `token` of the page before, `after` is
        ignored and the same moment is shown. Raises `NoSuchBucket`, `InvalidArgument`."""
        begun = None if token is None else listing.decode_token(token)
        prefix_bytes, delimiter_bytes = prefix.encode(), delimiter.encode()
        start = listing.first_start(prefix_bytes, delimiter_bytes, after.encode()) if begun is None else begun.start
        ask = Ask(prefix_bytes, delimiter_bytes, start, None, min(count, listing.KEYS_MAX), as_of_us)
        return await self._walk(bucket, ask, begun)

    async def list_versions(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_marker: str = "",
        *,
        count: int = listing.KEYS_MAX,
        token: str | None = None,
    ) -> Page:
        """Versions and delete markers, newest first within a key; after the version `version_marker` of `key_marker`."""
        begun = None if token is None else listing.decode_token(token)
        prefix_bytes, delimiter_bytes = prefix.encode(), delimiter.encode()
        if begun is not None:
            start, below = begun.start, begun.below
        elif version_marker:
            if not key_marker:
                raise InvalidArgument("A version-id marker cannot be specified without a key marker.")
            start, below = key_marker.encode(), await self._rank_of(bucket, key_marker, version_marker)
        else:
            start, below = listing.first_start(prefix_bytes, delimiter_bytes, key_marker.encode()), None
        ask = Ask(prefix_bytes, delimiter_bytes, start, below, min(count, listing.KEYS_MAX), None, True)
        return await self._walk(bucket, ask, begun)

    async def _rank_of(self, bucket: str, key: str, version: str) -> int:
        seq = parse_version(version)
        if seq is not None:
            return -seq
        found = await self._database.read(versions.find_version_in, bucket, key, NULL)
        return found.rank

    async def _walk(self, bucket: str, ask: Ask, begun: Token | None) -> Page:
        """One page; a first page that is not the last fixes the moment that the following ones show, and is read at it."""
        at = ask.at
        if begun is not None and begun.at > self.now_us() - self._engine.numbers.snapshot_us:
            at = begun.at
        walked = await self._database.read(listing.walk, bucket, msgspec.structs.replace(ask, at=at))
        if walked.next is not None and at is None:
            at = await self._database.write(_fix_moment, self._engine.numbers, walked.bucket.id)
            walked = await self._database.read(listing.walk, bucket, msgspec.structs.replace(ask, at=at))
        entries, prefixes, next = walked.entries, [one.decode() for one in walked.prefixes], walked.next
        last = max([*(one.key for one in entries[-1:]), *prefixes[-1:]], key=str.encode, default=None)
        return Page(
            entries,
            prefixes,
            None if next is None else listing.encode_token(next),
            None if next is None else last,
            entries[-1].version if next is not None and entries and entries[-1].key == last else None,
            walked.bucket.versioning,
        )

    async def _find(
        self, bucket: str, key: str, version: str | None, condition: ReadIf | None, as_of_us: int | None
    ) -> Found:
        key_bytes(key)
        found = await self._database.read(versions.read, bucket, key, version, as_of_us)
        if condition is not None:
            condition.check(found.object.etag, found.object.modified_us)
        return found


def len_of(stripe: Stripe) -> int:
    return stripe.size


def _put_large(
    connection: Connection,
    numbers: Numbers,
    bucket: str,
    stripes: Sequence[tuple[Stripe, int]],
    draft: Draft,
) -> Placed:
    for stripe, live in stripes:
        references.insert_stripe(connection, stripe, live)
    return versions.put(connection, numbers, versions.find_bucket(connection, bucket), draft)


def _delete(
    connection: Connection,
    numbers: Numbers,
    bucket: str,
    key: str,
    version: str | None,
    condition: WriteIf,
    bypass_governance: bool,
) -> Deleted:
    found = versions.find_bucket(connection, bucket)
    return versions.remove(connection, numbers, found, key, version, condition, bypass_governance)


def _fix_moment(connection: Connection, numbers: Numbers, bucket: int) -> int:
    at = numbers.next()
    buckets.show(connection, bucket, at)
    return at


def _made(bucket: str, draft: Draft, placed: Placed) -> Object:
    about = draft.about
    return Object(
        bucket,
        draft.key,
        placed.version,
        placed.seq,
        draft.size,
        draft.etag,
        about.headers,
        about.metadata,
        about.checksum,
        about.storage_class,
        about.owner,
        about.parts,
        about.sealed,
        draft.tags or {},
        placed.lock,
        acl=about.acl,
        versioned=placed.versioned,
    )
