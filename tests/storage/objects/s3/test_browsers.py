"""What browsers need of S3: cross-origin rules with preflight, forms with signed policies, static sites, virtual hosts."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.storage.objects.s3.raw import Reply, Signer, send
from tests.storage.objects.s3.running import Running, aside

CORS = b"""<CORSConfiguration>
<CORSRule><AllowedOrigin>https://*.example.org</AllowedOrigin><AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod>
<AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>content-type</AllowedHeader><ExposeHeader>ETag</ExposeHeader>
<MaxAgeSeconds>600</MaxAgeSeconds></CORSRule>
<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"""


@pytest.fixture
async def s3(running: Running) -> Signer:
    signer = Signer(running)
    assert (await signer.send("PUT", "/pages")).status == 200
    return signer


async def ask(s3: Signer, origin: str, method: str, headers: str = "") -> Reply:
    given = {"host": s3.host, "origin": origin, "access-control-request-method": method}
    return await send(
        s3.running, "OPTIONS", "/pages/k", {**given, **({"access-control-request-headers": headers} if headers else {})}
    )


async def test_a_preflight_is_answered_as_the_rules_say(s3: Signer) -> None:
    assert (await ask(s3, "https://a.example.org", "PUT")).code == "AccessForbidden"
    assert (await s3.send("PUT", "/pages", query=[("cors", "")], body=CORS)).status == 200
    allowed = await ask(s3, "https://a.example.org", "PUT", "Content-Type, x-amz-date")
    assert (allowed.status, allowed.headers["access-control-allow-origin"]) == (200, "https://a.example.org")
    assert allowed.headers["access-control-allow-headers"] == "Content-Type, x-amz-date"
    assert allowed.headers["access-control-max-age"] == "600"
    assert (await ask(s3, "https://elsewhere", "GET")).headers["access-control-allow-origin"] == "*"
    for origin, method, headers in (
        ("https://elsewhere", "PUT", ""),
        ("https://a.example.org", "DELETE", ""),
        ("https://a.example.org", "PUT", "authorization"),
    ):
        assert (await ask(s3, origin, method, headers)).status == 403


async def test_an_answer_tells_whom_it_may_be_shown(s3: Signer) -> None:
    await s3.send("PUT", "/pages", query=[("cors", "")], body=CORS)
    put = await s3.send("PUT", "/pages/k", body=b"hello", headers={"origin": "https://a.example.org"})
    assert (put.headers["access-control-allow-origin"], put.headers["access-control-expose-headers"]) == (
        "https://a.example.org",
        "ETag",
    )
    got = await s3.send("GET", "/pages/k", headers={"origin": "https://elsewhere"})
    assert got.headers["access-control-allow-origin"] == "*"
    refused = await s3.send("GET", "/pages/none", headers={"origin": "https://elsewhere"})
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (404, "*")
    assert "access-control-allow-origin" not in (await s3.send("GET", "/pages/k")).headers


def form(fields: dict[str, str], file: bytes, name: str = "a b.txt") -> tuple[str, bytes]:
    parts = [
        f'--mark\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()
    ]
    parts.append(
        f'--mark\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'
    )
    return "multipart/form-data; boundary=mark", "".join(parts).encode() + file + b"\r\n--mark--\r\n"


async def post(s3: Signer, fields: dict[str, str], file: bytes) -> Reply:
    kind, body = form(fields, file)
    return await send(
        s3.running, "POST", "/pages", {"host": s3.host, "content-type": kind, "content-length": str(len(body))}, body
    )


async def presigned(
    running: Running, key: str, conditions: list[Any], fields: dict[str, str], expires_s: int = 600
) -> dict[str, str]:
    made = await aside(
        running.client().generate_presigned_post,
        "pages",
        key,
        Fields=fields,
        Conditions=conditions,
        ExpiresIn=expires_s,
    )
    found: dict[str, str] = made["fields"]
    return found


async def test_a_form_stores_what_its_policy_allows(running: Running, s3: Signer) -> None:
    fields = {"content-type": "text/plain", "x-amz-meta-from": "a form", "success_action_status": "201"}
    conditions: list[Any] = [{name: value} for name, value in fields.items()]
    signed = await presigned(running, "up/${filename}", [*conditions, ["content-length-range", 1, 10]], fields)
    stored = await post(s3, signed, b"hello")
    assert (stored.status, b"<Key>up/a b.txt</Key>" in stored.body) == (201, True)
    got = await s3.send("GET", "/pages/up/a%20b.txt")
    assert (got.body, got.headers["content-type"], got.headers["x-amz-meta-from"]) == (b"hello", "text/plain", "a form")
    for file, code in ((b"", "EntityTooSmall"), (b"x" * 11, "EntityTooLarge")):
        assert (await post(s3, signed, file)).code == code
    for changed in ({**signed, "content-type": "text/html"}, {**signed, "x-amz-meta-more": "x"}):
        refused = await post(s3, changed, b"hello")
        assert (refused.status, refused.code) == (403, "AccessDenied")
    forged = await post(s3, {**signed, "x-amz-signature": "0" * 64}, b"hello")
    assert (forged.status, forged.code) == (403, "SignatureDoesNotMatch")


async def test_a_form_that_has_expired_or_is_none(running: Running, s3: Signer) -> None:
    late = await presigned(running, "k", [], {}, expires_s=-5)
    assert (await post(s3, late, b"hello")).code == "AccessDenied"
    assert (await post(s3, {"key": "k"}, b"hello")).code == "AccessDenied"
    assert (await post(s3, {"acl": "private"}, b"hello")).code == "InvalidArgument"
    signed = await presigned(running, "k", [], {})
    assert (await post(s3, {**signed, "policy": "bm90IGpzb24="}, b"hello")).code == "SignatureDoesNotMatch"
    assert (await post(s3, {"key": "k", "x": "y" * 21_000}, b"hello")).code == "MaxPostPreDataLengthExceededError"
    cut = await send(
        s3.running,
        "POST",
        "/pages",
        {"host": s3.host, "content-type": "multipart/form-data; boundary=mark", "content-length": "6"},
        b"--mark",
    )
    assert cut.status == 400
    listed = await s3.send("GET", "/pages", query=[("list-type", "2")])
    assert b"<KeyCount>0</KeyCount>" in listed.body


async def test_a_form_can_send_its_visitor_on(running: Running, s3: Signer) -> None:
    fields = {"success_action_redirect": "https://example.org/done?x=1"}
    signed = await presigned(running, "k", [fields], fields)
    reply = await post(s3, signed, b"hello")
    assert reply.status == 303
    assert reply.headers["location"].startswith("https://example.org/done?x=1&bucket=pages&key=k&etag=%22")


WEBSITE = b"""<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument>
<ErrorDocument><Key>error.html</Key></ErrorDocument><RoutingRules>
<RoutingRule><Condition><KeyPrefixEquals>old/</KeyPrefixEquals></Condition>
<Redirect><ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith></Redirect></RoutingRule>
<RoutingRule><Condition><HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals><KeyPrefixEquals>gone/</KeyPrefixEquals></Condition>
<Redirect><HostName>example.org</HostName><ReplaceKeyWith>gone.html</ReplaceKeyWith><HttpRedirectCode>302</HttpRedirectCode></Redirect></RoutingRule>
</RoutingRules></WebsiteConfiguration>"""


async def test_a_bucket_is_a_site(s3: Signer) -> None:
    async def visit(path: str, **headers: str) -> Reply:
        return await send(s3.running, "GET", path, {"host": "pages.s3-website.localhost:80", **headers})

    assert (await visit("/")).status == 404
    assert (await s3.send("PUT", "/pages", query=[("website", "")], body=WEBSITE)).status == 200
    for key, text in (
        ("index.html", "home"),
        ("folder/index.html", "folder"),
        ("error.html", "sorry"),
        ("new/k", "new"),
    ):
        await s3.send("PUT", f"/pages/{key}", body=text.encode(), headers={"content-type": "text/html"})
    assert (await visit("/")).status == 403
    policy = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"]}
    statement = {**policy, "Resource": ["arn:aws:s3:::pages", "arn:aws:s3:::pages/*"]}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    assert (await s3.send("PUT", "/pages", query=[("policy", "")], body=document)).status == 204
    home = await visit("/")
    assert (home.status, home.body, home.headers["content-type"]) == (200, b"home", "text/html")
    assert (await visit("/folder/")).body == b"folder"
    moved = await visit("/folder")
    assert (moved.status, moved.headers["location"]) == (302, "/folder/")
    missing = await visit("/none")
    assert (missing.status, missing.body) == (404, b"sorry")
    old = await visit("/old/k")
    assert (old.status, old.headers["location"]) == (301, "http://pages.s3-website.localhost:80/new/k")
    gone = await visit("/gone/k")
    assert (gone.status, gone.headers["location"]) == (302, "http://example.org/gone.html")
    assert (await visit("/", **{"if-none-match": home.headers["etag"]})).status == 304


async def test_a_bucket_is_a_host(s3: Signer) -> None:
    virtual = Signer(s3.running)
    virtual.host = f"pages.s3.localhost:{s3.host.rpartition(':')[2]}"
    assert (await virtual.send("PUT", "/a/b", body=b"hello")).status == 200
    assert (await virtual.send("GET", "/a/b")).body == b"hello"
    assert (await s3.send("GET", "/pages/a/b")).body == b"hello"
    assert b"<Key>a/b</Key>" in (await virtual.send("GET", "/")).body


async def test_a_response_header_is_overridden_by_who_signs(s3: Signer) -> None:
    await s3.send("PUT", "/pages/k", body=b"hello")
    query = [("response-content-disposition", "attachment; filename=x"), ("response-content-type", "text/x")]
    got = await s3.send("GET", "/pages/k", query=query)
    assert (got.headers["content-disposition"], got.headers["content-type"]) == ("attachment; filename=x", "text/x")
    stranger = await send(s3.running, "GET", "/pages/k?response-content-type=text/x", {"host": s3.host})
    assert stranger.status in (400, 403)


async def test_a_client_may_wait_to_be_told_to_go_on(s3: Signer) -> None:
    put = await s3.send("PUT", "/pages/k", body=b"hello", headers={"expect": "100-continue"})
    assert put.status == 200 or put.status == 100
    assert (await s3.send("GET", "/pages/k")).body == b"hello"


async def test_requests_are_logged_into_the_bucket_that_is_named(running: Running, s3: Signer) -> None:
    from mainspring.storage.objects.s3.door import Door

    await s3.send("PUT", "/logs")
    target = "<TargetBucket>logs</TargetBucket><TargetPrefix>access/</TargetPrefix>"
    document = f"<BucketLoggingStatus><LoggingEnabled>{target}</LoggingEnabled></BucketLoggingStatus>".encode()
    assert (await s3.send("PUT", "/pages", query=[("logging", "")], body=document)).status == 200
    bad = document.replace(b"logs", b"none")
    assert (await s3.send("PUT", "/pages", query=[("logging", "")], body=bad)).code == "InvalidTargetBucketForLogging"
    await s3.send("PUT", "/pages/k%20%0a", body=b"hello", headers={"user-agent": 'a "quoted" agent'})
    await s3.send("GET", "/pages/none")
    door = await running.mainspring.service(Door)
    await door.access_log.flush()
    listed = await s3.send("GET", "/logs", query=[("list-type", "2"), ("prefix", "access/")])
    key = listed.body.partition(b"<Key>")[2].partition(b"</Key>")[0].decode()
    lines = (await s3.send("GET", f"/logs/{key}")).body.decode().splitlines()
    put = next(line for line in lines if "REST.PUT.OBJECT" in line)
    assert "k%20%0A" in put
    assert '"a _quoted_ agent"' in put
    assert any("REST.GET.OBJECT" in line and " 404 NoSuchKey " in line for line in lines)


@pytest.mark.parametrize("source", ["EventTime", "DeliveryTime"])
async def test_log_objects_lie_in_folders_of_account_region_bucket_and_day_where_that_is_asked(
    running: Running, s3: Signer, source: str
) -> None:
    from mainspring.storage.objects.s3.door import Door

    await s3.send("PUT", "/logs")
    form = f"<PartitionedPrefix><PartitionDateSource>{source}</PartitionDateSource></PartitionedPrefix>"
    target = "<TargetBucket>logs</TargetBucket><TargetPrefix>a/</TargetPrefix>"
    target += f"<TargetObjectKeyFormat>{form}</TargetObjectKeyFormat>"
    document = f"<BucketLoggingStatus><LoggingEnabled>{target}</LoggingEnabled></BucketLoggingStatus>".encode()
    assert (await s3.send("PUT", "/pages", query=[("logging", "")], body=document)).status == 200
    assert form in (await s3.send("GET", "/pages", query=[("logging", "")])).body.decode()
    before = datetime.now(UTC)
    await s3.send("PUT", "/pages/k", body=b"hello")
    await (await running.mainspring.service(Door)).access_log.flush()
    listed = (await s3.send("GET", "/logs", query=[("list-type", "2")])).body.decode()
    found = re.fullmatch(
        r"a/000000000001/us-east-1/pages/(\d{4}/\d\d/\d\d)/(\d{4}-\d\d-\d\d)-(\d\d-\d\d-\d\d)-[0-9A-F]{16}",
        listed.partition("<Key>")[2].partition("</Key>")[0],
    )
    assert found is not None and found[1] == found[2].replace("-", "/")
    assert found[2] in {f"{at:%Y-%m-%d}" for at in (before, datetime.now(UTC))}
    if source == "EventTime":
        assert found[3] == "00-00-00"
    else:
        delivered = datetime.fromisoformat(f"{found[2]}T{found[3].replace('-', ':')}Z")
        assert before - timedelta(seconds=1) <= delivered <= datetime.now(UTC)


async def test_lifecycle_rules_are_checked_kept_and_given_back(running: Running, s3: Signer) -> None:
    def tour() -> None:
        client = running.client()
        rule = {
            "ID": "old",
            "Status": "Enabled",
            "Filter": {"And": {"Prefix": "tmp/", "Tags": [{"Key": "a", "Value": "b"}]}},
            "Expiration": {"Days": 3},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 2, "NewerNoncurrentVersions": 1},
        }
        client.put_bucket_lifecycle_configuration(Bucket="pages", LifecycleConfiguration={"Rules": [rule]})
        assert client.get_bucket_lifecycle_configuration(Bucket="pages")["Rules"] == [rule]

    await aside(tour)
    for wrong, code in (
        (b"<Rule><Status>On</Status></Rule>", "MalformedXML"),
        (b"<Rule><Status>Enabled</Status></Rule>", "InvalidRequest"),
        (b"<Rule><Status>Enabled</Status><Expiration><Days>0</Days></Expiration></Rule>", "InvalidArgument"),
        (
            b"<Rule><Status>Enabled</Status><Expiration><Date>2026-01-01T01:00:00Z</Date></Expiration></Rule>",
            "InvalidArgument",
        ),
    ):
        document = b"<LifecycleConfiguration>" + wrong + b"</LifecycleConfiguration>"
        assert (await s3.send("PUT", "/pages", query=[("lifecycle", "")], body=document)).code == code
    assert (await s3.send("DELETE", "/pages", query=[("lifecycle", "")])).status == 204
    assert (await s3.send("GET", "/pages", query=[("lifecycle", "")])).code == "NoSuchLifecycleConfiguration"
