"""Processes are killed at each stage, who and when by the seed: `make test-long ARGS="--seeds 0:200"`."""

from pathlib import Path

from chaos import Chaos

STEP = 10


def test_whoever_is_killed_every_file_ends_done_once(seeds: range, tmp_path: Path) -> None:
    chaos = Chaos(tmp_path)
    try:
        for seed in seeds:
            chaos.round(seed)
            print(f"seed {seed}: {chaos.killed[-2:]}", flush=True)
    finally:
        chaos.close()
