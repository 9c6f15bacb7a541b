from collections.abc import Iterator
from pathlib import Path

import pytest
from library import Library


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    made = Library.open(tmp_path)
    yield made
    made.close()
