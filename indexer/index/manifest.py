"""What a backup is: its files, and the contents that each is made of."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.errors import DamagedIndex


@dataclass(frozen=True, slots=True)
class Part:
    """A content of the vault."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a backup: its path in the data folder, and the contents that it is made of, in order."""

    path: str
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, slots=True)
class Backup:
    """A manifest. `created` is in seconds since 1970; `about` counts what is inside, for people."""

    id: str
    created: float
    files: tuple[Entry, ...]
    about: Mapping[str, Any]

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.files)

    def told(self) -> dict[str, Any]:
        """What it is, as JSON."""
        own = {"id": self.id, "created": self.created}
        return {**own, "files": len(self.files), "bytes": self.size, **self.about}


def encoded(backup: Backup) -> bytes:
    """The manifest as it is stored, with a checksum of itself."""
    told = asdict(backup)
    return json.dumps({"sha256": _digest(told), "backup": told}, ensure_ascii=False).encode()


def decoded(data: bytes, name: str) -> Backup:
    """What `encoded` wrote. Raises DamagedIndex where it has changed, or names files outside its folder."""
    try:
        held = json.loads(data)
        told = held["backup"]
        whole = _digest(told) == held["sha256"]
        files = tuple(
            Entry(file["path"], tuple(Part(p["sha256"], p["size"]) for p in file["parts"]))
            for file in told["files"]
        )
        backup = Backup(told["id"], told["created"], files, told["about"])
    except (ValueError, KeyError, TypeError) as error:
        raise _changed(name) from error
    if not whole:
        raise _changed(name)
    for entry in files:
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise DamagedIndex(
                f'the backup names a file outside its folder ("{entry.path}"): do not use it'
            )
    return backup


def _changed(name: str) -> DamagedIndex:
    return DamagedIndex(f"the manifest {name} has changed since it was written: use another backup")


def _digest(told: Mapping[str, Any]) -> str:
    canonical = json.dumps(told, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
