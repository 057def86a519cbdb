"""The web console's host: the built pages, served from this package.

Files with a digest in their name are immutable for a year; everything else is revalidated by its ETag. A path that is no
file gets the console's page, which finds its way by itself; the paths of machines (`/api/…`, `/-/…`) never come here.
Without the built files (`MAINSPRING_CONSOLE=skip` at the installation) it says so and how to get them.
"""

import mimetypes
from pathlib import Path, PurePosixPath

from mainspring.core.http.conditional import answer
from mainspring.core.http.request import Application, Request
from mainspring.core.http.response import Response
from mainspring.core.http.router import MethodNotAllowed, asgi
from mainspring.core.problems import NotFound, Problem

STATIC = Path(__file__).parent / "static"
YEAR = (b"cache-control", b"public, max-age=31536000, immutable")
REVALIDATE = (b"cache-control", b"no-cache")


class NotBuilt(Problem):
    status, type, title = 503, "core/console-not-built", "The console is not part of this installation"


def console(folder: Path = STATIC) -> Application:
    """The console as an ASGI application. The files are read once, at their first request."""
    files: dict[str, Response] = {}

    async def serve(request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(headers=(("allow", "GET, HEAD"),))
        if not (folder / "index.html").is_file():
            raise NotBuilt(
                "It was left out when Mainspring was installed (MAINSPRING_CONSOLE=skip): install it without that"
            )
        path = request.path.lstrip("/")
        found = files.get(path)
        if found is None:
            found = _read(folder, path)
            if found is None:
                # Something that looks like a file and is none must not be answered with a page.
                if PurePosixPath(path).suffix:
                    raise NotFound
                path, found = "index.html", files.get("index.html") or _read(folder, "index.html")
                assert found is not None
            files[path] = found
        return answer(request, Response(found.status, found.body, headers=found.headers))

    return asgi(serve)


def _read(folder: Path, path: str) -> Response | None:
    file = (folder / path).resolve()
    if not path or not file.is_relative_to(folder.resolve()) or not file.is_file() or file.name == "built-from":
        return None
    kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith("javascript"):
        kind += "; charset=utf-8"
    return Response(200, file.read_bytes(), kind, [YEAR if path.startswith("assets/") else REVALIDATE])
