"""One file is read while the vectors of another are made: what is slow for one holds up no other."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from library import Library

from pipeline.types import Embeddings, JobStatus, Passage


def test_a_file_is_read_and_found_while_another_is_embedded(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    embed = library.embedder.embed_passages

    async def held(passages: Sequence[Passage]) -> Embeddings:
        if any("walrus" in passage.text for passage in passages):
            begun.set()
            assert await asyncio.to_thread(go_on.wait, 60)
        return await embed(passages)

    monkeypatch.setattr(library.embedder, "embed_passages", held)
    slow = library.take("slow.txt", "The walrus sleeps on the ice.").job
    worker = threading.Thread(target=library.run, args=(slow,))
    worker.start()
    try:
        assert begun.wait(60)
        quick = library.add("quick.txt", "The heron stands in the reeds.")
        assert library.jobs.get(quick.job).status is JobStatus.DONE
        stage = library.jobs.get(slow)
        assert stage.status is JobStatus.RUNNING
        assert stage.stage in (
            "parse",
            "embed",
        )  # what was said last is written with the next breath
        found = library.snapshots.open("default")
        assert len(found.keys_of([quick.document])) == 1
    finally:
        go_on.set()
        worker.join()
    assert library.jobs.get(slow).status is JobStatus.DONE
