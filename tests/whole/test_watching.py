"""What an operator watches on a running server: its metrics in either format, and its access log."""

import json
import urllib.error
import urllib.request

import pytest

from mainspring.core.telemetry.exposition import OPENMETRICS, TEXT
from tests.fixtures_server import Server, StartServer


def metrics(server: Server, accept: str) -> tuple[str, str]:
    """The content type and text of `/metrics`."""
    request = urllib.request.Request(server.address + "metrics", headers={"accept": accept})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.headers["content-type"], answer.read().decode()


def test_metrics_come_as_text_or_as_openmetrics_as_the_scraper_prefers(start_server: StartServer) -> None:
    server = start_server("ids")
    server.call("POST", "api/ids", {"kind": "ulid"})
    sample = 'http_requests_total{system="ids",method="POST",route="",status="200"} 1'
    kind, text = metrics(server, "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
    assert kind == OPENMETRICS and text.endswith("# EOF\n") and sample in text
    assert "# TYPE http_requests counter" in text
    for accept in ("*/*", "text/plain;version=0.0.4"):
        kind, text = metrics(server, accept)
        assert kind == TEXT and sample in text and "# TYPE http_requests_total counter" in text


@pytest.mark.parametrize("level", ["info", "debug"])
def test_each_request_is_a_line_where_somebody_debugs_and_none_otherwise(start_server: StartServer, level: str) -> None:
    server = start_server("ids", settings=(f"log_level={level}", "log_format=json"))
    server.call("POST", "api/ids", {"kind": "ulid"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.call("GET", "api/nothing?token=hidden")
    server.stop()
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    told = [(one["level"], one["message"], one["status"]) for one in lines if one["logger"] == "mainspring.access"]
    both = [("debug", "POST /api/ids", 200), ("debug", "GET /api/nothing", 404)]
    assert told == (both if level == "debug" else [])
