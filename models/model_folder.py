"""A folder that a model is written into once: all of it or nothing, checksummed, by one process."""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import ModelUnavailable

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Source:
    """What a model was made from."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where a model folder came from, and what its files must be. `recipe` counts the ways in which
    it has been made.
    """

    recipe: int
    source: Source
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is to be written: names and bytes, taken one after another."""

    source: Source
    files: Iterable[tuple[str, bytes]]


def ensure_folder(
    folder: Path, *, recipe: int, make: Callable[[], Contents], wait_s: float = 120.0
) -> Path:
    """The folder, written when it is missing, damaged or of another recipe.

    A sound folder costs one reading of its files. Several processes may call this at once: one
    writes, the others wait for it. A process that is killed leaves nothing that counts.
    Raises ModelUnavailable when the folder can't be written or `wait_s` seconds were not enough.
    """
    if _sound(folder, recipe):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f".{folder.name}.lock"), wait_s):
            if not _sound(folder, recipe):
                _write(folder, recipe, make())
    except OSError as error:
        raise ModelUnavailable(
            f"The model can't be written to {folder} ({error.strerror or error}). "
            "Make sure that the folder is writable and 200 MB are free."
        ) from error
    return folder


def open_manifest(folder: Path, *, contents: bool = False) -> Manifest:
    """The manifest of a folder whose files have the sizes it names and, with `contents`, its
    checksums too. Raises ModelUnavailable otherwise.
    """
    manifest = _read_manifest(folder)
    for name, record in manifest.files.items():
        try:
            same = (folder / name).stat().st_size == record.bytes
            if same and contents:
                same = file_sha256(folder / name) == record.sha256
        except OSError as error:
            raise _damaged(folder, f"{name} can't be read") from error
        if not same:
            raise _damaged(folder, f"{name} is not what was written")
    return manifest


def file_sha256(path: Path) -> str:
    """The checksum of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sound(folder: Path, recipe: int) -> bool:
    try:
        return open_manifest(folder, contents=True).recipe == recipe
    except ModelUnavailable:
        return False


def _read_manifest(folder: Path) -> Manifest:
    try:
        stored = json.loads((folder / MANIFEST).read_bytes())
        return Manifest(
            recipe=stored["recipe"],
            source=Source(**stored["source"]),
            files={name: FileRecord(**record) for name, record in stored["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, "its manifest is missing or can't be read") from error


def _write(folder: Path, recipe: int, contents: Contents) -> None:
    """Writes beside the folder and renames, so that readers see all of it or nothing. Only the
    holder of the lock comes here, so whatever an earlier writer left behind is rubbish.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    damaged = folder.with_name(f".{folder.name}.damaged")
    for rubbish in (partial, damaged):
        shutil.rmtree(rubbish, ignore_errors=True)
    partial.mkdir()
    try:
        records = {name: _store(partial / name, data) for name, data in contents.files}
        manifest = Manifest(recipe, contents.source, records)
        _store(partial / MANIFEST, json.dumps(asdict(manifest), indent=2).encode())
        _sync(partial)
        if folder.exists():
            folder.rename(damaged)
        partial.rename(folder)
        _sync(folder.parent)
    finally:
        for rubbish in (partial, damaged):
            shutil.rmtree(rubbish, ignore_errors=True)


def _store(path: Path, data: bytes) -> FileRecord:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileRecord(len(data), hashlib.sha256(data).hexdigest())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(path: Path, wait_s: float) -> Iterator[None]:
    """Held by one process at a time; the kernel frees it when its holder dies."""
    deadline = time.monotonic() + wait_s
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ModelUnavailable(
                        f"Another process has been writing the model for {wait_s:.0f} seconds. "
                        f"If none is, delete {path}."
                    ) from error
                time.sleep(0.05)
        yield


def _damaged(folder: Path, reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model in {folder} is damaged: {reason}. Delete the folder; it is written anew."
    )
