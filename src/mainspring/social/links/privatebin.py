"""The PrivateBin dialect, version 2 (https://github.com/PrivateBin/PrivateBin/wiki/API): JSON on `/`, told by a header.

A sealed paste goes in and comes out as its clients wrote it. Every answer is a 200 whose `status` is 0, or 1 with a message.
Anybody may send pastes, as with PrivateBin itself, unless `links.privatebin` says no; with credentials (Basic with an app
password, or a token) they are the account's and may be larger.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from mainspring.core.accounts import Accounts, Caller
from mainspring.core.http import Request, Response
from mainspring.core.http.request import Scope, headers_of
from mainspring.core.problems import Problem, TooLarge, Unauthenticated
from mainspring.primitives.limiter import QuotaExceeded
from mainspring.social.links.paste_model import (
    EXPIRES_S,
    FAR_US,
    ID,
    Adata,
    Cipher,
    NewPaste,
    Sealed,
    UnknownPaste,
    WrongProof,
    WrongToken,
    base64_text,
)
from mainspring.social.links.pastes import Pastes, Revealed

REQUESTED = b"JSONHttpRequest"
DRAINED_BYTES_MAX = 64 << 20
ENVELOPE_BYTES = 4_096
"""What a request may have beside its cipher text."""

NOT_THERE = "Document does not exist, has expired or has been deleted."
INVALID = "Invalid data."
JSON_LD = {
    "paste": {
        "@context": {
            "so": "https://schema.org/",
            "status": {"@type": "so:Integer"},
            "id": {"@type": "so:name"},
            "deletetoken": {"@type": "so:Text"},
            "url": {"@type": "so:url"},
            "v": {"@type": "so:Integer", "@value": 2},
            "ct": {"@type": "so:Text"},
            "adata": {"@type": "so:DataFeed"},
            "meta": {"@type": "so:DataFeed"},
        }
    },
}
"""What clients ask first, to learn which version of the envelope is spoken here."""

HEADERS = ((b"cache-control", b"no-store"), (b"vary", b"accept, x-requested-with"))

_QUERY = re.compile(rb"(?:[0-9a-f]{16}(?:[=&]|$)|(?:pasteid|jsonld)=)")


class _Meta(msgspec.Struct, forbid_unknown_fields=True):
    expire: str


class _NewPaste(msgspec.Struct, forbid_unknown_fields=True):
    v: Literal[2]
    adata: Adata
    ct: str
    meta: _Meta


class _NewComment(msgspec.Struct, forbid_unknown_fields=True):
    v: Literal[2]
    adata: Cipher
    ct: str
    pasteid: str
    parentid: str


class _Deletion(msgspec.Struct):
    pasteid: str
    deletetoken: str


class _Kind(msgspec.Struct):
    """Which of the three it is is told by the fields that it has."""

    pasteid: Any = None
    parentid: Any = None
    deletetoken: Any = None


def speaks(scope: Scope) -> bool:
    """Whether a request at `/` is for this dialect: it has the header, or the query of a paste."""
    if scope["method"] in ("GET", "HEAD"):
        return _QUERY.match(scope["query_string"]) is not None
    return scope["method"] in ("POST", "PUT", "DELETE") and wants_json(scope)


def wants_json(scope: Scope) -> bool:
    """PrivateBin's rule: its header, or JSON and no HTML in `Accept`."""
    headers = headers_of(scope)
    accepted = headers.get(b"accept", b"")
    return headers.get(b"x-requested-with") == REQUESTED or (b"json" in accepted and b"html" not in accepted)


class PrivateBin:
    """Answers what `speaks`. `address` tells a visitor's, `page` what a browser gets to see."""

    def __init__(
        self,
        pastes: Pastes,
        accounts: Accounts,
        address: Callable[[Request], str],
        page: Callable[[Request], Response],
    ) -> None:
        self._pastes, self._accounts, self._address, self._page = pastes, accounts, address, page

    async def handle(self, request: Request) -> Response:
        """One request, every problem of which is an answer of the protocol."""
        if not wants_json(request.scope):
            return self._page(request)
        try:
            return _json(await self._answer(request))
        except UnknownPaste:
            return _refuse(NOT_THERE)
        except (TooLarge, QuotaExceeded, WrongToken, WrongProof, Unauthenticated) as problem:
            return _refuse(problem.detail)
        except Problem as problem:
            if problem.status >= 500:
                raise
            return _refuse(INVALID)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
            return _refuse(INVALID)

    async def _answer(self, request: Request) -> dict[str, Any]:
        by = await self._accounts.authenticate(request)
        if request.method == "HEAD":
            # Who only asks whether it is there does not read it.
            await self._pastes.find(_asked(request).get("pasteid", ""), by)
            return {"status": 0}
        if request.method == "GET":
            return await self._get(_asked(request), by)
        body = await self._body(request, self._pastes.bytes_max(by))
        kind = msgspec.json.decode(body, type=_Kind)
        if kind.deletetoken is not None:
            wanted = msgspec.json.decode(body, type=_Deletion)
            return await self._delete(wanted.pasteid, wanted.deletetoken, by)
        if by.anonymous and not self._pastes.settings.privatebin:
            raise Unauthenticated("Sending pastes needs an account here")
        if kind.pasteid is not None or kind.parentid is not None:
            return await self._comment(msgspec.json.decode(body, type=_NewComment), by, request)
        return await self._create(msgspec.json.decode(body, type=_NewPaste), by, request)

    async def _get(self, asked: dict[str, str], by: Caller) -> dict[str, Any]:
        if "jsonld" in asked:
            return JSON_LD.get(asked["jsonld"], {})
        id = asked.get("pasteid", "")
        if "deletetoken" in asked:
            return await self._delete(id, asked["deletetoken"], by)
        found, _ = await self._pastes.find(id, by)
        if not found.sealed:
            raise UnknownPaste
        revealed = await self._pastes.reveal(id, by=by)
        comments = await self._pastes.discussion(id) if found.discussion else ()
        return {
            **_outward(id),
            **envelope(revealed),
            "v": 2,
            "meta": _meta(revealed.paste.ends_us if revealed.paste.ends_us else found.ends_us, self._pastes.now_us()),
            "comments": [
                {
                    "id": comment.id,
                    "pasteid": id,
                    "parentid": comment.parent_id,
                    "v": 2,
                    "ct": base64_text(ct),
                    "adata": comment.adata,
                    "meta": {"created": comment.created_us // 1_000_000},
                }
                for comment, ct in comments
            ],
            "comment_count": len(comments),
            "comment_offset": 0,
            "@context": "?jsonld=paste",
        }

    async def _create(self, new: _NewPaste, by: Caller, request: Request) -> dict[str, Any]:
        expire: Any = new.meta.expire if new.meta.expire in EXPIRES_S else "1day"
        wanted = NewPaste(sealed=Sealed(new.adata, new.ct), expire=expire)
        made = await self._pastes.add(wanted, by, address=self._address(request), anonymous=True)
        return {**_outward(made.id), "deletetoken": self._pastes.delete_token(made.id)}

    async def _comment(self, new: _NewComment, by: Caller, request: Request) -> dict[str, Any]:
        id = await self._pastes.comment(
            new.pasteid, new.parentid, new.adata, new.ct, by, address=self._address(request)
        )
        return {"status": 0, "id": id, "url": f"/?{new.pasteid}"}

    async def _delete(self, id: str, token: str, by: Caller) -> dict[str, Any]:
        await self._pastes.delete(id, by, token=token)
        return _outward(id)

    async def _body(self, request: Request, bytes_max: int) -> bytes:
        """The body; what is too large is read to its end all the same, because clients read no answer before that."""
        limit = (bytes_max + 2) // 3 * 4 + ENVELOPE_BYTES
        pieces, size = list[bytes](), 0
        async for piece in request.stream(DRAINED_BYTES_MAX):
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
        if size > limit:
            raise TooLarge(f"Document is limited to {bytes_max:,} bytes of encrypted data.")
        return b"".join(pieces)


def problem(problem: Problem) -> Response:
    """What is not the client's doing keeps its HTTP status."""
    answer = _refuse(problem.detail)
    answer.status = problem.status
    answer.headers += [(name.encode(), value.encode()) for name, value in problem.headers]
    return answer


def envelope(revealed: Revealed) -> dict[str, Any]:
    """The part of an answer that the reader's key opens."""
    return {"adata": revealed.version.adata, "ct": base64_text(revealed.body)}


def asked_id(request: Request) -> str:
    """The paste that a query names, or the empty string."""
    return _asked(request).get("pasteid", "")


def _asked(request: Request) -> dict[str, str]:
    fields = request.query
    if "pasteid" not in fields and "jsonld" not in fields:
        bare = [name for name, value in fields.items() if not value and ID.fullmatch(name)]
        return {"pasteid": bare[0]} | fields if bare else fields
    return fields


def _outward(id: str) -> dict[str, Any]:
    return {"status": 0, "id": id, "url": f"/?{id}"}


def _meta(ends_us: int, now_us: int) -> dict[str, int]:
    return {} if ends_us == FAR_US else {"time_to_live": max(0, ends_us - now_us) // 1_000_000}


def _json(answer: dict[str, Any]) -> Response:
    return Response.json(answer, headers=HEADERS)


def _refuse(message: str) -> Response:
    return _json({"status": 1, "message": message})
