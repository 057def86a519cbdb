"""How the application puts the log together: its section of the configuration, the log, and the broker that Kafka clients meet.

[log]
directories = ["/disk-1/log", "/disk-2/log"]
flush_policy = "commit"

[log.kafka]
authentication = true
"""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mainspring.core.accounts import Accounts
from mainspring.core.clock import Clock
from mainspring.core.config import Config
from mainspring.core.imports import imported
from mainspring.core.ports import Database
from mainspring.core.telemetry import Metrics
from mainspring.storage.log import coordination_metrics
from mainspring.storage.log.groups.settings import GroupSettings
from mainspring.storage.log.kafka.broker import Broker
from mainspring.storage.log.kafka.dynamic_configs import act_on_stored
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.service import Log
from mainspring.storage.log.settings import LogSettings

STATE_FILE = "kafka.json"


class LogSection(LogSettings, kw_only=True, forbid_unknown_fields=True):
    """Section `[log]`: the engine's keys, and tables of what stands on it."""

    directories: Annotated[
        list[str], Meta(description="Folders of partitions, one for each disk; empty: `log` in the data folder")
    ] = msgspec.field(default_factory=list)
    kafka: Annotated[KafkaSettings, Meta(description="The door of Kafka clients")] = msgspec.field(
        default_factory=KafkaSettings
    )
    groups: Annotated[GroupSettings, Meta(description="Consumer groups")] = msgspec.field(default_factory=GroupSettings)


def folders(config: Config, settings: LogSection) -> list[Path]:
    return [Path(one) for one in settings.directories] or [Path(config.data) / "log"]


def opened(config: Config, database: Database, clock: Clock, settings: LogSection, metrics: Metrics) -> Log:
    """Where this log stands behind the port, positions of its consumers can be part of the database's transactions. Else the
    positions there are those of another log."""
    own = database if not config.log and database.dialect == "sqlite" else None
    log = Log(folders(config, settings), clock, own, settings=settings, groups=settings.groups, metrics=metrics)
    coordination_metrics.observe(metrics, log.groups, log.transactions)
    act_on_stored(folders(config, settings)[0] / STATE_FILE, log.engine, log.groups)
    return log


def broker(config: Config, log: Log, clock: Clock, settings: LogSection, metrics: Metrics) -> Broker:
    """What the door stands on: the same engine, groups and transactions that this process uses."""
    directories = folders(config, settings)
    return Broker(
        log.engine,
        clock,
        directories[0] / STATE_FILE,
        settings=settings.kafka,
        directories=directories,
        groups=log.groups,
        transactions=log.transactions,
        metrics=metrics,
    )


async def door(broker: Broker, accounts: Accounts) -> Any:
    """The factory of connections. What answers Kafka's messages is loaded when the first client comes, not for who uses the log
    in this process only; what describes all but the first message of a client, while that one is answered."""
    listener, codec = await asyncio.to_thread(_load)
    factory = await listener.application(broker, accounts)
    asyncio.get_running_loop().run_in_executor(None, codec.load)
    return factory


def _load() -> tuple[Any, Any]:
    imported("mainspring.storage.log.kafka.registry").table()
    return (
        imported("mainspring.storage.log.kafka.listener"),
        imported("mainspring.storage.log.kafka.codec"),
    )
