"""The port `Blobs` on this engine, in process: the objects of one bucket, which S3 clients see at the same time."""

import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import quote, urlsplit

from mainspring.core.accounts import Accounts
from mainspring.core.accounts.model import ONE_CLICK, OWNER_ID
from mainspring.core.clock import Clock
from mainspring.core.ports import Blob, BlobPage
from mainspring.core.problems import Invalid, PreconditionFailed, Unavailable
from mainspring.storage.objects import errors
from mainspring.storage.objects.conditions import WriteIf
from mainspring.storage.objects.errors import BucketAlreadyExists, BucketAlreadyOwnedByYou, NoSuchBucket, NoSuchKey
from mainspring.storage.objects.listing import KEYS_MAX, Listed
from mainspring.storage.objects.model import KEY_BYTES_MAX, Object
from mainspring.storage.objects.service import REGION, Objects
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.staging import Wish
from mainspring.wire.aws import sigv4

BUCKET = "mainspring-blobs"
EXPIRES_S_MAX = 604_800

LINKS_TOKEN = "Shared links of blobs"
"""The token whose key pair signs URLs: revoking it ends them all."""

Presign = Callable[[str, str, str, int], Awaitable[str]]
"""(method, bucket, key, expires_s) to a URL."""

_PART = re.compile(r"[A-Za-z0-9_.=+@-]+")


def checked_name(name: str) -> str:
    """Gives `name` back. Raises `Invalid` for what is no blob's name."""
    parts = name.split("/")
    if len(name) > KEY_BYTES_MAX or not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
        raise Invalid(f"{name[:100]!r} is not a blob's name", pointer="/name")
    return name


def opened(objects: Objects, settings: ObjectsSettings, accounts: Accounts, clock: Clock) -> "ObjectBlobs":
    """This node's own blobs; their URLs are signed for the owner and answered by the S3 door."""

    async def presign(method: str, bucket: str, key: str, expires_s: int) -> str:
        pair = await accounts.key_pairs.named(OWNER_ID, LINKS_TOKEN)
        if pair is None:
            await accounts.create_token(ONE_CLICK, LINKS_TOKEN, ["objects:*"])
            pair = await accounts.key_pairs.named(OWNER_ID, LINKS_TOKEN)
        if pair is None:
            raise Unavailable("The key pair that signs URLs was revoked just now")
        at_s, base = clock.wall_ns() / 1e9, settings.public_url.rstrip("/")
        scope = sigv4.Scope(pair.access_key, sigv4.date_of(at_s)[:8], REGION, "s3")
        path = f"/{bucket}/{quote(key, safe='/~')}"
        return base + sigv4.presign(method, urlsplit(base).netloc, path, scope, pair.secret_key, at_s, expires_s)

    return ObjectBlobs(objects, presign=presign)


class ObjectBlobs:
    """Blobs in one bucket of `objects`, which is made at the first put. `presign` makes URLs of the S3 door."""

    def __init__(self, objects: Objects, bucket: str = BUCKET, presign: Presign | None = None) -> None:
        self._objects = objects
        self._bucket = bucket
        self._presign = presign

    async def put(
        self,
        name: str,
        body: bytes | AsyncIterable[bytes],
        content_type: str = "application/octet-stream",
        *,
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> Blob:
        checked_name(name)
        condition = WriteIf(match=if_match, none_match="*" if if_absent else None)
        wish = Wish(headers={"content-type": content_type}, metadata=dict(metadata or {}), condition=condition)
        await self._ensure_bucket()
        try:
            return _blob(await self._objects.put(self._bucket, name, body, wish=wish))
        except (errors.PreconditionFailed, NoSuchKey):
            raise PreconditionFailed(f"{name} is not as it was expected to be") from None

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        found = await self._find(name)
        end = found.size if stop is None else min(stop, found.size)
        if start >= end:
            return b""
        try:
            reader = await self._objects.get(self._bucket, name, (start, end - 1))
        except NoSuchKey:
            raise KeyError(name) from None
        return await reader.read()

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        try:
            reader = await self._objects.get(self._bucket, checked_name(name))
        except (NoSuchKey, NoSuchBucket):
            raise KeyError(name) from None
        async for chunk in reader:
            yield bytes(chunk)

    async def head(self, name: str) -> Blob:
        return _blob(await self._find(name))

    async def delete(self, name: str) -> None:
        try:
            await self._objects.delete(self._bucket, checked_name(name))
        except NoSuchBucket:
            return  # nothing was ever put

    async def list(self, prefix: str = "", after: str = "", *, delimiter: str = "", count: int = KEYS_MAX) -> BlobPage:
        try:
            page = await self._objects.list(self._bucket, prefix, delimiter, after, count=count)
        except NoSuchBucket:
            return BlobPage([], [], None)
        return BlobPage([_listed(one) for one in page.entries], page.prefixes, page.next_key)

    async def presign(self, name: str, expires_s: int = 3600, method: str = "GET") -> str:
        checked_name(name)
        if method not in ("GET", "PUT") or not 1 <= expires_s <= EXPIRES_S_MAX:
            raise Invalid("A URL is for GET or PUT, for at most seven days", pointer="/expires_s")
        if self._presign is None:
            raise Unavailable("No S3 door is open that could answer such a URL")
        return await self._presign(method, self._bucket, name, expires_s)

    async def _find(self, name: str) -> Object:
        try:
            return await self._objects.head(self._bucket, checked_name(name))
        except (NoSuchKey, NoSuchBucket):
            raise KeyError(name) from None

    async def _ensure_bucket(self) -> None:
        try:
            await self._objects.bucket(self._bucket)
        except NoSuchBucket:
            try:
                await self._objects.create_bucket(self._bucket)
            except (BucketAlreadyExists, BucketAlreadyOwnedByYou):
                return  # another was faster


def _blob(object: Object) -> Blob:
    content_type = object.headers.get("content-type", "")
    return Blob(object.key, object.size, object.etag, object.modified_us, content_type, object.metadata)


def _listed(one: Listed) -> Blob:
    return Blob(one.key, one.size, one.etag, one.modified_us)
