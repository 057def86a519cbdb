"""`/api/accounts` and `/-/session` as a console and a script use them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mainspring.core.accounts import Accounts
from mainspring.core.accounts.attempts import PAIR_PER_MINUTE
from mainspring.core.accounts.http import routes
from mainspring.core.accounts.model import OPERATOR
from mainspring.core.accounts.session import session_application
from mainspring.core.clock import VirtualClock
from mainspring.core.http.pages import Cursors
from tests.asgi import Called, call

PASSWORD = "correct horse battery"
OTHER = "staple the horse again"
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


class Browser:
    """Keeps the session's cookie and speaks from a page of this origin."""

    def __init__(self, accounts: Accounts) -> None:
        self.api = routes.application({Accounts: accounts}, accounts.authenticate)
        self._session = session_application(accounts)
        self.cookie = ""

    async def __call__(self, method: str, path: str, **how: Any) -> Called:
        application = self._session if path == "/-/session" else self.api
        headers = {**SAME_ORIGIN, **how.pop("headers", {})}
        if self.cookie:
            headers["cookie"] = self.cookie
        answer = await call(application, method, path, headers=headers, **how)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].partition(";")[0]
        return answer

    async def sign_in(self, name: str, password: str = PASSWORD) -> Called:
        return await self("POST", "/-/session", json={"name": name, "password": password})


@pytest.fixture
def browser(accounts: Accounts) -> Browser:
    return Browser(accounts)


@pytest.fixture
async def owner(browser: Browser, accounts: Accounts) -> Browser:
    """A browser that came by the printed address."""
    answer = await browser("POST", "/-/session", json={"token": accounts.one_click})
    assert answer.status == 204
    return browser


async def test_from_the_printed_address_to_an_owner_who_signs_in_again(browser: Browser, accounts: Accounts) -> None:
    assert (await browser("GET", "/api/accounts/set-up")).json() == {"done": False}
    assert (await browser("GET", "/api/accounts/whoami")).json()["kind"] == "anonymous"
    swapped = await browser("POST", "/-/session", json={"token": accounts.one_click})
    assert swapped.status == 204 and swapped.body == b""
    whoami = (await browser("GET", "/api/accounts/whoami")).json()
    assert whoami == {"account_id": "1", "name": "owner", "kind": "session", "scopes": ["*"]}
    made = await browser("POST", "/api/accounts/set-up", json={"name": "Lea", "password": PASSWORD})
    assert made.status == 200 and made.json()["name"] == "lea" and made.json()["has_password"] is True
    assert (await browser("GET", "/api/accounts/set-up")).json() == {"done": True}
    assert (await browser("DELETE", "/-/session")).status == 204
    assert (await browser("GET", "/api/accounts/whoami")).json()["kind"] == "anonymous"
    assert (await browser.sign_in("lea")).status == 204
    assert (await browser("GET", "/api/accounts/whoami")).json()["name"] == "lea"


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(accounts: Accounts) -> None:
    body = {"token": accounts.one_click}
    plain = await call(session_application(accounts), "POST", "/-/session", json=body)
    name, *flags = plain.headers["set-cookie"].split("; ")
    assert name.startswith("ms_session=") and {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags)
    assert "Secure" not in flags
    for answer in (
        await call(session_application(accounts), "POST", "/-/session", json=body, scheme="https"),
        await call(session_application(accounts, secure=True), "POST", "/-/session", json=body),
    ):
        assert "Secure" in answer.headers["set-cookie"].split("; ")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": "wrong"}, 401),
        ({"name": "lea", "password": "wrong"}, 401),
        ({"name": "lea"}, 422),
        ({}, 422),
        ({"token": 5}, 422),
        ({"token": "x", "more": 1}, 422),
        ([], 422),
    ],
)
async def test_a_sign_in_that_does_not_succeed_sets_no_cookie(browser: Browser, body: Any, status: int) -> None:
    answer = await browser("POST", "/-/session", json=body)
    assert answer.status == status and "set-cookie" not in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"


async def test_signing_in_takes_json_only_from_this_origins_pages_and_of_modest_size(
    browser: Browser, accounts: Accounts
) -> None:
    token = accounts.one_click
    form = await browser("POST", "/-/session", body=f"token={token}".encode(), headers={"content-type": "text/plain"})
    assert form.status == 415
    broken = await browser("POST", "/-/session", body=b"{", headers={"content-type": "application/json"})
    assert broken.status == 422
    large = await browser("POST", "/-/session", json={"token": "x" * 20_000})
    assert large.status == 413
    foreign = {"sec-fetch-site": "cross-site"}
    for method in ("POST", "DELETE"):
        answer = await browser(method, "/-/session", json={"token": token}, headers=foreign)
        assert answer.status == 403 and answer.json()["type"] == "/problems/accounts/cross-origin"
    assert (await browser("GET", "/-/session")).status == 405


async def test_guessing_is_answered_with_429_and_when_to_come_back(browser: Browser, accounts: Accounts) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    for _ in range(PAIR_PER_MINUTE):
        assert (await browser.sign_in("lea", "wrong")).status == 401
    answer = await browser.sign_in("lea")
    assert answer.status == 429 and answer.headers["retry-after"] == "60"


async def test_a_token_is_made_shown_once_used_and_revoked(owner: Browser, now: VirtualClock) -> None:
    expires_at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=90)).isoformat()
    wanted = {"name": "ci", "scopes": ["links:write", "accounts:self"], "expires_at": expires_at}
    made = await owner("POST", "/api/accounts/tokens", json=wanted)
    assert made.status == 201
    token, details = made.json()["token"], made.json()["details"]
    assert details["expires_at"] == "2026-04-01T00:00:00Z" and details["created_at"] == "2026-01-01T00:00:00Z"
    assert token.startswith(details["hint"])
    listed = await owner("GET", "/api/accounts/1/tokens")
    assert [one["id"] for one in listed.json()] == [details["id"]] and token not in listed.text
    script = owner.api
    whoami = (await call(script, "GET", "/api/accounts/whoami", token=token)).json()
    assert whoami["kind"] == "token" and whoami["scopes"] == ["accounts:self", "links:write"]
    more = {"name": "more", "scopes": ["ids:read"]}
    refused = await call(script, "POST", "/api/accounts/tokens", json=more, token=token)
    assert refused.status == 403 and refused.json()["type"] == "/problems/accounts/not-allowed"
    assert (await owner("DELETE", f"/api/accounts/tokens/{details['id']}")).status == 204
    assert (await call(script, "GET", "/api/accounts/whoami", token=token)).status == 401
    assert (await owner("DELETE", f"/api/accounts/tokens/{details['id']}")).status == 404


async def test_an_app_password_is_made_for_a_service(owner: Browser) -> None:
    service = (
        await owner("POST", "/api/accounts/service-accounts", json={"name": "robot", "scopes": ["links:*"]})
    ).json()
    wanted = {"name": "phone", "scopes": ["links:read"], "account_id": service["id"]}
    made = await owner("POST", "/api/accounts/app-passwords", json=wanted)
    assert made.status == 201 and made.json()["details"]["kind"] == "app_password"
    assert [one["name"] for one in (await owner("GET", f"/api/accounts/{service['id']}/tokens")).json()] == ["phone"]


async def test_an_owner_adds_limits_disables_and_enables_a_user(owner: Browser, accounts: Accounts) -> None:
    wanted = {"name": "kim", "password": PASSWORD, "scopes": ["links:*"]}
    made = await owner("POST", "/api/accounts/users", json=wanted)
    assert made.status == 201 and made.json()["role"] == "member"
    kim = f"/api/accounts/{made.json()['id']}"
    assert (await owner("POST", "/api/accounts/users", json=wanted)).json()["type"] == "/problems/accounts/name-taken"
    changed = await owner("PUT", f"{kim}/scopes", json={"scopes": ["links:read"]})
    assert changed.json()["scopes"] == ["accounts:self", "links:read"]
    assert (await owner("POST", f"{kim}/disable")).json()["disabled_at"] is not None
    assert (await Browser(accounts).sign_in("kim")).status == 401
    assert (await owner("POST", f"{kim}/enable")).json()["disabled_at"] is None
    assert (await owner("PUT", f"{kim}/password", json={"password": OTHER})).status == 204
    assert (await Browser(accounts).sign_in("kim", OTHER)).status == 204
    assert (await owner("GET", kim)).json()["name"] == "kim"
    users = (await owner("GET", "/api/accounts/users")).json()
    assert [one["name"] for one in users["items"]] == ["owner", "kim"] and users["next"] is None


async def test_a_member_cares_for_itself_and_is_refused_the_rest(owner: Browser, accounts: Accounts) -> None:
    made = (await owner("POST", "/api/accounts/users", json={"name": "kim", "password": PASSWORD})).json()
    kim = Browser(accounts)
    assert (await kim.sign_in("kim")).status == 204
    for method, path, body in [
        ("GET", "users", None),
        ("GET", "service-accounts", None),
        ("GET", "audit", None),
        ("POST", "users", {"name": "x", "password": PASSWORD}),
        ("POST", "service-accounts", {"name": "x", "scopes": []}),
        ("POST", "1/disable", None),
        ("PUT", "1/password", {"password": OTHER}),
        ("PUT", "1/scopes", {"scopes": []}),
        ("GET", "1/tokens", None),
        ("GET", "1/sessions", None),
        ("DELETE", "1/sessions", None),
        ("POST", "set-up", {"name": "x", "password": PASSWORD}),
        ("POST", "tokens", {"name": "x", "scopes": ["links:read"]}),
    ]:
        answer = await (
            kim(method, f"/api/accounts/{path}") if body is None else kim(method, f"/api/accounts/{path}", json=body)
        )
        assert answer.status == 403, path
    mine = f"/api/accounts/{made['id']}"
    [session] = (await kim("GET", f"{mine}/sessions")).json()
    assert session["current"] is True
    changed = await kim("PUT", f"{mine}/password", json={"password": OTHER, "current": PASSWORD})
    assert changed.status == 204
    assert (await kim("DELETE", f"/api/accounts/sessions/{session['id']}")).status == 204
    assert (await kim("GET", mine)).status == 401
    assert (await kim.sign_in("kim", OTHER)).status == 204
    assert (await kim("DELETE", f"{mine}/sessions")).status == 204
    assert (await kim("GET", mine)).status == 401


async def test_lists_come_in_pages(owner: Browser) -> None:
    for number in range(5):
        wanted = {"name": f"robot{number}", "scopes": []}
        assert (await owner("POST", "/api/accounts/service-accounts", json=wanted)).status == 201
    for path, expected in (("service-accounts", 5), ("audit", 6)):
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await owner("GET", f"/api/accounts/{path}?limit=2{cursor}")).json()
            assert len(page["items"]) <= 2
            seen += [one["id"] for one in page["items"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert len(seen) == len(set(seen)) == expected
    for cursor in (
        "rubbish",
        Cursors("accounts", int).seal(2**64 - 1, "user"),
        Cursors("accounts", int).seal(-1, "user"),
    ):
        assert (await owner("GET", f"/api/accounts/users?limit=1&cursor={cursor}")).status == 400


@pytest.mark.parametrize("id", ["abc", "-1", "99999999999999999999", "9223372036854775807", "0", "%00"])
async def test_no_id_breaks_an_address(owner: Browser, id: str) -> None:
    for method, path in [
        ("GET", f"{id}"),
        ("POST", f"{id}/disable"),
        ("DELETE", f"{id}/sessions"),
        ("DELETE", f"tokens/{id}"),
        ("DELETE", f"sessions/{id}"),
    ]:
        assert (await owner(method, f"/api/accounts/{path}")).status in (404, 422), path
    wanted = {"name": "x", "scopes": [], "account_id": id}
    assert (await owner("POST", "/api/accounts/tokens", json=wanted)).status in (404, 422)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 10_000, "\u202e"])
async def test_no_text_breaks_a_change(owner: Browser, name: str) -> None:
    for path, body in [
        ("users", {"name": name, "password": PASSWORD}),
        ("users", {"name": "kim", "password": name}),
        ("users", {"name": "kim", "password": PASSWORD, "scopes": [name]}),
        ("service-accounts", {"name": name, "scopes": []}),
        ("tokens", {"name": name, "scopes": []}),
    ]:
        answer = await owner("POST", f"/api/accounts/{path}", json=body)
        assert answer.status == 422 and answer.json()["pointer"].startswith("/body/")


async def test_the_description_names_every_operation(accounts: Accounts) -> None:
    assert len(routes.operations) == len({operation.name for operation in routes.operations})
    assert set(routes.openapi()["paths"]) == {f"/api/accounts{one.template}" for one in routes.operations}
