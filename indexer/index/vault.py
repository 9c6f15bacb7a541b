"""A folder of backups: every content once, under its checksum, and one dated manifest a backup.

zhinao-backups.json    what the folder is
files/ab/ab12...       a content, named by its SHA-256, written once and shared by all backups
backups/<id>.json      the files of a backup, with the checksum of the manifest itself; written last
partial/               what a backup that was cut off left; the next one removes it
lock                   one writer at a time, no pruning under a reader

A content without a manifest is rubbish that the next backup uses or `prune` removes; a backup is
there whole or not at all.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from indexer.index.manifest import Backup, Entry, Part, decoded, encoded
from indexer.segments.staged import fsync_folder
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, NotFound, Unavailable

FORMAT = 1
PART = 2**16
"""Bytes of a part of the database: parts that did not change since the last backup are shared. Its indexes change all
over with every document, so small parts share much more.
"""
_BLOCK = 2**20
_MOST_NEW, _MOST_NEW_BYTES = 4096, 2**30
"""So much is lost of a backup that is killed; the next one copies it again."""
_MARK = "zhinao-backups.json"


class Vault:
    """The folder. Every method raises Unavailable when the disk refuses, with what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._new: dict[str, int] = {}

    @classmethod
    def make(cls, folder: Path) -> "Vault":
        """The vault of a folder, made where it is empty or not there.

        Raises InvalidInput for a folder that holds something else.
        """
        with _refused(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _MARK).exists():
                if any(path.name != "lost+found" for path in folder.iterdir()):
                    raise InvalidInput(
                        f"{folder} holds other files: name an empty folder, or one with backups"
                    )
                _write(folder / _MARK, json.dumps({"format": FORMAT}).encode())
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Vault":
        """Raises NotFound without backups there, InvalidInput when a newer program made them."""
        try:
            told = json.loads((folder / _MARK).read_bytes())["format"]
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(
                f"there are no backups in {folder}: name the folder of zhinao backup"
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{folder / _MARK} cannot be read: check the disk") from error
        if told != FORMAT:
            raise InvalidInput(
                f"the backups in {folder} are of format {told}, and this program reads {FORMAT}: update it"
            )
        return cls(folder)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Alone; yields a folder for what is not finished, which is gone afterwards. Raises Conflict."""
        with self._locked(fcntl.LOCK_EX):
            partial = self.folder / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            with _refused(self.folder):
                for folder in (partial, self.folder / "files", self.folder / "backups"):
                    folder.mkdir(exist_ok=True)
            self._new.clear()
            try:
                yield partial
            finally:
                self._new.clear()
                shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While nothing is pruned. Raises Conflict while a backup is written."""
        with self._locked(fcntl.LOCK_SH):
            yield

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
        with _refused(self.folder):
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
        with _refused(self.folder), _opened(path) as source:
            while block := _read_block(source, PART):
                part = Part(hashlib.sha256(block).hexdigest(), len(block))
                if not self.holds(part):
                    beside = self._fresh(uuid.uuid4().hex)
                    beside.write_bytes(block)
                    written += self._keep(part, beside)
                parts.append(part)
                say(len(block))
        return tuple(parts), written

    def add(self, backup: Backup) -> None:
        """Write the manifest: from here on the backup is there."""
        with _refused(self.folder):
            self._settle()
            _write(self._manifest(backup.id), encoded(backup))

    def backups(self) -> list[Backup]:
        """All of them, newest first. Raises DamagedIndex for a manifest that has changed."""
        found = [self.get(path.stem) for path in (self.folder / "backups").glob("*.json")]
        return sorted(found, key=lambda backup: (backup.created, backup.id), reverse=True)

    def get(self, backup_id: str | None = None) -> Backup:
        """One of them, the newest where none is named. Raises NotFound, DamagedIndex."""
        if backup_id is None:
            if not (all_of_them := self.backups()):
                raise NotFound(f"there is no whole backup in {self.folder}: make one first")
            return all_of_them[0]
        path = self._manifest(backup_id)
        if path.parent != self.folder / "backups":
            raise NotFound(f'"{backup_id}" is no id of a backup: zhinao backup --list shows them')
        try:
            return decoded(path.read_bytes(), path.name)
        except FileNotFoundError as error:
            raise NotFound(
                f'there is no backup "{backup_id}" in {self.folder}: zhinao backup --list shows them'
            ) from error
        except OSError as error:
            raise Unavailable(
                f"{path} cannot be read ({error.strerror}): check the disk"
            ) from error

    def extract(self, entry: Entry, target: Path, say: Callable[[int], None]) -> None:
        """Write a file of a backup, every byte checked. Raises DamagedIndex with its path."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            for part in entry.parts:
                self._read(entry, part, out, say)
            out.flush()
            os.fsync(out.fileno())

    def verify(self, backup: Backup, checked: set[str], say: Callable[[int], None]) -> list[str]:
        """Read every content of a backup; returns a sentence for each file that is not whole.

        Contents in `checked` are not read again; those that were read are added.
        """
        wrong = []
        for entry in backup.files:
            try:
                for part in entry.parts:
                    if part.sha256 in checked:
                        say(part.size)
                        continue
                    self._read(entry, part, None, say)
                    checked.add(part.sha256)
            except DamagedIndex as error:
                wrong.append(str(error))
        return wrong

    def prune(self, keep: int) -> tuple[list[str], int]:
        """Remove all but the newest backups, and every content that none of those holds.

        Call it while `writing`. Returns the ids removed and the bytes freed. A backup goes before its
        contents, so one that is listed is whole whenever this ends.
        """
        if keep < 1:
            raise InvalidInput("keep at least one backup")
        kept, gone = self.backups()[:keep], self.backups()[keep:]
        freed = 0
        with _refused(self.folder):
            for backup in gone:
                self._manifest(backup.id).unlink()
            fsync_folder(self.folder / "backups")
            used = {part.sha256 for backup in kept for e in backup.files for part in e.parts}
            for path in (self.folder / "files").glob("*/*"):
                if path.name not in used:
                    freed += path.stat().st_size
                    path.unlink()
        return [backup.id for backup in gone], freed

    def _settle(self) -> None:
        """Make what was stored durable, and give it its name: a content that is named is whole, even after a power cut.

        One sync for many files: to sync each would take ten times as long.
        """
        if not self._new:
            return
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
            self._settle()
        return part.size

    def _read(
        self, entry: Entry, part: Part, out: BinaryIO | None, say: Callable[[int], None]
    ) -> None:
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

    def _fresh(self, name: str) -> Path:
        return self.folder / "partial" / name

    def _path(self, sha256: str) -> Path:
        return self.folder / "files" / sha256[:2] / sha256

    def _manifest(self, backup_id: str) -> Path:
        return self.folder / "backups" / f"{backup_id}.json"

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with _refused(self.folder):
            lock = (self.folder / "lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except OSError as error:
                raise Conflict(
                    f"a backup is being written to, or read from, {self.folder}: try again later"
                ) from error
            yield


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
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


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
        fsync_folder(path.parent)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
