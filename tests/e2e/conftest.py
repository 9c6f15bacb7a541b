"""One real server for all end-to-end tests of a process: API, page, worker, Redis, in a data folder of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.running import Server, running_server


@pytest.fixture
def tmp_path(tmp_path: Path, e5_folder: Path) -> Path:
    """A data folder that has the embedding model; `server` below writes its own."""
    (tmp_path / "models").symlink_to(e5_folder.parent)
    return tmp_path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    allowed = {"ZHINAO_FETCH__ALLOW_PRIVATE": "127.0.0.1"}  # where the tests' own sites are
    folder = tmp_path_factory.mktemp("data")
    with running_server(folder, options=("--no-samples",), environment=allowed) as running:
        yield running
