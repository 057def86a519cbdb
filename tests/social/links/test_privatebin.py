"""The PrivateBin dialect: its own clients work against it, and whatever is wrong is answered in its words."""

import asyncio
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mainspring.core.clock import VirtualClock
from mainspring.core.ports import Database
from mainspring.social.links import LinksSettings
from mainspring.social.links.paste_model import COMMENT_BYTES_MAX
from tests.asgi import Called
from tests.social.links.conftest import GENEROUS, Listener, Start, listening
from tests.social.links.peers import python_packages
from tests.social.links.sealing import JSON_HEADERS, adata, cipher, deflated, encrypted, envelope, seal, unseal

KEY = bytes(range(32))
NOT_THERE = {"status": 1, "message": "Document does not exist, has expired or has been deleted."}
INVALID = {"status": 1, "message": "Invalid data."}
OPEN = msgspec.structs.replace(GENEROUS, anonymous_per_minute=1_000_000)
PBINCLI = "pbincli==0.3.7"
PATIENCE_S = 120
EMBEDDED = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For clients: that the dialect is the same on both databases is for the tests without one to show."""


@pytest.fixture
async def bin(start: Start, database: Database) -> AsyncIterator[Listener]:
    """The listener, which takes as many pastes as a test likes."""
    async with listening(database, await start(msgspec.structs.replace(OPEN))) as listener:
        yield listener


@pytest.fixture
async def served(bin: Listener) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(bin.server, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    for connection in list(bin.server.connections):
        connection.cut()


async def post(bin: Listener, body: Any, *, token: str | None = None) -> dict[str, Any]:
    return msgspec.convert((await send(bin, body, token=token)).json(), dict[str, Any])


async def send(bin: Listener, body: Any, *, token: str | None = None) -> Called:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    answer = await bin.visit("/", "POST", body=raw, headers=JSON_HEADERS, token=token)
    assert answer.status == 200 and answer.headers["content-type"] == "application/json"
    return answer


async def get(bin: Listener, id: str) -> dict[str, Any]:
    answer = await bin.visit(f"/?{id}", headers=JSON_HEADERS)
    assert answer.status == 200 and answer.headers["cache-control"] == "no-store"
    return msgspec.convert(answer.json(), dict[str, Any])


async def test_an_envelope_comes_back_as_it_was_sent(bin: Listener) -> None:
    sent = envelope("Grüße", KEY, formatter="markdown", expire="5min")
    made = await post(bin, sent)
    assert made == {"status": 0, "id": made["id"], "url": f"/?{made['id']}", "deletetoken": made["deletetoken"]}
    for _ in range(2):
        found = await get(bin, made["id"])
        assert (found["adata"], found["ct"], found["v"]) == (sent["adata"], sent["ct"], 2)
        assert 0 < found["meta"]["time_to_live"] <= 300
        assert (found["comments"], found["comment_count"]) == ([], 0)
        assert unseal(found["ct"], found["adata"], KEY) == {"paste": "Grüße"}
    assert (await get(bin, (await post(bin, envelope("x", KEY, expire="never")))["id"]))["meta"] == {}


async def test_whoever_reads_a_burning_paste_first_is_the_only_one(bin: Listener) -> None:
    id = (await post(bin, envelope("once", KEY, burn=1)))["id"]
    assert (await bin.visit(f"/?{id}", "HEAD", headers=JSON_HEADERS)).status == 200
    answers = await asyncio.gather(*(get(bin, id) for _ in range(50)))
    read = [one for one in answers if one["status"] == 0]
    assert len(read) == 1 and unseal(read[0]["ct"], read[0]["adata"], KEY) == {"paste": "once"}
    assert read[0]["meta"]["time_to_live"] > 0
    assert all(one == NOT_THERE for one in answers if one is not read[0])


async def test_a_browser_gets_a_page_that_burns_nothing(bin: Listener) -> None:
    id = (await post(bin, envelope("once", KEY, burn=1)))["id"]
    for accept in ("text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "text/html, application/json"):
        page = await bin.visit(f"/?{id}", headers={"accept": accept})
        assert page.headers["content-type"].startswith("text/html")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "<script>" not in page.text and id not in page.text
    assert (await get(bin, id))["status"] == 0


async def test_a_paste_is_deleted_by_its_token_and_no_other(bin: Listener) -> None:
    made, other = await post(bin, envelope("x", KEY)), await post(bin, envelope("y", KEY))
    for token in (other["deletetoken"], "", "é", "0" * 64):
        refused = await post(bin, {"pasteid": made["id"], "deletetoken": token})
        assert refused["status"] == 1
    assert (await get(bin, made["id"]))["status"] == 0
    deleted = await post(bin, {"pasteid": made["id"], "deletetoken": made["deletetoken"]})
    assert deleted["status"] == 0 and deleted["id"] == made["id"]
    assert await get(bin, made["id"]) == NOT_THERE
    assert await post(bin, {"pasteid": made["id"], "deletetoken": made["deletetoken"]}) == NOT_THERE


async def test_the_delete_link_asks_a_person_and_obeys_a_program(bin: Listener) -> None:
    made = await post(bin, envelope("x", KEY))
    link = f"/?pasteid={made['id']}&deletetoken={made['deletetoken']}"
    page = await bin.visit(link, headers={"accept": "text/html"})
    assert f'action="/pastes/{made["id"]}/delete"' in page.text and (await get(bin, made["id"]))["status"] == 0
    assert "<script" not in (await bin.visit("/?pasteid=%22%3E%3Cscript%3E&deletetoken=%22%3E%3Cscript%3E")).text
    done = await bin.visit(
        f"/pastes/{made['id']}/delete",
        "POST",
        body=f"token={made['deletetoken']}".encode(),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert done.status == 200 and await get(bin, made["id"]) == NOT_THERE
    other = await post(bin, envelope("x", KEY))
    link = f"/?pasteid={other['id']}&deletetoken={other['deletetoken']}"
    assert (await bin.visit(link, headers=JSON_HEADERS)).json()["status"] == 0
    assert await get(bin, other["id"]) == NOT_THERE


async def test_comments_form_a_thread_that_only_readers_can_open(bin: Listener) -> None:
    id = (await post(bin, envelope("talk", KEY, discussion=1)))["id"]

    async def say(text: str, parent: str, **more: Any) -> dict[str, Any]:
        ct = seal({"comment": text, "nickname": "me"}, cipher(), KEY)
        return await post(bin, {"v": 2, "adata": cipher(), "ct": ct, "pasteid": id, "parentid": parent, **more})

    first = await say("one", id)
    second = await say("two", first["id"])
    assert first["status"] == second["status"] == 0 and second["url"] == f"/?{id}"
    found = await get(bin, id)
    assert found["comment_count"] == 2
    assert [(one["id"], one["parentid"], one["pasteid"]) for one in found["comments"]] == [
        (first["id"], id, id),
        (second["id"], first["id"], id),
    ]
    said = [unseal(one["ct"], one["adata"], KEY)["comment"] for one in found["comments"]]
    assert said == ["one", "two"] and all(one["meta"]["created"] > 0 for one in found["comments"])
    assert (await say("three", "0" * 16))["status"] == 1
    assert await say("three", id, extra=1) == INVALID
    other = (await post(bin, envelope("no talk", KEY)))["id"]
    ct = seal({"comment": "x"}, cipher(), KEY)
    assert await post(bin, {"v": 2, "adata": cipher(), "ct": ct, "pasteid": other, "parentid": other}) == INVALID
    huge = b64encode(os.urandom(COMMENT_BYTES_MAX + 1)).decode()
    refused = await post(bin, {"v": 2, "adata": cipher(), "ct": huge, "pasteid": id, "parentid": id})
    assert refused["status"] == 1 and (await get(bin, id))["comment_count"] == 2


def _wrong_shapes() -> dict[str, Any]:
    def paste(**more: Any) -> dict[str, Any]:
        return {**envelope("x", KEY), **more}

    def of_cipher(place: int, value: Any) -> dict[str, Any]:
        changed = cipher()
        changed[place] = value
        return paste(adata=[changed, "plaintext", 0, 0])

    return {
        "nothing": {},
        "a list": [],
        "a number": 7,
        "no adata": {"v": 2, "ct": "AAAA", "meta": {"expire": "1day"}},
        "version 1": paste(v=1),
        "version as text": paste(v="2"),
        "another field": paste(more=1),
        "no meta": {name: value for name, value in paste().items() if name != "meta"},
        "another meta": paste(meta={"expire": "1day", "burn": 1}),
        "flat adata": paste(adata=[*cipher(), "plaintext", 0, 0]),
        "short adata": paste(adata=[cipher(), "plaintext", 0]),
        "long adata": paste(adata=[cipher(), "plaintext", 0, 0, 0]),
        "adata is text": paste(adata="x"),
        "unknown formatter": paste(adata=[cipher(), "html", 0, 0]),
        "a flag of 2": paste(adata=[cipher(), "plaintext", 0, 2]),
        "a flag of true": paste(adata=[cipher(), "plaintext", 0, True]),
        "burns and is discussed": paste(adata=[cipher(), "plaintext", 1, 1]),
        "a long vector": of_cipher(0, b64encode(bytes(30)).decode()),
        "a vector that is no base64": of_cipher(0, "not base64!"),
        "an empty salt": of_cipher(1, ""),
        "few iterations": of_cipher(2, 10_000),
        "iterations as text": of_cipher(2, "100000"),
        "odd key": of_cipher(3, 100),
        "odd tag": of_cipher(4, 8),
        "another algorithm": of_cipher(5, "des"),
        "another mode": of_cipher(6, "ecb"),
        "another compression": of_cipher(7, "brotli"),
        "no base64": paste(ct="***"),
        "nothing sealed": paste(ct=""),
        "clear text": paste(ct=b64encode(b"This is not sealed at all, whatever it says. " * 20).decode()),
        "deletion of a number": {"pasteid": 7, "deletetoken": "x"},
        "deep": b"[" * 100_000,
        "half": b'{"v":2,',
        "no UTF-8": b'{"v":2,"\xff":1}',
    }


async def test_a_wrong_shape_is_refused_as_the_protocol_says(bin: Listener) -> None:
    for name, body in _wrong_shapes().items():
        assert await post(bin, body) == INVALID, name


async def test_what_is_too_large_is_refused_and_more_is_taken_from_an_account(start: Start, database: Database) -> None:
    sizes = msgspec.structs.replace(OPEN, anonymous_paste_bytes_max=1_000, paste_bytes_max=3_000)
    async with listening(database, await start(sizes)) as bin:
        for size, stranger, account in ((1_000, 0, 0), (1_001, 1, 0), (3_000, 1, 0), (3_001, 1, 1), (2_000_000, 1, 1)):
            sent = {**envelope("", KEY), "ct": b64encode(os.urandom(size)).decode()}
            assert (await post(bin, sent))["status"] == stranger, size
            assert (await post(bin, sent, token=bin.key))["status"] == account, size


async def test_nothing_is_ever_inflated(bin: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB of zeros in 64 KiB, sealed: the server stores and gives back what it cannot know to be a bomb."""
    bomb = await asyncio.to_thread(deflated, b'{"paste":"' + bytes(64 << 20))
    sent = {**envelope("", KEY), "ct": encrypted(bomb, adata(), KEY)}
    for name in ("decompress", "decompressobj"):
        monkeypatch.setattr(zlib, name, None)
    found = await get(bin, (await post(bin, sent))["id"])
    assert b64decode(found["ct"]) == b64decode(sent["ct"])


async def test_a_bare_bomb_is_no_cipher_text(bin: Listener) -> None:
    bomb = await asyncio.to_thread(deflated, bytes(64 << 20))
    assert await post(bin, {**envelope("", KEY), "ct": b64encode(bomb).decode()}) == INVALID


async def test_creation_is_limited_by_address(start: Start, database: Database) -> None:
    links = await start(LinksSettings(anonymous_per_minute=3), clock=VirtualClock())
    async with listening(database, links) as bin:
        assert [(await post(bin, envelope("x", KEY)))["status"] for _ in range(5)] == [0, 0, 0, 1, 1]
        assert "try again" in (await post(bin, envelope("x", KEY)))["message"]
        assert (await post(bin, envelope("x", KEY), token=bin.key))["status"] == 0


async def test_an_operator_may_keep_it_to_accounts(start: Start, database: Database) -> None:
    async with listening(database, await start(LinksSettings(privatebin=False))) as bin:
        assert (await post(bin, envelope("x", KEY)))["status"] == 1
        made = await post(bin, envelope("x", KEY), token=bin.key)
        assert (await get(bin, made["id"]))["status"] == 0


async def test_an_unknown_expiry_is_the_default_one(bin: Listener) -> None:
    found = await get(bin, (await post(bin, envelope("x", KEY, expire="7years")))["id"])
    assert 86_000 < found["meta"]["time_to_live"] <= 86_400


async def test_links_go_on_beside_it(bin: Listener) -> None:
    assert (await bin.visit("/")).status == 404
    assert (await bin.visit("/?utm_source=0123456789abcdef")).status == 404
    assert (await bin.visit("/", "POST", body=b"x")).status in (404, 405)
    await bin.links.create("https://example.com/", alias="here")
    assert (await bin.visit("/here?0123456789abcdef")).status == 302


async def test_odd_ids_are_not_there(bin: Listener) -> None:
    for id in ("0" * 16, "0123456789ABCDEF", "pasteid=", "pasteid=%00", "pasteid=../../etc", "pasteid=" + "f" * 5_000):
        if not id.isalnum() or id.islower() or id.isdigit():
            assert await get(bin, id) == NOT_THERE


async def pbincli(*words: str, text: str = "") -> str:
    """Runs pbincli and gives what it said."""
    python = await asyncio.to_thread(python_packages, PBINCLI)
    process = await asyncio.create_subprocess_exec(
        python,
        "-m",
        "pbincli.cli",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("PRIVATEBIN_")},
    )
    async with asyncio.timeout(PATIENCE_S):
        said, errors = await process.communicate(text.encode())
    assert process.returncode == 0, f"{said.decode()}\n{errors.decode()}"
    return said.decode()


async def sent(served: str, *words: str, text: str = "") -> dict[str, Any]:
    said = await pbincli("send", "--server", served, "--json", *words, text=text)
    answer: dict[str, Any] = msgspec.json.decode(said)
    assert answer["status"] == 0
    return dict(answer["result"])


@EMBEDDED
@pytest.mark.peer
async def test_pbincli_sends_gets_and_deletes(served: str, tmp_path: Path) -> None:
    made = await sent(served, "--format", "markdown", "--expire", "10min", text="# Hello\n\nfrom stdin ☃")
    assert "Paste received" in await pbincli("get", made["link"], "--output", str(tmp_path))
    assert (tmp_path / f"paste-{made['id']}.txt").read_text() == "# Hello\n\nfrom stdin ☃"
    assert "successfully deleted" in await pbincli("delete", made["deletelink"])
    with pytest.raises(AssertionError, match="does not exist"):
        await pbincli("get", made["link"], "--output", str(tmp_path))


@EMBEDDED
@pytest.mark.peer
async def test_pbincli_seals_with_a_password_and_attaches_a_file(served: str, tmp_path: Path) -> None:
    attached = tmp_path / "picture.bin"
    attached.write_bytes(os.urandom(300_000))
    made = await sent(served, "--password", "s3cret", "--file", str(attached), "--text", "see the picture")
    out = tmp_path / "out"
    out.mkdir()
    await pbincli("get", made["link"], "--password", "s3cret", "--output", str(out))
    assert (out / "picture.bin").read_bytes() == attached.read_bytes()
    assert (out / f"paste-{made['id']}.txt").read_text() == "see the picture"


@EMBEDDED
@pytest.mark.peer
async def test_pbincli_burns_and_discusses(served: str, bin: Listener, tmp_path: Path) -> None:
    burning = await sent(served, "--burn", "--compression", "none", "--text", "once")
    await pbincli("get", burning["link"], "--output", str(tmp_path))
    with pytest.raises(AssertionError, match="does not exist"):
        await pbincli("get", burning["link"], "--output", str(tmp_path))
    open_one = await sent(served, "--discus", "--format", "syntaxhighlighting", "--text", "x = 1")
    found = await get(bin, open_one["id"])
    assert found["adata"][1:] == ["syntaxhighlighting", 1, 0]


@EMBEDDED
@pytest.mark.peer
async def test_pbincli_shortens_what_it_sent_through_us_as_well(served: str, bin: Listener) -> None:
    bin.links.settings.private_targets = True  # this server is one, with an address of the loopback
    options = ("--short", "--short-api", "yourls", "--short-url", f"{served}yourls-api.php", "--short-token", bin.key)
    made = await sent(served, "--text", "x", *options)
    assert "short_error" not in made
    code = made["short"].rpartition("/")[2]
    assert (await bin.visit(f"/{code}")).headers["location"] == made["link"]


LIBRARY = """
import sys
from privatebin import Attachment, Expiration, Formatter, PrivateBin, PrivateBinError
with PrivateBin(sys.argv[1]) as client:
    file = Attachment(name="a.txt", content=b"attached")
    made = client.create("Grüße", password="pw", attachment=file, formatter=Formatter.MARKDOWN,
                         expiration=Expiration.ONE_HOUR, open_discussion=True)
    found = client.get(id=made.url.id, passphrase=made.url.passphrase, password="pw")
    assert (found.text, found.attachment, found.formatter) == ("Grüße", file, Formatter.MARKDOWN), found
    assert found.open_discussion and 0 < found.time_to_live.total_seconds() <= 3600
    client.delete(id=made.url.id, delete_token=made.delete_token)
    burning = client.create("once", burn_after_reading=True, expiration=Expiration.NEVER)
    found = client.get(id=burning.url.id, passphrase=burning.url.passphrase)
    assert found.text == "once" and found.burn_after_reading and found.time_to_live is None
    for gone in (made, burning):
        try:
            client.get(id=gone.url.id, passphrase=gone.url.passphrase, password="pw")
        except PrivateBinError as error:
            assert "does not exist" in str(error), error
        else:
            raise AssertionError("it is still there")
    try:
        client.delete(id=client.create("x").url.id, delete_token="wrong")
    except PrivateBinError as error:
        assert "token" in str(error), error
    else:
        raise AssertionError("deleted by a wrong token")
print("every method")
"""


@EMBEDDED
@pytest.mark.peer
async def test_every_method_of_the_python_library_works(served: str) -> None:
    python = await asyncio.to_thread(python_packages, "privatebin==0.3.0")
    process = await asyncio.create_subprocess_exec(
        python, "-c", LIBRARY, served, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE_S):
        said, errors = await process.communicate()
    assert said.strip() == b"every method", errors.decode()
