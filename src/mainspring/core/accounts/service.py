"""The accounts of an installation: who there is, what they may do, with which credentials, and who changed that.

Two rules hold everywhere: nobody hands on a scope that they do not have, and nobody manages an account that may do more
than they. Each change is noted in the audit log in its own transaction (`changes.py`); it is in force at once on this
node and within a second on every other one.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable
from hmac import compare_digest
from typing import Concatenate, ParamSpec, TypeVar

from msgspec.structs import replace

from mainspring.core.accounts import owner
from mainspring.core.accounts.attempts import Allow, Attempts
from mainspring.core.accounts.authenticator import SESSION_US, Authenticator
from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.key_pairs import KeyPairs
from mainspring.core.accounts.model import (
    APP_PASSWORD,
    DEFAULT_SHAPE,
    ONE_CLICK,
    OWNER_ID,
    Account,
    Act,
    AuditEntry,
    CredentialsInvalid,
    Kind,
    NameTaken,
    NewToken,
    NotAllowed,
    Role,
    Session,
    SignInFailed,
    Token,
    TokenKind,
    account_name,
    digest,
    is_account_name,
    label,
    must_hold,
    must_manage,
    must_see,
    must_write,
    new_id,
    new_password,
    new_secret,
    password_bytes,
    scope_set,
)
from mainspring.core.accounts.passwords import Argon2, Passwords
from mainspring.core.accounts.steps import changes, store
from mainspring.core.clock import Clock
from mainspring.core.database.errors import Duplicate
from mainspring.core.manifest import TokenShape
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Invalid, Problem
from mainspring.core.telemetry import Metrics

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

AGENT_LETTERS_MAX = 200
AT_THE_MACHINE = ("one_click", "operator")
"""Whoever has one of these can read the data folder anyway."""


class Accounts:
    """Accounts over a database whose tables are prepared. `one_click` is this process's token with every scope.

    `allow(key)` may come from above, here or by `limit_sign_ins`, to limit attempts across nodes. In every method `by` is
    who asks for it and `address` where from, for the audit log. Reading about others needs `accounts:read`, changing them
    `accounts:write`; without, and beyond one's own scopes, methods raise `NotAllowed`, and `Unknown` for what is not
    there.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        allow: Allow | None = None,
        metrics: Metrics | None = None,
        argon2: Argon2 | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        self.one_click = new_secret(DEFAULT_SHAPE)
        self._database = database
        self._clock = clock
        self._authenticator = Authenticator(database, clock, self.one_click, metrics)
        self.authenticate = self._authenticator.authenticate
        """`await accounts.authenticate(request)` gives the `Caller`; on the path of every request, so without a detour."""
        self.key_pairs = KeyPairs(database, clock)
        self._passwords = Passwords(argon2, metrics)
        self._attempts = Attempts(clock, allow)
        self._notes: set[asyncio.Task[None]] = set()
        self._sign_ins = metrics.counter("accounts_sign_ins", "Attempts to sign in with a password", ("outcome",))

    async def start(self) -> None:
        """Makes sure that the owner's account is there."""
        if not await self._database.read(owner.is_there):
            await self._database.write(owner.add, self._now_us())

    async def stop(self) -> None:
        await asyncio.gather(*self._notes)
        await self._authenticator.stop()
        self._passwords.close()

    def limit_sign_ins(self, allow: Allow) -> None:
        """Asks `allow` as well before a password is tried."""
        self._attempts.allow = allow

    async def is_set_up(self) -> bool:
        """Whether the owner's account has a password."""
        return (await self._database.read(store.account, OWNER_ID)).password is not None

    async def set_up(self, by: Caller, name: str, password: str, address: str = "") -> Account:
        """Gives the owner's account its name and password, once. Raises `AlreadySetUp`, `NameTaken` and `Invalid`."""
        if by.account_id != OWNER_ID or not by.may("*"):
            raise NotAllowed("Open the address that `mainspring up` printed")
        name = account_name(name)
        hashed = await self._passwords.hash(new_password(password, name))
        return await self._change(changes.set_up, self._act(by, address), name, hashed)

    async def sign_in(self, name: str, password: str, address: str = "", agent: str = "") -> str:
        """Opens a session and gives its secret, for a cookie.

        Raises `SignInFailed`, which does not say whether there is such an account, `TooManyAttempts` and `Unavailable`.
        """
        name = name.strip().lower()[:64]
        await self._attempts.take(name, address)
        typed = password_bytes(password)
        account = await self._database.read(store.account_named, name) if is_account_name(name) else None
        known = account if account is not None and account.disabled_us is None else None
        if not await self._passwords.verify(typed, known.password if known else None) or known is None:
            self._sign_ins.labels("refused").inc()
            if account is not None:
                nobody = Caller(None, name, "password", frozenset())
                self._note_aside(changes.refuse_session, self._act(nobody, address), name)
            raise SignInFailed
        self._sign_ins.labels("accepted").inc()
        self._attempts.forgive(name, address)
        stored = known.password
        if stored is not None and self._passwords.outdated(stored):
            stored = await self._passwords.hash(typed)
        by = Caller(known.id, known.name, "password", known.scopes)
        return await self._open_session(self._act(by, address), known, stored, agent)

    async def swap(self, token: str, address: str = "", agent: str = "") -> str:
        """Swaps the one-click token for a session of the owner's, and gives its secret. Raises `CredentialsInvalid`.

        No other token can be swapped, because a session may do all that its account may.
        """
        if not compare_digest(digest(token), digest(self.one_click)):
            raise CredentialsInvalid("This link is of a process that has ended; open the newest one")
        owner = await self._database.read(store.account, OWNER_ID)
        return await self._open_session(self._act(ONE_CLICK, address), owner, owner.password, agent)

    async def sign_out(self, secret: str, address: str = "") -> None:
        """Ends the session of this secret, if there is one."""
        found = await self._database.read(store.session_by_hash, digest(secret))
        if found is not None:
            session, account = found
            by = Caller(account.id, account.name, "session", account.scopes, session.id)
            await self._change(changes.close_session, self._act(by, address), session.id)

    async def create_user(
        self, by: Caller, name: str, password: str, scopes: Iterable[str] = (), role: Role = "member", address: str = ""
    ) -> Account:
        """Raises `NameTaken` and `Invalid`."""
        must_write(by)
        name, granted = account_name(name), scope_set(scopes)
        account = Account(new_id(), "user", name, role, granted, None, self._now_us(), None)
        must_hold(by, account.scopes)
        hashed = await self._passwords.hash(new_password(password, name))
        account = replace(account, password=hashed)
        return await self._change(changes.add_account, self._act(by, address), account)

    async def create_service(self, by: Caller, name: str, scopes: Iterable[str], address: str = "") -> Account:
        """An account that has only tokens. Raises `NameTaken` and `Invalid`."""
        must_write(by)
        name, granted = account_name(name), scope_set(scopes)
        account = Account(new_id(), "service", name, "member", granted, None, self._now_us(), None)
        return await self._change(changes.add_account, self._act(by, address), account)

    async def account(self, by: Caller, account_id: int) -> Account:
        must_see(by, account_id)
        return await self._database.read(store.account, account_id)

    async def accounts(self, by: Caller, kind: Kind, after: int = 0, limit: int = 50) -> list[Account]:
        """The accounts of this kind with an id above `after`, in order of id."""
        must_see(by, None)
        return await self._database.read(store.accounts_after, kind, after, limit)

    async def change_scopes(
        self, by: Caller, account_id: int, scopes: Iterable[str], role: Role = "member", address: str = ""
    ) -> Account:
        """Replaces what an account may do. Raises `LastOwner` and `Invalid`."""
        must_write(by)
        return await self._change(changes.change_scopes, self._act(by, address), account_id, role, scope_set(scopes))

    async def disable(self, by: Caller, account_id: int, address: str = "") -> Account:
        """Refuses all of an account's credentials from now on, and ends its sessions. Raises `LastOwner`."""
        must_write(by)
        return await self._change(changes.disable, self._act(by, address), account_id)

    async def enable(self, by: Caller, account_id: int, address: str = "") -> Account:
        must_write(by)
        return await self._change(changes.enable, self._act(by, address), account_id)

    async def change_password(
        self, by: Caller, account_id: int, new: str, current: str | None = None, address: str = ""
    ) -> None:
        """Replaces a password and ends the account's other sessions.

        One's own needs the `current` one, except at the machine. Raises `SignInFailed`, `TooManyAttempts` and `Invalid`.
        """
        account = await self._database.read(store.account, account_id)
        must_manage(by, account)
        if account.kind != "user":
            raise Invalid("A service account has no password", pointer="/path/id")
        if account_id == by.account_id and by.kind not in AT_THE_MACHINE and account.password is not None:
            await self._attempts.take(account.name, address)
            if not await self._passwords.verify(password_bytes(current or ""), account.password):
                raise SignInFailed("The current password is wrong")
            self._attempts.forgive(account.name, address)
        hashed = await self._passwords.hash(new_password(new, account.name))
        await self._change(changes.change_password, self._act(by, address), account, hashed)

    async def sessions(self, by: Caller, account_id: int) -> list[Session]:
        """The one that was seen last comes first."""
        must_see(by, account_id)
        return await self._database.read(store.sessions_of, account_id)

    async def revoke_session(self, by: Caller, session_id: int, address: str = "") -> None:
        await self._change(changes.revoke_session, self._act(by, address), session_id)

    async def revoke_sessions(self, by: Caller, account_id: int, address: str = "") -> None:
        await self._change(changes.revoke_sessions, self._act(by, address), account_id)

    async def create_token(
        self,
        by: Caller,
        name: str,
        scopes: Iterable[str],
        shape: TokenShape = DEFAULT_SHAPE,
        *,
        account_id: int | None = None,
        expires_us: int | None = None,
        address: str = "",
    ) -> NewToken:
        """A token of `by`'s own account, or of `account_id`'s, with its secret, which is told this once.

        Raises `LimitReached`, `Invalid`, and `ValueError` for a shape that could be guessed.
        """
        return await self._create("token", by, name, scopes, shape, account_id, expires_us, address)

    async def create_app_password(
        self,
        by: Caller,
        name: str,
        scopes: Iterable[str],
        *,
        account_id: int | None = None,
        expires_us: int | None = None,
        address: str = "",
    ) -> NewToken:
        """A password for one app that knows only HTTP Basic, sent with the account's name; as `create_token`."""
        return await self._create("app_password", by, name, scopes, APP_PASSWORD, account_id, expires_us, address)

    async def tokens(self, by: Caller, account_id: int) -> list[Token]:
        """Tokens and app passwords, the oldest first."""
        must_see(by, account_id)
        return await self._database.read(store.tokens_of, account_id)

    async def revoke_token(self, by: Caller, token_id: int, address: str = "") -> None:
        await self._change(changes.revoke_token, self._act(by, address), token_id)

    async def audit(self, by: Caller, before: int = 2**63 - 1, limit: int = 50) -> list[AuditEntry]:
        """Entries with an id below `before`, newest first."""
        must_see(by, None)
        return await self._database.read(store.audit_before, before, limit)

    async def _open_session(self, act: Act, account: Account, password: str | None, agent: str) -> str:
        secret = secrets.token_urlsafe(32)
        shown = "".join(filter(str.isprintable, agent))[:AGENT_LETTERS_MAX]
        expires_us = act.at_us + SESSION_US
        session = Session(new_id(), account.id, act.address, shown, act.at_us, act.at_us, expires_us)
        await self._change(changes.open_session, act, account, password, session, digest(secret))
        return secret

    async def _create(
        self,
        kind: TokenKind,
        by: Caller,
        name: str,
        scopes: Iterable[str],
        shape: TokenShape,
        account_id: int | None,
        expires_us: int | None,
        address: str,
    ) -> NewToken:
        owner, act = by.account_id if account_id is None else account_id, self._act(by, address)
        if owner is None:
            raise NotAllowed("Say whose token it shall be")
        if expires_us is not None and expires_us <= act.at_us:
            raise Invalid("It would have expired already", pointer="/body/expires_at")
        secret = new_secret(shape)
        hint = secret[: len(shape.prefix) + 4]
        token = Token(new_id(), owner, kind, label(name), hint, scope_set(scopes), act.at_us, expires_us, None)
        await self._change(changes.add_token, act, token, digest(secret))
        return NewToken(token, secret)

    def _note_aside(self, function: Callable[[Connection, Act, str], None], act: Act, target: str) -> None:
        """Writes to the audit log while the caller is answered already: waiting would tell that there is an account."""

        async def write() -> None:
            try:
                await self._database.write(function, act, target)
            except Problem:
                _log.warning("could not note a refused sign-in", exc_info=True)

        task = asyncio.create_task(write())
        self._notes.add(task)
        task.add_done_callback(self._notes.discard)

    async def _change(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            result = await self._database.write(function, *args, **kwargs)
        except Duplicate:
            raise NameTaken from None
        self._authenticator.forget()
        self.key_pairs.forget()
        return result

    def _act(self, by: Caller, address: str) -> Act:
        return Act(by, address, self._now_us())

    def _now_us(self) -> int:
        return self._clock.wall_ns() // 1000
