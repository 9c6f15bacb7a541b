"""URLs that users give: fetched through the guarded client, then taken as any upload."""

import asyncio
import uuid
from pathlib import Path

from app.schemas import UploadedOut
from app.state import State
from app.uploads import take_file
from indexer.parse.media import EXTENSIONS, HTML, PDF, sniff_file
from indexer.web.addresses import parse_networks
from indexer.web.fetch import Fetched, Fetcher
from pipeline.errors import InvalidInput, Unavailable

_ENDINGS = {PDF: ".pdf", HTML: ".html"}


async def take_url(state: State, collection: str, url: str) -> UploadedOut:
    """One row of an upload: what is behind the URL is taken and its job sent, or the row says what was wrong."""
    settings = state.services.core.settings
    uploads = state.services.core.folders.uploads
    fetcher = Fetcher(
        most_bytes=settings.max_upload_mb * 2**20,
        seconds=settings.fetch.seconds,
        allowed=parse_networks(settings.fetch.allow_private),
    )
    arrived = uploads / uuid.uuid4().hex
    try:
        await asyncio.to_thread(uploads.mkdir, parents=True, exist_ok=True)
        async with state.fetching:
            fetched = await fetcher.fetch(url, arrived)
        async with state.uploading:
            return await asyncio.to_thread(_take, state, collection, fetched, arrived)
    except InvalidInput as error:
        return UploadedOut(
            id=None, filename=url, job_id=None, status="failed", duplicate=False, error=str(error)
        )
    except OSError as error:
        raise Unavailable(
            f"the file cannot be stored ({error.strerror}): free some disk space, then try again"
        ) from error
    finally:
        await asyncio.to_thread(arrived.unlink, missing_ok=True)


def _take(state: State, collection: str, fetched: Fetched, path: Path) -> UploadedOut:
    wished = [_ending(path, name) for name in fetched.names]
    name = state.services.core.catalog.name_for(collection, fetched.source, wished)
    with path.open("rb") as file:
        return take_file(state, collection, name, file, source=fetched.source)


def _ending(path: Path, name: str) -> str:
    """Pages often have names without an ending, which then say nothing of their kind."""
    if Path(name.lower()).suffix in EXTENSIONS:
        return name
    return name + _ENDINGS.get(sniff_file(path, name), "")
