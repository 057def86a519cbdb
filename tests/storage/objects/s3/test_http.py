"""The JSON API: the same buckets and the same rules as at the S3 door, for a page and for scripts."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

import pytest

from tests.storage.objects.s3.running import Running, aside


class Api:
    """Calls the JSON API of a running application with its one-click token."""

    def __init__(self, running: Running) -> None:
        self._address = running.mainspring.address
        self._token = running.mainspring.one_click

    def __call__(self, method: str, path: str, body: Any = None, raw: bytes | None = None, **headers: str) -> Any:
        given = json.dumps(body).encode() if body is not None else raw
        answer = self.bytes(method, path, given, raw is None, **headers)
        return json.loads(answer) if answer else None

    def bytes(self, method: str, path: str, body: bytes | None = None, as_json: bool = True, **headers: str) -> bytes:
        kind = "application/json" if as_json else "text/plain"
        request = urllib.request.Request(
            f"{self._address}api/objects/{path}",
            body,
            {"authorization": f"Bearer {self._token}", "content-type": kind, **headers},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
        return content


async def test_a_bucket_is_made_filled_listed_and_read(running: Running) -> None:
    def tour() -> None:
        api = Api(running)
        made = api("POST", "buckets", {"name": "page", "versioning": True})
        assert (made["versioning"], made["lock"]) == ("enabled", False)
        key = quote("folder/a b.txt", safe="")
        first = api("PUT", f"buckets/page/objects/{key}", raw=b"one")
        api("PUT", f"buckets/page/objects/{key}", raw=b"two")
        top = api("GET", "buckets/page/objects?delimiter=/")
        assert (top["objects"], top["folders"]) == ([], ["folder/"])
        below = api("GET", "buckets/page/objects?delimiter=/&prefix=folder/")
        assert [one["key"] for one in below["objects"]] == ["folder/a b.txt"]
        assert api.bytes("GET", f"buckets/page/objects/{key}") == b"two"
        assert api.bytes("GET", f"buckets/page/objects/{key}?version={first['version']}") == b"one"
        versions = api("GET", f"buckets/page/objects/{key}/versions")
        assert [one["latest"] for one in versions] == [True, False]
        api("POST", "buckets/page/restore", {"key": "folder/a b.txt", "version": first["version"]})
        assert api.bytes("GET", f"buckets/page/objects/{key}") == b"one"
        s3 = running.client()
        assert s3.get_object(Bucket="page", Key="folder/a b.txt")["Body"].read() == b"one"
        assert [one["name"] for one in api("GET", "buckets")] == ["page"]

    await aside(tour)


async def test_an_upload_in_parts_goes_on_where_it_ended(running: Running) -> None:
    def tour() -> None:
        api, size = Api(running), 5 << 20
        api("POST", "buckets", {"name": "parts"})
        upload = api("POST", "buckets/parts/uploads", {"key": "a b/large"})["upload"]
        path = f"buckets/parts/uploads/{upload}"
        first, last = api("POST", f"{path}/links?key=a%20b/large", {"numbers": [1, 2]})
        assert (first["number"], last["number"]) == (1, 2) and first["url"].startswith(f"{running.address}/parts/")
        put(first["url"], b"a" * size)
        known = api("GET", f"{path}?key=a%20b/large")["parts"]
        assert [(one["number"], one["size_bytes"]) for one in known] == [(1, size)]
        put(last["url"], b"b")
        parts = api("GET", f"{path}?key=a%20b/large")["parts"]
        wanted = [{"number": one["number"], "etag": one["etag"]} for one in parts]
        assert api("POST", f"{path}?key=a%20b/large", {"parts": wanted})["size_bytes"] == size + 1
        for asked in ("other", "a%20b/large"):  # another key's, and one that is complete
            with pytest.raises(urllib.error.HTTPError, match="404"):
                api("POST", f"{path}/links?key={asked}", {"numbers": [1]})

    await aside(tour)


def put(url: str, body: bytes, **headers: str) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PUT"), timeout=30).headers


async def test_a_link_that_a_page_asked_for_is_of_use_to_pages_of_its_origin_alone(running: Running) -> None:
    def asked(url: str, method: str, **headers: str) -> tuple[int, str | None]:
        request = urllib.request.Request(url, None if method == "OPTIONS" else b"x", headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["access-control-allow-origin"]
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers["access-control-allow-origin"]

    def tour() -> None:
        api, ours, other = Api(running), "http://console.example", "http://evil.example"
        api("POST", "buckets", {"name": "page"})
        url = api("POST", "buckets/page/presign", {"key": "k", "method": "PUT"}, origin=ours)["url"]
        preflight = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
        assert asked(url, "OPTIONS", Origin=ours, **preflight) == (200, ours)
        assert asked(url, "PUT", Origin=ours) == (200, ours)
        assert asked(url, "OPTIONS", Origin=other, **preflight) == (403, None)
        assert asked(url, "PUT", Origin=other) == (200, None)
        # Whoever writes another origin into it has a URL that nobody signed.
        forged = url.replace(quote(ours, safe=""), quote(other, safe=""))
        assert asked(forged, "PUT", Origin=other) == (403, None)
        unsigned = f"{running.address}/page/k?x-mainspring-origin={quote(other, safe='')}&X-Amz-Signature=0"
        assert asked(unsigned, "PUT", Origin=other)[1] is None
        read = api("POST", "buckets/page/presign", {"key": "k"}, origin=ours)["url"]
        assert "x-mainspring-origin" not in read and asked(read, "GET", Origin=ours) == (200, None)

    await aside(tour)


async def test_a_shared_link_works_without_credentials_until_its_key_is_revoked(running: Running) -> None:
    def share() -> str:
        api = Api(running)
        api("POST", "buckets", {"name": "shared"})
        api("PUT", "buckets/shared/objects/k", raw=b"hello")
        link: str = api("POST", "buckets/shared/presign", {"key": "k", "expires_s": 600})["url"]
        with urllib.request.urlopen(link, timeout=30) as answer:
            assert answer.read() == b"hello"
        assert api("POST", "buckets/shared/presign", {"key": "k"})["url"].startswith(running.address)
        return link

    link = await aside(share)
    accounts = running.mainspring.accounts
    from mainspring.core.accounts.model import OPERATOR

    tokens = await accounts.tokens(OPERATOR, 1)
    (shared,) = [one for one in tokens if "links" in one.name]
    await accounts.revoke_token(OPERATOR, shared.id)
    with pytest.raises(urllib.error.HTTPError) as refused:
        await aside(urllib.request.urlopen, link, timeout=30)
    assert refused.value.code == 403


async def test_the_simulator_says_what_decides_and_by_which_statement(running: Running) -> None:
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Read",
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::s/*",
            },
            {
                "Sid": "NotFromThere",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": "arn:aws:s3:::s/*",
                "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}},
            },
        ],
    }

    def tour() -> None:
        api = Api(running)
        api("POST", "buckets", {"name": "sim"})
        text = json.dumps(policy).replace(":::s/", ":::sim/")
        asked = {"bucket": "sim", "action": "s3:GetObject", "key": "k", "policy": text}
        assert api("POST", "policy/simulate", asked) == {"allowed": True, "by": "policy", "statement": "Read"}
        denied = api("POST", "policy/simulate", {**asked, "context": {"aws:SourceIp": "10.1.2.3"}})
        assert denied == {"allowed": False, "by": "policy", "statement": "NotFromThere"}
        assert api("POST", "policy/simulate", {**asked, "action": "s3:PutObject"})["by"] == "nobody"
        assert api("POST", "policy/simulate", {**asked, "policy": None, "principal": "me"})["by"] == "owner"
        with pytest.raises(urllib.error.HTTPError) as wrong:
            api("PUT", "buckets/sim/policy", {"policy": "{}"})
        assert wrong.value.code == 422
        api("PUT", "buckets/sim/policy", {"policy": text})
        assert json.loads(api("GET", "buckets/sim/policy")["policy"])["Version"] == "2012-10-17"
        with urllib.request.urlopen(f"{running.address}/sim/none", timeout=30):
            raise AssertionError("there is no such object")

    with pytest.raises(urllib.error.HTTPError) as missing:
        await aside(tour)
    assert missing.value.code == 403


async def test_disks_are_shown_healed_and_scrubbed(running: Running) -> None:
    def tour() -> None:
        api = Api(running)
        api("POST", "buckets", {"name": "disks"})
        api("PUT", "buckets/disks/objects/k", raw=b"hello")
        (disk,) = api("GET", "disks")
        assert (disk["state"], disk["total_bytes"] > 0) == ("live", True)
        healed = api("POST", "heal")
        assert (healed["waiting"], healed["healed"], healed["lost"], healed["bad_shards"]) == (0, 0, 0, 0)
        assert api("GET", "heal")["waiting"] == 0
        assert api("POST", "scrub")["bad"] == 0
        assert api("GET", "usage")["live_bytes"] == 5
        for number, status in ((disk["id"], 409), (99, 404)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                api("POST", f"disks/{number}/drain")
            assert refused.value.code == status

    await aside(tour)
