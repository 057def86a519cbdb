"""The JSON API of the object store, below `/api/objects`: what the console's page and scripts ask for beside S3.

The same accounts and the same rules as at the S3 door: each route asks whether the caller may do the action that S3 has for it.
Keys in paths are percent-encoded, slashes too. Contents are served as attachments that no page of ours executes.
"""

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote, urlsplit

import msgspec
from msgspec import Meta

from mainspring.core.accounts import Accounts
from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.key_pairs import KeyPair, access_key_of
from mainspring.core.http import Request, Response, Stream
from mainspring.core.problems import Forbidden, Invalid, Unavailable
from mainspring.storage.objects import http_operating
from mainspring.storage.objects import http_views as views
from mainspring.storage.objects.errors import ObjectsError
from mainspring.storage.objects.http_access import Name, may, routes
from mainspring.storage.objects.http_views import (
    Bucket,
    BucketWanted,
    Completion,
    LinksWanted,
    Listing,
    ObjectView,
    PartLink,
    PartStored,
    Policy,
    Presigned,
    PresignWanted,
    Profile,
    Restore,
    Simulation,
    Upload,
    UploadWanted,
    Verdict,
    VersioningWanted,
    VersionLine,
)
from mainspring.storage.objects.model import Versioning
from mainspring.storage.objects.moves import Source
from mainspring.storage.objects.multipart import Wanted
from mainspring.storage.objects.s3 import access
from mainspring.storage.objects.s3.conditions import Context
from mainspring.storage.objects.s3.cors import SIGNED_ORIGIN
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.identity import ANONYMOUS, given
from mainspring.storage.objects.s3.policy import Policy as CompiledPolicy
from mainspring.storage.objects.s3.policy import compile_policy
from mainspring.storage.objects.service import Objects
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.staging import Wish
from mainspring.wire.aws import sigv4

__all__ = ["http_operating", "routes"]
"""All of the API: importing a part adds its routes."""

SMALL_BYTES_MAX = 16 << 20
LINKS_TOKEN = "Shared links of objects"
SANDBOX = [
    (b"content-disposition", b"attachment"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cache-control", b"private, no-store"),
]


class ObjectQuery(msgspec.Struct, frozen=True):
    version: Annotated[str, Meta(max_length=64)] = ""


class UploadQuery(msgspec.Struct, frozen=True):
    key: Annotated[str, Meta(min_length=1, max_length=1_024)]


class ListingQuery(msgspec.Struct, frozen=True):
    """`as_of` (microseconds UTC) shows a bucket with versioning as it was then."""

    prefix: Annotated[str, Meta(max_length=1_024)] = ""
    delimiter: Annotated[str, Meta(max_length=64)] = ""
    as_of: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    token: Annotated[str, Meta(max_length=4_096)] = ""
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 200


@routes.get("/buckets")
async def buckets(caller: Caller, door: Door, objects: Objects) -> list[Bucket]:
    """The caller's buckets; the installation's owner sees all."""
    identity = door.identities.of_caller(caller)
    found = await objects.list_buckets(owner=None if identity.admin else identity.id)
    return [views.of_bucket(one, door.identities.names) for one in found]


@routes.post("/buckets", status=201, problems=(ObjectsError,))
async def create_bucket(body: BucketWanted, caller: Caller, door: Door, objects: Objects) -> Bucket:
    """Makes a bucket; with `lock` its objects can be locked, which needs versioning."""
    identity = door.identities.of_caller(caller)
    made = await objects.create_bucket(body.name, owner=identity.id, region=door.region, lock=body.lock)
    if body.versioning and not body.lock:
        await objects.set_versioning(body.name, Versioning.ENABLED)
    door.buckets.forget(body.name)
    return views.of_bucket(await objects.bucket(made.name), door.identities.names)


@routes.delete("/buckets/{bucket}", problems=(ObjectsError, Forbidden))
async def delete_bucket(bucket: Name, caller: Caller, door: Door, objects: Objects) -> None:
    """Removes an empty bucket."""
    await may(door, caller, bucket, "s3:DeleteBucket")
    await objects.delete_bucket(bucket)
    door.buckets.forget(bucket)


@routes.put("/buckets/{bucket}/versioning", problems=(ObjectsError, Forbidden))
async def set_versioning(bucket: Name, body: VersioningWanted, caller: Caller, door: Door, objects: Objects) -> Bucket:
    """Turns versioning on, or suspends it."""
    await may(door, caller, bucket, "s3:PutBucketVersioning")
    await objects.set_versioning(bucket, Versioning.ENABLED if body.enabled else Versioning.SUSPENDED)
    door.buckets.forget(bucket)
    return views.of_bucket(await objects.bucket(bucket), door.identities.names)


@routes.post("/buckets/{bucket}/profile", problems=(ObjectsError, Forbidden))
async def set_profile(bucket: Name, body: Profile, caller: Caller, door: Door, objects: Objects) -> Bucket:
    """Chooses the erasure profile of what is written from now on, `k+m`."""
    await may(door, caller, bucket, "s3:PutBucketVersioning")
    await objects.set_profile(bucket, body.profile)
    door.buckets.forget(bucket)
    return views.of_bucket(await objects.bucket(bucket), door.identities.names)


@routes.get("/buckets/{bucket}/objects", problems=(ObjectsError, Forbidden))
async def list_objects(bucket: Name, query: ListingQuery, caller: Caller, door: Door, objects: Objects) -> Listing:
    """One page of keys and folders; `token` asks for the next of the same moment."""
    await may(door, caller, bucket, "s3:ListBucket")
    page = await objects.list(
        bucket, query.prefix, query.delimiter, count=query.limit, token=query.token or None, as_of_us=query.as_of
    )
    return views.of_page(page)


@routes.get("/buckets/{bucket}/objects/{key}", produces="application/octet-stream", problems=(ObjectsError, Forbidden))
async def content(
    bucket: Name, key: str, query: ObjectQuery, caller: Caller, door: Door, objects: Objects
) -> Response | Stream:
    """An object's bytes, to be kept or looked at; its own type is in `x-object-type`."""
    await may(door, caller, bucket, "s3:GetObject" if not query.version else "s3:GetObjectVersion", key)
    reader = await objects.get(bucket, key, version=query.version or None)
    kind = (
        reader.object.headers.get("content-type", "")
        .encode("latin-1", "replace")
        .replace(b"\r", b"")
        .replace(b"\n", b"")
    )
    headers = [*SANDBOX, (b"x-object-type", kind), (b"content-length", b"%d" % reader.length)]
    if (cached := reader.cached()) is not None:
        return Response(200, cached, "application/octet-stream", headers[:-1])

    async def pieces() -> AsyncIterator[bytes]:
        async for piece in reader:
            yield bytes(piece)

    return Stream(pieces(), headers=headers)


@routes.put("/buckets/{bucket}/objects/{key}", body_bytes_max=SMALL_BYTES_MAX, problems=(ObjectsError, Forbidden))
async def put_object(
    bucket: Name, key: str, body: bytes, request: Request, caller: Caller, door: Door, objects: Objects
) -> ObjectView:
    """Stores a small object; larger ones go to the S3 door, whole or in parts (`/uploads`)."""
    identity, _ = await may(door, caller, bucket, "s3:PutObject", key)
    kind = request.header("content-type") or "application/octet-stream"
    made = await objects.put(bucket, key, body, size=len(body), headers={"content-type": kind}, owner=identity.id)
    return views.of_object(made)


@routes.delete("/buckets/{bucket}/objects/{key}", problems=(ObjectsError, Forbidden))
async def delete_object(
    bucket: Name, key: str, query: ObjectQuery, caller: Caller, door: Door, objects: Objects
) -> None:
    """Deletes an object (with versioning: puts a marker on it) or, for good, one version."""
    await may(door, caller, bucket, "s3:DeleteObject" if not query.version else "s3:DeleteObjectVersion", key)
    await objects.delete(bucket, key, query.version or None)


@routes.get("/buckets/{bucket}/objects/{key}/versions", problems=(ObjectsError, Forbidden))
async def versions(bucket: Name, key: str, caller: Caller, door: Door, objects: Objects) -> list[VersionLine]:
    """The newest thousand versions of one key, with what locks them."""
    await may(door, caller, bucket, "s3:ListBucketVersions")
    page = await objects.list_versions(bucket, key)
    lines = []
    for one in page.entries:
        if one.key == key:
            lock = None if one.marker else (await objects.head(bucket, key, one.version)).lock
            lines.append(views.of_version(one, lock, objects.now_us()))
    return lines


@routes.post("/buckets/{bucket}/restore", problems=(ObjectsError, Forbidden))
async def restore(bucket: Name, body: Restore, caller: Caller, door: Door, objects: Objects) -> ObjectView:
    """Makes an old version the newest again, by a copy that moves no byte."""
    await may(door, caller, bucket, "s3:GetObjectVersion", body.key)
    await may(door, caller, bucket, "s3:PutObject", body.key)
    made, _ = await objects.copy(Source(bucket, body.key, body.version), bucket, body.key)
    return views.of_object(made)


@routes.post("/buckets/{bucket}/uploads", status=201, problems=(ObjectsError, Forbidden))
async def begin_upload(bucket: Name, body: UploadWanted, caller: Caller, door: Door, objects: Objects) -> Upload:
    """Begins an upload in parts of at least 5 MiB but the last."""
    identity, _ = await may(door, caller, bucket, "s3:PutObject", body.key)
    wish = Wish(headers={"content-type": body.content_type}, owner=identity.id)
    return Upload(await objects.uploads.begin(bucket, body.key, wish), [])


@routes.get("/buckets/{bucket}/uploads/{upload}", problems=(ObjectsError, Forbidden))
async def upload_parts(
    bucket: Name, upload: str, query: UploadQuery, caller: Caller, door: Door, objects: Objects
) -> Upload:
    """The parts that have arrived, so that an upload can go on where it ended."""
    await may(door, caller, bucket, "s3:ListMultipartUploadParts", query.key)
    page = await objects.uploads.parts(bucket, query.key, upload)
    return Upload(upload, [PartStored(row.number, row.etag, row.size) for row in page.parts])


@routes.post(
    "/buckets/{bucket}/uploads/{upload}/links", scope="objects:write", problems=(ObjectsError, Forbidden, Unavailable)
)
async def part_links(
    bucket: Name,
    upload: str,
    body: LinksWanted,
    query: UploadQuery,
    request: Request,
    caller: Caller,
    door: Door,
    objects: Objects,
    accounts: Accounts,
    settings: ObjectsSettings,
) -> list[PartLink]:
    """Presigned URLs at the S3 door to which parts are PUT, for an hour; from pages of the origin that asks for them too."""
    await may(door, caller, bucket, "s3:PutObject", query.key)
    await objects.uploads.find(bucket, query.key, upload)
    signer = await _signer(caller, accounts, door, settings)
    origin = request.header("origin")
    return [
        PartLink(
            number,
            signer.url("PUT", bucket, query.key, 3_600, [("partNumber", str(number)), ("uploadId", upload)], origin),
        )
        for number in body.numbers
    ]


@routes.post("/buckets/{bucket}/uploads/{upload}", problems=(ObjectsError, Forbidden))
async def complete_upload(
    bucket: Name, upload: str, body: Completion, query: UploadQuery, caller: Caller, door: Door, objects: Objects
) -> ObjectView:
    """Makes the object of its parts."""
    await may(door, caller, bucket, "s3:PutObject", query.key)
    wanted = [Wanted(one.number, one.etag) for one in body.parts]
    return views.of_object(await objects.uploads.complete(bucket, query.key, upload, wanted))


@routes.delete("/buckets/{bucket}/uploads/{upload}", problems=(ObjectsError, Forbidden))
async def abort_upload(
    bucket: Name, upload: str, query: UploadQuery, caller: Caller, door: Door, objects: Objects
) -> None:
    """Forgets an upload and its parts."""
    await may(door, caller, bucket, "s3:AbortMultipartUpload", query.key)
    await objects.uploads.abort(bucket, query.key, upload)


@routes.post("/buckets/{bucket}/presign", scope="objects:read", problems=(ObjectsError, Forbidden, Unavailable))
async def presign(
    bucket: Name,
    body: PresignWanted,
    request: Request,
    caller: Caller,
    door: Door,
    accounts: Accounts,
    settings: ObjectsSettings,
) -> Presigned:
    """A URL at the S3 door that whoever has it may use until it expires, or the key pair behind it is revoked."""
    action = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}[
        body.method
    ]
    await may(door, caller, bucket, action, body.key)
    signer = await _signer(caller, accounts, door, settings)
    query = [("versionId", body.version)] if body.version else []
    origin = request.header("origin") if body.method == "PUT" else None
    url = signer.url(body.method, bucket, body.key, body.expires_s, query, origin)
    return Presigned(url, views.moment(int((signer.now_s + body.expires_s) * 1_000_000)))


class _Signer(msgspec.Struct, frozen=True):
    """Signs URLs for a key pair, all at one moment."""

    base: str
    scope: sigv4.Scope
    secret_key: str
    now_s: float

    def url(
        self, method: str, bucket: str, key: str, expires_s: int, query: list[tuple[str, str]], origin: str | None
    ) -> str:
        """`origin`: pages from there may use it as well."""
        path, host = f"/{bucket}/{quote(key, safe='/~')}", urlsplit(self.base).netloc
        named = [*query, (SIGNED_ORIGIN, origin)] if origin else query
        return self.base + sigv4.presign(method, host, path, self.scope, self.secret_key, self.now_s, expires_s, named)


async def _signer(caller: Caller, accounts: Accounts, door: Door, settings: ObjectsSettings) -> _Signer:
    if not settings.public_url:
        raise Unavailable("The S3 listener is off; `mainspring systems` says why", retry_after_s=60)
    pair, now_s = await _pair_of(caller, accounts), door.clock.wall_ns() / 1e9
    scope = sigv4.Scope(pair.access_key, sigv4.date_of(now_s)[:8], door.region, "s3")
    return _Signer(settings.public_url.rstrip("/"), scope, pair.secret_key, now_s)


async def _pair_of(caller: Caller, accounts: Accounts) -> KeyPair:
    """The caller's own key pair, or, for who signed in, one that is kept for shared links and can be revoked."""
    if caller.kind == "token" and caller.token_id is not None:
        pair = await accounts.key_pairs.find(access_key_of(caller.token_id))
    else:
        assert caller.account_id is not None
        pair = await accounts.key_pairs.named(caller.account_id, LINKS_TOKEN)
        if pair is None:
            await accounts.create_token(caller, LINKS_TOKEN, ["objects:*"])
            pair = await accounts.key_pairs.named(caller.account_id, LINKS_TOKEN)
    if pair is None:
        raise Forbidden("These credentials have no key pair")
    return pair


@routes.get("/buckets/{bucket}/policy", problems=(ObjectsError, Forbidden))
async def get_policy(bucket: Name, caller: Caller, door: Door) -> Policy:
    """The bucket's policy; an empty text where it has none."""
    _, view = await may(door, caller, bucket, "s3:GetBucketPolicy")
    return Policy(view.documents.get("policy", b"").decode("utf-8", "replace"))


@routes.put("/buckets/{bucket}/policy", problems=(ObjectsError, Forbidden, Invalid))
async def put_policy(bucket: Name, body: Policy, caller: Caller, door: Door, objects: Objects) -> Policy:
    """Sets the policy, or with an empty text takes it away."""
    _, view = await may(door, caller, bucket, "s3:PutBucketPolicy")
    text = body.policy.strip().encode()
    if text and _compiled(text, bucket).public and view.block.block_policy:
        raise Forbidden("Public policies are blocked by the bucket's public access block")
    await objects.set_setting(bucket, "policy", text or None)
    door.buckets.forget(bucket)
    return Policy(text.decode())


@routes.post("/policy/simulate", scope="objects:read", problems=(ObjectsError, Forbidden, Invalid))
async def simulate(body: Simulation, caller: Caller, door: Door) -> Verdict:
    """Would this be allowed, and by which statement? With the policy given, or the bucket's own; nothing is changed."""
    _, view = await may(door, caller, body.bucket, "s3:GetBucketPolicy")
    if body.policy is not None:
        text = body.policy.strip().encode()
        policy = _compiled(text, body.bucket) if text else None
        view = msgspec.structs.replace(view, policy=policy)
    if not body.principal:
        identity = ANONYMOUS
    elif body.principal == "me":
        identity = door.identities.of_caller(caller)
    else:
        identity = given(body.principal)
    values = {name.lower(): value for name, value in body.context.items()}
    verdict = access.decide(
        identity, body.action, view, body.key, Context(lambda key: (values[key],) if key in values else None)
    )
    return Verdict(verdict.allowed, verdict.by, verdict.statement)


def _compiled(text: bytes, bucket: str) -> CompiledPolicy:
    try:
        return compile_policy(text, bucket)
    except S3Error as wrong:
        raise Invalid(wrong.detail, pointer="/body/policy") from None
