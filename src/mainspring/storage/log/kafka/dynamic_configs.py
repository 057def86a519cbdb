"""What has been set while the node ran, by Kafka's tools, and is kept with the door's state: it holds from the moment it is
stored, and from the next start on before anybody is served, whether Kafka clients come or not.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.storage.log.errors import InvalidConfig
from mainspring.storage.log.kafka.broker_configs import TOPIC_DEFAULTS
from mainspring.storage.log.kafka.cluster_state import ClusterState, stored
from mainspring.storage.log.kafka.config_entries import DYNAMIC_BROKER, DYNAMIC_DEFAULT_BROKER, Layers

if TYPE_CHECKING:
    from mainspring.storage.log.engine import Engine
    from mainspring.storage.log.groups.service import Groups

log = logging.getLogger(__name__)


def held(state: ClusterState, node_id: int) -> dict[str, str]:
    """The broker's settings by their names: what was set for this node, else for all."""
    return {**state.broker_configs.get("", {}), **state.broker_configs.get(str(node_id), {})}


def topic_defaults(found: Mapping[str, str]) -> dict[str, str]:
    """What of a broker's settings holds for topics, by the topics' names."""
    return {name: found[broker_name] for broker_name, name in TOPIC_DEFAULTS.items() if broker_name in found}


def layers(state: ClusterState, node_id: int) -> Layers:
    """What was set for this node, and what for all, as a description shows it."""
    configs = state.broker_configs
    return (configs.get(str(node_id), {}), DYNAMIC_BROKER), (configs.get("", {}), DYNAMIC_DEFAULT_BROKER)


def act(state: ClusterState, engine: "Engine", groups: "Groups | None") -> None:
    """Lets the defaults of topics and the settings of single groups hold from now on."""
    try:
        engine.set_defaults(topic_defaults(held(state, engine.node_id)))
    except InvalidConfig as error:
        # Valid when they were stored: what the node is started with is another by now.
        log.warning("the stored defaults of topics do not count: %s", error.detail)
    if groups is not None:
        groups.configure(state.group_configs)


def act_on_stored(path: Path, engine: "Engine", groups: "Groups") -> None:
    """The same with what a door has stored at `path`, before that door is opened."""
    if path.exists():
        act(stored(path), engine, groups)
