"""The disk turns read-only while files are read: sentences, answers from what is there, and all is done afterwards."""

from pathlib import Path

from fleet import fleet, text
from processes import until
from small_disk import small_disk


def test_a_disk_that_cannot_be_written_for_a_while_costs_no_file(tmp_path: Path) -> None:
    with small_disk() as disk, fleet(disk.path / "data") as processes:
        processes.serve("serve")
        processes.upload([("first.txt", text(0, 2))])
        until(processes.ended, 60)
        processes.upload([(f"{n}.txt", text(n, 60)) for n in (1, 2)])
        until(lambda: processes.running("embed"), 60)
        with disk.read_only():
            refused = processes.api.send("default", ("late.txt", text(3, 1)))
            assert refused.status_code == 503, refused.text
            assert refused.headers["content-type"] == "application/problem+json"
            assert "Read-only file system" in refused.json()["detail"]

            first = processes.rows()["first.txt"].document_id
            kept = processes.api.http.delete(f"/documents/{first}")
            assert kept.status_code == 503, kept.text
            assert "Read-only file system" in kept.json()["detail"]

            def told() -> bool:
                """Both were given back with the reason, or by the reaper where a worker could not even write that."""
                errors = [processes.rows()[f"{n}.txt"].error or "" for n in (1, 2)]
                reasons = ("Read-only", "readonly", "its worker stopped")
                return all(any(reason in error for reason in reasons) for error in errors)

            until(told, 60)
            assert [r.filename for r in processes.rows().values() if r.status == "done"] == [
                "first.txt"
            ]
            hits = processes.api.search("walrus", "default", mode="words", top_k=100)
            assert {hit["filename"] for hit in hits} == {"first.txt"}
        until(processes.ended, 120)
        processes.upload([("late.txt", text(3, 1))])
        until(processes.ended, 60)
        rows = processes.done_once(["first.txt", "1.txt", "2.txt", "late.txt"])
        assert rows["late.txt"].attempts == 1
