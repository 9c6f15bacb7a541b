"""The system refuses memory while passages are embedded: the job is given back with a sentence, and done later."""

import json
import subprocess
import sys
from pathlib import Path

from library import Library

from pipeline.types import JobStatus

FIXTURE = Path(__file__).parents[1] / "fixtures" / "starved.py"
TEXT = "\n\n".join(
    f"The walrus number {n} sleeps on the ice of bay {n * 7}. " * 16 for n in range(4)
)


def test_a_job_whose_worker_gets_no_memory_is_done_when_there_is_some(
    library: Library, database_url: str, e5_folder: Path
) -> None:
    job = library.take("a.txt", TEXT).job
    command = [sys.executable, str(FIXTURE), str(library.folder), database_url, str(e5_folder), job]
    environment = {
        "PYTHONPATH": str(FIXTURE.parents[2]),
        "OMP_NUM_THREADS": "1",
        # Nothing that was freed is at hand: every larger piece is asked of the system.
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    refused, well = map(json.loads, done.stdout.splitlines())
    assert (refused["status"], refused["attempts"]) == ("queued", 1)
    assert "not enough memory: free some" in refused["error"]
    assert "onnxruntime" in refused["trace"]  # it was the network that got none
    assert (well["status"], well["attempts"], well["error"]) == ("done", 2, None)
    row = library.jobs.get(job)
    assert row.status is JobStatus.DONE
    assert [view.chunks for view in library.catalog.documents()[0]] == [row.total]
