"""What people ask about transactions: ListTransactions, DescribeTransactions, DescribeProducers, WriteTxnMarkers.

Kafka's own tool aborts a hanging transaction with the last of them.
"""

from typing import Any

from mainspring.storage.log.errors import LogError
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.offset_keys import partition_of
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles
from mainspring.storage.log.kafka.transaction_keys import check_id, transactions_of
from mainspring.storage.log.transaction_errors import TransactionalIdNotFound
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, Producer, State

INVALID_REGULAR_EXPRESSION = 128


@handles(ApiKey.LIST_TRANSACTIONS, range(3))
async def list_transactions(request: Any, context: Context) -> Answer:
    by_id = await transactions_of(context).opened()
    known = {state.title for state in State} | {"Dead", "PrepareEpochFence"}
    unknown = [state for state in request.state_filters if state not in known]
    pattern = None
    if given(request, "transactional_id_pattern"):
        import re2  # type: ignore[import-untyped]

        options = re2.Options()
        options.log_errors = False
        try:
            pattern = re2.compile(request.transactional_id_pattern, options)
        except re2.error:
            return {"error_code": INVALID_REGULAR_EXPRESSION}
    now_ms = context.broker.clock.wall_ns() // 1_000_000
    longer_ms = given(request, "duration_filter", -1)
    listed = []
    for id, found in by_id.items():
        running_ms = now_ms - found.started_ms if found.started_ms >= 0 else -1
        if (
            (request.state_filters and found.state.title not in request.state_filters)
            or (request.producer_id_filters and found.producer_id not in request.producer_id_filters)
            or (longer_ms >= 0 and (running_ms < 0 or running_ms <= longer_ms))
            or (pattern is not None and pattern.fullmatch(id) is None)
            or not context.allows(Operation.DESCRIBE, Resource.TRANSACTIONAL_ID, id)
        ):
            continue
        listed.append(
            {"transactional_id": id, "producer_id": found.producer_id, "transaction_state": found.state.title}
        )
    return {"error_code": 0, "unknown_state_filters": unknown, "transaction_states": listed}


@handles(ApiKey.DESCRIBE_TRANSACTIONS, range(1))
async def describe_transactions(request: Any, context: Context) -> Answer:
    by_id = await transactions_of(context).opened()
    described = []
    for id in request.transactional_ids:
        try:
            check_id(context, id, Operation.DESCRIBE)
            if id not in by_id:
                raise TransactionalIdNotFound
        except LogError as error:
            described.append({"transactional_id": id, "error_code": error.kafka_code})
            continue
        found = by_id[id]
        topics: dict[str, list[int]] = {}
        for topic, number in sorted(found.slots):
            if context.allows(Operation.DESCRIBE, Resource.TOPIC, topic):
                topics.setdefault(topic, []).append(number)
        described.append(
            {
                "error_code": 0,
                "transactional_id": id,
                "transaction_state": found.state.title,
                "transaction_timeout_ms": found.timeout_ms,
                "transaction_start_time_ms": found.started_ms,
                "producer_id": found.producer_id,
                "producer_epoch": found.epoch,
                "topics": [{"topic": topic, "partitions": numbers} for topic, numbers in topics.items()],
            }
        )
    return {"transaction_states": described}


@handles(ApiKey.DESCRIBE_PRODUCERS, range(1))
async def describe_producers(request: Any, context: Context) -> Answer:
    topics = []
    for topic in request.topics:
        partitions = []
        for number in topic.partition_indexes:
            described: dict[str, Any] = {"partition_index": number, "error_code": 0}
            try:
                partition = partition_of(context, Operation.READ, topic.name, number)
                described["active_producers"] = [
                    {
                        "producer_id": id,
                        "producer_epoch": one.epoch,
                        "last_sequence": one.last_sequence,
                        "last_timestamp": one.last_timestamp_ms,
                        "coordinator_epoch": one.coordinator_epoch,
                        "current_txn_start_offset": partition.open_transactions.get(id, -1),
                    }
                    for id, one in partition.producers.items()
                ]
            except LogError as error:
                described |= {"error_code": error.kafka_code, "error_message": error.detail}
            partitions.append(described)
        topics.append({"name": topic.name, "partitions": partitions})
    return {"topics": topics}


@handles(ApiKey.WRITE_TXN_MARKERS, range(1, 3))
async def write_txn_markers(request: Any, context: Context) -> Answer:
    allowed = context.allows(Operation.CLUSTER_ACTION, Resource.CLUSTER, CLUSTER_NAME)
    if not allowed and not context.allows(Operation.ALTER, Resource.CLUSTER, CLUSTER_NAME):
        raise ClusterNotAuthorized
    results = []
    for one in request.markers:
        slots = [(topic.name, number) for topic in one.topics for number in topic.partition_indexes]
        codes = await transactions_of(context).write_markers(
            Producer(one.producer_id, one.producer_epoch),
            slots,
            commit=one.transaction_result,
            coordinator_epoch=one.coordinator_epoch,
            raised=given(one, "transaction_version", 0) >= FOLLOWS_EPOCHS,
        )
        results.append(
            {
                "producer_id": one.producer_id,
                "topics": [
                    {
                        "name": topic.name,
                        "partitions": [
                            {"partition_index": number, "error_code": codes[topic.name, number]}
                            for number in topic.partition_indexes
                        ],
                    }
                    for topic in one.topics
                ],
            }
        )
    return {"markers": results}
