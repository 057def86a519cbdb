"""The JSON API of pastes, below `/api/links/pastes`. A GET never burns anything; bodies that burn need a POST."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mainspring.core.accounts import Caller
from mainspring.core.http import Request, Response
from mainspring.core.http.conditional import answer, etag_of
from mainspring.core.http.pages import Cursors, Page, PageQuery
from mainspring.core.once import Once
from mainspring.core.problems import Forbidden, TooLarge, Unauthenticated
from mainspring.primitives.limiter import QuotaExceeded
from mainspring.social.links.http import routes
from mainspring.social.links.paste_model import (
    FAR_US,
    Format,
    InvalidSeal,
    Language,
    MustReveal,
    NewPaste,
    NotEditable,
    PasteEdit,
    Proof,
    UnknownPaste,
    Version,
    Visibility,
    WrongProof,
    WrongToken,
    base64_text,
    text_bytes,
)
from mainspring.social.links.paste_store import Found
from mainspring.social.links.pastes import Made, Pastes, Revealed, owns
from mainspring.social.links.views import rfc3339

CURSORS: Cursors[int] = Cursors("pastes", int)
JSON_BYTES_MAX = 32 << 20
"""A body of 10 MiB takes more as JSON; the service counts its own bytes."""

PREVIEW_BYTES_MAX = 512 << 10
READ_PROBLEMS = (UnknownPaste, MustReveal)


class PasteMade(msgspec.Struct):
    """`delete_token` is told only here. The key of a sealed paste belongs behind `url` as its fragment."""

    id: str
    url: str
    delete_token: str
    created_at: str
    expires_at: str | None


class PasteView(msgspec.Struct, kw_only=True):
    """A paste without its body. `open`: its body answers a GET; `proof`: it asks for an answer to a challenge.

    `adata` is what a sealed paste's envelope says of its cipher.
    """

    id: str
    url: str
    title: str
    format: Format
    language: str
    visibility: Visibility
    open: bool
    sealed: bool
    proof: bool
    has_password: bool
    discussion: bool
    adata: list[Any] | None
    reads_left: int | None
    size_bytes: int
    version: int
    forked_from: str | None
    mine: bool
    created_at: str
    changed_at: str
    expires_at: str | None


class PasteBody(msgspec.Struct, omit_defaults=True):
    """A body that was revealed: `body` of a plain paste, or `ct` (base64) of a sealed one, to be opened with `adata`."""

    paste: PasteView
    body: str | None = None
    ct: str | None = None
    adata: list[Any] | None = None


class ListQuery(PageQuery, frozen=True, kw_only=True):
    """`scope` is mine or public; `q` stands in title or text of one's own, in whatever case."""

    scope: Literal["mine", "public"] = "mine"
    q: Annotated[str, Meta(max_length=200)] = ""


class RawQuery(msgspec.Struct):
    """`version` is the current one unless given; `download` makes a browser save it."""

    version: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    download: bool = False


class DiffQuery(msgspec.Struct, rename={"old": "from", "new": "to"}):
    """`from` is the version before the current one and `to` the current one, unless given."""

    old: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    new: Annotated[int, Meta(ge=1, le=1_000)] | None = None


class Challenge(msgspec.Struct):
    """Answer with HMAC-SHA256 under the verifier of the three lines `reveal`, the id and the nonce, in hexadecimal."""

    nonce: str
    expires_at: str


class VersionView(msgspec.Struct):
    number: int
    format: Format
    language: str
    size_bytes: int
    created_at: str


class FileView(msgspec.Struct):
    name: str
    content_type: str
    size_bytes: int


class Preview(msgspec.Struct, forbid_unknown_fields=True):
    body: str
    format: Format = "plain"
    language: Language = ""


class Html(msgspec.Struct):
    """HTML that is safe to insert; `language` is the given one, or what the code looks like."""

    html: str
    language: str


@routes.post(
    "/pastes",
    status=201,
    public=True,
    idempotent=True,
    body_bytes_max=JSON_BYTES_MAX,
    problems=[Unauthenticated, QuotaExceeded, TooLarge, InvalidSeal],
)
async def create_paste(
    body: NewPaste, request: Request, caller: Caller, pastes: Pastes, once: Once | None
) -> PasteMade:
    """Makes a paste. Needs `links:write`, unless links are open to anybody here."""
    return _made(pastes, await pastes.add(body, caller, address=request.client[0], once=once))


@routes.get("/pastes")
async def find_pastes(query: ListQuery, caller: Caller, pastes: Pastes) -> Page[PasteView]:
    """One's own pastes, or the public ones, newest first. With `q` a page may be short, or empty, and go on all the same."""
    before = CURSORS.open(query.cursor, query.scope, query.q)
    if query.q and query.scope == "mine":
        matches, following = await pastes.search(query.q, caller, before, query.limit)
        views = [paste_view(pastes, one, caller) for one in matches]
        return Page(views, None if following is None else CURSORS.seal(following, query.scope, query.q))
    if query.scope == "mine":
        found = await pastes.own(caller, before, query.limit + 1)
    else:
        found = await pastes.public(before, query.limit + 1)
    page = CURSORS.page(found, query.limit, lambda one: one[0].number, query.scope, query.q)
    return Page([paste_view(pastes, one, caller) for one in page.items], page.next)


@routes.post("/pastes/preview", body_bytes_max=1 << 20, scope="links:read")
async def preview_paste(body: Preview, pastes: Pastes) -> Html:
    """How a text would look: for an editor. Nothing is kept."""
    text_bytes(body.body, PREVIEW_BYTES_MAX)
    html, language = await pastes.preview(body.body, body.format, body.language)
    return Html(html, language)


@routes.get("/pastes/{id}", public=True, problems=[UnknownPaste])
async def get_paste(id: str, caller: Caller, pastes: Pastes) -> PasteView:
    """What is known of a paste without reading it."""
    return paste_view(pastes, await pastes.find(id, caller), caller)


@routes.patch("/pastes/{id}", body_bytes_max=JSON_BYTES_MAX, problems=[UnknownPaste, NotEditable, TooLarge, Forbidden])
async def edit_paste(id: str, body: PasteEdit, caller: Caller, pastes: Pastes) -> PasteView:
    """Changes one's own paste; a new body is a new version."""
    return paste_view(pastes, await pastes.edit(id, body, caller), caller)


@routes.delete("/pastes/{id}", status=204, public=True, problems=[UnknownPaste, WrongToken, Forbidden])
async def delete_paste(id: str, request: Request, caller: Caller, pastes: Pastes) -> None:
    """Ends a paste: one's own, or whose delete token is in the header `X-Delete-Token`."""
    await pastes.delete(id, caller, token=request.header("x-delete-token"))


@routes.post("/pastes/{id}/challenge", public=True, problems=[UnknownPaste])
async def challenge_paste(id: str, caller: Caller, pastes: Pastes) -> Challenge:
    """A nonce for the proof that one knows the key of a sealed paste. It is good for two minutes and one answer."""
    nonce, until_us = await pastes.challenge(id, caller)
    return Challenge(nonce, rfc3339(until_us) or "")


@routes.post("/pastes/{id}/reveal", public=True, problems=[UnknownPaste, WrongProof, QuotaExceeded])
async def reveal_paste(id: str, body: Proof | None, request: Request, caller: Caller, pastes: Pastes) -> PasteBody:
    """The body, for who shows the password or proves to know the key, where the paste asks for it. Counts as a read."""
    return revealed_view(pastes, await pastes.reveal(id, body, caller, address=request.client[0]), caller)


@routes.get("/pastes/{id}/raw", public=True, produces="text/plain", problems=READ_PROBLEMS)
async def raw_paste(id: str, query: RawQuery, request: Request, caller: Caller, pastes: Pastes) -> Response:
    """The text of an open paste as it was written."""
    return raw(request, await pastes.read(id, caller, query.version), download=query.download)


@routes.get("/pastes/{id}/html", public=True, problems=READ_PROBLEMS)
async def paste_html(id: str, query: RawQuery, caller: Caller, pastes: Pastes) -> Html:
    """The text of an open paste as safe HTML, highlighted or made from Markdown."""
    shown = await pastes.read(id, caller, query.version)
    return Html(await pastes.html(shown), shown.version.language)


@routes.get("/pastes/{id}/versions", public=True, problems=[UnknownPaste])
async def paste_versions(id: str, caller: Caller, pastes: Pastes) -> list[VersionView]:
    """What bodies it has had, oldest first."""
    return [_version(one) for one in await pastes.versions(id, caller)]


@routes.get("/pastes/{id}/diff", public=True, produces="text/x-diff", problems=READ_PROBLEMS)
async def paste_diff(id: str, query: DiffQuery, caller: Caller, pastes: Pastes) -> Response:
    """What has changed between two versions, as a unified diff."""
    current = (await pastes.find(id, caller))[1].number
    new = query.new or current
    text = await pastes.diff(id, query.old or max(1, new - 1), new, caller)
    return Response(200, text.encode(), "text/x-diff; charset=utf-8")


@routes.post("/pastes/{id}/fork", status=201, problems=[*READ_PROBLEMS, QuotaExceeded])
async def fork_paste(id: str, request: Request, caller: Caller, pastes: Pastes) -> PasteMade:
    """A copy of an open paste that is one's own."""
    return _made(pastes, await pastes.fork(id, caller, address=request.client[0]))


@routes.get("/pastes/{id}/files", public=True, problems=[UnknownPaste])
async def paste_files(id: str, caller: Caller, pastes: Pastes) -> list[FileView]:
    """What is attached to a paste."""
    return [FileView(one.name, one.content_type, one.size_bytes) for one in await pastes.files(id, caller)]


@routes.put(
    "/pastes/{id}/files/{name}",
    body_bytes_max=JSON_BYTES_MAX,
    problems=[UnknownPaste, NotEditable, TooLarge, Forbidden],
)
async def attach_file(id: str, name: str, body: bytes, request: Request, caller: Caller, pastes: Pastes) -> FileView:
    """Attaches a file to one's own open paste, in place of one of the same name."""
    made = await pastes.attach(id, name, request.header("content-type") or "application/octet-stream", body, caller)
    return FileView(made.name, made.content_type, made.size_bytes)


@routes.get("/pastes/{id}/files/{name}", public=True, produces="application/octet-stream", problems=[UnknownPaste])
async def download_file(id: str, name: str, caller: Caller, pastes: Pastes) -> Response:
    """An attached file, to be saved: never shown by a browser, whatever it claims to be."""
    _, body = await pastes.file(id, name, caller)
    return Response(200, body, "application/octet-stream", [(b"content-disposition", b"attachment")])


@routes.delete("/pastes/{id}/files/{name}", status=204, problems=[UnknownPaste, Forbidden])
async def detach_file(id: str, name: str, caller: Caller, pastes: Pastes) -> None:
    """Takes a file off one's own paste."""
    await pastes.detach(id, name, caller)


def raw(request: Request, shown: Revealed, *, download: bool = False) -> Response:
    """A text as it was written; the sender's bytes are text to a browser, whatever they look like."""
    headers = [(b"cache-control", b"no-cache")]
    if download:
        ending = {"markdown": "md"}.get(shown.version.format, "txt")
        headers.append((b"content-disposition", f'attachment; filename="{shown.paste.id}.{ending}"'.encode()))
    etag = etag_of(f"{shown.paste.id}.{shown.version.number}.{download}".encode())
    return answer(request, Response(200, shown.body, "text/plain; charset=utf-8", headers), etag)


def revealed_view(pastes: Pastes, shown: Revealed, by: Caller) -> PasteBody:
    view = paste_view(pastes, (shown.paste, shown.version), by)
    if shown.paste.sealed:
        return PasteBody(view, ct=base64_text(shown.body), adata=shown.version.adata)
    return PasteBody(view, body=shown.text)


def paste_view(pastes: Pastes, found: Found, by: Caller) -> PasteView:
    one, version = found
    return PasteView(
        id=one.id,
        url=pastes.url(one.id, sealed=one.sealed),
        title=one.title,
        format=version.format,
        language=version.language,
        visibility=one.visibility,
        open=one.open,
        sealed=one.sealed,
        proof=one.verifier is not None,
        has_password=one.password is not None,
        discussion=one.discussion,
        adata=version.adata,
        reads_left=one.reads_left,
        size_bytes=version.size_bytes,
        version=one.version,
        forked_from=one.forked_from,
        mine=owns(one, by),
        created_at=rfc3339(one.created_us) or "",
        changed_at=rfc3339(version.created_us) or "",
        expires_at=_end(one.ends_us),
    )


def _made(pastes: Pastes, made: Made) -> PasteMade:
    url = pastes.url(made.id, sealed=made.sealed)
    return PasteMade(made.id, url, pastes.delete_token(made.id), rfc3339(made.created_us) or "", _end(made.ends_us))


def _version(one: Version) -> VersionView:
    return VersionView(one.number, one.format, one.language, one.size_bytes, rfc3339(one.created_us) or "")


def _end(ends_us: int) -> str | None:
    return None if ends_us in (0, FAR_US) else rfc3339(ends_us)
