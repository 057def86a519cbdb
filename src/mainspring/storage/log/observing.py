"""What an operator asks of a log first, as metrics that cost nothing until they are read."""

from collections.abc import Callable, Sequence

from mainspring.core.telemetry.metrics import Metrics

from .cleaner import Cleaner
from .directory import Directory
from .writer import COMMIT_SIZES, Writer


def observe(metrics: Metrics, directories: Sequence[Directory], cleaner: Cleaner) -> None:
    """Follows the directories of an engine; the list may still be empty."""

    def total(of: Callable[[Writer], float]) -> Callable[[], float]:
        return lambda: sum(of(directory.writer) for directory in directories)

    def held() -> float:
        return sum(len(directory.partitions) for directory in directories)

    def failed() -> float:
        every = [partition for directory in directories for partition in directory.partitions.values()]
        return sum(partition.write_error is not None for partition in every)

    counters: list[tuple[str, str, Callable[[], float]]] = [
        ("log_appends", "Batches that were written", total(lambda writer: writer.appends)),
        ("log_appended_records", "Records that were written", total(lambda writer: writer.appended_records)),
        ("log_appended_bytes", "Bytes of batches that were written", total(lambda writer: writer.appended_bytes)),
        ("log_commits", "Writes that took all that waited", total(lambda writer: writer.commits)),
        ("log_syncs", "Syncs of files and folders", total(lambda writer: writer.syncs)),
        ("log_compactions", "Partitions compacted", lambda: cleaner.runs),
        (
            "log_compaction_unreadable",
            "Batches that compaction could not read and left as they are",
            lambda: cleaner.batches_unreadable,
        ),
    ]
    for name, help, sample in counters:
        metrics.counter(name, help).follow(sample)
    gauges: list[tuple[str, str, Callable[[], float]]] = [
        ("log_queued_bytes", "Bytes that wait for the disk", total(lambda writer: writer.queued_bytes)),
        ("log_partitions", "Partitions on this node", held),
        ("log_partitions_failed", "Partitions that cannot be written: full or failing disk", failed),
    ]
    for name, help, sample in gauges:
        metrics.gauge(name, help, sample=sample)
    sizes = metrics.histogram("log_commit_batches", "Batches that one commit made durable", buckets=COMMIT_SIZES)

    def count_commits() -> None:
        every = [directory.writer for directory in directories]
        sizes.counts[:] = [
            sum(counts) for counts in zip(*(one.commit_sizes for one in every), strict=True)
        ] or sizes.counts
        sizes.sum = sum(writer.appends for writer in every)

    metrics.before_scrape(count_commits)
