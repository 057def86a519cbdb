"""YOURLS' API: its Python client and pbincli's shortener work against it, in every format and with every credential."""

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from mainspring.core.accounts.model import ONE_CLICK
from mainspring.core.config import Config
from mainspring.core.ports import Database
from mainspring.social.links import Links, LinksSettings
from tests.asgi import Called
from tests.social.links.conftest import Listener, Start, drain, listening
from tests.social.links.peers import python_packages

URL = "https://example.com/some/where"

CLIENT = """
import sys
from yourls import YOURLSClient, YOURLSHTTPError, YOURLSKeywordExistsError, YOURLSNoLoopError, YOURLSNoURLError
from yourls import YOURLSURLExistsError
address, signature = sys.argv[1:]
client = YOURLSClient(address, signature=signature)
one = client.shorten('https://example.com/some/where', keyword='one', title='A title')
assert (one.keyword, one.url, one.title) == ('one', 'https://example.com/some/where', 'A title'), one
two = client.shorten('https://example.com/two')
def fails(kind, function, *arguments, **more):
    try:
        function(*arguments, **more)
    except kind as error:
        return error
    raise AssertionError(kind)
assert fails(YOURLSKeywordExistsError, client.shorten, 'https://example.com/3', keyword='one').keyword == 'one'
assert fails(YOURLSURLExistsError, client.shorten, 'https://example.com/two').url.shorturl == two.shorturl
fails(YOURLSNoURLError, client.shorten, '')
fails(YOURLSNoURLError, client.shorten, 'javascript:alert(1)')
fails(YOURLSNoLoopError, client.shorten, one.shorturl)
assert client.expand(one.shorturl) == client.expand('one') == one.url
fails(YOURLSHTTPError, client.expand, 'none')
stats = client.url_stats('one')
assert (stats.url, stats.clicks) == (one.url, 2), stats
links, totals = client.stats('top', 1)
assert [link.shorturl for link in links] == [one.shorturl], links
assert (totals.total_links, totals.total_clicks) == (2, 2), totals
assert client.db_stats() == totals
for kind in ('bottom', 'last', 'rand'):
    assert len(client.stats(kind, 2)[0]) == 2
fails(YOURLSHTTPError, YOURLSClient(address, signature='wrong').expand, 'one')
print('every method')
"""

PBINCLI = """
import sys
from pbincli.api import Shortener
address, token = sys.argv[1:]
settings = {'short_api': 'yourls', 'short_url': address, 'short_token': token}
print(Shortener(settings).getlink('https://example.com/?paste#key'))
"""


async def ask(listener: Listener, method: str = "GET", **asked: str) -> Called:
    asked = {"signature": listener.key, "format": "json", **asked}
    if method == "GET":
        return await listener.visit(f"/yourls-api.php?{urlencode(asked)}")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return await listener.visit("/yourls-api.php", "POST", body=urlencode(asked).encode(), headers=headers)


@pytest.fixture
async def served(listener: Listener) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(listener.server, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/yourls-api.php"
    server.close()
    for connection in list(listener.server.connections):
        connection.cut()


def run(python: Path, script: str, *arguments: str) -> str:
    done = subprocess.run([python, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.peer
async def test_every_method_of_the_python_client_works(listener: Listener, served: str) -> None:
    python = await asyncio.to_thread(python_packages, "yourls==1.2.3")
    script = CLIENT.replace("stats = client.url_stats", "input()\nstats = client.url_stats")
    process = await asyncio.create_subprocess_exec(
        python,
        "-c",
        script,
        served,
        listener.key,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        while not await listener.links.counting.sums(["all"]):
            if (await listener.visit("/one")).status == 302:
                await listener.visit("/one")
                await drain(listener.links)
            await asyncio.sleep(0.01)
        said, errors = await process.communicate(b"\n")
    assert said.strip() == b"every method", errors.decode()


@pytest.mark.peer
async def test_pbincli_shortens_through_us(listener: Listener, served: str) -> None:
    python = await asyncio.to_thread(python_packages, "pbincli==0.3.7")
    short_url = await asyncio.to_thread(run, python, PBINCLI, served, listener.key)
    code = short_url.rpartition("/")[2]
    assert (await listener.visit(f"/{code}")).headers["location"] == "https://example.com/?paste#key"


async def test_each_format_says_the_same(listener: Listener) -> None:
    made = (await ask(listener, action="shorturl", url=URL, keyword="x", title="a <b> & c")).json()
    assert made["status"] == "success" and made["shorturl"] == "http://127.0.0.1:8410/x"
    expand = {"action": "expand", "shorturl": "x"}
    assert (await ask(listener, **expand)).json()["longurl"] == URL
    jsonp = await ask(listener, **expand, format="jsonp", callback="app.show")
    assert jsonp.text.startswith("/**/app.show({") and jsonp.headers["content-type"] == "application/javascript"
    xml = ElementTree.fromstring((await ask(listener, **expand, format="xml")).text)
    assert xml.findtext("longurl") == URL and xml.findtext("title") == "a <b> & c"
    assert (await ask(listener, **expand, format="simple")).text == URL
    assert (await ask(listener, action="version", format="simple")).text == "1.9.2"
    assert (await ask(listener, "POST", **expand)).json()["longurl"] == URL


@pytest.mark.parametrize("callback", ["alert(1)//", "<script>", "a b", "x" * 200])
async def test_a_callback_is_a_name_and_nothing_else(listener: Listener, callback: str) -> None:
    answer = await ask(listener, action="version", format="jsonp", callback=callback)
    assert answer.headers["content-type"].startswith("text/plain") and callback not in answer.text


@pytest.mark.parametrize("kind", ["md5", "sha512"])
@pytest.mark.parametrize("first", ["timestamp", "secret"])
async def test_a_signed_moment_is_as_good_as_a_token_for_a_while(listener: Listener, kind: str, first: str) -> None:
    secret = (await listener.api("GET", "/yourls")).json()["signature"]

    async def signed(age_s: int, kind: str = kind) -> int:
        moment = str(listener.links.now_us() // 1_000_000 - age_s)
        text = moment + secret if first == "timestamp" else secret + moment
        signature = hashlib.new(kind, text.encode()).hexdigest()
        return (await ask(listener, action="db-stats", timestamp=moment, signature=signature, hash=kind)).status

    assert await signed(0) == await signed(40_000) == 200
    assert await signed(50_000) == await signed(-50_000) == 403
    assert await signed(0, "blake2b") == 403
    assert (await ask(listener, action="db-stats", signature=secret)).status == 200


async def test_without_credentials_one_is_asked_to_log_in_unless_anybody_may(start: Start, database: Database) -> None:
    for settings, shorten in ((LinksSettings(), 403), (LinksSettings(anonymous=True), 200)):
        links: Links = await start(settings=settings)
        async with listening(database, links) as listener:
            for credentials in ({}, {"username": "owner", "password": "wrong"}, {"signature": "wrong"}):
                asked: dict[str, Any] = {"format": "json", "action": "shorturl", "url": URL, **credentials}
                answer = await listener.visit(f"/yourls-api.php?{urlencode(asked)}")
                assert answer.status == (shorten if not credentials else 403)
            answer = await listener.visit("/yourls-api.php?action=stats&format=json")
            assert answer.status == 403 and answer.json()["message"] == "Please log in"


async def test_a_name_and_a_token_as_its_password_will_do(listener: Listener) -> None:
    asked = urlencode({"format": "json", "action": "version", "username": "owner", "password": listener.key})
    assert (await listener.visit(f"/yourls-api.php?{asked}")).json() == {"version": "1.9.2"}


async def test_a_token_without_the_scope_reads_nothing(listener: Listener) -> None:
    """Though the links are those of its own account."""
    await listener.api("POST", "/links", json={"url": URL, "alias": "mine"})
    other = (await listener.accounts.create_token(ONE_CLICK, "for ids", ["ids:*"])).secret
    reader = (await listener.accounts.create_token(ONE_CLICK, "for reading", ["links:read"])).secret
    for action in ("expand", "url-stats", "stats", "db-stats"):
        assert (await ask(listener, action=action, shorturl="mine", signature=other)).status == 403
        assert (await ask(listener, action=action, shorturl="mine", signature=reader)).status == 200
    for signature in (other, reader):
        assert (await ask(listener, action="shorturl", url=URL, signature=signature)).status == 403


async def test_behind_a_trusted_proxy_each_visitor_has_a_limit_of_their_own(start: Start, database: Database) -> None:
    links = await start(
        settings=LinksSettings(anonymous=True, anonymous_per_minute=1), config=Config(trusted_proxies=["127.0.0.0/8"])
    )
    async with listening(database, links) as listener:

        async def shorten(visitor: str) -> int:
            asked = urlencode({"format": "json", "action": "shorturl", "url": URL})
            return (await listener.visit(f"/yourls-api.php?{asked}", headers={"x-forwarded-for": visitor})).status

        assert [await shorten(one) for one in ("198.51.100.1", "198.51.100.1", "198.51.100.2")] == [200, 429, 200]


async def test_odd_questions_get_answers(listener: Listener) -> None:
    assert (await ask(listener, action="nonsense")).status == 400
    assert (await ask(listener, action="stats", limit="x", start="-1", filter="?")).status == 200
    assert (await ask(listener, action="expand", shorturl="http://other.example/x")).status == 404
    assert (await ask(listener, action="url-stats")).status == 404
    assert (await ask(listener, action="shorturl", url="https://example.com/" + "x" * 9000)).status == 400
    assert (await ask(listener, action="shorturl", url=URL, keyword="../etc")).json()["code"] == "error:keyword"
