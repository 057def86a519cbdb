"""Pages of listings: where one begins, and the one moment that all pages of a listing show.

A first page that is not the last fixes the moment: rows that end later are kept for the pages to come, which costs a write. A
bucket that has been quiet since an earlier listing is shown at that one's moment, without a write.
"""

import msgspec

from mainspring.storage.objects import listing, lookups
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.errors import InvalidArgument
from mainspring.storage.objects.listing import KEYS_MAX, Ask, Page, Token, Walked
from mainspring.storage.objects.model import NULL, parse_version


class Paging:
    def __init__(self, engine: Engine) -> None:
        self._database = engine.database
        self._numbers = engine.numbers

    async def keys(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        after: str,
        count: int,
        token: str | None,
        as_of_us: int | None,
    ) -> Page:
        """A page of the keys that are there now, or in a versioned bucket were there at a moment."""
        begun = None if token is None else listing.decode_token(token)
        lead, cut = prefix.encode(), delimiter.encode()
        start = listing.first_start(lead, cut, after.encode()) if begun is None else begun.start
        if begun is not None and begun.as_of:
            as_of_us = begun.at
        return await self._walk(bucket, Ask(lead, cut, start, None, min(count, KEYS_MAX), as_of_us), begun)

    async def versions(
        self,
        bucket: str,
        prefix: str,
        delimiter: str,
        key_marker: str,
        version_marker: str,
        count: int,
        token: str | None,
    ) -> Page:
        """A page of all versions and delete markers."""
        begun = None if token is None else listing.decode_token(token)
        lead, cut, below = prefix.encode(), delimiter.encode(), None
        if begun is not None:
            start, below = begun.start, begun.below
        elif version_marker:
            if not key_marker:
                raise InvalidArgument("A version-id marker cannot be specified without a key marker.")
            start, below = key_marker.encode(), await self._rank_of(bucket, key_marker, version_marker)
        else:
            start = listing.first_start(lead, cut, key_marker.encode())
        return await self._walk(bucket, Ask(lead, cut, start, below, min(count, KEYS_MAX), None, True), begun)

    async def _rank_of(self, bucket: str, key: str, version: str) -> int:
        seq = parse_version(version)
        if seq is not None:
            return -seq
        found = await self._database.read(lookups.find_version_in, bucket, key, NULL)
        return found.rank

    async def _walk(self, bucket: str, ask: Ask, begun: Token | None) -> Page:
        """One page; a first page that is not the last fixes the moment that the following ones show, and is read at it."""
        at = ask.at
        if begun is not None and begun.at > self._numbers.now_us() - self._numbers.snapshot_us:
            at = begun.at
        walked = await self._database.read(listing.walk, bucket, msgspec.structs.replace(ask, at=at))
        quiet = self._quiet_moment(walked)
        if walked.next is not None and at is None and quiet is not None:
            walked = walked._replace(next=msgspec.structs.replace(walked.next, at=quiet))
        elif walked.next is not None and at is None:
            at = await self._database.write(listing.fix_moment, self._numbers, walked.bucket.id)
            self._numbers.note_moment(walked.bucket.id, at)
            walked = await self._database.read(listing.walk, bucket, msgspec.structs.replace(ask, at=at))
        if ask.at is not None and walked.next is not None:
            walked = walked._replace(next=msgspec.structs.replace(walked.next, at=ask.at, as_of=True))
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

    def _quiet_moment(self, walked: Walked) -> int | None:
        """The moment of an earlier listing since which nothing has changed. Only where no other process can change it."""
        if self._database.dialect != "sqlite":
            return None
        return self._numbers.quiet_moment(walked.bucket.id)
