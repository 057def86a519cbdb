"""A process that writes until it is killed: `python crash_writer.py DATABASE`.

Each write adds a row to two tables, and an event. Once a write has been answered its number goes to standard output.
"""

import asyncio
import os
import sys
from itertools import count

import sqlalchemy as sa

from mainspring.core.database import Int64, Metadata, SqliteDatabase, Text
from mainspring.core.ports import Connection

WRITERS = 16

tables = Metadata("crash")
left = tables.table("crash_left", sa.Column("number", Int64, primary_key=True), sa.Column("text", Text, nullable=False))
right = tables.table(
    "crash_right", sa.Column("number", Int64, primary_key=True), sa.Column("text", Text, nullable=False)
)

LAST = sa.select(sa.func.coalesce(sa.func.max(left.c.number), 0))


def add_pair(connection: Connection, number: int) -> int:
    text = str(number) * 50
    connection.execute(ADD_LEFT, {"number": number, "text": text})
    connection.emit("pairs", b"%d" % number)
    connection.execute(ADD_RIGHT, {"number": number, "text": text})
    return number


ADD_LEFT = sa.insert(left).values(number=sa.bindparam("number"), text=sa.bindparam("text"))
ADD_RIGHT = sa.insert(right).values(number=sa.bindparam("number"), text=sa.bindparam("text"))


async def main(path: str) -> None:
    database = SqliteDatabase(path, floor_bytes=0, ballast_bytes=0, write_deadline_s=60)
    await database.start()
    await database.prepare("crash", tables)
    last = await database.read(lambda connection: connection.execute(LAST).scalar())
    numbers = count(last + 1)

    async def write() -> None:
        while True:
            answered = await database.write(add_pair, next(numbers))
            os.write(1, b"%d\n" % answered)

    await asyncio.gather(*(write() for _ in range(WRITERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
