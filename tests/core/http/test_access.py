"""The access log: our own failures always, every request where somebody debugs, and no call where nobody reads it."""

import logging
from typing import Any

import pytest

from mainspring.core.http import Request, Response, access, asgi
from mainspring.core.http.manners import Manners
from tests.asgi import call


async def answering(request: Request) -> Response:
    if request.path == "/fault":
        raise RuntimeError
    return Response(302 if request.path == "/moved" else 200)


async def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[Any]:
    """(level, message, status) of the lines that three requests leave at a level of logging."""
    caplog.set_level(level, "mainspring.access")
    app = Manners(asgi(answering), access=access.note, access_status_min=access.status_min())
    for path in ("/here?token=ms_secret", "/moved", "/fault"):
        await call(app, "GET", path)
    told: list[Any] = [one for one in caplog.records if one.name == "mainspring.access"]
    assert all(one.seconds >= 0 and one.request_id for one in told)
    return [(one.levelname, one.getMessage(), one.status) for one in told]


async def test_failures_of_ours_are_information_and_all_else_is_for_debugging(caplog: pytest.LogCaptureFixture) -> None:
    failed = ("INFO", "GET /fault", 500)
    assert await lines(caplog, logging.INFO) == [failed]
    caplog.clear()
    everything = [("DEBUG", "GET /here", 200), ("DEBUG", "GET /moved", 302), failed]
    assert await lines(caplog, logging.DEBUG) == everything


async def test_where_nobody_reads_them_no_line_is_made(caplog: pytest.LogCaptureFixture) -> None:
    assert await lines(caplog, logging.WARNING) == []
    assert access.status_min() == access.NEVER


def test_no_answer_at_all_is_known_by_its_status(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "mainspring.access")
    access.note({"method": "GET", "path": "/gone"}, 0, 0.5, "id")
    assert caplog.records[-1].levelno == logging.DEBUG
