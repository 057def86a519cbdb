"""`Objects`: what other code calls. Buckets, objects and their versions, in the words of S3, without its wire.

A result means that it is durable and that every later call sees it. An error means that nothing has changed.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.crash import crash_point
from mainspring.core.keys import KeyStore
from mainspring.core.ports import Connection, Database
from mainspring.core.telemetry import Metrics
from mainspring.storage.objects import buckets, checksums, listing, locks, lookups, moves, versions
from mainspring.storage.objects.at_hand import SmallReads
from mainspring.storage.objects.committing import commit
from mainspring.storage.objects.conditions import ALWAYS, ReadIf, WriteIf
from mainspring.storage.objects.encryption import CUSTOMER
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.erasure import parse_profile
from mainspring.storage.objects.errors import InvalidArgument
from mainspring.storage.objects.files import Files
from mainspring.storage.objects.intake import Body
from mainspring.storage.objects.keys import Encryption, Keys
from mainspring.storage.objects.listing import Page
from mainspring.storage.objects.lookups import Found
from mainspring.storage.objects.model import (
    Bucket,
    Checksum,
    Deleted,
    LockDefault,
    Object,
    Versioning,
    checked_bucket_name,
    checked_metadata,
    checked_tags,
    key_bytes,
    unpack_pieces,
)
from mainspring.storage.objects.moves import Changes, Operation, Source
from mainspring.storage.objects.paging import Paging
from mainspring.storage.objects.reading import Reader, resolve_range
from mainspring.storage.objects.saving import KeptObjects
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.staging import StagedPut, Staging, Wish, wish_of_copy
from mainspring.storage.objects.upkeep import Upkeep
from mainspring.storage.objects.uploads import Uploads

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
        keys: KeyStore | None = None,
        *,
        directories: Sequence[Path] = (),
        files: Files | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """`directories` stand for disks; without any, those of the settings, or one in the data folder of `config`.
        `keys` has the named keys of encryption; without, only customers' own keys are of use."""
        self.settings = settings = settings or ObjectsSettings()
        self.clock = clock
        self._database = self.database = database
        chosen = list(directories) or [Path(one) for one in settings.directories]
        if not chosen and config is not None:
            chosen = [Path(config.data) / "objects"]
        self._engine = self.engine = Engine(database, clock, settings, chosen, files, random)
        self.upkeep = Upkeep(self._engine, metrics)
        self._engine.store.on_bad = self.upkeep.bad_stripe
        self._keys = Keys(keys, random)
        self.paging = Paging(self._engine)
        self._staging = Staging(self._engine, self._keys)
        self.small_reads = SmallReads(database, self._engine.store)
        self.uploads = Uploads(self._engine, self._staging, self._keys)

    async def start(self) -> None:
        await self._engine.start()
        self.upkeep.start()

    async def stop(self) -> None:
        await self.upkeep.stop()
        await self._engine.stop()

    async def look_after_disks(self) -> None:
        """A job: notices lost disks and has what they held healed."""
        await self.upkeep.look()

    async def sweep(self) -> None:
        """A job: lifecycle rules, and rows that were kept for listings."""
        await self.upkeep.sweep()

    async def scrub(self) -> None:
        """A job: reads the next shards again."""
        await self.upkeep.scrub_due()

    async def compact(self) -> None:
        """A job: gives dead bytes back."""
        await self.upkeep.compact()

    def kept(self, home: Path) -> KeptObjects:
        """What a backup needs; `home` is the store's folder in the data folder."""
        return KeptObjects(self._engine, self.upkeep.compaction, home)

    def now_us(self) -> int:
        return self.clock.wall_ns() // 1000

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
        return await self._database.read(lookups.find_bucket, name)

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

    async def set_profile(self, bucket: str, profile: str | None) -> None:
        """Chooses the erasure profile (`k+m`) of what is put from now on; `upkeep.convert` cuts anew what is there."""
        if profile is not None:
            try:
                parse_profile(profile)
            except ValueError as error:
                raise InvalidArgument(str(error)) from None
        await self._database.write(buckets.set_profile, bucket, profile)

    async def setting(self, bucket: str, kind: str) -> bytes:
        """A document that was given for the bucket. Raises `NoSuchConfiguration`."""
        return await self._database.read(buckets.read_setting, bucket, kind)

    async def bucket_with_settings(self, bucket: str) -> tuple[Bucket, dict[str, bytes]]:
        """The bucket and all of its documents, by kind: what a door needs to decide on a request."""
        return await self._database.read(buckets.read_settings, bucket)

    async def set_setting(self, bucket: str, kind: str, document: bytes | None) -> None:
        """Stores a document, or with None forgets it."""
        await self._database.write(buckets.write_setting, bucket, kind, document)

    async def buckets_with(self, kind: str, most: int) -> list[str]:
        """The first `most` buckets by name that have a document of this kind."""
        return await self._database.read(buckets.names_with_setting, kind, most)

    # Objects

    async def put(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        size: int | None = None,
        wish: Wish | None = None,
        known: Bucket | None = None,
        **wishes: Any,
    ) -> Object:
        """Stores `body` under `key` once all of it is durable; `wishes` are the fields of a `Wish`, which may be given whole.

        `known` is the bucket as it was a moment ago: only its profile is taken from it, the transaction looks for itself.

        A chunk that a body's iterator yields may change once the next is asked for; what the iterator raises ends the put.
        Raises `NoSuchBucket`, `KeyTooLong`, `BadDigest`, `IncompleteBody`, `EntityTooLarge`, `MetadataTooLarge`,
        `SlowDown`, `StorageFull`, or what the condition raises; nothing is stored then.
        """
        wish = wish or Wish(**wishes)
        staged = await self._staging.take(known or await self.bucket(bucket), key, body, size, wish)
        try:
            if staged.small is not None:
                placed = await self._engine.pages.put(bucket, staged.small, staged.draft, staged.profile)
            else:
                placed = await self._database.write(
                    versions.put_stripes, self._engine.numbers, bucket, staged.stripes, staged.draft
                )
                crash_point("objects.put.committed")
        finally:
            self._staging.let_go(staged)
        return versions.made_object(bucket, staged.draft, placed)

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
        customer_key: bytes | None = None,
    ) -> Reader:
        """An object and its bytes. `range` is (first, last) inclusive; (first, None) to the end; (None, n) the last n.

        Raises `NoSuchBucket`, `NoSuchKey`, `NoSuchVersion`, `MethodNotAllowed` (a delete marker by its version),
        `InvalidRange`, `InvalidPartNumber`, `PreconditionFailed`, `NotModified`.
        """
        ticket = self._engine.begin_reading()
        found = await self._find(bucket, key, version, condition, as_of_us, lookups.read_for_bytes)
        start, stop = resolve_range(found.object, range, part)
        sealed = found.object.sealed
        data_key = None if sealed is None else await self._keys.open(sealed, customer_key)
        return Reader(
            self._engine.store,
            found.object,
            unpack_pieces(found.pieces),
            found.stripes,
            start,
            stop,
            data_key,
            ticket,
            self._engine.readers,
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

    async def pieces(self, bucket: str, key: str, version: str) -> bytes:
        """Where the bytes of a version are, packed as `model.Piece`s."""
        return (await self._find(bucket, key, version, None, None)).pieces

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
        deleted = await self._database.write(
            versions.delete, self._engine.numbers, bucket, key, version, condition, bypass_governance
        )
        crash_point("objects.delete.committed")
        return deleted

    async def copy(
        self,
        source: Source,
        bucket: str,
        key: str,
        *,
        condition: WriteIf = ALWAYS,
        changes: Changes | None = None,
        checksum: Checksum | None = None,
        encryption: Encryption | None = None,
        source_customer_key: bytes | None = None,
    ) -> tuple[Object, str]:
        """Copies an object; gives also the version of its source. By reference, moving no byte, unless it is to be
        encrypted otherwise or to have another checksum."""
        key_bytes(key)
        changes = _checked(changes or Changes())
        origin = (await self._find(source.bucket, source.key, source.version, None, None)).object
        source.condition.check(origin.etag, origin.modified_us, prefix="x-amz-copy-source-")
        asked = checksums.checked(checksum)
        as_sealed = encryption is None and (origin.sealed is None or origin.sealed.mode != CUSTOMER)
        as_summed = asked is None or (origin.checksum is not None and origin.checksum.algorithm == asked.algorithm)
        if as_sealed and as_summed:
            draft, placed, version = await self._database.write(
                moves.copy, self._engine.numbers, source, bucket, key, condition, changes
            )
            return versions.made_object(bucket, draft, placed), version
        reader = await self.get(
            source.bucket,
            source.key,
            version=origin.version,
            customer_key=source_customer_key,
            condition=source.condition,
        )
        wish = wish_of_copy(origin, changes, condition, asked, encryption)
        return await self.put(bucket, key, reader, size=origin.size, wish=wish), origin.version

    async def rename(self, bucket: str, source: str, target: str, *, condition: WriteIf = ALWAYS) -> Object:
        """Gives an object another key, at once for everybody. Raises `NoSuchKey`, or what the condition on `target`
        raises."""
        key_bytes(target)
        draft, placed = await self._database.write(
            moves.rename, self._engine.numbers, bucket, source, target, condition
        )
        return versions.made_object(bucket, draft, placed)

    async def rename_prefix(self, bucket: str, source: str, target: str) -> int:
        """Renames every key that begins with `source`, at once for everybody; gives how many. At most 10,000."""
        return await self._database.write(moves.rename_prefix, self._engine.numbers, bucket, source, target)

    async def commit(self, bucket: str, operations: Sequence[Operation | StagedPut]) -> list[Object | Deleted]:
        """Does all of `operations` at one moment, or none: raises what the first refused one raises, with its number as
        `operation`. Bodies are stored before, where nobody sees them. At most 1,000."""
        return await commit(self._engine, self._staging, await self.bucket(bucket), operations)

    # What may be changed of a version

    async def set_tags(self, bucket: str, key: str, tags: dict[str, str], version: str | None = None) -> str:
        """Gives the name of the version that has these tags now, none where they are empty."""
        checked_tags(tags)
        event = "ObjectTagging:Put" if tags else "ObjectTagging:Delete"
        return await self._change(bucket, key, version, event, lambda _, row: {"tags": tags or None})

    async def set_acl(self, bucket: str, key: str, acl: bytes, version: str | None = None) -> str:
        """Stores an access control list, which only the door understands."""
        return await self._change(bucket, key, version, "ObjectAcl:Put", partial(locks.with_acl, acl))

    async def set_retention(
        self,
        bucket: str,
        key: str,
        mode: str | None,
        until_us: int | None,
        version: str | None = None,
        *,
        bypass_governance: bool = False,
    ) -> str:
        """Protects a version until a moment. Raises `Locked` where that would weaken what protects it now."""
        make = partial(locks.with_retention, mode, until_us, self.now_us(), bypass_governance)
        return await self._change(bucket, key, version, "ObjectRetention:Put", make)

    async def set_legal_hold(self, bucket: str, key: str, hold: bool, version: str | None = None) -> str:
        """Protects a version for as long as the hold is on."""
        return await self._change(bucket, key, version, "ObjectLegalHold:Put", partial(locks.with_hold, hold))

    async def _change(self, bucket: str, key: str, version: str | None, event: str, make: versions.Make) -> str:
        key_bytes(key)
        return await self._database.write(versions.change, self._engine.numbers, bucket, key, version, event, make)

    # Listings

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
        return await self.paging.keys(bucket, prefix, delimiter, after, count, token, as_of_us)

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
        return await self.paging.versions(bucket, prefix, delimiter, key_marker, version_marker, count, token)

    async def _find(
        self,
        bucket: str,
        key: str,
        version: str | None,
        condition: ReadIf | None,
        as_of_us: int | None,
        read: Callable[[Connection, str, str, str | None, int | None], Found] = lookups.read,
    ) -> Found:
        key_bytes(key)
        found = await self._database.read(read, bucket, key, version, as_of_us)
        if condition is not None:
            condition.check(found.object.etag, found.object.modified_us)
        return found


def _checked(changes: Changes) -> Changes:
    checked_metadata(changes.metadata or {})
    checked_tags(changes.tags or {})
    return changes
