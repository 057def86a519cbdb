"""What systems do without being asked from outside: events of the log, and jobs that are due.

Consumers wait until the log is opened (see `log_port`); a consumer's system is built when its first event arrives. A job's
system is built when the job is due, but only where the system has been used on this database before: else it has nothing to
sweep.
"""

import asyncio
import logging
from functools import partial
from typing import Any

from .backoff import Backoff
from .clock import Clock
from .database.plans import Written
from .jobs import Jobs
from .log_port import LogPort
from .manifest import ConsumerSpec, JobSpec, Manifest, resolve
from .outbox import OutboxLog
from .ports import Connection, Database, Log
from .systems import Systems
from .telemetry import Metrics
from .wiring import Wiring

log = logging.getLogger(__name__)
PRUNE_EVERY_S = 60.0
REVISION = Written("SELECT revision FROM core_revisions WHERE system = :name")


class Duties:
    """Runs between `start` and `stop`."""

    def __init__(self, systems: Systems, wiring: Wiring, clock: Clock, metrics: Metrics) -> None:
        self._systems = systems
        self._wiring = wiring
        self._clock = clock
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []
        self._jobs: Jobs | None = None
        self._failures = metrics.counter("consumer_failures", "Batches whose consumer raised", ("group",))

    async def start(self, database: Database, outbox: OutboxLog, log_port: LogPort) -> None:
        self._jobs = Jobs(database, self._clock, metrics=self._metrics)
        for manifest in self._systems.manifests.values():
            for job in manifest.jobs:
                self._jobs.add(f"{manifest.name}.{job.name}", job.every_s, partial(self._do, manifest, job, database))
        self._jobs.add("core.prune-outbox", PRUNE_EVERY_S, outbox.prune)
        await self._jobs.start()
        self._tasks.append(asyncio.create_task(self._consume_all(outbox, log_port), name="consumers"))

    async def stop(self) -> None:
        if self._jobs is not None:
            await self._jobs.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _consume_all(self, outbox: OutboxLog, log_port: LogPort) -> None:
        """Starts every consumer, once there is a log for them."""
        backoff = Backoff(0.1, 30.0)
        while True:
            try:
                events = await log_port.opened(outbox)
            except Exception:
                log.exception("the log cannot be opened; consumers wait for it")
                await self._clock.sleep(backoff.next_s())
            else:
                break
        for manifest in self._systems.manifests.values():
            for spec in manifest.consumers:
                self._tasks.append(asyncio.create_task(self._consume(manifest, spec, events), name=spec.group))

    async def _consume(self, manifest: Manifest, spec: ConsumerSpec, events: Log) -> None:
        """Gives each batch to the method that the manifest names. One that fails is tried again, later and later."""
        backoff = Backoff(0.1, 30.0)
        while True:
            consumer = events.consumer(spec.group, [spec.topic])
            try:
                async for batch in consumer:
                    await self._systems.get(manifest.name)
                    await (await self._method(spec.call))(batch, consumer)
                    backoff.reset()
                return  # the log has closed
            except Exception:
                self._failures.labels(spec.group).inc()
                log.exception("the consumer %s failed; it gets the batch again", spec.group)
            finally:
                await consumer.close()
            await self._clock.sleep(backoff.next_s())

    async def _do(self, manifest: Manifest, job: JobSpec, database: Database) -> None:
        """Runs a due job, where its system has ever been used on this database."""
        if manifest.name not in self._systems.built:
            if manifest.missing_extra() or not await database.read(_is_prepared, manifest.name):
                return
            await self._systems.get(manifest.name)
        await (await self._method(job.call))()

    async def _method(self, reference: str) -> Any:
        """`module:Class.method` of the service that the wiring has built."""
        owner, _, name = reference.rpartition(".")
        return getattr(await self._wiring.get(resolve(owner)), name)


def _is_prepared(connection: Connection, name: str) -> bool:
    return connection.execute(REVISION, {"name": name}).first() is not None
