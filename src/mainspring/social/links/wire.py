"""The listener of links: ready redirects at once, everything else told apart by path and header.

Strangers may follow links here; whatever creates or changes something asks its own dialect's credentials.
"""

from mainspring.core.accounts import Accounts
from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.http import Response, asgi
from mainspring.core.http.manners import Manners
from mainspring.core.http.request import Application, Receive, Scope, Send
from mainspring.core.problems import Problem
from mainspring.social.links import pages, shlink
from mainspring.social.links.redirects import Redirects
from mainspring.social.links.service import Links
from mainspring.social.links.shlink import Shlink
from mainspring.social.links.yourls import Yourls
from mainspring.wire.http1 import Http1Server


def application(links: Links, accounts: Accounts, config: Config, clock: Clock) -> Http1Server:
    """What listens on port 8410."""
    redirects = Redirects(links, tuple(config.trusted_proxies))
    dialects = Dialects(redirects, Shlink(links, accounts), Yourls(links, accounts))
    return Http1Server(redirects.quick, Manners(dialects, loopback=False, clock=clock))


class Dialects:
    """An ASGI application that is several: whose words a request speaks decides who answers, and how errors look."""

    def __init__(self, redirects: Redirects, rest: Shlink, yourls: Yourls) -> None:
        self._visits = asgi(redirects.handle, problem=_page)
        self._shlink = rest.router.application(problem=shlink.problem)
        self._yourls = asgi(yourls.handle)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._whose(scope)(scope, receive, send)

    def _whose(self, scope: Scope) -> Application:
        path: str = scope["path"]
        if path.startswith("/rest/"):
            return self._shlink
        if path == "/yourls-api.php":
            return self._yourls
        return self._visits


def _page(problem: Problem) -> Response:
    """A visitor's error is a page."""
    headers = tuple((name.encode(), value.encode()) for name, value in problem.headers)
    return pages.page(problem.status, problem.title, pages.text(problem.detail), headers=(pages.NO_STORE, *headers))
