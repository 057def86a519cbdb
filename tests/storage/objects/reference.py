"""An object store as a few lines of Python: what a bucket is, without disks, transactions or speed."""

from collections.abc import Iterator

import msgspec


class Version(msgspec.Struct):
    """`content` is None for a delete marker."""

    name: str
    content: bytes | None


class Bucket:
    """`versioning` is never, enabled or suspended. Versions of a key stand newest first."""

    def __init__(self) -> None:
        self.versioning = "never"
        self.keys: dict[str, list[Version]] = {}

    def current(self, key: str) -> bytes | None:
        versions = self.keys.get(key, [])
        return versions[0].content if versions else None

    def put(self, key: str, name: str, content: bytes | None) -> None:
        versions = self.keys.setdefault(key, [])
        if self.versioning != "enabled":
            versions[:] = [one for one in versions if one.name != "null"]
        versions.insert(0, Version(name, content))

    def delete(self, key: str, marker: str) -> None:
        if self.versioning == "never":
            self.keys.pop(key, None)
        else:
            self.put(key, marker, None)

    def delete_version(self, key: str, name: str) -> None:
        versions = [one for one in self.keys.get(key, []) if one.name != name]
        if versions:
            self.keys[key] = versions
        else:
            self.keys.pop(key, None)

    def listed(self) -> list[tuple[str, int]]:
        shown = [(key, self.current(key)) for key in sorted(self.keys, key=str.encode)]
        return [(key, len(content)) for key, content in shown if content is not None]

    def versions(self) -> Iterator[tuple[str, str, bool]]:
        for key in sorted(self.keys, key=str.encode):
            for one in self.keys[key]:
                yield key, one.name, one.content is None
