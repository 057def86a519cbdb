"""`Links`: what other code calls. Makes, changes, finds and resolves links, and tells how often they were followed."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from hmac import compare_digest
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core import once as idempotency
from mainspring.core.accounts import Caller
from mainspring.core.accounts.passwords import Passwords
from mainspring.core.cache import SingleFlight
from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.once import Once
from mainspring.core.outbox import OutboxLog
from mainspring.core.ports import Cache, Connection, Database, Log
from mainspring.core.problems import Conflict, Invalid, Problem, Unauthenticated, Unavailable
from mainspring.core.telemetry import Metrics
from mainspring.core.views import ViewKeeper
from mainspring.primitives.ids import Ids
from mainspring.primitives.limiter import Limiter
from mainspring.social.links import listing, rollups, stats, store
from mainspring.social.links.clicks import Clicks
from mainspring.social.links.counting import Counting
from mainspring.social.links.domains import Domain, Domains
from mainspring.social.links.drafts import ADMIN, Drafts
from mainspring.social.links.issuer import Issuer, deployment_key
from mainspring.social.links.known import TOPIC, Change, KnownCodes
from mainspring.social.links.listing import Filter, Order
from mainspring.social.links.model import BULK_MAX, AliasTaken, Link, LinkEdit, NewLink, State, UnknownLink, UnknownTag
from mainspring.social.links.qr import Drawings
from mainspring.social.links.resolver import Resolver
from mainspring.social.links.settings import LinksSettings
from mainspring.social.links.stats import By, Series
from mainspring.social.links.visitors import Proxies, limit_key

LOCAL = Caller(None, "local", "local", frozenset({"*"}))
"""Who calls from the same process: an embedding program, a test."""

CREATE_AT_ONCE = 100
"""How many links one transaction makes at most, so that it holds up nobody else."""
BULK_COST = 100
"""Links that count as one against a token's limit when they are made in one call."""

_log = logging.getLogger(__name__)


class TagTaken(Conflict):
    type, title = "links/tag-taken", "There is a tag of this name already"


class Links:
    """Short links with rules, limits and honest counts.

    A code belongs to one link for ever. Of many who want one alias exactly one gets it. A created link survives kill -9 once
    `create` has returned. By hand: prepare the tables, `start`, and `stop` at the end.
    """

    def __init__(
        self,
        database: Database,
        log: Log,
        cache: Cache,
        ids: Ids,
        limiter: Limiter,
        clock: Clock,
        settings: LinksSettings | None = None,
        metrics: Metrics | None = None,
        config: Config | None = None,
        counting: Counting | None = None,
        outbox: OutboxLog | None = None,
    ) -> None:
        """`config` says which proxies are trusted, and where the view of known codes keeps its file: without one it is
        rebuilt at each start. The view follows `outbox`, which may be the log itself; without any there is no view."""
        self.settings = settings = settings or LinksSettings()
        self.clock = clock
        self.domains = Domains(database, settings)
        stale_s = settings.stale_s or (10.0 if database.dialect == "postgresql" else 0.0)
        self.resolver = Resolver(database, clock, settings.cached_links_max, stale_s, metrics)
        self.proxies = Proxies(() if config is None else config.trusted_proxies)
        self.clicks = Clicks(log, clock, metrics, self.proxies)
        self.counting = counting or Counting(database, cache, ids, clock, settings, metrics)
        self.counting.redirects = lambda: self.clicks.noted
        self.passwords = Passwords()
        self.drawings = Drawings()
        self.flight = SingleFlight(cache, clock, name="links", metrics=metrics)
        self.drafts = Drafts(settings, self.domains, self.passwords)
        self._database, self._ids, self._limiter = database, ids, limiter
        self._keeper: ViewKeeper[KnownCodes] | None = None
        if outbox is None and isinstance(log, OutboxLog):
            outbox = log
        if outbox is not None:
            folder = None if config is None else Path(config.data) / "views"
            self._keeper = ViewKeeper(
                "links.known",
                KnownCodes(self._changed),
                database,
                outbox,
                clock,
                topics=[TOPIC],
                version=3,
                folder=folder,
                metrics=metrics,
            )
            self.resolver.known = self._keeper.view
        self._tasks: set[asyncio.Task[None]] = set()
        self._issuer: Issuer
        limiter.define("links.create.anonymous", f"token {settings.anonymous_per_minute}/minute")
        limiter.define("links.create.token", f"token {settings.token_per_minute}/minute")
        limiter.define("links.password", f"token {settings.passwords_per_minute}/minute")
        limiter.define("links.report", "token 10/minute")

    async def start(self) -> None:
        code_key = await self._database.write(deployment_key, "codes")
        self._issuer = Issuer(self._database, self._ids, self.clock, code_key, self.settings.blocked_words)
        await self.domains.load()
        self.clicks.start()
        self._in_background(self._know_codes())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._keeper is not None and self.resolver.known.ready:
            await self._keeper.stop()
        await self.clicks.stop()
        await self.flight.stop()
        self.passwords.close()
        self.drawings.close()

    def now_us(self) -> int:
        return self.clock.wall_ns() // 1000

    async def _know_codes(self) -> None:
        """Readies the view; meanwhile unknown codes cost a look into the table, so that nobody waits for it."""
        while self._keeper is not None and not self.resolver.known.ready:
            try:
                await self._keeper.start()
                self.resolver.known.ready = True
            except Unavailable as problem:
                _log.warning("the view of known codes waits: %s", problem)
                await self.clock.sleep(5)

    def _changed(self, change: Change) -> None:
        """A link or a domain was edited, on whichever node."""
        self.resolver.changed(change)
        if not change.code:
            self._in_background(self.domains.load())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a view of links could not be brought up to date", exc_info=error)

    # Making

    async def create(self, url: str, *, by: Caller = LOCAL, once: Once | None = None, **fields: Any) -> Link:
        """Makes a link; `fields` are those of `NewLink`. Raises `AliasTaken`, `InvalidAlias`, or a problem of the target."""
        return await self.add(NewLink(url=url, **fields), by, once=once)

    async def add(
        self, new: NewLink, by: Caller = LOCAL, *, address: str | None = None, once: Once | None = None
    ) -> Link:
        """Makes a link. With an `address` the caller's limits hold (`QuotaExceeded`, `Unauthenticated`)."""
        return (await self.add_or_find(new, by, address=address, once=once))[0]

    async def add_or_find(
        self, new: NewLink, by: Caller = LOCAL, *, address: str | None = None, once: Once | None = None
    ) -> tuple[Link, bool]:
        """Like `add`, and whether the link is a new one, which with `find_if_exists` it may not be."""
        await self._admit(by, address, 1)
        draft = await self.drafts.link(new, by, self._ids.next(), self.now_us())
        while True:
            codes = await self._codes(draft, new)
            try:
                made = await idempotency.write(
                    self._database, once, Link, self._create_or_raise, draft, codes, new.find_if_exists
                )
                return made, made.id == draft.id
            except AliasTaken:
                if new.alias is not None:
                    raise

    async def add_many(
        self,
        wanted: Sequence[NewLink],
        by: Caller = LOCAL,
        *,
        address: str | None = None,
        before: Sequence[tuple[int | None, int]] = (),
    ) -> list[Link | Problem]:
        """Makes up to 1,000 links; each has its own result, and one that fails harms no other.

        `before` says of each when it was made elsewhere, and how many clicks it had there.
        """
        if not 0 < len(wanted) <= BULK_MAX:
            raise Invalid(f"1 to {BULK_MAX} links at once", pointer="/links")
        await self._admit(by, address, -(-len(wanted) // BULK_COST))
        results: list[Link | Problem] = []
        drafts: list[tuple[int, Link, list[str], bool, int]] = []
        for place, (new, (made_us, clicks)) in enumerate(zip(wanted, before or [(None, 0)] * len(wanted), strict=True)):
            if place % CREATE_AT_ONCE == 0:
                await asyncio.sleep(0)  # what follows mostly need not wait, and redirects should not either
            try:
                draft = await self.drafts.link(new, by, self._ids.next(), made_us or self.now_us())
                drafts.append((place, draft, await self._codes(draft, new), new.find_if_exists, clicks))
                results.append(UnknownLink())
            except Problem as problem:
                results.append(problem)
        made: list[Link | None] = []
        for first in range(0, len(drafts), CREATE_AT_ONCE):
            some = [tuple(rest) for _, *rest in drafts[first : first + CREATE_AT_ONCE]]
            made += await self._database.write(self._create_many, some)
        for (place, draft, *_), link in zip(drafts, made, strict=True):
            if link is not None:
                results[place] = link
            elif draft.code:
                results[place] = AliasTaken(f"{draft.code} belongs to another link")
            else:
                results[place] = await self.add(wanted[place], by)
        return results

    async def _codes(self, draft: Link, new: NewLink) -> list[str]:
        if draft.code:
            return [draft.code]
        domain = self.domains.of(draft)
        codes = self._issuer.at_hand(domain, new.code_length)
        return codes or await self._issuer.candidates(domain, draft.target, new.code_length)

    def _create_or_raise(self, connection: Connection, draft: Link, codes: Sequence[str], find: bool) -> Link:
        made = self._create(connection, draft, codes, find)
        if made is None:
            raise AliasTaken(f"{codes[0]} belongs to another link")
        return made

    def _create(
        self, connection: Connection, draft: Link, codes: Sequence[str], find: bool, clicks: int = 0
    ) -> Link | None:
        made = store.create(connection, draft, codes, find)
        if made is not None:
            if clicks and made.id == draft.id:
                rollups.credit(connection, made, clicks)
            connection.after_commit(lambda: self.resolver.made(made))
        return made

    def _create_many(self, connection: Connection, wanted: Sequence[Any]) -> list[Link | None]:
        return [self._create(connection, *one) for one in wanted]

    async def _admit(self, by: Caller, address: str | None, count: int) -> None:
        if address is None:
            return
        if by.may("links:write"):
            policy, key = "links.create.token", f"{by.kind}:{by.token_id or by.account_id}"
        elif self.settings.anonymous:
            policy, key = "links.create.anonymous", limit_key(address)
        else:
            raise Unauthenticated("Creating links needs a token with the scope links:write")
        decision = self._limiter.hit_now(policy, key, count)
        if decision is None:
            decision = await self._limiter.hit(policy, key, count)
        if not decision.allowed:
            raise decision.exceeded()

    # Finding and changing

    async def get(self, id: int, by: Caller = LOCAL) -> Link:
        """Raises `UnknownLink` where there is none, or where it is another account's."""
        return _visible(await self._database.read(store.get_by_id, id), by)

    async def named(self, code: str, host: str | None = None, by: Caller = LOCAL) -> Link:
        """Like `get`, by code and domain (None: the default one)."""
        domain = self.domains.named(host)
        return _visible(await self.find_by_code(domain.id, code.lower() if domain.folds_case else code), by)

    async def find_by_code(self, domain_id: int, code: str) -> Link | None:
        """The link as it is stored, whatever its state."""
        return await self._database.read(store.get, domain_id, code)

    async def find(self, wanted: Filter, before_id: int | None, limit: int, by: Caller = LOCAL) -> list[Link]:
        """The newest links that `by` may see, older than `before_id`."""
        return await self._database.read(listing.after, _own(wanted, by), before_id, limit)

    async def page(
        self, wanted: Filter, order: Order, down: bool, offset: int, limit: int, by: Caller = LOCAL
    ) -> tuple[Sequence[Link], int]:
        """Links in any order from `offset` on, and how many there are in all. Costs more than `find`."""
        return await self._database.read(listing.page, _own(wanted, by), order, down, offset, limit)

    async def edit(self, id: int, edit: LinkEdit, by: Caller = LOCAL, *, version: int | None = None) -> Link:
        """Changes what `edit` names; the values before stay in the history.

        Raises `PreconditionFailed` where the link is no longer at `version`.
        """
        before = await self.get(id, by)
        return await self._change(before, await self.drafts.changes(edit, before, by), by, version)

    async def delete(self, id: int, by: Caller = LOCAL) -> None:
        """Takes a link away for good. Its code answers 410 and is never given to another."""
        await self._change(await self.get(id, by), {"state": State.deleted, "tags": ()}, by, None)

    async def _change(self, before: Link, changes: dict[str, Any], by: Caller, version: int | None) -> Link:
        at_us, change = self.now_us(), Change(before.domain_id, before.code)

        def apply(connection: Connection) -> Link:
            after = store.edit(connection, before.id, changes, by.name, at_us, version)
            connection.after_commit(lambda: self.resolver.changed(change))
            return after

        return await self._database.write(apply)

    async def is_free(self, alias: str, host: str | None = None) -> bool:
        """Whether nobody has this alias yet. Raises `InvalidAlias` where nobody could."""
        domain = self.domains.named(host)
        return await self.find_by_code(domain.id, self.drafts.alias(alias, domain)) is None

    async def edit_domain(self, host: str, changes: Mapping[str, str | None]) -> Domain:
        """Sets where visitors of a domain are sent who find no link."""
        checked = {name: value and await self.drafts.target(value) for name, value in changes.items()}
        return await self.domains.edit(host, checked)

    async def history(self, id: int, by: Caller = LOCAL) -> list[store.Edit]:
        """The last 200 edits, newest first."""
        await self.get(id, by)
        return await self._database.read(store.edits, id)

    async def tags(self, by: Caller = LOCAL) -> dict[str, int]:
        """Each tag with the number of links that have it, in alphabetical order."""
        return await self._database.read(store.tags, None if by.may(ADMIN) else by.account_id)

    async def rename_tag(self, old: str, new: str) -> None:
        """Raises `UnknownTag`, and `TagTaken` where `new` is there already."""
        if not await self._database.read(store.tag_exists, old):
            raise UnknownTag(f"No link has the tag {old}")
        if new != old and await self._database.read(store.tag_exists, new):
            raise TagTaken(f"{new} is there already")
        while new != old and await self._database.write(store.retag, old, new) > 0:
            pass
        await self._database.write(store.move_sums, f"tag:{old}", f"tag:{new}")

    async def delete_tag(self, tag: str) -> None:
        while await self._database.write(store.retag, tag, None) > 0:
            pass
        await self._database.write(stats.drop_sums, [f"tag:{tag}"])

    async def report(self, id: int, reason: str, address: str) -> None:
        """Notes that somebody holds a link for harmful. Enough reporters, and visitors are asked before they go on."""
        if not (decision := await self._limiter.hit("links.report", limit_key(address))):
            raise decision.exceeded()
        link = await self.get(id)
        await self._database.write(
            store.add_report, self._ids.next(), id, limit_key(address), reason, self.now_us(), self.settings.reports_max
        )
        self.resolver.changed(Change(link.domain_id, link.code))

    # Accounts as YOURLS knows them

    async def yourls_secret(self, by: Caller) -> str:
        """The secret with which YOURLS clients sign for this account; made at the first call."""
        key = await self._database.write(deployment_key, f"yourls:{by.account_id or 0}")
        return key.hex()[:20]

    async def yourls_secrets(self) -> list[tuple[str, Caller]]:
        """All of these secrets, each with what it lets one do."""
        rows = await self._database.read(store.secrets, "yourls:")
        return [(key.hex()[:20], _yourls_caller(int(name.partition(":")[2]))) for name, key in rows]

    async def yourls_account(self, secret: str) -> Caller | None:
        """Whose secret this is."""
        found = [caller for known, caller in await self.yourls_secrets() if compare_digest(known, secret)]
        return found[0] if found else None

    # Visits

    async def crawlable(self, domain: Domain) -> list[str]:
        """Codes that search engines may follow."""
        return await self._database.read(store.crawlable, domain.id)

    async def check_password(self, link: Link, password: str, address: str) -> bool:
        """Whether it is the link's, at most five tries a minute for a link and address (`QuotaExceeded`)."""
        decision = await self._limiter.hit("links.password", f"{link.id}:{limit_key(address)}")
        if not decision:
            raise decision.exceeded()
        current = await self._database.read(store.get_by_id, link.id)
        return current is not None and await self.passwords.verify(password.encode(), current.password)

    async def spend_visit(self, link: Link) -> Link | None:
        """Takes a visit from a limited link; None where none is left. Whoever gets the last one is the only one."""
        spent = await self._database.write(store.spend_visit, link.domain_id, link.code)
        if spent is None or spent.visits_left == 0:
            self.resolver.changed(Change(link.domain_id, link.code))
        return spent

    async def stats(self, scope: str, since_us: int, until_us: int, by: By = "day") -> Series:
        """The clicks of the days that [since, until) touches; see `Counting` for scopes, and for all else about clicks."""
        return await self.counting.stats(scope, since_us, until_us, by)


def _visible(link: Link | None, by: Caller) -> Link:
    if link is None or link.state is State.deleted or not (by.may(ADMIN) or _owns(by, link)):
        raise UnknownLink
    return link


def _owns(by: Caller, link: Link) -> bool:
    """Links of nobody are nobody's to change, but for those who may change all."""
    return link.owner is not None and link.owner == by.account_id


def _yourls_caller(account_id: int) -> Caller:
    scopes = frozenset({"links:read", "links:write"}) if account_id else frozenset({"links:*"})
    return Caller(account_id or None, "yourls", "token", scopes)


def _own(wanted: Filter, by: Caller) -> Filter:
    return wanted if by.may(ADMIN) else msgspec.structs.replace(wanted, owner=by.account_id or 0)
