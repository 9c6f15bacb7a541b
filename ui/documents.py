"""The tab that keeps documents: uploads with their progress, the list, and the collections."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from app.client import ApiClient
from app.problems import ApiProblem
from ui.collections import collection_shelf, shelved, wire_shelf
from ui.jobs import Upkeep, upkeep_panel, wire_upkeep
from ui.render import notice, problem_html
from ui.tables import (
    documents_html,
    uploads_html,
)
from ui.uploads import Uploads, followed, send, send_url
from ui.wiring import CLICKS, named, quietly, words_of
from ui.words import Words

POLLED_EVERY = 1.0
"""Seconds between two looks at running jobs."""
FOLLOWED = 100
"""Uploads a page follows; older ones are still seen in the list."""


@dataclass(frozen=True, slots=True)
class DocumentsTab:
    """What the page fills when it is loaded or when the collection changes."""

    table: gr.HTML
    shelf: gr.HTML
    timer: gr.Timer
    jobs: Upkeep


def documents_tab(client: ApiClient, collection: gr.Dropdown, i18n: gr.I18n) -> DocumentsTab:
    """Lays the tab out and wires it."""
    uploads = gr.State(())
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
    gr.HTML(elem_classes="zn-title", value=i18n("documents"), apply_default_css=False)
    said = gr.HTML(elem_id="zn-said", apply_default_css=False)
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
        chosen: list[tuple[str, str]], so_far: Uploads, into: str, request: gr.Request
    ) -> AsyncIterator[tuple[object, ...]]:
        words, now = words_of(request), so_far
        async for upload in send(client, chosen, into):
            now = (upload, *now)[:FOLLOWED]
            yield None, now, uploads_html(now, words), gr.Timer(active=True)

    async def fetched(
        url: str, so_far: Uploads, into: str, request: gr.Request
    ) -> tuple[object, ...]:
        if not url.strip():
            return gr.skip(), so_far, gr.skip(), gr.skip()
        now = (await send_url(client, url.strip(), into), *so_far)[:FOLLOWED]
        return "", now, uploads_html(now, words_of(request)), gr.Timer(active=True)

    async def looked(
        so_far: Uploads, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        now = await followed(client, so_far)
        html, running = await listed(client, chosen, q, words)
        going = running or any(upload.open for upload in now)
        # When all is done the collections' counts have changed.
        counts = gr.skip() if going else await shelved(client, chosen, words)
        return now, uploads_html(now, words), html, gr.Timer(active=going), counts

    async def relisted(chosen: str, q: str, request: gr.Request) -> tuple[object, ...]:
        html, running = await listed(client, chosen, q, words_of(request))
        return html, gr.Timer(active=running)

    async def asked_document(
        event: gr.EventData, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        # The timer stands still meanwhile: a redrawn list would take the question away.
        html, _ = await listed(
            client, chosen, q, words_of(request), asking=named(event, "document")
        )
        return html, gr.Timer(active=False)

    async def deleted_document(
        event: gr.EventData, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        message = await delete_document(client, named(event, "document"), chosen, words)
        html, running = await listed(client, chosen, q, words)
        counts = await shelved(client, chosen, words)
        return message, html, gr.Timer(active=running), counts

    async def stopped(
        event: gr.EventData, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        problem = await steered(client.cancel, named(event, "job"), words)
        html, running = await listed(client, chosen, q, words)
        return problem, html, gr.Timer(active=running)

    async def retried(
        event: gr.EventData, chosen: str, q: str, request: gr.Request
    ) -> tuple[object, ...]:
        words = words_of(request)
        problem = await steered(client.retry, named(event, "job"), words)
        html, _ = await listed(client, chosen, q, words)
        return problem, html, gr.Timer(active=True)

    quietly([files.upload], sent, [files, uploads, collection], [files, uploads, progress, timer])
    quietly(
        [address.submit, fetch.click],
        fetched,
        [address, uploads, collection],
        [address, uploads, progress, timer],
    )
    quietly(
        [timer.tick],
        looked,
        [uploads, collection, wanted],
        [uploads, progress, table, timer, shelf.list],
    )
    quietly(
        [refresh.click, wanted.change, collection.change, table.clear],
        relisted,
        [collection, wanted],
        [table, timer],
        trigger_mode="always_last",
    )
    quietly([table.delete], asked_document, [collection, wanted], [table, timer])
    quietly(
        [table.submit], deleted_document, [collection, wanted], [said, table, timer, shelf.list]
    )
    quietly([table.stop], stopped, [collection, wanted], [said, table, timer])
    quietly([table.retry], retried, [collection, wanted], [said, table, timer])
    wire_shelf(client, shelf, collection, said)
    wire_upkeep(client, jobs, collection, said, refresh)
    return DocumentsTab(table, shelf.list, timer, jobs)


async def steered(act: Callable[[str], Awaitable[object]], job_id: str, words: Words) -> str:
    """Stops or retries a job; empty, or why it was not done."""
    try:
        await act(job_id)
    except ApiProblem as problem:
        return problem_html(problem, words)
    return ""


def uploaded(payload: ListFiles | FileData | None) -> list[tuple[str, str]]:
    """The uploaded files as (name as the user has it, path here) pairs; empty for none."""
    if payload is None:
        return []
    files = payload.root if isinstance(payload, ListFiles) else [payload]
    return [(file.orig_name or Path(file.path).name, file.path) for file in files]


async def listed(
    client: ApiClient, collection: str, q: str, words: Words, *, asking: str | None = None
) -> tuple[str, bool]:
    """The list as HTML, and whether it is worth looking again soon: something is being worked on, or away."""
    try:
        page, jobs = await asyncio.gather(
            client.documents(collection, q=q.strip()), client.jobs(collection)
        )
    except ApiProblem as problem:
        return problem_html(problem, words), problem.passing
    html = documents_html(
        page.documents,
        {job.id: job for job in jobs.jobs},
        asking=asking,
        more=page.next_cursor is not None,
        filtered=bool(q.strip()),
        words=words,
    )
    return html, any(document.status == "processing" for document in page.documents)


async def delete_document(client: ApiClient, document: str, collection: str, words: Words) -> str:
    """Deletes, and says so with the document's name."""
    try:
        known = {one.id: one for one in (await client.documents(collection)).documents}
        receipt = await client.delete_document(document)
    except ApiProblem as problem:
        return problem_html(problem, words)
    name = known[document].filename if document in known else document
    chunks = receipt.deleted.get("chunks", 0)
    return notice(words.deleted_document.format(name=name, chunks=chunks))
