"""The whole application on PostgreSQL: it answers, survives what dies around it, and tells nobody the password."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from databases import PASSWORD, Cluster, on_postgresql
from processes import children_of, until
from rest import Api

from app.running import free_port, running_server

OPTIONS = ("--no-samples", "--role", "api")
LIGHTHOUSE = b"The lighthouse of Hook Head was lit in the year 1207. It stands in Ireland."
LONG = "\n\n".join(
    f"Paragraph {n}: the walrus number {n} sleeps on the ice." * 6 for n in range(40)
)


@pytest.fixture
def data(tmp_path: Path, e5_folder: Path) -> Path:
    """A data folder that has the embedding model already."""
    (tmp_path / "models").symlink_to(e5_folder.parent)
    return tmp_path


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@on_postgresql
def test_uploads_answers_deletes_crashes_and_restarts(
    data: Path, database_url: str, postgresql: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    environment = {"DATABASE_URL": database_url, "ZHINAO_WORKER_PROCESSES": "1"}
    with running_server(data, options=OPTIONS, environment=environment) as server:
        api = Api(server.url)
        lighthouse, leave = api.upload(
            "default",
            ("lighthouse.txt", LIGHTHOUSE),
            ("休假.txt", "员工每年享有十五天带薪年假。".encode()),
        )
        assert {lighthouse["job"]["status"], leave["job"]["status"]} == {"done"}
        assert api.search("十五天年假", "default")[0]["filename"] == "休假.txt"
        answer = api.ask("When was the lighthouse of Hook Head lit?", "default")
        [citation] = answer["citations"]
        text = api.text(citation["document_id"], citation["version"])
        assert text[citation["start"] : citation["end"]] == citation["quote"]
        assert "1207" in citation["quote"]

        api.http.delete(f"/documents/{leave['id']}").raise_for_status()
        assert all(hit["filename"] != "休假.txt" for hit in api.search("十五天年假", "default"))

        row = api.send("default", ("walrus.txt", LONG.encode())).json()["documents"][0]
        until(lambda: api.http.get(f"/jobs/{row['job_id']}").json()["stage"] == "embed", 60)
        for pid, command in children_of(server.process.pid).items():
            if "celery" in command:
                os.kill(pid, signal.SIGKILL)
        ended = api.ended(row["job_id"])
        assert (ended["status"], ended["attempts"]) == ("done", 2)
        hits = api.search("walrus number 23", "default", top_k=100, mode="words")
        assert len({hit["chunk_id"] for hit in hits}) == len(hits) == ended["total"]

        postgresql.stop()
        away = api.http.get("/health/ready")
        assert away.status_code == 503
        assert "zhinao@" in away.json()["parts"]["database"]
        asked = api.http.post("/search", json={"query": "walrus"})
        assert (asked.status_code, asked.headers["content-type"]) == (
            503,
            "application/problem+json",
        )
        postgresql.start()
        assert api.http.get("/health/ready").status_code == 200
        said = away.text + asked.text
        api.http.close()
        server.process.kill()

    with running_server(data, options=OPTIONS, environment=environment) as server:
        api = Api(server.url)
        assert api.search("lighthouse", "default")[0]["filename"] == "lighthouse.txt"
        assert api.upload("default", ("new.txt", b"A violin hangs on the wall."))[0]["job"][
            "status"
        ] == "done"  # fmt: skip
        api.http.close()
        doctor = run("doctor", "--json", "--url", server.url, ZHINAO_DATA=str(data), **environment)
    checks = {check["part"]: check for check in json.loads(doctor.stdout)}
    assert checks["database"]["ok"]
    assert checks["database"]["says"].startswith("PostgreSQL ")
    said += doctor.stdout + doctor.stderr + "".join(capfd.readouterr())
    assert PASSWORD not in said
    assert "s3cret" not in said
    assert not list(data.glob("zhinao.db*"))


def test_a_server_whose_database_does_not_answer_says_so(data: Path) -> None:
    url = f"postgresql://rag:s3cret@127.0.0.1:{free_port()}/docs"
    done = run(
        *("serve", "--port", str(free_port()), "--data", str(data)), *OPTIONS, DATABASE_URL=url
    )
    assert done.returncode == 1
    assert "the database postgresql://rag@127.0.0.1" in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
