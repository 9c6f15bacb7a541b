"""A folder of backups: every content once, under its checksum, and one dated manifest a backup.

zhinao-backups.json    what the folder is
files/ab/ab12...       a content, named by its SHA-256, written once and shared by all backups
backups/<id>.json      the files of a backup, with the checksum of the manifest itself; written last
partial/               what a backup that was cut off left; the next one removes it
lock                   one writer at a time, no pruning under a reader

A content without a manifest is rubbish that the next backup uses or `prune` removes; a backup is
there whole or not at all.
"""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.index.contents import Contents, refused
from indexer.index.manifest import Backup, Entry, decoded, encoded
from indexer.segments.staged import fsync_folder
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, NotFound, Unavailable

FORMAT = 1
_MARK = "zhinao-backups.json"


class Vault:
    """The folder. Every method raises Unavailable when the disk refuses, with what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contents = Contents(folder)

    @classmethod
    def make(cls, folder: Path) -> "Vault":
        """The vault of a folder, made where it is empty or not there.

        Raises InvalidInput for a folder that holds something else.
        """
        with refused(folder):
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
            with refused(self.folder):
                for folder in (partial, self.folder / "files", self.folder / "backups"):
                    folder.mkdir(exist_ok=True)
            self.contents.begin()
            try:
                yield partial
            finally:
                self.contents.begin()
                shutil.rmtree(partial, ignore_errors=True)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """While nothing is pruned. Raises Conflict while a backup is written."""
        with self._locked(fcntl.LOCK_SH):
            yield

    def add(self, backup: Backup) -> None:
        """Write the manifest: from here on the backup is there."""
        with refused(self.folder):
            self.contents.settle()
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
                self.contents.read(entry, part, out, say)
            out.flush()
            os.fsync(out.fileno())

    def verify(self, backup: Backup, checked: set[str], say: Callable[[int], None]) -> list[str]:
        """Read every content of a backup; returns a sentence for each file that is not whole.

        Contents in `checked` are not read again; those that were read are added. A damaged one is set aside: the next
        backup copies it again, if the data folder still has it, and mends all backups that share it.
        """
        wrong = []
        for entry in backup.files:
            for part in entry.parts:
                if part.sha256 in checked:
                    say(part.size)
                    continue
                try:
                    self.contents.read(entry, part, None, say)
                except DamagedIndex as error:
                    self.contents.set_aside(part)
                    wrong.append(str(error))
                    break
                checked.add(part.sha256)
        return wrong

    def prune(self, keep: int) -> tuple[list[str], int]:
        """Remove all but the newest backups, and every content that none of those holds.

        Call it while `writing`. Returns the ids removed and the bytes freed. A backup goes before its
        contents, so one that is listed is whole whenever this ends.
        """
        if keep < 1:
            raise InvalidInput("keep at least one backup")
        kept, gone = self.backups()[:keep], self.backups()[keep:]
        with refused(self.folder):
            for backup in gone:
                self._manifest(backup.id).unlink()
            fsync_folder(self.folder / "backups")
            used = {part.sha256 for backup in kept for e in backup.files for part in e.parts}
        return [backup.id for backup in gone], self.contents.keep_only(used)

    def _manifest(self, backup_id: str) -> Path:
        return self.folder / "backups" / f"{backup_id}.json"

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with refused(self.folder):
            lock = (self.folder / "lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except OSError as error:
                raise Conflict(
                    f"a backup is being written to, or read from, {self.folder}: try again later"
                ) from error
            yield


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
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
