"""Shlink's REST API, version 3, as its own clients speak it: the same links, in its words.

Kinds of conditions that Shlink does not know are not shown to its clients. Tags and domains are the deployment's, as they
are there; links and visits are the account's, unless the key may see all.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import UNSET

from mainspring.core.accounts import Accounts, Caller
from mainspring.core.http import Answer, Request, Response, Router
from mainspring.core.problems import Forbidden, Invalid
from mainspring.social.links.drafts import ADMIN, must_be_admin
from mainspring.social.links.listing import FAR_US, Filter
from mainspring.social.links.model import Link, LinkEdit, NewLink, UnknownDomain, UnknownLink, UnknownTag
from mainspring.social.links.service import Links
from mainspring.social.links.shlink_words import (
    ORDERS,
    DomainRedirects,
    MercureNotConfigured,
    MissingKey,
    Query,
    RedirectRules,
    ShortUrlEdit,
    ShortUrlNew,
    TagRenaming,
    body_of,
    check,
    iso,
    pagination,
    rule_of,
    shown_redirects,
    shown_rules,
    shown_visit,
    summary,
)
from mainspring.social.links.stats import VisitFilter

VERSION = "4.6.0"
"""The release of Shlink whose API this is."""

Handler = Callable[[Request, Caller], Awaitable[Any]]


class Shlink:
    """The dialect; `router` answers below `/rest`."""

    def __init__(self, links: Links, accounts: Accounts) -> None:
        self._links, self._accounts = links, accounts
        self.router = Router()
        self.router.add("GET", "/rest/health", self._health)
        self.router.add("GET", "/rest/v3/health", self._health)
        at, one = "/rest/v3", "/rest/v3/short-urls/{code}"
        for methods, path, handler in (
            ("GET", f"{at}/short-urls", self._list),
            ("POST", f"{at}/short-urls", self._create),
            ("GET", one, self._get),
            ("PATCH", one, self._edit),
            ("DELETE", one, self._delete),
            ("GET", f"{one}/redirect-rules", self._rules),
            ("POST", f"{one}/redirect-rules", self._set_rules),
            ("GET", f"{one}/visits", self._link_visits),
            ("DELETE", f"{one}/visits", self._forget_visits),
            ("GET", f"{at}/tags", self._tags),
            ("PUT", f"{at}/tags", self._rename_tag),
            ("DELETE", f"{at}/tags", self._delete_tags),
            ("GET", f"{at}/tags/stats", self._tag_stats),
            ("GET", f"{at}/tags/{{tag}}/visits", self._tag_visits),
            ("GET", f"{at}/domains", self._domains),
            ("PATCH", f"{at}/domains/redirects", self._set_redirects),
            ("GET", f"{at}/domains/{{domain}}/visits", self._domain_visits),
            ("GET", f"{at}/visits", self._overview),
            ("GET", f"{at}/visits/orphan", self._orphan_visits),
            ("DELETE", f"{at}/visits/orphan", self._forget_orphans),
            ("GET", f"{at}/visits/non-orphan", self._all_visits),
            ("GET", f"{at}/mercure-info", self._mercure),
        ):
            self.router.add(methods, path, self._with_caller(handler))

    def _with_caller(self, handler: Handler) -> Callable[[Request], Awaitable[Answer]]:
        async def answer(request: Request) -> Answer:
            if request.header("x-api-key") is None:
                raise MissingKey(
                    "Expected one of the following authentication headers, [X-Api-Key], but none were provided"
                )
            caller = await self._accounts.authenticate(request)
            scope = "links:read" if request.method in ("GET", "HEAD") else "links:write"
            if not caller.may(scope):
                raise Forbidden(f"This API key lacks the scope {scope}")
            value = await handler(request, caller)
            return Response(204) if value is None else Response.json(value)

        return answer

    # Links

    async def _list(self, request: Request, by: Caller) -> Any:
        query = Query(request)
        wanted = Filter(
            text=query.one("searchTerm"),
            tags=query.many("tags[]"),
            every_tag=query.one("tagsMode") == "all",
            without=query.many("excludeTags[]"),
            without_every=query.one("excludeTagsMode") == "all",
            domain_id=self._domain_id(query.one("domain")),
            since_us=query.instant("startDate", 0),
            until_us=query.instant("endDate", FAR_US - 1) + 1,
            unspent=query.one("excludeMaxVisitsReached") == "true",
            valid_at_us=self._links.now_us() if query.one("excludePastValidUntil") == "true" else None,
        )
        field, _, direction = query.one("orderBy").partition("-")
        order = ORDERS.get(field or "dateCreated")
        if order is None:
            raise Invalid("Unknown order", pointer="/orderBy")
        offset, limit = query.page()
        found, total = await self._links.page(wanted, order, direction != "ASC", offset, limit, by)
        return {
            "shortUrls": {
                "data": await self._shown(*found),
                "pagination": pagination(offset, limit, len(found), total),
            }
        }

    async def _create(self, request: Request, by: Caller) -> Any:
        wanted = await body_of(request, ShortUrlNew)
        if wanted.long_url is UNSET:
            raise Invalid("It is required", pointer="/longUrl")
        new = NewLink(
            url=wanted.long_url,
            alias=wanted.custom_slug,
            domain=None if wanted.domain in (None, "DEFAULT") else wanted.domain,
            title=wanted.title or "",
            tags=wanted.tags or (),
            valid_since=wanted.valid_since or None,
            valid_until=wanted.valid_until or None,
            max_visits=wanted.max_visits or None,
            crawlable=wanted.crawlable is True,
            forward_query=wanted.forward_query is not False,
            code_length=wanted.short_code_length,
            find_if_exists=wanted.find_if_exists,
        )
        check(new, NewLink)
        return (await self._shown(await self._links.add(new, by, address=request.client[0])))[0]

    async def _get(self, request: Request, by: Caller) -> Any:
        return (await self._shown(await self._link(request, by)))[0]

    async def _edit(self, request: Request, by: Caller) -> Any:
        wanted = await body_of(request, ShortUrlEdit)
        fields = {("url" if name == "long_url" else name): getattr(wanted, name) for name in wanted.__struct_fields__}
        if fields["title"] is None:
            fields["title"] = ""
        edit = LinkEdit(**fields)
        check(edit, LinkEdit)
        link = await self._link(request, by)
        return (await self._shown(await self._links.edit(link.id, edit, by)))[0]

    async def _delete(self, request: Request, by: Caller) -> None:
        await self._links.delete((await self._link(request, by)).id, by)

    async def _rules(self, request: Request, by: Caller) -> Any:
        return shown_rules(await self._link(request, by))

    async def _set_rules(self, request: Request, by: Caller) -> Any:
        wanted = await body_of(request, RedirectRules)
        link = await self._link(request, by)
        edit = LinkEdit(rules=tuple(rule_of(one) for one in wanted.redirect_rules))
        return shown_rules(await self._links.edit(link.id, edit, by))

    # Visits

    async def _link_visits(self, request: Request, by: Caller) -> Any:
        return await self._visits(request, VisitFilter(link_id=(await self._link(request, by)).id))

    async def _forget_visits(self, request: Request, by: Caller) -> Any:
        return {"deletedVisits": await self._links.counting.forget(await self._link(request, by))}

    async def _tag_visits(self, request: Request, by: Caller) -> Any:
        tag = request.path_values["tag"]
        if tag not in await self._links.tags(by):
            raise UnknownTag(f'Tag with name "{tag}" could not be found', tag=tag)
        return await self._visits(request, self._of(request, by, tag=tag))

    async def _domain_visits(self, request: Request, by: Caller) -> Any:
        return await self._visits(request, self._of(request, by, domain=request.path_values["domain"]))

    async def _all_visits(self, request: Request, by: Caller) -> Any:
        return await self._visits(request, self._of(request, by))

    async def _orphan_visits(self, request: Request, by: Caller) -> Any:
        must_be_admin(by)
        wanted = self._of(request, by)
        kind = Query(request).one("type")
        return await self._visits(request, msgspec.structs.replace(wanted, orphans=True, kind=kind))

    async def _forget_orphans(self, request: Request, by: Caller) -> Any:
        must_be_admin(by)
        domains = [one.id for one in self._links.domains.hosts.values()]
        return {"deletedVisits": await self._links.counting.forget_orphans(domains)}

    async def _overview(self, request: Request, by: Caller) -> Any:
        scope = "all" if by.may(ADMIN) else f"owner:{by.account_id}"
        sums = await self._links.counting.sums([scope, "orphan"])
        orphans = sums.get("orphan", (0, 0)) if by.may(ADMIN) else (0, 0)
        return {"visits": {"nonOrphanVisits": summary(sums.get(scope)), "orphanVisits": summary(orphans)}}

    def _of(self, request: Request, by: Caller, tag: str | None = None, domain: str = "") -> VisitFilter:
        owner = None if by.may(ADMIN) else by.account_id or 0
        domain_id = self._domain_id(domain or Query(request).one("domain"))
        return VisitFilter(tag=tag, domain_id=domain_id, owner=owner)

    async def _visits(self, request: Request, wanted: VisitFilter) -> Any:
        query = Query(request)
        offset, limit = query.page()
        wanted = msgspec.structs.replace(
            wanted,
            humans_only=query.one("excludeBots") == "true",
            since_us=query.instant("startDate", 0),
            until_us=query.instant("endDate", FAR_US - 1) + 1,
        )
        found, total = await self._links.counting.visits(wanted, offset, limit)
        shown = [shown_visit(one, self._links.domains.url(one.domain_id, one.path)) for one in found]
        return {"visits": {"data": shown, "pagination": pagination(offset, limit, len(found), total)}}

    # Tags and domains

    async def _tags(self, request: Request, by: Caller) -> Any:
        return {"tags": {"data": list(await self._links.tags(by))}}

    async def _tag_stats(self, request: Request, by: Caller) -> Any:
        tags = await self._links.tags(by)
        sums = await self._links.counting.sums([f"tag:{tag}" for tag in tags])
        offset, limit = Query(request).page(default=max(1, len(tags)))
        shown = [
            {"tag": tag, "shortUrlsCount": count, "visitsSummary": summary(sums.get(f"tag:{tag}"))}
            for tag, count in list(tags.items())[offset : offset + limit]
        ]
        return {"tags": {"data": shown, "pagination": pagination(offset, limit, len(shown), len(tags))}}

    async def _rename_tag(self, request: Request, by: Caller) -> None:
        must_be_admin(by)
        wanted = await body_of(request, TagRenaming)
        await self._links.rename_tag(wanted.old_name, wanted.new_name)

    async def _delete_tags(self, request: Request, by: Caller) -> None:
        must_be_admin(by)
        for tag in Query(request).many("tags[]"):
            await self._links.delete_tag(tag)

    async def _domains(self, request: Request, by: Caller) -> Any:
        domains = self._links.domains
        shown = [
            {"domain": one.host, "isDefault": one.id == 0, "redirects": shown_redirects(one)}
            for one in sorted(domains.hosts.values(), key=lambda one: one.id)
        ]
        return {"domains": {"data": shown, "defaultRedirects": shown_redirects(domains.default)}}

    async def _set_redirects(self, request: Request, by: Caller) -> Any:
        must_be_admin(by)
        wanted = await body_of(request, DomainRedirects)
        names = {
            "base_redirect": wanted.base_url_redirect,
            "not_found_redirect": wanted.regular404_redirect,
            "invalid_redirect": wanted.invalid_short_url_redirect,
        }
        changes = {name: value for name, value in names.items() if value is not UNSET}
        if wanted.domain.lower() not in self._links.domains.hosts:
            await self._links.domains.add(wanted.domain)
        return shown_redirects(await self._links.edit_domain(wanted.domain, changes))

    async def _health(self, request: Request) -> Response:
        about = "https://shlink.io"
        project = "https://github.com/shlinkio/shlink"
        return Response.json({"status": "pass", "version": VERSION, "links": {"about": about, "project": project}})

    async def _mercure(self, request: Request, by: Caller) -> Any:
        raise MercureNotConfigured("This Shlink instance is not integrated with a mercure hub.")

    # What all of them need

    def _domain_id(self, host: str) -> int | None:
        if not host:
            return None
        return self._links.domains.named(None if host == "DEFAULT" else host).id

    async def _link(self, request: Request, by: Caller) -> Link:
        code, host = request.path_values["code"], Query(request).one("domain")
        try:
            return await self._links.named(code, None if host in ("", "DEFAULT") else host, by)
        except (UnknownLink, UnknownDomain):
            where = f' for domain "{host}"' if host else ""
            more: dict[str, Any] = {"shortCode": code, **({"domain": host} if host else {})}
            raise UnknownLink(f'No URL found with short code "{code}"{where}', **more) from None

    async def _shown(self, *links: Link) -> list[dict[str, Any]]:
        sums = await self._links.counting.of(links)
        return [self._shown_link(link, summary(one)) for link, one in zip(links, sums, strict=True)]

    def _shown_link(self, link: Link, visits: dict[str, int]) -> dict[str, Any]:
        domains = self._links.domains
        return {
            "shortCode": link.code,
            "shortUrl": domains.short_url(link),
            "longUrl": link.target,
            "dateCreated": iso(link.created_us),
            "visitsSummary": visits,
            "tags": link.tags,
            "meta": {
                "validSince": iso(link.valid_since_us),
                "validUntil": iso(link.valid_until_us),
                "maxVisits": link.max_visits,
            },
            "domain": None if link.domain_id == 0 else domains.of(link).host,
            "title": link.title or None,
            "crawlable": link.crawlable,
            "forwardQuery": link.forward_query,
            "hasRedirectRules": bool(link.rules),
        }
