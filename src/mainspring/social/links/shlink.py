"""Shlink's REST API, version 3, as its own clients speak it: the same links, in its words.

Kinds of conditions that Shlink does not know are not shown to its clients. Tags and domains are the deployment's, as they
are there; links and visits are the account's, unless the key may see all.
"""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mainspring.core.accounts import Accounts, Caller
from mainspring.core.http import Answer, Request, Response, Router
from mainspring.core.http.binding import invalid
from mainspring.core.problems import Forbidden, Invalid, NotFound, Problem, Unauthenticated
from mainspring.social.links.domains import Domain
from mainspring.social.links.drafts import ADMIN, must_be_admin
from mainspring.social.links.listing import FAR_US, Filter, Order
from mainspring.social.links.model import AliasTaken, Link, LinkEdit, NewLink, UnknownDomain, UnknownLink, UnknownTag
from mainspring.social.links.rules import Condition, Kind, Rule, instant_us
from mainspring.social.links.service import Links, TagTaken
from mainspring.social.links.stats import Visit, VisitFilter

VERSION = "4.6.0"
"""The release of Shlink whose API this is."""
PAGE_ITEMS = 20
PAGE_ITEMS_MAX = 1_000

_TYPES = "https://shlink.io/api/error/"
_KINDS: dict[str, Kind] = {
    "device": "device",
    "language": "language",
    "query-param": "query",
    "any-value-query-param": "query-any-value",
    "valueless-query-param": "query-valueless",
    "ip-address": "ip",
    "geolocation-country-code": "country",
    "geolocation-city-name": "city",
    "before-date": "before",
    "after-date": "after",
    "browser": "browser",
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_ORDERS: dict[str, Order] = {
    "dateCreated": "created",
    "shortCode": "code",
    "longUrl": "target",
    "title": "title",
    "visits": "clicks",
    "nonBotVisits": "humans",
}


class MercureNotConfigured(Problem):
    status, type, title = 501, "links/mercure-not-configured", "Mercure integration not configured"


class MissingKey(Unauthenticated):
    type, title = "links/missing-api-key", "Invalid authorization"


class _Edit(msgspec.Struct, rename="camel"):
    long_url: str | UnsetType = UNSET
    title: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    crawlable: bool | UnsetType = UNSET
    forward_query: bool | UnsetType = UNSET
    valid_since: str | UnsetType | None = UNSET
    valid_until: str | UnsetType | None = UNSET
    max_visits: int | UnsetType | None = UNSET


class _New(_Edit, rename="camel"):
    custom_slug: str | None = None
    short_code_length: int | None = None
    domain: str | None = None
    find_if_exists: bool = False


class _Condition(msgspec.Struct, rename="camel"):
    type: str
    match_value: str | None = None
    match_key: str | None = None


class _Rule(msgspec.Struct, rename="camel"):
    long_url: str
    conditions: list[_Condition]
    priority: int = 0


class _Rules(msgspec.Struct, rename="camel"):
    redirect_rules: list[_Rule]


class _Renaming(msgspec.Struct, rename="camel"):
    old_name: str
    new_name: str


class _Redirects(msgspec.Struct, rename="camel"):
    domain: str
    base_url_redirect: str | UnsetType | None = UNSET
    regular404_redirect: str | UnsetType | None = UNSET
    invalid_short_url_redirect: str | UnsetType | None = UNSET


Handler = Callable[[Request, Caller], Awaitable[Any]]


class Shlink:
    """The dialect; `router` answers below `/rest`."""

    def __init__(self, links: Links, accounts: Accounts) -> None:
        self._links, self._accounts = links, accounts
        self.router = Router()
        self.router.add("GET", "/rest/health", self._health)
        for version in ("/rest/v3", "/rest/v2"):
            self.router.add("GET", f"{version}/health", self._health)
            self._routes(version)

    def _routes(self, at: str) -> None:
        one = f"{at}/short-urls/{{code}}"
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
        query = _query(request)
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
        order = _ORDERS.get(field or "dateCreated")
        if order is None:
            raise Invalid("Unknown order", pointer="/orderBy")
        offset, limit = query.page()
        found, total = await self._links.page(wanted, order, direction != "ASC", offset, limit, by)
        return {
            "shortUrls": {
                "data": await self._shown(*found),
                "pagination": _pagination(offset, limit, len(found), total),
            }
        }

    async def _create(self, request: Request, by: Caller) -> Any:
        wanted = await _body(request, _New)
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
        _checked(new, NewLink)
        return (await self._shown(await self._links.add(new, by, address=request.client[0])))[0]

    async def _get(self, request: Request, by: Caller) -> Any:
        return (await self._shown(await self._link(request, by)))[0]

    async def _edit(self, request: Request, by: Caller) -> Any:
        wanted = await _body(request, _Edit)
        fields = {("url" if name == "long_url" else name): getattr(wanted, name) for name in wanted.__struct_fields__}
        if fields["title"] is None:
            fields["title"] = ""
        edit = LinkEdit(**fields)
        _checked(edit, LinkEdit)
        link = await self._link(request, by)
        return (await self._shown(await self._links.edit(link.id, edit, by)))[0]

    async def _delete(self, request: Request, by: Caller) -> None:
        await self._links.delete((await self._link(request, by)).id, by)

    async def _rules(self, request: Request, by: Caller) -> Any:
        return _shown_rules(await self._link(request, by))

    async def _set_rules(self, request: Request, by: Caller) -> Any:
        wanted = await _body(request, _Rules)
        link = await self._link(request, by)
        edit = LinkEdit(rules=tuple(_rule(one) for one in wanted.redirect_rules))
        return _shown_rules(await self._links.edit(link.id, edit, by))

    # Visits

    async def _link_visits(self, request: Request, by: Caller) -> Any:
        return await self._visits(request, VisitFilter(link_id=(await self._link(request, by)).id))

    async def _forget_visits(self, request: Request, by: Caller) -> Any:
        return {"deletedVisits": await self._links.forget_visits(await self._link(request, by))}

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
        kind = _query(request).one("type")
        return await self._visits(request, msgspec.structs.replace(wanted, orphans=True, kind=kind))

    async def _forget_orphans(self, request: Request, by: Caller) -> Any:
        must_be_admin(by)
        return {"deletedVisits": await self._links.forget_visits(None)}

    async def _overview(self, request: Request, by: Caller) -> Any:
        scope = "all" if by.may(ADMIN) else f"owner:{by.account_id}"
        sums = await self._links.sums([scope, "orphan"])
        orphans = sums.get("orphan", (0, 0)) if by.may(ADMIN) else (0, 0)
        return {"visits": {"nonOrphanVisits": _summary(sums.get(scope)), "orphanVisits": _summary(orphans)}}

    def _of(self, request: Request, by: Caller, tag: str | None = None, domain: str = "") -> VisitFilter:
        owner = None if by.may(ADMIN) else by.account_id or 0
        domain_id = self._domain_id(domain or _query(request).one("domain"))
        return VisitFilter(tag=tag, domain_id=domain_id, owner=owner)

    async def _visits(self, request: Request, wanted: VisitFilter) -> Any:
        query = _query(request)
        offset, limit = query.page()
        wanted = msgspec.structs.replace(
            wanted,
            humans_only=query.one("excludeBots") == "true",
            since_us=query.instant("startDate", 0),
            until_us=query.instant("endDate", FAR_US - 1) + 1,
        )
        found, total = await self._links.visits(wanted, offset, limit)
        shown = [_shown_visit(one) for one in found]
        return {"visits": {"data": shown, "pagination": _pagination(offset, limit, len(found), total)}}

    # Tags and domains

    async def _tags(self, request: Request, by: Caller) -> Any:
        return {"tags": {"data": list(await self._links.tags(by))}}

    async def _tag_stats(self, request: Request, by: Caller) -> Any:
        tags = await self._links.tags(by)
        sums = await self._links.sums([f"tag:{tag}" for tag in tags])
        offset, limit = _query(request).page(default=max(1, len(tags)))
        shown = [
            {"tag": tag, "shortUrlsCount": count, "visitsSummary": _summary(sums.get(f"tag:{tag}"))}
            for tag, count in list(tags.items())[offset : offset + limit]
        ]
        return {"tags": {"data": shown, "pagination": _pagination(offset, limit, len(shown), len(tags))}}

    async def _rename_tag(self, request: Request, by: Caller) -> None:
        must_be_admin(by)
        wanted = await _body(request, _Renaming)
        await self._links.rename_tag(wanted.old_name, wanted.new_name)

    async def _delete_tags(self, request: Request, by: Caller) -> None:
        must_be_admin(by)
        for tag in _query(request).many("tags[]"):
            await self._links.delete_tag(tag)

    async def _domains(self, request: Request, by: Caller) -> Any:
        domains = self._links.domains
        shown = [
            {"domain": one.host, "isDefault": one.id == 0, "redirects": _shown_redirects(one)}
            for one in sorted(domains.hosts.values(), key=lambda one: one.id)
        ]
        return {"domains": {"data": shown, "defaultRedirects": _shown_redirects(domains.default)}}

    async def _set_redirects(self, request: Request, by: Caller) -> Any:
        must_be_admin(by)
        wanted = await _body(request, _Redirects)
        names = {
            "base_redirect": wanted.base_url_redirect,
            "not_found_redirect": wanted.regular404_redirect,
            "invalid_redirect": wanted.invalid_short_url_redirect,
        }
        changes = {name: value for name, value in names.items() if value is not UNSET}
        if wanted.domain.lower() not in self._links.domains.hosts:
            await self._links.domains.add(wanted.domain)
        return _shown_redirects(await self._links.edit_domain(wanted.domain, changes))

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
        code, host = request.path_values["code"], _query(request).one("domain")
        try:
            return await self._links.named(code, None if host in ("", "DEFAULT") else host, by)
        except (UnknownLink, UnknownDomain):
            where = f' for domain "{host}"' if host else ""
            more: dict[str, Any] = {"shortCode": code, **({"domain": host} if host else {})}
            raise UnknownLink(f'No URL found with short code "{code}"{where}', **more) from None

    async def _shown(self, *links: Link) -> list[dict[str, Any]]:
        sums = await self._links.sums([f"link:{link.id}" for link in links]) if links else {}
        return [self._shown_link(link, _summary(sums.get(f"link:{link.id}"))) for link in links]

    def _shown_link(self, link: Link, summary: dict[str, int]) -> dict[str, Any]:
        domains = self._links.domains
        return {
            "shortCode": link.code,
            "shortUrl": domains.short_url(link),
            "longUrl": link.target,
            "dateCreated": iso(link.created_us),
            "visitsSummary": summary,
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


def problem(error: Problem) -> Response:
    """A problem with Shlink's `type`, `title` and status."""
    known: tuple[str, str, int] | None = None
    more = dict(error.more)
    match error:
        case AliasTaken():
            known = "non-unique-slug", "Invalid custom slug", 400
        case UnknownLink():
            known = "short-url-not-found", "Short URL not found", 404
        case UnknownDomain():
            known = "domain-not-found", "Domain not found", 404
        case UnknownTag():
            known = "tag-not-found", "Tag not found", 404
        case TagTaken():
            known = "tag-conflict", "Tag conflict", 409
        case MissingKey():
            known = "missing-authentication", "Invalid authorization", 401
        case Unauthenticated():
            known = "invalid-api-key", "Invalid API key", 401
        case Forbidden():
            known = "forbidden-tag-operation", "Forbidden tag operation", 403
        case MercureNotConfigured():
            known = "mercure-not-configured", "Mercure integration not configured", 501
        case NotFound():
            known = "not-found", "Not found", 404
        case _ if error.status == 422:
            known = "invalid-data", "Invalid data", 400
            more = {"invalidElements": [_element(str(more.get("pointer", "")))]}
    type, title, status = known or (f"/problems/{error.type}", error.title, error.status)
    body = {"type": _TYPES + type if known else type, "title": title, "detail": error.detail, "status": status, **more}
    headers = [(name.encode(), value.encode()) for name, value in error.headers]
    return Response(status, msgspec.json.encode(body), "application/problem+json", headers)


def _element(pointer: str) -> str:
    """Shlink's name of the field at a JSON pointer."""
    name = pointer.strip("/").partition("/")[0]
    words = name.split("_")
    return {"url": "longUrl", "alias": "customSlug", "code_length": "shortCodeLength"}.get(
        name, words[0] + "".join(word.title() for word in words[1:])
    )


def iso(at_us: int | None) -> str | None:
    if at_us is None:
        return None
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).isoformat()


class _query:
    def __init__(self, request: Request) -> None:
        self._pairs = request.query_pairs

    def one(self, name: str) -> str:
        return next((value for key, value in reversed(self._pairs) if key == name), "")

    def many(self, name: str) -> tuple[str, ...]:
        """The values of `tags[]`, as one name or with numbers, as PHP reads them."""
        stem = name.rstrip("[]")
        return tuple(value for key, value in self._pairs if key.partition("[")[0] == stem)[:20]

    def instant(self, name: str, default: int) -> int:
        try:
            return instant_us(self.one(name)) if self.one(name) else default
        except (ValueError, OverflowError):
            raise Invalid("Not a date", pointer=f"/{name}") from None

    def page(self, default: int = PAGE_ITEMS) -> tuple[int, int]:
        """(offset, limit); `itemsPerPage=-1` means as many as there may be."""
        try:
            number = min(max(1, int(self.one("page") or 1)), 1_000_000)
            items = int(self.one("itemsPerPage") or default)
        except ValueError:
            raise Invalid("Not a number", pointer="/page") from None
        limit = PAGE_ITEMS_MAX if items < 0 else min(max(1, items), PAGE_ITEMS_MAX)
        return (number - 1) * limit, limit


async def _body(request: Request, kind: Any) -> Any:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error, "") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("Provided data is not JSON") from None


def _checked(value: Any, kind: Any) -> None:
    """Holds a value made by our own code to the limits of its type."""
    try:
        msgspec.convert(msgspec.to_builtins(value), kind)
    except msgspec.ValidationError as error:
        raise invalid(error, "") from None


def _rule(wanted: _Rule) -> Rule:
    conditions = []
    for one in wanted.conditions:
        if one.type not in _KINDS:
            raise Invalid(f"{one.type} is not a type of condition", pointer="/conditions")
        conditions.append(Condition(_KINDS[one.type], one.match_value, one.match_key))
    return Rule(tuple(conditions), wanted.long_url)


def _shown_rules(link: Link) -> dict[str, Any]:
    shown: list[dict[str, Any]] = []
    for rule in link.rules:
        if rule.target is None or any(one.kind not in _NAMES for one in rule.when):
            continue
        conditions = [{"type": _NAMES[one.kind], "matchKey": one.key, "matchValue": one.value} for one in rule.when]
        shown.append({"longUrl": rule.target, "priority": len(shown) + 1, "conditions": conditions})
    return {"defaultLongUrl": link.target, "redirectRules": shown}


def _shown_visit(one: Visit) -> dict[str, Any]:
    place = {
        "countryCode": one.country,
        "countryName": "",
        "regionName": "",
        "cityName": one.city,
        "latitude": None,
        "longitude": None,
        "timezone": "",
        "isEmpty": False,
    }
    shown = {
        "referer": one.referrer,
        "date": iso(one.at_us),
        "userAgent": one.user_agent,
        "visitLocation": place if one.country else None,
        "potentialBot": one.bot,
        "visitedUrl": one.url,
        "redirectUrl": one.target,
    }
    return shown if one.link_id is not None else {**shown, "type": one.kind}


def _shown_redirects(domain: Domain) -> dict[str, str | None]:
    return {
        "baseUrlRedirect": domain.base_redirect,
        "regular404Redirect": domain.not_found_redirect,
        "invalidShortUrlRedirect": domain.invalid_redirect,
    }


def _summary(sums: tuple[int, int] | None) -> dict[str, int]:
    n, bots = sums or (0, 0)
    return {"total": n, "nonBots": n - bots, "bots": bots}


def _pagination(offset: int, limit: int, here: int, total: int) -> dict[str, int]:
    return {
        "currentPage": offset // limit + 1,
        "pagesCount": math.ceil(total / limit),
        "itemsPerPage": limit,
        "itemsInCurrentPage": here,
        "totalItems": total,
    }
