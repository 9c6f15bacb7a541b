"""A version that is parsed, cut and embedded, but not yet searchable: two files beside each other."""

import contextlib
import json
import os
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from indexer.segments.segment import Staged, read_staged, write_staged
from indexer.text.chunk import Cut
from indexer.text.stored import tables_json, tables_of
from pipeline.errors import DamagedIndex, Unavailable
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
            "tables": tables_json(cut.tables),
            "turns": json.dumps(cut.turns) if cut.turns else None,
        }


def save_staged(path: Path, cuts: Sequence[Cut], rows: Staged, *, fingerprint: str) -> None:
    """Write both files; the vectors come last and say that the version is complete.

    Raises Unavailable when the disk refuses.
    """
    content = {"fingerprint": fingerprint, "cuts": [_written(cut) for cut in cuts]}
    data = zlib.compress(json.dumps(content, ensure_ascii=False).encode())
    temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path.with_suffix(".cuts"))
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Unavailable(
            f"the chunks cannot be written ({error.strerror}): free some disk space"
        ) from error
    write_staged(path.with_suffix(".npz"), rows)


def load_staged(path: Path, version_id: int, *, fingerprint: str) -> StagedVersion:
    """What `save_staged` wrote. Raises FileNotFoundError, or DamagedIndex when it is broken or another embedder's."""
    data = path.with_suffix(".cuts").read_bytes()
    try:
        content = json.loads(zlib.decompress(data))
        cuts = tuple(map(_cut, content["cuts"]))
        embedder = content["fingerprint"]
    except (zlib.error, ValueError, TypeError, KeyError) as error:
        raise DamagedIndex(f"the staged chunks of version {version_id} are broken") from error
    rows = read_staged(path.with_suffix(".npz"))
    if embedder != fingerprint or len(rows) != len(cuts):
        raise DamagedIndex(f"the staged rows of version {version_id} are not those of its chunks")
    return StagedVersion(version_id, cuts, rows)


def _written(cut: Cut) -> dict[str, Any]:
    row = {field.name: getattr(cut, field.name) for field in fields(cut)}
    return {**row, "tables": tables_json(cut.tables)}


def _cut(row: dict[str, Any]) -> Cut:
    told = {
        "heading": tuple(row["heading"]),
        "script": Script(row["script"]),
        "tables": tables_of(row["tables"]),
        "turns": tuple((at, page) for at, page in row["turns"]),
    }
    return Cut(**{**row, **told})


def staged_bytes(path: Path) -> int:
    """The size of both files."""
    return sum(path.with_suffix(suffix).stat().st_size for suffix in (".npz", ".cuts"))


def staged_in(folder: Path) -> set[int]:
    """The versions of which there is something in a generation's folder of staged files."""
    names = (path.name.removeprefix(".").split(".")[0] for path in folder.glob("*"))
    return {int(name) for name in names if name.isdecimal()}


def discard_staged(path: Path) -> None:
    """Remove both files, and what was kept on the way to them (indexer/ingest/unfinished.py) or half written.

    Raises Unavailable when the disk refuses.
    """
    try:
        for name in (path.name, f".{path.name}"):
            for left in path.parent.glob(f"{name}.*"):
                left.unlink(missing_ok=True)
    except OSError as error:
        raise Unavailable(
            f"what was staged cannot be removed ({error.strerror}): see that the disk can be written"
        ) from error
