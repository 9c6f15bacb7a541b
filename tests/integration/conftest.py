import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from library import Library
from packed import zipped

from indexer.catalog.catalog import Upload


@pytest.fixture
def library(tmp_path: Path, database_url: str) -> Iterator[Library]:
    made = Library.open(tmp_path, database_url)
    yield made
    made.close()


@pytest.fixture
def waiting_archive(library: Library) -> str:
    """The job of an archive that waits for its one member, whose job is queued."""
    data = zipped({"a.txt": b"The walrus sleeps on the ice."})
    sha256 = hashlib.sha256(data).hexdigest()
    path = library.folders.original(library.catalog.collection_id("default"), sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    job = library.catalog.take("default", Upload("a.zip", sha256, len(data), "application/zip")).job
    assert job is not None
    library.run(job)
    assert library.jobs.get(job).stage == "members"
    return job
