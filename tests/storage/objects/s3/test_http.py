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

    def __call__(self, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Any:
        answer = self.bytes(method, path, json.dumps(body).encode() if body is not None else raw, raw is None)
        return json.loads(answer) if answer else None

    def bytes(self, method: str, path: str, body: bytes | None = None, as_json: bool = True) -> bytes:
        kind = "application/json" if as_json else "text/plain"
        request = urllib.request.Request(
            f"{self._address}api/objects/{path}",
            body,
            {"authorization": f"Bearer {self._token}", "content-type": kind},
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
        upload = api("POST", "buckets/parts/uploads", {"key": "large"})["upload"]
        api("PUT", f"buckets/parts/uploads/{upload}/1?key=large", raw=b"a" * size)
        known = api("GET", f"buckets/parts/uploads/{upload}?key=large")["parts"]
        assert [(one["number"], one["size_bytes"]) for one in known] == [(1, size)]
        last = api("PUT", f"buckets/parts/uploads/{upload}/2?key=large", raw=b"b")
        parts = [{"number": one["number"], "etag": one["etag"]} for one in (*known, last)]
        assert api("POST", f"buckets/parts/uploads/{upload}?key=large", {"parts": parts})["size_bytes"] == size + 1

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
        assert api("POST", "heal") == {"waiting": 0, "healed": 0, "lost": 0}
        assert api("GET", "heal")["waiting"] == 0
        assert api("POST", "scrub")["bad"] == 0
        assert api("GET", "usage")["live_bytes"] == 5
        for number, status in ((disk["id"], 409), (99, 404)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                api("POST", f"disks/{number}/drain")
            assert refused.value.code == status

    await aside(tour)
