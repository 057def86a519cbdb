"""`mainspring demo`: each of them, for a moment, on a running server; what it says it made is there."""

import pytest

from tests.fixtures_server import StartServer

RUN = ("--rate", "30", "--seconds", "2")


def test_links_are_made_and_visited(start_server: StartServer) -> None:
    server = start_server("links")
    assert server.command("demo", "links", *RUN).startswith("10 links, ")
    assert len(server.call("GET", "api/links/links?limit=50")["items"]) == 10


def test_orders_are_placed_and_billed_over_kafka(start_server: StartServer) -> None:
    server = start_server("log")
    told = server.command("demo", "log", *RUN)
    orders = int(told.partition(" ")[0])
    assert orders > 0
    placed, cursor = 0, ""
    while cursor is not None:
        page = server.call("GET", f"api/log/topics/demo.orders/records?limit=100{cursor and f'&cursor={cursor}'}")
        placed, cursor = placed + len(page["items"]), page["next"]
    assert placed == orders
    assert {one["name"] for one in server.call("GET", "api/log/groups")["items"]} == {"demo.billing", "demo.reports"}


def test_pictures_are_put_and_looked_at_over_s3(start_server: StartServer) -> None:
    server = start_server("objects")
    told = server.command("demo", "objects", *RUN)
    pictures = int(told.split()[2])
    listed = server.call("GET", "api/objects/buckets/demo-pictures/objects?limit=1000")
    assert len(listed["objects"]) == pictures > 0


@pytest.mark.parametrize("system", ["links", "log", "objects"])
def test_a_listener_that_is_off_is_a_clear_error(system: str) -> None:
    import importlib

    family = "social" if system == "links" else "storage"
    demo = importlib.import_module(f"mainspring.{family}.{system}.demo")
    with pytest.raises(RuntimeError, match="listener is off"):
        demo.run(
            "http://127.0.0.1:1/", {}, {"token": "t", "access_key": "a", "secret_key": "s"}, 1, 1, lambda done: None
        )
