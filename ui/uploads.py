"""Files on their way to the API, and their jobs until these end; knows nothing of the page."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from app.client import ApiClient
from app.job_schemas import JobOut
from app.problems import ApiProblem
from app.schemas import UploadedOut
from ui.progress import Upload

MANY = 20
"""More files than these at once let others go first."""
Uploads = tuple[Upload, ...]


async def send(
    client: ApiClient, chosen: Sequence[tuple[str, str]], collection: str
) -> AsyncIterator[Upload]:
    """Sends the files one by one, and takes them off this machine's temporary folder whatever comes of it."""
    try:
        for name, path in chosen:
            try:
                reply = await client.upload(
                    [(name, Path(path))], collection, bulk=len(chosen) > MANY
                )
            except ApiProblem as problem:
                yield Upload(_refused(name, problem.detail))
            else:
                for row in reply.documents:
                    yield Upload(row)
    finally:
        for _, path in chosen:
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)


async def send_url(client: ApiClient, url: str, collection: str) -> Upload:
    """Has the server fetch a URL."""
    try:
        return Upload((await client.upload_url(url, collection)).documents[0])
    except ApiProblem as problem:
        return Upload(_refused(url, problem.detail))


def _refused(name: str, sentence: str) -> UploadedOut:
    return UploadedOut(
        id=None, filename=name, job_id=None, status="failed", duplicate=False, error=sentence
    )


async def followed(
    client: ApiClient, uploads: Uploads, known: Mapping[str, JobOut] | None = None
) -> Uploads:
    """The uploads with their jobs as they are now; a job that can't be read keeps what was known.

    Jobs that are `known` from a list read just now are not asked for again.
    """

    async def seen(upload: Upload) -> Upload:
        if not upload.open or upload.sent.job_id is None:
            return upload
        if known and upload.sent.job_id in known:
            return replace(upload, job=known[upload.sent.job_id])
        try:
            return replace(upload, job=await client.job(upload.sent.job_id))
        except ApiProblem as problem:
            if problem.status != 404:
                return upload
            gone = upload.sent.model_copy(update={"error": problem.detail})
            return replace(upload, sent=gone)

    return tuple(await asyncio.gather(*map(seen, uploads)))
