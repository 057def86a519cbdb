"""Visits over HTTP: the redirect itself, and the pages beside it.

`ready` answers what is ready in memory from the bytes of the request; everything else goes through `handle`. Neither waits
for the click to be counted.
"""

import re
from email.utils import formatdate

import msgspec

from mainspring.core.http import Request, Response
from mainspring.core.problems import Invalid, TooMany
from mainspring.social.links import pages, qr
from mainspring.social.links.domains import Domain
from mainspring.social.links.model import Gone, Link, NeedsConsent, NeedsPassword, Redirect, State, Unknown, visit
from mainspring.social.links.rules import Visitor
from mainspring.social.links.service import Links
from mainspring.social.links.targets import encoded, host_of, with_query
from mainspring.social.links.visitors import languages, limit_key

CODE_LETTERS_MAX = 64
GUARDED_MAX = 65_536
ROBOTS_S = 300
_HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n \t]*)", re.IGNORECASE)
_QR_NAMES = {"errorCorrection": "correction", "bgColor": "background", "roundBlockSize": "rounded"}
"""How Shlink calls parts of a design."""


class Redirects:
    """The visits of `links`."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._cached = links.resolver.cached
        self._domains = links.domains
        self._note = links.clicks.note
        self._wall_ns = links.clock.wall_ns
        self._cache_s = links.settings.cache_s
        self._tail = b""
        self._second = 0
        self._guard = Guard(links.settings.unknown_per_minute)

    def ready(self, head: bytes, client: str) -> bytes | None:
        """The answer to a visit of a plain link that is in memory, else None."""
        start = head.find(b"/") + 1
        code = head[start : head.find(b" ", start)]
        domain_id = 0 if self._domains.only_default else self._domain_of(head)
        location = self._cached(code if not domain_id else b"%d/%b" % (domain_id, code))
        if type(location) is not bytes:
            return None
        at_us = self._wall_ns() // 1000
        if at_us // 1_000_000 != self._second:
            self._tail = self._new_tail(at_us // 1_000_000)
        if head[0] == 71:  # a GET; a HEAD only asks
            self._note(at_us, domain_id, code.decode(), "click", "", client, head)
        return b"HTTP/1.1 302 Found\r\nlocation: " + location + self._tail

    def _domain_of(self, head: bytes) -> int:
        host = _HOST.search(head)
        return self._domains.serving("" if host is None else host[1].decode("latin-1")).id

    def _new_tail(self, second: int) -> bytes:
        self._second = second
        kept = b"private, max-age=%d" % self._cache_s if self._cache_s else b"no-store"
        return b"\r\ncache-control: %b\r\ndate: %b\r\ncontent-length: 0\r\n\r\n" % (kept, http_date(second))

    async def handle(self, request: Request) -> Response:
        """Answers `/`, `/{code}`, `/{code}+` and `/robots.txt`."""
        domain = self._links.domains.serving(request.header("host") or "")
        code = request.path[1:]
        if code == "robots.txt":
            return await self._robots(domain)
        if not code:
            return self._elsewhere(request, domain, "base_url", domain.base_redirect)
        if len(code) > CODE_LETTERS_MAX + len("/qr-code"):
            return self._elsewhere(request, domain, "regular_404", domain.not_found_redirect)
        if domain.folds_case:
            code = code.lower()
        if code.endswith("+"):
            return await self._preview(request, domain, code[:-1])
        if code.endswith("/qr-code"):
            return await self._qr(request, domain, code.removesuffix("/qr-code"))
        return await self._visit(request, domain, code)

    async def _visit(self, request: Request, domain: Domain, code: str) -> Response:
        links = self._links
        found = await links.resolver.find(domain.id, code)
        if found is None:
            if code.count("/") >= links.settings.alias_segments_max:
                return self._elsewhere(request, domain, "regular_404", domain.not_found_redirect)
            return self._elsewhere(request, domain, "invalid_short_url", domain.invalid_redirect)
        query = encoded(request.query_string.decode("latin-1"))
        kind = "click"
        if query == "qr=1" or query.startswith("qr=1&"):
            query, kind = query[5:], "qr"
        if isinstance(found, bytes):
            self._count(request, domain, code, kind, "")
            return self._redirect(Redirect(with_query(found.decode(), query), 302, self._cache_s))
        visitor = await self._visitor(request)
        asked = found.password is not None or found.state is State.suspect
        allowed = asked and request.method == "POST" and await self._allowed(request, found)
        outcome = visit(found, visitor, query, cache_s=self._cache_s, allowed=allowed)
        if isinstance(outcome, Redirect) and found.visits_left is not None and request.method != "HEAD":
            spent = await links.spend_visit(found)
            # As it is now, with the visit that was just taken from it.
            again = None if spent is None else msgspec.structs.replace(spent, visits_left=1)
            outcome = Gone() if again is None else visit(again, visitor, query, allowed=allowed)
        match outcome:
            case Redirect():
                self._count(request, domain, code, kind, "" if outcome.rule is None else outcome.location)
                if found.card is not None and links.counting.visitors.agent(request.header("user-agent") or "").bot:
                    return pages.card(found.card, outcome.location)
                if outcome.app is not None:
                    return pages.app(outcome.app, outcome.location)
                if allowed:
                    outcome = msgspec.structs.replace(outcome, status=303, cache_s=0)
                return self._redirect(outcome)
            case NeedsPassword():
                return pages.password(wrong=request.method == "POST")
            case NeedsConsent():
                return pages.consent(outcome.location)
            case Gone(expired=True) if domain.expired_redirect:
                return self._redirect(Redirect(domain.expired_redirect))
            case Gone():
                return pages.gone(outcome.status)
            case Unknown():
                return self._elsewhere(request, domain, "invalid_short_url", domain.invalid_redirect)

    async def _allowed(self, request: Request, link: Link) -> bool:
        form = await request.form(4_096)
        password = form.get("password")
        if link.password is None:
            return form.get("consent") == "1"
        return password is not None and await self._links.check_password(link, password, self.address(request))

    async def _preview(self, request: Request, domain: Domain, code: str) -> Response:
        links = self._links
        link = await links.find_by_code(domain.id, code) if await links.resolver.find(domain.id, code) else None
        if link is None:
            return self._elsewhere(request, domain, "invalid_short_url", domain.invalid_redirect)
        outcome = visit(link, Visitor(at_us=links.now_us()), allowed=True)
        if isinstance(outcome, Gone):
            return pages.gone(outcome.status)
        return pages.preview(link, links.domains.short_url(link))

    async def _qr(self, request: Request, domain: Domain, code: str) -> Response:
        if await self._links.resolver.find(domain.id, code) is None:
            return self._elsewhere(request, domain, "invalid_short_url", domain.invalid_redirect)
        asked = {_QR_NAMES.get(name, name): value for name, value in request.query.items()}
        asked["rounded"] = "true" if asked.get("rounded", "false").lower() in ("true", "1") else "false"
        try:
            design = msgspec.convert(asked, qr.Design, strict=False)
        except msgspec.ValidationError as error:
            raise Invalid(str(error)) from None
        return await self._links.drawings.answer(self._links.domains.url(domain.id, code), design)

    async def _robots(self, domain: Domain) -> Response:
        async def look() -> bytes:
            codes = await self._links.crawlable(domain)
            allowed = "".join(f"Allow: /{code}\n" for code in codes)
            return f"User-agent: *\n{allowed}Disallow: /\n".encode()

        # Anybody may ask, and to find it out the whole table may have to be looked through.
        text = await self._links.flight.get(f"links.robots:{domain.id}", look, ROBOTS_S, ROBOTS_S)
        return Response(200, text, "text/plain; charset=utf-8", [(b"cache-control", b"max-age=%d" % ROBOTS_S)])

    def _elsewhere(self, request: Request, domain: Domain, kind: str, redirect: str | None) -> Response:
        """The answer where there is no link. Who asks for too many unknown codes is told to stop, without any look-up."""
        if kind != "base_url" and not self._guard.admits(self.address(request), self._links.now_us()):
            raise TooMany("Too many unknown codes", headers=(("retry-after", "60"),))
        self._count(request, domain, request.path[1:][:200], kind, "")
        return self._redirect(Redirect(redirect)) if redirect else pages.unknown()

    def _count(self, request: Request, domain: Domain, code: str, kind: str, target: str) -> None:
        if request.method != "HEAD":
            head = b"".join(b"\r\n%b: %b" % header for header in request.scope["headers"])
            self._note(self._links.now_us(), domain.id, code, kind, target, request.client[0], head)

    def address(self, request: Request) -> str:
        """The visitor's, also behind a trusted proxy."""
        return self._links.proxies.client(request.client[0], request.header("x-forwarded-for") or "")

    async def _visitor(self, request: Request) -> Visitor:
        counting = self._links.counting
        await counting.prepare()
        user_agent, address = request.header("user-agent") or "", self.address(request)
        agent, place = counting.visitors.agent(user_agent), counting.visitors.place(address)
        return Visitor(
            device=agent.device,
            os=agent.os,
            browser=agent.browser,
            languages=languages(request.header("accept-language") or ""),
            query=tuple(request.query_pairs),
            country=place.country,
            city=place.city,
            address=address,
            referrer=host_of(request.header("referer") or ""),
            at_us=self._links.now_us(),
            key=counting.pseudonym(address, user_agent),
        )

    def _redirect(self, outcome: Redirect) -> Response:
        kept = b"private, max-age=%d" % outcome.cache_s if outcome.cache_s > 0 else b"no-store"
        return Response.redirect(outcome.location, outcome.status, [(b"cache-control", kept)])


class Guard:
    """How many unknown codes an address asked for in this minute; bounded, and forgotten each minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._minute = 0
        self._seen: dict[str, int] = {}

    def admits(self, address: str, now_us: int) -> bool:
        if now_us // 60_000_000 != self._minute or len(self._seen) >= GUARDED_MAX:
            self._minute = now_us // 60_000_000
            self._seen.clear()
        key = limit_key(address)
        self._seen[key] = seen = self._seen.get(key, 0) + 1
        return seen < self._per_minute


def http_date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
