"""The port `Blobs` on any S3: what a deployment moves to when one machine's disks are outgrown. By obstore.

    s3://bucket/prefix
    s3://ACCESS_KEY:SECRET_KEY@bucket/prefix?endpoint=https://s3.example.org&region=eu-west-1

What the address does not say comes from the environment, as for every AWS client (`AWS_ACCESS_KEY_ID`, roles, …).
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mainspring.core.config import Config
from mainspring.core.ports import Blob, BlobPage
from mainspring.core.problems import Forbidden, Invalid, PreconditionFailed, Unavailable
from mainspring.storage.objects.blobs import EXPIRES_S_MAX, checked_name

if TYPE_CHECKING:
    from obstore.store import S3Store

CHUNK_BYTES = 8 << 20
LIST_MAX = 1000


def opened(config: Config) -> "CloudBlobs":
    """The blobs that the configuration's `blobs` names."""
    return CloudBlobs(config.blobs)


class CloudBlobs:
    """Blobs below a prefix of a bucket that exists."""

    def __init__(self, address: str) -> None:
        """Raises `ValueError` for an address that is none."""
        self._store = open_store(address)

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
        import obstore

        attributes: Any = {"Content-Type": content_type, **(metadata or {})}
        conditional = if_absent or if_match is not None
        mode: Any = "create" if if_absent else "overwrite" if if_match is None else {"e_tag": f'"{if_match}"'}
        if conditional and not isinstance(body, bytes):
            # Only a body that is sent at once can be conditional: parts are put together without a condition.
            body = b"".join([bytes(chunk) async for chunk in body])
        given: Any = body
        try:
            await obstore.put_async(
                self._store,
                checked_name(name),
                given,
                attributes=attributes,
                mode=mode,
                use_multipart=False if conditional else None,
                chunk_size=CHUNK_BYTES,
            )
        except Exception as error:
            raise _meaning(error, name) from error
        return await self.head(name)

    async def get(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        import obstore

        if start == 0 and stop is None:
            try:
                return bytes(await (await obstore.get_async(self._store, checked_name(name))).bytes_async())
            except Exception as error:
                raise _meaning(error, name) from error
        size = (await self.head(name)).size
        end = size if stop is None else min(stop, size)
        if start >= end:
            return b""
        try:
            return bytes(await obstore.get_range_async(self._store, name, start=start, end=end))
        except Exception as error:
            raise _meaning(error, name) from error

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        import obstore

        try:
            found = await obstore.get_async(self._store, checked_name(name))
            async for chunk in found.stream(min_chunk_size=1 << 20):
                yield bytes(chunk)
        except Exception as error:
            raise _meaning(error, name) from error

    async def head(self, name: str) -> Blob:
        import obstore

        try:
            found = await obstore.get_async(self._store, checked_name(name), options={"head": True})
        except Exception as error:
            raise _meaning(error, name) from error
        attributes = {str(key): value for key, value in found.attributes.items()}
        content_type = attributes.pop("Content-Type", "")
        return _blob(found.meta, content_type, attributes)

    async def delete(self, name: str) -> None:
        import obstore

        try:
            await obstore.delete_async(self._store, checked_name(name))
        except obstore.exceptions.NotFoundError:
            return
        except Exception as error:
            raise _meaning(error, name) from error

    async def list(self, prefix: str = "", after: str = "", *, delimiter: str = "", count: int = LIST_MAX) -> BlobPage:
        """A store lists whole parts of names; what `prefix` says beyond its last slash is looked through here."""
        if delimiter not in ("", "/"):
            raise Invalid("Blobs in a cloud can be rolled up at slashes only", pointer="/delimiter")
        found: list[tuple[str, Any]] = []
        try:
            async for one in self._entries(prefix, after, delimiter):
                if len(found) == min(count, LIST_MAX):
                    return _page(found, found[-1][0] if found else None)
                found.append(one)
        except Exception as error:
            raise _meaning(error, prefix) from error
        return _page(found, None)

    async def presign(self, name: str, expires_s: int = 3600, method: str = "GET") -> str:
        import obstore

        if method not in ("GET", "PUT") or not 1 <= expires_s <= EXPIRES_S_MAX:
            raise Invalid("A URL is for GET or PUT, for at most seven days", pointer="/expires_s")
        wanted: Any = method
        return await obstore.sign_async(self._store, wanted, checked_name(name), timedelta(seconds=expires_s))

    async def _entries(self, prefix: str, after: str, delimiter: str) -> AsyncIterator[tuple[str, Any]]:
        """(name, what is known of it, or None for a common prefix) in order."""
        import obstore

        folder = prefix.rpartition("/")[0]
        last = ""
        entries: Any = obstore.list(self._store, folder or None, offset=after or None, chunk_size=LIST_MAX)
        async for batch in entries:
            for meta in batch:
                name = meta["path"]
                if not name.startswith(prefix) or name <= after:
                    continue
                at = name.find(delimiter, len(prefix)) if delimiter else -1
                if at < 0:
                    yield name, meta
                elif name[: at + 1] not in (last, after):
                    last = name[: at + 1]
                    yield last, None


def open_store(address: str) -> "S3Store":
    """Raises `ValueError` for an address that is none."""
    from obstore.store import S3Store

    parts = urlsplit(address)
    if parts.scheme != "s3" or not parts.hostname:
        raise ValueError(f"{address.partition('@')[2] or address} is not s3://bucket/prefix")
    given = dict(parse_qsl(parts.query))
    options: dict[str, Any] = {"region": given.pop("region", "us-east-1")}
    endpoint = given.pop("endpoint", "")
    if given:
        raise ValueError(f"{', '.join(given)}: an address knows `endpoint` and `region`")
    if endpoint:
        options |= {"endpoint": endpoint, "client_options": {"allow_http": endpoint.startswith("http://")}}
    if parts.username:
        options["access_key_id"], options["secret_access_key"] = unquote(parts.username), unquote(parts.password or "")
    return S3Store(parts.hostname, prefix=parts.path.strip("/") or None, **options)


def _page(found: list[tuple[str, Any]], next: str | None) -> BlobPage:
    return BlobPage([_blob(meta) for _, meta in found if meta], [name for name, meta in found if not meta], next)


def _blob(meta: Any, content_type: str = "", metadata: dict[str, str] | None = None) -> Blob:
    modified_us = round(meta["last_modified"].timestamp() * 1e6)
    etag = (meta["e_tag"] or "").strip('"')
    return Blob(meta["path"], meta["size"], etag, modified_us, content_type, metadata or {})


def _meaning(error: Exception, name: str) -> Exception:
    from obstore import exceptions

    if isinstance(error, exceptions.NotFoundError | FileNotFoundError):
        return KeyError(name)
    if isinstance(error, exceptions.AlreadyExistsError | exceptions.PreconditionError):
        return PreconditionFailed(f"{name} is not as it was expected to be")
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
        return Forbidden(str(error))
    if isinstance(error, exceptions.BaseError):
        return Unavailable(f"The object store: {error}")
    return error
