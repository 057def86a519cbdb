"""Buckets as static sites: index documents, error documents, redirects by rule, for whoever may read the objects.

Asked at `BUCKET.s3-website.DOMAIN`, without signatures. Pages of ours escape everything that a visitor sent.
"""

from html import escape

from mainspring.core.problems import Problem
from mainspring.storage.objects.errors import NoSuchKey
from mainspring.storage.objects.s3 import access, headers
from mainspring.storage.objects.s3.answers import Answer, Header
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error, told
from mainspring.storage.objects.s3.object_handlers import acl_of
from mainspring.storage.objects.s3.routing import Operation
from mainspring.storage.objects.s3.website_rules import Redirect, Website, of_document

POLICY: Header = (b"content-security-policy", b"default-src 'none'")


async def serve(call: Call) -> Answer:
    """The page that a visitor asks for."""
    call.operation = Operation("WebsiteGet", "", serve)
    call.view = view = await call.door.buckets.view(call.bucket)
    document = view.documents.get("website")
    if not document:
        raise S3Error("NoSuchWebsiteConfiguration", BucketName=call.bucket)
    site = of_document(document)
    if site.everything is not None:
        return _redirected(call, site.everything)
    for rule in site.rules:
        if rule.error is None and call.key.startswith(rule.prefix):
            return _redirected(call, rule.redirect, rule.prefix)
    key = call.key + site.index if not call.key or call.key.endswith("/") else call.key
    try:
        return await _page(call, key, 200)
    except Problem as problem:
        return await _missing(call, site, key, problem)


async def _page(call: Call, key: str, status: int) -> Answer:
    view = call.view
    assert view is not None
    if view.enforced:
        access.check(call, "s3:GetObject", key)
    condition = headers.read_if(call) if status == 200 else None
    wanted = headers.byte_range(call.header(b"range")) if status == 200 else None
    try:
        reader = await call.objects.get(call.bucket, key, wanted, condition=condition)
    except NoSuchKey:
        if not access.allowed(call, "s3:ListBucket", ""):
            raise S3Error("AccessDenied") from None
        raise
    if not view.enforced:
        access.check(call, "s3:GetObject", key, acl_of(reader.object))
    location = reader.object.headers.get("x-amz-website-redirect-location")
    if location is not None and status == 200:
        return Answer(301, [(b"location", headers.encoded(location))])
    shown = headers.of_object(reader.object, checksums=False, private=False)
    if wanted is not None:
        status = 206
        shown.append((b"content-range", b"bytes %d-%d/%d" % (reader.start, reader.stop - 1, reader.object.size)))
    return Answer(status, shown, aiter(reader), b"", reader.length)


async def _missing(call: Call, site: Website, key: str, problem: Problem) -> Answer:
    """What a visitor gets in place of a page: a folder's address, a rule's redirect, the site's own error page, or ours."""
    status, _, _ = told(problem)
    if status == 304:
        raise problem
    if status in (403, 404) and not call.key.endswith("/") and call.key:
        try:
            access.check(call, "s3:GetObject", f"{key}/{site.index}")
            await call.objects.head(call.bucket, f"{key}/{site.index}")
        except Problem:
            status = told(problem)[0]
        else:
            return Answer(
                302, [(b"location", headers.encoded(Redirect().location("", "", f"{key}/").removeprefix("://")))]
            )
    for rule in site.rules:
        if rule.error == status and call.key.startswith(rule.prefix):
            return _redirected(call, rule.redirect, rule.prefix)
    if site.error and 400 <= status < 500:
        try:
            return await _page(call, site.error, status)
        except Problem:
            return refusal(call, problem)
    raise problem


def _redirected(call: Call, redirect: Redirect, prefix: str = "") -> Answer:
    scheme = "https" if call.secure else "http"
    host = (call.header(b"host") or "").replace("/", "")
    return Answer(redirect.code, [(b"location", headers.encoded(redirect.location(scheme, host, call.key, prefix)))])


def refusal(call: Call, problem: Problem) -> Answer:
    """A problem as a page."""
    status, code, message = told(problem)
    body = (
        f"<!doctype html><html><head><title>{status} {code}</title></head><body><h1>{status} {code}</h1><ul>"
        f"<li>Code: {escape(code)}</li><li>Message: {escape(message)}</li>"
        f"<li>RequestId: {call.request_id}</li></ul></body></html>"
    )
    return Answer(status, [POLICY, (b"x-content-type-options", b"nosniff")], body.encode(), b"text/html; charset=utf-8")
