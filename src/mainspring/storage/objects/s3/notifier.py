"""Delivery of notifications: a bucket's events, as the Log has them, to topics of the Log and to webhooks.

One follower for each bucket that has rules; it is a member of a group, so that on many nodes each event is told by one of them,
at least once. What an endpoint does not take is tried again with growing pauses, at most five times, then dropped and counted.
Events are Amazon's JSON, version 2.1; `sequencer` orders those of one key.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

import msgspec

from mainspring.core.clock import Clock
from mainspring.core.http.client import FetchError, GuardedClient
from mainspring.core.ports import Log, Record
from mainspring.core.problems import Problem
from mainspring.core.telemetry import Metrics
from mainspring.storage.objects import events
from mainspring.storage.objects.s3.buckets import Buckets, BucketView
from mainspring.storage.objects.s3.notifications import Rule, of_document
from mainspring.storage.objects.service import Objects

log = logging.getLogger(__name__)

KIND = "notification"
SINCE = "notification.since"
LOOK_S = 1.0
TRIES_MAX = 5
FOLLOWERS_MAX = 1_000
_encode = msgspec.json.Encoder().encode


class Notifier:
    """Follows buckets whose owners want to hear of their events. `allow` names private addresses that webhooks may have."""

    def __init__(
        self,
        objects: Objects,
        buckets: Buckets,
        port: Log,
        clock: Clock,
        metrics: Metrics,
        region: str,
        allow: list[str],
    ) -> None:
        self._objects = objects
        self._buckets = buckets
        self._log = port
        self._clock = clock
        self._region = region
        self._client = GuardedClient(allow=allow)
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None
        told = metrics.counter("objects_notifications", "Notifications of buckets' events", ("outcome",))
        self._told, self._dropped = told.labels("delivered"), told.labels("dropped")

    async def start(self) -> None:
        self._looking = asyncio.create_task(self._look_for_ever(), name="look for buckets with notifications")

    async def stop(self) -> None:
        tasks = [*self._followers.values(), *([self._looking] if self._looking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._followers.clear()

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look()
            except Problem as problem:
                log.warning("buckets with notifications cannot be looked for: %s", problem)
            await self._clock.sleep(LOOK_S)

    async def _look(self) -> None:
        """Starts followers of buckets that have rules, and ends those of buckets that have none any more."""
        wanted = set(await self._objects.buckets_with(KIND, FOLLOWERS_MAX))
        for name in wanted - set(self._followers):
            self._followers[name] = asyncio.create_task(self._follow(name), name=f"notifications of {name}")
        for name in set(self._followers) - wanted:
            self._followers.pop(name).cancel()
        for name, task in list(self._followers.items()):
            if task.done():
                del self._followers[name]
                if not task.cancelled() and (error := task.exception()) is not None:
                    log.warning("notifications of %s begin again: %s", name, error)

    async def _follow(self, bucket: str) -> None:
        consumer = self._log.consumer(f"objects.notifications.{bucket}", [events.topic(bucket)])
        try:
            async for batch in consumer:
                for record in batch:
                    await self._tell(bucket, record)
                await consumer.commit()
        finally:
            await consumer.close()

    async def _tell(self, bucket: str, record: Record) -> None:
        try:
            view = await self._buckets.view(bucket)
        except Problem:
            return
        document = view.documents.get(KIND)
        try:
            event = events.decode(record.value)
        except msgspec.MsgspecError:
            log.warning("record %d of %s is no event of ours", record.offset, record.topic)
            return
        if not document or not event.key or event.seq < int(view.documents.get(SINCE, b"0")):
            return
        for rule in of_document(document):
            if rule.wants(event.name, event.key):
                await self._deliver(rule, _encode({"Records": [self._record(view, rule, event)]}), event.key)

    async def _deliver(self, rule: Rule, body: bytes, key: str) -> None:
        for attempt in range(TRIES_MAX):
            try:
                if rule.webhook:
                    await self._post(rule.webhook, body)
                else:
                    await self._log.append(rule.topic, body, key.encode())
            except Problem as problem:
                log.warning("a notification for %s was not taken: %s", rule.target, problem)
                await self._clock.sleep(0.2 * 2**attempt)
            else:
                self._told.inc()
                return
        self._dropped.inc()

    async def _post(self, address: str, body: bytes) -> None:
        answer = await self._client.post(address, body, headers={"content-type": "application/json"})
        if answer.status >= 300:
            raise FetchError(f"It answered {answer.status}")

    def _record(self, view: BucketView, rule: Rule, event: events.Event) -> dict[str, Any]:
        at = datetime.fromtimestamp(event.seq / 1e6, UTC)
        described: dict[str, Any] = {"key": quote_plus(event.key), "sequencer": f"{event.seq:016X}"}
        if event.etag:
            described |= {"size": event.size, "eTag": event.etag}
        if event.version:
            described["versionId"] = event.version
        return {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": self._region,
            "eventTime": at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z",
            "eventName": event.name,
            "userIdentity": {"principalId": view.owner},
            "requestParameters": {"sourceIPAddress": event.source},
            "responseElements": {},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": rule.id,
                "bucket": {"name": view.name, "ownerIdentity": {"principalId": view.owner}, "arn": view.arn},
                "object": described,
            },
        }
