"""What is done to a collection besides reading its files: jobs with progress, and the controls that begin some."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from app.client import ApiClient
from app.job_schemas import EvaluateRequest, JobOut, ReindexRequest
from app.problems import ApiProblem
from ui.progress import ENDED_BADLY, OVER, bar, share, stage
from ui.render import notice, problem_html
from ui.tables import collection_label, confirm, moment
from ui.wiring import CLICKS, named, quietly, words_of
from ui.words import Words

KINDS = ("reindex", "evaluate", "merge", "backup", "delete", "watch", "expire", "sft")
"""Files have a list of their own."""
SHOWN = 6
_POLLED_EVERY = 2.0
_LOOKED_THROUGH = 100


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The components of the panel."""

    list: gr.HTML
    timer: gr.Timer


def upkeep_panel(i18n: gr.I18n) -> Upkeep:
    """Lays the panel out."""
    gr.HTML(elem_classes="zn-title", value=i18n("upkeep"), apply_default_css=False)
    shown = gr.HTML(elem_id="zn-jobs", js_on_load=CLICKS, apply_default_css=False)
    return Upkeep(shown, gr.Timer(_POLLED_EVERY, active=False))


def wire_upkeep(
    client: ApiClient, panel: Upkeep, collection: gr.Dropdown, said: gr.HTML, refresh: gr.Button
) -> None:
    """Binds the panel to the API, and to where the page says what was done."""

    async def looked(chosen: str, request: gr.Request) -> tuple[object, ...]:
        html, going = await upkeep(client, chosen, words_of(request))
        return html, gr.Timer(active=going)

    async def asked(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[object, ...]:
        # The timer stands still meanwhile: a redrawn list would take the question away.
        html, _ = await upkeep(client, chosen, words_of(request), asking=named(event, "act"))
        return html, gr.Timer(active=False)

    async def begun(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[object, ...]:
        words = words_of(request)
        try:
            job = await _begin(client, named(event, "act"), chosen)
            message = notice(words.begun.format(kind=words.kinds.get(job.kind, job.kind)))
        except ApiProblem as problem:
            message = problem_html(problem, words)
        html, going = await upkeep(client, chosen, words)
        return message, html, gr.Timer(active=going)

    async def stopped(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[object, ...]:
        return await steered_and_seen(client.cancel, event, chosen, words_of(request))

    async def retried(event: gr.EventData, chosen: str, request: gr.Request) -> tuple[object, ...]:
        return await steered_and_seen(client.retry, event, chosen, words_of(request))

    async def steered_and_seen(
        act: Callable[[str], Awaitable[object]], event: gr.EventData, chosen: str, words: Words
    ) -> tuple[object, ...]:
        message = await steered(act, named(event, "job"), words)
        html, going = await upkeep(client, chosen, words)
        return message, html, gr.Timer(active=going)

    now = [panel.list, panel.timer]
    looking = [panel.timer.tick, panel.list.clear, collection.change, refresh.click]
    quietly(looking, looked, [collection], now, trigger_mode="always_last")
    quietly([panel.list.edit], asked, [collection], now)
    quietly([panel.list.submit], begun, [collection], [said, *now])
    quietly([panel.list.stop], stopped, [collection], [said, *now])
    quietly([panel.list.retry], retried, [collection], [said, *now])


async def steered(act: Callable[[str], Awaitable[object]], job_id: str, words: Words) -> str:
    """Stops or retries a job; empty, or why it was not done."""
    try:
        await act(job_id)
    except ApiProblem as problem:
        return problem_html(problem, words)
    return ""


async def _begin(client: ApiClient, act: str, collection: str) -> JobOut:
    if act == "evaluate":
        return await client.evaluate(EvaluateRequest(collection=collection))
    return await client.reindex(ReindexRequest(collection=collection, back=act == "back"))


async def upkeep(
    client: ApiClient, collection: str, words: Words, *, asking: str = ""
) -> tuple[str, bool]:
    """The panel as HTML, and whether it is worth looking again soon."""
    try:
        page = await client.jobs(kinds=KINDS, limit=_LOOKED_THROUGH)
    except ApiProblem as problem:
        return problem_html(problem, words), problem.passing
    mine = [job for job in page.jobs if job.collection in (collection, "")][:SHOWN]
    return jobs_html(mine, collection, words, asking=asking), any(
        job.status not in OVER for job in mine
    )


def jobs_html(jobs: Sequence[JobOut], collection: str, words: Words, *, asking: str = "") -> str:
    """Jobs, the newest first, under what can be begun; `asking` is reindex or back while that is to be confirmed."""
    begin = "".join(
        f'<button type="button" class="zn-quiet" data-event="{event}" data-act="{act}">{label}</button>'
        for event, act, label in (
            ("edit", "reindex", words.reindex),
            ("edit", "back", words.reindex_back),
            ("submit", "evaluate", words.evaluate),
        )
    )
    questions = {
        "reindex": (words.reindex_ask, words.reindex_yes),
        "back": (words.reindex_back_ask, words.reindex_back_yes),
    }
    question = ""
    if asking in questions:
        text, yes = questions[asking]
        name = collection_label(collection, words)
        question = confirm(text.format(name=name), "act", asking, words, yes=yes)
    rows = "".join(_job(job, words) for job in jobs)
    nothing = f'<div class="zn-hint">{words.upkeep_none}</div>'
    return (
        f'<div class="zn-begin">{begin}</div>{question}'
        f'<div class="zn-uploads" aria-live="polite">{rows or nothing}</div>'
    )


def _job(job: JobOut, words: Words) -> str:
    name = escape(words.kinds.get(job.kind, job.kind))
    state = words.states.get(job.status, job.status)
    running = job.status == "running"
    line = stage(job, words) if running and job.stage else f"{state} · {moment(job.updated)}"
    told = _result(job, words)
    found = f'<span class="zn-job-result">{escape(told)}</span>' if told else ""
    error = f'<span class="zn-row-error">{escape(job.error)}</span>' if job.error else ""
    if job.status in ENDED_BADLY:
        steer = _button("retry", words.retry, job)
    else:
        steer = "" if job.status in OVER else _button("stop", words.stop, job)
    progress = bar(share(job)) if running else ""
    shade = "zn-failed" if job.status in ("failed", "dead") else f"zn-{escape(job.status)}"
    return (
        f'<div class="zn-upload zn-job {shade}" data-state="{escape(job.status)}"><span>{name}</span>'
        f'<span class="zn-upload-line">{escape(line)}{steer}</span>{progress}{found}{error}</div>'
    )


def _button(event: str, label: str, job: JobOut) -> str:
    return (
        f' <button type="button" class="zn-quiet" data-event="{event}" data-job="{escape(job.id)}">'
        f"{label}</button>"
    )


def _result(job: JobOut, words: Words) -> str:
    """What came of a job in a line: the figures of an evaluation, and of a re-index that compared."""
    if job.status != "done":
        return ""
    if job.kind == "reindex" and job.result.get("switched") is False:
        return words.reindex_nothing
    told = job.result.get("modes", {}).get("hybrid")
    if told:
        return f"recall@{job.result['top_k']} {told['recall']:.1%} · MRR {told['mrr']:.3f}"
    compared = job.result.get("compared")
    return f"{compared['before']:.1%} → {compared['after']:.1%}" if compared else ""
