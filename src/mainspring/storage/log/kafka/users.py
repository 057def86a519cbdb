"""The file that `--users` names: who there is at the first start, and what they may do.

    [[users]]
    name = "alice"
    password = "…"                     # or password_file = "/run/secrets/alice"
    mechanisms = ["SCRAM-SHA-256"]     # both where it does not say

    [[acls]]
    principal = "User:alice"
    operation = "READ"
    resource = "TOPIC"
    name = "orders"                    # pattern = "PREFIXED", permission = "DENY", host = "10.0.0.7" where it is meant

It is read while the door has no state of its own; from then on Kafka's tools change what holds.
"""

import asyncio
import secrets
from pathlib import Path

import msgspec

from mainspring.storage.log.kafka.acls import Acl, Operation, Pattern, Permission, Resource
from mainspring.storage.log.kafka.cluster_state import ClusterFile, ClusterState
from mainspring.storage.log.kafka.scram import HASHES, ITERATIONS_MIN, Credential, credential, salted


class UsersFileInvalid(ValueError):
    """The text says what is wrong and where."""


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str = ""
    password_file: str = ""
    mechanisms: tuple[str, ...] = tuple(HASHES)


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    principal: str
    operation: str
    resource: str
    name: str
    pattern: str = "LITERAL"
    permission: str = "ALLOW"
    host: str = "*"


class UsersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    users: tuple[User, ...] = ()
    acls: tuple[Rule, ...] = ()


async def take_in(path: Path, state: ClusterFile) -> None:
    """Adds what the file says, where the state has neither users nor ACLs. Raises `UsersFileInvalid`."""
    if state.current.users or state.current.acls:
        return
    try:
        content = msgspec.toml.decode(await asyncio.to_thread(path.read_bytes), type=UsersFile)
        acls = [_acl(rule) for rule in content.acls]
        users = await asyncio.to_thread(lambda: {user.name: _credentials(user) for user in content.users})
    except (OSError, msgspec.MsgspecError, KeyError) as error:
        raise UsersFileInvalid(f"{path}: {error}") from error

    def add(current: ClusterState) -> None:
        current.users.update(users)
        current.acls.extend(acls)

    await state.change(add)


def _credentials(user: User) -> dict[str, Credential]:
    password = user.password or (Path(user.password_file).read_text().strip() if user.password_file else "")
    if not user.name or not password:
        raise UsersFileInvalid(f"user {user.name!r} has no name or no password")
    made = {}
    for mechanism in user.mechanisms:
        if mechanism not in HASHES:
            raise UsersFileInvalid(f"user {user.name!r}: there is no mechanism {mechanism!r}")
        salt = secrets.token_bytes(16)
        made[mechanism] = credential(mechanism, salted(mechanism, password, salt, ITERATIONS_MIN), salt, ITERATIONS_MIN)
    return made


def _acl(rule: Rule) -> Acl:
    return Acl(
        Resource[rule.resource.upper()],
        rule.name,
        Pattern[rule.pattern.upper()],
        rule.principal,
        rule.host,
        Operation[rule.operation.upper()],
        Permission[rule.permission.upper()],
    )
