"""A port is ours or it is an error; off loopback nothing opens by accident; systems behind ports are built lazily."""

import asyncio
import os
import resource
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.connections import DATAGRAMS_WAITING_MAX, ProtocolFactory
from mainspring.core.http.request import Receive, Scope, Send
from mainspring.core.http.response import Response
from mainspring.core.lazy import Lazy
from mainspring.core.listeners import CannotListen, Listener, Listeners, is_loopback, raise_descriptor_limit
from mainspring.core.tls import Tls
from tests.core.certificates import make_certificate
from tests.core.raw_http import PATIENCE_S, Wire, bound


def listener(name: str = "main", **wanted: Any) -> Listener:
    return Listener(**{"name": name, "protocol": "http", "host": "127.0.0.1", "port": 0, **wanted})


def bound_table(*rows: Listener, **options: Any) -> Listeners:
    table = Listeners(**options)
    for row in rows:
        table.add(row)
    table.bind()
    return table


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(200, scope["scheme"].encode()).send(scope, send)


class Echo(asyncio.Protocol):
    """Sends back what it gets; goes away when the client has said goodbye."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class PoliteEcho(Echo):
    def go_away(self) -> None:
        self.transport.write(b"bye")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if data == b"bye":
            self.transport.close()


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = bytearray(1000)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Factories:
    """Builds a protocol's factory when it may; counts how often."""

    def __init__(self, factory: ProtocolFactory, *errors: Exception) -> None:
        self.factory, self.errors = factory, list(errors)
        self.builds = 0
        self.go, self.begun = asyncio.Event(), asyncio.Event()
        self.go.set()

    async def __call__(self, name: str) -> ProtocolFactory:
        self.builds += 1
        self.begun.set()
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)
        return self.factory


async def connect(table: Listeners, name: str = "main", **options: Any) -> Wire:
    host, _, port = table[name].address.rpartition(":")
    return Wire(*await asyncio.open_connection(host.strip("[]"), int(port), **options))


async def exactly(wire: Wire, wanted: bytes) -> None:
    assert await asyncio.wait_for(wire.reader.readexactly(len(wanted)), PATIENCE_S) == wanted


def test_port_0_takes_a_free_one_and_the_table_says_which() -> None:
    table = bound_table(listener(), listener("links", system="links"))
    addresses = {row.address for row in table.table()}
    assert len(addresses) == 2 and not any(address.endswith(":0") for address in addresses)
    assert {row.state for row in table.table()} == {"open"}
    assert table.url("main") == f"http://{table['main'].address}/"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_busy_default_port_stays_off_with_the_reason_and_the_others_open(protocol: str) -> None:
    with socket.socket(type=socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            other.listen()
        port = other.getsockname()[1]
        table = bound_table(listener("resp", system="kv", protocol=protocol, port=port), listener())
        assert table["resp"].state == "off" and table["main"].state == "open"
        assert f"port {port} on 127.0.0.1 is taken" in table["resp"].reason
        assert f"(process {os.getpid()})" in table["resp"].reason and "--set ports.resp=N" in table["resp"].reason


def test_a_busy_port_that_is_required_is_an_error_that_names_its_holder_and_frees_the_others() -> None:
    with bound() as other:
        other.listen()
        port = other.getsockname()[1]
        table = Listeners()
        table.add(listener("links", system="links"))
        table.add(listener(port=port, required=True))
        with pytest.raises(CannotListen) as error:
            table.bind()
        text = str(error.value)
        assert f"port {port}" in text and f"(process {os.getpid()})" in text and "--port N" in text
    with socket.socket() as again:
        host, _, number = table["links"].address.rpartition(":")
        again.bind((host, int(number)))


def test_every_required_port_that_is_wrong_is_told_at_once() -> None:
    table = Listeners(plain={"lnks"})
    table.add(listener(host="203.0.113.77", required=True, authenticated=True, encrypted=True))
    table.add(listener("kv", system="kv", host="0.0.0.0", required=True))
    with pytest.raises(CannotListen) as error:
        table.bind()
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert "--plain lnks: there is no listener" in lines[0]
    assert "203.0.113.77 is not an address of this machine" in lines[1]
    assert "0.0.0.0 is not loopback" in lines[2]


def test_two_servers_cannot_share_a_port_in_the_dark() -> None:
    first = bound_table(listener())
    port = int(first["main"].address.rpartition(":")[2])
    with pytest.raises(CannotListen):
        bound_table(listener(port=port, required=True))
    with pytest.raises(CannotListen):
        bound_table(listener(port=port, required=True, host="0.0.0.0"), plain={"main"})


ANYWHERE = Tls(Path("certificate.pem"), Path("key.pem"))


@pytest.mark.parametrize(
    ("wanted", "options", "opens"),
    [
        ({"host": "127.0.0.1"}, {}, True),
        ({"host": "127.8.9.1"}, {}, True),
        ({"host": "localhost"}, {}, True),
        ({"authenticated": True}, {}, False),
        ({"public": True}, {}, False),
        ({"authenticated": True}, {"tls": ANYWHERE}, True),
        ({"authenticated": True}, {"behind_tls": True}, True),
        ({"public": True}, {"behind_tls": True}, True),
        ({}, {"behind_tls": True}, False),
        ({}, {"tls": ANYWHERE}, False),
        ({}, {"plain": {"main"}}, True),
        ({"authenticated": True, "protocol": "udp"}, {"tls": ANYWHERE}, False),
        ({"authenticated": True, "protocol": "udp", "encrypted": True}, {}, True),
        ({"public": True, "protocol": "tcp"}, {"tls": ANYWHERE}, True),
    ],
)
def test_off_loopback_a_listener_needs_tls_and_authentication_or_to_be_public(
    wanted: dict[str, Any], options: dict[str, Any], opens: bool
) -> None:
    table = bound_table(listener(**{"host": "0.0.0.0", **wanted}), **options)
    assert table["main"].state == ("open" if opens else "off")
    assert opens or "is not loopback" in table["main"].reason


def test_loopback_is_known_in_every_notation() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "fe80::1%lo", "::ffff:10.0.0.1")))


async def test_ipv6_is_an_address_like_any_other() -> None:
    try:
        bound("::1").close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    table = bound_table(listener(host="::1"))
    assert table["main"].address.startswith("[::1]:")
    await table.open_http("main", hello)
    wire = await connect(table)
    wire.ask("/")
    assert (await wire.answer())[0] == 200
    await table.close(0)


async def test_http_speaks_tls_where_there_is_a_certificate_and_plainly_where_excepted(tmp_path: Path) -> None:
    tls = make_certificate(tmp_path)
    table = bound_table(listener(), listener("links"), tls=tls, plain={"links"})
    for name in ("main", "links"):
        await table.open_http(name, hello)
    assert table.url("main").startswith("https://") and table.url("links").startswith("http://")
    secure = await connect(table, ssl=ssl.create_default_context(cafile=str(tls.certificate)))
    plain = await connect(table, "links")
    for wire, scheme in ((secure, b"https"), (plain, b"http")):
        wire.ask("/")
        assert (await wire.answer())[2] == scheme
    await table.close(0)
    assert {row.state for row in table.table()} == {"off"}


@pytest.mark.parametrize("factory", [Echo, BufferedEcho])
@pytest.mark.parametrize("secure", [False, True])
async def test_the_first_connections_build_a_system_once_and_all_are_served(
    factory: ProtocolFactory, secure: bool, tmp_path: Path
) -> None:
    tls = make_certificate(tmp_path) if secure else None
    options = {"ssl": ssl.create_default_context(cafile=str(tls.certificate))} if tls else {}
    table = bound_table(listener("echo", protocol="tcp"), tls=tls)
    factories = Factories(factory)
    factories.go.clear()
    connections = await table.open_tcp("echo", Lazy(factories))
    wires = [await connect(table, "echo", **options) for _ in range(20)]
    for number, wire in enumerate(wires):
        wire.writer.write(b"hello %02d" % number)
    await asyncio.wait_for(factories.begun.wait(), PATIENCE_S)
    factories.go.set()
    for number, wire in enumerate(wires):
        await exactly(wire, b"hello %02d" % number)
    late = await connect(table, "echo", **options)
    late.writer.write(b"late")
    await exactly(late, b"late")
    assert factories.builds == 1 and len(connections) == 21
    await table.close(PATIENCE_S)
    assert await late.rest() == b"" and len(connections) == 0


@pytest.mark.parametrize("factory", [Echo, BufferedEcho])
async def test_a_client_that_says_all_and_shuts_its_side_before_the_build_is_answered(factory: ProtocolFactory) -> None:
    table = bound_table(listener("echo", protocol="tcp"))
    factories = Factories(factory)
    factories.go.clear()
    await table.open_tcp("echo", Lazy(factories))
    wire = await connect(table, "echo")
    wire.writer.write(b"x" * 5000)
    wire.writer.write_eof()
    await asyncio.wait_for(factories.begun.wait(), PATIENCE_S)
    factories.go.set()
    assert await wire.rest() == b"x" * 5000
    await table.close(0)


async def test_a_failing_build_closes_its_connections_and_the_next_one_builds_again() -> None:
    table = bound_table(listener("echo", protocol="tcp"))
    factories = Factories(Echo, RuntimeError("not today"))
    connections = await table.open_tcp("echo", Lazy(factories))
    wire = await connect(table, "echo")
    assert await wire.rest() == b""
    again = await connect(table, "echo")
    again.writer.write(b"there?")
    await exactly(again, b"there?")
    assert factories.builds == 2 and len(connections) == 1
    await table.close(0)


async def test_a_listener_has_room_for_so_many_connections_and_refuses_the_next() -> None:
    gone = asyncio.Event()

    class Leaving(Echo):
        def connection_lost(self, exc: Exception | None) -> None:
            gone.set()

    table = bound_table(listener("echo", protocol="tcp", connections_max=2))
    connections = await table.open_tcp("echo", Lazy(Factories(Leaving)))
    one, two = await connect(table, "echo"), await connect(table, "echo")
    for wire in (one, two):
        wire.writer.write(b"here")
        await exactly(wire, b"here")
    assert await (await connect(table, "echo")).rest() == b"" and connections.refused == 1
    one.vanish()
    await asyncio.wait_for(gone.wait(), PATIENCE_S)
    three = await connect(table, "echo")
    three.writer.write(b"room")
    await exactly(three, b"room")
    await table.close(0)


async def test_closing_asks_connections_to_go_away_and_cuts_off_those_that_stay() -> None:
    table = bound_table(listener("polite", protocol="tcp"), listener("stubborn", protocol="tcp"))
    for name in ("polite", "stubborn"):
        await table.open_tcp(name, Lazy(Factories(PoliteEcho)))
    polite, stubborn = await connect(table, "polite"), await connect(table, "stubborn")
    for wire in (polite, stubborn):
        wire.writer.write(b"here")
        await exactly(wire, b"here")
    closing = asyncio.create_task(table.close(grace_s=1))
    await exactly(polite, b"bye")
    polite.writer.write(b"bye")
    assert await polite.rest() == b"bye"
    assert await stubborn.rest() == b"bye"
    await closing
    with pytest.raises(ConnectionRefusedError):
        await connect(table, "polite")


async def test_datagrams_that_come_while_a_system_is_built_are_kept_up_to_a_limit() -> None:
    table = bound_table(listener("metrics", protocol="udp"))
    factories = Factories(EchoDatagrams)
    factories.go.clear()
    await table.open_udp("metrics", Lazy(factories))
    host, _, port = table["metrics"].address.rpartition(":")
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            answers.put_nowait(data)

    client, _ = await asyncio.get_running_loop().create_datagram_endpoint(Client, remote_addr=(host, int(port)))
    for number in range(DATAGRAMS_WAITING_MAX):
        client.sendto(b"%d" % number)
    await asyncio.wait_for(factories.begun.wait(), PATIENCE_S)
    factories.go.set()
    assert await asyncio.wait_for(answers.get(), PATIENCE_S) == b"0"
    client.sendto(b"late")
    async with asyncio.timeout(PATIENCE_S):
        while await answers.get() != b"late":
            pass
    assert factories.builds == 1
    client.close()
    await table.close(0)


def test_the_soft_limit_of_descriptors_is_raised_as_far_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 512), before[1]))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512 or before[1] <= 512
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
