"""Processes are killed while files are read: every accepted file ends done, once (tests/long has 200 seeds)."""

from pathlib import Path

import pytest
from chaos import Chaos


@pytest.mark.slow
def test_whoever_is_killed_every_file_ends_done_once(tmp_path: Path, database_url: str) -> None:
    chaos = Chaos(tmp_path, database_url)
    try:
        chaos.round(0, ("reader", "worker process"))
        chaos.round(1, ("redis", "server"))
        chaos.round(2, ("deaf worker",))
        died = {victim for victim, _ in chaos.killed}
        assert died >= {"worker process", "redis", "server", "deaf worker"}
    finally:
        chaos.close()
