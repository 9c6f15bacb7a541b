"""The index survives kills of its processes: `make test-long ARGS="--seeds 0:50"`."""

from pathlib import Path

from surviving import survives


def test_what_was_acknowledged_survives_kills_on_many_seeds(seeds: range, tmp_path: Path) -> None:
    hit = 0
    for seed in seeds:
        folder = tmp_path / str(seed)
        merges = survives(folder, f"sqlite:///{folder / 'zhinao.db'}", seed)
        hit += merges
        print(f"seed {seed}: {merges} merges were hit", flush=True)
    assert hit, "no kill came in the middle of a merge: nothing was shown of one"
