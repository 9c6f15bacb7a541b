"""Archives and mails through the write path: every file inside is a document, and none is doubled or dropped."""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import pytest
from between import before_write
from databases import on_both
from library import Library
from packed import tarred, zipped
from sqlmodel import func, select

from indexer.catalog.catalog import Taken, Upload
from indexer.catalog.outcomes import Counts
from indexer.catalog.views import DocumentView
from indexer.ingest.members import Members
from indexer.jobs.control import Control
from indexer.parse.media import sniff
from indexer.parse.unpack import unpack
from indexer.sql.tables import ChunkRow, DocumentRow, MemberRow, VersionRow
from pipeline.errors import RagError
from pipeline.types import JobStatus, Query, SearchMode
from workers.tasks import work

HANDBOOK = {
    "员工手册/年假.txt": "员工每年享有十五天带薪年假。".encode(),
    "员工手册/加班.txt": "加班须由部门经理事先批准。".encode(),
    "travel.txt": b"The walrus flies economy class.",
}


def take(library: Library, name: str, data: bytes) -> Taken:
    sha256 = hashlib.sha256(data).hexdigest()
    path = library.folders.original(library.catalog.collection_id("default"), sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return library.catalog.take("default", Upload(name, sha256, len(data), sniff(data, name)))


def settle(library: Library, *, most: int = 200) -> None:
    """What relay and workers do, until nothing is left to do."""
    for _ in range(most):
        library.jobs.wake()
        waiting = library.jobs.unsent(stale=False)
        if not waiting:
            return
        claim = library.jobs.claim(waiting[0])
        assert claim is not None
        work(library.jobs, library.ingester, claim)
    raise AssertionError("jobs go on for ever")


def add(library: Library, name: str, data: bytes) -> Taken:
    taken = take(library, name, data)
    settle(library)
    return taken


def documents(library: Library) -> dict[str, DocumentView]:
    return {view.name: view for view in library.catalog.documents(limit=500)[0]}


def found(library: Library, query: str) -> set[str]:
    search = library.retriever.search(Query(query, mode=SearchMode.WORDS))
    return {hit.chunk.name for hit in asyncio.run(search).hits}


def originals(library: Library) -> int:
    return sum(1 for _ in (library.folders.data / "collections").rglob("originals/*"))


def rows(library: Library, table: type) -> int:
    with library.database.read() as session:
        return session.exec(select(func.count()).select_from(table)).one()


@pytest.mark.parametrize(
    ("name", "data"),
    [("手册.zip", zipped(HANDBOOK, codec="gbk")), ("手册.tar.xz", tarred(HANDBOOK, "w:xz"))],
)
def test_every_file_of_an_archive_is_a_document_of_its_own(
    library: Library, name: str, data: bytes
) -> None:
    archive = add(library, name, data)
    shown = documents(library)
    assert set(shown) == {name, *(f"{name}/{path}" for path in HANDBOOK)}
    assert {view.status for view in shown.values()} == {"ready"}
    assert shown[name].members == Counts(3, 3)
    assert {shown[f"{name}/{path}"].parent for path in HANDBOOK} == {archive.document}
    assert shown[name].parent is None
    assert f"{name}/员工手册/年假.txt" in found(library, "带薪年假")
    assert name in found(library, "加班.txt")
    assert library.catalog.text(archive.document, None).split("\n") == list(HANDBOOK)
    job = library.jobs.get(archive.job)
    assert (job.status, job.parent) == (JobStatus.DONE, None)
    member = shown[f"{name}/travel.txt"]
    assert library.jobs.get(job_of(library, member.id)).parent == archive.job
    inside, _ = library.jobs.page(parent=archive.job)
    assert {job.document for job in inside} == {shown[f"{name}/{path}"].id for path in HANDBOOK}
    assert library.jobs.page(parent=inside[0].id) == ([], None)


def job_of(library: Library, document: str) -> str:
    return next(j.id for j in library.jobs.page(limit=500)[0] if j.document == document)


@on_both
def test_an_archive_waits_without_a_worker_and_counts_its_members(library: Library) -> None:
    archive = take(library, "a.zip", zipped(HANDBOOK))
    library.run(archive.job)
    for done in range(3):
        library.jobs.wake()
        job = library.jobs.get(archive.job)
        assert (job.status, job.stage, job.done, job.total) == (
            JobStatus.RUNNING,
            "members",
            done,
            3,
        )
        library.clock.now += 60
        assert library.jobs.reap() == 0
        library.run(library.jobs.unsent(stale=False)[0])
    assert library.jobs.wake() == 1
    assert list(library.jobs.unsent(stale=False)) == [archive.job]
    settle(library)
    assert library.jobs.get(archive.job).status is JobStatus.DONE


@on_both
def test_a_member_that_is_retried_as_its_archive_is_woken_is_waited_for(library: Library) -> None:
    archive = take(library, "a.zip", zipped({"a.txt": b"The walrus sleeps.", "b.txt": b"   "}))
    library.run(archive.job)
    for job in library.jobs.unsent(stale=False):
        work(library.jobs, library.ingester, library.jobs.claim(job))
    empty = job_of(library, documents(library)["a.zip/b.txt"].id)
    assert library.jobs.get(empty).status is JobStatus.FAILED
    with before_write(library.database, lambda: library.control.retry(empty)) as came:
        assert library.jobs.wake() == 0
    assert came
    job = library.jobs.get(archive.job)
    assert (job.status, job.stage, job.done, job.total) == (JobStatus.RUNNING, "members", 1, 2)
    settle(library)
    assert library.jobs.get(archive.job).status is JobStatus.DONE


def test_what_cannot_be_read_is_told_in_the_archives_text(library: Library) -> None:
    data = zipped({**HANDBOOK, "bad.pdf": b"%PDF-1.7 nothing", "logo.gif": b"GIF89a" + bytes(9)})
    archive = add(library, "a.zip", data)
    view = documents(library)["a.zip"]
    assert (view.status, view.members) == ("ready", Counts(5, 3))
    text = library.catalog.text(archive.document, None)
    assert "logo.gif – not read: “logo.gif” is an image" in text
    assert "bad.pdf – not read: " in text
    broken = documents(library)["a.zip/bad.pdf"]
    assert broken.status == "failed"
    assert broken.error in text


async def test_the_names_of_files_are_found_and_answer_nothing(library: Library) -> None:
    text = b"Hold the button on the back for ten seconds. The light of the router blinks."
    name = "How to reset the router password.txt"
    await asyncio.to_thread(add, library, "a.zip", zipped({name: text}))
    question = "How to reset the router password?"
    found = await library.retriever.search(Query(question))
    assert "a.zip" in {hit.chunk.name for hit in found.hits}
    evidence = await library.answerer().evidence(question, found)
    assert {one.chunk.name for one in evidence} == {f"a.zip/{name}"}


def test_an_archive_of_which_nothing_is_read_has_failed(library: Library) -> None:
    add(library, "a.zip", zipped({"a.gif": b"GIF89a" + bytes(9), "b.pdf": b"%PDF-1.7 nothing"}))
    add(library, "empty.zip", zipped({"folder/": b""}))
    shown = documents(library)
    assert shown["a.zip"].status == shown["empty.zip"].status == "failed"
    assert "none of the 2 files" in shown["a.zip"].error
    assert "no files inside" in shown["empty.zip"].error


def test_archives_in_archives_are_read_to_a_depth(library: Library) -> None:
    data, name = zipped({"deep.txt": b"The axolotl is deep."}), "0.zip"
    for level in range(1, 5):
        data = zipped({name: data, f"{level}.txt": f"The fossa lives on level {level}.".encode()})
        name = f"{level}.zip"
    add(library, "top.zip", data)
    shown = documents(library)
    assert shown["top.zip/3.zip/2.zip/2.txt"].status == "ready"
    deepest = shown["top.zip/3.zip/2.zip/1.zip"]
    assert deepest.status == "failed"
    assert "lie in each other" in deepest.error
    assert shown["top.zip"].members == Counts(2, 2)
    assert shown["top.zip/3.zip/2.zip"].members == Counts(2, 1)


def test_the_outermost_archive_bounds_all_that_lie_in_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexer.parse.archives import Limits

    monkeypatch.setattr("indexer.ingest.members.Limits", lambda: Limits(members=6))
    inner = zipped({f"{n}.txt": f"Number {n}.".encode() for n in range(9)})
    add(library, "top.zip", zipped({"a.txt": b"First words.", "in.zip": inner}))
    shown = documents(library)
    assert len(shown) == 1 + 2 + 4
    assert "more than 4 files" in library.catalog.text(shown["top.zip/in.zip"].id, None)


def test_the_same_bytes_are_one_document_wherever_they_lie(library: Library) -> None:
    before = add(library, "before.txt", HANDBOOK["travel.txt"])
    data = zipped({**HANDBOOK, "copy/年假.txt": HANDBOOK["员工手册/年假.txt"]})
    archive = add(library, "a.zip", data)
    shown = documents(library)
    assert set(shown) == {
        "before.txt",
        "a.zip",
        "a.zip/员工手册/年假.txt",
        "a.zip/员工手册/加班.txt",
    }
    assert shown["a.zip"].members == Counts(4, 4)
    text = library.catalog.text(archive.document, None)
    assert "travel.txt (the same as before.txt)" in text
    assert "copy/年假.txt (the same as a.zip/员工手册/年假.txt)" in text
    library.catalog.delete_document(archive.document)
    assert list(documents(library)) == ["before.txt"]
    assert documents(library)["before.txt"].id == before.document


def test_a_member_that_is_uploaded_by_itself_stays_without_its_archive(library: Library) -> None:
    archive = add(library, "a.zip", zipped(HANDBOOK))
    member = documents(library)["a.zip/travel.txt"].id
    again = add(library, "mine.txt", HANDBOOK["travel.txt"])
    assert (again.document, again.duplicate) == (member, True)
    text = library.catalog.text(archive.document, None)
    assert documents(library)["a.zip"].members == Counts(3, 3)
    library.catalog.delete_document(archive.document)
    assert set(documents(library)) == {"mine.txt"}
    assert found(library, "walrus economy") == {"mine.txt"}
    assert "travel.txt" in text


@on_both
def test_deleting_an_archive_takes_its_members_and_leaves_nothing(library: Library) -> None:
    inner = zipped({"inner.txt": b"The quokka smiles."})
    archive = add(library, "a.zip", zipped({**HANDBOOK, "in.zip": inner}))
    receipt = library.catalog.delete_document(archive.document)
    assert (receipt["members"], receipt["versions"], receipt["originals"]) == (5, 6, 6)
    assert found(library, "quokka walrus 年假") == set()
    for table in (DocumentRow, VersionRow, MemberRow, ChunkRow):
        assert rows(library, table) == 0
    assert originals(library) == 0


def test_a_member_that_another_archive_holds_too_goes_over_to_it(library: Library) -> None:
    shared = {"shared.txt": b"The narwhal is shared."}
    first = add(library, "a.zip", zipped({**shared, "a.txt": b"Only in the first."}))
    add(library, "b.zip", zipped({"x/shared.txt": shared["shared.txt"], "b.txt": b"Only in b."}))
    library.catalog.delete_document(first.document)
    shown = documents(library)
    assert set(shown) == {"b.zip", "b.zip/b.txt", "b.zip/x/shared.txt"}
    assert found(library, "narwhal") == {"b.zip/x/shared.txt"}
    assert shown["b.zip"].members == Counts(2, 2)


@on_both
def test_a_new_version_changes_what_changed_drops_what_is_gone_and_leaves_the_rest(
    library: Library,
) -> None:
    add(library, "a.zip", zipped(HANDBOOK))
    before = documents(library)
    new = {
        "员工手册/年假.txt": "员工每年享有二十天带薪年假。".encode(),
        "moved/travel.txt": HANDBOOK["travel.txt"],
        "new.txt": b"The okapi is new.",
    }
    add(library, "a.zip", zipped(new))
    after = documents(library)
    assert set(after) == {"a.zip", *(f"a.zip/{path}" for path in new)}
    assert after["a.zip"].versions == (1, 2)
    changed, moved = after["a.zip/员工手册/年假.txt"], after["a.zip/moved/travel.txt"]
    assert (changed.id, changed.versions) == (before["a.zip/员工手册/年假.txt"].id, (1, 2))
    assert (moved.id, moved.versions) == (before["a.zip/travel.txt"].id, (1,))
    assert found(library, "加班") == set()
    assert found(library, "walrus economy") == {"a.zip/moved/travel.txt"}
    assert "十五" not in library.catalog.text(changed.id, None)


def test_a_new_version_that_is_broken_leaves_the_old_one_as_it_was(library: Library) -> None:
    add(library, "a.tar.gz", tarred(HANDBOOK, "w:gz"))
    before = set(documents(library))
    add(library, "a.tar.gz", tarred({"x": random.Random(1).randbytes(5000)}, "w:gz")[:300])
    shown = documents(library)
    assert set(shown) == before
    assert shown["a.tar.gz"].status == "failed"
    assert shown["a.tar.gz"].live == 1
    assert found(library, "带薪年假")


def test_a_version_that_is_overtaken_before_it_is_read_takes_no_members(library: Library) -> None:
    old = take(library, "a.zip", zipped({"a.txt": b"Old words of the tapir."}))
    take(library, "a.zip", zipped({"a.txt": b"New words of the tapir."}))
    settle(library)
    shown = documents(library)
    assert set(shown) == {"a.zip", "a.zip/a.txt"}
    assert shown["a.zip/a.txt"].versions == (1,)
    assert "New" in library.catalog.text(shown["a.zip/a.txt"].id, None)
    assert library.jobs.get(old.job).status is JobStatus.DONE


def test_an_archive_that_holds_itself_ends(library: Library) -> None:
    """Such files exist (r.zip of Russ Cox); here the bytes are the same by a trick of the unpacking."""
    data = zipped({"a.txt": b"A mirror in a mirror.", "self.zip": b"PK\x05\x06" + bytes(18)})

    def mirror(given: bytes, name: str, kind: str, into: Path, limits: object) -> tuple:
        found = unpack(given, name, kind, into, limits)
        if len(found) < 2:
            return found
        (into / found[1].file).write_bytes(given)
        sha256 = hashlib.sha256(given).hexdigest()
        return found[0], type(found[1])("self.zip", None, found[1].file, sha256, len(given), kind)

    library.ingester._members = Members(library.database, library.folders, mirror)
    archive = add(library, "a.zip", data)
    assert set(documents(library)) == {"a.zip", "a.zip/a.txt"}
    assert "the same as an archive that it lies in" in library.catalog.text(archive.document, None)


def read_once(library: Library) -> None:
    """After a worker's death: its job is given back, and all that it began is there once."""
    library.clock.now += 60
    assert library.jobs.reap() == 1
    library.clock.now += 60
    settle(library)
    shown = documents(library)
    assert set(shown) == {"a.zip", *(f"a.zip/{path}" for path in HANDBOOK)}
    assert {view.versions for view in shown.values()} == {(1,)}
    assert {view.status for view in shown.values()} == {"ready"}
    assert originals(library) == 4
    assert rows(library, MemberRow) == 3
    assert library.jobs.counts() == {"done": 4}


@pytest.mark.parametrize("dies_at", range(2, 6))
def test_a_worker_that_dies_at_any_write_doubles_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    class Killed(BaseException):
        pass

    monkeypatch.setattr("indexer.ingest.members._AT_ONCE", 1)
    archive = take(library, "a.zip", zipped(HANDBOOK))
    write, count = library.database.write, 0

    def dying():
        nonlocal count
        count += 1
        if count == dies_at:
            raise Killed
        return write()

    claim = library.jobs.claim(archive.job)
    monkeypatch.setattr(library.database, "write", dying)
    with pytest.raises(Killed):
        library.ingester.run(claim)
    monkeypatch.setattr(library.database, "write", write)
    read_once(library)


def test_a_worker_killed_between_two_members_doubles_nothing(
    library: Library, tmp_path: Path, database_url: str
) -> None:
    archive = take(library, "a.zip", zipped(HANDBOOK))
    worker = Path(__file__).parents[1] / "fixtures" / "killed_worker.py"
    command = [sys.executable, str(worker), str(tmp_path), database_url, archive.job, "4"]
    paths = os.pathsep.join([str(Path.cwd()), str(worker.parent)])
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert 1 < len(documents(library)) < 4
    read_once(library)


@on_both
def test_an_archive_is_cancelled_and_retried_with_all_that_lies_in_it(library: Library) -> None:
    inner = zipped({"in.txt": b"The quokka smiles.", "on.txt": b"The quokka sleeps."})
    archive = take(library, "a.zip", zipped({"a.txt": b"The walrus sleeps.", "b.zip": inner}))
    library.run(archive.job)
    nested = job_of(library, documents(library)["a.zip/b.zip"].id)
    library.run(nested)
    control = Control(library.database, library.folders)
    assert control.cancel(archive.job) == 5
    settle(library)
    assert library.jobs.counts() == {"cancelled": 5}
    control.retry(archive.job)
    settle(library)
    shown = documents(library)
    assert {view.status for view in shown.values()} == {"ready"}
    assert len(shown) == 5
    assert shown["a.zip"].members == shown["a.zip/b.zip"].members == Counts(2, 2)


def test_an_archive_deleted_while_it_is_unpacked_leaves_nothing(library: Library) -> None:
    archive = take(library, "a.zip", zipped(HANDBOOK))

    def deleted(*given: object) -> tuple:
        library.catalog.delete_document(archive.document)
        return unpack(*given)

    library.ingester._members = Members(library.database, library.folders, deleted)
    settle(library)
    assert documents(library) == {}
    assert originals(library) == 0


def test_an_archive_deleted_while_it_waits_leaves_nothing(library: Library) -> None:
    archive = take(library, "a.zip", zipped(HANDBOOK))
    library.run(archive.job)
    library.run(library.jobs.unsent(stale=False)[0])
    library.catalog.delete_document(archive.document)
    settle(library)
    assert documents(library) == {}
    assert originals(library) == 0
    with pytest.raises(RagError):
        library.jobs.get(archive.job)


def letter(*attached: tuple[str, bytes]) -> bytes:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = "报价单", "a@b.org", "c@d.org"
    message.set_content("各位好：请看附件里的报价。")
    for name, content in attached:
        message.add_attachment(
            content, maintype="application", subtype="octet-stream", filename=name
        )
    return message.as_bytes()


def test_an_attachment_is_a_document_of_its_own(library: Library) -> None:
    inner = zipped({"条款.txt": "付款期限为三十天。".encode()}, codec="gbk")
    add(library, "m.eml", letter(("报价.txt", "滤网单价九十元。".encode()), ("附件.zip", inner)))
    shown = documents(library)
    assert set(shown) == {"m.eml", "m.eml/报价.txt", "m.eml/附件.zip", "m.eml/附件.zip/条款.txt"}
    assert found(library, "滤网单价") == {"m.eml/报价.txt"}
    assert found(library, "付款期限") == {"m.eml/附件.zip/条款.txt"}
    text = library.catalog.text(shown["m.eml"].id, None)
    assert "Attachments: 报价.txt, 附件.zip" in text
    assert "单价" not in text
    assert shown["m.eml"].members == Counts(2, 2)


def test_a_mail_is_read_even_if_its_attachments_are_not(library: Library) -> None:
    add(library, "m.eml", letter(("a.pdf", b"%PDF-1.7 nothing")))
    add(library, "plain.eml", letter())
    shown = documents(library)
    assert shown["m.eml"].status == "ready"
    assert shown["m.eml"].members == Counts(1, 0)
    assert shown["m.eml/a.pdf"].status == "failed"
    assert (shown["plain.eml"].status, shown["plain.eml"].members) == ("ready", None)
