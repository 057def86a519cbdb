"""A map of the world on which everything is in Vienna."""

from pathlib import Path


def maxmind_file(folder: Path) -> Path:
    """A MaxMind DB (format 2.0) in which every IPv4 address is in Vienna."""

    def text(value: str) -> bytes:
        return bytes([2 << 5 | len(value)]) + value.encode()

    def number(kind: int, value: int) -> bytes:
        size = (value.bit_length() + 7) // 8
        head = [kind << 5 | size] if kind < 8 else [size, kind - 7]
        return bytes(head) + value.to_bytes(size, "big")

    def table(**values: bytes) -> bytes:
        return bytes([7 << 5 | len(values)]) + b"".join(text(name) + value for name, value in values.items())

    place = table(country=table(iso_code=text("AT")), city=table(names=table(en=text("Vienna"))))
    leaf = (1 + 16).to_bytes(3, "big")
    about = table(
        node_count=number(6, 1),
        record_size=number(5, 24),
        ip_version=number(5, 4),
        database_type=text("Test-City"),
        languages=bytes([0, 4]),
        binary_format_major_version=number(5, 2),
        binary_format_minor_version=number(5, 0),
        build_epoch=number(9, 1),
        description=table(),
    )
    path = folder / "places.mmdb"
    path.write_bytes(leaf + leaf + b"\0" * 16 + place + b"\xab\xcd\xefMaxMind.com" + about)
    return path
