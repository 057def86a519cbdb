"""Uploads in parts that anonymous callers have open: counted by bucket and address, so that nobody fills a bucket with them."""

from mainspring.storage.objects.s3.errors import S3Error

ADDRESSES_MAX = 100_000


class Visitors:
    """Counts of this process; what was open before it began is the lifecycle's to abort."""

    def __init__(self, uploads_max: int) -> None:
        self._uploads_max = uploads_max
        self._counts: dict[tuple[str, str], int] = {}
        self._of: dict[str, tuple[str, str]] = {}

    def must_have_room(self, bucket: str, address: str) -> None:
        """Raises `SlowDown`."""
        known = self._counts.get((bucket, address))
        if (known or 0) >= self._uploads_max or (known is None and len(self._counts) >= ADDRESSES_MAX):
            raise S3Error("SlowDown", headers=(("retry-after", "60"),))

    def begun(self, bucket: str, address: str, upload: str) -> None:
        place = bucket, address
        self._counts[place] = self._counts.get(place, 0) + 1
        self._of[upload] = place

    def ended(self, upload: str) -> None:
        place = self._of.pop(upload, None)
        if place is None:
            return
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]
