"""What may be changed of a version that exists, and what object lock forbids.

A compliance lock can only be prolonged; a governance lock also shortened or taken off, by whoever may bypass it; a legal hold
is apart from both. The checks run in the transaction that makes the change.
"""

from typing import Any

import msgspec

from mainspring.storage.objects.errors import InvalidArgument, InvalidRequest, Locked
from mainspring.storage.objects.lookups import Row
from mainspring.storage.objects.model import Bucket, Lock, decode_about, encode_about

MODES = ("GOVERNANCE", "COMPLIANCE")


def with_acl(acl: bytes, bucket: Bucket, row: Row) -> dict[str, Any]:
    return {"about": encode_about(msgspec.structs.replace(decode_about(row.about), acl=acl))}


def with_retention(
    mode: str | None, until_us: int | None, now_us: int, bypass_governance: bool, bucket: Bucket, row: Row
) -> dict[str, Any]:
    """Raises `InvalidRequest` without object lock, `InvalidArgument` for a moment that has passed, `Locked`."""
    before = _lock_of(bucket, row)
    if (mode is None) != (until_us is None) or (mode is not None and mode not in MODES):
        raise InvalidArgument("A retention has a mode and a date")
    if until_us is not None and until_us <= now_us:
        raise InvalidArgument("The retain until date must be in the future!")
    in_force = before.mode is not None and before.until_us is not None and before.until_us > now_us
    if in_force and not _may_replace(before, mode, until_us, bypass_governance):
        raise Locked()
    return {"lock": msgspec.structs.replace(before, mode=mode, until_us=until_us)}


def with_hold(hold: bool, bucket: Bucket, row: Row) -> dict[str, Any]:
    """Raises `InvalidRequest` without object lock."""
    return {"lock": msgspec.structs.replace(_lock_of(bucket, row), hold=hold)}


def _may_replace(before: Lock, mode: str | None, until_us: int | None, bypass_governance: bool) -> bool:
    longer = until_us is not None and before.until_us is not None and until_us >= before.until_us
    if before.mode == "COMPLIANCE":
        return mode == "COMPLIANCE" and longer
    return bypass_governance or (longer and mode in MODES)


def _lock_of(bucket: Bucket, row: Row) -> Lock:
    if bucket.lock is None:
        raise InvalidRequest("Bucket is missing Object Lock Configuration")
    return Lock() if row.lock is None else msgspec.convert(row.lock, Lock)
