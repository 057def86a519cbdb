"""The parts of one store, put together: disks, stripes, pages, intake, and the rows they share with each other."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import WeakSet

from sqlalchemy import bindparam, insert, select, update

from mainspring.core.clock import Clock
from mainspring.core.ports import Connection, Database
from mainspring.core.problems import Problem
from mainspring.storage.objects import references
from mainspring.storage.objects.errors import ElsewhereError
from mainspring.storage.objects.files import IDENTITY, Damaged, Files, Identity, read_identity, write_identity
from mainspring.storage.objects.intake import Intake
from mainspring.storage.objects.numbering import Numbers
from mainspring.storage.objects.pages import Pages
from mainspring.storage.objects.reading import Ticket
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.stripes import StripeStore
from mainspring.storage.objects.tables import disk as disks
from mainspring.storage.objects.volumes import Disk

log = logging.getLogger(__name__)

THREADS_MAX = 8
LIVE, LOST, DRAINING = "live", "lost", "draining"
_STORE = "store"

_DISKS = select(disks.c.id, disks.c.directory, disks.c.zone, disks.c.state).order_by(disks.c.id)
_ADD = insert(disks).values({name: bindparam(name) for name in ("directory", "zone", "state")}).returning(disks.c.id)
_SET_STATE = update(disks).where(disks.c.id == bindparam("disk_id")).values(state=bindparam("to"))


class Engine:
    """What `Objects` stands on."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        settings: ObjectsSettings,
        directories: Sequence[Path],
        files: Files | None,
        random: Callable[[int], bytes],
    ) -> None:
        if not directories:
            raise ValueError("an object store needs a directory")
        self.database = database
        self.clock = clock
        self.settings = settings
        self.directories = list(directories)
        self.numbers = Numbers(clock, settings.snapshot_s)
        self.threads = ThreadPoolExecutor(THREADS_MAX, "objects")
        self.store = StripeStore(database, clock, settings, self.threads)
        self.pages = Pages(self.store, database, self.numbers, settings)
        self.intake = Intake(self.store, settings, self.threads)
        self.random = random
        self.readers: WeakSet[Ticket] = WeakSet()
        self._files = files or Files()

    async def start(self) -> None:
        """Opens the disks: known ones by the identity in their directory, new ones after giving them one.

        Raises `ElsewhereError` where another node has them all, which must not be taken for their loss.
        """
        store = await self.database.write(_store_id, self.random(8).hex())
        await self.database.read(self.numbers.go_on)
        known = {row[0]: row for row in await self.database.read(_all_disks)}
        if self.database.dialect != "sqlite" and known and not self._has_one_of(store):
            raise ElsewhereError(
                "another node that shares this database keeps the disks of its object store, and nodes do not read each "
                'other\'s: set `blobs = "s3://…"` to where objects are, or ask that node'
            )
        for at, directory in enumerate(self.directories):
            zone = self.settings.zones[at] if at < len(self.settings.zones) else ""
            identity = await self._identify(directory, store, known)
            if identity is None:
                continue
            self._open(identity.disk, directory, zone, known)
        for id, row in known.items():
            if id not in self.store.disks and row[3] == LIVE:
                log.error("disk %d (%s) is lost", id, row[1])
                await self.database.write(_set_state, id, LOST)

    async def stop(self) -> None:
        """Finishes what was accepted and closes all files."""
        await self.pages.stop()
        try:
            await self.database.write(self.numbers.leave)
        except Problem as error:
            log.warning("how far version numbers have come is known to two seconds only: %s", error)
        await asyncio.to_thread(self.threads.shutdown)
        for disk in self.store.disks.values():
            await asyncio.to_thread(disk.close)

    def begin_reading(self) -> Ticket:
        """To be called before looking where bytes lie: what they lie in stays while the ticket does."""
        ticket = Ticket()
        self.readers.add(ticket)
        return ticket

    async def look_after_disks(self) -> list[int]:
        """Notices disks that are gone, and adopts directories made anew in their place; gives the ids of the lost."""
        lost = [
            disk
            for disk in self.store.disks.values()
            if disk.lost is not None or not await asyncio.get_running_loop().run_in_executor(self.threads, disk.present)
        ]
        for disk in lost:
            disk.fail("its directory is gone")
            log.error("disk %d (%s) is lost: %s", disk.id, disk.directory, disk.lost)
            del self.store.disks[disk.id]
            disk.close()
            await self.database.write(_set_state, disk.id, LOST)
        if self.settings.adopt_lost:
            await self._adopt()
        return [disk.id for disk in lost]

    async def drain(self, id: int) -> None:
        """Puts nothing more on a disk; healing moves what is there to others."""
        self.store.disks[id].draining = True
        await self.database.write(_set_state, id, DRAINING)

    async def known_disks(self) -> list[tuple[int, str, str, str]]:
        """(id, directory, zone, state) of every disk there ever was."""
        return await self.database.read(_all_disks)

    async def _adopt(self) -> None:
        used = {disk.directory for disk in self.store.disks.values()}
        free = [directory for directory in self.directories if directory not in used]
        if not free:
            return
        store = await self.database.write(_store_id, self.random(8).hex())
        known = {row[0]: row for row in await self.database.read(_all_disks)}
        for directory in free:
            identity = await self._identify(directory, store, known)
            if identity is not None:
                at = self.directories.index(directory)
                zone = self.settings.zones[at] if at < len(self.settings.zones) else ""
                self._open(identity.disk, directory, zone, known)

    def _has_one_of(self, store: str) -> bool:
        """Whether a directory of this node is a disk of the store."""
        for directory in self.directories:
            try:
                if read_identity(self._files, directory).store == store:
                    return True
            except (OSError, Damaged):
                continue
        return False

    async def _identify(
        self, directory: Path, store: str, known: Mapping[int, tuple[int, str, str, str]]
    ) -> Identity | None:
        """The identity of a directory, given to it where it is new and empty; None where it must not be used."""
        try:
            identity = read_identity(self._files, directory)
        except FileNotFoundError:
            fresh = not any(row[1] == str(directory) for row in known.values())
            if not fresh and not self.settings.adopt_lost:
                return None
            return await self._make_disk(directory, store)
        except (OSError, Damaged) as error:
            log.error("%s cannot be used: %s", directory, error)
            return None
        if identity.store != store or identity.disk not in known:
            log.error("%s belongs to another store (%s): it is left alone", directory, identity.store)
            return None
        return identity

    async def _make_disk(self, directory: Path, store: str) -> Identity | None:
        try:
            if any(name != f"{IDENTITY}.new" for name in self._names(directory)):
                log.error("%s is not empty and no disk of this store: it is left alone", directory)
                return None
            at = self.directories.index(directory)
            zone = self.settings.zones[at] if at < len(self.settings.zones) else ""
            identity = Identity(store, await self.database.write(_add_disk, str(directory), zone))
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self.threads, write_identity, self._files, directory, identity)
        except OSError as error:
            log.error("%s cannot become a disk: %s", directory, error)
            return None
        return identity

    def _names(self, directory: Path) -> list[str]:
        try:
            return self._files.names(directory)
        except FileNotFoundError:
            return []

    def _open(self, id: int, directory: Path, zone: str, known: Mapping[int, tuple[int, str, str, str]]) -> None:
        disk = Disk(id, directory, zone, self._files, self.settings.segment_bytes)
        disk.draining = id in known and known[id][3] == DRAINING
        self.store.disks[id] = disk


def _store_id(connection: Connection, fresh: str) -> str:
    """The name of this store, given to it at its first start."""
    found = references.read_state(connection, _STORE)
    if found is None:
        references.write_state(connection, _STORE, fresh.encode())
    return fresh if found is None else found.decode()


def _all_disks(connection: Connection) -> list[tuple[int, str, str, str]]:
    return [(row[0], row[1], row[2], row[3]) for row in connection.execute(_DISKS).all()]


def _add_disk(connection: Connection, directory: str, zone: str) -> int:
    id: int = connection.execute(_ADD, {"directory": directory, "zone": zone, "state": LIVE}).scalar()
    return id


def _set_state(connection: Connection, id: int, state: str) -> None:
    connection.execute(_SET_STATE, {"disk_id": id, "to": state})
