"""The API as the measurements use it: uploads that are waited for, searches and questions, a few at once."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

_AT_ONCE = 4
_ENDED = ("done", "failed", "cancelled", "dead")


class Api:
    """A connection to a running server. Any answer that is no success raises."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=300, trust_env=False)
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def create(self, collection: str) -> bool:
        """A new collection; False when it is there already."""
        response = await self._http.post("/collections", json={"name": collection})
        if response.status_code != 409:
            response.raise_for_status()
        return response.status_code == 201

    async def upload(self, collection: str, paths: Iterable[Path]) -> list[dict[str, Any]]:
        """Upload every file and wait for its job; returns one row a file with the job's end in `job`."""
        rows: list[dict[str, Any]] = []
        for path in paths:
            files = {"files": (path.name, path.read_bytes())}
            response = await self._http.post(
                "/documents", data={"collection": collection}, files=files
            )
            rows.extend(response.json()["documents"])
        waiting = {row["job_id"]: row for row in rows if row["job_id"]}
        while waiting:
            for job_id in list(waiting):
                job = (await self._http.get(f"/jobs/{job_id}")).json()
                if job["status"] in _ENDED:
                    waiting.pop(job_id)["job"] = job
            await asyncio.sleep(0.5 if waiting else 0)
        return rows

    async def search(self, query: str, collection: str, **more: object) -> list[dict[str, Any]]:
        body = {"query": query, "collection": collection, "top_k": 30, **more}
        found: list[dict[str, Any]] = (await self._post("/search", body))["hits"]
        return found

    async def ask(self, question: str, collection: str, **more: object) -> dict[str, Any]:
        return await self._post("/ask", {"question": question, "collection": collection, **more})

    async def _post(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        async with self._turn:
            response = await self._http.post(path, json=body)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def documents_of(hits: Sequence[dict[str, Any]]) -> list[str]:
    """The stems of the hits' files, best first, each once: a passage counts through its document."""
    return list(dict.fromkeys(Path(hit["filename"]).stem for hit in hits))
