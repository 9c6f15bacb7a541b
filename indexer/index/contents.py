"""The contents of a vault: files named by the SHA-256 of what they hold, each written once."""

import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from indexer.index.manifest import Entry, Part
from indexer.segments.staged import fsync_folder
from pipeline.errors import DamagedIndex, Unavailable

PART = 2**16
"""Bytes of a part of the database: parts that did not change since the last backup are shared. Its indexes change all
over with every document, so small parts share much more.
"""
_BLOCK = 2**20
_MOST_NEW, _MOST_NEW_BYTES = 4096, 2**30
"""So much is lost of a backup that is killed; the next one copies it again."""


class Contents:
    """`files/ab/ab12...` in a folder; what is not finished is in its `partial/`, which the caller makes and removes.

    Every method raises Unavailable when the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._new: dict[str, int] = {}

    def begin(self) -> None:
        """Forget what was not settled."""
        self._new.clear()

    def holds(self, part: Part) -> bool:
        """Whether a content is there, by its name and size; `verify` reads it."""
        if self._new.get(part.sha256) == part.size:
            return True
        try:
            return self._path(part.sha256).stat().st_size == part.size
        except FileNotFoundError:
            return False

    def put(self, path: Path, told: str | None, say: Callable[[int], None]) -> tuple[Part, int]:
        """Take a file's content; returns the part and how many bytes were written.

        `told` is its SHA-256, where it is known; raises DamagedIndex when it is another, and
        FileNotFoundError when the file is gone. `say` gets numbers of bytes.
        """
        size = _readable(path).st_size
        if told is not None and self.holds(part := Part(told, size)):
            say(size)
            return part, 0
        seen, count = hashlib.sha256(), 0
        beside = self._fresh(uuid.uuid4().hex)
        with refused(self.folder):
            with _opened(path) as source, beside.open("wb") as out:
                while block := _read_block(source, _BLOCK):
                    seen.update(block)
                    out.write(block)
                    count += len(block)
                    say(len(block))
            part = Part(seen.hexdigest(), count)
            written = self._keep(part, beside)
        if told is not None and part.sha256 != told:
            raise DamagedIndex(
                f"{path.name} in {path.parent} has changed since it was written: no backup was made; "
                "mend it (zhinao doctor says how), then start again"
            )
        return part, written

    def put_parts(self, path: Path, say: Callable[[int], None]) -> tuple[tuple[Part, ...], int]:
        """As `put`, in parts of PART bytes, those that are known left out."""
        parts, written = [], 0
        with refused(self.folder), _opened(path) as source:
            while block := _read_block(source, PART):
                part = Part(hashlib.sha256(block).hexdigest(), len(block))
                if not self.holds(part):
                    beside = self._fresh(uuid.uuid4().hex)
                    beside.write_bytes(block)
                    written += self._keep(part, beside)
                parts.append(part)
                say(len(block))
        return tuple(parts), written

    def settle(self) -> None:
        """Make what was stored durable, and give it its name: a content that is named is whole, even after a power cut.

        One sync for many files: to sync each would take ten times as long.
        """
        if not self._new:
            return
        with refused(self.folder):
            os.sync()
            paths = [self._path(sha256) for sha256 in self._new]
            for path in paths:
                path.parent.mkdir(exist_ok=True)
                self._fresh(path.name).rename(path)
            for folder in {path.parent for path in paths}:
                fsync_folder(folder)
            fsync_folder(self.folder / "files")
        self._new.clear()

    def _keep(self, part: Part, beside: Path) -> int:
        """Take a written file as the content `part`; returns the bytes that are new."""
        if self.holds(part):
            beside.unlink()
            return 0
        beside.rename(self._fresh(part.sha256))
        self._new[part.sha256] = part.size
        if len(self._new) >= _MOST_NEW or sum(self._new.values()) >= _MOST_NEW_BYTES:
            self.settle()
        return part.size

    def read(
        self, entry: Entry, part: Part, out: BinaryIO | None, say: Callable[[int], None]
    ) -> None:
        """Read a content of a file to `out`, if any. Raises DamagedIndex, naming the file, when it is not as it was."""
        seen, path = hashlib.sha256(), self._path(part.sha256)
        try:
            with path.open("rb") as source:
                while block := _read_block(source, _BLOCK):
                    seen.update(block)
                    say(len(block))
                    if out is not None:
                        out.write(block)
        except FileNotFoundError as error:
            raise DamagedIndex(f"{entry.path} of the backup is missing: use another one") from error
        if seen.hexdigest() != part.sha256:
            raise DamagedIndex(
                f"{entry.path} of the backup has changed since it was written ({path}): use another one"
            )

    def set_aside(self, part: Part) -> None:
        """Take a damaged content out of use, so that the next backup copies it again."""
        path = self._path(part.sha256)
        if path.exists():
            with refused(self.folder):
                path.rename(path.with_suffix(".damaged"))

    def keep_only(self, used: set[str]) -> int:
        """Remove all but these; returns the bytes freed."""
        freed = 0
        with refused(self.folder):
            for path in (self.folder / "files").glob("*/*"):
                if path.name not in used:
                    freed += path.stat().st_size
                    path.unlink()
        return freed

    def _fresh(self, name: str) -> Path:
        return self.folder / "partial" / name

    def _path(self, sha256: str) -> Path:
        return self.folder / "files" / sha256[:2] / sha256


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """What the disk of the backups says, as a sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        do = "free some space there, or prune with --keep" if full else "check that disk"
        raise Unavailable(
            f"the backup folder {folder} cannot be written ({error.strerror}): {do}; backups that "
            "were whole still are"
        ) from error


def _readable(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        source = path.open("rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    with source:
        yield source


def _read_block(source: BinaryIO, size: int) -> bytes:
    try:
        return source.read(size)
    except OSError as error:
        raise _unreadable(Path(source.name), error) from error


def _unreadable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path} cannot be read ({error.strerror}): check its rights and the disk")
