"""Where shards go: which disks have room, and which of them take a stripe's shards, so that no zone has too many of them."""

import logging
from collections.abc import Mapping, Sequence
from itertools import groupby

from mainspring.core.clock import Clock
from mainspring.storage.objects.erasure import Profile, default_profile
from mainspring.storage.objects.errors import ServiceUnavailable, StorageFull
from mainspring.storage.objects.settings import ObjectsSettings
from mainspring.storage.objects.volumes import FULL, Disk

log = logging.getLogger(__name__)

FULL_AGAIN_S = 1.0
"""How long what a disk said of its space is believed."""


class Placing:
    """Chooses among `disks`, which others add to and take from."""

    def __init__(self, disks: Mapping[int, Disk], clock: Clock, settings: ObjectsSettings) -> None:
        self._disks = disks
        self._clock = clock
        self._settings = settings
        self._space: dict[int, tuple[int, bool]] = {}
        self._turn = 0

    def choose(self, wanted: Profile | None = None) -> tuple[Profile, list[Disk]]:
        """A profile and a disk for each of its shards: `wanted` where enough disks are live, else what they allow.

        No zone gets more than m shards where the zones allow it. Raises `StorageFull` where no disk has
        room, `ServiceUnavailable` where none is left.
        """
        disks = [disk for disk in self._disks.values() if self._has_room(disk)]
        if not disks:
            alive = any(disk.lost is None for disk in self._disks.values())
            raise StorageFull() if alive else ServiceUnavailable("no disk is there")
        profile = wanted if wanted is not None and wanted.shards <= len(disks) else default_profile(len(disks))
        self._turn += 1
        turned = disks[self._turn % len(disks) :] + disks[: self._turn % len(disks)]
        return profile, spread(turned, profile.shards)

    def allowed(self) -> Profile | None:
        """The profile that the disks with room allow where none was chosen; None without such a disk."""
        count = sum(map(self._has_room, self._disks.values()))
        return default_profile(count) if count else None

    def roomy(self, without: frozenset[int], count: int) -> list[Disk]:
        """Up to `count` disks that may be written to, others than `without`, of many zones."""
        disks = [disk for disk in self._disks.values() if disk.id not in without and self._has_room(disk)]
        return spread(disks, count) if disks else []

    def forget_space(self) -> None:
        """Asks the disks anew how much room they have."""
        self._space.clear()

    def _has_room(self, disk: Disk) -> bool:
        if disk.draining or disk.lost is not None:
            return False
        now_ns = self._clock.mono_ns()
        until_ns, roomy = self._space.get(disk.id, (0, True))
        if now_ns >= until_ns:
            try:
                free_bytes, total_bytes = disk.space()
            except OSError as error:
                self.failed(disk, error)
                return False
            floor = min(total_bytes * self._settings.free_share_min, self._settings.free_bytes_enough)
            roomy = free_bytes > floor
            self._space[disk.id] = (now_ns + int(FULL_AGAIN_S * 1e9), roomy)
        return roomy

    def failed(self, disk: Disk, error: Exception) -> str:
        """Notes what a disk answered to a write: it is full for now, or lost. Says which."""
        if isinstance(error, OSError) and error.errno in FULL:
            self._space[disk.id] = (self._clock.mono_ns() + int(FULL_AGAIN_S * 1e9), False)
            return "full"
        log.error("disk %d (%s) is lost: %s", disk.id, disk.directory, error)
        disk.fail(str(error))
        return "lost"


def spread(disks: Sequence[Disk], count: int) -> list[Disk]:
    """Up to `count` disks: one of each zone in turn, so that a zone gets as few shards as can be."""
    zones = [list(members) for _, members in groupby(sorted(disks, key=lambda disk: disk.zone), lambda disk: disk.zone)]
    zones.sort(key=len, reverse=True)
    in_turn = [zone[row] for row in range(max(map(len, zones))) for zone in zones if row < len(zone)]
    chosen = in_turn[:count]
    order = {disk.id: at for at, disk in enumerate(disks)}
    return sorted(chosen, key=lambda disk: order[disk.id])
