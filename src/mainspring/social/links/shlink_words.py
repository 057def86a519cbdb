"""Shlink's words: the shapes of its bodies, answers and errors, and how ours become them."""

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mainspring.core.http import Request, Response
from mainspring.core.http.binding import invalid
from mainspring.core.problems import Forbidden, Invalid, NotFound, Problem, Unauthenticated
from mainspring.social.links.domains import Domain
from mainspring.social.links.listing import Order
from mainspring.social.links.model import AliasTaken, Link, UnknownDomain, UnknownLink, UnknownTag
from mainspring.social.links.rules import Condition, Kind, Rule, instant_us
from mainspring.social.links.service import TagTaken
from mainspring.social.links.stats import Visit

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
ORDERS: dict[str, Order] = {
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


class ShortUrlEdit(msgspec.Struct, rename="camel"):
    long_url: str | UnsetType = UNSET
    title: str | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    crawlable: bool | UnsetType = UNSET
    forward_query: bool | UnsetType = UNSET
    valid_since: str | UnsetType | None = UNSET
    valid_until: str | UnsetType | None = UNSET
    max_visits: int | UnsetType | None = UNSET


class ShortUrlNew(ShortUrlEdit, rename="camel"):
    custom_slug: str | None = None
    short_code_length: int | None = None
    domain: str | None = None
    find_if_exists: bool = False


class RuleCondition(msgspec.Struct, rename="camel"):
    type: str
    match_value: str | None = None
    match_key: str | None = None


class RedirectRule(msgspec.Struct, rename="camel"):
    long_url: str
    conditions: list[RuleCondition]
    priority: int = 0


class RedirectRules(msgspec.Struct, rename="camel"):
    redirect_rules: list[RedirectRule]


class TagRenaming(msgspec.Struct, rename="camel"):
    old_name: str
    new_name: str


class DomainRedirects(msgspec.Struct, rename="camel"):
    domain: str
    base_url_redirect: str | UnsetType | None = UNSET
    regular404_redirect: str | UnsetType | None = UNSET
    invalid_short_url_redirect: str | UnsetType | None = UNSET


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


class Query:
    """A request's query as PHP reads one; what cannot be read raises `Invalid`."""

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


async def body_of(request: Request, kind: Any) -> Any:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error, "") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("Provided data is not JSON") from None


def check(value: Any, kind: Any) -> None:
    """Holds a value made by our own code to the limits of its type."""
    try:
        msgspec.convert(msgspec.to_builtins(value), kind)
    except msgspec.ValidationError as error:
        raise invalid(error, "") from None


def rule_of(wanted: RedirectRule) -> Rule:
    conditions = []
    for one in wanted.conditions:
        if one.type not in _KINDS:
            raise Invalid(f"{one.type} is not a type of condition", pointer="/conditions")
        conditions.append(Condition(_KINDS[one.type], one.match_value, one.match_key))
    return Rule(tuple(conditions), wanted.long_url)


def shown_rules(link: Link) -> dict[str, Any]:
    shown: list[dict[str, Any]] = []
    for rule in link.rules:
        if rule.target is None or any(one.kind not in _NAMES for one in rule.when):
            continue
        conditions = [{"type": _NAMES[one.kind], "matchKey": one.key, "matchValue": one.value} for one in rule.when]
        shown.append({"longUrl": rule.target, "priority": len(shown) + 1, "conditions": conditions})
    return {"defaultLongUrl": link.target, "redirectRules": shown}


def shown_visit(one: Visit, url: str) -> dict[str, Any]:
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
        "visitedUrl": url,
        "redirectUrl": one.target,
    }
    return shown if one.link_id is not None else {**shown, "type": one.kind}


def shown_redirects(domain: Domain) -> dict[str, str | None]:
    return {
        "baseUrlRedirect": domain.base_redirect,
        "regular404Redirect": domain.not_found_redirect,
        "invalidShortUrlRedirect": domain.invalid_redirect,
    }


def summary(sums: tuple[int, int] | None) -> dict[str, int]:
    n, bots = sums or (0, 0)
    return {"total": n, "nonBots": n - bots, "bots": bots}


def pagination(offset: int, limit: int, here: int, total: int) -> dict[str, int]:
    return {
        "currentPage": offset // limit + 1,
        "pagesCount": math.ceil(total / limit),
        "itemsPerPage": limit,
        "itemsInCurrentPage": here,
        "totalItems": total,
    }
