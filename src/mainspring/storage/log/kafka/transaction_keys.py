"""What transactional producers ask: InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit and EndTxn.

Produce from version 12 on takes its partitions into the transaction by itself (`Transactions.admit`). A connection
has a number: see `transaction_machine` for why that matters.
"""

from typing import TYPE_CHECKING, Any, cast

from mainspring.storage.log.coordinator_errors import CoordinatorError
from mainspring.storage.log.errors import LogError, UnknownPartition
from mainspring.storage.log.groups.messages import OffsetCommit, TopicPartition
from mainspring.storage.log.internal_topics import CONSUMER_OFFSETS
from mainspring.storage.log.kafka.acls import CLUSTER_NAME, Operation, Resource
from mainspring.storage.log.kafka.codec import ms
from mainspring.storage.log.kafka.group_keys import check_group, groups_of
from mainspring.storage.log.kafka.group_offset_keys import codes_by_topic, exists, offsets_asked
from mainspring.storage.log.kafka.refusals import ClusterNotAuthorized, NotAuthorized, TransactionalIdNotAuthorized
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles
from mainspring.storage.log.transaction_errors import (
    InvalidTxnState,
    ProducerFenced,
    TransactionAbortable,
)
from mainspring.storage.log.transaction_machine import FOLLOWS_EPOCHS, Producer, Slot

if TYPE_CHECKING:
    from mainspring.storage.log.transactions import Transactions

INVALID_PRODUCER_EPOCH, OPERATION_NOT_ATTEMPTED, INVALID_REQUEST = 47, 55, 42
NO_PRODUCER = {"producer_id": -1, "producer_epoch": -1}


def transactions_of(context: Context) -> "Transactions":
    return cast("Transactions", context.broker.transactions)


def check_id(context: Context, transactional_id: str, operation: Operation = Operation.WRITE) -> None:
    """Raises `TransactionalIdNotAuthorized`."""
    if not context.allows(operation, Resource.TRANSACTIONAL_ID, transactional_id):
        raise TransactionalIdNotAuthorized


def code_of(error: LogError, context: Context, fenced_since: int) -> int:
    """A fenced producer is told so in versions that know it, else that its epoch is not valid."""
    if isinstance(error, ProducerFenced) and context.api_version < fenced_since:
        return INVALID_PRODUCER_EPOCH
    return error.kafka_code


@handles(ApiKey.INIT_PRODUCER_ID, range(7))
async def init_producer_id(request: Any, context: Context) -> Answer:
    transactional_id = request.transactional_id
    given_id, given_epoch = given(request, "producer_id", -1), given(request, "producer_epoch", -1)
    try:
        if transactional_id is not None:
            check_id(context, transactional_id)
        elif not context.allows(Operation.IDEMPOTENT_WRITE, Resource.CLUSTER, CLUSTER_NAME):
            raise ClusterNotAuthorized
        if (given_id < 0) is not (given_epoch < 0) or given(request, "enable2_pc", False):
            return {"error_code": INVALID_REQUEST} | NO_PRODUCER
        made = await transactions_of(context).init(
            transactional_id,
            ms(request.transaction_timeout),
            Producer(given_id, given_epoch) if given_id >= 0 else None,
            context.session.number,
        )
    except (CoordinatorError, NotAuthorized) as error:
        return {"error_code": code_of(error, context, 4)} | NO_PRODUCER
    return {"error_code": 0, "producer_id": made.id, "producer_epoch": made.epoch}


@handles(ApiKey.ADD_PARTITIONS_TO_TXN, range(6))
async def add_partitions_to_txn(request: Any, context: Context) -> Answer:
    """A client's (to version 3), or another broker's for several transactions, which may only ask."""
    several = given(request, "transactions")
    if several is None:
        producer = Producer(request.v3_and_below_producer_id, request.v3_and_below_producer_epoch)
        codes = await _add(request.v3_and_below_transactional_id, producer, request.v3_and_below_topics, context)
        return {"results_by_topic_v3_and_below": _by_topic(request.v3_and_below_topics, codes)}
    if not context.allows(Operation.CLUSTER_ACTION, Resource.CLUSTER, CLUSTER_NAME):
        return {"error_code": ClusterNotAuthorized.kafka_code}
    results = []
    for one in several:
        producer = Producer(one.producer_id, one.producer_epoch)
        if one.verify_only:
            codes = await _verify(one.transactional_id, producer, one.topics, context)
        else:
            codes = await _add(one.transactional_id, producer, one.topics, context)
        results.append({"transactional_id": one.transactional_id, "topic_results": _by_topic(one.topics, codes)})
    return {"error_code": 0, "results_by_transaction": results}


def _slots(topics: Any) -> list[Slot]:
    return [(topic.name, number) for topic in topics for number in topic.partitions]


def _by_topic(topics: Any, codes: dict[Slot, int]) -> list[dict[str, Any]]:
    return [
        {
            "name": topic.name,
            "results_by_partition": [
                {"partition_index": number, "partition_error_code": codes[topic.name, number]}
                for number in topic.partitions
            ],
        }
        for topic in topics
    ]


async def _add(transactional_id: str, producer: Producer, topics: Any, context: Context) -> dict[Slot, int]:
    """All partitions or none: where one may not be, the others are not attempted."""
    slots = _slots(topics)
    refused: dict[Slot, int] = {}
    for slot in slots:
        if not context.allows(Operation.WRITE, Resource.TOPIC, slot[0]):
            refused[slot] = NotAuthorized.kafka_code
        elif not exists(slot, context):
            refused[slot] = UnknownPartition.kafka_code
    if refused:
        return {slot: refused.get(slot, OPERATION_NOT_ATTEMPTED) for slot in slots}
    try:
        check_id(context, transactional_id)
        await transactions_of(context).add(transactional_id, producer, slots, context.session.number)
    except (CoordinatorError, NotAuthorized) as error:
        return dict.fromkeys(slots, code_of(error, context, 2))
    return dict.fromkeys(slots, 0)


async def _verify(transactional_id: str, producer: Producer, topics: Any, context: Context) -> dict[Slot, int]:
    slots = _slots(topics)
    missing = TransactionAbortable if context.api_version >= 5 else InvalidTxnState
    try:
        held = await transactions_of(context).holds(transactional_id, producer, slots)
    except CoordinatorError as error:
        return dict.fromkeys(slots, code_of(error, context, 2))
    return {slot: 0 if there else missing.kafka_code for slot, there in zip(slots, held, strict=True)}


@handles(ApiKey.ADD_OFFSETS_TO_TXN, range(5))
async def add_offsets_to_txn(request: Any, context: Context) -> Answer:
    try:
        check_id(context, request.transactional_id)
        check_group(context, request.group_id)
        groups = groups_of(context)
        await groups.opened()
        await transactions_of(context).add(
            request.transactional_id,
            Producer(request.producer_id, request.producer_epoch),
            [(CONSUMER_OFFSETS, groups.topic.index(request.group_id))],
            context.session.number,
        )
    except CoordinatorError as error:
        return {"error_code": code_of(error, context, 2)}
    return {"error_code": 0}


@handles(ApiKey.TXN_OFFSET_COMMIT, range(6))
async def txn_offset_commit(request: Any, context: Context) -> Answer:
    refused: dict[Any, int] = {}
    codes: dict[TopicPartition, int] = {}
    try:
        check_id(context, request.transactional_id)
        check_group(context, request.group_id)
        groups, transactions = groups_of(context), transactions_of(context)
        await groups.opened()
        await transactions.opened()
        wanted, refused = offsets_asked(request.topics, context)
        admission = transactions.admit_offsets(
            request.transactional_id,
            Producer(request.producer_id, request.producer_epoch),
            request.group_id,
            implicit=context.api_version >= 5,
            connection=context.session.number,
        )
        if admission is not None:
            await admission
        codes = await groups.ask(
            OffsetCommit(
                group=request.group_id,
                member_id=given(request, "member_id") or "",
                instance=given(request, "group_instance_id"),
                generation=given(request, "generation_id", -1),
                offsets=wanted,
                producer_id=request.producer_id,
                producer_epoch=request.producer_epoch,
            )
        )
    except (CoordinatorError, NotAuthorized) as error:
        code = code_of(error, context, 2)
        refused = {(topic.name, one.partition_index): code for topic in request.topics for one in topic.partitions}
    return {"topics": codes_by_topic(request.topics, codes, refused, context)}


@handles(ApiKey.END_TXN, range(6))
async def end_txn(request: Any, context: Context) -> Answer:
    try:
        check_id(context, request.transactional_id)
        after = await transactions_of(context).end(
            request.transactional_id,
            Producer(request.producer_id, request.producer_epoch),
            commit=request.committed,
            version=FOLLOWS_EPOCHS if context.api_version >= 5 else 0,
            connection=context.session.number,
        )
    except (CoordinatorError, NotAuthorized) as error:
        return {"error_code": code_of(error, context, 2)} | NO_PRODUCER
    return {"error_code": 0, "producer_id": after.id, "producer_epoch": after.epoch}
