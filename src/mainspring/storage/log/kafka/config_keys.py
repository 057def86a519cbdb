"""Settings of topics, of this broker, of groups and of clients' metrics: described, replaced, and changed one by one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from mainspring.storage.log.coordinator_errors import InvalidRequest
from mainspring.storage.log.errors import InvalidConfig, LogError, UnknownPartition
from mainspring.storage.log.groups.configs import GROUP_CONFIGS, overridden
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.broker_configs import (
    BROKER_CONFIGS,
    CLIENT_METRICS_CONFIGS,
    at_start,
    check_broker,
    check_client_metrics,
    is_dynamic,
)
from mainspring.storage.log.kafka.config_entries import (
    CLIENT_METRICS,
    DYNAMIC_DEFAULT_BROKER,
    GROUP,
    STATIC_BROKER,
    ConfigEntry,
    layered_entries,
    plain_entries,
    topic_entries,
)
from mainspring.storage.log.kafka.dry_run import check_configs, check_topic_name
from mainspring.storage.log.kafka.dynamic_configs import held, layers, topic_defaults
from mainspring.storage.log.kafka.group_keys import groups_of
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized, GroupNotAuthorized, NotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles
from mainspring.storage.log.settings import SETTINGS

if TYPE_CHECKING:
    from mainspring.storage.log.topics import Topic

TOPIC, BROKER, BROKER_LOGGER, METRICS, GROUPS = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3
LISTABLE = (TOPIC, BROKER, BROKER_LOGGER, METRICS, GROUPS)
UNSUPPORTED_VERSION = 35


@handles(ApiKey.DESCRIBE_CONFIGS, range(1, 5))
def describe_configs(request: Any, context: Context) -> Answer:
    synonyms, documentation = request.include_synonyms, given(request, "include_documentation", False)
    answers = []
    for resource in request.resources:
        answer: dict[str, Any] = {
            "error_message": None,
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
        }
        keys = resource.configuration_keys
        try:
            answer["configs"] = [
                entry.described(synonyms=synonyms, documentation=documentation)
                for entry in _entries(resource.resource_type, resource.resource_name, context)
                if keys is None or entry.name in keys
            ]
        except LogError as error:
            answer |= {"error_code": error.kafka_code, "error_message": error.detail}
        answers.append(answer)
    return {"results": answers}


def _entries(kind: int, name: str, context: Context) -> Iterator[ConfigEntry]:
    _authorize(kind, name, context, Operation.DESCRIBE_CONFIGS)
    state = context.broker.state.current
    if kind == TOPIC:
        return topic_entries(
            _topic(name, context).config,
            layers(state, context.broker.engine.node_id),
            context.broker.engine.settings.topic,
        )
    if kind == BROKER:
        _check_broker(name, context)
        return _broker_entries(name, context)
    if kind == GROUPS:
        _check_group_name(name)
        settings = groups_of(context).settings
        known = {key: (str(getattr(settings, one.field)), one.kind, one.help) for key, one in GROUP_CONFIGS.items()}
        return plain_entries(known, state.group_configs.get(name, {}), GROUP)
    if kind == METRICS:
        if not name:
            raise InvalidRequest("Client metrics subscription name must not be empty")
        own = state.client_metrics.get(name)
        return plain_entries(CLIENT_METRICS_CONFIGS, own, CLIENT_METRICS) if own else iter(())
    if kind == BROKER_LOGGER:
        return iter(())
    raise InvalidRequest(f"Unsupported resource type: {kind}")


def _broker_entries(name: str, context: Context) -> Iterator[ConfigEntry]:
    own = context.broker.state.current.broker_configs
    if name == "":
        return plain_entries(
            {key: BROKER_CONFIGS[key] for key in own.get("", {})}, own.get("", {}), DYNAMIC_DEFAULT_BROKER
        )
    dynamic = layers(context.broker.state.current, context.broker.engine.node_id)
    return layered_entries(BROKER_CONFIGS, (*dynamic, (at_start(context.broker), STATIC_BROKER)), is_dynamic)


def _topic(name: str, context: Context) -> "Topic":
    topic = context.broker.engine.topics.get(name)
    if topic is None:
        check_topic_name(name)
        raise UnknownPartition("This server does not host this topic-partition.")
    return topic


def _check_group_name(name: str) -> None:
    if not name:
        raise InvalidRequest("Default group resources are not allowed.")


def _check_broker(name: str, context: Context) -> None:
    if name not in ("", str(context.broker.engine.node_id)):
        raise InvalidRequest(
            f"Unexpected broker id, expected {context.broker.engine.node_id} or empty string, but received {name}"
        )


def _authorize(kind: int, name: str, context: Context, operation: Operation) -> None:
    if kind == TOPIC:
        if not context.allows(operation, Resource.TOPIC, name):
            raise NotAuthorized("Topic authorization failed.")
    elif kind == GROUPS:
        if not context.allows(operation, Resource.GROUP, name):
            raise GroupNotAuthorized("Group authorization failed.")
    elif not context.allows(operation, Resource.CLUSTER, CLUSTER_NAME):
        raise ClusterNotAuthorized("Cluster authorization failed.")


@handles(ApiKey.INCREMENTAL_ALTER_CONFIGS, range(2))
async def incremental_alter_configs(request: Any, context: Context) -> Answer:
    def changes(resource: Any) -> dict[str, str | None]:
        names = [config.name for config in resource.configs]
        if len(set(names)) != len(names):
            raise InvalidRequest("A setting is changed twice")
        now = _given(resource.resource_type, resource.resource_name, context)
        return {config.name: _changed(config, now) for config in resource.configs}

    return await _alter(request, context, changes)


@handles(ApiKey.ALTER_CONFIGS, range(3))
async def alter_configs(request: Any, context: Context) -> Answer:
    def changes(resource: Any) -> dict[str, str | None]:
        now = _given(resource.resource_type, resource.resource_name, context)
        return dict.fromkeys(now) | {config.name: config.value for config in resource.configs}

    return await _alter(request, context, changes)


async def _alter(request: Any, context: Context, changes: Any) -> Answer:
    answers = []
    for resource in request.resources:
        kind, name = resource.resource_type, resource.resource_name
        answer: dict[str, Any] = {"error_message": None, "resource_type": kind, "resource_name": name}
        try:
            _authorize(kind, name, context, Operation.ALTER_CONFIGS)
            await _apply(kind, name, changes(resource), context, validate_only=request.validate_only)
        except LogError as error:
            answer |= {"error_code": error.kafka_code, "error_message": error.detail}
        answers.append(answer)
    return {"responses": answers}


def _given(kind: int, name: str, context: Context) -> Mapping[str, str]:
    """What was set for this resource alone."""
    state = context.broker.state.current
    if kind == TOPIC:
        held: Mapping[str, str] = _topic(name, context).config.given
        return held
    if kind == BROKER:
        _check_broker(name, context)
        return state.broker_configs.get(name, {})
    if kind == GROUPS:
        _check_group_name(name)
        return state.group_configs.get(name, {})
    if kind == METRICS:
        return state.client_metrics.get(name, {})
    raise InvalidRequest(f"Unsupported resource type: {kind}")


def _changed(config: Any, now: Mapping[str, str]) -> str | None:
    operation, value = config.config_operation, config.value
    if operation == DELETE:
        return None
    if value is None:
        raise InvalidRequest(f"Null value not supported for : {config.name}")
    if operation == SET:
        return str(value)
    if operation not in (APPEND, SUBTRACT):
        raise InvalidRequest(f"Unknown operation: {operation}")
    known = SETTINGS.get(config.name)
    kind = known.kind if known else BROKER_CONFIGS.get(config.name, ("", "", ""))[1]
    if kind != "LIST":
        verb = "append" if operation == APPEND else "subtract"
        raise InvalidConfig(f"Can't {verb} to key {config.name} because its type is not LIST.")
    held = [part for part in now.get(config.name, known.default if known else "").split(",") if part]
    parts = [part for part in value.split(",") if part]
    kept = [*held, *(part for part in parts if part not in held)] if operation == APPEND else _without(held, parts)
    return ",".join(kept)


def _without(held: Sequence[str], parts: Iterable[str]) -> list[str]:
    gone = set(parts)
    return [part for part in held if part not in gone]


async def _apply(
    kind: int, name: str, changes: Mapping[str, str | None], context: Context, *, validate_only: bool
) -> None:
    engine = context.broker.engine
    if kind == TOPIC:
        _topic(name, context)
        if validate_only:
            check_configs(engine, name, changes)
        else:
            await engine.configure(name, changes)
        return
    field = {BROKER: "broker_configs", GROUPS: "group_configs", METRICS: "client_metrics"}[kind]
    if kind == BROKER:
        check_broker(changes)
        _check_together(name, changes, context)
    elif kind == METRICS:
        check_client_metrics(changes)
    else:
        after = {**context.broker.state.current.group_configs.get(name, {}), **changes}
        overridden(groups_of(context).settings, {key: value for key, value in after.items() if value is not None})
    if validate_only:
        return

    def change(state: Any) -> None:
        """What is stored acts (`Broker` watches), before the answer."""
        whole = getattr(state, field)
        held = whole.setdefault(name, {})
        for key, value in changes.items():
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value
        if not held:
            del whole[name]

    await context.broker.state.change(change)


def _check_together(name: str, changes: Mapping[str, str | None], context: Context) -> None:
    """Raises `InvalidConfig` where what would hold contradicts itself, or a topic's own settings."""
    engine, state = context.broker.engine, context.broker.state.current
    after = {**state.broker_configs.get(name, {}), **changes}
    given = {key: value for key, value in after.items() if value is not None}
    would_be = msgspec.structs.replace(state, broker_configs={**state.broker_configs, name: given})
    engine.configs_with(topic_defaults(held(would_be, engine.node_id)))


@handles(ApiKey.LIST_CONFIG_RESOURCES, range(2))
def list_config_resources(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.DESCRIBE_CONFIGS, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code}
    wanted = list(given(request, "resource_types", None) or (LISTABLE if context.api_version else (METRICS,)))
    if not set(wanted) <= set(LISTABLE):
        return {"error_code": UNSUPPORTED_VERSION}
    engine, state = context.broker.engine, context.broker.state.current
    node = str(engine.node_id)
    names: dict[int, Iterable[str]] = {
        TOPIC: sorted(engine.topics),
        BROKER: [node],
        BROKER_LOGGER: [node],
        METRICS: sorted(state.client_metrics),
        GROUPS: sorted(state.group_configs),
    }
    found = [{"resource_name": name, "resource_type": kind} for kind in wanted for name in names[kind]]
    return {"config_resources": found}
