"""What accounts ask of the database: each function is a step of a transaction."""

from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, update

from mainspring.core.accounts.model import Account, Act, AuditEntry, Session, Token, Unknown
from mainspring.core.accounts.tables import accounts, audit, sessions, tokens
from mainspring.core.ports import Connection, Row

_ACCOUNT = (
    accounts.c.id,
    accounts.c.kind,
    accounts.c.name,
    accounts.c.role,
    accounts.c.scopes,
    accounts.c.password,
    accounts.c.created_us,
    accounts.c.disabled_us,
)
_TOKEN = (
    tokens.c.id,
    tokens.c.account_id,
    tokens.c.kind,
    tokens.c.name,
    tokens.c.hint,
    tokens.c.scopes,
    tokens.c.created_us,
    tokens.c.expires_us,
    tokens.c.last_used_us,
)
_SESSION = (
    sessions.c.id,
    sessions.c.account_id,
    sessions.c.address,
    sessions.c.agent,
    sessions.c.created_us,
    sessions.c.seen_us,
    sessions.c.expires_us,
)
_AUDIT = (
    audit.c.id,
    audit.c.at_us,
    audit.c.actor_id,
    audit.c.actor,
    audit.c.means,
    audit.c.action,
    audit.c.target,
    audit.c.address,
)

_ADD_ACCOUNT = insert(accounts)
_ACCOUNT_BY_ID = select(*_ACCOUNT).where(accounts.c.id == bindparam("id"))
_ACCOUNT_BY_NAME = select(*_ACCOUNT).where(accounts.c.name == bindparam("name"))
_ACCOUNTS = (
    select(*_ACCOUNT)
    .where(accounts.c.kind == bindparam("kind"), accounts.c.id > bindparam("after"))
    .order_by(accounts.c.id)
    .limit(bindparam("limit"))
)
_OTHER_OWNERS = select(func.count()).where(
    accounts.c.role == "owner",
    accounts.c.disabled_us.is_(None),
    accounts.c.password.is_not(None),
    accounts.c.id != bindparam("id"),
)
_CHANGE_ACCOUNT = (
    update(accounts)
    .where(accounts.c.id == bindparam("account"))
    .values(
        name=bindparam("name"),
        role=bindparam("role"),
        scopes=bindparam("scopes"),
        password=bindparam("password"),
        disabled_us=bindparam("disabled_us"),
    )
)

_ADD_TOKEN = insert(tokens)
_TOKEN_BY_HASH = (
    select(*_TOKEN, *_ACCOUNT)
    .join_from(tokens, accounts, accounts.c.id == tokens.c.account_id)
    .where(tokens.c.hash == bindparam("hash"), accounts.c.disabled_us.is_(None))
)
_TOKEN_WITH_HASH = (
    select(*_TOKEN, *_ACCOUNT, tokens.c.hash)
    .join_from(tokens, accounts, accounts.c.id == tokens.c.account_id)
    .where(tokens.c.id == bindparam("id"), accounts.c.disabled_us.is_(None))
)
_TOKEN_BY_ID = select(*_TOKEN).where(tokens.c.id == bindparam("id"))
_TOKENS_OF = (
    select(*_TOKEN).where(tokens.c.account_id == bindparam("account")).order_by(tokens.c.created_us, tokens.c.id)
)
_TOKENS_COUNTED = select(func.count()).where(tokens.c.account_id == bindparam("account"))
_REMOVE_TOKEN = delete(tokens).where(tokens.c.id == bindparam("id"))
_TOKEN_USED = (
    update(tokens)
    .where(tokens.c.id == bindparam("token"), func.coalesce(tokens.c.last_used_us, 0) < bindparam("at_us"))
    .values(last_used_us=bindparam("at_us"))
)

_ADD_SESSION = insert(sessions)
_SESSION_BY_HASH = (
    select(*_SESSION, *_ACCOUNT)
    .join_from(sessions, accounts, accounts.c.id == sessions.c.account_id)
    .where(sessions.c.hash == bindparam("hash"), accounts.c.disabled_us.is_(None))
)
_SESSION_BY_ID = select(*_SESSION).where(sessions.c.id == bindparam("id"))
_SESSIONS_OF = (
    select(*_SESSION)
    .where(sessions.c.account_id == bindparam("account"))
    .order_by(sessions.c.seen_us.desc(), sessions.c.id)
)
_REMOVE_SESSION = delete(sessions).where(sessions.c.id == bindparam("id"))
_REMOVE_SESSIONS = delete(sessions).where(
    sessions.c.account_id == bindparam("account"), sessions.c.id != bindparam("kept")
)
_REMOVE_EXPIRED = delete(sessions).where(sessions.c.expires_us <= bindparam("at_us"))
_SESSION_SEEN = (
    update(sessions)
    .where(sessions.c.id == bindparam("session"), sessions.c.seen_us < bindparam("at_us"))
    .values(seen_us=bindparam("at_us"), expires_us=bindparam("until_us"))
)

_NOTE = insert(audit)
_AUDIT_BEFORE = (
    select(*_AUDIT).where(audit.c.id < bindparam("before")).order_by(audit.c.id.desc()).limit(bindparam("limit"))
)


def add_account(connection: Connection, account: Account) -> None:
    """Raises `Duplicate` where the name is taken."""
    connection.execute(_ADD_ACCOUNT, _whole(account))


def account(connection: Connection, account_id: int) -> Account:
    """Raises `Unknown`."""
    found = connection.execute(_ACCOUNT_BY_ID, {"id": account_id}).first()
    if found is None:
        raise Unknown
    return _account(found)


def account_named(connection: Connection, name: str) -> Account | None:
    found = connection.execute(_ACCOUNT_BY_NAME, {"name": name}).first()
    return None if found is None else _account(found)


def accounts_after(connection: Connection, kind: str, after: int, limit: int) -> list[Account]:
    return [_account(row) for row in connection.execute(_ACCOUNTS, {"kind": kind, "after": after, "limit": limit})]


def other_owners(connection: Connection, account_id: int) -> int:
    """How many owners besides this one can sign in."""
    counted: int = connection.execute(_OTHER_OWNERS, {"id": account_id}).scalar()
    return counted


def change_account(connection: Connection, account: Account) -> None:
    """Stores name, role, scopes, password and whether it is disabled. Raises `Duplicate` where the name is taken."""
    connection.execute(_CHANGE_ACCOUNT, {"account": account.id} | _changing(account))


def add_token(connection: Connection, token: Token, hash: bytes) -> None:
    values = {name: getattr(token, name) for name in Token.__struct_fields__}
    connection.execute(_ADD_TOKEN, values | {"hash": hash, "scopes": _text(token.scopes)})


def token_with_hash(connection: Connection, token_id: int) -> tuple[Token, Account, bytes] | None:
    """A token with its account and what is stored of its secret, unless the account is disabled."""
    found = connection.execute(_TOKEN_WITH_HASH, {"id": token_id}).first()
    if found is None:
        return None
    return _token(found[: len(_TOKEN)]), _account(found[len(_TOKEN) : -1]), bytes(found[-1])


def token_by_hash(connection: Connection, hash: bytes) -> tuple[Token, Account] | None:
    """A token and its account, unless that is disabled."""
    found = connection.execute(_TOKEN_BY_HASH, {"hash": hash}).first()
    return None if found is None else (_token(found[: len(_TOKEN)]), _account(found[len(_TOKEN) :]))


def token(connection: Connection, token_id: int) -> Token:
    """Raises `Unknown`."""
    found = connection.execute(_TOKEN_BY_ID, {"id": token_id}).first()
    if found is None:
        raise Unknown
    return _token(found)


def tokens_of(connection: Connection, account_id: int) -> list[Token]:
    return [_token(row) for row in connection.execute(_TOKENS_OF, {"account": account_id})]


def tokens_counted(connection: Connection, account_id: int) -> int:
    counted: int = connection.execute(_TOKENS_COUNTED, {"account": account_id}).scalar()
    return counted


def remove_token(connection: Connection, token_id: int) -> None:
    connection.execute(_REMOVE_TOKEN, {"id": token_id})


def add_session(connection: Connection, session: Session, hash: bytes) -> None:
    connection.execute(
        _ADD_SESSION, {name: getattr(session, name) for name in Session.__struct_fields__} | {"hash": hash}
    )


def session_by_hash(connection: Connection, hash: bytes) -> tuple[Session, Account] | None:
    """A session and its account, unless that is disabled."""
    found = connection.execute(_SESSION_BY_HASH, {"hash": hash}).first()
    return None if found is None else (Session(*found[: len(_SESSION)]), _account(found[len(_SESSION) :]))


def session(connection: Connection, session_id: int) -> Session:
    """Raises `Unknown`."""
    found = connection.execute(_SESSION_BY_ID, {"id": session_id}).first()
    if found is None:
        raise Unknown
    return Session(*found)


def sessions_of(connection: Connection, account_id: int) -> list[Session]:
    """The one that was seen last comes first."""
    return [Session(*row) for row in connection.execute(_SESSIONS_OF, {"account": account_id})]


def remove_session(connection: Connection, session_id: int) -> None:
    connection.execute(_REMOVE_SESSION, {"id": session_id})


def remove_sessions(connection: Connection, account_id: int, kept: int | None = None) -> None:
    """Removes all sessions of an account but the one `kept`."""
    connection.execute(_REMOVE_SESSIONS, {"account": account_id, "kept": kept or 0})


def remove_expired_sessions(connection: Connection, at_us: int) -> None:
    connection.execute(_REMOVE_EXPIRED, {"at_us": at_us})


def note_uses(
    connection: Connection, tokens_used: dict[int, int], sessions_seen: dict[int, int], lasts_us: int
) -> None:
    """Stores when tokens and sessions were last used; a session then lasts `lasts_us` longer."""
    if tokens_used:
        connection.execute_many(_TOKEN_USED, [{"token": id, "at_us": at_us} for id, at_us in tokens_used.items()])
    if sessions_seen:
        connection.execute_many(
            _SESSION_SEEN,
            [{"session": id, "at_us": at_us, "until_us": at_us + lasts_us} for id, at_us in sessions_seen.items()],
        )


def note(connection: Connection, act: Act, action: str, target: str) -> None:
    """Adds to the audit log."""
    connection.execute(
        _NOTE,
        {
            "at_us": act.at_us,
            "actor_id": act.by.account_id,
            "actor": act.by.name,
            "means": act.by.kind,
            "action": action,
            "target": target,
            "address": act.address,
        },
    )


def audit_before(connection: Connection, before: int, limit: int) -> list[AuditEntry]:
    """The latest entries with an id below `before`, newest first."""
    return [AuditEntry(*row) for row in connection.execute(_AUDIT_BEFORE, {"before": before, "limit": limit})]


def _account(row: Row) -> Account:
    id, kind, name, role, scopes, password, created_us, disabled_us = row
    return Account(id, kind, name, role, frozenset(scopes.split()), password, created_us, disabled_us)


def _token(row: Row) -> Token:
    id, account_id, kind, name, hint, scopes, created_us, expires_us, last_used_us = row
    return Token(id, account_id, kind, name, hint, frozenset(scopes.split()), created_us, expires_us, last_used_us)


def _whole(account: Account) -> dict[str, Any]:
    return {"id": account.id, "kind": account.kind, "created_us": account.created_us} | _changing(account)


def _changing(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "role": account.role,
        "scopes": _text(account.granted),
        "password": account.password,
        "disabled_us": account.disabled_us,
    }


def _text(scopes: frozenset[str]) -> str:
    return " ".join(sorted(scopes))
