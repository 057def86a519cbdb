"""Small text files in Kafka's own forms: leader epochs, offsets by partition, and what is written beside a first segment."""

import base64
from collections.abc import Iterable, Sequence
from uuid import UUID

EPOCHS_FILE = "leader-epoch-checkpoint"
METADATA_FILE = "partition.metadata"

Epochs = tuple[tuple[int, int], ...]
"""(epoch, its first offset), rising."""
FIRST_EPOCHS: Epochs = ((0, 0),)


def parse_epochs(text: str) -> Epochs:
    """Raises `ValueError` for what is no file of leader epochs."""
    lines = text.split("\n")
    if len(lines) < 3 or lines[0] != "0" or int(lines[1]) != len(lines) - 3:
        raise ValueError("not a checkpoint of leader epochs")
    return tuple((int(epoch), int(start)) for epoch, start in (line.split() for line in lines[2:-1]))


def format_epochs(epochs: Sequence[tuple[int, int]]) -> bytes:
    lines = ["0", str(len(epochs)), *(f"{epoch} {start}" for epoch, start in epochs)]
    return ("\n".join(lines) + "\n").encode()


def parse_offsets(text: str) -> dict[str, int]:
    """Partition folder to offset, from a checkpoint in Kafka's form. Raises `ValueError`."""
    lines = text.split("\n")
    if len(lines) < 3 or lines[0] != "0" or int(lines[1]) != len(lines) - 3:
        raise ValueError("not a checkpoint of offsets")
    found = {}
    for line in lines[2:-1]:
        topic, index, offset = line.split()
        found[f"{topic}-{index}"] = int(offset)
    return found


def format_offsets(offsets: Iterable[tuple[str, int]]) -> bytes:
    """(partition folder, offset) in Kafka's form."""
    lines = [" ".join((*name.rsplit("-", 1), str(offset))) for name, offset in offsets]
    return ("\n".join(["0", str(len(lines)), *lines]) + "\n").encode()


def first_files(folder: str, topic: UUID, epochs: Epochs) -> list[tuple[str, bytes]]:
    """What lies beside the first segment of a partition once it is closed, or the log stops."""
    id = base64.urlsafe_b64encode(topic.bytes).decode().rstrip("=")
    return [
        (f"{folder}/{METADATA_FILE}", f"version: 0\ntopic_id: {id}".encode()),
        (f"{folder}/{EPOCHS_FILE}", format_epochs(epochs)),
    ]
