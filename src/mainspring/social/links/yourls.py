"""YOURLS' API, `/yourls-api.php`, as its clients and countless scripts speak it.

Credentials are a signature, a signature of a moment, or a name and password. A signature is an API token, or the secret
that `GET /api/links/yourls` gives an account: only that one can sign moments, because no token is kept in clear.
"""

import hashlib
import random
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from mainspring.core.accounts import ANONYMOUS, Accounts, Caller
from mainspring.core.accounts.model import CredentialsInvalid
from mainspring.core.http import Request, Response
from mainspring.core.problems import Problem, Unauthenticated
from mainspring.social.links.drafts import ADMIN
from mainspring.social.links.listing import Filter, Order
from mainspring.social.links.model import AliasTaken, InvalidAlias, Link, NewLink, UnknownDomain, UnknownLink
from mainspring.social.links.service import Links
from mainspring.social.links.targets import WouldLoop

VERSION = "1.9.2"
SIGNED_S_MAX = 43_200
"""How old a signed moment may be: YOURLS' own default."""
STATS_LINKS_MAX = 100

_CALLBACK = re.compile(r"[A-Za-z_$][\w$.]{0,100}")
_HASHES = ("md5", "sha1", "sha256", "sha512")
_FILTERS: dict[str, tuple[Order, bool]] = {
    "top": ("clicks", True),
    "bottom": ("clicks", False),
    "last": ("created", True),
    "rand": ("created", True),
}


class Yourls:
    """The dialect; `handle` answers one request."""

    def __init__(self, links: Links, accounts: Accounts) -> None:
        self._links, self._accounts = links, accounts
        self._actions = {
            "shorturl": self._shorten,
            "expand": self._expand,
            "url-stats": self._url_stats,
            "stats": self._stats,
            "db-stats": self._db_stats,
            "version": self._version,
        }

    async def handle(self, request: Request) -> Response:
        asked = request.query
        if request.method == "POST":
            asked |= dict((await request.form(64 << 10)).fields)
        try:
            by = await self._caller(request, asked)
            action = self._actions.get(asked.get("action", ""))
            if action is None:
                answer = {"errorCode": 400, "message": 'Unknown or missing "action" parameter'}
            else:
                _must_be_allowed(by, asked["action"])
                answer = await action(asked, by, request)
        except Unauthenticated:
            answer = {"errorCode": 403, "message": "Please log in"}
        except (UnknownLink, UnknownDomain):
            keyword = self._place(asked.get("shorturl", ""))[0]
            answer = {
                "keyword": keyword,
                "errorCode": 404,
                "message": "Error: short URL not found",
                "simple": "not found",
            }
        except Problem as problem:
            answer = _failure(problem)
        return _written(answer, asked)

    async def _shorten(self, asked: Mapping[str, str], by: Caller, request: Request) -> dict[str, Any]:
        url, keyword = asked.get("url", "").strip(), asked.get("keyword", "").strip()
        if not url:
            return {"status": "fail", "code": "error:nourl", "message": "Missing or malformed URL", "errorCode": 400}
        new = NewLink(url=url, alias=keyword or None, title=asked.get("title", "")[:300], find_if_exists=not keyword)
        try:
            link, is_new = await self._links.add_or_find(new, by, address=self._address(request))
        except (AliasTaken, InvalidAlias):
            message = f"Short URL {keyword} already exists in database or is reserved"
            return {"status": "fail", "code": "error:keyword", "message": message, "statusCode": 200}
        except WouldLoop:
            return {"status": "fail", "code": "error:noloop", "message": "URL is a short URL", "errorCode": 400}
        short_url = self._links.domains.short_url(link)
        known = {
            "keyword": link.code,
            "url": link.target,
            "title": link.title,
            "date": _date(link.created_us),
            "ip": "",
        }
        answer = {"url": known, "title": link.title, "shorturl": short_url, "statusCode": 200, "simple": short_url}
        if is_new:
            return {**answer, "status": "success", "message": f"{link.target} added to database"}
        known["clicks"] = str((await self._clicks(link))[link.id])
        exists = f"{link.target} already exists in database"
        return {**answer, "status": "fail", "code": "error:url", "message": exists}

    async def _expand(self, asked: Mapping[str, str], by: Caller, request: Request) -> dict[str, Any]:
        link = await self._link(asked, by)
        short_url, done = self._links.domains.short_url(link), {"message": "success", "statusCode": 200}
        known = {"keyword": link.code, "shorturl": short_url, "longurl": link.target, "title": link.title}
        return {**known, "simple": link.target, **done}

    async def _url_stats(self, asked: Mapping[str, str], by: Caller, request: Request) -> dict[str, Any]:
        link = await self._link(asked, by)
        shown = self._shown(link, (await self._clicks(link))[link.id])
        return {
            "statusCode": 200,
            "message": "success",
            "link": shown,
            "simple": "Need either XML or JSON format for stats",
        }

    async def _stats(self, asked: Mapping[str, str], by: Caller, request: Request) -> dict[str, Any]:
        kind = asked.get("filter", "top")
        order, down = _FILTERS.get(kind, _FILTERS["top"])
        limit = min(max(0, _number(asked.get("limit", ""), 10)), STATS_LINKS_MAX)
        start = max(0, _number(asked.get("start", ""), 0))
        if kind == "rand":
            total = (await self._links.page(Filter(), order, down, 0, 1, by))[1]
            start = random.randrange(max(1, total - limit + 1))
        found = (await self._links.page(Filter(), order, down, start, limit, by))[0] if limit else []
        clicks = await self._clicks(*found)
        shown = {f"link_{at}": self._shown(link, clicks[link.id]) for at, link in enumerate(found, 1)}
        return {"links": shown, **await self._db_stats(asked, by, request, "stats")}

    async def _db_stats(
        self, asked: Mapping[str, str], by: Caller, request: Request, name: str = "db-stats"
    ) -> dict[str, Any]:
        scope = "all" if by.may(ADMIN) else f"owner:{by.account_id}"
        clicks = (await self._links.counting.sums([scope])).get(scope, (0, 0))[0]
        total = (await self._links.page(Filter(), "created", True, 0, 1, by))[1]
        counts = {"total_links": str(total), "total_clicks": str(clicks)}
        done = {"statusCode": 200, "message": "success", "simple": "Need either XML or JSON format for stats"}
        return {name: counts, **done}

    async def _version(self, asked: Mapping[str, str], by: Caller, request: Request) -> dict[str, Any]:
        return {"version": VERSION, "simple": VERSION}

    async def _caller(self, request: Request, asked: Mapping[str, str]) -> Caller:
        if "signature" in asked and "timestamp" in asked:
            return await self._signed(asked)
        if "signature" in asked:
            authorization = f"Bearer {asked['signature']}"
        elif "username" in asked:
            from base64 import b64encode

            pair = f"{asked['username']}:{asked.get('password', '')}"
            authorization = "Basic " + b64encode(pair.encode()).decode()
        elif self._links.settings.anonymous and asked.get("action") == "shorturl":
            return ANONYMOUS
        else:
            raise Unauthenticated
        scope = {**request.scope, "headers": [(b"authorization", authorization.encode())]}
        scope.pop("mainspring.headers", None)
        named = Request(scope, request.receive)
        try:
            return await self._accounts.authenticate(named)
        except CredentialsInvalid:
            found = await self._links.yourls_account(asked.get("signature", ""))
            if found is None:
                raise
            return found

    def _address(self, request: Request) -> str:
        """The visitor's, also behind a trusted proxy."""
        return self._links.proxies.client(request.client[0], request.header("x-forwarded-for") or "")

    async def _signed(self, asked: Mapping[str, str]) -> Caller:
        """The account whose secret signed this moment, as `hash(timestamp + secret)` or the other way round."""
        kind, moment = asked.get("hash", "md5"), asked["timestamp"]
        now_s = self._links.now_us() // 1_000_000
        if kind not in _HASHES or not abs(now_s - _number(moment, 0)) < SIGNED_S_MAX:
            raise Unauthenticated
        for secret, caller in await self._links.yourls_secrets():
            for text in (moment + secret, secret + moment):
                if compare_digest(hashlib.new(kind, text.encode()).hexdigest(), asked["signature"].lower()):
                    return caller
        raise Unauthenticated

    def _place(self, short_url: str) -> tuple[str, str | None]:
        """The code and host of a short URL, or of a bare code on the default domain."""
        if "://" not in short_url:
            return short_url, None
        host, _, code = short_url.partition("://")[2].partition("/")
        return code, host

    async def _link(self, asked: Mapping[str, str], by: Caller) -> Link:
        code, host = self._place(asked.get("shorturl", ""))
        return await self._links.named(code, host, by)

    async def _clicks(self, *found: Link) -> dict[int, int]:
        return {link.id: n for link, (n, _) in zip(found, await self._links.counting.of(found), strict=True)}

    def _shown(self, link: Link, clicks: int) -> dict[str, str]:
        short_url, at = self._links.domains.short_url(link), _date(link.created_us)
        shown = {"shorturl": short_url, "url": link.target, "title": link.title, "timestamp": at, "ip": ""}
        return {**shown, "clicks": str(clicks)}


def _must_be_allowed(by: Caller, action: str) -> None:
    """Reading takes the scope that it takes everywhere; whether `by` may shorten is asked where links are made."""
    if action not in ("shorturl", "version") and not by.may("links:read"):
        raise Unauthenticated


def _failure(problem: Problem) -> dict[str, Any]:
    code = {422: "error:nourl", 429: "error:ratelimit"}.get(problem.status, "error:db")
    status = 400 if problem.status == 422 else problem.status
    return {"status": "fail", "code": code, "message": problem.detail, "errorCode": status}


def _written(answer: dict[str, Any], asked: Mapping[str, str]) -> Response:
    simple = answer.pop("simple", "")
    status = int(answer.get("errorCode") or answer.get("statusCode") or 200)
    headers = [(b"cache-control", b"no-store")]
    match asked.get("format", "xml"):
        case "json":
            return Response(status, msgspec.json.encode(answer), "application/json", headers)
        case "jsonp" if _CALLBACK.fullmatch(asked.get("callback", "callback")):
            # The comment keeps the answer from being taken for something else that begins with the callback's name.
            text = b"/**/%b(%b)" % (asked.get("callback", "callback").encode(), msgspec.json.encode(answer))
            return Response(status, text, "application/javascript", headers)
        case "xml":
            text = f'<?xml version="1.0" encoding="UTF-8"?>\n<result>{_xml(answer)}</result>'.encode()
            return Response(status, text, "application/xml", headers)
        case _:
            return Response(status, simple.encode(), "text/plain; charset=utf-8", headers)


def _xml(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"<{name}>{_xml(one)}</{name}>" for name, one in value.items())
    return escape("".join(letter for letter in str(value) if letter.isprintable()))


def _date(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 15 else default
