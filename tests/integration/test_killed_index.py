"""32 uploads at once while API, workers and merger are killed: nothing acknowledged is lost, and nothing is doubled."""

from pathlib import Path

import pytest
from surviving import survives


@pytest.mark.parametrize("seed", range(5), ids=str)
def test_what_was_acknowledged_survives_kills_of_every_process(seed: int, tmp_path: Path) -> None:
    survives(tmp_path / "data", f"sqlite:///{tmp_path / 'data' / 'zhinao.db'}", seed)
