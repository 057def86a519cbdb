"""`Uploads`: multipart uploads as other code calls them. What is uploaded is invisible until it is completed."""

from collections.abc import Sequence

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.crash import crash_point
from mainspring.core.ports import Database
from mainspring.storage.objects import checksums, multipart
from mainspring.storage.objects.checksums import Digests
from mainspring.storage.objects.conditions import ALWAYS, WriteIf
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.errors import InvalidRequest
from mainspring.storage.objects.intake import Body
from mainspring.storage.objects.keys import Keys
from mainspring.storage.objects.listing import beyond
from mainspring.storage.objects.model import (
    About,
    Checksum,
    Object,
    checked_metadata,
    checked_tags,
    key_bytes,
    pack_pieces,
)
from mainspring.storage.objects.multipart import PartAbout, PartRow, UploadRow, Wanted
from mainspring.storage.objects.reading import Reader
from mainspring.storage.objects.staging import Staging, Wish
from mainspring.storage.objects.versions import made_object

PAGE_MAX = 1000
END = b"\xff" * 1025


class Upload(msgspec.Struct, frozen=True):
    """An open upload."""

    key: str
    id: str
    begun_us: int
    storage_class: str
    owner: str
    checksum: Checksum | None


class UploadPage(msgspec.Struct, frozen=True):
    """`next` is (key, id) to go on after; an id of "" goes on after all that begins with the key, a common prefix."""

    uploads: list[Upload]
    prefixes: list[str]
    next: tuple[str, str] | None


class PartPage(msgspec.Struct, frozen=True):
    upload: Upload
    parts: list[PartRow]
    next: int | None


class Uploads:
    def __init__(self, engine: Engine, staging: Staging, keys: Keys) -> None:
        self._engine = engine
        self._database: Database = engine.database
        self._clock: Clock = engine.clock
        self._staging = staging
        self._keys = keys

    async def begin(self, bucket: str, key: str, wish: Wish | None = None) -> str:
        """Begins an upload and gives its id. `wish.checksum` names the algorithm and kind of the whole's checksum; the
        digests and the condition of a wish belong to `complete`. Raises `SlowDown` where too many are open."""
        key_bytes(key)
        wish = wish or Wish()
        sealed = None if wish.encryption is None else (await self._keys.seal(wish.encryption))[0]
        asked = checksums.checked(wish.checksum) or Checksum(checksums.DEFAULT)
        about = About(
            wish.headers or {},
            checked_metadata(wish.metadata or {}),
            Checksum(asked.algorithm, kind=_kind(asked, wish.checksum is not None)),
            wish.storage_class,
            wish.owner,
            sealed=sealed,
            acl=wish.acl,
        )
        tags, begun_us = checked_tags(wish.tags or {}) or None, self._engine.numbers.next()
        id = f"{begun_us:016x}{self._engine.random(16).hex()}"
        limit = self._engine.settings.uploads_max
        await self._database.write(multipart.begin, bucket, key, id, begun_us, about, tags, wish.lock, limit)
        return id

    async def put_part(
        self,
        bucket: str,
        key: str,
        id: str,
        number: int,
        body: Body,
        *,
        size: int | None = None,
        checksum: Checksum | None = None,
        md5: str | None = None,
        customer_key: bytes | None = None,
    ) -> PartRow:
        """Stores a part durably, in the place of an older one of its number. Raises `NoSuchUpload`, `BadDigest`, …

        An upload that was begun without a checksum takes parts with any, and keeps the one of its own beside it.
        """
        asked, expected_md5 = checksums.checked(checksum), checksums.checked_md5(md5)
        found, upload = await self._database.read(multipart.find, bucket, key, id)
        own = _algorithm(upload)
        if asked is not None and asked.algorithm != own != checksums.DEFAULT:
            raise InvalidRequest(
                f"Checksum Type mismatch occurred, expected checksum Type: {own.lower()}, actual checksum Type: "
                f"{asked.algorithm.lower()}"
            )
        digests = Digests(asked.algorithm if asked else own, own if own in checksums.CRCS else None)
        sealed = upload.about.sealed
        async with self._staging.stage_part(found, body, size, digests, sealed, customer_key) as (received, salt):
            checksums.compare(digests, expected_md5, asked)
            row = PartRow(
                number,
                received.size,
                digests.md5,
                self._clock.wall_ns() // 1000,
                pack_pieces(received.pieces),
                PartAbout(digests.of(own), salt),
                digests.checksum if asked is not None else None,
            )
            stripes = [one.stripe for one in received.written]
            await self._database.write(multipart.put_part, bucket, key, id, stripes, row)
            crash_point("objects.part.committed")
        return row

    async def copy_part(
        self, bucket: str, key: str, id: str, number: int, reader: Reader, *, customer_key: bytes | None = None
    ) -> PartRow:
        """Stores what `reader` gives as a part."""
        return await self.put_part(bucket, key, id, number, reader, size=reader.length, customer_key=customer_key)

    async def parts(self, bucket: str, key: str, id: str, *, after: int = 0, count: int = PAGE_MAX) -> PartPage:
        """The parts stored so far, by number. Raises `NoSuchUpload`."""
        count = min(count, PAGE_MAX)
        _, upload = await self._database.read(multipart.find, bucket, key, id)
        rows = await self._database.read(multipart.list_parts, id, after, count + 1)
        next = rows[count - 1].number if count and len(rows) > count else None
        return PartPage(_described(key.encode(), id, upload.begun_us, upload.about), rows[:count], next)

    async def list(
        self,
        bucket: str,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        id_marker: str = "",
        *,
        count: int = PAGE_MAX,
    ) -> UploadPage:
        """Open uploads by key and then by age."""
        lead, cut = prefix.encode(), delimiter.encode()
        marker = key_marker.encode()
        start, below = max(lead, marker), ""
        if marker >= lead and marker:
            below = id_marker or "g"  # past every id, which begin with a hexadecimal digit
        uploads: list[Upload] = []
        prefixes: list[str] = []
        end = beyond(lead) if lead else END
        while True:
            rows = await self._database.read(multipart.list_uploads, bucket, start, below, end, PAGE_MAX + 1)
            for key, id, begun_us, about in rows:
                at = key.find(cut, len(lead)) if cut else -1
                rolled = key[: at + len(cut)] if at >= 0 else None
                if rolled is not None and (prefixes[-1:] == [rolled.decode()] or rolled == marker):
                    continue
                if len(uploads) + len(prefixes) >= count:
                    return UploadPage(uploads, prefixes, _last(uploads, prefixes))
                if rolled is not None:
                    prefixes.append(rolled.decode())
                else:
                    uploads.append(_described(key, id, begun_us, about))
            if len(rows) <= PAGE_MAX:
                return UploadPage(uploads, prefixes, None)
            start, below = rows[-1][0], rows[-1][1]

    async def complete(
        self,
        bucket: str,
        key: str,
        id: str,
        parts: Sequence[Wanted],
        *,
        condition: WriteIf = ALWAYS,
        checksum: Checksum | None = None,
        size: int | None = None,
    ) -> Object:
        """Makes the object. Raises `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall`, `BadDigest`, or what
        the condition raises; the upload is then still open."""
        draft, placed = await self._database.write(
            multipart.complete,
            self._engine.numbers,
            bucket,
            key,
            id,
            parts,
            condition,
            checksum,
            size,
            self._engine.settings.part_bytes_min,
        )
        crash_point("objects.complete.committed")
        return made_object(bucket, draft, placed)

    async def abort(self, bucket: str, key: str, id: str) -> None:
        """Forgets an upload and all of its parts. Raises `NoSuchUpload`."""
        await self._database.write(multipart.abort, bucket, key, id)

    async def find(self, bucket: str, key: str, id: str) -> UploadRow:
        """Raises `NoSuchUpload`."""
        return (await self._database.read(multipart.find, bucket, key, id))[1]


def _kind(asked: Checksum, was_asked: bool) -> str:
    """SHA sums of parts can only be composed, CRC64NVME only combined; the other CRCs are as asked."""
    if asked.algorithm in checksums.HASHES:
        return checksums.COMPOSITE
    if asked.algorithm == checksums.DEFAULT or not was_asked:
        return checksums.FULL_OBJECT
    return asked.kind


def _algorithm(upload: UploadRow) -> str:
    return upload.about.checksum.algorithm if upload.about.checksum is not None else checksums.DEFAULT


def _described(key: bytes, id: str, begun_us: int, about: About) -> Upload:
    return Upload(key.decode(), id, begun_us, about.storage_class, about.owner, about.checksum)


def _last(uploads: Sequence[Upload], prefixes: Sequence[str]) -> tuple[str, str] | None:
    last = (uploads[-1].key, uploads[-1].id) if uploads else None
    rolled = (prefixes[-1], "") if prefixes else None
    return max((one for one in (last, rolled) if one is not None), key=lambda one: one[0].encode(), default=None)
