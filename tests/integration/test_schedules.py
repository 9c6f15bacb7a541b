"""What begins by the clock: once a time, once for all that was missed; folders in step, old documents gone."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from between import before_write
from databases import on_both
from library import Library
from sqlmodel import select

from indexer.catalog.arriving import Arrivals
from indexer.jobs.expiring import Expiring
from indexer.jobs.schedules import Schedules
from indexer.jobs.watching import Watching
from indexer.jobs.work import Superseded, Teller
from indexer.sql.tables import ScheduleRow, VersionRow, WatchedRow
from pipeline.errors import InvalidInput, NotFound
from pipeline.types import JobKind, JobStatus
from workers.tasks import work

pytestmark = on_both


@pytest.fixture
def schedules(library: Library) -> Schedules:
    return Schedules(library.database, clock=library.clock)


def test_a_schedule_begins_a_job_each_time_and_one_for_all_that_was_missed(
    library: Library, schedules: Schedules
) -> None:
    made = schedules.add(JobKind.MERGE, "every 15m", collection="default")
    assert schedules.begin_due() == []
    library.clock.now += 901
    [first] = schedules.begin_due()
    assert schedules.begin_due() == []
    library.clock.now += 901
    assert schedules.begin_due() == [first]  # still open: not a second one
    library.jobs.finish(library.jobs.claim_next([JobKind.MERGE]), {})
    library.clock.now += 30 * 86_400
    [second] = schedules.begin_due()
    assert second != first
    assert schedules.begin_due() == []
    [now] = schedules.all()
    assert (now.id, now.job, now.when) == (made.id, second, "every 15m")
    assert now.next == pytest.approx(library.clock() + 900, abs=60)
    schedules.remove(made.id)
    assert schedules.all() == []
    with pytest.raises(NotFound):
        schedules.remove(made.id)


def test_many_servers_begin_one_job(library: Library, schedules: Schedules) -> None:
    schedules.add(JobKind.MERGE, "every 15m", collection="default")
    library.clock.now += 901
    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(lambda _: schedules.begin_due(), range(4)))
    assert sum(map(len, begun)) == 1


def test_a_schedule_that_cannot_begin_keeps_no_other_waiting(
    library: Library, schedules: Schedules, caplog: pytest.LogCaptureFixture
) -> None:
    library.catalog.create_collection("other")
    bad = schedules.add(JobKind.MERGE, "every 5m", collection="other")
    schedules.add(JobKind.MERGE, "every 15m", collection="default")
    with library.database.write() as session:
        row = session.get_one(ScheduleRow, bad.id)
        row.zone = "Nowhere/Town"  # a machine with other zones wrote it
        session.add(row)
    library.clock.now += 901
    [begun] = schedules.begin_due()
    assert library.jobs.get(begun).collection == "default"
    assert "no time zone" in caplog.text
    assert schedules.begin_due() == []
    assert library.jobs.page(collection="other")[0] == []


def test_a_schedule_goes_with_its_collection(library: Library, schedules: Schedules) -> None:
    library.catalog.create_collection("other")
    schedules.add(JobKind.MERGE, "every 15m", collection="other")
    library.catalog.delete_collection("other")
    assert schedules.all() == []
    with library.database.read() as session:
        assert session.exec(select(ScheduleRow)).all() == []
    library.clock.now += 901
    assert schedules.begin_due() == []


@pytest.mark.parametrize(
    ("kind", "collection", "payload", "says"),
    [
        (JobKind.SFT, "default", {}, "not scheduled"),
        (JobKind.WATCH, "default", {}, "folder"),
        (JobKind.WATCH, "default", {"folder": "/a", "x": 1}, "no more"),
        (JobKind.EXPIRE, "default", {"days": 0}, "days"),
        (JobKind.EXPIRE, "default", {"days": True}, "days"),
        (JobKind.MERGE, None, {}, "name the collection"),
        (JobKind.BACKUP, "default", {}, "names none"),
    ],
)
def test_a_schedule_that_could_never_run_is_refused(
    schedules: Schedules, kind: JobKind, collection: str | None, payload: dict, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        schedules.add(kind, "every 1d", collection=collection, payload=payload)
    assert schedules.all() == []


class Watch:
    """A watched folder, and what a look at it leaves."""

    def __init__(self, library: Library, folder: Path) -> None:
        self.library, self.folder = library, folder
        folder.mkdir(exist_ok=True)
        arrivals = Arrivals(library.database, library.folders, library.catalog)
        self.handler = Watching(
            library.database,
            library.folders,
            arrivals,
            roots=[folder.parent],
            most_bytes=1000,
            clock=library.clock,
        )

    def put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(1, path.stat().st_mtime_ns - 60 * 10**9))

    def look(self, folder: Path | None = None) -> dict:
        jobs = self.library.jobs
        payload = {"folder": str(folder or self.folder)}
        job = jobs.submit(JobKind.WATCH, collection="default", payload=payload)
        work(jobs, self.handler, jobs.claim_next([JobKind.WATCH]))
        while (claim := jobs.claim_next([JobKind.INGEST])) is not None:
            self.library.ingest(claim)
        row = jobs.get(job)
        return {"status": row.status, "error": row.error, **row.result}

    def names(self) -> dict[str, int]:
        return {view.name: view.live for view in self.library.catalog.documents()[0]}


@pytest.fixture
def watch(library: Library, tmp_path: Path) -> Watch:
    root = tmp_path / "root"
    root.mkdir()
    return Watch(library, root / "docs")


def test_new_changed_and_deleted_files_are_followed(watch: Watch) -> None:
    watch.put("a.txt", "The walrus sleeps on the ice.")
    watch.put("sub/b.txt", "The teapot stands in the kitchen.")
    watch.put(".hidden", "never read")
    first = watch.look()
    assert (first["taken"], first["deleted"], first["files"]) == (2, 0, 2)
    assert watch.names() == {"a.txt": 1, "sub/b.txt": 1}
    assert watch.look()["taken"] == 0
    watch.put("a.txt", "The walrus woke up.")
    os.utime(watch.folder / "sub/b.txt", ns=(1, 10**18))  # touched, not changed
    assert watch.look()["taken"] == 1
    assert watch.names() == {"a.txt": 2, "sub/b.txt": 1}
    shutil.rmtree(watch.folder / "sub")
    assert watch.look()["deleted"] == 1
    assert watch.names() == {"a.txt": 2}


def test_the_names_of_watched_files_go_with_their_collection(watch: Watch) -> None:
    watch.put("a.txt", "The walrus sleeps on the ice.")
    watch.look()
    watch.library.catalog.delete_collection("default")
    with watch.library.database.read() as session:
        assert session.exec(select(WatchedRow)).all() == []


def test_a_file_that_moves_keeps_its_document_and_gets_its_new_name(watch: Watch) -> None:
    watch.put("a.txt", "The walrus sleeps on the ice.")
    watch.put("b.txt", "The teapot stands in the kitchen.")
    watch.look()
    [before] = [v.id for v in watch.library.catalog.documents()[0] if v.name == "a.txt"]
    (watch.folder / "new").mkdir()
    (watch.folder / "a.txt").rename(watch.folder / "new/walrus.txt")
    assert watch.look()["deleted"] == 0
    assert watch.names() == {"new/walrus.txt": 1, "b.txt": 1}
    assert watch.library.catalog.document(before).name == "new/walrus.txt"


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_folder_that_vanishes_as_a_whole_deletes_nothing(watch: Watch, how: str) -> None:
    watch.put("a.txt", "The walrus sleeps on the ice.")
    watch.look()
    shutil.rmtree(watch.folder)
    if how == "empty":
        watch.folder.mkdir()
    told = watch.look()
    assert told["status"] is JobStatus.FAILED
    assert "nothing was deleted" in told["error"]
    assert "ount" in told["error"]
    assert watch.names() == {"a.txt": 1}
    watch.put("a.txt", "The walrus sleeps on the ice.")
    assert watch.look()["status"] is JobStatus.DONE


def test_somebody_elses_document_is_never_deleted_with_a_file(watch: Watch) -> None:
    watch.library.add("mine.txt", "The walrus sleeps on the ice.")
    watch.put("a.txt", "The walrus sleeps on the ice.")
    watch.put("b.txt", "The teapot stands in the kitchen.")
    watch.look()
    assert watch.names() == {"mine.txt": 1, "b.txt": 1}
    (watch.folder / "a.txt").unlink()
    watch.look()
    assert watch.names() == {"mine.txt": 1, "b.txt": 1}


class Killed(BaseException):
    """Stands for `kill -9`."""


def interrupted(watch: Watch, how: str, passed: int) -> bool:
    """A look that ends before it writes for another time; False where it had nothing more to write."""
    jobs = watch.library.jobs
    payload = {"folder": str(watch.folder)}
    job = jobs.submit(JobKind.WATCH, collection="default", payload=payload)
    claim = jobs.claim(job)

    def end() -> None:
        if how == "cancelled":
            watch.library.control.cancel(job)
        elif how == "handed back":
            jobs.hand_back(claim)
        else:
            raise Killed

    with (
        before_write(watch.library.database, end, passed=passed) as came,
        suppress(Superseded, Killed),
    ):
        watch.handler.run(claim, Teller(jobs, claim, clock=count(step=10).__next__))
    if how == "killed":
        jobs.hand_back(claim)
    if how != "cancelled":
        watch.library.control.cancel(job)
    return len(came) > passed


@pytest.mark.parametrize("how", ["cancelled", "handed back", "killed"])
def test_a_look_that_is_interrupted_at_any_moment_leaves_the_folder_in_step(
    watch: Watch, how: str
) -> None:
    watch.library.add("theirs.txt", "The violin hangs on the wall.")
    watch.put("kept.txt", "The teapot stands in the kitchen.")
    watch.put("same.txt", "The violin hangs on the wall.")
    watch.look()
    for passed in count():
        watch.put("a.txt", f"The walrus sleeps on floe {passed}.")
        went_on = interrupted(watch, how, passed)
        watch.look()
        assert watch.names() == {"a.txt": 1, "kept.txt": 1, "theirs.txt": 1}
        (watch.folder / "a.txt").unlink()
        watch.look()
        assert watch.names() == {"kept.txt": 1, "theirs.txt": 1}
        if not went_on:
            break
    assert passed > 2
    (watch.folder / "same.txt").unlink()
    watch.look()
    assert watch.names() == {"kept.txt": 1, "theirs.txt": 1}


def test_links_large_files_and_what_is_still_written_are_left_out_with_a_reason(
    watch: Watch, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("never read")
    watch.put("a.txt", "The walrus sleeps on the ice.")
    (watch.folder / "link.txt").symlink_to(secret)
    (watch.folder / "linked").symlink_to(tmp_path)
    os.mkfifo(watch.folder / "pipe")
    watch.put("large.txt", "x" * 1001)
    (watch.folder / "now.txt").write_text("half a senten")
    told = watch.look()
    assert watch.names() == {"a.txt": 1}
    assert told["left_out"] == 4
    assert "links are not followed" in told["why"]["link.txt"]
    assert "larger" in told["why"]["large.txt"]
    assert "next look" in told["why"]["now.txt"]


def test_only_folders_that_the_server_allows_are_watched(watch: Watch, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (watch.folder.parent / "way-out").symlink_to(outside)
    for folder in (outside, watch.folder.parent / "way-out", watch.folder / "../../outside"):
        assert "ZHINAO_WATCH_ROOTS" in watch.look(folder)["error"]
    assert "full path" in watch.look(Path("docs"))["error"]


def test_documents_that_are_too_old_go_and_a_newer_version_keeps_one(library: Library) -> None:
    library.add("old.txt", "The walrus sleeps on the ice.")
    kept = library.add("kept.txt", "The teapot stands in the kitchen.").document

    def expire(days: float) -> dict:
        job = library.jobs.submit(JobKind.EXPIRE, collection="default", payload={"days": days})
        handler = Expiring(library.database, library.folders, clock=library.clock)
        work(library.jobs, handler, library.jobs.claim_next([JobKind.EXPIRE]))
        return dict(library.jobs.get(job).result)

    assert expire(10) == {"deleted": 0}
    library.clock.now = 10 * 86_400 + 60
    with library.database.write() as session:
        newer = session.exec(select(VersionRow).where(VersionRow.document_id == kept)).one()
        newer.created = library.clock() - 86_400
        session.add(newer)
    assert expire(10) == {"deleted": 1}
    assert [view.name for view in library.catalog.documents()[0]] == ["kept.txt"]
