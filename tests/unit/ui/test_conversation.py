"""How an exchange grows, what of it is sent along later, and how files and jobs are followed."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.client import ApiClient
from ui.conversation import REMEMBERED, exchanged, history, opening
from ui.render import Exchange
from ui.samples import QUESTIONS
from ui.uploads import followed, send
from ui.words import Language
from ui.words_en import ENGLISH
from ui.words_zh import CHINESE


@pytest.fixture
async def client(api) -> AsyncIterator[ApiClient]:
    made = ApiClient("http://api", httpx.ASGITransport(app=api.app()))
    yield made
    await made.aclose()


async def seen(client: ApiClient, question: str, so_far=()) -> list[Exchange]:
    return [one async for one in exchanged(client, question, so_far, "default")]


async def test_an_exchange_shows_the_question_then_the_passages_then_the_text_then_the_answer(
    client,
) -> None:
    steps = await seen(client, "年假？")
    assert [step.open for step in steps] == [True] * (len(steps) - 1) + [False]
    assert steps[0] == Exchange("年假？")
    assert steps[1].found == 2
    assert steps[-2].text == steps[-1].text != ""
    assert steps[-1].answer is not None


@pytest.mark.parametrize("question", ["break", "silence"])
async def test_an_exchange_that_fails_ends_with_the_problem(client, question: str) -> None:
    last = (await seen(client, question))[-1]
    assert last.problem is not None
    assert not last.open


async def test_answered_exchanges_are_sent_along_and_others_are_not(client, api) -> None:
    (*_, answered) = await seen(client, "one")
    (*_, refused) = await seen(client, "refuse")
    (*_, broken) = await seen(client, "break")
    stopped = replace(Exchange("stopped"), stopped=True)
    await seen(client, "two", (answered, refused, broken, stopped))
    sent = [(turn.role, turn.content) for turn in api.asked[-1].history]
    assert answered.answer is not None
    assert sent == [("user", "one"), ("assistant", answered.answer.answer)]


async def test_only_the_last_exchanges_are_sent_along(client) -> None:
    (*_, answered) = await seen(client, "?")
    many = tuple(replace(answered, question=str(number)) for number in range(REMEMBERED + 5))
    turns = history(many)
    assert len(turns) == 2 * REMEMBERED
    assert turns[0].content == "5"


async def test_the_welcome_offers_what_the_samples_answer_and_says_when_nothing_is_there(
    client, api
) -> None:
    name, question = next(iter(QUESTIONS[Language.CHINESE].items()))
    one = next(iter(api.documents))
    api.documents[one] = api.documents[one].model_copy(update={"filename": name})
    assert question in await opening(client, "default", CHINESE)
    assert ENGLISH.empty_no_documents in await opening(client, "other", ENGLISH)
    for id_, known in api.documents.items():
        api.documents[id_] = known.model_copy(update={"version": None, "status": "processing"})
    waiting = await opening(client, "default", ENGLISH)
    assert ENGLISH.empty_waiting in waiting
    assert question not in waiting


async def test_files_leave_the_temporary_folder_whatever_becomes_of_them(
    client, tmp_path: Path
) -> None:
    good, empty = tmp_path / "0", tmp_path / "1"
    good.write_text("text", encoding="utf-8")
    empty.touch()
    chosen = [("good.txt", str(good)), ("empty.txt", str(empty)), ("lost.txt", str(tmp_path / "2"))]
    uploads = [upload async for upload in send(client, chosen, "default")]
    assert [upload.sent.filename for upload in uploads] == ["good.txt", "empty.txt", "lost.txt"]
    assert [upload.open for upload in uploads] == [True, False, False]
    assert all(upload.sent.error for upload in uploads[1:])
    assert not any(path.exists() for path in (good, empty))


async def test_a_job_is_followed_to_its_end_and_then_left_alone(
    client, api, tmp_path: Path
) -> None:
    path = tmp_path / "0"
    path.write_text("text", encoding="utf-8")
    uploads = tuple([upload async for upload in send(client, [("a.txt", str(path))], "default")])
    stages = []
    while uploads[0].open:
        uploads = await followed(client, uploads)
        assert uploads[0].job is not None
        stages.append((uploads[0].job.status, uploads[0].job.done))
    assert stages == [
        ("running", 0),
        ("running", 7),
        ("running", 14),
        ("running", 20),
        ("done", 20),
    ]
    api.jobs.clear()
    assert await followed(client, uploads) == uploads


async def test_a_job_that_is_gone_is_said_and_no_longer_followed(
    client, api, tmp_path: Path
) -> None:
    path = tmp_path / "0"
    path.write_text("text", encoding="utf-8")
    uploads = tuple([upload async for upload in send(client, [("a.txt", str(path))], "default")])
    api.jobs.clear()
    (upload,) = await followed(client, uploads)
    assert not upload.open
    assert upload.sent.error == "There is no such job."
