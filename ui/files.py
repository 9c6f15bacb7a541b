"""A collection's files as they stand, and what is done to them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

import gradio as gr

from app.client import ApiClient
from app.job_schemas import JobOut
from app.problems import ApiProblem
from ui.batch import Batch
from ui.progress import batch_html
from ui.render import notice, problem_html
from ui.tables import documents_html
from ui.words import Words

FILES = ("ingest",)
"""The jobs that read a file."""


@dataclass(frozen=True, slots=True)
class View:
    """A collection's files as they stand: those that wait, the list as HTML, and the jobs that it was made from.

    It is worth looking again soon while something is `going`: worked on, or away.
    """

    batch: Batch | None
    html: str
    jobs: Mapping[str, JobOut]
    going: bool

    def outputs(self, words: Words) -> tuple[object, ...]:
        """What the page shows of it, in the order that it is bound."""
        shown = batch_html(self.batch, words)
        return self.batch, shown, self.html, gr.Timer(active=self.going)


async def viewed(
    client: ApiClient,
    collection: str,
    q: str,
    batched: Batch | None,
    words: Words,
    *,
    asking: str | None = None,
) -> View:
    """A collection's files, after those that were seen before."""
    try:
        page, jobs, batch = await asyncio.gather(
            client.documents(collection, q=q.strip()),
            client.jobs(collection),
            counted(client, collection, batched),
        )
    except ApiProblem as problem:
        return View(batched, problem_html(problem, words), {}, problem.passing)
    known = {job.id: job for job in jobs.jobs}
    html = documents_html(
        page.documents,
        known,
        asking=asking,
        more=page.next_cursor is not None,
        filtered=bool(q.strip()),
        words=words,
    )
    working = any(document.status == "processing" for document in page.documents)
    return View(batch, html, known, working or (batch is not None and batch.open > 0))


async def counted(client: ApiClient, collection: str, batched: Batch | None) -> Batch | None:
    """The files that wait, after another look; as they were known where it fails."""
    try:
        counts = await client.counts(collection, kinds=FILES)
    except ApiProblem:
        return batched
    return Batch.seen(batched, collection, counts, time.monotonic())


async def retry_failed(client: ApiClient, collection: str, words: Words) -> str:
    """Has all files read again whose reading failed; how many, or why not."""
    try:
        retried = (await client.retry_all(collection, kinds=FILES)).retried
    except ApiProblem as problem:
        return problem_html(problem, words)
    return notice(words.retried_all.format(count=retried))


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
