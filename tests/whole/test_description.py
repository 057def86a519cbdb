"""The whole JSON API in words, as a running server gives it: valid, complete, and without building anything."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis

from mainspring.core.manifest import manifests
from tests.fixtures_server import Server, StartServer

PROBLEM = {"$ref": "#/components/schemas/ProblemDetails"}
NAMES = [*(one.name for one in manifests().values() if one.routes), "accounts", "keys"]


def get(server: Server, path: str, **headers: str) -> tuple[Any, bytes]:
    """The answer's headers and body, for nobody in particular."""
    with urllib.request.urlopen(urllib.request.Request(server.address + path, headers=headers), timeout=60) as answer:
        return answer.headers, answer.read()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def check(document: dict[str, Any], systems: list[str]) -> None:
    """The document is valid OpenAPI 3.1 of exactly these systems, and each operation says what it does and refuses."""
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()
    assert sorted(one["name"] for one in document["tags"]) == sorted(systems)
    assert {path.split("/")[2] for path in document["paths"]} == set(systems)
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 0
    for name, operation in operations(document):
        assert operation["summary"].endswith((".", "?")), f"{name} does not say what it does"
        responses = operation["responses"]
        assert {"400", "404", "405", "default"} <= set(responses), name
        if operation["security"]:
            assert {"401", "403"} <= set(responses), name
        assert any(status.startswith("2") for status in responses), name
        for status, response in responses.items():
            if status[0] in "45d":
                assert response["content"]["application/problem+json"]["schema"] == PROBLEM, f"{name} {status}"


def test_the_description_of_the_whole_is_valid_and_each_operation_says_what_it_does_and_what_it_refuses(
    start_server: StartServer,
) -> None:
    server = start_server()
    headers, body = get(server, "openapi.json")
    assert headers["content-type"] == "application/json"
    whole = json.loads(body)
    check(whole, NAMES)
    for name in NAMES:
        document = json.loads(get(server, f"api/{name}/openapi.json")[1])
        check(document, [name])
        assert document["paths"].keys() <= whole["paths"].keys()
    with pytest.raises(urllib.error.HTTPError, match="304"):
        get(server, "openapi.json", **{"if-none-match": headers["etag"]})
    states = {one["state"] for one in json.loads(get(server, "-/systems")[1])["systems"]}
    assert states == {"idle"}, "to describe a system builds nothing"


def test_a_node_describes_the_systems_that_it_runs(start_server: StartServer) -> None:
    server = start_server("ids")
    check(json.loads(get(server, "openapi.json")[1]), ["ids", "accounts", "keys"])
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(server, "api/links/openapi.json")
