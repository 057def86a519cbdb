"""Every change to accounts as one transaction: its rule is checked, it is made, and it is noted in the audit log."""

from msgspec.structs import replace

from mainspring.core.accounts import store
from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.model import (
    OWNER_ID,
    SESSIONS_MAX,
    TOKENS_MAX,
    Account,
    Act,
    AlreadySetUp,
    LastOwner,
    LimitReached,
    NotAllowed,
    Role,
    Session,
    SignInFailed,
    Token,
    must_hold,
    must_manage,
)
from mainspring.core.ports import Connection
from mainspring.core.problems import Invalid


def set_up(connection: Connection, act: Act, name: str, password: str) -> Account:
    owner = store.account(connection, OWNER_ID)
    if owner.password is not None:
        raise AlreadySetUp
    owner = replace(owner, name=name, password=password)
    store.change_account(connection, owner)
    store.note(connection, act, "owner.set-up", name)
    return owner


def add_account(connection: Connection, act: Act, account: Account) -> Account:
    must_hold(act.by, account.scopes)
    store.add_account(connection, account)
    store.note(connection, act, "account.created", account.name)
    return account


def change_scopes(connection: Connection, act: Act, account_id: int, role: Role, granted: frozenset[str]) -> Account:
    account = _managed(connection, act.by, account_id)
    changed = replace(account, role=role, granted=granted)
    must_hold(act.by, changed.scopes)
    if account.kind == "service" and role == "owner":
        raise Invalid("A service account cannot be an owner", pointer="/body/role")
    if account.role == "owner" and role != "owner":
        _keep_an_owner(connection, account)
    store.change_account(connection, changed)
    store.note(connection, act, "account.scopes-changed", account.name)
    return changed


def disable(connection: Connection, act: Act, account_id: int) -> Account:
    account = _managed(connection, act.by, account_id)
    if account.disabled_us is not None:
        return account
    if account.role == "owner":
        _keep_an_owner(connection, account)
    account = replace(account, disabled_us=act.at_us)
    store.change_account(connection, account)
    store.remove_sessions(connection, account_id)
    store.note(connection, act, "account.disabled", account.name)
    return account


def enable(connection: Connection, act: Act, account_id: int) -> Account:
    account = _managed(connection, act.by, account_id)
    if account.disabled_us is None:
        return account
    account = replace(account, disabled_us=None)
    store.change_account(connection, account)
    store.note(connection, act, "account.enabled", account.name)
    return account


def change_password(connection: Connection, act: Act, seen: Account, password: str) -> None:
    """Changes it only where it is still what it was when the caller's proof was checked (`seen`)."""
    account = _managed(connection, act.by, seen.id)
    if account.password != seen.password:
        raise SignInFailed("The password was changed in the meantime")
    store.change_account(connection, replace(account, password=password))
    store.remove_sessions(connection, account.id, kept=act.by.token_id if act.by.kind == "session" else None)
    store.note(connection, act, "password.changed", account.name)


def open_session(
    connection: Connection, act: Act, seen: Account, password: str | None, session: Session, hash: bytes
) -> None:
    """Opens a session where the account is still what was seen; `password` replaces its hash (an outdated one)."""
    account = store.account(connection, seen.id)
    if account.password != seen.password or account.disabled_us is not None:
        raise SignInFailed
    if password != account.password:
        store.change_account(connection, replace(account, password=password))
    store.remove_expired_sessions(connection, act.at_us)
    for forgotten in store.sessions_of(connection, account.id)[SESSIONS_MAX - 1 :]:
        store.remove_session(connection, forgotten.id)
    store.add_session(connection, session, hash)
    store.note(connection, act, "session.opened", account.name)


def close_session(connection: Connection, act: Act, session_id: int) -> None:
    store.remove_session(connection, session_id)
    store.note(connection, act, "session.closed", act.by.name)


def refuse_session(connection: Connection, act: Act, name: str) -> None:
    store.note(connection, act, "session.refused", name)


def revoke_session(connection: Connection, act: Act, session_id: int) -> None:
    account = _managed(connection, act.by, store.session(connection, session_id).account_id)
    store.remove_session(connection, session_id)
    store.note(connection, act, "session.revoked", account.name)


def revoke_sessions(connection: Connection, act: Act, account_id: int) -> None:
    account = _managed(connection, act.by, account_id)
    store.remove_sessions(connection, account_id)
    store.note(connection, act, "sessions.revoked", account.name)


def add_token(connection: Connection, act: Act, token: Token, hash: bytes) -> None:
    account = _managed(connection, act.by, token.account_id)
    must_hold(act.by, token.scopes)
    must_hold(Caller(account.id, account.name, "account", account.scopes), token.scopes)
    if account.disabled_us is not None:
        raise NotAllowed("This account is disabled")
    if store.tokens_counted(connection, account.id) >= TOKENS_MAX:
        raise LimitReached(f"An account has at most {TOKENS_MAX:,} tokens; revoke some")
    store.add_token(connection, token, hash)
    store.note(connection, act, "token.created", f"{account.name}: {token.name} ({token.id})")


def revoke_token(connection: Connection, act: Act, token_id: int) -> None:
    token = store.token(connection, token_id)
    account = _managed(connection, act.by, token.account_id)
    store.remove_token(connection, token_id)
    store.note(connection, act, "token.revoked", f"{account.name}: {token.name} ({token.id})")


def _managed(connection: Connection, by: Caller, account_id: int) -> Account:
    account = store.account(connection, account_id)
    must_manage(by, account)
    return account


def _keep_an_owner(connection: Connection, account: Account) -> None:
    if store.other_owners(connection, account.id) == 0:
        raise LastOwner("Make somebody else an owner first")
