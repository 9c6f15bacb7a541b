"""A version that is parsed, cut and embedded, but not yet searchable: two files beside each other."""

import json
import os
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from indexer.chunk import Cut
from indexer.segments import Staged, read_staged, write_staged
from pipeline.types import Script


@dataclass(frozen=True, slots=True)
class StagedVersion:
    """The chunks of a version and their rows, one vector a chunk."""

    version_id: int
    cuts: tuple[Cut, ...]
    rows: Staged

    def row(self, cut: Cut, key: int, generation_id: int, document_id: str) -> dict[str, object]:
        """A chunk as the SQL row that makes it live."""
        return {
            "generation_id": generation_id,
            "key": key,
            "version_id": self.version_id,
            "document_id": document_id,
            "text": cut.text,
            "start": cut.start,
            "end": cut.end,
            "page": cut.page,
            "heading": json.dumps(cut.heading, ensure_ascii=False),
            "context": cut.context,
            "script": cut.script.value,
        }


def save_staged(path: Path, cuts: Sequence[Cut], rows: Staged) -> None:
    """Write both files; the vectors come last and say that the version is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = zlib.compress(json.dumps([asdict(cut) for cut in cuts], ensure_ascii=False).encode())
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path.with_suffix(".cuts"))
    write_staged(path.with_suffix(".npz"), rows)


def load_staged(path: Path, version_id: int) -> StagedVersion:
    """What `save_staged` wrote. Raises FileNotFoundError."""
    cuts = tuple(
        Cut(**{**row, "heading": tuple(row["heading"]), "script": Script(row["script"])})
        for row in json.loads(zlib.decompress(path.with_suffix(".cuts").read_bytes()))
    )
    return StagedVersion(version_id, cuts, read_staged(path.with_suffix(".npz")))


def discard_staged(path: Path) -> None:
    """Remove both files."""
    for suffix in (".npz", ".cuts"):
        path.with_suffix(suffix).unlink(missing_ok=True)
