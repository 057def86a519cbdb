"""Pastes as pages, below `/pastes/` on the listener of links.

Everything that somebody else wrote is text, or HTML that was made safe; no page runs a script but the one that opens sealed
pastes, and that one is a file. A GET shows open pastes only: whatever burns, has a password or is sealed asks for a click,
and so previews and scanners burn nothing.
"""

import re
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from urllib.parse import quote

import msgspec

from mainspring.core.accounts import Accounts, Caller
from mainspring.core.http import Request, Response, Router, problem_response
from mainspring.core.http.response import Header
from mainspring.core.problems import Malformed, NotFound, Problem
from mainspring.social.links.paste_http import Challenge, paste_view, raw, revealed_view
from mainspring.social.links.paste_model import FAR_US, Paste, Proof, UnknownPaste, WrongProof
from mainspring.social.links.pastes import Pastes, Revealed
from mainspring.social.links.views import rfc3339

FOLDER = Path(__file__).parent / "paste_page"
STATIC = {
    "pastes.css": "text/css; charset=utf-8",
    "sealed.js": "text/javascript; charset=utf-8",
    "sealed.html": "text/html; charset=utf-8",
}
FORM_BYTES_MAX = 4_096
HTML = "text/html; charset=utf-8"
NO_STORE: Header = (b"cache-control", b"no-store")
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors "
_SEALED_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_LINES = re.compile(r"L(\d{1,7})(?:-L?(\d{1,7}))?")

Handler = Callable[[Request], Awaitable[Response]]


class PastePages:
    """The pages, as a router; `address` tells a visitor's."""

    def __init__(self, pastes: Pastes, accounts: Accounts, address: Callable[[Request], str]) -> None:
        self._pastes, self._accounts, self._address = pastes, accounts, address
        self._files = {name: (FOLDER / name).read_bytes() for name in STATIC}
        self.router = router = Router()
        for method, path, handler in (
            ("GET", "/pastes/static/{name}", self._static),
            ("GET", "/pastes/{id}", self._show),
            ("POST", "/pastes/{id}", self._unlock),
            ("POST", "/pastes/{id}/delete", self._delete),
            ("GET", "/pastes/{id}/raw", self._raw),
            ("GET", "/pastes/{id}/embed", self._embed),
            ("GET", "/pastes/{id}/embed.js", self._embed_script),
            ("GET", "/pastes/{id}/files/{name}", self._file),
            ("GET", "/pastes/{id}/about", _for_script(self._about)),
            ("POST", "/pastes/{id}/challenge", _for_script(self._challenge)),
            ("POST", "/pastes/{id}/reveal", _for_script(self._reveal)),
        ):
            router.add(method, path, handler)

    def root(self, request: Request) -> Response:
        """What a browser gets at `/?{id}`: the page that opens sealed pastes, or the question whether to delete one.

        It is the same page for every paste, there or not; the query and the fragment are read in the browser.
        """
        asked = request.query
        if "deletetoken" not in asked:
            headers = [NO_STORE, (b"content-security-policy", _SEALED_POLICY.encode())]
            return Response(200, self._files["sealed.html"], HTML, headers)
        id, token = escape(asked.get("pasteid", "")), escape(asked["deletetoken"])
        form = (
            f'<form method="post" action="/pastes/{id}/delete"><input type="hidden" name="token" value="{token}">'
            "<button>Delete it for good</button></form>"
        )
        return document(200, "Delete this paste?", form)

    async def _static(self, request: Request) -> Response:
        name = request.path_values["name"]
        if name not in self._files or name == "sealed.html":
            raise NotFound
        return Response(200, self._files[name], STATIC[name], [(b"cache-control", b"max-age=3600")])

    async def _show(self, request: Request) -> Response:
        id, by = request.path_values["id"], await self._accounts.authenticate(request)
        found, _ = await self._pastes.find(id, by)
        if found.sealed:
            return Response.redirect(f"/?{id}")
        if not found.open:
            return _locked(found)
        return await self._page(await self._pastes.read(id, by, _version(request)), by, request)

    async def _unlock(self, request: Request) -> Response:
        """The click, and the password, that a paste asked for."""
        id, by = request.path_values["id"], await self._accounts.authenticate(request)
        password = (await request.form(FORM_BYTES_MAX)).get("password")
        found, _ = await self._pastes.find(id, by)
        if found.sealed:
            return Response.redirect(f"/?{id}", 303)
        try:
            shown = await self._pastes.reveal(id, Proof(password or None), by, address=self._address(request))
        except WrongProof:
            return _locked(found, wrong=True)
        return await self._page(shown, by, request)

    async def _page(self, shown: Revealed, by: Caller, request: Request) -> Response:
        paste, version = shown.paste, shown.version
        facts = [version.language or version.format, f"{version.size_bytes:,} bytes", _second(version.created_us)]
        if paste.reads_left is not None:
            left = f"can be read {paste.reads_left} times more" if paste.reads_left else "is gone from the server now"
            facts.append(f"this paste {left}")
        elif paste.ends_us != FAR_US:
            facts.append(f"until {_second(paste.ends_us)}")
        line = f'<p class="facts">{escape(" · ".join(facts))}</p>'
        if paste.open:
            at = f"/pastes/{paste.id}"
            line += f'<p class="facts"><a href="{at}/raw">Raw</a> · <a href="{at}/raw?download=1">Download</a>'
            line += await self._links(paste, version.number, by) + "</p>"
        content = _marked(await self._pastes.html(shown), request.query_string.decode("latin-1"))
        return document(200, paste.title or "A paste", line + content)

    async def _links(self, paste: Paste, number: int, by: Caller) -> str:
        """Other versions and attached files."""
        at, links = f"/pastes/{paste.id}", ""
        if paste.version > 1:
            for other in await self._pastes.versions(paste.id, by):
                name = f"version {other.number}"
                links += (
                    f" · {name}" if other.number == number else f' · <a href="{at}?version={other.number}">{name}</a>'
                )
        for file in await self._pastes.files(paste.id, by):
            links += f' · <a href="{at}/files/{quote(file.name)}" rel="nofollow">{escape(file.name)}</a>'
        return links

    async def _raw(self, request: Request) -> Response:
        by = await self._accounts.authenticate(request)
        shown = await self._pastes.read(request.path_values["id"], by, _version(request))
        return raw(request, shown, download=request.query.get("download") == "1")

    async def _embed(self, request: Request) -> Response:
        by = await self._accounts.authenticate(request)
        shown = await self._pastes.read(request.path_values["id"], by)
        at = self._pastes.url(shown.paste.id, sealed=False)
        foot = f'<p class="facts"><a href="{escape(at)}" target="_blank" rel="noopener">{escape(at)}</a></p>'
        return document(200, shown.paste.title or "A paste", await self._pastes.html(shown) + foot, framed=True)

    async def _embed_script(self, request: Request) -> Response:
        """For `<script src>` in any page: puts a frame beside itself that shows the paste and can do nothing."""
        found, _ = await self._pastes.find(request.path_values["id"])
        if not found.open or found.visibility == "private":
            raise UnknownPaste
        at = msgspec.json.encode(f"{self._pastes.url(found.id, sealed=False)}/embed").decode()
        script = (
            '(function(){var s=document.currentScript,f=document.createElement("iframe");'
            f'f.src={at};f.sandbox="allow-popups";f.loading="lazy";f.style="width:100%;height:24rem;border:0";'
            "s.parentNode.insertBefore(f,s.nextSibling)})()\n"
        )
        return Response(200, script.encode(), STATIC["sealed.js"], [(b"cache-control", b"no-cache")])

    async def _file(self, request: Request) -> Response:
        by = await self._accounts.authenticate(request)
        _, body = await self._pastes.file(request.path_values["id"], request.path_values["name"], by)
        return Response(200, body, "application/octet-stream", [(b"content-disposition", b"attachment")])

    async def _about(self, request: Request) -> Response:
        by = await self._accounts.authenticate(request)
        found = await self._pastes.find(request.path_values["id"], by)
        return Response.json(paste_view(self._pastes, found, by), headers=[NO_STORE])

    async def _challenge(self, request: Request) -> Response:
        by = await self._accounts.authenticate(request)
        nonce, until_us = await self._pastes.challenge(request.path_values["id"], by)
        return Response.json(Challenge(nonce, rfc3339(until_us) or ""), headers=[NO_STORE])

    async def _reveal(self, request: Request) -> Response:
        by = await self._accounts.authenticate(request)
        try:
            proof = msgspec.json.decode(await request.body(FORM_BYTES_MAX), type=Proof)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(str(error), pointer="/body") from None
        shown = await self._pastes.reveal(request.path_values["id"], proof, by, address=self._address(request))
        return Response.json(revealed_view(self._pastes, shown, by), headers=[NO_STORE])

    async def _delete(self, request: Request) -> Response:
        token = (await request.form(FORM_BYTES_MAX)).get("token") or ""
        await self._pastes.delete(request.path_values["id"], await self._accounts.authenticate(request), token=token)
        return document(200, "This paste is deleted", "<p>Within a minute nothing of it is left on the disk.</p>")


def document(status: int, title: str, body: str, *, framed: bool = False) -> Response:
    """`title` is text, `body` HTML. Other sites may show it in a frame only where it is `framed`."""
    shown = escape(title)
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{shown}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f'<link rel="stylesheet" href="/pastes/static/pastes.css"></head>'
        f"<body><main><h1>{shown}</h1>{body}</main></body></html>"
    )
    policy = (_POLICY + ("*" if framed else "'none'")).encode()
    return Response(status, text.encode("utf-8", "replace"), HTML, [NO_STORE, (b"content-security-policy", policy)])


def problem(problem: Problem) -> Response:
    """What a visitor sees of a problem."""
    answer = document(problem.status, problem.title, f"<p>{escape(problem.detail)}</p>")
    answer.headers += [(name.encode(), value.encode()) for name, value in problem.headers]
    return answer


def _for_script(handler: Handler) -> Handler:
    """For the script of the page that opens sealed pastes, problems are JSON."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Problem as problem:
            return problem_response(problem)

    return answer


def _locked(found: Paste, wrong: bool = False) -> Response:
    note = '<p role="alert">That was not it.</p>' if wrong else ""
    if found.reads_left is not None:
        times = "once, and is destroyed by that" if found.reads_left == 1 else f"{found.reads_left} times more"
        note += f"<p>It can be read {times}.</p>"
    ask = (
        '<label>Password <input type="password" name="password" autofocus required></label> ' if found.password else ""
    )
    form = f'<form method="post">{ask}<button>Show it</button></form>'
    return document(403 if wrong else 200, found.title or "A paste", note + form)


def _second(at_us: int) -> str:
    return rfc3339(at_us - at_us % 1_000_000) or ""


def _version(request: Request) -> int | None:
    wanted = request.query.get("version")
    if wanted is None:
        return None
    if not wanted.isdecimal() or len(wanted) > 6:
        raise UnknownPaste("It has no such version")
    return int(wanted)


def _marked(html: str, query: str) -> str:
    """Marks the lines that a query like `L10-20` names; the first is where the browser goes."""
    lines = _LINES.match(query)
    if lines is None:
        return html
    first, last = int(lines[1]), int(lines[2] or lines[1])

    def mark(line: re.Match[str]) -> str:
        number = int(line[1])
        if not first <= number <= last:
            return line[0]
        focus = ' tabindex="-1" autofocus' if number == first else ""
        return f'<span class="line marked" id="L{number}"{focus}>'

    return re.sub(r'<span class="line" id="L(\d+)">', mark, html)
