from collections.abc import Iterator
from pathlib import Path

import pytest
from library import Library


@pytest.fixture
def library(tmp_path: Path, database_url: str) -> Iterator[Library]:
    made = Library.open(tmp_path, database_url)
    yield made
    made.close()
