"""From a code to its link in a microsecond: the hot path. It never writes and never waits for analytics.

Plain links (the same answer for everybody at any time) are kept as the bytes of their `Location`; all others as a `Link`,
judged anew at each visit. A code that nobody made is turned away by `KnownCodes` without SQL. A change invalidates the entry
here before its caller is answered, and on other nodes as the change reaches them; `stale_s` bounds what a node that has lost
touch can still give out. Without a database what is cached goes on working.
"""

from collections.abc import Callable

from mainspring.core.cache import Sieve
from mainspring.core.clock import Clock
from mainspring.core.database import Timeout
from mainspring.core.ports import Database
from mainspring.core.problems import Unavailable
from mainspring.core.telemetry import Metrics
from mainspring.social.links import store
from mainspring.social.links.known import Change, KnownCodes
from mainspring.social.links.model import Link

NEVER = (1 << 63) - 1


class Resolver:
    """The cache of links, at most `links_max` of them, and the view of which codes there are."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        links_max: int = 1_000_000,
        stale_s: float = 0,
        metrics: Metrics | None = None,
    ) -> None:
        self._database = database
        self._mono_ns: Callable[[], int] = clock.mono_ns
        self._cache: Sieve[bytes, bytes | Link] = Sieve(links_max)
        self._stale_ns = round(stale_s * 1e9)
        self.known = KnownCodes(self.changed)
        self._changes = 0
        self.misses = self.unknown = self.loads = 0
        if metrics is not None:
            metrics.gauge("links_cached", "Links in memory", sample=lambda: len(self._cache))
            metrics.counter("links_cache_misses", "Visits whose link was not in memory").follow(lambda: self.misses)
            metrics.counter("links_unknown_codes", "Visits to codes that nobody made").follow(lambda: self.unknown)
            metrics.counter("links_loads", "Links read from the database").follow(lambda: self.loads)

    def __len__(self) -> int:
        return len(self._cache)

    def cached(self, key: bytes) -> bytes | Link | None:
        """What is in memory and fresh for a `key_of`: a plain link's location, or a link; else None."""
        entry = self._cache.find(key)
        if entry is None or entry.deadline <= (self._mono_ns() if self._stale_ns else 0):
            return None
        return entry.value

    async def find(self, domain_id: int, code: str) -> bytes | Link | None:
        """Like `cached`, from the database where need be; None where there is no such code.

        Raises `Unavailable` where the database is needed and away.
        """
        key = key_of(domain_id, code)
        found = self.cached(key)
        if found is not None:
            return found
        self.misses += 1
        if (domain_id, code) not in self.known:
            self.unknown += 1
            return None
        changes = self._changes
        try:
            link = await self._database.read(store.get, domain_id, code)
        except (Unavailable, Timeout):
            # Its time is up, but nobody can say better: an old answer beats none.
            stale = self._cache.get(key)
            if stale is None:
                raise
            return stale
        self.loads += 1
        if link is None:
            self.unknown += 1
            return None
        value: bytes | Link = link.target.encode() if link.plain else link
        # What changed while it was being read may be this very link: then the next visit reads again.
        if changes == self._changes:
            deadline = self._mono_ns() + self._stale_ns if self._stale_ns else NEVER
            self._cache.put(key, value, deadline=deadline)
        return value

    def made(self, link: Link) -> None:
        """A link was stored: its code is known from now on."""
        self.known.add(link.domain_id, link.code)

    def changed(self, change: Change) -> None:
        """A link was edited, here or elsewhere: what is in memory of it is forgotten."""
        self._changes += 1
        self._cache.pop(key_of(change.domain_id, change.code))


def key_of(domain_id: int, code: str) -> bytes:
    return code.encode() if not domain_id else b"%d/%b" % (domain_id, code.encode())
