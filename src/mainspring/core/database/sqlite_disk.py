"""Room on the disk under a SQLite file: when writes that grow must be refused, and the room that lets rows be deleted.

A full disk is met twice. Below `floor_bytes` of free space, functions that grow the file are refused, while updates and
deletions go on. If the disk fills all the same (others write to it too), a ballast file made beforehand is given up, so
that deletions still find room in the write-ahead log. Its room stays reserved, and it is made again when there is space.

The floor should exceed the write-ahead log, which has to be folded into the file while the disk is nearly full.
"""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

DISTRUST_S = 1.0
"""How long after a write met a full disk the reported free space is not believed: quotas do not show in it."""


class Disk:
    """Watches the free space beside `path`. Used by the writer's thread; `mono_s` is its reading of the clock."""

    def __init__(
        self, path: Path, *, floor_bytes: int, ballast_bytes: int, free_bytes: Callable[[], int] | None = None
    ) -> None:
        self._ballast = path.with_name(path.name + ".ballast")
        self.floor_bytes = floor_bytes
        self._ballast_bytes = ballast_bytes
        self._free_bytes = free_bytes or _free_bytes_at(path.parent)
        self._distrusted_until_s = float("-inf")
        self._has_ballast = not ballast_bytes or self._ballast.exists()
        self.low = False

    def look(self, mono_s: float) -> bool:
        """Whether writes that grow are to be refused now."""
        free = self._free_bytes()
        reserve = self.floor_bytes if self._has_ballast else self.floor_bytes + self._ballast_bytes
        low = free < reserve or mono_s < self._distrusted_until_s
        if low != self.low:
            logger.warning(
                "%d bytes free: %s", free, "writes that grow are refused" if low else "writes are accepted again"
            )
            self.low = low
        if not low and not self._has_ballast:
            self._make_ballast()
        return low

    def met_full(self, mono_s: float) -> bool:
        """A write found the disk full: gives up the ballast and refuses growth for a moment.

        Gives whether that changed anything, so that another try may do.
        """
        gives_up = self._has_ballast and self._ballast_bytes > 0
        changed = gives_up or not self.low
        if changed:
            logger.error("the disk is full: writes that grow are refused")
        self._distrusted_until_s = mono_s + DISTRUST_S
        self.low = True
        if gives_up:
            self._ballast.unlink(missing_ok=True)
            self._has_ballast = False
        return changed

    def _make_ballast(self) -> None:
        try:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._ballast_bytes)
        except OSError as error:
            self._ballast.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                logger.warning("no ballast file: %s", error)
                self._has_ballast = True  # none can be made here, so none is tried for again
        else:
            self._has_ballast = True


def _free_bytes_at(folder: Path) -> Callable[[], int]:
    def free_bytes() -> int:
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize

    return free_bytes
