"""The tab that keeps documents: uploads with their progress, the list, and the collections."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from app.client import ApiClient
from ui.batch import Batch
from ui.collections import collection_shelf, shelved, wire_shelf
from ui.files import counted, delete_document, retry_failed, viewed
from ui.jobs import Upkeep, steered, upkeep_panel, wire_upkeep
from ui.progress import uploads_html
from ui.schedules import Timetable, schedules_panel, wire_schedules
from ui.uploads import Uploads, followed, send, send_url
from ui.wiring import CLICKS, named, quietly, words_of

POLLED_EVERY = 1.0
"""Seconds between two looks at running jobs."""
FOLLOWED = 100
"""Uploads a page follows; older ones are still seen in the list."""


@dataclass(frozen=True, slots=True)
class DocumentsTab:
    """What the page fills when it is loaded or when the collection changes."""

    batch: gr.State
    waiting: gr.HTML
    table: gr.HTML
    shelf: gr.HTML
    timer: gr.Timer
    jobs: Upkeep
    timetable: Timetable


def documents_tab(client: ApiClient, collection: gr.Dropdown, i18n: gr.I18n) -> DocumentsTab:
    """Lays the tab out and wires it."""
    uploads, batch = gr.State(()), gr.State(None)
    with gr.Row(equal_height=False, elem_id="zn-intake"):
        with gr.Column(scale=3, min_width=320):
            gr.HTML(elem_classes="zn-title", value=i18n("upload"), apply_default_css=False)
            files = gr.File(
                label=i18n("upload"),
                show_label=False,
                file_count="multiple",
                height=150,
                elem_id="zn-files",
            )
            # Gradio's own value drops characters from names. A subclass would do, but defining one
            # makes Gradio write a .pyi file beside this module.
            files.preprocess = uploaded  # type: ignore[method-assign,assignment]
            gr.HTML(elem_classes="zn-hint", value=i18n("upload_hint"), apply_default_css=False)
            with gr.Row(elem_id="zn-address"):
                address = gr.Textbox(
                    show_label=False,
                    label=i18n("url_hint"),
                    placeholder=i18n("url_hint"),
                    container=False,
                    max_length=2000,
                    scale=4,
                    min_width=120,
                    elem_id="zn-url",
                )
                fetch = gr.Button(i18n("url_add"), scale=0, min_width=76, elem_id="zn-fetch")
            progress = gr.HTML(elem_id="zn-progress", apply_default_css=False)
        with gr.Column(scale=2, min_width=280):
            shelf = collection_shelf(i18n)
            jobs = upkeep_panel(i18n)
            schedules = schedules_panel(i18n)
    gr.HTML(elem_classes="zn-title", value=i18n("documents"), apply_default_css=False)
    said = gr.HTML(elem_id="zn-said", apply_default_css=False)
    waiting = gr.HTML(elem_id="zn-waiting", js_on_load=CLICKS, apply_default_css=False)
    with gr.Row(elem_id="zn-tools"):
        wanted = gr.Textbox(
            show_label=False,
            label=i18n("filter_documents"),
            placeholder=i18n("filter_documents"),
            container=False,
            max_length=200,
            scale=4,
            min_width=120,
            elem_id="zn-filter",
        )
        refresh = gr.Button(i18n("refresh"), scale=0, min_width=76, elem_id="zn-refresh")
    table = gr.HTML(elem_id="zn-documents", js_on_load=CLICKS, apply_default_css=False)
    timer = gr.Timer(POLLED_EVERY, active=False)

    async def sent(
        chosen: list[tuple[str, str]],
        so_far: Uploads,
        batched: Batch | None,
        into: str,
        request: gr.Request,
    ) -> AsyncIterator[tuple[object, ...]]:
        words, now = words_of(request), so_far
        # What has ended before the first of these is sent is none of them.
        yield None, now, await counted(client, into, batched), gr.skip(), gr.Timer(active=True)
        async for upload in send(client, chosen, into):
            now = (upload, *now)[:FOLLOWED]
            yield None, now, gr.skip(), uploads_html(now, words), gr.Timer(active=True)

    async def fetched(
        url: str, so_far: Uploads, into: str, request: gr.Request
    ) -> tuple[object, ...]:
        if not url.strip():
            return gr.skip(), so_far, gr.skip(), gr.skip()
        now = (await send_url(client, url.strip(), into), *so_far)[:FOLLOWED]
        return "", now, uploads_html(now, words_of(request)), gr.Timer(active=True)

    async def looked(
        so_far: Uploads, batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        seen = await viewed(client, chosen, q, batched, words)
        now = await followed(client, so_far, seen.jobs)
        going = seen.going or any(upload.open for upload in now)
        # When all is done the collections' counts have changed.
        counts = gr.skip() if going else await shelved(client, chosen, words)
        *shown, _ = seen.outputs(words)
        return now, uploads_html(now, words), *shown, gr.Timer(active=going), counts

    async def relisted(
        batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        return (await viewed(client, chosen, q, batched, words)).outputs(words)

    async def asked_document(
        event: gr.EventData, batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words, asking = words_of(request), named(event, "document")
        seen = await viewed(client, chosen, q, batched, words, asking=asking)
        # The timer stands still meanwhile: a redrawn list would take the question away.
        *shown, _ = seen.outputs(words)
        return *shown, gr.Timer(active=False)

    async def deleted_document(
        event: gr.EventData, batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        message = await delete_document(client, named(event, "document"), chosen, words)
        seen = await viewed(client, chosen, q, batched, words)
        counts = await shelved(client, chosen, words)
        return message, *seen.outputs(words), counts

    async def stopped(
        event: gr.EventData, batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        problem = await steered(client.cancel, named(event, "job"), words)
        return problem, *(await viewed(client, chosen, q, batched, words)).outputs(words)

    async def retried(
        event: gr.EventData, batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        problem = await steered(client.retry, named(event, "job"), words)
        return problem, *(await viewed(client, chosen, q, batched, words)).outputs(words)

    async def retried_all(
        batched: Batch | None, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        message = await retry_failed(client, chosen, words)
        return message, *(await viewed(client, chosen, q, batched, words)).outputs(words)

    view = [batch, waiting, table, timer]
    where = [batch, collection, wanted]
    quietly(
        [files.upload],
        sent,
        [files, uploads, batch, collection],
        [files, uploads, batch, progress, timer],
    )
    quietly(
        [address.submit, fetch.click],
        fetched,
        [address, uploads, collection],
        [address, uploads, progress, timer],
    )
    quietly([timer.tick], looked, [uploads, *where], [uploads, progress, *view, shelf.list])
    quietly(
        [refresh.click, wanted.change, collection.change, table.clear],
        relisted,
        where,
        view,
        trigger_mode="always_last",
    )
    quietly([table.delete], asked_document, where, view)
    quietly([table.submit], deleted_document, where, [said, *view, shelf.list])
    quietly([table.stop], stopped, where, [said, *view])
    quietly([table.retry], retried, where, [said, *view])
    quietly([waiting.retry], retried_all, where, [said, *view])
    wire_shelf(client, shelf, collection, said)
    wire_upkeep(client, jobs, collection, said, refresh)
    wire_schedules(client, schedules, collection, said, refresh, jobs.timer)
    return DocumentsTab(batch, waiting, table, shelf.list, timer, jobs, schedules)


def uploaded(payload: ListFiles | FileData | None) -> list[tuple[str, str]]:
    """The uploaded files as (name as the user has it, path here) pairs; empty for none."""
    if payload is None:
        return []
    files = payload.root if isinstance(payload, ListFiles) else [payload]
    return [(file.orig_name or Path(file.path).name, file.path) for file in files]
