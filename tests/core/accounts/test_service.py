"""Setting up, signing in, who may grant and manage what, and what the audit log says of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.accounts import Accounts, Caller
from mainspring.core.accounts import tables as tables_module
from mainspring.core.accounts.attempts import PAIR_PER_MINUTE
from mainspring.core.accounts.model import (
    ONE_CLICK,
    OPERATOR,
    OWNER_ID,
    SESSIONS_MAX,
    Account,
    AlreadySetUp,
    CredentialsInvalid,
    LastOwner,
    LimitReached,
    NameTaken,
    NotAllowed,
    SignInFailed,
    TooManyAttempts,
    Unknown,
)
from mainspring.core.accounts.passwords import Argon2
from mainspring.core.clock import VirtualClock
from mainspring.core.database.baseline import difference
from mainspring.core.manifest import TokenShape
from mainspring.core.ports import Database
from mainspring.core.problems import Invalid

from .conftest import QUICK
from .requests import bearer, cookie

PASSWORD = "correct horse battery"
OTHER = "staple the horse again"


async def session_of(accounts: Accounts, name: str, password: str = PASSWORD) -> Caller:
    return await accounts.authenticate(cookie(await accounts.sign_in(name, password)))


async def actions(accounts: Accounts) -> list[str]:
    return [entry.action for entry in await accounts.audit(OPERATOR)]


def test_the_baseline_holds_these_tables() -> None:
    assert difference(tables_module.tables, Path(tables_module.__file__).parent / "migrations") is None


async def test_the_owner_is_there_from_the_start_and_set_up_once(accounts: Accounts, elsewhere: Accounts) -> None:
    assert not await accounts.is_set_up()
    owner = await accounts.set_up(ONE_CLICK, "Lea", PASSWORD, "127.0.0.1")
    assert (owner.id, owner.name, owner.scopes) == (OWNER_ID, "lea", {"*"})
    assert await elsewhere.is_set_up()
    assert (await session_of(elsewhere, "lea")).account_id == OWNER_ID
    with pytest.raises(AlreadySetUp):
        await accounts.set_up(ONE_CLICK, "mallory", PASSWORD)


async def test_of_many_who_set_up_at_once_one_does(accounts: Accounts) -> None:
    tried = [accounts.set_up(ONE_CLICK, f"owner{number}", PASSWORD) for number in range(20)]
    done = await asyncio.gather(*tried, return_exceptions=True)
    assert sum(isinstance(one, Account) for one in done) == 1
    assert sum(isinstance(one, AlreadySetUp) for one in done) == 19
    assert await actions(accounts) == ["owner.set-up"]


async def test_nobody_else_sets_up(accounts: Accounts) -> None:
    service = await accounts.create_service(OPERATOR, "robot", ["links:*"])
    for by in (Caller(service.id, "robot", "token", frozenset({"*"})), Caller(1, "owner", "token", frozenset({"a:b"}))):
        with pytest.raises(NotAllowed):
            await accounts.set_up(by, "mallory", PASSWORD)


async def test_a_wrong_name_and_a_wrong_password_are_refused_alike(accounts: Accounts) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    await accounts.create_service(OPERATOR, "robot", [])
    gone = await accounts.create_user(OPERATOR, "gone", PASSWORD)
    await accounts.disable(OPERATOR, gone.id)
    problems = set()
    for name, password in [("lea", OTHER), ("kim", PASSWORD), ("robot", PASSWORD), ("gone", PASSWORD), ("owner", "")]:
        with pytest.raises(SignInFailed) as caught:
            await accounts.sign_in(name, password, "192.0.2.1")
        problems.add(str(caught.value.body()))
    assert len(problems) == 1


@pytest.mark.parametrize("name", ["", "\0", "a\0b", "x" * 10_000, "\ud800", "' OR 1=1 --", "ＬＥＡ"])
async def test_no_name_breaks_signing_in(accounts: Accounts, name: str) -> None:
    with pytest.raises(SignInFailed):
        await accounts.sign_in(name, PASSWORD + "\0\ud800")


async def test_guessing_a_password_is_limited_and_even_the_right_one_then_waits(
    accounts: Accounts, now: VirtualClock
) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    for _ in range(PAIR_PER_MINUTE):
        with pytest.raises(SignInFailed):
            await accounts.sign_in("lea", OTHER, "192.0.2.1")
    with pytest.raises(TooManyAttempts):
        await accounts.sign_in(" LEA ", PASSWORD, "192.0.2.1")
    assert await accounts.sign_in("lea", PASSWORD, "198.51.100.1"), "from elsewhere she still gets in"
    await now.advance(60)
    assert await accounts.sign_in("lea", PASSWORD, "192.0.2.1")


async def test_a_hash_of_old_parameters_is_replaced_at_the_next_sign_in(
    database: Database, accounts: Accounts, now: VirtualClock
) -> None:
    user = await accounts.create_user(OPERATOR, "lea", PASSWORD)
    stronger = Accounts(database, now, argon2=Argon2(memory_kib=16, passes=2))
    await stronger.sign_in("lea", PASSWORD)
    replaced = await accounts.account(OPERATOR, user.id)
    assert replaced.password != user.password and str(replaced.password).startswith("$argon2id$v=19$m=16,t=2,p=1$")
    assert await stronger.sign_in("lea", PASSWORD)
    await stronger.stop()


async def test_only_the_one_click_token_is_swapped_for_a_session(accounts: Accounts) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["*"])
    for token in (made.secret, "", accounts.one_click + "x", "\ud800"):
        with pytest.raises(CredentialsInvalid):
            await accounts.swap(token)
    assert (await accounts.authenticate(cookie(await accounts.swap(accounts.one_click)))).account_id == OWNER_ID


async def test_signing_out_ends_this_session_and_no_other(accounts: Accounts) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    first, second = await accounts.sign_in("lea", PASSWORD), await accounts.sign_in("lea", PASSWORD)
    await accounts.sign_out(first)
    await accounts.sign_out(first)
    await accounts.sign_out("nonsense")
    assert (await accounts.authenticate(cookie(first))).anonymous
    assert not (await accounts.authenticate(cookie(second))).anonymous


async def test_an_account_keeps_its_newest_sessions_and_expired_ones_are_removed(
    accounts: Accounts, now: VirtualClock
) -> None:
    secrets = []
    for _ in range(SESSIONS_MAX + 3):
        secrets.append(await accounts.swap(accounts.one_click, "192.0.2.1", "Browser \x1b[1m" + "x" * 500))
        await now.advance(1)
    sessions = await accounts.sessions(OPERATOR, OWNER_ID)
    assert len(sessions) == SESSIONS_MAX
    assert len(sessions[0].agent) == 200 and sessions[0].agent.isprintable()
    assert (await accounts.authenticate(cookie(secrets[0]))).anonymous
    assert not (await accounts.authenticate(cookie(secrets[-1]))).anonymous
    await now.advance(40 * 86_400)
    await accounts.swap(accounts.one_click)
    assert len(await accounts.sessions(OPERATOR, OWNER_ID)) == 1


async def test_changing_a_password_needs_the_current_one_and_ends_the_other_sessions(accounts: Accounts) -> None:
    user = await accounts.create_user(OPERATOR, "lea", PASSWORD)
    here, there = await accounts.sign_in("lea", PASSWORD), await accounts.sign_in("lea", PASSWORD)
    lea = await accounts.authenticate(cookie(here))
    for wrong in (None, "", OTHER):
        with pytest.raises(SignInFailed):
            await accounts.change_password(lea, user.id, OTHER, wrong)
    await accounts.change_password(lea, user.id, OTHER, PASSWORD)
    assert not (await accounts.authenticate(cookie(here))).anonymous
    assert (await accounts.authenticate(cookie(there))).anonymous
    with pytest.raises(SignInFailed):
        await accounts.sign_in("lea", PASSWORD)
    assert await accounts.sign_in("lea", OTHER)


async def test_guessing_the_current_password_from_a_stolen_session_is_limited(accounts: Accounts) -> None:
    user = await accounts.create_user(OPERATOR, "lea", PASSWORD)
    lea = await session_of(accounts, "lea")
    for _ in range(PAIR_PER_MINUTE):
        with pytest.raises(SignInFailed):
            await accounts.change_password(lea, user.id, OTHER, "wrong")
    with pytest.raises(TooManyAttempts):
        await accounts.change_password(lea, user.id, OTHER, PASSWORD)


async def test_an_owner_at_the_machine_resets_a_password_without_the_current_one(accounts: Accounts) -> None:
    await accounts.set_up(ONE_CLICK, "lea", PASSWORD)
    await accounts.change_password(ONE_CLICK, OWNER_ID, OTHER)
    assert await accounts.sign_in("lea", OTHER)


async def test_of_two_who_change_one_password_at_once_one_does(accounts: Accounts) -> None:
    user = await accounts.create_user(OPERATOR, "lea", PASSWORD)
    lea = await session_of(accounts, "lea")
    tried = [accounts.change_password(lea, user.id, f"{OTHER} {number}", PASSWORD) for number in range(4)]
    done = await asyncio.gather(*tried, return_exceptions=True)
    assert done.count(None) == 1 and sum(isinstance(one, SignInFailed) for one in done) == 3


async def test_a_member_grants_only_what_it_has_and_manages_only_who_may_no_more(accounts: Accounts) -> None:
    await accounts.create_user(OPERATOR, "admin", PASSWORD, ["accounts:*", "links:*"])
    admin = await session_of(accounts, "admin")
    created = await accounts.create_user(admin, "lea", PASSWORD, ["links:write"])
    assert created.scopes == {"links:write", "accounts:self"}
    for scopes in (["ids:read"], ["*"], ["links:read", "kv:*"]):
        with pytest.raises(NotAllowed):
            await accounts.create_user(admin, "kim", PASSWORD, scopes)
        with pytest.raises(NotAllowed):
            await accounts.create_service(admin, "robot", scopes)
        with pytest.raises(NotAllowed):
            await accounts.change_scopes(admin, created.id, scopes)
        with pytest.raises(NotAllowed):
            await accounts.create_token(admin, "ci", scopes)
    with pytest.raises(NotAllowed):
        await accounts.create_user(admin, "kim", PASSWORD, role="owner")
    with pytest.raises(NotAllowed):
        await accounts.change_scopes(admin, created.id, [], role="owner")
    mighty = await accounts.create_user(OPERATOR, "mighty", PASSWORD, ["kv:*"])
    for refused in (
        accounts.disable(admin, OWNER_ID),
        accounts.disable(admin, mighty.id),
        accounts.change_scopes(admin, mighty.id, []),
        accounts.change_password(admin, mighty.id, OTHER),
        accounts.revoke_sessions(admin, mighty.id),
        accounts.create_token(admin, "ci", ["links:read"], account_id=mighty.id),
    ):
        with pytest.raises(NotAllowed):
            await refused
    await accounts.change_password(admin, created.id, OTHER)
    await accounts.disable(admin, created.id)


async def test_a_plain_member_cares_for_itself_and_sees_nobody_else(accounts: Accounts) -> None:
    user = await accounts.create_user(OPERATOR, "lea", PASSWORD, ["links:write"])
    other = await accounts.create_user(OPERATOR, "kim", PASSWORD)
    lea = await session_of(accounts, "lea")
    made = await accounts.create_token(lea, "ci", ["links:write"])
    assert [token.id for token in await accounts.tokens(lea, user.id)] == [made.token.id]
    assert len(await accounts.sessions(lea, user.id)) == 1
    await accounts.revoke_token(lea, made.token.id)
    theirs = await accounts.create_token(OPERATOR, "ci", [], account_id=other.id)
    for refused in (
        accounts.audit(lea),
        accounts.accounts(lea, "user"),
        accounts.account(lea, other.id),
        accounts.tokens(lea, other.id),
        accounts.sessions(lea, other.id),
        accounts.revoke_token(lea, theirs.token.id),
        accounts.disable(lea, user.id),
        accounts.create_service(lea, "robot", []),
    ):
        with pytest.raises(NotAllowed):
            await refused


async def test_a_token_without_that_scope_cannot_make_others_that_outlive_it(accounts: Accounts) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:*"])
    ci = await accounts.authenticate(bearer(made.secret))
    for refused in (
        accounts.create_token(ci, "more", ["links:read"]),
        accounts.create_app_password(ci, "more", ["links:read"]),
        accounts.tokens(ci, OWNER_ID),
        accounts.revoke_token(ci, made.token.id),
        accounts.change_password(ci, OWNER_ID, OTHER),
    ):
        with pytest.raises(NotAllowed):
            await refused
    careful = await accounts.create_token(OPERATOR, "rotation", ["accounts:self", "links:read"])
    by = await accounts.authenticate(bearer(careful.secret))
    assert await accounts.create_token(by, "next", ["links:read"])
    with pytest.raises(NotAllowed):
        await accounts.create_token(by, "next", ["links:write"])


async def test_a_token_is_told_once_and_listed_by_how_it_begins(accounts: Accounts) -> None:
    made = await accounts.create_token(OPERATOR, "ci", ["links:write"], TokenShape("key_", 32, "0123456789abcdef"))
    assert made.secret.startswith("key_") and len(made.secret) == 36
    [listed] = await accounts.tokens(OPERATOR, OWNER_ID)
    assert listed == made.token and listed.hint == made.secret[:8]


async def test_a_token_is_not_made_for_what_is_gone_disabled_or_past(accounts: Accounts, now: VirtualClock) -> None:
    service = await accounts.create_service(OPERATOR, "robot", ["links:read"])
    with pytest.raises(NotAllowed):
        await accounts.create_token(OPERATOR, "ci", ["links:write"], account_id=service.id)
    with pytest.raises(Invalid):
        await accounts.create_token(OPERATOR, "ci", [], expires_us=now.wall_ns() // 1000)
    with pytest.raises(Unknown):
        await accounts.create_token(OPERATOR, "ci", [], account_id=12345)
    await accounts.disable(OPERATOR, service.id)
    with pytest.raises(NotAllowed):
        await accounts.create_token(OPERATOR, "ci", ["links:read"], account_id=service.id)
    with pytest.raises(NotAllowed):
        await accounts.create_token(Caller(None, "trusted", "local", frozenset({"*"})), "ci", [])


async def test_an_account_has_a_bounded_number_of_tokens(accounts: Accounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainspring.core.accounts.changes.TOKENS_MAX", 3)
    made = [await accounts.create_token(OPERATOR, f"t{number}", []) for number in range(3)]
    with pytest.raises(LimitReached):
        await accounts.create_token(OPERATOR, "t4", [])
    await accounts.revoke_token(OPERATOR, made[0].token.id)
    assert await accounts.create_token(OPERATOR, "t4", [])


async def test_a_name_belongs_to_one_account(accounts: Accounts) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    for taken in (
        accounts.create_user(OPERATOR, "LEA", PASSWORD),
        accounts.create_service(OPERATOR, "lea", []),
        accounts.set_up(ONE_CLICK, "lea", PASSWORD),
    ):
        with pytest.raises(NameTaken):
            await taken


async def test_one_owner_stays_whoever_disables_whom_at_once(accounts: Accounts) -> None:
    await accounts.set_up(ONE_CLICK, "lea", PASSWORD)
    with pytest.raises(LastOwner):
        await accounts.disable(OPERATOR, OWNER_ID)
    with pytest.raises(LastOwner):
        await accounts.change_scopes(OPERATOR, OWNER_ID, [])
    kim = await accounts.create_user(OPERATOR, "kim", PASSWORD, role="owner")
    done = await asyncio.gather(
        accounts.disable(OPERATOR, OWNER_ID), accounts.disable(OPERATOR, kim.id), return_exceptions=True
    )
    assert sum(isinstance(one, Account) for one in done) == 1 and sum(isinstance(one, LastOwner) for one in done) == 1


async def test_a_service_is_never_an_owner_and_has_no_password(accounts: Accounts) -> None:
    service = await accounts.create_service(OPERATOR, "robot", [])
    with pytest.raises(Invalid):
        await accounts.change_scopes(OPERATOR, service.id, [], role="owner")
    with pytest.raises(Invalid):
        await accounts.change_password(OPERATOR, service.id, OTHER)


async def test_what_is_not_there_is_unknown(accounts: Accounts) -> None:
    for unknown in (
        accounts.account(OPERATOR, 99),
        accounts.disable(OPERATOR, 99),
        accounts.enable(OPERATOR, 99),
        accounts.change_scopes(OPERATOR, 99, []),
        accounts.change_password(OPERATOR, 99, OTHER),
        accounts.revoke_token(OPERATOR, 99),
        accounts.revoke_session(OPERATOR, 99),
        accounts.revoke_sessions(OPERATOR, 99),
    ):
        with pytest.raises(Unknown):
            await unknown


async def test_accounts_are_listed_in_pages_by_kind(accounts: Accounts) -> None:
    made = {(await accounts.create_service(OPERATOR, f"robot{number}", [])).id for number in range(7)}
    seen: list[int] = []
    while page := await accounts.accounts(OPERATOR, "service", seen[-1] if seen else 0, 3):
        assert len(page) <= 3
        seen += [account.id for account in page]
    assert seen == sorted(made)
    assert [account.id for account in await accounts.accounts(OPERATOR, "user")] == [OWNER_ID]


async def test_the_audit_log_says_who_did_what_when_and_from_where(accounts: Accounts, now: VirtualClock) -> None:
    await accounts.set_up(ONE_CLICK, "lea", PASSWORD, "192.0.2.1")
    await now.advance(5)
    lea = await accounts.authenticate(cookie(await accounts.sign_in("lea", PASSWORD, "192.0.2.2")))
    with pytest.raises(SignInFailed):
        await accounts.sign_in("lea", OTHER, "192.0.2.3")
    with pytest.raises(SignInFailed):
        await accounts.sign_in("unheard-of", OTHER, "192.0.2.3")
    await asyncio.gather(*accounts._notes)
    service = await accounts.create_service(lea, "robot", ["links:*"], "192.0.2.2")
    made = await accounts.create_token(lea, "ci", ["links:read"], account_id=service.id, address="192.0.2.2")
    await accounts.revoke_token(lea, made.token.id, "192.0.2.2")
    await accounts.disable(lea, service.id)
    await accounts.disable(lea, service.id)
    with pytest.raises(NotAllowed):
        await accounts.create_service(Caller(5, "mallory", "token", frozenset()), "x", [])
    log = await accounts.audit(OPERATOR)
    assert [(entry.action, entry.actor, entry.means, entry.address) for entry in reversed(log)] == [
        ("owner.set-up", "owner", "one_click", "192.0.2.1"),
        ("session.opened", "lea", "password", "192.0.2.2"),
        ("session.refused", "lea", "password", "192.0.2.3"),
        ("account.created", "lea", "session", "192.0.2.2"),
        ("token.created", "lea", "session", "192.0.2.2"),
        ("token.revoked", "lea", "session", "192.0.2.2"),
        ("account.disabled", "lea", "session", ""),
    ]
    assert log[2].target == f"robot: ci ({made.token.id})" and log[2].actor_id == OWNER_ID
    assert log[-1].at_us + 5_000_000 == log[0].at_us
    assert [entry.id for entry in await accounts.audit(OPERATOR, before=log[1].id, limit=2)] == [log[2].id, log[3].id]


async def test_a_refused_sign_in_is_answered_before_it_is_noted_so_that_timing_tells_nothing(
    database: Database, accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accounts.create_user(OPERATOR, "lea", PASSWORD)
    go_on, write = asyncio.Event(), database.write

    async def slow(*args: Any, **kwargs: Any) -> Any:
        await go_on.wait()
        return await write(*args, **kwargs)

    monkeypatch.setattr(database, "write", slow)
    for name in ("lea", "kim"):
        with pytest.raises(SignInFailed):
            await accounts.sign_in(name, OTHER)
    go_on.set()
    await accounts.stop()
    assert await actions(accounts) == ["session.refused", "account.created"]


async def test_a_change_that_is_refused_leaves_nothing_behind(accounts: Accounts) -> None:
    before = await accounts.audit(OPERATOR)
    with pytest.raises(LastOwner):
        await accounts.disable(OPERATOR, OWNER_ID)
    with pytest.raises(NameTaken):
        await accounts.create_service(OPERATOR, "owner", [])
    assert await accounts.audit(OPERATOR) == before
    assert (await accounts.account(OPERATOR, OWNER_ID)).disabled_us is None


async def test_starting_again_changes_nothing(database: Database, accounts: Accounts, now: VirtualClock) -> None:
    owner = await accounts.set_up(ONE_CLICK, "lea", PASSWORD)
    nodes = [Accounts(database, now, argon2=QUICK) for _ in range(5)]
    await asyncio.gather(*(node.start() for node in nodes))
    assert await accounts.account(OPERATOR, OWNER_ID) == owner
    await asyncio.gather(*(node.stop() for node in nodes))
