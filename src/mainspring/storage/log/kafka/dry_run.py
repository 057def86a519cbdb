"""What a change would be refused for, without making it: for `validate_only` requests, and names that are only asked after."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mainspring.storage.log.errors import InvalidPartitions, TopicExists
from mainspring.storage.log.settings import TopicConfig, default_values
from mainspring.storage.log.topics import check_name, folded

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine


def check_topic_name(name: str) -> None:
    """Raises `InvalidTopic` for a name that no topic may have."""
    check_name(name, {})


def check_topic(engine: "Engine", name: str, partitions: int, config: Mapping[str, str]) -> TopicConfig:
    """The settings that the topic would have. Raises what making it would raise."""
    check_name(name, {folded(known): known for known in engine.topics})
    if name in engine.topics:
        raise TopicExists(f"Topic '{name}' already exists.")
    check_partitions(engine, partitions)
    return TopicConfig(config, default_values(engine.defaults))


def check_partitions(engine: "Engine", more: int) -> None:
    """Raises `InvalidPartitions` where this node cannot hold so many more."""
    there = sum(len(topic.partitions) for topic in engine.topics.values())
    if there + more > engine.settings.partitions_max:
        raise InvalidPartitions(f"this node holds at most {engine.settings.partitions_max} partitions")


def check_configs(engine: "Engine", name: str, changes: Mapping[str, str | None]) -> None:
    """Raises `InvalidConfig`."""
    after: dict[str, str | None] = {**engine.topics[name].config.given, **changes}
    TopicConfig({key: value for key, value in after.items() if value is not None}, default_values(engine.defaults))
