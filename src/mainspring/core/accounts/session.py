"""`/-/session`: a browser's session, opened by POST, ended by DELETE.

POST takes the one-click token (`{"token": …}`), or a name and a password, and sets an HttpOnly, SameSite=Strict cookie, so
that no script and no other site can use it. How long the session lasts is the server's to say; the cookie itself stays as
long as browsers allow.
"""

import msgspec

from mainspring.core.accounts.authenticator import COOKIE, same_origin
from mainspring.core.accounts.model import CrossOrigin
from mainspring.core.accounts.service import Accounts
from mainspring.core.http.request import Application, Request, UnsupportedMediaType
from mainspring.core.http.response import Header, Response
from mainspring.core.http.router import Router
from mainspring.core.problems import Invalid

BODY_BYTES_MAX = 16_384
COOKIE_S = 400 * 24 * 3600


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either `token`, or `name` and `password`."""

    token: str | None = None
    name: str | None = None
    password: str | None = None


def session_application(accounts: Accounts, *, secure: bool = False) -> Application:
    """The ASGI application for `/-/session`. `secure` marks the cookie where TLS ends in front of this node."""

    async def sign_in(request: Request) -> Response:
        _refuse_other_pages(request)
        # A page of another origin can send JSON only after a preflight, which CORS answers.
        if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
            raise UnsupportedMediaType("Send application/json")
        try:
            body = msgspec.json.decode(await request.body(), type=SignIn)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(str(error), pointer="/body") from None
        address, agent = request.client[0], request.header("user-agent") or ""
        if body.token is not None:
            secret = await accounts.swap(body.token, address, agent)
        elif body.name is not None and body.password is not None:
            secret = await accounts.sign_in(body.name, body.password, address, agent)
        else:
            raise Invalid("Either token, or name and password", pointer="/body")
        return Response(204, headers=[_cookie(secret, COOKIE_S, secure or request.scheme == "https")])

    async def sign_out(request: Request) -> Response:
        _refuse_other_pages(request)
        secret = request.cookies.get(COOKIE)
        if secret:
            await accounts.sign_out(secret, request.client[0])
        return Response(204, headers=[_cookie("", 0, secure or request.scheme == "https")])

    router = Router()
    router.add("POST", "/-/session", sign_in)
    router.add("DELETE", "/-/session", sign_out)
    return router.application(body_bytes_max=BODY_BYTES_MAX)


def _refuse_other_pages(request: Request) -> None:
    """A script outside browsers names no origin; a page always does, and must be one of ours."""
    named = request.header("sec-fetch-site") or request.header("origin")
    if named is not None and not same_origin(request):
        raise CrossOrigin


def _cookie(secret: str, lasts_s: int, secure: bool) -> Header:
    flags = "; Secure" if secure else ""
    return b"set-cookie", f"{COOKIE}={secret}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{flags}".encode()
