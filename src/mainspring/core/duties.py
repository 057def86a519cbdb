"""What systems do without being asked from outside: events of the log, and jobs that are due.

A consumer is a few rows and a task; its system is built when the first event arrives. A job's system is built when the job is
due, but only where the system has been used on this database before: else it has nothing to sweep.
"""

import asyncio
import logging
from typing import Any

from .backoff import Backoff
from .clock import Clock
from .manifest import ConsumerSpec, Manifest, resolve
from .ports import Database, Log
from .systems import Systems
from .telemetry import Metrics
from .wiring import Wiring

log = logging.getLogger(__name__)


class Duties:
    """Runs between `start` and `stop`."""

    def __init__(self, systems: Systems, wiring: Wiring, clock: Clock, metrics: Metrics) -> None:
        self._systems = systems
        self._wiring = wiring
        self._clock = clock
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []
        self._failures = metrics.counter("consumer_failures", "Batches whose consumer raised", ("group",))

    async def start(self, database: Database, events: Log) -> None:
        for manifest in self._systems.manifests.values():
            for spec in manifest.consumers:
                self._tasks.append(asyncio.create_task(self._consume(manifest, spec, events), name=spec.group))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

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

    async def _method(self, reference: str) -> Any:
        """`module:Class.method` of the service that the wiring has built."""
        owner, _, name = reference.rpartition(".")
        return getattr(await self._wiring.get(resolve(owner)), name)
