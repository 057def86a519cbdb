"""`traceparent` headers, as W3C Trace Context says which are valid."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.http.manners import Manners
from mainspring.core.telemetry.trace import Trace, current, from_traceparent, serving
from tests.asgi import call

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_valid_header_names_trace_parent_and_sampling() -> None:
    assert from_traceparent("r", f"00-{TRACE}-{PARENT}-01") == Trace("r", TRACE, PARENT, True)
    assert from_traceparent("r", f"00-{TRACE}-{PARENT}-00") == Trace("r", TRACE, PARENT, False)


def test_a_later_version_may_say_more() -> None:
    assert from_traceparent("r", f"01-{TRACE}-{PARENT}-01-more") == Trace("r", TRACE, PARENT, True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01\n",
    ],
)
def test_an_invalid_header_is_as_if_it_were_not_there(header: str) -> None:
    assert from_traceparent("r", header) == Trace("r")


@given(st.text())
def test_no_header_raises(header: str) -> None:
    from_traceparent("r", header)


def test_what_is_served_here_is_known_here_and_nothing_outside() -> None:
    assert current() is None
    token = serving.set({"headers": []})
    try:
        assert current() == Trace("")
    finally:
        serving.reset(token)
    assert current() is None


async def test_below_the_http_manners_a_request_is_known_by_its_id_and_trace() -> None:
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    headers = {"x-request-id": "request-0001", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = await call(Manners(application), "GET", "/", headers=headers)
    assert answer.status == 204
    assert seen == [Trace("request-0001", TRACE, PARENT, True)]
