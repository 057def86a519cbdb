"""Schemathesis over the whole description of a running server: whatever is sent is answered as described, never by a 5xx."""

from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.fixtures_server import Server, StartServer

# What a schema cannot say: a query has only text, so that what breaks its schema may mean something valid once it is
# written; and what keeps to its schema may still break a rule (an alias with a dot, a cursor of another list).
BEYOND_SCHEMAS = [negative_data_rejection, positive_data_acceptance]
TOO_LONG = (414, 431)


def furnish(server: Server) -> dict[str, dict[str, str]]:
    """Makes one of everything; gives what its paths call it, by the beginning of the path."""
    link = server.call("POST", "api/links/links", {"url": "https://example.org", "tags": ["fuzzed"]})
    paste = server.call("POST", "api/links/pastes", {"body": "hello\n"})
    server.call("PUT", f"api/links/pastes/{paste['id']}/files/file.txt", "hello")
    server.call("PUT", "api/limiter/policies/fuzzed", {"text": "100/minute"})
    account = server.call("POST", "api/accounts/service-accounts", {"name": "fuzzed", "scopes": ["ids:read"]})
    server.call("POST", "api/objects/buckets", {"name": "fuzzed", "versioning": True})
    upload = server.call("POST", "api/objects/buckets/fuzzed/uploads", {"key": "fuzzed"})["upload"]
    server.call("PUT", "api/objects/buckets/fuzzed/objects/fuzzed", "hello")
    server.call("POST", "api/log/topics", {"name": "fuzzed", "partitions": 2})
    server.call("POST", "api/log/topics/fuzzed/records", {"records": [{"key": "a", "value": "hello"}]})
    server.call("POST", "api/log/groups/fuzzed/offsets", {"topic": "fuzzed", "to": "latest"})
    server.call("POST", "api/keys", {"name": "fuzzed"})
    minted = server.call("POST", "api/ids", {"kind": "ulid"})["ids"][0]
    return {
        "/api/links/links/": {"id": link["id"]},
        "/api/links/tags/": {"tag": "fuzzed"},
        "/api/links/pastes/": {"id": paste["id"], "name": "file.txt"},
        "/api/limiter/": {"policy": "fuzzed", "name": "fuzzed", "key": "fuzzed"},
        "/api/accounts/": {"id": account["id"]},
        "/api/objects/": {"bucket": "fuzzed", "key": "fuzzed", "upload": upload},
        "/api/log/": {"topic": "fuzzed", "group": "fuzzed", "id": "fuzzed"},
        "/api/keys": {"name": "fuzzed"},
        "/api/ids/": {"text": minted, "name": "fuzzed"},
    }


def description(server: Server) -> schemathesis.BaseSchema:
    """The server's description of itself; requests carry a token for everything, unless a check leaves it out."""
    schema = schemathesis.openapi.from_url(server.address + "openapi.json", wait_for_schema=60)
    schema.config.update(request_timeout=60)

    @schema.auth()
    class Token:
        def get(self, case: schemathesis.Case, context: schemathesis.AuthContext) -> str:
            return f"Bearer {server.token}"

        def set(self, case: schemathesis.Case, data: str, context: schemathesis.AuthContext) -> None:
            case.headers["authorization"] = data

    return schema


def try_out(operation: schemathesis.APIOperation, names: dict[str, str], examples: int, statuses: Counter[int]) -> None:
    """Sends one operation so many requests, good and bad ones; raises `FailureGroup` for an answer that is not good."""
    good, bad = operation.as_strategy(), operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @settings(max_examples=examples, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.one_of(good, bad), st.sampled_from([True, True, False]))
    def ask(case: schemathesis.Case, of_what_exists: bool) -> None:
        if of_what_exists:
            case.path_parameters.update({name: names[name] for name in case.path_parameters if name in names})
        if "deny" in case.query:
            case.query["deny"] = 403  # the status that the caller wants refusals to have, which may be a 5xx
        response = case.call()
        statuses[response.status_code] += 1
        # The native server itself refuses a head over 64 KiB, before anything of ours sees it.
        if response.status_code not in TOO_LONG:
            case.validate_response(response, excluded_checks=BEYOND_SCHEMAS)

    ask()


def fuzz(server: Server, examples: int) -> Counter[int]:
    """Tries out every operation; fails with all that was wrong; gives the number of answers by status."""
    known = furnish(server)
    operations = [found.ok() for found in description(server).get_all_operations()]
    operations.sort(key=lambda one: one.method == "delete")  # what exists is taken away last
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    for operation in operations:
        names = next((names for start, names in known.items() if operation.path.startswith(start)), {})
        try:
            try_out(operation, names, examples, statuses)
        except FailureGroup as failures:
            wrong += [f"{operation.label}: {failure}" for failure in failures.exceptions]
    assert not wrong, "\n\n".join([*wrong, server.log()])
    return statuses


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_whatever_a_fuzzer_sends_is_answered_as_described_and_no_operation_fails(
    start_server: StartServer, examples: int
) -> None:
    server = start_server(settings=("links.token_per_minute=1000000000",))
    statuses = fuzz(server, examples)
    assert not [status for status in statuses if status >= 500]
    assert {200, 201, 204, 401, 404, 422} <= set(statuses), "the fuzzer has found the ways that there are"
    assert server.call("GET", "-/ready")["ready"], "and the server is as well as before"
