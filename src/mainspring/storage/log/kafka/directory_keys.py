"""Data directories: how full they are, and which partition lies in which."""

import os
from typing import TYPE_CHECKING, Any

from mainspring.storage.log.errors import LogError
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles

if TYPE_CHECKING:
    from mainspring.storage.log.partition import Partition

LOG_DIR_NOT_FOUND, INVALID_REPLICA_ASSIGNMENT = 57, 39


@handles(ApiKey.DESCRIBE_LOG_DIRS, range(1, 6))
def describe_log_dirs(request: Any, context: Context) -> Answer:
    if not context.allows(Operation.DESCRIBE, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code}
    broker = context.broker
    wanted = None if request.topics is None else {topic.topic: set(topic.partitions) for topic in request.topics}
    shown: dict[str, dict[str, list[dict[str, Any]]]] = {str(folder): {} for folder in broker.directories}
    for topic in list(broker.engine.topics.values()):
        for partition in topic.partitions:
            if wanted is None or partition.index in wanted.get(topic.name, ()):
                entry = {"partition_index": partition.index, "partition_size": partition.size_bytes, "offset_lag": 0}
                shown[_directory(partition, shown)].setdefault(topic.name, []).append(entry)
    results = []
    for folder, topics in shown.items():
        disk = os.statvfs(folder)
        results.append(
            {
                "error_code": 0,
                "log_dir": folder,
                "topics": [{"name": name, "partitions": partitions} for name, partitions in topics.items()],
                "total_bytes": disk.f_frsize * disk.f_blocks,
                "usable_bytes": disk.f_frsize * disk.f_bavail,
            }
        )
    return {"error_code": 0, "results": results}


def _directory(partition: "Partition", directories: Any) -> str:
    folder = str(partition.folder)
    return str(max((one for one in directories if folder.startswith(one)), key=len, default=next(iter(directories))))


@handles(ApiKey.ALTER_REPLICA_LOG_DIRS, range(1, 3))
def alter_replica_log_dirs(request: Any, context: Context) -> Answer:
    """A partition stays in the directory that it was made in; asking for that one is granted."""
    directories = {str(folder) for folder in context.broker.directories}
    allowed = context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME)
    results: dict[str, list[dict[str, Any]]] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            for index in topic.partitions:
                code = _moved(directory.path, topic.name, index, directories, context) if allowed else 31
                results.setdefault(topic.name, []).append({"partition_index": index, "error_code": code})
    return {"results": [{"topic_name": name, "partitions": partitions} for name, partitions in results.items()]}


def _moved(path: str, topic: str, index: int, directories: set[str], context: Context) -> int:
    if path not in directories:
        return LOG_DIR_NOT_FOUND
    try:
        partition = context.broker.engine.partition(topic, index)
    except LogError as error:
        return error.kafka_code
    return 0 if _directory(partition, directories) == path else INVALID_REPLICA_ASSIGNMENT
