"""From a body to a draft: taken in, hashed, sealed where asked, durable or ready for a page, and compared with its digests.

What is staged is seen by nobody. It becomes an object by a transaction, or is let go of and is dead bytes.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from awscrt.checksums import crc32c  # type: ignore[import-untyped]

from mainspring.storage.objects import checksums
from mainspring.storage.objects.checksums import Digests
from mainspring.storage.objects.conditions import ALWAYS, WriteIf
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.erasure import Profile, parse_profile
from mainspring.storage.objects.intake import Body, Received
from mainspring.storage.objects.keys import Encryption, Keys
from mainspring.storage.objects.model import (
    About,
    Bucket,
    Checksum,
    Lock,
    Object,
    Piece,
    Sealed,
    checked_metadata,
    checked_tags,
    key_bytes,
    pack_pieces,
)
from mainspring.storage.objects.moves import Changes
from mainspring.storage.objects.pages import lay_out
from mainspring.storage.objects.references import Stripe
from mainspring.storage.objects.stripes import Written
from mainspring.storage.objects.versions import Draft


class Wish(msgspec.Struct):
    """What a put says besides the body. `headers` are the system headers to give back (lower case); `checksum` names an
    algorithm and maybe the value it must have; `md5` is a Content-MD5 (base64)."""

    headers: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    condition: WriteIf = ALWAYS
    checksum: Checksum | None = None
    md5: str | None = None
    tags: dict[str, str] | None = None
    lock: Lock | None = None
    storage_class: str = "STANDARD"
    owner: str = ""
    acl: bytes = b""
    encryption: Encryption | None = None
    event: str = "ObjectCreated:Put"


class Staged(msgspec.Struct):
    """A draft and its bytes: `small` ones still to go into a page, or `written` stripes that no row refers to yet."""

    draft: Draft
    small: bytes | None
    written: list[Written]
    profile: Profile | None

    @property
    def stripes(self) -> list[tuple[Stripe, int]]:
        """The rows to insert, each with the bytes that this draft refers to."""
        return [(one.stripe, one.stripe.size) for one in self.written]


class StagedPut(msgspec.Struct):
    """A put as part of a commit of many keys."""

    key: str
    body: Body
    size: int | None = None
    wish: Wish = msgspec.field(default_factory=Wish)


class Staging:
    def __init__(self, engine: Engine, keys: Keys) -> None:
        self._engine = engine
        self._keys = keys

    @asynccontextmanager
    async def stage(self, bucket: Bucket, key: str, body: Body, size: int | None, wish: Wish) -> AsyncIterator[Staged]:
        """Takes `body` in for as long as the context lasts, within which it must be committed."""
        staged = await self.take(bucket, key, body, size, wish)
        try:
            yield staged
        finally:
            self.let_go(staged)

    def let_go(self, staged: Staged) -> None:
        """What `take` gave is referred to by now, or never will be."""
        self._engine.store.release(staged.written)

    async def take(self, bucket: Bucket, key: str, body: Body, size: int | None, wish: Wish) -> Staged:
        """Takes `body` in; `let_go` must follow."""
        key_bytes(key)
        metadata = checked_metadata(wish.metadata or {})
        tags = checked_tags(wish.tags or {}) or None
        asked, md5 = checksums.checked(wish.checksum), checksums.checked_md5(wish.md5)
        digests = Digests(asked.algorithm if asked else checksums.DEFAULT)
        sealed, data_key = (None, b"") if wish.encryption is None else await self._keys.seal(wish.encryption)
        profile = profile_of(bucket)
        received, salt = await self._receive(body, digests, size, data_key, profile, pages=True)
        try:
            checksums.compare(digests, md5, asked)
            if sealed is not None:
                sealed = msgspec.structs.replace(sealed, units=((salt, received.size),))
            about = About(
                wish.headers or {},
                metadata,
                digests.checksum,
                wish.storage_class,
                wish.owner,
                sealed=sealed,
                acl=wish.acl,
            )
            pieces = pack_pieces(received.pieces)
            draft = Draft(
                key, received.size, digests.md5, pieces, about, None, tags, wish.lock, wish.condition, wish.event
            )
            return Staged(draft, received.small, received.written, profile)
        except BaseException:
            self._engine.store.release(received.written)
            raise

    @asynccontextmanager
    async def stage_part(
        self, bucket: Bucket, body: Body, size: int | None, digests: Digests, sealed: Sealed | None, key: bytes | None
    ) -> AsyncIterator[tuple[Received, bytes]]:
        """Takes the body of a part in; gives also its salt. A part never shares a page."""
        data_key = b"" if sealed is None else await self._keys.open(sealed, key)
        received, salt = await self._receive(body, digests, size, data_key, profile_of(bucket), pages=False)
        try:
            yield received, salt
        finally:
            self._engine.store.release(received.written)

    async def page_of(self, staged: Sequence[Staged], profile: Profile | None) -> list[Written]:
        """Writes a page for the small ones of a commit of many keys, durably; their drafts then say where they lie."""
        small = [(one, one.small) for one in staged if one.small]
        if not small:
            return []
        profile, _ = self._engine.store.placing.choose(profile)
        payload, offsets = lay_out([body for _, body in small], profile.k)
        written = await self._engine.store.write(payload, profile)
        try:
            await self._engine.store.sync([written])
        except BaseException:
            self._engine.store.release([written])
            raise
        for (one, body), offset in zip(small, offsets, strict=True):
            one.draft.pieces = pack_pieces([Piece(written.stripe.id, offset, len(body), crc32c(body))])
            one.draft.page = written.stripe.id
        return [written]

    async def _receive(
        self, body: Body, digests: Digests, size: int | None, data_key: bytes, profile: Profile | None, *, pages: bool
    ) -> tuple[Received, bytes]:
        sealer = self._keys.sealer(data_key) if data_key else None
        received = await self._engine.intake.receive(
            body, digests, size=size, sealer=sealer, profile=profile, pages=pages
        )
        return received, b"" if sealer is None else sealer.salt


def profile_of(bucket: Bucket) -> Profile | None:
    """The profile that was chosen for a bucket, None for the one that the number of disks gives."""
    return None if bucket.profile is None else parse_profile(bucket.profile)


def wish_of_copy(
    origin: Object, own: Changes, condition: WriteIf, checksum: Checksum | None, encryption: Encryption | None
) -> Wish:
    """What the put says that makes a copy of `origin` by its bytes, with `own` changes."""
    return Wish(
        headers=origin.headers if own.headers is None else own.headers,
        metadata=origin.metadata if own.metadata is None else own.metadata,
        condition=condition,
        checksum=checksum or (Checksum(origin.checksum.algorithm) if origin.checksum is not None else None),
        tags=origin.tags if own.tags is None else own.tags,
        lock=own.lock,
        storage_class=own.storage_class or origin.storage_class,
        owner=origin.owner if own.owner is None else own.owner,
        acl=own.acl,
        encryption=encryption,
        event="ObjectCreated:Copy",
    )
