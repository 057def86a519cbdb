"""Syncing what commits left dirty, so that the commit journal that covers it can be given up.

The work may run beside further commits: what these make dirty belongs to the next trimming, and the journal that they go to is
another one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .files import Files
from .journal import Journal

if TYPE_CHECKING:
    from .partition import Partition

_log = logging.getLogger(__name__)

SYNCS_APART_MAX = 64
"""More dirty files than this are synced with all others of their file system in one call."""


class Trimming:
    """Syncing of all that is dirty at some time; runs in any thread."""

    __slots__ = ("_dirty", "_folders", "failed", "journal", "syncs", "unsynced")

    def __init__(self, dirty: dict[str, Partition | None], folders: set[str], journal: Journal | None) -> None:
        self._dirty = dirty
        self._folders = folders
        self.journal = journal
        self.failed: list[tuple[Partition, OSError]] = []
        self.unsynced: list[str] = []
        """Folders that must be tried again."""
        self.syncs = 0

    def run(self, files: Files) -> None:
        if len(self._dirty) + len(self._folders) > SYNCS_APART_MAX and self._dirty:
            try:
                files.sync_all(next(iter(self._dirty)))
                self.syncs += 1
                return
            except OSError:
                _log.exception("syncing everything at once failed; each file is asked for itself")
        for path, partition in self._dirty.items():
            self.syncs += 1
            try:
                _sync_path(files, path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if partition is not None:
                    self.failed.append((partition, error))
        for folder in self._folders:
            self.syncs += 1
            try:
                files.sync_folder(folder)
            except FileNotFoundError:
                continue
            except OSError:
                _log.exception("a folder cannot be synced", extra={"path": folder})
                self.unsynced.append(folder)


def _sync_path(files: Files, path: str) -> None:
    handle = files.open(path)
    try:
        files.sync(handle)
    finally:
        files.close(handle)
