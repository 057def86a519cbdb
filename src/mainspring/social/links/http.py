"""The JSON API of links, below `/api/links`."""

import msgspec

from mainspring.core.accounts import Caller
from mainspring.core.http import Request, Response, Routes, Stream
from mainspring.core.http.conditional import check
from mainspring.core.http.operation import INT64
from mainspring.core.http.pages import Cursors, Page
from mainspring.core.http.request import Channel
from mainspring.core.once import Once
from mainspring.core.problems import Invalid, Problem, Unauthenticated, Unavailable
from mainspring.social.links import qr, transfer
from mainspring.social.links import rules as redirect_rules
from mainspring.social.links.domains import DomainTaken
from mainspring.social.links.drafts import ADMIN, must_be_admin
from mainspring.social.links.listing import FAR_US, Filter
from mainspring.social.links.model import AliasTaken, InvalidAlias, Link, LinkEdit, NewLink, UnknownDomain, UnknownLink
from mainspring.social.links.service import Links
from mainspring.social.links.stats import Series
from mainspring.social.links.targets import BlockedTarget, InvalidTarget, PrivateTarget, SchemeNotAllowed, WouldLoop
from mainspring.social.links.views import (
    AliasQuery,
    AliasView,
    BulkResult,
    BulkResults,
    BulkWanted,
    DomainEdit,
    DomainView,
    EditView,
    ExplainQuery,
    Explanation,
    LinkView,
    ListQuery,
    LiveQuery,
    NewDomain,
    NewName,
    NewReport,
    Rules,
    StatsQuery,
    TagView,
    YourlsSecret,
    domain_view,
    edit_view,
    link_etag,
    link_view,
    link_views,
    read_instant,
    read_visitor,
)
from mainspring.wire.websocket import open_channel

routes = Routes("links")

CURSORS: Cursors[int] = Cursors("links", INT64)
TARGET_PROBLEMS = (InvalidTarget, SchemeNotAllowed, WouldLoop, PrivateTarget, BlockedTarget)


@routes.post(
    "/links",
    status=201,
    public=True,
    idempotent=True,
    problems=[AliasTaken, InvalidAlias, UnknownDomain, *TARGET_PROBLEMS],
)
async def create(body: NewLink, request: Request, caller: Caller, links: Links, once: Once | None) -> LinkView:
    """Shortens an address. Needs `links:write`, unless links are open to anybody here."""
    made, is_new = await links.add_or_find(body, caller, address=request.client[0], once=once)
    # Nobody can have followed it yet: nothing to look up.
    return link_view(made, links, 0, 0) if is_new else (await link_views(links, made))[0]


@routes.post("/bulk", body_bytes_max=8 << 20)
async def create_many(body: BulkWanted, request: Request, caller: Caller, links: Links) -> BulkResults:
    """Shortens up to 1,000 addresses; each has its own result, in order."""
    made = await links.add_many(body.links, caller, address=request.client[0])
    views = iter(await link_views(links, *(one for one in made if isinstance(one, Link))))
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
    return Page(await link_views(links, *page.items), page.next)


def _filter(query: ListQuery, links: Links) -> Filter:
    return Filter(
        text=query.q,
        tags=query.tag,
        every_tag=query.tags_mode == "all",
        without=query.without,
        domain_id=None if query.domain is None else links.domains.named(query.domain).id,
        folder=query.folder,
        archived=query.archived,
        since_us=read_instant(query.since, "since", 0),
        until_us=read_instant(query.until, "until", FAR_US),
    )


@routes.get("/links/{id}", problems=[UnknownLink])
async def get(id: int, request: Request, caller: Caller, links: Links) -> Response:
    """One link; its ETag is that of its version."""
    link = await links.get(id, caller)
    answer = Response.json((await link_views(links, link))[0])
    answer.headers.append((b"etag", link_etag(link)))
    return answer


@routes.patch("/links/{id}", problems=[UnknownLink, *TARGET_PROBLEMS])
async def edit(id: int, body: LinkEdit, request: Request, caller: Caller, links: Links) -> LinkView:
    """Changes what is given; with `If-Match` only where the link is still at that version."""
    version = None
    if request.header("if-match") is not None:
        before = await links.get(id, caller)
        check(request, link_etag(before))
        version = before.version
    return (await link_views(links, await links.edit(id, body, caller, version=version)))[0]


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
    visitor = read_visitor(query.who, links)
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
    return [edit_view(one) for one in await links.history(id, caller)]


@routes.get("/tags")
async def tags(caller: Caller, links: Links) -> list[TagView]:
    """The tags of the caller's links, with how many links and clicks each has."""
    found = await links.tags(caller)
    sums = await links.counting.sums([f"tag:{tag}" for tag in found])
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
    return [domain_view(one) for one in sorted(links.domains.hosts.values(), key=lambda one: one.id)]


@routes.post("/domains", status=201, problems=[DomainTaken])
async def add_domain(body: NewDomain, caller: Caller, links: Links) -> DomainView:
    """Adds a domain to serve links on, with codes of its own."""
    must_be_admin(caller)
    return domain_view(await links.domains.add(body.host, body.strategy, body.alphabet))


@routes.patch("/domains/{host}", problems=[UnknownDomain])
async def edit_domain(host: str, body: DomainEdit, caller: Caller, links: Links) -> DomainView:
    """Changes where a domain sends visits that lead to no link."""
    must_be_admin(caller)
    changes = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not msgspec.UNSET}
    return domain_view(await links.edit_domain(host, changes))


@routes.get("/yourls", scope="links:write")
async def yourls(caller: Caller, links: Links) -> YourlsSecret:
    """The `signature` for YOURLS clients of this account, which can sign moments with it too."""
    return YourlsSecret(await links.yourls_secret(caller))


@routes.get("/links/{id}/qr", produces="image/*", problems=[UnknownLink, Unavailable])
async def qr_code(id: int, query: qr.Design, caller: Caller, links: Links) -> Response:
    """The link's QR code, as a picture."""
    return await links.drawings.answer(links.domains.short_url(await links.get(id, caller)), query)


@routes.post("/links/{id}/qr", scope="links:read", produces="image/*", problems=[UnknownLink, Unavailable])
async def qr_code_with_logo(id: int, query: qr.Design, body: bytes, caller: Caller, links: Links) -> Response:
    """The same with the picture in the body (PNG, JPEG, WebP or GIF, at most 1 MiB) in its middle."""
    return await links.drawings.answer(links.domains.short_url(await links.get(id, caller)), query, body)


@routes.get("/links/{id}/visits", produces="text/csv", problems=[UnknownLink])
async def visits(id: int, caller: Caller, links: Links) -> Stream:
    """The single visits that are still kept, as CSV, newest first."""
    pieces = transfer.export_visits(links, await links.get(id, caller))
    return Stream(
        pieces, "text/csv; charset=utf-8", headers=[(b"content-disposition", b'attachment; filename="visits.csv"')]
    )


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
    """Clicks as they are counted: `{"clicks": 3, "links": {"<id>": 2}}`, and from which countries where that is known; of one
    link only, where `link` names it."""
    if query.link is None:
        must_be_admin(caller)
    else:
        await links.get(query.link, caller)
    async with open_channel(channel) as socket, links.counting.watch() as messages:
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


@routes.post("/reports", status=204, public=True, problems=[UnknownLink, Unauthenticated])
async def report(body: NewReport, request: Request, caller: Caller, links: Links) -> None:
    """Tells that a link is harmful. Anybody may, unless it is kept to accounts here."""
    if caller.anonymous and not links.settings.reports:
        raise Unauthenticated("Reporting a link needs a token here")
    host, _, code = body.short_url.partition("://")[2].partition("/")
    if host.lower() not in links.domains.hosts:
        raise UnknownLink
    link = await links.named(code, host)
    await links.report(link.id, body.reason, request.client[0])


async def _series(scope: str, query: StatsQuery, links: Links) -> Series:
    now_us = links.now_us()
    until_us = read_instant(query.until, "until", now_us + 1)
    since_us = read_instant(query.since, "since", max(0, until_us - 30 * 86_400_000_000))
    return await links.stats(scope, since_us, until_us, query.by)
