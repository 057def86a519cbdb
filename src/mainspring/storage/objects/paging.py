"""Pages of listings: where one begins, and the one moment that all pages of a listing show.

A first page that is not the last fixes the moment: rows that end later are kept for the pages to come, which costs a write. A
bucket that has been quiet since an earlier listing is shown at that one's moment, without a write.

A short first page can be told within one turn of the event loop, where the database can do that. That one is not short shows
after as many lines, and is remembered for the next times that it is asked for.
"""

from collections.abc import Callable

import msgspec

from mainspring.core.database import Timeout
from mainspring.core.problems import Unavailable
from mainspring.storage.objects import listing, lookups
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.errors import InvalidArgument
from mainspring.storage.objects.listing import KEYS_MAX, Ask, Page, Token, Walked
from mainspring.storage.objects.model import NULL, parse_version

SHORT_LINES = 128
LONG_TIMES = 32
"""How many times a page that was long is not tried on the loop."""

LONG_MAX = 1_024
Kind = tuple[str, bytes, bytes, int]
"""What pages that follow one another have in common: bucket, prefix, delimiter and count."""


class Paging:
    def __init__(self, engine: Engine) -> None:
        self._database = engine.database
        self._numbers = engine.numbers
        self._read: Callable[..., Walked] | None = getattr(engine.database, "read_at_once", None)
        self._long: dict[Kind, int] = {}

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

    def keys_at_once(self, bucket: str, prefix: str, delimiter: str, after: str, count: int) -> Page | None:
        """A first page of the keys that are there now; None where it cannot be told within this turn of the loop. Raises
        `NoSuchBucket`."""
        lead, cut = prefix.encode(), delimiter.encode()
        start = listing.first_start(lead, cut, after.encode())
        walked = self._short(bucket, Ask(lead, cut, start, None, min(count, KEYS_MAX)))
        if walked is None or walked.next is None:
            return None if walked is None else _page(walked)
        quiet = self._quiet_moment(walked)
        return None if quiet is None else _page(_fixed(walked, quiet))

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
        asked = msgspec.structs.replace(ask, at=at)
        walked = await self._database.read(listing.walk, bucket, asked)
        if walked.next is not None and at is None:
            quiet = self._quiet_moment(walked)
            if quiet is None:
                quiet = await self._database.write(listing.fix_moment, self._numbers, walked.bucket.id)
                self._numbers.note_moment(walked.bucket.id, quiet)
                asked = msgspec.structs.replace(ask, at=quiet)
                walked = await self._database.read(listing.walk, bucket, asked)
            else:
                walked = _fixed(walked, quiet)
        if ask.at is not None and walked.next is not None:
            walked = walked._replace(next=msgspec.structs.replace(walked.next, at=ask.at, as_of=True))
        return _page(walked)

    def _short(self, bucket: str, ask: Ask) -> Walked | None:
        """A page of few lines, read on the loop; None for one that is long, or was the last time."""
        if self._read is None:
            return None
        kind = bucket, ask.prefix, ask.delimiter, ask.count
        left = self._long.get(kind, -1)
        if left > 0:
            self._long[kind] = left - 1
            return None
        short = msgspec.structs.replace(ask, count=min(ask.count, SHORT_LINES))
        try:
            walked = self._read(listing.walk, bucket, short)
        except (Timeout, Unavailable):
            # Once may be for something else that the machine had to do.
            self._remember(kind, LONG_TIMES if left == 0 else 0)
            return None
        if walked.next is not None and ask.count > SHORT_LINES:
            self._remember(kind, LONG_TIMES)
            return None
        if left == 0:
            del self._long[kind]
        return walked

    def _remember(self, kind: Kind, times: int) -> None:
        if len(self._long) >= LONG_MAX:
            self._long.clear()
        self._long[kind] = times

    def _quiet_moment(self, walked: Walked) -> int | None:
        """The moment of an earlier listing since which nothing has changed. Only where no other process can change it."""
        if self._database.dialect != "sqlite":
            return None
        return self._numbers.quiet_moment(walked.bucket.id)


def _fixed(walked: Walked, at: int) -> Walked:
    """A page after which the next one shows the moment `at`."""
    assert walked.next is not None
    return walked._replace(next=msgspec.structs.replace(walked.next, at=at))


def _page(walked: Walked) -> Page:
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
