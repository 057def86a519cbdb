"""The guarded client reaches public servers and no others, whatever a name, a number or a redirect pretends."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.http.addresses import AllowList, is_public
from mainspring.core.http.client import (
    BadRedirect,
    BlockedAddress,
    FetchError,
    FetchTimeout,
    FetchTooLarge,
    GuardedClient,
    InvalidUrl,
    Target,
    system_connect,
)
from mainspring.core.http.request import Receive, Scope, Send
from mainspring.core.http.response import Response, Stream
from mainspring.core.serve import Server
from tests.core.certificates import make_certificate
from tests.core.raw_http import PATIENCE_S, serving

PUBLIC, OTHER_PUBLIC, PRIVATE = "93.184.215.14", "1.1.1.1", "10.1.2.3"


class Site:
    """What the fetched server does; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.location = ""
        self.closed = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((scope["method"], scope["path"], headers, body))
        answer = getattr(self, scope["path"].strip("/").replace("/", "_") or "home")(scope)
        await answer.send(scope, send)

    def home(self, scope: Scope) -> Response:
        return Response(200, b"welcome", "text/plain", [(b"set-cookie", b"a=b")])

    def loop(self, scope: Scope) -> Response:
        return Response.redirect("/loop")

    def away(self, scope: Scope) -> Response:
        return Response.redirect(self.location, status=int(scope["query_string"] or 302))

    def step(self, scope: Scope) -> Response:
        left = int(scope["query_string"])
        return Response.redirect(f"/step?{left - 1}") if left else Response(200, b"arrived")

    def missing(self, scope: Scope) -> Response:
        return Response(404, b"nothing")

    def large(self, scope: Scope) -> Response:
        return Response(200, b"x" * 5000)

    def stall(self, scope: Scope) -> Stream:
        return Stream(self._stall())

    def endless(self, scope: Scope) -> Stream:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000

        return Stream(pieces())

    async def _stall(self) -> AsyncIterator[bytes]:
        try:
            yield b"."
            await asyncio.Event().wait()
        finally:
            self.closed.set()


class Internet:
    """A fake resolver and network: names have the addresses given here, and every connection ends at `server`."""

    def __init__(self, server: Server, **names: str | list[str]) -> None:
        self.port = server.address[1]
        self.names = {host.replace("_", "."): addresses for host, addresses in names.items()}
        self.resolved: list[str] = []
        self.connected: list[str] = []
        self.dead: set[str] = set()

    async def resolve(self, host: str, port: int) -> list[str]:
        self.resolved.append(host)
        found = self.names[host]
        return [found] if isinstance(found, str) else found

    async def connect(self, address: str, port: int) -> socket.socket:
        self.connected.append(address)
        if address in self.dead:
            raise ConnectionRefusedError
        return await system_connect("127.0.0.1", self.port)


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def server(site: Site) -> AsyncIterator[Server]:
    async with serving(site) as running:
        yield running


@pytest.fixture
async def internet(server: Server) -> Internet:
    return Internet(
        server,
        good_example=PUBLIC,
        other_example=OTHER_PUBLIC,
        bad_example=PRIVATE,
        mixed_example=[PRIVATE, PUBLIC],
        metadata_example="169.254.169.254",
    )


Make = Callable[..., GuardedClient]


@pytest.fixture
async def make(internet: Internet) -> Make:
    def make(**options: object) -> GuardedClient:
        kept = {"timeout_s": PATIENCE_S, "resolve": internet.resolve, "connect": internet.connect, **options}
        return GuardedClient(**kept)  # type: ignore[arg-type]

    return make


async def test_a_public_address_is_fetched_without_cookies_or_other_memory(site: Site, make: Make) -> None:
    client = make()
    for _ in range(2):
        answer = await client.get("http://good.example", headers={"Accept": "text/plain"})
        assert (answer.status, answer.body, answer.url) == (200, b"welcome", "http://good.example/")
        assert answer.headers["content-type"] == "text/plain"
    for method, path, headers, body in site.asked:
        assert (method, path, body) == ("GET", "/", b"")
        assert headers["host"] == "good.example" and headers["accept"] == "text/plain"
        assert headers["user-agent"].startswith("mainspring/") and "cookie" not in headers


async def test_a_body_is_posted_and_an_error_of_the_other_side_is_an_answer(site: Site, make: Make) -> None:
    answer = await make().post("http://good.example/missing", b"{}", headers={"content-type": "application/json"})
    assert (answer.status, answer.body) == (404, b"nothing")
    method, _, headers, body = site.asked[0]
    assert (method, headers["content-type"], body) == ("POST", "application/json", b"{}")


@pytest.mark.parametrize("host", ["bad.example", "metadata.example"])
async def test_a_name_of_a_private_address_is_blocked_before_any_connection(
    host: str, make: Make, internet: Internet
) -> None:
    with pytest.raises(BlockedAddress) as error:
        await make().get(f"http://{host}/")
    assert PRIVATE not in str(error.value.body()), "what our resolver knows is not the caller's business"
    assert not internet.connected


NUMERIC = [
    "127.0.0.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "169.254.169.254",
    "10.0.0.1",
    "192.168.0.1",
    "172.31.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[2002:7f00:1::]",
    "１２７.０.０.１",
    "127。0。0。1",
]


@pytest.mark.parametrize("host", NUMERIC)
async def test_no_way_of_writing_a_private_address_gets_through(host: str) -> None:
    async def connect(address: str, port: int) -> socket.socket:
        raise AssertionError(f"connects to {address}")

    with pytest.raises(FetchError):
        await GuardedClient(connect=connect, timeout_s=PATIENCE_S).get(f"http://{host}/")


async def test_the_connection_goes_to_the_address_that_was_judged_even_when_dns_changes_its_mind(
    make: Make, internet: Internet
) -> None:
    answers = iter([[PUBLIC], [PRIVATE], ["127.0.0.1"]])

    async def rebinding(host: str, port: int) -> list[str]:
        internet.resolved.append(host)
        return next(answers)

    client = make(resolve=rebinding)
    assert (await client.get("http://rebinding.example/")).status == 200
    assert (internet.resolved, internet.connected) == (["rebinding.example"], [PUBLIC])
    for _ in range(2):
        with pytest.raises(BlockedAddress):
            await client.get("http://rebinding.example/")
    assert internet.connected == [PUBLIC]


async def test_of_several_addresses_only_public_ones_are_tried_and_a_dead_one_is_passed(
    make: Make, internet: Internet
) -> None:
    assert (await make().get("http://mixed.example/")).status == 200
    assert internet.connected == [PUBLIC]
    internet.names["two.example"] = [OTHER_PUBLIC, PUBLIC]
    internet.dead.add(OTHER_PUBLIC)
    assert (await make().get("http://two.example/")).status == 200
    assert internet.connected[1:] == [OTHER_PUBLIC, PUBLIC]


async def test_an_unreachable_server_is_an_error_that_tells_nothing_of_us(make: Make, internet: Internet) -> None:
    internet.dead.add(PUBLIC)
    with pytest.raises(FetchError) as error:
        await make().get("http://good.example/")
    assert error.value.status == 502 and PUBLIC not in error.value.detail


@pytest.mark.parametrize("entry", ["10.0.0.0/8", PRIVATE, "BAD.example"])
async def test_the_operator_may_allow_a_network_an_address_or_a_host(entry: str, make: Make) -> None:
    assert (await make(allow=[entry]).get("http://bad.example/")).status == 200


async def test_an_allowed_host_allows_no_other_host_with_its_address(make: Make) -> None:
    with pytest.raises(BlockedAddress):
        await make(allow=["metadata.example"]).get("http://bad.example/")


async def test_redirects_are_followed_up_to_a_limit(site: Site, make: Make) -> None:
    answer = await make().get("http://good.example/step?3")
    assert (answer.body, answer.url) == (b"arrived", "http://good.example/step?0")
    for path in ("step?4", "loop"):
        with pytest.raises(BadRedirect):
            await make().get(f"http://good.example/{path}")
    assert len(site.asked) == 4 + 4 + 4


@pytest.mark.parametrize(
    "location",
    ["http://bad.example/", "http://metadata.example/latest", "//bad.example/", "http://127.0.0.1/", "http://[::1]/"],
)
async def test_a_redirect_into_a_private_network_is_blocked(
    location: str, site: Site, make: Make, internet: Internet
) -> None:
    internet.names.update({"127.0.0.1": "127.0.0.1", "::1": "::1"})
    site.location = location
    with pytest.raises(BlockedAddress):
        await make().get("http://good.example/away")
    assert len(site.asked) == 1 and internet.connected == [PUBLIC]


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://good.example/", "javascript:alert(1)", "gopher://x/"]
)
async def test_a_redirect_to_another_scheme_is_not_followed(location: str, site: Site, make: Make) -> None:
    site.location = location
    with pytest.raises(InvalidUrl):
        await make().get("http://good.example/away")


async def test_credentials_are_not_carried_to_another_server(site: Site, make: Make) -> None:
    site.location = "http://other.example/"
    secret = {"Authorization": "Bearer secret", "X-Key": "secret", "Cookie": "a=b", "Accept": "text/html"}
    await make().get("http://good.example/away", headers=secret)
    assert site.asked[0][2]["authorization"] == "Bearer secret"
    assert "secret" not in str(site.asked[1]) and site.asked[1][2]["accept"] == "text/html"
    site.location = "/"
    await make().get("http://good.example/away", headers=secret)
    assert site.asked[3][2]["authorization"] == "Bearer secret", "the same server keeps them"


@pytest.mark.parametrize(("status", "method", "body"), [(302, "GET", b""), (303, "GET", b""), (307, "POST", b"data")])
async def test_a_redirected_post_is_repeated_only_where_its_status_says_so(
    status: int, method: str, body: bytes, site: Site, make: Make
) -> None:
    site.location = "/"
    await make().post(f"http://good.example/away?{status}", b"data")
    assert (site.asked[1][0], site.asked[1][3]) == (method, body)


async def test_https_is_verified_and_never_left_for_http(site: Site, tmp_path: Path, make: Make) -> None:
    tls = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=str(tls.certificate))
    async with serving(site, tls=tls) as server:
        internet = Internet(server, localhost=PUBLIC, other_example=PUBLIC)
        client = make(resolve=internet.resolve, connect=internet.connect, trust=trust)
        assert (await client.get("https://localhost/")).body == b"welcome"
        site.location = "http://localhost/"
        with pytest.raises(BadRedirect):
            await client.get("https://localhost/away")
        with pytest.raises(FetchError, match="certificate"):
            await client.get("https://other.example/")
        with pytest.raises(FetchError, match="certificate"):
            await make(resolve=internet.resolve, connect=internet.connect).get("https://localhost/")


async def test_an_answer_is_read_up_to_a_limit_whether_it_names_its_length_or_not(make: Make) -> None:
    client = make(body_bytes_max=4999)
    for path in ("large", "endless"):
        with pytest.raises(FetchTooLarge):
            await client.get(f"http://good.example/{path}")
    assert len((await make(body_bytes_max=5000).get("http://good.example/large")).body) == 5000


async def test_a_reader_may_stop_when_it_has_enough(make: Make, site: Site) -> None:
    async with make().open("GET", "http://good.example/stall") as answer:
        async for piece in answer.pieces():
            assert piece == b"."
            break
    await asyncio.wait_for(site.closed.wait(), PATIENCE_S)


async def test_the_deadline_covers_a_body_that_stalls(make: Make) -> None:
    with pytest.raises(FetchTimeout):
        await make(timeout_s=0.2).get("http://good.example/stall")


async def test_the_deadline_covers_resolving_connecting_and_redirecting(make: Make) -> None:
    async def never(*_: object) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    for part in ({"resolve": never}, {"connect": never}):
        with pytest.raises(FetchTimeout):
            await make(timeout_s=0.05, **part).get("http://good.example/")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    ],
)
async def test_a_server_that_does_not_speak_http_properly_is_an_error(answer: bytes, make: Make) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    babbler = await asyncio.start_server(babble, "127.0.0.1", 0)

    async def connect(address: str, port: int) -> socket.socket:
        return await system_connect(*babbler.sockets[0].getsockname())

    with pytest.raises(FetchError):
        await make(connect=connect).get("http://good.example/")
    babbler.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "good.example",
        "ftp://good.example/",
        "http://",
        "http:///path",
        "http://user:password@good.example/",
        "http://good.example@bad.example/",
        "http://good.example\\@bad.example/",
        "http://good.example/\r\nhost: bad.example",
        "http://good.example/a b",
        "http://good.example:99999/",
        "http://good.example:port/",
        "http://[::1/",
        "http://[fe80::1%25eth0]/",
        "http://good..example/",
        "http://" + "a" * 64 + ".example/",
        "http://good.example/" + "x" * 9000,
    ],
)
async def test_a_url_that_can_be_misread_is_refused(url: str, make: Make, internet: Internet) -> None:
    with pytest.raises(InvalidUrl):
        await make().get(url)
    assert not internet.resolved


@given(st.text(max_size=60), st.sampled_from(["http://", "https://", "http://good.example/", "//", ""]))
def test_any_text_is_a_target_or_a_refusal_and_reading_a_target_again_changes_nothing(text: str, start: str) -> None:
    try:
        target = Target.parse(start + text)
    except InvalidUrl:
        return
    assert Target.parse(target.url) == target and target.url.isascii()


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_in_every_disguise(number: int) -> None:
    plain = ipaddress.IPv4Address(number)
    assert is_public(plain) == is_public(ipaddress.IPv6Address(f"::ffff:{plain}"))
    assert is_public(plain) == is_public(ipaddress.IPv6Address((0x64FF9B << 96) | number))
    assert not (is_public(plain) and (plain.is_private or plain.is_multicast or plain.is_link_local))


@given(st.ip_addresses(v=6))
def test_no_ipv6_address_that_python_calls_private_is_public(address: ipaddress.IPv6Address) -> None:
    if address.ipv4_mapped is None and (address.is_private or address.is_multicast or address.is_link_local):
        assert not is_public(address)


def test_an_address_with_a_scope_is_in_no_network() -> None:
    assert not AllowList(["fe80::/10"]).admits("x.example", "fe80::1%eth0%1")
