"""Two nodes on one PostgreSQL and one Redis, behind an nginx with the configuration that the repository gives."""

import asyncio
import json
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpcore
import msgspec

from mainspring.core.tls import Tls
from tests.core.certificates import make_certificate
from tests.fixtures_cache import RedisServer
from tests.fixtures_database import PostgresServer
from tests.fixtures_server import Server, free_ports, run_command
from tests.needs import REPOSITORY, need_program

PATIENCE_S = 60
CONSOLE, GO = "console.example.org", "go.example.org"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class Answer(msgspec.Struct):
    """What came back through nginx; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    """A client of one of nginx's servers, over TLS on a Unix socket: nobody else can take its path, as one could a port."""

    def __init__(self, host: str, sockets: Path, tls: ssl.SSLContext) -> None:
        self.host, self.path, self.tls = host, str(sockets / host), tls
        self.pool = httpcore.AsyncConnectionPool(uds=self.path, ssl_context=tls)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends JSON, where there is a body."""
        content = None if body is None else json.dumps(body).encode()
        sent = {"host": self.host, "content-type": "application/json", **headers}
        async with asyncio.timeout(PATIENCE_S):
            got = await self.pool.request(method, f"https://{self.host}{path}", headers=sent, content=content)
        return Answer(got.status, {name.decode().lower(): value.decode() for name, value in got.headers}, got.content)


class Nodes(msgspec.Struct):
    """The two servers, and where nginx listens."""

    one: Server
    two: Server
    sockets: Path
    tls: Tls

    @asynccontextmanager
    async def door(self, host: str) -> AsyncIterator[Door]:
        trusted = ssl.create_default_context(cafile=str(self.tls.certificate))
        trusted.check_hostname = False  # the certificate is one for localhost
        door = Door(host, self.sockets, trusted)
        async with door.pool:
            yield door


@contextmanager
def running(postgres: PostgresServer, folder: Path) -> Iterator[Nodes]:
    """Starts all of it, with nothing in the database."""
    need_program("nginx")
    schema = f"t_{uuid.uuid4().hex}"
    redis = RedisServer()
    with ExitStack() as stack:
        stack.callback(redis.remove)
        redis.start()
        postgres.execute(f"CREATE SCHEMA {schema}")
        stack.callback(postgres.execute, f"DROP SCHEMA {schema} CASCADE")
        database = f"database={postgres.dsn(schema)}"
        run_command("migrate", "--data", str(folder / "migrating"), "--set", database)
        shared = (
            database,
            f"cache={redis.url}",
            f"hosts={CONSOLE}",
            "behind_tls=true",
            "trusted_proxies=127.0.0.0/8",
            f"links.public_url=https://{GO}",
            "links.token_per_minute=1000000000",
        )
        nodes = []
        for name in ("one", "two"):
            nodes.append(Server(folder / name, (), (*free_ports(), *shared)))
            stack.callback(nodes[-1].stop)
        sockets = Path(stack.enter_context(TemporaryDirectory(prefix="ms-nginx-")))
        tls = make_certificate(folder)
        stack.enter_context(_nginx(nodes, folder, sockets, tls))
        yield Nodes(*nodes, sockets, tls)


@contextmanager
def _nginx(nodes: list[Server], folder: Path, sockets: Path, tls: Tls) -> Iterator[None]:
    """Starts nginx with `deploy/nginx.conf`, in which addresses and certificates are replaced and nothing else."""
    text = (REPOSITORY / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for number, node in enumerate(nodes, 11):
        text = _replaced(text, f"10.0.0.{number}:8080", _address(node.address))
        text = _replaced(text, f"10.0.0.{number}:8410", _address(node.listener("links")))
    for host in (CONSOLE, GO):
        text = _replaced(text, f"listen 443 ssl;\n    server_name {host};", f"listen unix:{sockets}/{host} ssl;")
        text = _replaced(text, f"/etc/ssl/{host}/fullchain.pem", str(tls.certificate))
        text = _replaced(text, f"/etc/ssl/{host}/key.pem", str(tls.key))
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;"
        f"events {{}} http {{ access_log off; {temporary}\n{text}\n}}"
    )
    process = subprocess.Popen([need_program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"])
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while not all(_accepts(sockets / host) for host in (CONSOLE, GO)):
            assert process.poll() is None and time.monotonic() < deadline_s, (folder / "error.log").read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1, old
    return text.replace(old, new)


def _address(url: str) -> str:
    return url.removeprefix("http://").rstrip("/")
