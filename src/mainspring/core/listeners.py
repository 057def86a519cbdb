"""The one table of listeners: every port of every system, bound by us, so that a taken port is an error.

    table = Listeners(tls=None, plain={"links"})
    table.add(Listener(name="main", protocol="http", host="127.0.0.1", port=8080, authenticated=True, required=True))
    table.bind()                                     # all at once; raises CannotListen with every reason
    await table.open_http("main", door)
    await table.close(grace_s=10)

A port that must bind (the main one, one that the user named) and cannot is an error that says who has it and what to do; a
busy default port of a system only stays off. Off loopback a listener needs TLS (ours, a terminator in front, or its
protocol's own cryptography) and authentication, unless it is public by design or the user excepted it by name.
"""

import asyncio
import errno
import ipaddress
import resource
import socket
from collections.abc import Collection
from typing import Literal

import msgspec

from mainspring.core.connections import Connections, LazyDatagrams, ProtocolFactory
from mainspring.core.http.request import Application
from mainspring.core.lazy import Lazy
from mainspring.core.portholders import port_holder
from mainspring.core.serve import Server, serve
from mainspring.core.tls import Tls

Protocol = Literal["http", "tcp", "udp"]
DESCRIPTORS_WANTED = 65_536


class CannotListen(Exception):
    """One or more listeners that must bind cannot; each line says why and what to do."""


class Listener(msgspec.Struct, kw_only=True):
    """A row of the table. The caller says what is wanted; `state`, `reason` and `address` say what became of it.

    `system` is empty for the main port. `required`: it must bind, because it is the main port or the user named its port.
    `public`: strangers are whom it serves. `authenticated`: its protocol lets nobody in without credentials.
    `encrypted`: its protocol brings its own cryptography (DTLS, SRTP). Port 0 takes a free one.
    """

    name: str
    protocol: Protocol
    host: str
    port: int
    system: str = ""
    public: bool = False
    authenticated: bool = False
    encrypted: bool = False
    required: bool = False
    connections_max: int = 8192
    state: Literal["planned", "open", "off"] = "planned"
    reason: str = ""
    address: str = ""


class Listeners:
    """`tls` is for every HTTP and TCP listener but those in `plain`; `behind_tls` says that a terminator stands in front;
    `plain` names listeners that may be off loopback without TLS and authentication."""

    def __init__(self, *, tls: Tls | None = None, behind_tls: bool = False, plain: Collection[str] = ()) -> None:
        self._tls = tls
        self._behind_tls = behind_tls
        self._plain = frozenset(plain)
        self._rows: dict[str, Listener] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._servers: list[Server] = []
        self._connections: list[Connections] = []
        self._datagrams: list[asyncio.DatagramTransport] = []

    def table(self) -> list[Listener]:
        return list(self._rows.values())

    def __getitem__(self, name: str) -> Listener:
        return self._rows[name]

    def add(self, listener: Listener) -> None:
        """Plans a listener; its name is unique."""
        if listener.name in self._rows:
            raise ValueError(f"two listeners are called {listener.name!r}")
        self._rows[listener.name] = listener

    def bind(self) -> None:
        """Binds all that are planned: to the end, so that one run tells everything that is wrong. Raises `CannotListen`
        where one that is required could not; nothing stays bound then."""
        raise_descriptor_limit()
        unknown = sorted(self._plain - set(self._rows))
        failures = [f"--plain {name}: there is no listener of this name" for name in unknown]
        for row in self._rows.values():
            if row.state == "planned" and (reason := self._bind(row)):
                row.state, row.reason = "off", reason
                if row.required:
                    failures.append(f"{row.name}: {reason}")
        if failures:
            for sock in self._sockets.values():
                sock.close()
            self._sockets.clear()
            raise CannotListen("\n".join(failures))

    def _bind(self, row: Listener) -> str:
        """Binds one and gives the empty string, or the reason why not."""
        kind = socket.SOCK_DGRAM if row.protocol == "udp" else socket.SOCK_STREAM
        try:
            family, _, _, _, address = socket.getaddrinfo(row.host, row.port, type=kind)[0]
        except (OSError, UnicodeError) as error:
            return f"{row.host!r} is not an address of this machine: {getattr(error, 'strerror', None) or error}"
        if reason := self._refusal(row, str(address[0])):
            return reason
        sock = socket.socket(family, kind)
        try:
            if kind == socket.SOCK_STREAM:
                # A port in TIME_WAIT is free. For UDP the option would let two servers share one port.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address[0] != "::"))
            sock.bind(address)
            if kind == socket.SOCK_STREAM:
                sock.listen(1024)  # Two may bind with SO_REUSEADDR; only one may listen.
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            return _why_not(row, error)
        self._sockets[row.name] = sock
        host, port = sock.getsockname()[:2]
        row.state, row.address = "open", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return ""

    def _refusal(self, row: Listener, address: str) -> str:
        """Why this listener may not be opened to other machines; empty where it may."""
        if is_loopback(address) or row.name in self._plain:
            return ""
        if not (row.encrypted or (row.protocol != "udp" and (self._tls or self._behind_tls))):
            return (
                f"{row.host} is not loopback, and without TLS anybody on the way could read along: give a certificate "
                f"(--set tls_certificate=… --set tls_key=…), say --behind-tls where a proxy in front terminates TLS, "
                f"or except this listener with --plain {row.name}"
            )
        if not (row.public or row.authenticated):
            return (
                f"{row.host} is not loopback, and this listener asks nobody for credentials: keep it on loopback, "
                f"or except it with --plain {row.name}"
            )
        return ""

    def _tls_of(self, name: str) -> Tls | None:
        return None if name in self._plain else self._tls

    def url(self, name: str) -> str:
        """The address of an open HTTP listener for a browser, with a slash at the end."""
        row = self._rows[name]
        host = row.address.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:")
        return f"{'https' if self._tls_of(name) else 'http'}://{host}/"

    async def open_http(self, name: str, app: Application) -> Server:
        """Serves an application on a bound listener."""
        row, sock = self._rows[name], self._sockets.pop(name)
        server = await serve(app, sock, tls=self._tls_of(name), connections_max=row.connections_max)
        self._servers.append(server)
        return server

    async def open_tcp(self, name: str, factories: Lazy[ProtocolFactory]) -> Connections:
        """Accepts connections on a bound listener; the first builds the factory of `name`."""
        tls = self._tls_of(name)
        connections = Connections(name, factories, self._rows[name].connections_max)
        await connections.listen(self._sockets.pop(name), tls.context() if tls else None)
        self._connections.append(connections)
        return connections

    async def open_udp(self, name: str, factories: Lazy[ProtocolFactory]) -> asyncio.DatagramTransport:
        """Receives datagrams on a bound listener; the first builds the factory of `name`."""
        loop = asyncio.get_running_loop()
        made = await loop.create_datagram_endpoint(lambda: LazyDatagrams(name, factories), sock=self._sockets.pop(name))
        self._datagrams.append(made[0])
        return made[0]

    async def close(self, grace_s: float = 10.0) -> None:
        """Stops accepting on all, lets what runs finish within the grace, then ends it."""
        for transport in self._datagrams:
            transport.close()
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        ends = [server.close(grace_s) for server in self._servers]
        ends += [connections.close(grace_s) for connections in self._connections]
        for row in self._rows.values():
            if row.state == "open":
                row.state, row.reason = "off", "closed"
        await asyncio.gather(*ends)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an IP address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def raise_descriptor_limit() -> None:
    """Lets this process have as many sockets and files as it may; the usual soft limit of 1,024 is for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(DESCRIPTORS_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _why_not(row: Listener, error: OSError) -> str:
    option = f"--set ports.{row.name}=N" if row.system else "--port N"
    if error.errno == errno.EADDRINUSE:
        holder = port_holder(row.port, udp=row.protocol == "udp")
        by = f" by {holder}" if holder else ""
        return f"port {row.port} on {row.host} is taken{by}; stop that program, or choose another port with {option}"
    if error.errno == errno.EACCES:
        return f"port {row.port} needs a privilege that this process lacks; choose one above 1023 with {option}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{row.host} is not an address of this machine"
    return f"port {row.port} on {row.host} cannot be opened: {error.strerror}"
