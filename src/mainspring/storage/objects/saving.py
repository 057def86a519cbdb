"""What a backup needs of the store: its segments as they are at one moment, and that none of it goes before it is copied.

Bytes are in segments before rows refer to them, so segments that are looked at after the database's snapshot hold all that
the snapshot's rows name. Until they have been copied compaction waits. Directories in the data folder go where they were;
others are kept below `elsewhere/`, by the number of their disk, and are known again by their `disk.json` wherever
`objects.directories` then says that they are.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from mainspring.core.backup import Prefix
from mainspring.storage.objects.compaction import Compaction
from mainspring.storage.objects.engine import Engine
from mainspring.storage.objects.files import IDENTITY

FOLDER = "objects"


class Image:
    """The files of a moment; they stay as they were until `drop`."""

    def __init__(self, files: list[Prefix], drop: Callable[[], None]) -> None:
        self.files = files
        self.drop = drop


class KeptObjects:
    """The store, for a backup. `home` is where its files are in the data folder."""

    folder = FOLDER

    def __init__(self, engine: Engine, compaction: Compaction, home: Path) -> None:
        self._engine = engine
        self._compaction = compaction
        self._home = home

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Nothing is given back that rows of the database may name."""
        await self._compaction.hold()
        try:
            yield
        finally:
            self._compaction.let_go()

    def image(self) -> Image:
        """What the disks hold now. Only while at rest; it holds compaction up by itself then."""
        self._compaction.hold_on()
        files = []
        for disk in self._engine.store.disks.values():
            name = self._name_of(disk.directory, disk.id)
            files.append(Prefix(disk.directory / IDENTITY, f"{name}{IDENTITY}"))
            files += [
                Prefix(segment.path, f"{name}{segment.path.name}", segment.size) for segment in disk.segments.values()
            ]
        return Image(files, self._compaction.let_go)

    def _name_of(self, directory: Path, disk: int) -> str:
        if not directory.is_relative_to(self._home):
            return f"elsewhere/{disk}/"
        relative = directory.relative_to(self._home).as_posix()
        return "" if relative == "." else f"{relative}/"
