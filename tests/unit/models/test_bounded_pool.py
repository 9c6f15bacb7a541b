"""What waits for a model is limited."""

import asyncio
import threading

import pytest

from models.bounded_pool import BoundedPool
from pipeline.errors import Overloaded


@pytest.fixture
def gate():
    gate = threading.Event()
    yield gate
    gate.set()


async def test_a_full_queue_refuses_and_a_finished_call_makes_room(gate):
    pool = BoundedPool("model", workers=1, waiting=1)
    first = asyncio.create_task(pool.run(gate.wait, 30))
    second = asyncio.create_task(pool.run(lambda: 2))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="Too many requests wait for the model"):
        await pool.run(lambda: 3)
    gate.set()
    assert (await first, await second) == (True, 2)
    assert await pool.run(lambda: 4) == 4
    pool.close()


async def test_a_cancelled_call_never_runs_and_makes_room(gate):
    pool = BoundedPool("model", workers=1, waiting=1)
    first = asyncio.create_task(pool.run(gate.wait, 30))
    ran = []
    second = asyncio.create_task(pool.run(ran.append, 2))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    third = asyncio.create_task(pool.run(lambda: 3))
    await asyncio.sleep(0)
    gate.set()
    assert (await first, await third, ran) == (True, 3, [])
    pool.close()


async def test_an_error_reaches_the_caller_and_makes_room():
    pool = BoundedPool("model", workers=1, waiting=0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 / 0)
    pool.close()


async def test_a_closed_pool_refuses():
    pool = BoundedPool("model", workers=1, waiting=0)
    pool.close()
    with pytest.raises(Overloaded, match="shutting down"):
        await pool.run(lambda: 1)
