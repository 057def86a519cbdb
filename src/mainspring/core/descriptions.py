"""The JSON API in words: an OpenAPI document of everything, and one of each system.

    /openapi.json                  all systems that are installed here
    /api/<system>/openapi.json     one of them

To describe a system imports its routes and builds nothing. A document is made at its first request, off the event loop, and
kept.
"""

import asyncio
from collections.abc import Collection, Mapping

from mainspring import __version__

from .http.conditional import answer
from .http.request import Application, Request
from .http.response import Response, encode_json
from .http.router import asgi
from .http.routes import Routes
from .lazy import Lazy
from .manifest import Manifest, resolve
from .systems import NotInstalled

EVERYTHING = ""
NO_CACHE = ((b"cache-control", b"no-cache"),)


class Descriptions:
    """Of these systems, and of routes by name that are no system's, as `module:attribute`."""

    def __init__(self, systems: Collection[Manifest], own: Mapping[str, str]) -> None:
        self._systems = {one.name: one for one in systems if one.routes}
        self._own = own
        self._documents = Lazy(self._describe)

    def pages(self) -> dict[str, Application]:
        """What answers, by path."""
        paths = {name: f"/api/{name}/openapi.json" for name in (*self._own, *self._systems)}
        return {path: self._page(name) for name, path in {EVERYTHING: "/openapi.json", **paths}.items()}

    def _page(self, name: str) -> Application:
        async def show(request: Request) -> Response:
            document = await self._documents.get(name)
            return answer(request, Response(200, document, "application/json", NO_CACHE))

        return asgi(show)

    async def _describe(self, name: str) -> bytes:
        if name in self._systems and (reason := self._systems[name].missing_extra()):
            raise NotInstalled(reason, retry_after_s=3600)
        return await asyncio.to_thread(self._document, name)

    def _document(self, name: str) -> bytes:
        # Imported here: most servers are never asked.
        from .http.openapi import describe

        if name != EVERYTHING:
            return encode_json(describe([self._routes(name)], f"Mainspring: {name}", __version__))
        installed = [one.name for one in self._systems.values() if not one.missing_extra()]
        return encode_json(describe([self._routes(one) for one in (*self._own, *installed)], version=__version__))

    def _routes(self, name: str) -> Routes:
        found: Routes = resolve(self._own.get(name) or self._systems[name].routes)
        return found
