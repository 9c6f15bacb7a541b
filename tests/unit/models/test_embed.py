"""The bundled embedder and those who no longer wait for it."""

import asyncio
import time

import pytest

from models.embed import E5Embedder
from pipeline.types import Passage

LONG = [Passage("", " ".join(f"walrus{n}" for n in range(150)))] * 4


async def test_a_batch_whose_caller_is_cancelled_ends_and_leaves_its_thread_to_the_next(
    e5_embedder: E5Embedder,
) -> None:
    begun = time.monotonic()
    await e5_embedder.embed_passages(LONG)
    whole = time.monotonic() - begun
    nobody_waits = asyncio.create_task(e5_embedder.embed_passages(LONG))
    await asyncio.sleep(whole / 4)
    nobody_waits.cancel()
    begun = time.monotonic()
    [vector] = (await e5_embedder.embed_queries(["Where does the walrus sleep?"])).vectors
    assert time.monotonic() - begun < whole / 2
    assert abs(float(vector @ vector) - 1) < 1e-5
    with pytest.raises(asyncio.CancelledError):
        await nobody_waits
