"""A node that is told to stop says so where load balancers look, before it closes a door."""

import json
import signal
import urllib.error
import urllib.request

from tests.fixtures_server import Server, StartServer
from tests.waiting import until


def ready(server: Server) -> tuple[int, dict[str, str]]:
    """The status of `/-/ready`, and its checks."""
    try:
        answer = urllib.request.urlopen(f"{server.address}-/ready", timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        return answer.status, json.load(answer)["checks"]


async def test_a_draining_node_is_not_ready_and_serves_all_the_same(start_server: StartServer) -> None:
    server = start_server("ids", settings=("drain_s=600",))
    assert ready(server) == (200, {"database": "ok"})
    server.process.send_signal(signal.SIGTERM)
    await until(lambda: ready(server)[0] == 503)
    assert ready(server)[1] == {"database": "ok", "draining": "This node is stopping"}
    assert len(server.call("POST", "api/ids", {"kind": "ulid", "count": 3})["ids"]) == 3
    assert server.call("GET", "-/live") == {"live": True}
    server.process.send_signal(signal.SIGTERM)  # a second one waits for nobody
    assert server.process.wait(60) == 130
