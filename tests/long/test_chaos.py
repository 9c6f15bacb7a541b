"""Processes are killed at each stage, who and when by the seed, on both databases.

`make test-long ARGS="--seeds 0:200 -k 'whoever and sqlite'"` runs them on one.
"""

from pathlib import Path

from chaos import Chaos
from databases import on_both

STEP = 10


@on_both
def test_whoever_is_killed_every_file_ends_done_once(
    seeds: range, tmp_path: Path, database_url: str
) -> None:
    chaos = Chaos(tmp_path, database_url)
    try:
        for seed in seeds:
            chaos.round(seed)
            print(f"seed {seed}: {chaos.killed[-2:]}", flush=True)
    finally:
        chaos.close()
