"""Accounts, credentials and the rules about them: pure, and the same wherever they are kept.

An account is a user (who signs in with a password) or a service (which only has tokens). An `owner` may do everything; a
`member` may do what its scopes allow, and care for its own credentials (`accounts:self`). Account 1 is the owner of the
installation and exists from the first start, before it has a password: the one-click token and the command line act for
it, so that what is made with them belongs to whoever sets up the password later.
"""

import re
import secrets
import unicodedata
from collections.abc import Iterable
from hashlib import sha256
from math import log2
from typing import Literal

import msgspec

from mainspring.core.accounts.caller import Caller, covers, is_scope
from mainspring.core.manifest import TokenShape
from mainspring.core.problems import Conflict, Forbidden, Invalid, NotFound, TooMany, Unauthenticated

OWNER_ID = 1
OPERATOR = Caller(OWNER_ID, "owner", "operator", frozenset({"*"}))
"""Whoever sits at the machine: the command line, which needs no credentials because it can read the data folder."""

ONE_CLICK = Caller(OWNER_ID, "owner", "one_click", frozenset({"*"}))
SELF = "accounts:self"
"""The scope of caring for one's own credentials: a session has it, a token only where it was granted."""

DEFAULT_SHAPE = TokenShape("ms_", 43)
APP_PASSWORD = TokenShape("", 27, "abcdefghjkmnpqrstuvwxyz23456789")
"""Without letters that are mistaken for another, since people type it into a phone."""

SECRET_BITS_MIN = 96
SCOPES_MAX = 100
TOKENS_MAX = 1_000
SESSIONS_MAX = 100
PASSWORD_LETTERS_MIN = 12
PASSWORD_BYTES_MAX = 1_024

Kind = Literal["user", "service"]
Role = Literal["owner", "member"]
TokenKind = Literal["token", "app_password"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,62}[a-z0-9])?")


class CredentialsInvalid(Unauthenticated):
    type, title = "accounts/credentials-invalid", "These credentials are not valid, or not any more"


class SignInFailed(Unauthenticated):
    type, title = "accounts/sign-in-failed", "The name or the password is wrong"


class TooManyAttempts(TooMany):
    type, title = "accounts/too-many-attempts", "Too many attempts to sign in"


class CrossOrigin(Forbidden):
    type, title = "accounts/cross-origin", "A session's cookie is accepted from this origin's own pages only"


class NotAllowed(Forbidden):
    type, title = "accounts/not-allowed", "Nobody may hand on, or manage, more than they may do themselves"


class NameTaken(Conflict):
    type, title = "accounts/name-taken", "There is an account of this name"


class AlreadySetUp(Conflict):
    type, title = "accounts/already-set-up", "The owner's account has a password already"


class LastOwner(Conflict):
    type, title = "accounts/last-owner", "One owner must stay"


class LimitReached(Conflict):
    type, title = "accounts/limit-reached", "This account has as many as it may have"


class Unknown(NotFound):
    type, title = "accounts/unknown", "There is no such account, token or session"


class Account(msgspec.Struct, frozen=True):
    """One account; times are microseconds UTC. `password` is a PHC string, None where nobody can sign in."""

    id: int
    kind: Kind
    name: str
    role: Role
    granted: frozenset[str]
    password: str | None
    created_us: int
    disabled_us: int | None

    @property
    def scopes(self) -> frozenset[str]:
        """What its sessions may do, and its tokens at most."""
        return frozenset({"*"}) if self.role == "owner" else self.granted | {SELF}


class Token(msgspec.Struct, frozen=True):
    """An API token or app password, without its secret; `hint` is how it begins. `last_used_us` is exact to a minute."""

    id: int
    account_id: int
    kind: TokenKind
    name: str
    hint: str
    scopes: frozenset[str]
    created_us: int
    expires_us: int | None
    last_used_us: int | None


class NewToken(msgspec.Struct, frozen=True):
    """A token and, this once, its secret."""

    token: Token
    secret: str


class Session(msgspec.Struct, frozen=True):
    """One signed-in browser; `seen_us` is exact to a minute."""

    id: int
    account_id: int
    address: str
    agent: str
    created_us: int
    seen_us: int
    expires_us: int


class Act(msgspec.Struct, frozen=True):
    """Who asks for a change, from where, and when: what the audit log says of it."""

    by: Caller
    address: str
    at_us: int


class AuditEntry(msgspec.Struct, frozen=True):
    """Who did what to what, when, and from where. `actor_id` is None where nobody was authenticated."""

    id: int
    at_us: int
    actor_id: int | None
    actor: str
    means: str
    action: str
    target: str
    address: str


def new_id() -> int:
    """A random number of 62 bits, above the reserved ones."""
    return secrets.randbelow(2**62 - 2) + 2


def new_secret(shape: TokenShape) -> str:
    """A secret of this shape. Raises `ValueError` for a shape that somebody could guess.

    Its entropy is why a plain SHA-256 is stored: there is nothing to slow down for whoever would have to try 2^96.
    """
    letters = shape.alphabet
    if len(set(letters)) != len(letters) or shape.length * log2(max(1, len(letters))) < SECRET_BITS_MIN:
        raise ValueError(f"a secret needs at least {SECRET_BITS_MIN} bits from different letters: {shape}")
    return shape.prefix + "".join(map(secrets.choice, [letters] * shape.length))


def digest(secret: str | bytes) -> bytes:
    """What is stored of a secret, and looked up."""
    return sha256(secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret).digest()


def is_account_name(name: str) -> bool:
    """Whether an account may have this name."""
    return _NAME.fullmatch(name) is not None and name != "anonymous"


def account_name(text: str) -> str:
    """The name as it is kept: lower case. Raises `Invalid`."""
    name = text.strip().lower()
    if not is_account_name(name):
        raise Invalid(
            "1 to 64 of a–z, 0–9 and . _ @ + -, beginning and ending with a letter or digit", pointer="/body/name"
        )
    return name


def label(text: str) -> str:
    """A token's name for people. Raises `Invalid`."""
    name = text.strip()
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise Invalid("1 to 100 printable characters", pointer="/body/name")
    return name


def new_password(text: str, name: str) -> bytes:
    """The bytes to hash, composed (NFC) so that every keyboard types the same. Raises `Invalid`."""
    if len(text) < PASSWORD_LETTERS_MIN or len(text.encode("utf-8", "replace")) > PASSWORD_BYTES_MAX:
        raise Invalid(f"At least {PASSWORD_LETTERS_MIN} characters", pointer="/body/password")
    if text.lower() == name or len(set(text)) < 5:
        raise Invalid("Too easy to guess", pointer="/body/password")
    return password_bytes(text)


def password_bytes(text: str) -> bytes:
    """What is compared with a hash; whatever was typed has some."""
    return unicodedata.normalize("NFC", text[:PASSWORD_BYTES_MAX]).encode("utf-8", "surrogatepass")


def scope_set(scopes: Iterable[str]) -> frozenset[str]:
    """Scopes to be granted. Raises `Invalid` for what is written wrong."""
    found = frozenset(scopes)
    wrong = sorted(scope for scope in found if not is_scope(scope))
    if wrong or len(found) > SCOPES_MAX:
        raise Invalid(f"Not a scope: {wrong[0]}" if wrong else f"At most {SCOPES_MAX} scopes", pointer="/body/scopes")
    return found


def narrowed(scopes: frozenset[str], to: frozenset[str]) -> frozenset[str]:
    """What is in both: a token keeps no right that its account has lost since."""
    return frozenset(scope for scope in scopes if covers(to, (scope,))) | {
        scope for scope in to if covers(scopes, (scope,))
    }


def must_see(by: Caller, account_id: int | None) -> None:
    """Raises `NotAllowed` unless it is about one's own account or one may read about all of them."""
    own = account_id is not None and account_id == by.account_id and by.may(SELF)
    if not own and not by.may("accounts:read"):
        raise NotAllowed("Reading about accounts needs accounts:read")


def must_write(by: Caller) -> None:
    """Raises `NotAllowed` unless one may change accounts besides one's own."""
    if not by.may("accounts:write"):
        raise NotAllowed("Changing accounts needs accounts:write")


def must_hold(by: Caller, scopes: Iterable[str]) -> None:
    """Raises `NotAllowed` unless `by` may do everything that `scopes` allow."""
    wanted = frozenset(scopes)
    if not covers(by.scopes, wanted):
        beyond = sorted(scope for scope in wanted if not covers(by.scopes, (scope,)))
        raise NotAllowed(f"You do not have {', '.join(beyond)} yourself")


def must_manage(by: Caller, account: Account) -> None:
    """Raises `NotAllowed` unless `account` is one's own, or one may change accounts and do all that this one may.

    A token manages even its own account only with `accounts:self`: one that leaks must not make others that stay.
    """
    if account.id == by.account_id and by.may(SELF):
        return
    must_write(by)
    must_hold(by, account.scopes)
