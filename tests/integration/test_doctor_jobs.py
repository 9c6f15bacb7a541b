"""What `zhinao doctor` says of jobs and schedules: each that stands still, with the command that moves it."""

import time
from pathlib import Path

import pytest
from databases import on_both
from library import Library

from app.doctor_jobs import jobs_say
from app.metrics import IDLE_S, unattended
from app.settings import Settings, load
from indexer.jobs.schedules import Schedules
from indexer.jobs.vitals import read_vitals
from indexer.sql.tables import JobRow, ScheduleRow
from pipeline.errors import InvalidInput, Unavailable
from pipeline.types import JobKind


@pytest.fixture
def settings(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DATABASE_URL", database_url)
    return load(data=tmp_path)


def change(library: Library, job: str, **values: object) -> None:
    with library.database.write() as session:
        row = session.get_one(JobRow, job)
        for name, value in values.items():
            setattr(row, name, value)
        session.add(row)


@on_both
def test_work_that_goes_on_is_counted(library: Library, settings: Settings) -> None:
    assert jobs_say(settings) == "none yet"
    library.add("a.txt", "The walrus sleeps on the ice.")
    library.take("b.txt", "The teapot stands in the kitchen.")
    Schedules(library.database).add(JobKind.MERGE, "every 1d", collection="default")
    assert jobs_say(settings) == "1 queued, 1 done; 1 schedules"


@on_both
def test_each_thing_that_stands_still_is_named_with_what_moves_it(
    library: Library, settings: Settings
) -> None:
    now = time.time()
    silent = library.take("a.txt", "The walrus sleeps on the ice.").job
    library.jobs.claim(silent)
    change(library, silent, lease_until=now - 60)
    for kind, status in ((JobKind.MERGE, "queued"), (JobKind.WATCH, "dead")):
        job = library.jobs.submit(kind, collection="default")
        change(library, job, status=status, updated=now - 90, error="the disk is full")
    schedules = Schedules(library.database)
    late = schedules.add(JobKind.WATCH, "every 1h", collection="default", payload={"folder": "/a"})
    with library.database.write() as session:
        row = session.get_one(ScheduleRow, late.id)
        row.next, row.job_id = now - 600, job
        session.add(row)
    with pytest.raises(Unavailable) as told:
        jobs_say(settings)
    lines = str(told.value).split("; ")
    assert len(lines) == 5
    assert lines[0].startswith("jobs of the queue index wait for 9")
    assert "zhinao worker --queue index" in lines[0]
    assert "nobody gives its job back: start zhinao serve" in lines[1]
    assert lines[2].startswith("1 jobs were given up")
    assert lines[2].endswith("zhinao retry --failed")
    assert f"{late.id} (watch every 1h) is late by 6" in lines[3]
    assert lines[4].endswith("failed the last time: the disk is full")


@on_both
def test_a_job_that_stands_still_while_its_heart_beats_is_named_with_what_ends_it(
    library: Library, settings: Settings
) -> None:
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    claim = library.jobs.claim(job)
    library.jobs.progress(claim, "embed", 3, 20)
    change(library, job, updated=time.time() - 4000)
    assert library.jobs.renew(claim)
    with pytest.raises(Unavailable) as told:
        jobs_say(settings)
    assert str(told.value) == (
        f"the job {job} (ingest, stage embed) stands still for 67 minutes in its worker's hands: "
        f"zhinao cancel {job}, then zhinao retry {job}"
    )
    assert read_vitals(library.database).longest_still_s == pytest.approx(4000, abs=60)
    library.jobs.progress(claim, "embed", 4, 20)
    assert jobs_say(settings) == "1 running"


@on_both
def test_an_archive_that_waits_for_its_members_stands_not_still(
    library: Library, settings: Settings, waiting_archive: str
) -> None:
    change(library, waiting_archive, updated=time.time() - 4000)
    assert jobs_say(settings) == "1 queued, 1 running"
    assert read_vitals(library.database).longest_still_s == 0


@on_both
def test_a_job_of_a_kind_that_this_version_does_not_run_is_refused_and_an_old_one_is_named(
    library: Library, settings: Settings
) -> None:
    with pytest.raises(InvalidInput, match="sft are not run by this version"):
        library.jobs.submit(JobKind.SFT)
    assert jobs_say(settings) == "none yet"
    job = library.jobs.submit(JobKind.EVALUATE, collection="default")
    change(library, job, kind="sft", updated=time.time() - 4000)
    with pytest.raises(Unavailable) as told:
        jobs_say(settings)
    assert str(told.value) == (
        f"the job {job} of the kind sft will not be run, as this version has no handler for it: "
        f"zhinao cancel {job}"
    )
    vitals = read_vitals(library.database)
    assert (vitals.alone(IDLE_S), unattended(vitals)) == ([], False)
    library.control.cancel(job)
    assert jobs_say(settings) == "1 cancelled"


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    assert jobs_say(load(data=tmp_path / "new")) == "none yet"
    assert list(tmp_path.iterdir()) == []
