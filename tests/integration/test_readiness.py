"""`/health/ready` against real stores, a real child and model servers on loopback."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from databases import on_both
from library import Library
from scripted_openai import ScriptedOpenAI
from sqlmodel import update

from app.children import Children, Program
from app.disk import FREE_BYTES
from app.looks import Looks
from app.main import routed
from app.metrics import IDLE_S
from app.running import free_port
from app.settings import load
from indexer.jobs.jobs import Jobs
from indexer.sql.database import Database
from indexer.sql.tables import JobRow
from pipeline.types import JobKind


class Queue:
    """Implements JobQueue: nothing waits."""

    def submit(self, job_id: str, *, queue: str) -> None:
        raise AssertionError("nothing is sent")

    def waiting(self, queue: str = "ingest") -> int:
        return 0


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.stop()


def ready(
    library: Library, *, database: Database | None = None, children: Children | None = None
) -> tuple[int, dict[str, str]]:
    """The status and the parts, as a server on this library says them at its first look."""
    core = SimpleNamespace(
        settings=load(data=library.folder),
        folders=library.folders,
        database=database or library.database,
        jobs=Jobs(database or library.database),
    )
    services = SimpleNamespace(
        core=core, embedder=library.embedder, answerer=SimpleNamespace(model="extractive")
    )
    api = routed()
    api.state.zhinao = SimpleNamespace(
        services=services, queue=Queue(), children=children, looks=Looks(wait_s=30)
    )

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(api), base_url="http://test"
        ) as client:
            return await client.get("/health/ready")

    told = asyncio.run(asked())
    assert told.json()["ready"] is (told.status_code == 200)
    return told.status_code, told.json()["parts"]


@on_both
def test_a_server_with_models_of_its_own_is_ready(library: Library) -> None:
    assert ready(library) == (
        200,
        {"database": "ok", "queue": "ok", "embedder": "ok", "disk": "ok", "worker": "none here"},
    )


def test_a_database_that_only_reads_is_no_good_for_uploads(
    library: Library, tmp_path: Path
) -> None:
    with library.database.read() as session:
        session.get(JobRow, "a")
    reading = Database(f"sqlite:///file:{tmp_path / 'zhinao.db'}?mode=ro&uri=true")
    status, parts = ready(library, database=reading)
    reading.close()
    assert status == 503
    assert "takes no writes" in parts["database"]


def test_a_disk_with_little_room_is_no_good_for_uploads(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(library.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=FREE_BYTES - 1))
    status, parts = ready(library)
    assert status == 503
    assert parts["disk"].startswith("499 MiB are free at ")


@pytest.mark.parametrize("role", ["EMBEDDER", "NEXT_EMBEDDER", "RERANKER", "CHAT"])
def test_each_model_server_is_asked(
    library: Library, monkeypatch: pytest.MonkeyPatch, role: str, scripted_openai: ScriptedOpenAI
) -> None:
    monkeypatch.setenv(f"ZHINAO_{role}__URL", scripted_openai.url)
    monkeypatch.setenv(f"ZHINAO_{role}__NAME", "some-model")
    if "EMBEDDER" in role:
        monkeypatch.setenv(f"ZHINAO_{role}__TOKENIZER", "tokenizer.json")
        monkeypatch.setenv(f"ZHINAO_{role}__DIM", "4")
    assert ready(library)[0] == 200
    gone = f"http://127.0.0.1:{free_port()}/v1"
    monkeypatch.setenv(f"ZHINAO_{role}__URL", gone)
    status, parts = ready(library)
    assert status == 503
    assert parts.pop(role.lower()) == (
        f"{gone} does not answer: start that server, or mend ZHINAO_{role}__URL"
    )
    assert all(says == "ok" for part, says in parts.items() if part != "worker")


@on_both
def test_each_child_and_each_queue_without_a_worker_is_told_and_none_makes_a_503(
    library: Library, children: Children
) -> None:
    for name in ("redis", "worker", "worker index"):
        children.start(Program(name, ["/bin/sleep", "600"]))
    status, parts = ready(library, children=children)
    assert (status, parts["redis"], parts["worker"], parts["worker index"]) == (200, *["ok"] * 3)
    assert "worker train" not in parts
    for kind in (JobKind.WATCH, JobKind.EVALUATE):
        library.jobs.submit(kind, collection="default")
    with library.database.write() as session:
        session.execute(update(JobRow).values(updated=time.time() - 2 * IDLE_S))
    status, parts = ready(library, children=children)
    assert (status, parts["redis"], parts["worker index"]) == (200, "ok", "ok")
    assert parts["worker"].endswith("no worker takes them: start one with zhinao worker")
    assert parts["worker train"].endswith("start one with zhinao worker --queue train")
