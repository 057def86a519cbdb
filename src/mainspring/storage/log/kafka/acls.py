"""Access control lists: who may do what to which resource, by the rules of Kafka's authorizer. Pure.

A binding allows or denies a principal at a host an operation on the resources that a pattern names. Denial wins. Allowing READ,
WRITE, DELETE or ALTER allows DESCRIBE, and ALTER_CONFIGS allows DESCRIBE_CONFIGS; denying implies nothing.
"""

from collections.abc import Iterable
from enum import IntEnum

import msgspec

CLUSTER_NAME = "kafka-cluster"
ANY_NAME = "*"
_DECISIONS_MAX = 10_000


class Operation(IntEnum):
    UNKNOWN = 0
    ANY = 1
    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12
    CREATE_TOKENS = 13
    DESCRIBE_TOKENS = 14
    TWO_PHASE_COMMIT = 15


class Resource(IntEnum):
    UNKNOWN = 0
    ANY = 1
    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5
    DELEGATION_TOKEN = 6
    USER = 7


class Pattern(IntEnum):
    UNKNOWN = 0
    ANY = 1
    MATCH = 2
    LITERAL = 3
    PREFIXED = 4


class Permission(IntEnum):
    UNKNOWN = 0
    ANY = 1
    DENY = 2
    ALLOW = 3


_IMPLYING = {
    Operation.DESCRIBE: frozenset({Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER}),
    Operation.DESCRIBE_CONFIGS: frozenset({Operation.ALTER_CONFIGS}),
}
OPERATIONS_OF: dict[Resource, tuple[Operation, ...]] = {
    Resource.TOPIC: (
        Operation.READ, Operation.WRITE, Operation.CREATE, Operation.DELETE, Operation.ALTER, Operation.DESCRIBE,
        Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS,
    ),
    Resource.GROUP: (
        Operation.READ, Operation.DELETE, Operation.DESCRIBE, Operation.DESCRIBE_CONFIGS, Operation.ALTER_CONFIGS,
    ),
    Resource.CLUSTER: (
        Operation.CREATE, Operation.ALTER, Operation.DESCRIBE, Operation.CLUSTER_ACTION, Operation.DESCRIBE_CONFIGS,
        Operation.ALTER_CONFIGS, Operation.IDEMPOTENT_WRITE,
    ),
    Resource.TRANSACTIONAL_ID: (Operation.WRITE, Operation.DESCRIBE, Operation.TWO_PHASE_COMMIT),
    Resource.DELEGATION_TOKEN: (Operation.DESCRIBE,),
    Resource.USER: (Operation.CREATE_TOKENS, Operation.DESCRIBE_TOKENS),
}  # fmt: skip


class Acl(msgspec.Struct, frozen=True):
    """One binding. `host` is an IP address or `*`."""

    resource: int
    name: str
    pattern: int
    principal: str
    host: str
    operation: int
    permission: int


class AclFilter(msgspec.Struct, frozen=True):
    """Which bindings are meant; None and ANY mean every one. Pattern MATCH means all that apply to a resource of that name."""

    resource: int
    name: str | None
    pattern: int
    principal: str | None
    host: str | None
    operation: int
    permission: int

    def matches(self, acl: Acl) -> bool:
        return (
            self.resource in (Resource.ANY, acl.resource)
            and self._names(acl)
            and self.principal in (None, acl.principal)
            and self.host in (None, acl.host)
            and self.operation in (Operation.ANY, acl.operation)
            and self.permission in (Permission.ANY, acl.permission)
        )

    def _names(self, acl: Acl) -> bool:
        if self.pattern == Pattern.MATCH:
            if self.name is None or acl.name == ANY_NAME:
                return True
            return self.name.startswith(acl.name) if acl.pattern == Pattern.PREFIXED else acl.name == self.name
        return self.pattern in (Pattern.ANY, acl.pattern) and self.name in (None, acl.name)


class Authorizer:
    """Decides by a set of bindings. `super_users` may do everything; `open_by_default` says what holds for a resource that no
    binding names."""

    def __init__(self, acls: Iterable[Acl], super_users: Iterable[str], *, open_by_default: bool) -> None:
        self.acls = list(acls)
        self._super_users = frozenset(super_users)
        self._open_by_default = open_by_default
        self._exact: dict[tuple[int, str], list[Acl]] = {}
        self._prefixed: dict[int, list[Acl]] = {}
        self._decided: dict[tuple[str, str, int, int, str], bool] = {}
        for acl in self.acls:
            if acl.pattern == Pattern.PREFIXED:
                self._prefixed.setdefault(acl.resource, []).append(acl)
            else:
                self._exact.setdefault((acl.resource, acl.name), []).append(acl)

    def allows(self, principal: str, address: str, operation: int, resource: int, name: str) -> bool:
        """Whether `principal` at `address` may do `operation` to this resource."""
        if not self.acls and self._open_by_default:
            return True
        key = (principal, address, operation, resource, name)
        decided = self._decided.get(key)
        if decided is None:
            if len(self._decided) >= _DECISIONS_MAX:
                self._decided.clear()
            decided = self._decided[key] = self._decide(*key)
        return decided

    def allows_somewhere(self, principal: str, address: str, operation: int, resource: int) -> bool:
        """Whether there is any resource of this kind to which `principal` may do `operation`."""
        if principal in self._super_users or not self.acls:
            return principal in self._super_users or self._open_by_default
        names = {acl.name for acl in self.acls if acl.resource == resource}
        return (
            any(self.allows(principal, address, operation, resource, name) for name in names) or self._open_by_default
        )

    def _decide(self, principal: str, address: str, operation: int, resource: int, name: str) -> bool:
        if principal in self._super_users:
            return True
        found = [
            *self._exact.get((resource, name), ()),
            *self._exact.get((resource, ANY_NAME), ()),
            *(acl for acl in self._prefixed.get(resource, ()) if name.startswith(acl.name)),
        ]
        if not found:
            return self._open_by_default
        mine = [acl for acl in found if acl.principal in (principal, "User:*") and acl.host in (address, "*")]
        if any(acl.permission == Permission.DENY and acl.operation in (operation, Operation.ALL) for acl in mine):
            return False
        allowing = {operation, Operation.ALL} | _IMPLYING.get(Operation(operation), frozenset())
        return any(acl.permission == Permission.ALLOW and acl.operation in allowing for acl in mine)
