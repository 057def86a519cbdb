"""A log in your own program: orders are checked, and each is checked once, whatever dies when.

While it runs, `Log` could be read by any Kafka client too: `mainspring up log` opens port 9092 on the same files.

python examples/orders.py [FOLDER]
"""

import asyncio
import json
import sys
from pathlib import Path
from tempfile import mkdtemp

from mainspring.core.clock import SystemClock
from mainspring.storage.log import Log, LogError


async def main(folder: Path) -> None:
    log = Log(folder / "log", SystemClock())
    await log.start()
    try:
        for topic in ("orders", "orders.checked"):
            try:
                await log.create_topic(topic, partitions=4, retention_ms=86_400_000)
            except LogError as there:
                print(f"{topic}: {there}")
        # An append returns when the record is on the disk.
        for number in range(10):
            order = {"order": number, "cents": 100 * number}
            await log.append("orders", json.dumps(order).encode(), key=f"customer-{number % 3}".encode())
        await check(log)
    finally:
        await log.stop()


async def check(log: Log) -> None:
    """Results and position in one transaction: killed anywhere, and started again, it leaves neither a gap nor a double."""
    consumer = log.consumer("checking", ["orders"])
    checked = 0
    try:
        async for batch in consumer:
            async with log.transaction("checker") as transaction:
                for record in batch:
                    order = json.loads(record.value)
                    await transaction.append(
                        "orders.checked", json.dumps(order | {"fine": order["cents"] > 0}).encode()
                    )
                await transaction.commit_offsets(consumer)
            checked += len(batch)
            if checked == 10:
                break
    finally:
        await consumer.close()
    print(f"{checked} orders checked")


asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp())))
