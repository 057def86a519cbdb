"""ETags spare an answer that is known already and stop a change to what has not been seen."""

import pytest

from mainspring.core.http import Request, Response, asgi
from mainspring.core.http.conditional import PreconditionRequired, answer, check, etag_of, require
from mainspring.core.problems import PreconditionFailed
from tests.asgi import Exchange, call, http_scope

TAG = etag_of(b"version 1")


def request(method: str = "GET", **headers: str) -> Request:
    scope = http_scope(method, "/", {name.replace("_", "-"): value for name, value in headers.items()})
    return Request(scope, Exchange(scope, []).receive)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (TAG.decode(), 304),
        (f"W/{TAG.decode()}", 304),
        (f'"other", {TAG.decode()}', 304),
        (f'{TAG.decode()[:-1]}-gzip"', 304),
        ("*", 304),
        ('"other"', 200),
        ("", 200),
    ],
)
async def test_a_known_version_is_not_sent_again(header: str, status: int) -> None:
    async def handler(asked: Request) -> Response:
        response = Response(200, b"body", "text/plain", [(b"cache-control", b"max-age=60")])
        return answer(asked, response, TAG)

    answered = await call(asgi(handler), "GET", "/", headers={"if-none-match": header})
    assert answered.status == status
    assert answered.headers["etag"] == TAG.decode()
    assert answered.headers["cache-control"] == "max-age=60"
    assert ("content-type" in answered.headers) == (status == 200)


@pytest.mark.parametrize(
    ("headers", "present", "passes"),
    [
        ({}, TAG, True),
        ({"if_match": TAG.decode()}, TAG, True),
        ({"if_match": f'{TAG.decode()[:-1]}-gzip"'}, TAG, True),
        ({"if_match": "*"}, TAG, True),
        ({"if_match": f"W/{TAG.decode()}"}, TAG, False),
        ({"if_match": '"old"'}, TAG, False),
        ({"if_match": "*"}, None, False),
        ({"if_none_match": "*"}, None, True),
        ({"if_none_match": "*"}, TAG, False),
        ({"if_none_match": TAG.decode()}, TAG, False),
    ],
)
def test_a_change_is_made_only_to_the_version_that_was_seen(
    headers: dict[str, str], present: bytes | None, passes: bool
) -> None:
    asked = request("PUT", **headers)
    if passes:
        check(asked, present)
    else:
        with pytest.raises(PreconditionFailed):
            check(asked, present)


def test_a_condition_can_be_demanded() -> None:
    with pytest.raises(PreconditionRequired):
        require(request("PUT"), TAG)
    require(request("PUT", if_match=TAG.decode()), TAG)
