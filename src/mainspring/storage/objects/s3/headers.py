"""Headers of objects, both ways: what a request says of a new object, and what an answer says of one that is there."""

import re
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from mainspring.storage.objects.conditions import ALWAYS, ReadIf, WriteIf
from mainspring.storage.objects.model import Lock, Object
from mainspring.storage.objects.s3.answers import Header
from mainspring.storage.objects.s3.errors import S3Error

if TYPE_CHECKING:
    from mainspring.storage.objects.s3.call import Call

KEPT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
)
_KEPT = [(name.encode(), name) for name in KEPT]
_META = b"x-amz-meta-"
OVERRIDES = {
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-content-type": "content-type",
    "response-expires": "expires",
}
STORAGE_CLASSES = frozenset(
    {
        "STANDARD",
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER",
        "GLACIER_IR",
        "DEEP_ARCHIVE",
        "OUTPOSTS",
        "EXPRESS_ONEZONE",
    }
)
_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})\s*-\s*([0-9]{0,19})\s*")


@lru_cache(maxsize=4_096)
def http_date(at_s: int) -> bytes:
    return formatdate(at_s, usegmt=True).encode()


def kept(headers: dict[bytes, bytes]) -> dict[str, str]:
    """The system headers of a request that an object gives back. `aws-chunked` is of the transfer, not of the content."""
    found = {}
    for raw, name in _KEPT:
        value = headers.get(raw)
        if value is not None:
            found[name] = text(value)
    encoding = found.get("content-encoding")
    if encoding is not None and "aws-chunked" in encoding:
        parts = [part.strip() for part in encoding.split(",") if part.strip() not in ("aws-chunked", "")]
        found.pop("content-encoding")
        if parts:
            found["content-encoding"] = ",".join(parts)
    found.setdefault("content-type", "binary/octet-stream")
    location = found.get("x-amz-website-redirect-location")
    if location is not None and not location.startswith(("/", "http://", "https://")):
        raise S3Error(
            "InvalidArgument", "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."
        )
    return found


def metadata(headers: dict[bytes, bytes]) -> dict[str, str]:
    """The user's metadata, without its prefix."""
    return {text(name[len(_META) :]): text(value) for name, value in headers.items() if name.startswith(_META)}


def text(value: bytes) -> str:
    """Header bytes as text: UTF-8 where it is, else Latin-1, as HTTP once had it."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def storage_class(call: "Call") -> str:
    """Raises `InvalidStorageClass`."""
    named = call.header(b"x-amz-storage-class") or "STANDARD"
    if named not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", StorageClassRequested=named[:60])
    return named


def write_if(call: "Call") -> WriteIf:
    """The condition of a write. Raises `NotImplemented` for an `If-None-Match` that is not `*`, as S3 does."""
    headers = call.headers
    if b"if-match" not in headers and b"if-none-match" not in headers:
        return ALWAYS
    none_match = call.header(b"if-none-match")
    if none_match is not None and none_match.strip() != "*":
        raise S3Error("NotImplemented", Header="If-None-Match")
    return WriteIf(match=call.header(b"if-match"), none_match=none_match)


def delete_if(call: "Call") -> WriteIf:
    """The condition of a delete: an ETag, and what S3 has for directory buckets (size, time)."""
    size, at = call.header(b"x-amz-if-match-size"), call.header(b"x-amz-if-match-last-modified-time")
    return WriteIf(
        match=call.header(b"if-match"),
        size=int(size) if size is not None and size.isdigit() else None,
        modified_s=seconds(at),
    )


_READ_CONDITIONS = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since")
_COPY_CONDITIONS = tuple(b"x-amz-copy-source-" + name for name in _READ_CONDITIONS)


def read_if(call: "Call") -> ReadIf | None:
    return _read_if(call, _READ_CONDITIONS)


def copy_if(call: "Call") -> ReadIf | None:
    """The condition on the source of a copy."""
    return _read_if(call, _COPY_CONDITIONS)


def _read_if(call: "Call", names: tuple[bytes, ...]) -> ReadIf | None:
    headers = call.headers
    first, second, third, fourth = names
    if first not in headers and second not in headers and third not in headers and fourth not in headers:
        return None
    match, none_match, modified, unmodified = [call.header(name) for name in names]
    return ReadIf(match, none_match, seconds(modified), seconds(unmodified))


def seconds(text: str | None) -> int | None:
    """An HTTP or ISO date as Unix seconds; None for what is none, which is then ignored as HTTP says."""
    if not text:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        pass  # S3 takes ISO dates here as well.
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def byte_range(text: str | None) -> tuple[int | None, int | None] | None:
    """A single range; None where there is none, or one that HTTP says to ignore."""
    if text is None:
        return None
    found = _RANGE.fullmatch(text)
    if found is None or (not found[1] and not found[2]):
        return None
    first, last = int(found[1]) if found[1] else None, int(found[2]) if found[2] else None
    if first is not None and last is not None and last < first:
        return None
    return first, last


def lock_in(call: "Call") -> Lock | None:
    """What a request asks of object lock. Raises `InvalidArgument`, `InvalidRequest`."""
    mode, until = call.header(b"x-amz-object-lock-mode"), call.header(b"x-amz-object-lock-retain-until-date")
    hold = call.header(b"x-amz-object-lock-legal-hold")
    if mode is None and until is None and hold is None:
        return None
    assert call.view is not None
    if call.view.bucket.lock is None:
        raise S3Error("InvalidRequest", "Bucket is missing Object Lock Configuration")
    if (mode is None) != (until is None):
        raise S3Error(
            "InvalidArgument",
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        )
    if mode is not None and mode not in ("GOVERNANCE", "COMPLIANCE"):
        raise S3Error("InvalidArgument", "Unknown wormMode directive.")
    if hold is not None and hold not in ("ON", "OFF"):
        raise S3Error("InvalidArgument", "Legal hold must be either of 'ON' or 'OFF'")
    until_us = None if until is None else future_us(call, until)
    return Lock(mode, until_us, hold == "ON")


def future_us(call: "Call", text: str) -> int:
    """A date of a retention in microseconds. Raises `InvalidArgument`, also for one that has passed."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise S3Error("InvalidArgument", "The retain until date must be provided in ISO 8601 format") from None
    until_us = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1_000_000)
    if until_us <= call.door.clock.wall_ns() // 1_000:
        raise S3Error("InvalidArgument", "The retain until date must be in the future!")
    return until_us


def iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def of_object(object: Object, *, checksums: bool, private: bool = True) -> list[Header]:
    """The headers of a GET or HEAD, but for the length. `private`: also what only the protocol's clients read."""
    headers: list[Header] = [
        (b"etag", b'"%s"' % object.etag.encode()),
        (b"last-modified", http_date(object.modified_us // 1_000_000)),
        (b"accept-ranges", b"bytes"),
    ]
    for name, value in object.headers.items():
        headers.append((name.encode(), encoded(value)))
    if object.versioned:
        headers.append((b"x-amz-version-id", object.version.encode()))
    if not private:
        return headers
    for name, value in object.metadata.items():
        headers.append((_META + encoded(name), encoded(value)))
    if object.storage_class != "STANDARD":
        headers.append((b"x-amz-storage-class", object.storage_class.encode()))
    if object.tags:
        headers.append((b"x-amz-tagging-count", b"%d" % len(object.tags)))
    if object.lock is not None:
        headers += of_lock(object.lock)
    if checksums and object.checksum is not None:
        checksum = object.checksum
        headers.append((f"x-amz-checksum-{checksum.algorithm.lower()}".encode(), checksum.value.encode()))
        headers.append((b"x-amz-checksum-type", checksum.kind.encode()))
    return headers


def of_lock(lock: Lock) -> list[Header]:
    headers: list[Header] = []
    if lock.mode is not None and lock.until_us is not None:
        headers.append((b"x-amz-object-lock-mode", lock.mode.encode()))
        headers.append((b"x-amz-object-lock-retain-until-date", iso(lock.until_us).encode()))
    if lock.hold:
        headers.append((b"x-amz-object-lock-legal-hold", b"ON"))
    return headers


def encoded(value: str) -> bytes:
    """Text as a header's value; what could end a line is taken out."""
    return value.replace("\r", " ").replace("\n", " ").encode()
