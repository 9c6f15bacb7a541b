"""32 uploads at once while API, workers and merger are killed: nothing acknowledged is lost, and nothing is doubled."""

from pathlib import Path

from surviving import survives


def test_what_was_acknowledged_survives_kills_of_every_process_and_of_merges(
    tmp_path: Path,
) -> None:
    hit = 0
    for seed in range(5):
        folder = tmp_path / str(seed)
        hit += survives(folder, f"sqlite:///{folder / 'zhinao.db'}", seed)
    assert hit, "no kill came in the middle of a merge: nothing was shown of one"
