"""What a stream of a job's changes says, against a scripted row."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sse_starlette import ServerSentEvent

from app.progress import event_id, job_events, queue_events
from app.rate import Rate
from pipeline.errors import NotFound
from pipeline.types import DocumentId, Job, JobId, JobKind, JobStatus

ROW = Job(
    id=JobId("j"),
    kind=JobKind.INGEST,
    status=JobStatus.QUEUED,
    stage="",
    done=0,
    total=0,
    error=None,
    collection="default",
    document=DocumentId("d"),
    filename="a.txt",
    attempts=0,
    created=1.0,
    updated=1.0,
)
RUNNING = replace(ROW, status=JobStatus.RUNNING, stage="embed", total=40)
STORY = [
    ROW,
    ROW,
    replace(RUNNING, updated=2.0),
    replace(RUNNING, done=10, updated=3.0),
    replace(RUNNING, done=10, updated=3.0),
    replace(RUNNING, done=30, updated=4.0),
    replace(RUNNING, status=JobStatus.DONE, stage="done", done=40, updated=5.0),
]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def scripted(story: Sequence[Job], clock: Clock | None = None):
    left = list(story)

    def read() -> Job:
        if clock is not None:
            clock.now += 1
        return left.pop(0)

    return read


async def sent(events: AsyncIterator[ServerSentEvent]) -> list[tuple[str, dict]]:
    return [(event.id, json.loads(event.data)) async for event in events]


async def test_each_change_is_one_event_and_the_stream_ends_with_the_job() -> None:
    events = await sent(job_events(scripted(STORY), None, every_s=0))
    assert [data["done"] for _, data in events] == [0, 0, 10, 30, 40]
    assert [data["status"] for _, data in events] == ["queued", *["running"] * 3, "done"]
    assert len({name for name, _ in events}) == 5


async def test_a_reader_that_comes_again_gets_what_came_after_its_last_event() -> None:
    seen = event_id(STORY[3])
    events = await sent(job_events(scripted(STORY[3:]), seen, every_s=0))
    assert [data["done"] for _, data in events] == [30, 40]
    assert await sent(job_events(scripted(STORY[-1:]), event_id(STORY[-1]), every_s=0)) == []


async def test_speed_and_time_left_are_those_that_were_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from app import progress

    clock = Clock()
    monkeypatch.setattr(progress, "Rate", lambda: Rate(clock))
    events = await sent(job_events(scripted(STORY, clock), None, every_s=0))
    told = [(data["per_second"], data["seconds_left"]) for _, data in events]
    assert told[:2] == [(None, None)] * 2
    assert told[2] == (10.0, 3.0)
    assert told[3] == (10.0, 1.0)
    assert told[4] == (None, None)


async def test_a_job_that_is_deleted_ends_the_stream_with_its_error() -> None:
    def gone() -> Job:
        raise NotFound("there is no job")

    with pytest.raises(NotFound):
        await sent(job_events(gone, None, every_s=0))


async def test_the_queue_is_told_when_its_numbers_change() -> None:
    left = [{"queued": 2}, {"queued": 2}, {"queued": 1, "running": 1}, {"running": 1, "done": 1}]

    class Over(Exception):
        pass

    def read() -> dict[str, int]:
        if not left:
            raise Over
        return left.pop(0)

    events: list[dict] = []

    async def listen() -> None:
        async for event in queue_events(read, None, every_s=0):
            events.append(json.loads(event.data))

    with pytest.raises(Over):
        await listen()
    assert [event["jobs"]["queued"] for event in events] == [2, 1, 0]
    assert events[-1]["jobs"] == {
        "queued": 0,
        "running": 1,
        "done": 1,
        "failed": 0,
        "cancelled": 0,
        "dead": 0,
    }


@given(st.lists(st.tuples(st.floats(0.01, 30), st.integers(0, 50)), min_size=1, max_size=40))
@settings(deadline=None)
def test_a_rate_is_that_of_the_last_minute_and_never_negative(steps) -> None:
    clock, done, seen = Clock(), 0, []
    rate = Rate(clock)
    for seconds, more in steps:
        clock.now += seconds
        done += more
        seen.append((clock.now, done))
        speed = rate.of(done)
        assert speed is None or speed > 0
    assert rate.of(0) is None or done == 0
    window = [(at, count) for at, count in seen if at > clock.now - 60]
    if speed is not None and len(window) == len(seen):
        (begun, first), (now, last) = seen[0], seen[-1]
        assert speed == pytest.approx((last - first) / (now - begun))
