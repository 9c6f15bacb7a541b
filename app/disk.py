"""Room on the data folder's disk."""

import shutil
from pathlib import Path

from pipeline.errors import Unavailable

FREE_BYTES = 500 * 2**20
"""With less than this no server begins: a file on its way in, its vectors and an index written anew need it."""


def check_room(folder: Path) -> int:
    """The bytes that are free where the folder is, or will be. Raises Unavailable with too few of them."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < FREE_BYTES:
        raise Unavailable(f"{free // 2**20} MiB are free at {there}: free some disk space")
    return free
