"""Who calls the S3 door: an account with its canonical id, and what it may at most do.

Accounts are core's: their key pairs are tokens (`core.accounts.key_pairs`), whose scopes bound what a key may do. Others can
be given in a file at start, with fixed keys, for suites and tools that bring their own. Temporary credentials need no
storage: their session token carries who and until when, sealed by the secret of whoever asked for them, and their own
secret follows from it.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from hashlib import sha256
from pathlib import Path

import msgspec

from mainspring.core.accounts import Accounts
from mainspring.core.accounts.caller import Caller
from mainspring.core.accounts.key_pairs import KeyPair
from mainspring.core.accounts.model import OWNER_ID
from mainspring.core.clock import Clock
from mainspring.storage.objects.s3.policy import Policy, Principal, compile_policy
from mainspring.wire.aws.errors import ExpiredToken, InvalidAccessKeyId, InvalidToken

ACCOUNTS_MAX = 10_000
NAMES_MAX = 10_000
SESSION_TOKEN_BYTES_MAX = 8_192
TEMPORARY = "ASIA"
OWNER_ACCOUNT = "000000000001"


class Identity(msgspec.Struct, frozen=True):
    """`id` is the canonical id (64 hexadecimal digits), empty for anonymous callers. `admin`: the installation's owner.

    `reads` and `writes` are what the key's scopes allow; `session` is the policy that bounds temporary credentials.
    """

    id: str
    name: str
    account: str
    arn: str
    access_key: str = ""
    admin: bool = False
    reads: bool = True
    writes: bool = True
    principal: Principal = Principal()
    session: Policy | None = None
    session_arn: str = ""

    @property
    def anonymous(self) -> bool:
        return not self.id


ANONYMOUS = Identity("", "anonymous", "", "")


class Credentials(msgspec.Struct, frozen=True):
    identity: Identity
    secret: str


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    access_key: str
    secret_key: str


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account of the file. `id` is its canonical id; a short one is hashed."""

    id: str
    display_name: str
    email: str = ""
    keys: list[Keys] = []
    admin: bool = False


class AccountsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accounts: list[Given]


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What a session token carries."""

    parent: str
    expires_s: int
    role: str = ""
    session: str = ""
    policy: bytes = b""


class Identities:
    """Credentials by access key. `names` are the display names by canonical id of those seen so far."""

    def __init__(self, accounts: Accounts, clock: Clock, file: str = "") -> None:
        self.names: dict[str, str] = {}
        self.emails: dict[str, str] = {}
        self._numbers = {canonical_id(f"account {OWNER_ID}"): OWNER_ACCOUNT}
        self._accounts = accounts
        self._pairs = accounts.key_pairs
        self._clock = clock
        self._given: dict[str, Credentials] = {}
        self._made: dict[str, tuple[KeyPair, Credentials]] = {}
        if file:
            self._read(Path(file))

    def _read(self, path: Path) -> None:
        read = msgspec.toml.decode if path.suffix == ".toml" else msgspec.json.decode
        for given in read(path.read_bytes(), type=AccountsFile).accounts[:ACCOUNTS_MAX]:
            id = given.id if len(given.id) == 64 else canonical_id(f"given {given.id}")
            account = given.id if given.id.isdigit() and len(given.id) == 12 else _twelve_digits(id)
            self._numbers[id] = account
            self.names[id] = given.display_name
            if given.email:
                self.emails[given.email.lower()] = id
            for keys in given.keys:
                identity = _identity(id, given.display_name, account, keys.access_key, admin=given.admin)
                self._given[keys.access_key] = Credentials(identity, keys.secret_key)

    def account_of(self, id: str) -> str:
        """The account's number, as ARNs have it, of a canonical id."""
        return self._numbers.get(id) or _twelve_digits(id)

    def remembered(self, access_key: str) -> Credentials | None:
        """Credentials that were found just now; None says nothing."""
        pair = self._pairs.remembered(access_key)
        return None if pair is None else self.of_pair(pair)

    async def find(self, access_key: str, token: str = "") -> Credentials:
        """Raises `InvalidAccessKeyId`, and `InvalidToken` or `ExpiredToken` for temporary credentials."""
        if token or access_key.startswith(TEMPORARY):
            return await self._temporary(access_key, token)
        if (given := self._given.get(access_key)) is not None:
            return given
        pair = self._pairs.remembered(access_key) or await self._pairs.find(access_key)
        if pair is None:
            raise InvalidAccessKeyId(access_key_id=access_key)
        return self.of_pair(pair)

    def of_pair(self, pair: KeyPair) -> Credentials:
        made = self._made.get(pair.access_key)
        if made is not None and made[0] is pair:
            return made[1]
        caller = pair.caller
        id = canonical_id(f"account {caller.account_id}")
        identity = _identity(
            id,
            caller.name,
            self.account_of(id),
            pair.access_key,
            admin=pair.owner,
            reads=caller.may("objects:read"),
            writes=caller.may("objects:write"),
        )
        credentials = Credentials(identity, pair.secret_key)
        if len(self._made) >= ACCOUNTS_MAX:
            self._made.clear()
        self._made[pair.access_key] = pair, credentials
        if len(self.names) < NAMES_MAX:
            self.names[id] = caller.name
        return credentials

    def of_caller(self, caller: Caller) -> Identity:
        """Whom a caller of the JSON API is here; nobody in particular is anonymous."""
        if caller.account_id is None:
            return ANONYMOUS
        id = canonical_id(f"account {caller.account_id}")
        if len(self.names) < NAMES_MAX:
            self.names[id] = caller.name
        return _identity(
            id,
            caller.name,
            self.account_of(id),
            "",
            admin=caller.may("*"),
            reads=caller.may("objects:read"),
            writes=caller.may("objects:write"),
        )

    def issue(
        self, parent: Credentials, seconds: int, role: str, session: str, policy: bytes
    ) -> tuple[str, str, str, int]:
        """(access key, secret key, session token, when it ends in Unix seconds) of new temporary credentials."""
        expires_s = self._clock.wall_ns() // 1_000_000_000 + seconds
        sealed = Sealed(parent.identity.access_key, expires_s, role, session, policy)
        payload = msgspec.msgpack.encode(sealed)
        token = urlsafe_b64encode(_seal(parent.secret, payload) + payload).decode()
        return *_keys_of(parent.secret, token), token, expires_s

    async def _temporary(self, access_key: str, token: str) -> Credentials:
        if not token or len(token) > SESSION_TOKEN_BYTES_MAX:
            raise InvalidToken
        try:
            raw = urlsafe_b64decode(token)
            sealed = msgspec.msgpack.decode(raw[32:], type=Sealed)
        except (Base64Error, ValueError, msgspec.MsgspecError):
            raise InvalidToken from None
        if sealed.parent.startswith(TEMPORARY):
            raise InvalidToken
        parent = await self.find(sealed.parent)
        if not hmac.compare_digest(_seal(parent.secret, raw[32:]), raw[:32]):
            raise InvalidToken
        if sealed.expires_s <= self._clock.wall_ns() // 1_000_000_000:
            raise ExpiredToken
        own_key, secret = _keys_of(parent.secret, token)
        if own_key != access_key:
            raise InvalidAccessKeyId(access_key_id=access_key)
        return Credentials(_assumed(parent.identity, sealed, access_key), secret)


def given(principal: str) -> Identity:
    """Somebody of another account, by its number or an ARN of it, for simulations."""
    parts = principal.split(":")
    account = parts[4] if len(parts) > 5 else principal
    names = frozenset({principal, account, f"arn:aws:iam::{account}:root"})
    return Identity(canonical_id(f"simulated {principal}"), principal, account, principal, principal=Principal(names))


def canonical_id(text: str) -> str:
    return sha256(f"mainspring objects {text}".encode()).hexdigest()


def _identity(
    id: str,
    name: str,
    account: str,
    access_key: str,
    *,
    admin: bool = False,
    reads: bool = True,
    writes: bool = True,
) -> Identity:
    arn = f"arn:aws:iam::{account}:root"
    names = frozenset({account, arn, id, f"arn:aws:iam::{account}:user/{name}"})
    return Identity(id, name, account, arn, access_key, admin, reads, writes, Principal(names))


def _assumed(parent: Identity, sealed: Sealed, access_key: str) -> Identity:
    """Whoever assumed a role is still of its account, by the role's names too, and bounded by the session's policy."""
    session = compile_policy(sealed.policy, None) if sealed.policy else None
    if not sealed.role:
        return msgspec.structs.replace(parent, access_key=access_key, session=session)
    role = sealed.role.rpartition("/")[2]
    arn = f"arn:aws:sts::{parent.account}:assumed-role/{role}/{sealed.session}"
    names = parent.principal.names | {sealed.role, arn}
    return msgspec.structs.replace(
        parent, access_key=access_key, session=session, session_arn=arn, principal=Principal(names)
    )


def _twelve_digits(id: str) -> str:
    return f"{int(id[:16], 16) % 10**12:012d}"


def _seal(secret: str, payload: bytes) -> bytes:
    return hmac.digest(secret.encode(), b"session token" + payload, "sha256")


def _keys_of(secret: str, token: str) -> tuple[str, str]:
    """The access key and the secret key that belong to a session token."""
    made = hmac.digest(secret.encode(), b"temporary keys" + token.encode(), "sha512")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return TEMPORARY + "".join(letters[byte & 31] for byte in made[:16]), urlsafe_b64encode(made[16:46]).decode()
