"""What `/api/accounts` reads and answers: ids as text, times as RFC 3339, and never a hash."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.model import Account, AuditEntry, Kind, NewToken, Role, Session, Token, TokenKind

Id = Annotated[str, msgspec.Meta(pattern="^(?:[0-9]{1,18}|[1-8][0-9]{18})$", description="A number of at most 62 bits")]
Scopes = Annotated[list[str], msgspec.Meta(max_length=100)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SetUp(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str


class SetUpState(msgspec.Struct, frozen=True):
    """`done` is whether the owner's account has a password."""

    done: bool


class WhoAmI(msgspec.Struct, frozen=True):
    """`kind` is `anonymous`, `one_click`, `session`, `token` or `app_password`."""

    account_id: str | None
    name: str
    kind: str
    scopes: list[str]


class NewUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str
    scopes: Scopes = []
    role: Role = "member"


class NewService(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    scopes: Scopes


class NewScopes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    scopes: Scopes
    role: Role = "member"


class NewPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`current` is needed for one's own, unless one came by the one-click token."""

    password: str
    current: str | None = None


class TokenWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one's own account, or for the one that `account_id` names."""

    name: str
    scopes: Scopes
    expires_at: Moment | None = None
    account_id: Id | None = None


class AccountView(msgspec.Struct, frozen=True):
    id: str
    kind: Kind
    name: str
    role: Role
    scopes: list[str]
    has_password: bool
    created_at: datetime
    disabled_at: datetime | None


class TokenView(msgspec.Struct, frozen=True):
    """`hint` is how the secret begins; `last_used_at` is exact to a minute."""

    id: str
    account_id: str
    kind: TokenKind
    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenMade(msgspec.Struct, frozen=True):
    """`token` is the secret, which is shown this once."""

    token: str
    details: TokenView


class SessionView(msgspec.Struct, frozen=True):
    """`seen_at` is exact to a minute; `current` is the one that asks."""

    id: str
    address: str
    agent: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    current: bool


class AuditView(msgspec.Struct, frozen=True):
    """`means` is the kind of credentials that the actor used."""

    id: str
    at: datetime
    actor_id: str | None
    actor: str
    means: str
    action: str
    target: str
    address: str


def who(caller: Caller) -> WhoAmI:
    account_id = None if caller.account_id is None else str(caller.account_id)
    return WhoAmI(account_id, caller.name, caller.kind, sorted(caller.scopes))


def of_account(account: Account) -> AccountView:
    return AccountView(
        id=str(account.id),
        kind=account.kind,
        name=account.name,
        role=account.role,
        scopes=sorted(account.scopes),
        has_password=account.password is not None,
        created_at=moment(account.created_us),
        disabled_at=None if account.disabled_us is None else moment(account.disabled_us),
    )


def of_token(token: Token) -> TokenView:
    return TokenView(
        id=str(token.id),
        account_id=str(token.account_id),
        kind=token.kind,
        name=token.name,
        hint=token.hint,
        scopes=sorted(token.scopes),
        created_at=moment(token.created_us),
        expires_at=None if token.expires_us is None else moment(token.expires_us),
        last_used_at=None if token.last_used_us is None else moment(token.last_used_us),
    )


def of_new_token(made: NewToken) -> TokenMade:
    return TokenMade(made.secret, of_token(made.token))


def of_session(session: Session, by: Caller) -> SessionView:
    return SessionView(
        id=str(session.id),
        address=session.address,
        agent=session.agent,
        created_at=moment(session.created_us),
        seen_at=moment(session.seen_us),
        expires_at=moment(session.expires_us),
        current=by.kind == "session" and by.token_id == session.id,
    )


def of_audit(entry: AuditEntry) -> AuditView:
    return AuditView(
        id=str(entry.id),
        at=moment(entry.at_us),
        actor_id=None if entry.actor_id is None else str(entry.actor_id),
        actor=entry.actor,
        means=entry.means,
        action=entry.action,
        target=entry.target,
        address=entry.address,
    )


def moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
