from pathlib import Path

import pytest
from library import Library

from pipeline.types import JobStatus
from workers.tasks import run


def test_a_job_says_why_it_waits_when_the_models_cannot_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library.open(tmp_path)
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    assert job is not None
    (tmp_path / "models").write_text("a file where the models' folder belongs")
    monkeypatch.setenv("ZHINAO_DATA", str(tmp_path))
    run(job)
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.QUEUED, 1)
    assert row.error
    assert "models" in row.error
    library.close()
