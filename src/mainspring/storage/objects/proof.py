"""`mainspring objects prove`: every byte and every shard of a bucket read again, and what was found signed.

An object is proven when its bytes have the MD5 that its ETag says (of its parts, where it came in parts); a shard when each of
its blocks has its CRC. The report counts both, names what failed, and carries the SHA-256 of the list of all versions, so that
two reports can be compared. It is signed with the store's Ed25519 key, which never leaves the metadata.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mainspring.core.ports import Connection
from mainspring.storage.objects import references
from mainspring.storage.objects.checksums import Digests, composed_etag
from mainspring.storage.objects.encryption import CUSTOMER
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.listing import Listed
from mainspring.storage.objects.model import stripe_lengths

if TYPE_CHECKING:
    from mainspring.storage.objects.service import Objects

FAILURES_MAX = 100
STRIPES_REMEMBERED = 65_536
_KEY = "signing key"


class Report(msgspec.Struct):
    """`redundancy_min` is how many more shards the weakest stripe can lose. `unreadable` are objects whose key only their
    owner has: their shards are checked, their bytes cannot be. Times are microseconds UTC."""

    bucket: str
    begun_us: int
    ended_us: int = 0
    versions: int = 0
    markers: int = 0
    size_bytes: int = 0
    stripes: int = 0
    shards: int = 0
    bad_shards: int = 0
    redundancy_min: int | None = None
    proven: int = 0
    failed: int = 0
    unreadable: int = 0
    failures: list[str] = []
    digest: str = ""
    key: str = ""
    signature: str = ""


async def prove(objects: "Objects", bucket: str) -> Report:
    """Reads a whole bucket. Raises `NoSuchBucket`."""
    report = Report(bucket, objects.now_us(), failures=[])
    digest = hashlib.sha256()
    seen: dict[int, None] = {}
    async for one in _versions(objects, bucket):
        digest.update(msgspec.json.encode([one.key, one.version, one.etag, one.size, one.marker]))
        report.versions += 1
        if one.marker:
            report.markers += 1
            continue
        report.size_bytes += one.size
        await _prove_object(objects, bucket, one, report)
        await _prove_shards(objects, bucket, one, report, seen)
    report.digest, report.ended_us = digest.hexdigest(), objects.now_us()
    secret = await objects.database.write(_signing_key, Ed25519PrivateKey.generate().private_bytes_raw())
    key = Ed25519PrivateKey.from_private_bytes(secret)
    report.key = b64encode(key.public_key().public_bytes_raw()).decode()
    report.signature = b64encode(key.sign(_signed_part(report))).decode()
    return report


def is_genuine(report: Report) -> bool:
    """Whether `report` is as it was signed, by the key that it names."""
    try:
        key = Ed25519PublicKey.from_public_bytes(b64decode(report.key))
        key.verify(b64decode(report.signature), _signed_part(report))
    except (InvalidSignature, ValueError):
        return False
    return True


async def _versions(objects: "Objects", bucket: str) -> AsyncIterator[Listed]:
    token = None
    while True:
        page = await objects.list_versions(bucket, token=token)
        for one in page.entries:
            yield one
        token = page.token
        if token is None:
            return


async def _prove_object(objects: "Objects", bucket: str, one: Listed, report: Report) -> None:
    try:
        object = await objects.head(bucket, one.key, one.version)
        if object.sealed is not None and object.sealed.mode == CUSTOMER:
            report.unreadable += 1
            return
        etags = []
        for part in range(1, max(1, len(object.parts)) + 1):
            digests = Digests(None)
            async for chunk in await objects.get(bucket, one.key, version=one.version, part=part):
                await objects.engine.store.run(digests.update, chunk)
            etags.append(digests.md5)
        found = composed_etag(etags) if object.parts else etags[0]
    except ObjectsError as error:
        found = str(error)
    if found == one.etag:
        report.proven += 1
    else:
        _fail(report, f"{one.key} ({one.version}): {found}")


async def _prove_shards(objects: "Objects", bucket: str, one: Listed, report: Report, seen: dict[int, None]) -> None:
    try:
        pieces = await objects.pieces(bucket, one.key, one.version)
    except ObjectsError:
        return  # deleted while the bucket was read
    for id, _ in stripe_lengths(pieces):
        if id in seen:
            continue
        if len(seen) >= STRIPES_REMEMBERED:
            del seen[next(iter(seen))]
        seen[id] = None
        stripe = await objects.engine.store.find(id)
        good, bad = await objects.engine.store.shards.fragments(stripe, len(stripe.places))
        report.stripes += 1
        report.shards += len(good)
        report.bad_shards += len(bad)
        left = len(good) - stripe.k
        report.redundancy_min = left if report.redundancy_min is None else min(report.redundancy_min, left)


def _fail(report: Report, what: str) -> None:
    report.failed += 1
    if len(report.failures) < FAILURES_MAX:
        report.failures.append(what)


def _signed_part(report: Report) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(report, signature=""))


def _signing_key(connection: Connection, fresh: bytes) -> bytes:
    found = references.read_state(connection, _KEY)
    if found is None:
        references.write_state(connection, _KEY, fresh)
    return fresh if found is None else found
