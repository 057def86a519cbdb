"""`/api/accounts`: setting up, users, service accounts, tokens, sessions and the audit log, for consoles and scripts.

The rules are the service's; a route says only which scope is needed before anything is looked at.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec

from mainspring.core.accounts import views
from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.model import (
    SELF,
    AlreadySetUp,
    Kind,
    LastOwner,
    LimitReached,
    NameTaken,
    NewToken,
    NotAllowed,
    SignInFailed,
    TooManyAttempts,
    Unknown,
)
from mainspring.core.accounts.service import Accounts
from mainspring.core.accounts.views import (
    AccountView,
    AuditView,
    NewPassword,
    NewScopes,
    NewService,
    NewUser,
    SessionView,
    SetUp,
    SetUpState,
    TokenMade,
    TokenView,
    TokenWanted,
    WhoAmI,
)
from mainspring.core.http.pages import Cursors, Page, PageQuery
from mainspring.core.http.request import Request
from mainspring.core.http.routes import Routes
from mainspring.core.problems import Invalid

routes = Routes("accounts")

_PLACE: Any = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # whoever forges a cursor forges one that exists
_accounts_cursors: Cursors[int] = Cursors("accounts", _PLACE)
_audit_cursors: Cursors[int] = Cursors("accounts.audit", _PLACE)


@routes.get("/set-up", public=True)
async def set_up_state(accounts: Accounts) -> SetUpState:
    """Whether the owner's account has been set up."""
    return SetUpState(await accounts.is_set_up())


@routes.post("/set-up", scope="*", problems=(AlreadySetUp, NameTaken, NotAllowed, Invalid))
async def set_up(body: SetUp, caller: Caller, request: Request, accounts: Accounts) -> AccountView:
    """Gives the owner's account its name and password, with the one-click token."""
    return views.of_account(await accounts.set_up(caller, body.name, body.password, request.client[0]))


@routes.get("/whoami", public=True)
async def whoami(caller: Caller) -> WhoAmI:
    """Whose credentials this request carried."""
    return views.who(caller)


@routes.get("/users")
async def users(query: PageQuery, caller: Caller, accounts: Accounts) -> Page[AccountView]:
    """Those who sign in."""
    return await _listed(accounts, caller, "user", query)


@routes.post("/users", status=201, problems=(NotAllowed, NameTaken, Invalid))
async def create_user(body: NewUser, caller: Caller, request: Request, accounts: Accounts) -> AccountView:
    """Adds a user, who may do at most what the caller may."""
    address = request.client[0]
    return views.of_account(
        await accounts.create_user(caller, body.name, body.password, body.scopes, body.role, address)
    )


@routes.get("/service-accounts")
async def service_accounts(query: PageQuery, caller: Caller, accounts: Accounts) -> Page[AccountView]:
    """Those who only have tokens."""
    return await _listed(accounts, caller, "service", query)


@routes.post("/service-accounts", status=201, problems=(NotAllowed, NameTaken, Invalid))
async def create_service(body: NewService, caller: Caller, request: Request, accounts: Accounts) -> AccountView:
    """Adds an account that only has tokens."""
    return views.of_account(await accounts.create_service(caller, body.name, body.scopes, request.client[0]))


@routes.get("/{id}", scope=SELF, problems=(NotAllowed, Unknown))
async def account(id: int, caller: Caller, accounts: Accounts) -> AccountView:
    """One account."""
    return views.of_account(await accounts.account(caller, id))


@routes.put("/{id}/scopes", problems=(NotAllowed, Unknown, LastOwner, Invalid))
async def change_scopes(id: int, body: NewScopes, caller: Caller, request: Request, accounts: Accounts) -> AccountView:
    """Replaces what an account may do; its tokens lose at once what it loses."""
    return views.of_account(await accounts.change_scopes(caller, id, body.scopes, body.role, request.client[0]))


@routes.post("/{id}/disable", problems=(NotAllowed, Unknown, LastOwner))
async def disable(id: int, caller: Caller, request: Request, accounts: Accounts) -> AccountView:
    """Refuses all of an account's credentials, and ends its sessions."""
    return views.of_account(await accounts.disable(caller, id, request.client[0]))


@routes.post("/{id}/enable", problems=(NotAllowed, Unknown))
async def enable(id: int, caller: Caller, request: Request, accounts: Accounts) -> AccountView:
    """Accepts an account's credentials again."""
    return views.of_account(await accounts.enable(caller, id, request.client[0]))


@routes.put("/{id}/password", scope=SELF, problems=(NotAllowed, Unknown, SignInFailed, TooManyAttempts, Invalid))
async def change_password(id: int, body: NewPassword, caller: Caller, request: Request, accounts: Accounts) -> None:
    """Replaces a password, and ends the account's other sessions."""
    await accounts.change_password(caller, id, body.password, body.current, request.client[0])


@routes.get("/{id}/sessions", scope=SELF, problems=(NotAllowed,))
async def sessions(id: int, caller: Caller, accounts: Accounts) -> list[SessionView]:
    """An account's sessions, the one seen last first."""
    return [views.of_session(session, caller) for session in await accounts.sessions(caller, id)]


@routes.delete("/{id}/sessions", scope=SELF, problems=(NotAllowed, Unknown))
async def revoke_sessions(id: int, caller: Caller, request: Request, accounts: Accounts) -> None:
    """Ends all sessions of an account."""
    await accounts.revoke_sessions(caller, id, request.client[0])


@routes.delete("/sessions/{id}", scope=SELF, problems=(NotAllowed, Unknown))
async def revoke_session(id: int, caller: Caller, request: Request, accounts: Accounts) -> None:
    """Ends one session."""
    await accounts.revoke_session(caller, id, request.client[0])


@routes.get("/{id}/tokens", scope=SELF, problems=(NotAllowed,))
async def tokens(id: int, caller: Caller, accounts: Accounts) -> list[TokenView]:
    """An account's tokens and app passwords, the oldest first."""
    return [views.of_token(token) for token in await accounts.tokens(caller, id)]


@routes.post("/tokens", status=201, scope=SELF, problems=(NotAllowed, Unknown, LimitReached, Invalid))
async def create_token(body: TokenWanted, caller: Caller, request: Request, accounts: Accounts) -> TokenMade:
    """Makes an API token with at most the caller's scopes."""
    return await _made(accounts.create_token, body, caller, request)


@routes.post("/app-passwords", status=201, scope=SELF, problems=(NotAllowed, Unknown, LimitReached, Invalid))
async def create_app_password(body: TokenWanted, caller: Caller, request: Request, accounts: Accounts) -> TokenMade:
    """Makes a password for one app that knows only HTTP Basic, to be sent with the account's name."""
    return await _made(accounts.create_app_password, body, caller, request)


@routes.delete("/tokens/{id}", scope=SELF, problems=(NotAllowed, Unknown))
async def revoke_token(id: int, caller: Caller, request: Request, accounts: Accounts) -> None:
    """Refuses a token or app password from now on."""
    await accounts.revoke_token(caller, id, request.client[0])


@routes.get("/audit")
async def audit(query: PageQuery, caller: Caller, accounts: Accounts) -> Page[AuditView]:
    """Who did what, the newest first."""
    before = _audit_cursors.open(query.cursor)
    found = await accounts.audit(caller, 2**63 - 1 if before is None else before, query.limit + 1)
    page = _audit_cursors.page(found, query.limit, lambda entry: entry.id)
    return Page([views.of_audit(entry) for entry in page.items], page.next)


async def _listed(accounts: Accounts, caller: Caller, kind: Kind, query: PageQuery) -> Page[AccountView]:
    after = _accounts_cursors.open(query.cursor, kind)
    found = await accounts.accounts(caller, kind, after or 0, query.limit + 1)
    page = _accounts_cursors.page(found, query.limit, lambda account: account.id, kind)
    return Page([views.of_account(account) for account in page.items], page.next)


async def _made(
    create: Callable[..., Awaitable[NewToken]], body: TokenWanted, caller: Caller, request: Request
) -> TokenMade:
    optional: dict[str, Any] = {
        "account_id": None if body.account_id is None else int(body.account_id),
        "expires_us": None if body.expires_at is None else views.microseconds(body.expires_at),
    }
    return views.of_new_token(await create(caller, body.name, body.scopes, address=request.client[0], **optional))
