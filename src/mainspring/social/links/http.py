"""The JSON API of links, below `/api/links`."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from mainspring.core.accounts import Caller
from mainspring.core.http import Request, Response, Routes, Stream
from mainspring.core.http.conditional import check, etag_of
from mainspring.core.http.operation import INT64
from mainspring.core.http.pages import Cursors, Page, PageQuery
from mainspring.core.http.request import Channel
from mainspring.core.once import Once
from mainspring.core.problems import Invalid, Problem
from mainspring.social.links import qr, transfer
from mainspring.social.links import rules as redirect_rules
from mainspring.social.links.domains import Domain, DomainTaken
from mainspring.social.links.drafts import ADMIN, must_be_admin
from mainspring.social.links.listing import FAR_US, Filter
from mainspring.social.links.model import (
    BULK_MAX,
    AliasTaken,
    Card,
    InvalidAlias,
    Link,
    LinkEdit,
    NewLink,
    Tag,
    UnknownDomain,
    UnknownLink,
)
from mainspring.social.links.rules import Rule, Trial, Visitor
from mainspring.social.links.service import Links
from mainspring.social.links.stats import By, Series
from mainspring.social.links.store import Edit
from mainspring.social.links.targets import BlockedTarget, InvalidTarget, PrivateTarget, SchemeNotAllowed, WouldLoop
from mainspring.wire.websocket import open_channel

routes = Routes("links")

CURSORS: Cursors[int] = Cursors("links", INT64)
TARGET_PROBLEMS = (InvalidTarget, SchemeNotAllowed, WouldLoop, PrivateTarget, BlockedTarget)


class LinkView(msgspec.Struct, kw_only=True):
    """A link as callers see it. `clicks` and `bots` are of all time; `version` is what `If-Match` compares."""

    id: str
    short_url: str
    domain: str
    code: str
    url: str
    state: str
    title: str
    notes: str
    folder: str
    tags: Sequence[str]
    redirect: int
    valid_since: str | None
    valid_until: str | None
    max_visits: int | None
    visits_left: int | None
    has_password: bool
    forward_query: bool
    crawlable: bool
    archived: bool
    rules: Sequence[Rule]
    card: Card | None
    owner: str | None
    created_at: str
    version: int
    clicks: int = 0
    bots: int = 0


class ListQuery(PageQuery, frozen=True, kw_only=True):
    """`q` stands anywhere in code, target, title or tags; `tags_mode` is any or all; times are RFC 3339."""

    q: Annotated[str, Meta(max_length=200)] = ""
    tag: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()
    tags_mode: Annotated[str, Meta(pattern="^(any|all)$")] = "any"
    without: Annotated[tuple[Tag, ...], Meta(max_length=20)] = ()
    domain: str | None = None
    folder: str | None = None
    archived: bool | None = None
    since: str | None = None
    until: str | None = None


class BulkWanted(msgspec.Struct, forbid_unknown_fields=True):
    links: Annotated[list[NewLink], Meta(min_length=1, max_length=BULK_MAX)]


class BulkResult(msgspec.Struct, omit_defaults=True):
    """One of `link` and `problem` (a problem object, with its status)."""

    link: LinkView | None = None
    problem: dict[str, Any] | None = None


class BulkResults(msgspec.Struct):
    results: list[BulkResult]


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    rules: tuple[Rule, ...]


class ExplainQuery(msgspec.Struct, rename={"who": "as"}):
    """`as` is a visitor, written as a query: `device=mobile&os=ios&country=AT&language=de&ip=192.0.2.1&at=…&q.name=value`."""

    who: Annotated[str, Meta(max_length=2000)] = ""


class Explanation(msgspec.Struct):
    """Which rule decides (null: the link's own target) and how each one fared."""

    target: str
    rule: int | None
    trials: tuple[Trial, ...]


class StatsQuery(msgspec.Struct):
    """Whole days in UTC; the last 30 where nothing is said. `scope` of `/stats`: all, orphan, tag:NAME or domain:HOST."""

    since: str | None = None
    until: str | None = None
    by: By = "day"
    scope: Annotated[str, Meta(max_length=300)] = "all"


class LiveQuery(msgspec.Struct):
    link: int | None = None


class EditView(msgspec.Struct):
    version: int
    at: str
    actor: str
    before: dict[str, Any]


class TagView(msgspec.Struct):
    tag: str
    links: int
    clicks: int
    bots: int


class NewName(msgspec.Struct, forbid_unknown_fields=True):
    name: Tag


class DomainView(msgspec.Struct):
    host: str
    default: bool
    strategy: str
    alphabet: str
    base_redirect: str | None
    not_found_redirect: str | None
    invalid_redirect: str | None
    expired_redirect: str | None


class NewDomain(msgspec.Struct, forbid_unknown_fields=True):
    host: Annotated[str, Meta(min_length=1, max_length=255)]
    strategy: Annotated[str, Meta(pattern="^(counter|snowflake|random|hash)$")] = "counter"
    alphabet: Annotated[str, Meta(pattern="^(base62|base58|lower)$")] = "base62"


class DomainEdit(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    base_redirect: str | msgspec.UnsetType | None = msgspec.UNSET
    not_found_redirect: str | msgspec.UnsetType | None = msgspec.UNSET
    invalid_redirect: str | msgspec.UnsetType | None = msgspec.UNSET
    expired_redirect: str | msgspec.UnsetType | None = msgspec.UNSET


class AliasQuery(msgspec.Struct):
    alias: Annotated[str, Meta(max_length=200)]
    domain: str | None = None


class AliasView(msgspec.Struct):
    """Whether an alias can still be had, and why not."""

    available: bool
    reason: str = ""


class YourlsSecret(msgspec.Struct):
    signature: str


class NewReport(msgspec.Struct, forbid_unknown_fields=True):
    short_url: Annotated[str, Meta(max_length=2000)]
    reason: Annotated[str, Meta(max_length=1000)] = ""


@routes.post(
    "/links",
    status=201,
    public=True,
    idempotent=True,
    problems=[AliasTaken, InvalidAlias, UnknownDomain, *TARGET_PROBLEMS],
)
async def create(body: NewLink, request: Request, caller: Caller, links: Links, once: Once | None) -> LinkView:
    """Shortens an address. Needs `links:write`, unless links are open to anybody here."""
    return (await _views(links, await links.add(body, caller, address=request.client[0], once=once)))[0]


@routes.post("/bulk", body_bytes_max=8 << 20)
async def create_many(body: BulkWanted, request: Request, caller: Caller, links: Links) -> BulkResults:
    """Shortens up to 1,000 addresses; each has its own result, in order."""
    made = await links.add_many(body.links, caller, address=request.client[0])
    views = iter(await _views(links, *(one for one in made if isinstance(one, Link))))
    return BulkResults(
        [BulkResult(problem=one.body()) if isinstance(one, Problem) else BulkResult(next(views)) for one in made]
    )


@routes.get("/links")
async def find(query: ListQuery, caller: Caller, links: Links) -> Page[LinkView]:
    """The newest links first."""
    wanted = _filter(query, links)
    asked = msgspec.structs.asdict(wanted)
    before_id = CURSORS.open(query.cursor, asked)
    found = await links.find(wanted, before_id, query.limit + 1, caller)
    page = CURSORS.page(found, query.limit, lambda link: link.id, asked)
    return Page(await _views(links, *page.items), page.next)


def _filter(query: ListQuery, links: Links) -> Filter:
    return Filter(
        text=query.q,
        tags=query.tag,
        every_tag=query.tags_mode == "all",
        without=query.without,
        domain_id=None if query.domain is None else links.domains.named(query.domain).id,
        folder=query.folder,
        archived=query.archived,
        since_us=_instant(query.since, "since", 0),
        until_us=_instant(query.until, "until", FAR_US),
    )


@routes.get("/links/{id}", problems=[UnknownLink])
async def get(id: int, request: Request, caller: Caller, links: Links) -> Response:
    """One link; its ETag is that of its version."""
    link = await links.get(id, caller)
    answer = Response.json((await _views(links, link))[0])
    answer.headers.append((b"etag", _etag(link)))
    return answer


@routes.patch("/links/{id}", problems=[UnknownLink, *TARGET_PROBLEMS])
async def edit(id: int, body: LinkEdit, request: Request, caller: Caller, links: Links) -> LinkView:
    """Changes what is given; with `If-Match` only where the link is still at that version."""
    version = None
    if request.header("if-match") is not None:
        before = await links.get(id, caller)
        check(request, _etag(before))
        version = before.version
    return (await _views(links, await links.edit(id, body, caller, version=version)))[0]


@routes.delete("/links/{id}", status=204, problems=[UnknownLink])
async def delete(id: int, caller: Caller, links: Links) -> None:
    """Takes the link away for good; its code answers 410 from now on."""
    await links.delete(id, caller)


@routes.get("/links/{id}/rules", problems=[UnknownLink])
async def rules(id: int, caller: Caller, links: Links) -> Rules:
    """Where else a link leads, and for whom; the first rule that fits decides."""
    return Rules((await links.get(id, caller)).rules)


@routes.put("/links/{id}/rules", problems=[UnknownLink, *TARGET_PROBLEMS])
async def set_rules(id: int, body: Rules, caller: Caller, links: Links) -> Rules:
    """Replaces all rules of a link."""
    return Rules((await links.edit(id, LinkEdit(rules=body.rules), caller)).rules)


@routes.get("/links/{id}/explain", problems=[UnknownLink])
async def explain(id: int, query: ExplainQuery, caller: Caller, links: Links) -> Explanation:
    """Where this visitor would go, and why."""
    link = await links.get(id, caller)
    visitor = _visitor(query.who, links)
    choice = redirect_rules.decide(link.target, link.rules, visitor, link.code.encode())
    trials = redirect_rules.explain(link.rules, visitor, link.code.encode())
    return Explanation(choice.target, choice.rule, trials)


@routes.get("/links/{id}/stats", problems=[UnknownLink])
async def link_stats(id: int, query: StatsQuery, caller: Caller, links: Links) -> Series:
    """The clicks of a link, by time or by a dimension."""
    return await _series(f"link:{(await links.get(id, caller)).id}", query, links)


@routes.get("/stats")
async def stats(query: StatsQuery, caller: Caller, links: Links) -> Series:
    """The clicks of all one's links, of a tag, of a domain, or of visits that led nowhere."""
    kind, _, name = query.scope.partition(":")
    scope = query.scope
    if scope == "all" and not caller.may(ADMIN):
        scope = f"owner:{caller.account_id}"
    elif kind == "domain":
        must_be_admin(caller)
        scope = f"domain:{links.domains.named(name).id}"
    elif scope == "orphan" or (kind == "tag" and name):
        must_be_admin(caller)
    elif scope != "all":
        raise Invalid("A scope is all, orphan, tag:NAME or domain:HOST", pointer="/query/scope")
    return await _series(scope, query, links)


@routes.get("/links/{id}/history", problems=[UnknownLink])
async def history(id: int, caller: Caller, links: Links) -> list[EditView]:
    """The last 200 edits, newest first, with the values that each replaced."""
    return [_edit_view(one) for one in await links.history(id, caller)]


@routes.get("/tags")
async def tags(caller: Caller, links: Links) -> list[TagView]:
    """The tags of the caller's links, with how many links and clicks each has."""
    found = await links.tags(caller)
    sums = await links.sums([f"tag:{tag}" for tag in found])
    return [TagView(tag, count, *sums.get(f"tag:{tag}", (0, 0))) for tag, count in found.items()]


@routes.put("/tags/{tag}", status=204)
async def rename_tag(tag: str, body: NewName, caller: Caller, links: Links) -> None:
    """Renames a tag on all links; to a name that is not there yet."""
    must_be_admin(caller)
    await links.rename_tag(tag, body.name)


@routes.delete("/tags/{tag}", status=204)
async def delete_tag(tag: str, caller: Caller, links: Links) -> None:
    """Takes a tag off all links."""
    must_be_admin(caller)
    await links.delete_tag(tag)


@routes.get("/domains")
async def domains(links: Links) -> list[DomainView]:
    """The domains that links are served on."""
    return [_domain_view(one) for one in sorted(links.domains.hosts.values(), key=lambda one: one.id)]


@routes.post("/domains", status=201, problems=[DomainTaken])
async def add_domain(body: NewDomain, caller: Caller, links: Links) -> DomainView:
    """Adds a domain to serve links on, with codes of its own."""
    must_be_admin(caller)
    return _domain_view(await links.domains.add(body.host, body.strategy, body.alphabet))


@routes.patch("/domains/{host}", problems=[UnknownDomain])
async def edit_domain(host: str, body: DomainEdit, caller: Caller, links: Links) -> DomainView:
    """Changes where a domain sends visits that lead to no link."""
    must_be_admin(caller)
    changes = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not msgspec.UNSET}
    return _domain_view(await links.edit_domain(host, changes))


@routes.get("/yourls", scope="links:write")
async def yourls(caller: Caller, links: Links) -> YourlsSecret:
    """The `signature` for YOURLS clients of this account, which can sign moments with it too."""
    return YourlsSecret(await links.yourls_secret(caller))


@routes.get("/links/{id}/qr", produces="image/*", problems=[UnknownLink])
async def qr_code(id: int, query: qr.Design, caller: Caller, links: Links) -> Response:
    """The link's QR code, as a picture."""
    return await qr.answer(links.domains.short_url(await links.get(id, caller)), query)


@routes.post("/links/{id}/qr", scope="links:read", produces="image/*", problems=[UnknownLink])
async def qr_code_with_logo(id: int, query: qr.Design, body: bytes, caller: Caller, links: Links) -> Response:
    """The same with the picture in the body (PNG, JPEG, WebP or GIF, at most 1 MiB) in its middle."""
    return await qr.answer(links.domains.short_url(await links.get(id, caller)), query, body)


@routes.get("/export", produces="text/csv")
async def export(query: ListQuery, caller: Caller, links: Links) -> Stream:
    """All links that match, as CSV."""
    disposition = b'attachment; filename="links.csv"'
    pieces = transfer.export_csv(links, _filter(query, links), caller)
    return Stream(pieces, "text/csv; charset=utf-8", headers=[(b"content-disposition", disposition)])


@routes.post("/import", body_bytes_max=16 << 20)
async def import_links(body: bytes, caller: Caller, links: Links) -> transfer.Imported:
    """Makes the links of a CSV file, our own or one of Shlink's, YOURLS' or Bitly's, with codes, dates and counts."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise Invalid("The file is not UTF-8", pointer="/body") from None
    return await transfer.import_csv(links, text, caller)


@routes.websocket("/live")
async def live(channel: Channel, query: LiveQuery, caller: Caller, links: Links) -> None:
    """Clicks as they are counted: `{"clicks": 3, "links": {"<id>": 2}}`; of one link only, where `link` names it."""
    if query.link is None:
        must_be_admin(caller)
    else:
        await links.get(query.link, caller)
    async with open_channel(channel) as socket, links.watch() as messages:
        async for message in messages:
            if query.link is None:
                socket.send(message.decode())
            elif some := msgspec.json.decode(message)["links"].get(str(query.link)):
                socket.send_json({"clicks": some, "links": {str(query.link): some}})


@routes.get("/alias")
async def alias(query: AliasQuery, links: Links) -> AliasView:
    """Whether an alias can still be had: for a form that tells while one types."""
    try:
        return AliasView(await links.is_free(query.alias, query.domain), "")
    except InvalidAlias as problem:
        return AliasView(False, problem.detail)


@routes.post("/reports", status=204, public=True, problems=[UnknownLink])
async def report(body: NewReport, request: Request, links: Links) -> None:
    """Tells that a link is harmful. Anybody may."""
    host, _, code = body.short_url.partition("://")[2].partition("/")
    if host.lower() not in links.domains.hosts:
        raise UnknownLink
    link = await links.named(code, host)
    await links.report(link.id, body.reason, request.client[0])


async def _views(links: Links, *found: Link) -> list[LinkView]:
    sums = await links.sums([f"link:{link.id}" for link in found]) if found else {}
    return [_view(link, links, *sums.get(f"link:{link.id}", (0, 0))) for link in found]


def _view(link: Link, links: Links, clicks: int, bots: int) -> LinkView:
    return LinkView(
        id=str(link.id),
        short_url=links.domains.short_url(link),
        domain=links.domains.of(link).host,
        code=link.code,
        url=link.target,
        state=link.state.name,
        title=link.title,
        notes=link.notes,
        folder=link.folder,
        tags=link.tags,
        redirect=link.redirect,
        valid_since=rfc3339(link.valid_since_us),
        valid_until=rfc3339(link.valid_until_us),
        max_visits=link.max_visits,
        visits_left=link.visits_left,
        has_password=link.password is not None,
        forward_query=link.forward_query,
        crawlable=link.crawlable,
        archived=link.archived,
        rules=link.rules,
        card=link.card,
        owner=None if link.owner is None else str(link.owner),
        created_at=rfc3339(link.created_us) or "",
        version=link.version,
        clicks=clicks,
        bots=bots,
    )


def rfc3339(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return redirect_rules.instant_text(at_us)


def _etag(link: Link) -> bytes:
    return etag_of(b"%d.%d" % (link.id, link.version))


def _edit_view(one: Edit) -> EditView:
    before = {("url" if name == "target" else name.removesuffix("_us")): value for name, value in one.before.items()}
    for name in ("valid_since", "valid_until"):
        if isinstance(before.get(name), int):
            before[name] = rfc3339(before[name])
    return EditView(one.version, rfc3339(one.at_us) or "", one.actor, before)


def _domain_view(domain: Domain) -> DomainView:
    return DomainView(
        domain.host,
        domain.id == 0,
        domain.strategy,
        domain.alphabet,
        domain.base_redirect,
        domain.not_found_redirect,
        domain.invalid_redirect,
        domain.expired_redirect,
    )


async def _series(scope: str, query: StatsQuery, links: Links) -> Series:
    now_us = links.now_us()
    until_us = _instant(query.until, "until", now_us + 1)
    since_us = _instant(query.since, "since", max(0, until_us - 30 * 86_400_000_000))
    return await links.stats(scope, since_us, until_us, query.by)


def _instant(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    try:
        return redirect_rules.instant_us(text)
    except (ValueError, OverflowError):
        raise Invalid("Write an instant as RFC 3339 does", pointer=f"/query/{name}") from None


def _visitor(text: str, links: Links) -> Visitor:
    known = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=50))
    query = tuple((name[2:], value) for name, value in known.items() if name.startswith("q."))
    plain = {name: known[name].lower() for name in ("device", "os", "browser", "referrer") if name in known}
    try:
        address = known.get("ip", "")
        if address:
            redirect_rules.network(address)
        at_us = redirect_rules.instant_us(known["at"]) if known.get("at") else links.now_us()
    except (ValueError, OverflowError) as error:
        raise Invalid(str(error), pointer="/query/as") from None
    languages = tuple(known.get("language", "").lower().split(",")) if known.get("language") else ()
    country, city = known.get("country", "").upper(), known.get("city", "")
    key = known.get("key", "").encode()
    return Visitor(
        **plain, languages=languages, query=query, country=country, city=city, address=address, at_us=at_us, key=key
    )
