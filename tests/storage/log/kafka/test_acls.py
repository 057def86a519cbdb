"""Who may do what: the rules of Kafka's authorizer."""

import pytest

from mainspring.storage.log.kafka.acls import (
    Acl,
    AclFilter,
    Authorizer,
    Operation,
    Pattern,
    Permission,
    Resource,
)


def acl(
    name: str = "orders",
    principal: str = "User:alice",
    operation: Operation = Operation.READ,
    permission: Permission = Permission.ALLOW,
    pattern: Pattern = Pattern.LITERAL,
    host: str = "*",
) -> Acl:
    return Acl(Resource.TOPIC, name, pattern, principal, host, operation, permission)


def allows(
    acls: list[Acl], operation: Operation, name: str = "orders", user: str = "alice", host: str = "10.0.0.1"
) -> bool:
    rules = Authorizer(acls, ["User:root"], open_by_default=False)
    return rules.allows(f"User:{user}", host, operation, Resource.TOPIC, name)


def test_nothing_is_allowed_that_nobody_allowed() -> None:
    assert not allows([], Operation.READ)
    assert allows([], Operation.READ, user="root")
    assert allows([acl()], Operation.READ)
    assert not allows([acl()], Operation.WRITE)
    assert not allows([acl()], Operation.READ, user="bob")
    assert not allows([acl()], Operation.READ, name="orders2")


def test_denial_wins_over_every_allowance() -> None:
    everybody = acl(principal="User:*", operation=Operation.ALL)
    denied = acl(operation=Operation.READ, permission=Permission.DENY, name="ord", pattern=Pattern.PREFIXED)
    assert allows([everybody], Operation.READ)
    assert not allows([everybody, denied], Operation.READ)
    assert allows([everybody, denied], Operation.WRITE)
    assert allows([everybody, denied], Operation.READ, user="bob")
    assert allows([everybody, denied], Operation.READ, user="root")


@pytest.mark.parametrize("operation", [Operation.READ, Operation.WRITE, Operation.DELETE, Operation.ALTER])
def test_who_may_do_something_may_describe_but_denying_it_denies_only_that(operation: Operation) -> None:
    assert allows([acl(operation=operation)], Operation.DESCRIBE)
    both = [acl(operation=operation, permission=Permission.DENY), acl(operation=Operation.DESCRIBE)]
    assert allows(both, Operation.DESCRIBE)


def test_changing_settings_allows_seeing_them() -> None:
    assert allows([acl(operation=Operation.ALTER_CONFIGS)], Operation.DESCRIBE_CONFIGS)
    assert not allows([acl(operation=Operation.READ)], Operation.DESCRIBE_CONFIGS)


def test_patterns_are_literal_prefixed_or_everything() -> None:
    assert allows([acl(name="ord", pattern=Pattern.PREFIXED)], Operation.READ)
    assert not allows([acl(name="ord")], Operation.READ)
    assert allows([acl(name="*")], Operation.READ)
    assert not allows([acl(name="*", pattern=Pattern.PREFIXED)], Operation.READ), "a prefixed star is a star"


def test_a_host_is_one_address_or_all() -> None:
    assert allows([acl(host="10.0.0.1")], Operation.READ)
    assert not allows([acl(host="10.0.0.2")], Operation.READ)


def test_open_by_default_holds_for_what_no_binding_names() -> None:
    rules = Authorizer([acl()], [], open_by_default=True)
    assert rules.allows("User:bob", "h", Operation.WRITE, Resource.TOPIC, "other")
    assert not rules.allows("User:bob", "h", Operation.READ, Resource.TOPIC, "orders")


def test_filters_name_bindings_exactly_or_by_what_applies_to_a_resource() -> None:
    acls = [acl(), acl(name="ord", pattern=Pattern.PREFIXED), acl(name="*"), acl(name="else")]
    anything = {"resource": 1, "principal": None, "host": None, "operation": 1, "permission": 1}

    def found(**wanted: object) -> list[Acl]:
        chosen = AclFilter(**(anything | wanted))  # type: ignore[arg-type]
        return [one for one in acls if chosen.matches(one)]

    assert found(name=None, pattern=Pattern.ANY) == acls
    assert found(name="orders", pattern=Pattern.MATCH) == acls[:3]
    assert found(name="orders", pattern=Pattern.LITERAL) == acls[:1]
    assert found(name="ord", pattern=Pattern.PREFIXED) == acls[1:2]
    assert found(name=None, pattern=Pattern.ANY, principal="User:bob") == []
    assert found(name=None, pattern=Pattern.ANY, operation=Operation.WRITE) == []
