"""Backups of everything a node keeps, taken while it runs.

A backup is a folder: `manifest.json` names every file with its size and SHA-256; the database is in it as one SQLite file or,
from PostgreSQL, as one file for each table; so are the configuration and keys of the data folder. A backup folder that has
its final name is complete. Restoring checks every file before it touches anything.
"""

from mainspring.core.backup.container import BackupError, Image, Kept, Manifest, Prefix, Progress, Stored, check
from mainspring.core.backup.restoring import restore
from mainspring.core.backup.saving import backup

__all__ = ["BackupError", "Image", "Kept", "Manifest", "Prefix", "Progress", "Stored", "backup", "check", "restore"]
