"""What a log holds at one moment, as links to its files: for a backup that is copied while the log goes on.

All partitions are cut at their high watermarks in one turn of the loop, so the image is what a crash at that moment would have
left: recovery knows what to do with it, transactions and groups included. A link keeps a file's bytes though compaction or
retention replaces or deletes the file; only what lies before the cut is copied. Indexes are rebuilt by recovery.
"""

import os
import shutil
from pathlib import Path

from mainspring.core.backup.container import Prefix
from mainspring.storage.log.checkpoints import EPOCHS_FILE, METADATA_FILE, format_offsets
from mainspring.storage.log.directory import STARTS_FILE
from mainspring.storage.log.engine import Engine
from mainspring.storage.log.partition import Partition
from mainspring.storage.log.segments import Segment, scan

IMAGE_FOLDER = ".image"
TOPICS_FOLDER = "topics"
SMALL_FILES = ("meta.properties", "kafka.json")


class Image:
    """Made on the loop without waiting; `files` may be copied in any thread until `drop`."""

    def __init__(self, engine: Engine, directories: list[Path]) -> None:
        self._folders = [directory / IMAGE_FOLDER for directory in directories]
        self.files: list[Prefix] = []
        self.drop()
        for folder in self._folders:
            folder.mkdir(mode=0o700)
        first = self._folders[0]
        for path in sorted((directories[0] / TOPICS_FOLDER).glob("*.json")):
            self._keep(path, first / TOPICS_FOLDER / path.name, f"{TOPICS_FOLDER}/{path.name}")
        for name in SMALL_FILES:
            if (directories[0] / name).is_file():
                self._keep(directories[0] / name, first / name, name)
        starts = []
        for topic in engine.topics.values():
            for partition in topic.partitions:
                self._add(partition)
                starts.append((partition.name, partition.log_start))
        (first / STARTS_FILE).write_bytes(format_offsets(starts))
        self.files.append(Prefix(first / STARTS_FILE, STARTS_FILE))

    def drop(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def _add(self, partition: Partition) -> None:
        folder = Path(partition.folder)
        image = folder.parent / IMAGE_FOLDER / folder.name
        for name in (METADATA_FILE, EPOCHS_FILE):
            if (folder / name).is_file():
                self._keep(folder / name, image / name, f"{folder.name}/{name}")
        for segment in partition.segments:
            if not segment.created or segment.base > partition.high_watermark:
                continue
            path = Path(segment.path())
            self._keep(path, image / path.name, f"{folder.name}/{path.name}", _cut(partition, segment))

    def _keep(self, path: Path, link: Path, name: str, size_bytes: int | None = None) -> None:
        link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.link(path, link)
        self.files.append(Prefix(link, name, path.stat().st_size if size_bytes is None else size_bytes))


def _cut(partition: Partition, segment: Segment) -> int:
    """The bytes of the segment below the high watermark."""
    if partition.segments[-1] is not segment and partition.high_watermark == partition.end:
        return segment.size
    index = segment.index
    size_bytes = position = 0 if index is None else index.position(partition.high_watermark)
    for at, batch, _ in scan(partition.around.opened, segment, position):
        if batch.base_offset >= partition.high_watermark:
            break
        size_bytes = at + batch.size_bytes
    return size_bytes
