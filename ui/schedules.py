"""What begins by the clock: the schedules of a collection, and a form that adds one."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app.client import ApiClient
from app.job_schemas import JobOut, ScheduleOut, ScheduleRequest, zone_of
from app.problems import ApiProblem
from ui.render import notice, problem_html
from ui.tables import confirm, moment
from ui.wiring import CLICKS, named, quietly, words_of
from ui.words import Words

KINDS = ("watch", "expire", "reindex", "merge", "backup")
SHOWN = 20
ZONE = "() => Intl.DateTimeFormat().resolvedOptions().timeZone || 'UTC'"
"""The browser's time zone, in which its reader thinks."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """The components of the panel."""

    list: gr.HTML
    form: gr.Accordion
    kind: gr.Dropdown
    about: gr.Textbox
    when: gr.Textbox
    zone: gr.Textbox
    add: gr.Button


def schedules_panel(i18n: gr.I18n) -> Timetable:
    """Lays the panel out."""
    gr.HTML(elem_classes="zn-title", value=i18n("schedules"), apply_default_css=False)
    shown = gr.HTML(elem_id="zn-schedules", js_on_load=CLICKS, apply_default_css=False)

    def box(name: str) -> gr.Textbox:
        return gr.Textbox(
            show_label=False,
            label=i18n(name),
            placeholder=i18n(name),
            max_length=1000,
            max_lines=1,
            container=False,
            min_width=120,
            elem_id=f"zn-{name.replace('_', '-')}",
        )

    with gr.Accordion(i18n("schedule_new"), open=False, elem_id="zn-schedule-new") as form:
        kind = gr.Dropdown(
            choices=list(KINDS),
            value=KINDS[0],
            label=i18n("schedule_kind"),
            show_label=False,
            container=False,
            filterable=False,
            min_width=120,
            elem_id="zn-schedule-kind",
        )
        about = box("schedule_folder")
        with gr.Row():
            when = box("schedule_when")
            zone = box("schedule_zone")
        gr.HTML(elem_classes="zn-hint", value=i18n("schedule_hint"), apply_default_css=False)
        add = gr.Button(i18n("schedule_add"), elem_id="zn-schedule-add")
    return Timetable(shown, form, kind, about, when, zone, add)


def wire_schedules(
    client: ApiClient,
    panel: Timetable,
    collection: gr.Dropdown,
    said: gr.HTML,
    refresh: gr.Button,
    timer: gr.Timer,
) -> None:
    """Binds the panel to the API, to where the page says what was done, and to the timer of what schedules begin."""
    asking = gr.State("")

    async def listed(chosen: str, request: gr.Request) -> tuple[str, str]:
        return "", await timetable(client, chosen, words_of(request))

    async def looked(asks: str, chosen: str, request: gr.Request) -> str:
        return await timetable(client, chosen, words_of(request), asking=asks)

    async def asked(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[str, str]:
        asks = named(event, "schedule")
        return asks, await timetable(client, chosen, words_of(request), asking=asks)

    async def removed(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[str, str]:
        words = words_of(request)
        try:
            await client.remove_schedule(named(event, "schedule"))
            message = notice(words.schedule_removed)
        except ApiProblem as problem:
            message = problem_html(problem, words)
        return message, await timetable(client, chosen, words)

    async def added(
        kind: str, about: str, when: str, zone: str, chosen: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        try:
            made = await client.add_schedule(asked_for(kind, about, when, zone, chosen))
        except ApiProblem as problem:
            return problem_html(problem, words), gr.skip(), gr.skip(), gr.skip()
        name = words.kinds.get(made.kind, made.kind)
        message = notice(
            words.schedule_added.format(kind=name, when=moment(made.next, zone_of(made)))
        )
        return message, await timetable(client, chosen, words), "", ""

    def needed(kind: str, request: gr.Request) -> dict[str, object]:
        words = words_of(request)
        asks = {"watch": words.schedule_folder, "expire": words.schedule_days}.get(kind)
        return gr.update(visible=asks is not None, placeholder=asks or "", value="")

    filled = [panel.kind, panel.about, panel.when, panel.zone]
    looking = [panel.list.clear, collection.change, refresh.click]
    quietly(looking, listed, [collection], [asking, panel.list], trigger_mode="always_last")
    quietly([timer.tick], looked, [asking, collection], [panel.list])
    quietly([panel.list.delete], asked, [collection], [asking, panel.list])
    quietly([panel.list.submit], removed, [collection], [said, panel.list])
    quietly(
        [panel.add.click, panel.when.submit, panel.about.submit],
        added,
        [*filled, collection],
        [said, panel.list, panel.about, panel.when],
    )
    quietly([panel.kind.change], needed, [panel.kind], [panel.about])
    panel.form.expand(
        None, None, [panel.zone], js=ZONE, show_progress="hidden", api_visibility="private"
    )


def kinds_menu(words: Words) -> dict[str, object]:
    """The update of the form's menu: what can be scheduled, in the reader's language."""
    return gr.update(choices=[(words.kinds[kind], kind) for kind in KINDS], value=KINDS[0])


def asked_for(kind: str, about: str, when: str, zone: str, collection: str) -> ScheduleRequest:
    """The request that a filled form makes; what is wrong with it, the API says."""
    payload: dict[str, Any] = {}
    if kind == "watch":
        payload = {"folder": about.strip()}
    elif kind == "expire":
        payload = {"days": _number(about)}
    asked: dict[str, Any] = {
        "kind": kind,
        "when": when.strip(),
        "zone": zone.strip() or "UTC",
        "collection": None if kind == "backup" else collection,
        "payload": payload,
    }
    return ScheduleRequest.model_construct(**asked)


def _short(days: object) -> str:
    return f"{days:g}" if isinstance(days, float) else str(days)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text.strip()


async def timetable(
    client: ApiClient, collection: str, words: Words, *, asking: str | None = None
) -> str:
    """The panel as HTML: the collection's schedules and those of everything, each with how its last job ended."""
    try:
        every = (await client.schedules()).schedules
    except ApiProblem as problem:
        return problem_html(problem, words)
    mine = [one for one in every if one.collection in (collection, "")]
    shown = mine[:SHOWN]

    async def last(one: ScheduleOut) -> JobOut | None:
        try:
            return await client.job(one.job_id) if one.job_id else None
        except ApiProblem:
            return None

    jobs = await asyncio.gather(*map(last, shown))
    known = {job.id: job for job in jobs if job is not None}
    return schedules_html(shown, known, words, asking=asking, more=len(mine) - len(shown))


def schedules_html(
    schedules: Sequence[ScheduleOut],
    jobs: Mapping[str, JobOut],
    words: Words,
    *,
    asking: str | None = None,
    more: int = 0,
) -> str:
    """Schedules, the next one first; `asking` is the one whose removal waits for a yes."""
    if not schedules:
        return f'<div class="zn-hint">{words.schedules_none}</div>'
    rows = "".join(_schedule(one, jobs, words, asked=one.id == asking) for one in schedules)
    note = f'<p class="zn-note">{words.schedules_more.format(count=more)}</p>' if more else ""
    return f'<div class="zn-uploads">{rows}</div>{note}'


def _schedule(one: ScheduleOut, jobs: Mapping[str, JobOut], words: Words, *, asked: bool) -> str:
    name = words.kinds.get(one.kind, one.kind)
    about = one.payload.get("folder", "")
    if "days" in one.payload:
        about = words.schedule_after.format(count=_short(one.payload["days"]))
    job = jobs.get(one.job_id or "")
    due = f"{one.when} · {one.zone} · {words.schedule_next.format(when=moment(one.next, zone_of(one)))}"
    last = ""
    if one.last is not None:
        state = words.states.get(job.status, job.status) if job else ""
        told = f"{words.schedule_last.format(when=moment(one.last, zone_of(one)))} {state}".strip()
        last = f'<span class="zn-job-result">{escape(told)}</span>'
    bad = job is not None and job.status in ("failed", "dead")
    error = f'<span class="zn-row-error">{escape(job.error or "")}</span>' if job and bad else ""
    remove = (
        ""
        if asked
        else f' <button type="button" class="zn-quiet" data-event="delete" data-schedule="{escape(one.id)}">'
        f"{words.schedule_remove}</button>"
    )
    question = words.schedule_remove_ask.format(kind=name, when=one.when)
    below = confirm(question, "schedule", one.id, words, yes=words.schedule_remove) if asked else ""
    of = f'{escape(name)} <bdi class="zn-file">{escape(str(about))}</bdi>'
    return (
        f'<div class="zn-upload zn-schedule"><span>{of}</span>'
        f'<span class="zn-upload-line">{remove}</span>'
        f'<span class="zn-job-result">{escape(due)}</span>{last}{error}{below}</div>'
    )
