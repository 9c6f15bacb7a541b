import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from databases import on_both
from library import Library

from indexer.jobs.claims import Claim
from indexer.jobs.work import Say, Superseded, Teller
from models.fakes import HashEmbedder
from pipeline.errors import Unavailable
from pipeline.types import Embeddings, JobStatus, Parsed, Passage
from workers.main import stopping
from workers.tasks import run, work


@pytest.fixture
def library(tmp_path: Path, database_url: str) -> Iterator[Library]:
    made = Library.open(tmp_path, database_url)
    yield made
    made.close()


@on_both
def test_a_job_says_why_it_waits_when_the_models_cannot_be_built(
    library: Library, tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    assert job is not None
    (tmp_path / "models").write_text("a file where the models' folder belongs")
    monkeypatch.setenv("ZHINAO_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", database_url)
    run(job)
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.QUEUED, 1)
    assert row.error
    assert "models" in row.error
    assert row.error_type == "ModelUnavailable"


class Slow(HashEmbedder):
    """Takes a while for each batch, and says when it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.pause = 0.5

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        self.begun.set()
        await asyncio.sleep(self.pause)
        return await super().embed_passages(passages)


@on_both
def test_a_worker_that_is_told_to_end_hands_its_job_back_and_the_next_one_does_it(
    library: Library,
) -> None:
    slow = library.ingester._embedder = Slow()
    text = "\n\n".join(f"Walrus {n} sleeps on the ice. " * 12 for n in range(200))
    job = library.take("long.txt", text).job
    claim = library.jobs.claim(job)
    worker = threading.Thread(target=work, args=(library.jobs, library.ingester, claim))
    worker.start()
    try:
        assert slow.begun.wait(30)
        stopping.set()
        worker.join(30)
        assert not worker.is_alive()
    finally:
        stopping.clear()
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.QUEUED, 0)
    assert list(library.jobs.unsent(stale=False)) == [job]
    slow.pause = 0
    work(library.jobs, library.ingester, library.jobs.claim(job))
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.DONE, 1)


class Endless:
    """Implements Parser: reads until it is interrupted."""

    media_types = frozenset({"text/plain"})

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    def parse(self, data: bytes, name: str) -> Parsed:
        self.begun.set()
        assert self.over.wait(30)
        raise Unavailable("the reading was ended")

    def interrupt(self) -> None:
        self.over.set()


@on_both
def test_a_reading_ends_when_its_job_is_cancelled(library: Library) -> None:
    endless = library.ingester._parser = Endless()
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    worker = threading.Thread(
        target=work, args=(library.jobs, library.ingester, library.jobs.claim(job))
    )
    worker.start()
    assert endless.begun.wait(30)
    library.control.cancel(job)
    worker.join(30)
    assert not worker.is_alive()
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.CANCELLED, 1)


@on_both
def test_an_embedding_ends_when_its_job_is_cancelled_and_the_next_job_is_done(
    library: Library,
) -> None:
    slow = library.ingester._embedder = Slow()
    slow.pause = 600
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    worker = threading.Thread(
        target=work, args=(library.jobs, library.ingester, library.jobs.claim(job))
    )
    worker.start()
    assert slow.begun.wait(30)
    library.control.cancel(job)
    worker.join(30)
    assert not worker.is_alive()
    row = library.jobs.get(job)
    assert (row.status, row.attempts) == (JobStatus.CANCELLED, 1)
    slow.pause = 0
    following = library.take("b.txt", "The teapot stands in the kitchen.").job
    work(library.jobs, library.ingester, library.jobs.claim(following))
    assert library.jobs.get(following).status is JobStatus.DONE


class Late(Endless):
    """Begins to read only after it was told to stop: what stops it must come again."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0

    def interrupt(self) -> None:
        self.told += 1
        if self.told > 1:
            self.over.set()


def test_a_reading_that_begins_just_when_its_job_is_cancelled_ends_too(library: Library) -> None:
    late = library.ingester._parser = Late()
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    claim = library.jobs.claim(job)
    worker = threading.Thread(target=work, args=(library.jobs, library.ingester, claim))
    worker.start()
    assert late.begun.wait(30)
    library.control.cancel(job)
    worker.join(30)
    assert not worker.is_alive()


def test_cutting_a_long_text_ends_when_its_job_is_cancelled(library: Library) -> None:
    counted = threading.Event()
    count = library.embedder.count_tokens

    class Patient(HashEmbedder):
        calls = 0

        def count_tokens(self, text: str) -> int:
            Patient.calls += 1
            counted.set()
            assert cancelled.wait(30)
            time.sleep(0.01)
            return count(text)

    cancelled = threading.Event()
    library.ingester._embedder = Patient()
    text = "\n\n".join(f"Walrus {n} sleeps on the ice. " * 12 for n in range(3_000))
    job = library.take("long.txt", text).job
    worker = threading.Thread(
        target=work, args=(library.jobs, library.ingester, library.jobs.claim(job))
    )
    worker.start()
    assert counted.wait(60)
    library.control.cancel(job)
    cancelled.set()
    worker.join(60)
    assert not worker.is_alive()
    assert Patient.calls < 3_000


def test_a_database_that_is_away_is_a_warning_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "models").write_text("a file where the models' folder belongs")
    monkeypatch.setenv("ZHINAO_DATA", str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", "postgresql://rag:s3cret@127.0.0.1:9/docs")
    run("some-job")
    assert "postgresql://rag@127.0.0.1:9/docs does not answer" in caplog.text
    assert "sent again by itself" in caplog.text
    assert "s3cret" not in caplog.text


@on_both
def test_progress_does_not_go_back_when_a_job_is_done_again(library: Library) -> None:
    job = library.take("a.txt", "The walrus sleeps on the ice.").job

    def told() -> tuple[str, int]:
        row = library.jobs.get(job)
        return row.stage, row.done

    times = iter(range(100))

    def teller() -> Teller:
        return Teller(library.jobs, library.jobs.claim(job), clock=lambda: next(times))

    first = teller()
    first("parse")
    first("embed", 7, 20)
    library.clock.now += 60
    assert library.jobs.reap() == 1
    library.clock.now += 60
    second = teller()
    seen = [told()]
    for stage, done in (("parse", 0), ("chunk", 0), ("embed", 3), ("embed", 9), ("publish", 20)):
        second(stage, done, 20)
        seen.append(told())
    assert seen == [*[("embed", 7)] * 4, ("embed", 9), ("publish", 20)]
    with pytest.raises(Superseded):
        first("publish", 20, 20)
    library.control.cancel(job)
    with pytest.raises(Superseded):
        second("parse", 0, 0)
    library.control.retry(job)
    again = teller()
    again("parse")
    assert told() == ("parse", 0)  # as if it were new


@on_both
def test_what_is_said_within_half_a_second_is_told_with_the_next_breath(library: Library) -> None:
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    say = Teller(library.jobs, library.jobs.claim(job), clock=lambda: 0.0)

    def told() -> tuple[str, int, int]:
        row = library.jobs.get(job)
        return row.stage, row.done, row.total

    say("parse")
    say("chunk")
    say("embed", 3, 9)
    assert told() == ("parse", 0, 0)
    assert say.breathe()
    assert told() == ("embed", 3, 9)
    library.control.cancel(job)
    say("embed", 4, 9)
    assert not say.breathe()
    assert told() == ("embed", 3, 9)


class Mistaken:
    """Implements Handler: falls over behind its third stage, at once."""

    def run(self, claim: Claim, say: Say) -> None:
        for stage in ("parse", "chunk", "embed"):
            say(stage)
        raise ZeroDivisionError

    def interrupt(self) -> None: ...


@on_both
def test_a_job_that_fails_says_at_which_stage_however_soon(library: Library) -> None:
    job = library.take("a.txt", "The walrus sleeps on the ice.").job
    work(library.jobs, Mistaken(), library.jobs.claim(job))
    row = library.jobs.get(job)
    assert (row.status, row.stage) == (JobStatus.FAILED, "embed")
    assert "ZeroDivisionError" in row.error
