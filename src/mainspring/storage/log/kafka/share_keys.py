"""Share groups over the wire: ShareGroupHeartbeat, ShareFetch and ShareAcknowledge (KIP-932)."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from mainspring.storage.log.coordinator_errors import CoordinatorError, InvalidRequest
from mainspring.storage.log.errors import LogError
from mainspring.storage.log.groups.errors import ShareSessionLimitReached
from mainspring.storage.log.groups.messages import ShareHeartbeat
from mainspring.storage.log.groups.share_partition import Acknowledge
from mainspring.storage.log.groups.share_sessions import CLOSES, OPENS, Session
from mainspring.storage.log.groups.shares import Given
from mainspring.storage.log.kafka.acls import Operation, Resource
from mainspring.storage.log.kafka.codec import ms
from mainspring.storage.log.kafka.group_keys import beat_fields, check_group, client_of, groups_of
from mainspring.storage.log.kafka.refusals import NotAuthorized, UnknownTopicId
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, given, handles

if TYPE_CHECKING:
    from mainspring.storage.log.groups.shares import Shares

RECORD_LIMIT = 1
Slot = tuple[UUID, int]


def shares_of(context: Context) -> "Shares":
    return groups_of(context).shares


@handles(ApiKey.SHARE_GROUP_HEARTBEAT, range(1, 2))
async def share_group_heartbeat(request: Any, context: Context) -> Answer:
    try:
        check_group(context, request.group_id)
        for topic in request.subscribed_topic_names or ():
            if not context.allows(Operation.DESCRIBE, Resource.TOPIC, topic):
                raise NotAuthorized(f"Not authorized to access topic {topic}.")
        beat = await groups_of(context).ask(
            ShareHeartbeat(
                group=request.group_id,
                member_id=request.member_id,
                member_epoch=request.member_epoch,
                rack=request.rack_id,
                client=client_of(context),
                topics=request.subscribed_topic_names,
            )
        )
        if request.member_epoch < 0:
            context.session.shares.pop((request.group_id, request.member_id), None)
            await shares_of(context).leave(request.group_id, request.member_id)
    except (CoordinatorError, NotAuthorized) as error:
        return {"error_code": error.kafka_code, "error_message": error.detail}
    return beat_fields(beat)


@handles(ApiKey.SHARE_FETCH, range(1, 3))
async def share_fetch(request: Any, context: Context) -> Answer:
    """Acknowledges what the request says, then gives what is available."""
    lock = _lock(request, context)
    renews = given(request, "is_renew_ack", False)
    try:
        check_group(context, request.group_id or "")
        _check_acknowledgements(request, renews)
        session = _session(request, context)
        said = await _acknowledge(request, context)
        found: list[Given] = []
        refused = _refused(session, context)
        if request.share_session_epoch != CLOSES and not renews:
            found = await shares_of(context).fetch(
                request.group_id,
                request.member_id,
                [slot for slot in session.slots if slot not in refused],
                records_max=request.max_records,
                bytes_max=request.max_bytes,
                wait_ms=0 if said or refused else ms(request.max_wait),
                strictly=given(request, "share_acquire_mode", 0) == RECORD_LIMIT,
            )
        elif request.share_session_epoch == CLOSES:
            await shares_of(context).leave(request.group_id, request.member_id)
    except LogError as error:
        return {"error_code": error.kafka_code, "error_message": error.detail} | lock
    answers: dict[Slot, dict[str, Any]] = {slot: {"error_code": code} for slot, code in refused.items()}
    for slot, code in said.items():
        answers.setdefault(slot, {})["acknowledge_error_code"] = code
    for one in found:
        answers.setdefault(one.slot, {}).update(
            records=one.records,
            acquired_records=[
                {"first_offset": run.first, "last_offset": run.last, "delivery_count": run.deliveries}
                for run in one.acquired
            ],
        )
    if request.share_session_epoch == OPENS:
        for slot in session.slots:
            answers.setdefault(slot, {})
    return {"error_code": 0, "responses": _by_topic(answers, context)} | lock


@handles(ApiKey.SHARE_ACKNOWLEDGE, range(1, 3))
async def share_acknowledge(request: Any, context: Context) -> Answer:
    lock = _lock(request, context)
    try:
        check_group(context, request.group_id or "")
        if request.share_session_epoch == OPENS:
            return {"error_code": 123, "error_message": "A session is opened by fetching."} | lock
        _check_acknowledgements(request, given(request, "is_renew_ack", False))
        shares_of(context).session(
            request.group_id, request.member_id, request.share_session_epoch, connection=context.session.number
        )
        said = await _acknowledge(request, context)
        if request.share_session_epoch == CLOSES:
            context.session.shares.pop((request.group_id, request.member_id), None)
            await shares_of(context).leave(request.group_id, request.member_id)
    except LogError as error:
        return {"error_code": error.kafka_code, "error_message": error.detail} | lock
    return {
        "error_code": 0,
        "responses": _by_topic({slot: {"error_code": code} for slot, code in said.items()}, context),
    } | lock


def _lock(request: Any, context: Context) -> dict[str, Any]:
    settings = groups_of(context).settings_of(request.group_id or "")
    return {"acquisition_lock_timeout_ms": settings.share_record_lock_ms}


def _check_acknowledgements(request: Any, renews: bool) -> None:
    """What contradicts itself, before anything is changed."""
    if not request.member_id:
        raise InvalidRequest("MemberId can't be empty.")
    batches = [one for topic in request.topics for part in topic.partitions for one in part.acknowledgement_batches]
    if batches and request.share_session_epoch == OPENS:
        raise InvalidRequest("The first request of a session acknowledges nothing.")
    if not renews and any(Acknowledge.RENEW in one.acknowledge_types for one in batches):
        raise InvalidRequest("Renewals come in a request that says so.")


def _session(request: Any, context: Context) -> Session:
    slots = [(topic.topic_id, part.partition_index) for topic in request.topics for part in topic.partitions]
    forgotten = [(topic.topic_id, number) for topic in request.forgotten_topics_data for number in topic.partitions]
    key = (request.group_id, request.member_id)
    session = shares_of(context).session(*key, request.share_session_epoch, slots, forgotten, context.session.number)
    if request.share_session_epoch == OPENS:
        if len(context.session.shares) >= groups_of(context).settings.share_sessions_max:
            raise ShareSessionLimitReached
        # What a member has is given back when its connection ends.
        context.session.shares[key] = partial(shares_of(context).abandon, *key, session)
    elif request.share_session_epoch == CLOSES:
        context.session.shares.pop(key, None)
    return session


async def _acknowledge(request: Any, context: Context) -> dict[Slot, int]:
    """The code of every partition that something is said of."""
    codes: dict[Slot, int] = {}
    for topic in request.topics:
        for part in topic.partitions:
            if not part.acknowledgement_batches:
                continue
            slot = (topic.topic_id, part.partition_index)
            batches = [
                (one.first_offset, one.last_offset, one.acknowledge_types) for one in part.acknowledgement_batches
            ]
            try:
                await shares_of(context).acknowledge(request.group_id, request.member_id, slot, batches)
                codes[slot] = 0
            except LogError as error:
                codes[slot] = error.kafka_code
    return codes


def _refused(session: Session, context: Context) -> dict[Slot, int]:
    """Partitions that are not there, or not for this client."""
    refused: dict[Slot, int] = {}
    for slot in session.slots:
        topic = context.broker.engine.topic_by_id(slot[0])
        if topic is None or not 0 <= slot[1] < len(topic.partitions):
            refused[slot] = UnknownTopicId.kafka_code
        elif not context.allows(Operation.READ, Resource.TOPIC, topic.name):
            refused[slot] = NotAuthorized.kafka_code
    return refused


def _by_topic(answers: dict[Slot, dict[str, Any]], context: Context) -> Iterable[dict[str, Any]]:
    topics: dict[UUID, list[dict[str, Any]]] = {}
    for (id, number), fields in answers.items():
        topic = context.broker.engine.topic_by_id(id)
        epoch = topic.partitions[number].leader_epoch if topic and 0 <= number < len(topic.partitions) else 0
        leader = {"leader_id": context.broker.engine.node_id, "leader_epoch": epoch}
        topics.setdefault(id, []).append({"partition_index": number, "current_leader": leader, "records": b""} | fields)
    return [{"topic_id": id, "partitions": parts} for id, parts in topics.items()]
