"""Conditional requests as S3 has them (RFC 9110, section 13, on single ETags and lists of them).

Those of a write are decided inside the transaction that makes the version, so that of many writers exactly one wins.
"""

import msgspec

from mainspring.storage.objects.errors import NoSuchKey, NotModified, PreconditionFailed

SECOND_US = 1_000_000


class WriteIf(msgspec.Struct, frozen=True):
    """What must hold of the key's current version for a write or a delete. ETags with or without quotes; `*` is any."""

    match: str | None = None
    none_match: str | None = None
    size: int | None = None
    modified_s: int | None = None

    def check(self, current: tuple[str, int, int] | None, key: str) -> None:
        """`current` is (etag, size, modified_us), None where there is no object. Raises `NoSuchKey` (a match was asked
        for, and there is nothing) or `PreconditionFailed`."""
        if self.match is not None:
            if current is None:
                raise NoSuchKey(key=key)
            if not _names(self.match, current[0]):
                raise PreconditionFailed(condition="If-Match")
        if self.none_match is not None and current is not None and _names(self.none_match, current[0]):
            raise PreconditionFailed(condition="If-None-Match")
        if self.size is not None and (current is None or current[1] != self.size):
            raise PreconditionFailed(condition="x-amz-if-match-size")
        if self.modified_s is not None and (current is None or current[2] // SECOND_US != self.modified_s):
            raise PreconditionFailed(condition="x-amz-if-match-last-modified-time")


ALWAYS = WriteIf()


class ReadIf(msgspec.Struct, frozen=True):
    """What must hold for a read, or for the source of a copy. Times in whole seconds, as HTTP dates have them."""

    match: str | None = None
    none_match: str | None = None
    modified_since_s: int | None = None
    unmodified_since_s: int | None = None

    def check(self, etag: str, modified_us: int, *, prefix: str = "") -> None:
        """Raises `PreconditionFailed` or `NotModified`; an ETag that is given outweighs the time beside it."""
        modified_s = modified_us // SECOND_US
        if self.match is not None:
            if not _names(self.match, etag):
                raise PreconditionFailed(condition=prefix + "If-Match")
        elif self.unmodified_since_s is not None and modified_s > self.unmodified_since_s:
            raise PreconditionFailed(condition=prefix + "If-Unmodified-Since")
        if self.none_match is not None:
            if _names(self.none_match, etag):
                raise NotModified(etag=etag)
        elif self.modified_since_s is not None and modified_s <= self.modified_since_s:
            raise NotModified(etag=etag)


def _names(condition: str, etag: str) -> bool:
    if condition.strip() == "*":
        return True
    return any(_bare(one) == etag for one in condition.split(","))


def _bare(tag: str) -> str:
    tag = tag.strip().removeprefix("W/")
    return tag[1:-1] if len(tag) >= 2 and tag[0] == tag[-1] == '"' else tag
