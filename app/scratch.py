"""A temporary folder for all that must not outlive the server: Redis's socket, spooled uploads, the page's files."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "zhinao-run-"
_YOUNG_S = 10.0


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this user alone, where this process puts its temporary files; it goes when the block ends.

    Folders of servers that were killed are swept first: nobody holds their lock any more.
    """
    before = tempfile.tempdir
    sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tempfile.tempdir = str(folder)
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep(root: Path) -> None:
    """Remove the folders under `root` that belong to no running server. A young one may not be locked yet: it stays."""
    for folder in root.glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.lstat().st_mtime < _YOUNG_S:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone already
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
