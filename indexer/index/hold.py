"""Files of the data folder held fast by hard links, so that what removes them meanwhile does no harm.

A link is made in microseconds and costs no space. Where the file system has none, files are copied.
"""

import errno
import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.folders import Folders
from pipeline.errors import Unavailable

_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


@contextmanager
def holding_files(folders: Folders) -> Iterator[Path]:
    """A folder for `hold`, gone with all that it holds when the block ends."""
    sweep_held(folders)
    folder = folders.held / uuid.uuid4().hex
    try:
        folder.mkdir(parents=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise _refused(folders, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def sweep_held(folders: Folders) -> None:
    """Let go of what a process that was killed held."""
    for folder in folders.held.glob("*"):
        try:
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # still held, or let go at this moment
            continue


def hold(folders: Folders, path: Path, held: Path) -> Path:
    """Hold a file of the data folder; the path under which it stays.

    Raises FileNotFoundError when it is gone, Unavailable when the disk refuses.
    """
    kept = held / path.relative_to(folders.data)
    if kept.exists():
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            kept.hardlink_to(path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(path, kept)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(folders, error) from error
    return kept


def _refused(folders: Folders, error: OSError) -> Unavailable:
    return Unavailable(
        f"files of {folders.data} cannot be held for a backup ({error.strerror}): give this user the right to write "
        "there, and check its free space"
    )
