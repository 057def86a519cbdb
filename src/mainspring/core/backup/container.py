"""The folder that a backup is: written aside and renamed when complete, and checked before it is used."""

import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

import msgspec

FORMAT = 1
MANIFEST = "manifest.json"
SQLITE_FILE = "database.sqlite"
TABLES_FOLDER = "tables"
DATA_FOLDER = "data"
CHUNK_BYTES = 1 << 20

Progress = Callable[[str, int, int], None]
"""Called now and then, from a thread, with what is being done and (done, expected) in bytes."""


class BackupError(Exception):
    """A backup cannot be taken, read or restored; the text says why and what to do."""


class Stored(msgspec.Struct, frozen=True):
    """One file of a backup; `path` is relative to its folder, with slashes; `mode` are the bits of its permissions."""

    path: str
    size_bytes: int
    sha256: str
    mode: int = 0o600


class Prefix(msgspec.Struct, frozen=True):
    """The first bytes of a file that may go on growing (all of it where `size_bytes` is None), and its name in a backup."""

    path: Path
    name: str
    size_bytes: int | None = None


class Image(Protocol):
    """What a system that keeps files of its own held at one moment; they stay as they were until `drop`."""

    files: list[Prefix]

    def drop(self) -> None: ...


class Kept(Protocol):
    """A system that keeps files of its own in the data folder's `folder`, and writes them while it runs."""

    folder: str

    def at_rest(self) -> AbstractAsyncContextManager[None]:
        """Meanwhile nothing is written there that follows from rows of the database, or that rows will follow from."""

    def image(self) -> Image:
        """What it holds now. On the event loop, without waiting."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. `revisions` are those of the systems' tables, `rows` the sizes of a PostgreSQL's tables."""

    format: int
    version: str
    created_at: str
    dialect: str
    revisions: dict[str, str]
    rows: dict[str, int]
    files: tuple[Stored, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class _Sealed(msgspec.Struct):
    """The manifest as it is stored, so that damage to itself shows too."""

    sha256: str
    manifest: Manifest


def no_progress(what: str, done_bytes: int, expected_bytes: int) -> None:
    return None


class Writer:
    """Puts a backup together in a hidden folder beside its target. `files` grows with what is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Stored] = []

    def add(self, path: str, source: Path, progress: Progress, size_bytes: int | None = None) -> None:
        """Copies a file into the backup, or its first bytes."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sha256, done_bytes = hashlib.sha256(), 0
        with source.open("rb") as read, target.open("wb") as written:
            found = os.fstat(read.fileno())
            wanted_bytes = sys.maxsize if size_bytes is None else size_bytes
            while chunk := read.read(min(CHUNK_BYTES, wanted_bytes - done_bytes)):
                written.write(chunk)
                sha256.update(chunk)
                done_bytes += len(chunk)
                progress(path, done_bytes, max(done_bytes, min(found.st_size, wanted_bytes)))
            written.flush()
            os.fsync(written.fileno())
        self.files.append(Stored(path, done_bytes, sha256.hexdigest(), found.st_mode & 0o777))

    def record(self, path: str, progress: Progress) -> None:
        """Takes in a file that has been written into the folder already."""
        size_bytes, sha256 = measured(self.folder / path, path, progress)
        self.files.append(Stored(path, size_bytes, sha256))

    def seal(self, manifest: Manifest) -> None:
        text = msgspec.json.encode(_Sealed(_digest(manifest), manifest))
        with (self.folder / MANIFEST).open("wb") as written:
            written.write(msgspec.json.format(text, indent=2) + b"\n")
            written.flush()
            os.fsync(written.fileno())


@contextmanager
def written_aside(target: Path) -> Iterator[Writer]:
    """A writer whose folder becomes `target` at the end; nothing is left behind where that fails.

    Raises `BackupError` where `target` exists and is not an empty folder.
    """
    target = target.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BackupError(f"{target} exists already: name a folder that does not, or an empty one")
    aside = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        # Keys and everybody's data are in here.
        aside.mkdir(parents=True, mode=0o700)
        yield Writer(aside)
        if target.exists():
            target.rmdir()
        aside.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise BackupError(f"the backup cannot be written: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_manifest(source: Path) -> Manifest:
    """Raises `BackupError` where `source` is no complete backup of a format that is known here."""
    try:
        content = (source / MANIFEST).read_bytes()
    except OSError as error:
        raise BackupError(f"{source} is not a backup: {error.strerror}") from None
    try:
        sealed = msgspec.json.decode(content, type=_Sealed)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BackupError(f"{source / MANIFEST} is damaged, or of a later version: {error}") from None
    manifest = sealed.manifest
    if sealed.sha256 != _digest(manifest):
        raise BackupError(f"{source / MANIFEST} is damaged: its checksum does not match")
    if manifest.format != FORMAT:
        raise BackupError(f"{source} is of format {manifest.format}, this version reads {FORMAT}")
    for file in manifest.files:
        parts = PurePosixPath(file.path).parts
        if not parts or ".." in parts or file.path.startswith("/"):
            raise BackupError(f"{source / MANIFEST} names a file outside of the backup: {file.path}")
    return manifest


def check(source: Path, progress: Progress = no_progress) -> Manifest:
    """Reads the whole backup. Raises `BackupError` where a file is missing, or not as it was written."""
    manifest = read_manifest(source)
    for file in manifest.files:
        try:
            size_bytes, sha256 = measured(source / file.path, file.path, progress)
        except OSError as error:
            raise BackupError(f"{file.path} of the backup cannot be read: {error.strerror}") from None
        if (size_bytes, sha256) != (file.size_bytes, file.sha256):
            raise BackupError(f"{file.path} of the backup is damaged: its checksum does not match")
    return manifest


def measured(path: Path, name: str, progress: Progress) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    sha256, done_bytes = hashlib.sha256(), 0
    expected_bytes = path.stat().st_size
    with path.open("rb") as read:
        while chunk := read.read(CHUNK_BYTES):
            sha256.update(chunk)
            done_bytes += len(chunk)
            progress(name, done_bytes, expected_bytes)
    return done_bytes, sha256.hexdigest()


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()
