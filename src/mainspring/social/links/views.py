"""What the JSON API of links shows and takes: its shapes, and how a link becomes one of them."""

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from mainspring.core.http.conditional import etag_of
from mainspring.core.http.pages import PageQuery
from mainspring.core.problems import Invalid
from mainspring.social.links import rules as redirect_rules
from mainspring.social.links.domains import Domain
from mainspring.social.links.model import BULK_MAX, STATE_NAMES, Card, Link, NewLink, Tag
from mainspring.social.links.rules import Rule, Trial, Visitor
from mainspring.social.links.service import Links
from mainspring.social.links.stats import By
from mainspring.social.links.store import Edit


class LinkView(msgspec.Struct):
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


async def link_views(links: Links, *found: Link) -> list[LinkView]:
    sums = await links.counting.of(found)
    return [link_view(link, links, *one) for link, one in zip(found, sums, strict=True)]


def link_view(link: Link, links: Links, clicks: int, bots: int) -> LinkView:
    # By place, as in `Drafts.link`.
    return LinkView(
        str(link.id),
        links.domains.short_url(link),
        links.domains.of(link).host,
        link.code,
        link.target,
        STATE_NAMES[link.state],
        link.title,
        link.notes,
        link.folder,
        link.tags,
        link.redirect,
        rfc3339(link.valid_since_us),
        rfc3339(link.valid_until_us),
        link.max_visits,
        link.visits_left,
        link.password is not None,
        link.forward_query,
        link.crawlable,
        link.archived,
        link.rules,
        link.card,
        None if link.owner is None else str(link.owner),
        redirect_rules.instant_text(link.created_us),
        link.version,
        clicks,
        bots,
    )


def rfc3339(at_us: int | None) -> str | None:
    return None if at_us is None else redirect_rules.instant_text(at_us)


def link_etag(link: Link) -> bytes:
    return etag_of(b"%d.%d" % (link.id, link.version))


def edit_view(one: Edit) -> EditView:
    before = {("url" if name == "target" else name.removesuffix("_us")): value for name, value in one.before.items()}
    for name in ("valid_since", "valid_until"):
        if isinstance(before.get(name), int):
            before[name] = rfc3339(before[name])
    return EditView(one.version, rfc3339(one.at_us) or "", one.actor, before)


def domain_view(domain: Domain) -> DomainView:
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


def read_instant(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    try:
        return redirect_rules.instant_us(text)
    except (ValueError, OverflowError):
        raise Invalid("Write an instant as RFC 3339 does", pointer=f"/query/{name}") from None


def read_visitor(text: str, links: Links) -> Visitor:
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
