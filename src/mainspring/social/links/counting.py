"""`Counting`: how often links were followed. Folds clicks out of the log into sums, and reads charts and lists back."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.imports import imported
from mainspring.core.ports import Cache, Connection, Consumer, Database, Record
from mainspring.core.problems import Invalid
from mainspring.core.telemetry import Metrics
from mainspring.primitives.ids import Ids
from mainspring.social.links import rollups, stats, store
from mainspring.social.links.clicks import Batch, Click, decode_batch
from mainspring.social.links.issuer import deployment_key
from mainspring.social.links.model import Link
from mainspring.social.links.rollups import DAY_US, Reading
from mainspring.social.links.settings import LinksSettings
from mainspring.social.links.stats import DAYS_MAX, By, Series, Visit, VisitFilter
from mainspring.social.links.visitors import Visitors, pseudonym

LIVE = "links.live"
"""The channel of the cache on which each fold says what was clicked, as JSON."""

REST = 4
"""While redirects come thick, the fold rests this many times as long as a batch took: they come first."""
THICK_A_SECOND = 1_000

BATCHES_KEPT_US = 7 * DAY_US


class Counting:
    """Counts each click once, in whatever order and however often its record comes."""

    def __init__(
        self,
        database: Database,
        cache: Cache,
        ids: Ids,
        clock: Clock,
        settings: LinksSettings | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings or LinksSettings()
        self._database, self._cache, self._ids, self._clock = database, cache, ids, clock
        self._key: bytes | None = None
        self.folded = 0
        self.redirects: Callable[[], int] = lambda: 0
        """How many redirects this process has answered, by which the fold knows whom it would hold up."""
        self.visitors = Visitors(Path(self._settings.geo_file) if self._settings.geo_file else None)
        if metrics is not None:
            metrics.counter("links_clicks_folded", "Clicks added to the sums").follow(lambda: self.folded)

    async def prepare(self) -> None:
        """Loads what reading visitors needs, once: libraries in a thread, and this deployment's key."""
        await self.visitors.prepare()
        if self._key is None:
            self._key = await self._database.write(deployment_key, "visitors")

    def pseudonym(self, address: str, user_agent: str) -> bytes:
        """By what a visitor is known here. `prepare` must have been awaited."""
        assert self._key is not None, "prepare() comes first"
        return pseudonym(self._key, address, user_agent)

    async def fold(self, batch: list[Record], consumer: Consumer) -> None:
        """Adds the clicks of log records to the sums, each record in a transaction of its own and exactly once."""
        await self.prepare()
        await _load_sketches()
        for place, record in enumerate(batch, 1):
            began_ns, before = self._clock.mono_ns(), self.redirects()
            one = decode_batch(record.value)
            # A User-Agent that was never seen takes a fifth of a millisecond, which is not the loop's to wait for.
            readings = await asyncio.to_thread(self._read, one.clicks)
            visit_ids = self._ids.take(max(1, len(readings)))
            last = consumer if place == len(batch) else None
            counts = await self._database.write(self._fold, one, readings, visit_ids, last)
            if counts:
                self.folded += len(readings)
                clicked = {str(id): n for id, n in counts[:200] if id is not None}
                live = {"clicks": sum(n for _, n in counts), "links": clicked}
                if countries := Counter(one.country for one in readings if one.country):
                    live["countries"] = countries
                await self._cache.publish(LIVE, msgspec.json.encode(live))
            took_s = (self._clock.mono_ns() - began_ns) / 1e9
            if place < len(batch) and self.redirects() - before > THICK_A_SECOND * took_s:
                await self._clock.sleep(REST * took_s)

    def _read(self, clicks: Sequence[Click]) -> list[Reading]:
        return [rollups.read(click, self.visitors, self.pseudonym) for click in clicks]

    def _fold(
        self,
        connection: Connection,
        one: Batch,
        readings: Sequence[Reading],
        visit_ids: Sequence[int],
        last: Consumer | None,
    ) -> list[tuple[int | None, int]]:
        visits = visit_ids if self._settings.visits_days else ()
        counts = rollups.fold(connection, one, readings, visits, self._clock.wall_ns() // 1000)
        if last is not None:
            last.commit_in(connection)
        return counts

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What is clicked from now on, as JSON: `{"clicks": 3, "links": {"<id>": 2}}`, on whichever node; and
        `"countries": {"AT": 3}` where any is known."""
        return self._cache.subscribe(LIVE)

    async def sums(self, scopes: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(clicks, of them bots) of all time for each of these scopes that has any: `all`, `orphan`, `link:<id>`,
        `tag:<tag>`, `domain:<id>`, `owner:<id>`."""
        return await self._database.read(store.sums, scopes) if scopes else {}

    async def of(self, links: Sequence[Link]) -> list[tuple[int, int]]:
        """(clicks, of them bots) of all time for each link."""
        sums = await self.sums([f"link:{link.id}" for link in links])
        return [sums.get(f"link:{link.id}", (0, 0)) for link in links]

    async def stats(self, scope: str, since_us: int, until_us: int, by: By = "day") -> Series:
        """The clicks of the days that [since, until) touches, by time or by a dimension."""
        if not 0 <= since_us < until_us or until_us - since_us > DAYS_MAX * DAY_US:
            raise Invalid(f"A chart begins before it ends and covers at most {DAYS_MAX} days", pointer="/query/since")
        await _load_sketches()
        return await self._database.read(stats.series, scope, since_us, until_us, by)

    async def visits(self, wanted: VisitFilter, offset: int, limit: int) -> tuple[list[Visit], int]:
        """Single visits, newest first, as far as they are still kept; and how many there are."""
        return await self._database.read(stats.visits, wanted, offset, limit)

    async def forget(self, link: Link) -> int:
        """Forgets the visits of a link and their sum, but for what they are part of; gives how many had been counted."""
        return await self._forget([f"link:{link.id}"], link.id)

    async def forget_orphans(self, domain_ids: Sequence[int]) -> int:
        """Forgets all visits that led nowhere."""
        return await self._forget(["orphan", *(f"orphan:{id}" for id in domain_ids)], None)

    async def _forget(self, scopes: Sequence[str], link_id: int | None) -> int:
        total = await self._database.write(stats.drop_sums, scopes)
        while await self._database.write(stats.drop_some, link_id) == stats.DROP_ROWS_MAX:
            pass
        return total

    async def sweep(self) -> None:
        """Deletes single visits that are older than `visits_days`, and notes of batches that nobody delivers any more."""
        now_us = self._clock.wall_ns() // 1000
        before_us = now_us - self._settings.visits_days * DAY_US
        while await self._database.write(stats.sweep, before_us, now_us - BATCHES_KEPT_US) == stats.DROP_ROWS_MAX:
            pass


async def _load_sketches() -> None:
    """The sketch library takes 200 ms to import, which neither the loop nor a transaction can wait for."""
    await asyncio.to_thread(imported, "datasketches")
