"""The listener of links: ready redirects at once, everything else told apart by path and header.

Strangers may follow links here; whatever creates or changes something asks its own dialect's credentials.
"""

from mainspring.core.accounts import Accounts
from mainspring.core.clock import Clock
from mainspring.core.http import Response, asgi
from mainspring.core.http.manners import Manners
from mainspring.core.http.request import Application, Receive, Scope, Send
from mainspring.core.problems import Problem
from mainspring.core.serve.http1 import Http1Server
from mainspring.social.links import pages, paste_pages, privatebin, shlink_words
from mainspring.social.links.paste_pages import PastePages
from mainspring.social.links.pastes import Pastes
from mainspring.social.links.privatebin import PrivateBin
from mainspring.social.links.redirects import Redirects
from mainspring.social.links.service import Links
from mainspring.social.links.shlink import Shlink
from mainspring.social.links.yourls import Yourls


def application(links: Links, pastes: Pastes, accounts: Accounts, clock: Clock) -> Http1Server:
    """What listens on port 8410."""
    redirects = Redirects(links)
    shown = PastePages(pastes, accounts, redirects.address)
    sealed = PrivateBin(pastes, accounts, redirects.address, shown.root)
    dialects = Dialects(redirects, Shlink(links, accounts), Yourls(links, accounts), shown, sealed)
    return Http1Server(Manners(dialects, loopback=False, clock=clock), clock, ready=redirects.ready)


class Dialects:
    """An ASGI application that is several: whose words a request speaks decides who answers, and how errors look."""

    def __init__(
        self, redirects: Redirects, rest: Shlink, yourls: Yourls, pastes: PastePages, sealed: PrivateBin
    ) -> None:
        self._visits = asgi(redirects.handle, problem=_page)
        self._shlink = rest.router.application(problem=shlink_words.problem)
        self._yourls = asgi(yourls.handle)
        self._pastes = pastes.router.application(problem=paste_pages.problem)
        self._privatebin = asgi(sealed.handle, problem=privatebin.problem)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._whose(scope)(scope, receive, send)

    def _whose(self, scope: Scope) -> Application:
        path: str = scope["path"]
        if path.startswith("/rest/"):
            return self._shlink
        if path == "/yourls-api.php":
            return self._yourls
        if path.startswith("/pastes/"):
            return self._pastes
        if path == "/" and scope["type"] == "http" and privatebin.speaks(scope):
            return self._privatebin
        return self._visits


def _page(problem: Problem) -> Response:
    """A visitor's error is a page."""
    headers = tuple((name.encode(), value.encode()) for name, value in problem.headers)
    return pages.page(problem.status, problem.title, pages.text(problem.detail), headers=(pages.POLICY, *headers))
