"""The manifest of a converted folder: where it came from and what every file must be.

A folder without a manifest is unfinished. The manifest is written last, by a rename.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from models.checkpoint.errors import DamagedCheckpoint
from pipeline.errors import NotFound

MANIFEST = "manifest.json"
RECIPE = 2
_BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Source:
    """What a folder was made from: its name, the hub's revision, and the sha256 of every file."""

    name: str
    revision: str
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`kind` is chat, rerank or embed; `recipe` counts the ways in which folders were made."""

    recipe: int
    kind: str
    source: Source
    files: dict[str, FileRecord]


def record(path: Path) -> FileRecord:
    """Size and sha256 of a file, read block by block."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return FileRecord(size, digest.hexdigest())


def write_text(path: Path, text: str) -> None:
    """Write a small file: all of it or nothing, on the disk when this returns."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, which makes the folder count."""
    write_text(folder / MANIFEST, json.dumps(asdict(manifest), ensure_ascii=False, indent=1))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a converted folder.

    Raises NotFound where there is none, and DamagedCheckpoint where it is not one of ours.
    """
    path = folder / MANIFEST
    try:
        fields = json.loads(path.read_text("utf-8"))
        return Manifest(
            recipe=int(fields["recipe"]),
            kind=str(fields["kind"]),
            source=Source(
                str(fields["source"]["name"]),
                str(fields["source"]["revision"]),
                records(fields["source"]["files"]),
            ),
            files=records(fields["files"]),
        )
    except FileNotFoundError as error:
        raise NotFound(
            f"{folder} has no {MANIFEST}: it is no converted model, or the conversion did not "
            "finish. Run `zhinao models convert` again."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(
            f"{path} cannot be read as a manifest: delete the folder and convert again."
        ) from error


def records(fields: Mapping[str, Mapping[str, object]]) -> dict[str, FileRecord]:
    """File records out of JSON. Raises KeyError, TypeError or ValueError for anything else."""
    return {
        str(name): FileRecord(int(str(value["bytes"])), str(value["sha256"]))
        for name, value in fields.items()
    }


def check_files(
    folder: Path, files: Mapping[str, FileRecord], step: Callable[[str], None] = lambda _: None
) -> None:
    """Raise DamagedCheckpoint naming the first file that is missing, short or changed."""
    for name, wanted in files.items():
        step(name)
        path = folder / name
        if not path.is_file():
            raise DamagedCheckpoint(f"{path} is missing: convert the model again.")
        size = path.stat().st_size
        if size != wanted.bytes:
            raise DamagedCheckpoint(
                f"{path} has {size} bytes instead of {wanted.bytes}: convert the model again."
            )
        if record(path) != wanted:
            raise DamagedCheckpoint(
                f"{path} has changed since it was written (its sha256 is another): "
                "convert the model again."
            )
