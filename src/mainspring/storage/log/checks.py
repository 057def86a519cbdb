"""What a batch must be before a log takes it: whole, of a form that it knows, and within what its topic allows.

Records are looked at only where the topic is compacted, for those without a key.
"""

from .codecs import Codec
from .errors import CorruptBatch, InvalidRecord, InvalidTimestamp, MessageTooLarge, UnsupportedCompression
from .producers import Origin
from .records import CODEC_MASK, CONTROL, OVERHEAD_BYTES, TRANSACTIONAL, Batch, checksum, records_in
from .settings import TopicConfig


def check(
    config: TopicConfig, data: bytes | bytearray | memoryview, at: int, batch: Batch, origin: Origin, now_ms: int
) -> None:
    """The batch at `at`, whose header is `batch`. What another replica had taken is checked for its bytes alone.

    Raises `CorruptBatch`, `UnsupportedCompression`, `MessageTooLarge`, `InvalidRecord` or `InvalidTimestamp`.
    """
    size = batch.length + OVERHEAD_BYTES
    if checksum(data, at, size) != batch.crc:
        raise CorruptBatch("the checksum does not fit")
    if batch.attributes & CODEC_MASK > Codec.ZSTD:
        raise UnsupportedCompression(f"no compression has the number {batch.attributes & CODEC_MASK}")
    if origin is Origin.REPLICATION:
        return
    if size > config.max_message_bytes:
        raise MessageTooLarge(f"{size} bytes, the topic accepts {config.max_message_bytes}")
    if batch.count < 1 or batch.count != batch.last_delta + 1:
        raise InvalidRecord(f"{batch.count} records with offsets up to {batch.last_delta}")
    if origin is not Origin.CLIENT:
        return
    if batch.producer_id >= 0:
        if batch.base_sequence < 0 or batch.producer_epoch < 0:
            raise InvalidRecord("a batch of an idempotent producer without its sequence or epoch")
    elif batch.attributes & TRANSACTIONAL:
        raise InvalidRecord("a transactional batch without a producer id")
    if batch.attributes & CONTROL:
        raise InvalidRecord("control batches are the coordinator's")
    if not config.stamps:
        if batch.max_timestamp > now_ms + config.message_timestamp_after_max_ms:
            raise InvalidTimestamp(f"{batch.max_timestamp} is too far ahead of {now_ms}")
        if min(batch.base_timestamp, batch.max_timestamp) < now_ms - config.message_timestamp_before_max_ms:
            raise InvalidTimestamp(f"{batch.base_timestamp} is too long before {now_ms}")
    if config.is_compacted and any(record.key is None for record in records_in(memoryview(data)[at : at + size])):
        raise InvalidRecord("a compacted topic accepts no record without a key")
