"""The schedules of a collection on the page: what is shown, what the form asks for, and errors."""

import json

import httpx
import pytest
from scripted_jobs import job

from app.client import ApiClient
from app.job_schemas import ScheduleOut
from ui.schedules import asked_for, schedules_html, timetable
from ui.words_en import ENGLISH
from ui.words_zh import CHINESE


def schedule(id_: str, kind: str = "merge", **how: object) -> ScheduleOut:
    made = ScheduleOut(
        id=id_, kind=kind, collection="default", when="at 03:00", zone="Asia/Shanghai", payload={},
        next=1_800_000_000, last=None, job_id=None,
    )  # fmt: skip
    return made.model_copy(update=how)


def test_each_says_what_it_does_when_and_how_the_last_ended() -> None:
    rows = [
        schedule("w", "watch", payload={"folder": "/data/<docs>"}, last=1_799_999_000, job_id="j1"),
        schedule("e", "expire", payload={"days": 365.0}),
        schedule("b", "backup", collection="", last=1_799_999_000, job_id="gone"),
    ]
    jobs = {"j1": job("j1", "failed", error="<no> such folder")}
    html = schedules_html(rows, jobs, CHINESE)
    for words in (
        '同步文件夹 <bdi class="zn-file">/data/&lt;docs&gt;</bdi>',
        "at 03:00 · Asia/Shanghai · 下次 2027-01-15 16:00",
        " 失败<",
        "&lt;no&gt; such folder",
        "超过 365 天",
        "备份",
    ):
        assert words in html
    assert html.count('data-event="delete"') == 3
    assert "上次 2027-01-15" in html


def test_a_removal_is_asked_about_and_only_of_the_one_that_was_named() -> None:
    html = schedules_html([schedule("a"), schedule("b")], {}, ENGLISH, asking="b", more=3)
    assert html.count('data-event="submit"') == html.count('data-event="clear"') == 1
    assert 'data-event="submit" data-schedule="b"' in html
    assert html.count('data-event="delete"') == 1
    assert "Remove the schedule “Merging the index” (at 03:00)?" in html
    assert "3 more are not shown." in html


@pytest.mark.parametrize(
    ("kind", "about", "payload", "collection"),
    [
        ("watch", " /data/docs ", {"folder": "/data/docs"}, "mine"),
        ("expire", "365", {"days": 365}, "mine"),
        ("expire", "0.5", {"days": 0.5}, "mine"),
        ("expire", "soon", {"days": "soon"}, "mine"),
        ("merge", "/left/over", {}, "mine"),
        ("backup", "", {}, None),
    ],
)
def test_the_form_asks_for_what_its_kind_needs_and_no_more(
    kind, about, payload, collection
) -> None:
    asked = asked_for(kind, about, " every 1d ", "", "mine")
    assert asked.model_dump() == {
        "kind": kind, "when": "every 1d", "zone": "UTC", "collection": collection, "payload": payload,
    }  # fmt: skip


async def test_those_of_other_collections_are_left_out_and_a_lost_job_harms_nothing() -> None:
    rows = [
        schedule("a", job_id="j", last=1.0),
        schedule("lost", "expire", job_id="lost", last=1.0),
        schedule("b", "reindex", collection="other"),
        schedule("c", "backup", collection=""),
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        match request.url.path:
            case "/schedules":
                return httpx.Response(200, json={"schedules": [row.model_dump() for row in rows]})
            case "/jobs/j":
                return httpx.Response(200, json=job("j", "done").model_dump())
            case _:
                body = {"type": "t", "title": "T", "status": 404, "detail": "there is no job"}
                return httpx.Response(404, content=json.dumps(body))

    client = ApiClient("http://api", httpx.MockTransport(answer))
    html = await timetable(client, "default", ENGLISH)
    for words in ("Merging the index", "Expiry", "Backup", " done<"):
        assert words in html
    assert "Re-index" not in html
    assert "Backup" in await timetable(client, "third", ENGLISH)
    away = ApiClient("http://api", httpx.MockTransport(lambda request: httpx.Response(502)))
    assert "zn-problem" in await timetable(away, "default", ENGLISH)
    assert ENGLISH.schedules_none in schedules_html([], {}, ENGLISH)
