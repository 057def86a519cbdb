"""A real nginx asks the limiter before it serves (`auth_request`)."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import httpcore
import pytest

from mainspring.core.accounts.caller import ANONYMOUS, Caller
from mainspring.core.clock import SystemClock
from mainspring.core.http import Request
from mainspring.core.serve import serve
from mainspring.primitives.limiter import Limiter, MemoryStore
from mainspring.primitives.limiter.http import routes
from mainspring.primitives.limiter.service import Rulebook
from tests.fixtures_database import embedded_database
from tests.needs import need_program
from tests.primitives.limiter.conftest import PATIENCE_S
from tests.primitives.limiter.test_headers import parsed

pytestmark = pytest.mark.peer

Gate = tuple[httpcore.AsyncConnectionPool, Limiter]
README = Path(__file__).resolve().parents[3] / "src/mainspring/primitives/limiter/README.md"


def nginx_server() -> str:
    """The server block that the README gives, between its fences."""
    text = README.read_text(encoding="utf-8")
    return text.split("```nginx\n", 1)[1].split("```", 1)[0]


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """A client of an nginx in front of a folder, and the limiter that nginx asks."""
    nginx = need_program("nginx")
    limiter = Limiter(MemoryStore(), SystemClock(), api="log 3/hour")

    async def authenticate(request: Request) -> Caller:
        if request.headers.get(b"authorization") == b"Bearer ms_secret":
            return Caller(1, "nginx", "token", frozenset({"limiter:hit"}), 1)
        return ANONYMOUS

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(embedded_database(tmp_path))
        app = routes.application({Limiter: limiter, Rulebook: Rulebook(database, limiter, SystemClock())}, authenticate)
        server = await serve(app, socket.create_server(("127.0.0.1", 0)))
        stack.push_async_callback(server.close, 1)
        folder = stack.enter_context(TemporaryDirectory(prefix="ms-nginx-"))
        door = f"{folder}/door"  # a socket's path is short, and nobody else can take it
        (tmp_path / "www").mkdir()
        (tmp_path / "www" / "hello.txt").write_text("hello")
        block = nginx_server().replace("listen 80;", f"listen unix:{door};")
        block = block.replace("127.0.0.1:8080", f"127.0.0.1:{server.address[1]}")
        block = block.replace("/srv/www", str(tmp_path / "www")).replace("ms_…", "ms_secret").replace("50ms", "30s")
        temporary = "".join(
            f"{name}_temp_path {tmp_path}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
            f"events {{}} http {{ access_log off; {temporary} {block} }}"
        )
        process = await asyncio.create_subprocess_exec(
            nginx, "-p", str(tmp_path), "-c", "nginx.conf", "-e", "error.log"
        )
        stack.push_async_callback(process.wait)
        stack.callback(process.terminate)
        async with asyncio.timeout(PATIENCE_S):
            while not Path(door).exists():
                assert process.returncode is None, (tmp_path / "error.log").read_text()
                await asyncio.sleep(0.05)
        yield await stack.enter_async_context(httpcore.AsyncConnectionPool(uds=door)), limiter


async def test_nginx_lets_through_what_the_limiter_admits_and_passes_its_fields_on(gate: Gate) -> None:
    client, limiter = gate
    answers = [await client.request("GET", "http://nginx/hello.txt") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[0].content == b"hello"
    fields = [{name.decode().lower(): value.decode() for name, value in answer.headers} for answer in answers]
    assert [parsed(one["ratelimit"])[0][1]["r"] for one in fields] == [2, 1, 0, 0, 0]
    assert parsed(fields[0]["ratelimit-policy"]) == [("api", {"q": 3, "w": 3600})]
    assert int(fields[3]["retry-after"]) == parsed(fields[3]["ratelimit"])[0][1]["t"]
    assert "retry-after" not in fields[0]
    assert (await limiter.peek("api", "unix:")).remaining == 0


async def test_with_the_limiter_gone_nginx_does_as_its_configuration_says(gate: Gate) -> None:
    client, limiter = gate
    limiter.undefine("api")  # the check answers 404, which auth_request takes as an error
    answer = await client.request("GET", "http://nginx/hello.txt")
    assert answer.status == 200
