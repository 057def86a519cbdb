"""From the credentials of a request to its caller, and how soon what was revoked is refused."""

import asyncio

import pytest
from sqlalchemy import select

from mainspring.core.accounts import ANONYMOUS, Accounts, Caller
from mainspring.core.accounts.authenticator import FLUSH_S, REMEMBERED_MAX
from mainspring.core.accounts.caller import covers
from mainspring.core.accounts.model import (
    ONE_CLICK,
    OPERATOR,
    OWNER_ID,
    CredentialsInvalid,
    CrossOrigin,
    digest,
)
from mainspring.core.accounts.tables import tables
from mainspring.core.clock import VirtualClock
from mainspring.core.manifest import TokenShape
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Unavailable

from .conftest import QUICK
from .requests import api_key, basic, bearer, cookie, request

ONE_SECOND = 1.0
PASSWORD = "correct horse battery"


async def refused(accounts: Accounts, asked) -> bool:  # type: ignore[no-untyped-def]  # a Request
    try:
        return await accounts.authenticate(asked) is ANONYMOUS
    except CredentialsInvalid:
        return True


async def test_a_request_without_credentials_is_nobodys(accounts: Accounts) -> None:
    assert await accounts.authenticate(request()) is ANONYMOUS
    assert await accounts.authenticate(request(headers={"cookie": "theme=dark"})) is ANONYMOUS


async def test_the_one_click_token_may_everything_for_the_owner(accounts: Accounts) -> None:
    for asked in (bearer(accounts.one_click), api_key(accounts.one_click), basic("x", accounts.one_click)):
        assert await accounts.authenticate(asked) is ONE_CLICK
    assert ONE_CLICK.account_id == OWNER_ID and ONE_CLICK.may("links:write")


async def test_each_process_has_a_one_click_token_of_its_own(
    database: Database, accounts: Accounts, now: VirtualClock
) -> None:
    other = Accounts(database, now, argon2=QUICK)
    assert other.one_click != accounts.one_click
    assert await refused(other, bearer(accounts.one_click))


async def test_a_token_works_as_bearer_as_api_key_and_as_the_password_of_any_name(accounts: Accounts) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:write"])
    for asked in (
        bearer(made.secret),
        request(headers={"authorization": f"bearer  {made.secret}"}),
        api_key(made.secret),
        basic("anything", made.secret),
    ):
        for _ in range(2):
            caller = await accounts.authenticate(asked)
            assert caller == Caller(OWNER_ID, "owner", "token", frozenset({"links:write"}), made.token.id)


async def test_an_app_password_works_with_its_accounts_name_and_in_no_other_way(accounts: Accounts) -> None:
    user = await accounts.create_user(OPERATOR, "Lea", PASSWORD, ["links:write", "links:read"])
    made = await accounts.create_app_password(OPERATOR, "calendar", ["links:read"], account_id=user.id)
    caller = await accounts.authenticate(basic("LEA", made.secret))
    assert (caller.kind, caller.account_id, caller.scopes) == ("app_password", user.id, frozenset({"links:read"}))
    for asked in (basic("owner", made.secret), bearer(made.secret), api_key(made.secret), basic("", made.secret)):
        assert await refused(accounts, asked)


async def test_a_users_own_password_is_never_accepted_outside_signing_in(accounts: Accounts) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    for asked in (basic("lea", PASSWORD), bearer(PASSWORD), api_key(PASSWORD), cookie(PASSWORD)):
        assert await refused(accounts, asked)


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Basic",
        "Basic !!!",
        "Basic bm9jb2xvbg==",
        "Basic OnVzZXI6",
        "Digest x=y",
        "Bearer " + "x" * 9000,
        "Basic /w==",
        "Bearer \xff\xfe",
        "ms_abc",
        "Bearer ms_" + "a" * 43,
    ],
)
async def test_credentials_that_are_no_credentials_are_refused_with_401(accounts: Accounts, header: str) -> None:
    with pytest.raises(CredentialsInvalid) as caught:
        await accounts.authenticate(request(headers={"authorization": header}))
    assert caught.value.status == 401 and caught.value.type == "accounts/credentials-invalid"


async def test_an_authorization_header_wins_over_a_cookie(accounts: Accounts) -> None:
    session = await accounts.swap(accounts.one_click)
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    both = request("POST", {"authorization": f"Bearer {made.secret}", "cookie": f"ms_session={session}"})
    assert (await accounts.authenticate(both)).kind == "token"
    with pytest.raises(CredentialsInvalid):
        await accounts.authenticate(request(headers={"authorization": "Bearer x", "cookie": f"ms_session={session}"}))


async def test_a_revoked_token_is_refused_at_once_here_and_within_a_second_elsewhere(
    accounts: Accounts, elsewhere: Accounts, now: VirtualClock
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    for node in (accounts, elsewhere):
        assert not await refused(node, bearer(made.secret))
    await accounts.revoke_token(OPERATOR, made.token.id)
    assert await refused(accounts, bearer(made.secret))
    await now.advance(ONE_SECOND / 2)
    assert await refused(elsewhere, bearer(made.secret))


async def test_a_revoked_session_is_refused_at_once_here_and_within_a_second_elsewhere(
    accounts: Accounts, elsewhere: Accounts, now: VirtualClock
) -> None:
    secret = await accounts.swap(accounts.one_click)
    caller = await accounts.authenticate(cookie(secret))
    assert (caller.kind, caller.scopes) == ("session", frozenset({"*"}))
    assert await elsewhere.authenticate(cookie(secret)) == caller
    await accounts.revoke_session(caller, caller.token_id or 0)
    assert await accounts.authenticate(cookie(secret)) is ANONYMOUS
    await now.advance(ONE_SECOND / 2)
    assert await elsewhere.authenticate(cookie(secret)) is ANONYMOUS


async def test_a_disabled_accounts_credentials_are_refused_until_it_is_enabled(
    accounts: Accounts, elsewhere: Accounts, now: VirtualClock
) -> None:
    service = await accounts.create_service(OPERATOR, "robot", ["links:*"])
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"], account_id=service.id)
    assert not await refused(elsewhere, bearer(made.secret))
    await accounts.disable(OPERATOR, service.id)
    await now.advance(ONE_SECOND / 2)
    assert await refused(accounts, bearer(made.secret)) and await refused(elsewhere, bearer(made.secret))
    await accounts.enable(OPERATOR, service.id)
    assert not await refused(accounts, bearer(made.secret)) and not await refused(elsewhere, bearer(made.secret))


async def test_a_token_loses_at_once_what_its_account_loses(accounts: Accounts) -> None:
    service = await accounts.create_service(OPERATOR, "robot", ["links:*", "ids:read"])
    made = await accounts.create_token(OPERATOR, "ci", ["links:*", "ids:read"], account_id=service.id)
    assert (await accounts.authenticate(bearer(made.secret))).may("links:write")
    await accounts.change_scopes(OPERATOR, service.id, ["links:read"])
    assert (await accounts.authenticate(bearer(made.secret))).scopes == {"links:read"}
    await accounts.change_scopes(OPERATOR, service.id, ["links:*", "ids:read", "kv:*"])
    assert covers((await accounts.authenticate(bearer(made.secret))).scopes, ["links:*", "ids:read"])


async def test_a_token_expires_on_time_though_it_is_remembered(accounts: Accounts, now: VirtualClock) -> None:
    expires_us = now.wall_ns() // 1000 + 200_000
    made = await accounts.create_token(OPERATOR, "short", ["links:read"], expires_us=expires_us)
    assert not await refused(accounts, bearer(made.secret))
    await now.advance(0.1999)
    assert not await refused(accounts, bearer(made.secret))
    await now.advance(0.0001)
    assert await refused(accounts, bearer(made.secret))


async def test_a_caller_is_read_once_in_a_while_and_once_for_all_who_wait(
    database: Database, accounts: Accounts, now: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    reads = 0
    read = database.read

    async def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return await read(*args, **kwargs)

    monkeypatch.setattr(database, "read", counted)
    callers = await asyncio.gather(*(accounts.authenticate(bearer(made.secret)) for _ in range(100)))
    assert len(set(map(id, callers))) == 1 and reads == 1
    await now.advance(0.39)
    await accounts.authenticate(bearer(made.secret))
    assert reads == 1
    await now.advance(0.02)
    await accounts.authenticate(bearer(made.secret))
    assert reads == 2


async def test_what_is_revoked_while_it_is_being_read_is_not_remembered(
    database: Database, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    was_read, go_on = asyncio.Event(), asyncio.Event()
    read = database.read

    async def slow(*args, **kwargs):  # type: ignore[no-untyped-def]
        found = await read(*args, **kwargs)
        was_read.set()
        await go_on.wait()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(database, "read", slow)
        asking = asyncio.create_task(accounts.authenticate(bearer(made.secret)))
        await asyncio.wait_for(was_read.wait(), 30)
    await accounts.revoke_token(OPERATOR, made.token.id)
    go_on.set()
    assert (await asking).kind == "token", "it was asked before"
    assert await refused(accounts, bearer(made.secret))


async def test_a_request_that_goes_away_does_not_take_the_answer_from_the_others(
    database: Database, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    go_on, read = asyncio.Event(), database.read

    async def slow(*args, **kwargs):  # type: ignore[no-untyped-def]
        await go_on.wait()
        return await read(*args, **kwargs)

    monkeypatch.setattr(database, "read", slow)
    first, second = (asyncio.create_task(accounts.authenticate(bearer(made.secret))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    assert (await second).kind == "token"


async def test_without_its_database_it_says_503_and_recovers(
    database: Database, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])

    async def gone(*args, **kwargs):  # type: ignore[no-untyped-def]
        raise Unavailable

    with monkeypatch.context() as patch:
        patch.setattr(database, "read", gone)
        with pytest.raises(Unavailable):
            await accounts.authenticate(bearer(made.secret))
    assert not await refused(accounts, bearer(made.secret))


async def test_the_memory_of_callers_is_bounded(accounts: Accounts, now: VirtualClock) -> None:
    authenticator = accounts._authenticator
    for number in range(REMEMBERED_MAX + 100):
        authenticator._remember(number.to_bytes(4, "big"), ONE_CLICK, now.mono_ns() + 400_000_000)
    assert len(authenticator._remembered) == REMEMBERED_MAX
    await now.advance(1)
    for number in range(REMEMBERED_MAX):
        authenticator._remember(number.to_bytes(4, "big"), ONE_CLICK, now.mono_ns() + 400_000_000)
    assert len(authenticator._remembered) <= REMEMBERED_MAX


async def test_when_a_token_was_used_is_stored_later_in_one_write_exact_to_a_minute(
    database: Database, accounts: Accounts, now: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    writes, write, written = 0, database.write, asyncio.Event()

    async def counted(*args, **kwargs):  # type: ignore[no-untyped-def]
        nonlocal writes
        writes += 1
        try:
            return await write(*args, **kwargs)
        finally:
            written.set()

    monkeypatch.setattr(database, "write", counted)
    for _ in range(5):
        await accounts.authenticate(bearer(made.secret))
        await now.advance(1)
    assert writes == 0 and (await accounts.tokens(OPERATOR, OWNER_ID))[0].last_used_us is None
    used_us = now.wall_ns() // 1000
    await now.advance(FLUSH_S)
    await asyncio.wait_for(written.wait(), 30)
    [token] = await accounts.tokens(OPERATOR, OWNER_ID)
    assert token.last_used_us == used_us - used_us % 60_000_000
    await accounts.authenticate(bearer(made.secret))
    await now.advance(FLUSH_S + 5)
    assert writes == 1, "the same minute is stored once"


async def test_what_was_noted_is_stored_when_the_process_stops(
    database: Database, accounts: Accounts, elsewhere: Accounts
) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"])
    await elsewhere.authenticate(bearer(made.secret))
    await elsewhere.stop()
    assert (await accounts.tokens(OPERATOR, OWNER_ID))[0].last_used_us is not None


async def test_a_session_lasts_thirty_days_from_when_it_was_last_seen(accounts: Accounts, now: VirtualClock) -> None:
    secret = await accounts.swap(accounts.one_click)
    for _ in range(3):
        await now.advance(29 * 86_400)
        assert not (await accounts.authenticate(cookie(secret))).anonymous
        await accounts._authenticator.flush()
    await now.advance(30 * 86_400 + 60)
    assert await accounts.authenticate(cookie(secret)) is ANONYMOUS


SAME_ORIGIN = [
    {"sec_fetch_site": "same-origin"},
    {"origin": "http://127.0.0.1:8080"},
    {"origin": "https://127.0.0.1:8080"},
]
OTHER_ORIGIN = [
    {},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "none"},
    {"sec_fetch_site": "cross-site", "origin": "http://127.0.0.1:8080"},
    {"origin": "http://127.0.0.1:3000"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", SAME_ORIGIN)
async def test_a_cookie_may_change_something_from_this_origins_pages(
    accounts: Accounts, headers: dict[str, str]
) -> None:
    secret = await accounts.swap(accounts.one_click)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await accounts.authenticate(cookie(secret, method, **headers))).kind == "session"


@pytest.mark.parametrize("headers", OTHER_ORIGIN)
async def test_a_cookie_changes_nothing_from_another_origins_pages(accounts: Accounts, headers: dict[str, str]) -> None:
    secret = await accounts.swap(accounts.one_click)
    for _ in range(2):
        with pytest.raises(CrossOrigin):
            await accounts.authenticate(cookie(secret, "POST", **headers))
    assert (await accounts.authenticate(cookie(secret, "GET", **headers))).kind == "session"
    websocket = cookie(secret, **headers)
    websocket.scope["type"] = "websocket"
    del websocket.scope["method"]
    with pytest.raises(CrossOrigin):
        await accounts.authenticate(websocket)


async def test_a_token_needs_no_origin(accounts: Accounts) -> None:
    headers = {"authorization": f"Bearer {accounts.one_click}", "origin": "http://app.example"}
    assert (await accounts.authenticate(request("POST", headers))).kind == "one_click"


async def test_a_session_outlives_the_process_and_no_secret_is_in_the_database(
    database: Database, accounts: Accounts, now: VirtualClock
) -> None:
    session = await accounts.swap(accounts.one_click)
    made = await accounts.create_token(OPERATOR, "ci", ["links:read"], TokenShape("", 36))
    app = await accounts.create_app_password(OPERATOR, "calendar", ["links:read"])
    again = Accounts(database, now, argon2=QUICK)
    await again.start()
    assert (await again.authenticate(cookie(session))).kind == "session"
    assert not await refused(again, bearer(made.secret))

    def everything(connection: Connection) -> str:
        return repr([connection.execute(select(table)).all() for table in tables.tables.values()])

    kept = await database.read(everything)
    assert repr(digest(session)) in kept
    for secret in (session, made.secret, app.secret, accounts.one_click):
        assert secret not in kept
    await again.stop()
