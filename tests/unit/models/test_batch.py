import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import Budget, MicroBatcher, batches, fitting, window
from pipeline.errors import ModelUnavailable, Overloaded, TooLarge

LENGTHS = st.lists(st.integers(1, 600), max_size=120)
BUDGETS = st.builds(
    Budget,
    tokens=st.integers(1, 5000),
    waste=st.floats(0, 1),
    slack=st.integers(0, 500),
)


@given(LENGTHS, BUDGETS)
@settings(deadline=None)
def test_every_row_is_in_exactly_one_batch(lengths: list[int], budget: Budget) -> None:
    placed = [position for batch in batches(lengths, budget) for position in batch]
    assert sorted(placed) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
@settings(deadline=None)
def test_a_batch_keeps_the_budget_and_the_share_of_padding(
    lengths: list[int], budget: Budget
) -> None:
    for batch in batches(lengths, budget):
        real = [lengths[position] for position in batch]
        padded = max(real) * len(real)
        assert len(real) == 1 or padded <= budget.tokens
        assert padded - sum(real) <= max(budget.slack, budget.waste * padded)


@given(LENGTHS, BUDGETS)
@settings(deadline=None)
def test_batches_hold_neighbours_in_length(lengths: list[int], budget: Budget) -> None:
    placed = [lengths[position] for batch in batches(lengths, budget) for position in batch]
    assert placed == sorted(lengths, reverse=True)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=120), BUDGETS)
@settings(deadline=None)
def test_a_batch_is_as_large_as_it_may_be(lengths: list[int], budget: Budget) -> None:
    ordered = sorted(lengths, reverse=True)
    rows = fitting(ordered, budget)
    if rows < len(ordered):
        padded = ordered[0] * (rows + 1)
        padding = padded - sum(ordered[: rows + 1])
        assert padded > budget.tokens or padding > max(budget.slack, budget.waste * padded)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=120), BUDGETS, st.data())
@settings(deadline=None)
def test_a_window_holds_the_row_it_must_and_keeps_the_budget(
    lengths: list[int], budget: Budget, data: st.DataObject
) -> None:
    ordered = sorted(lengths, reverse=True)
    must = data.draw(st.integers(0, len(ordered) - 1))
    chosen = window(ordered, must, budget)
    assert must in chosen
    real = [ordered[number] for number in chosen]
    padded = max(real) * len(real)
    assert len(real) == 1 or padded <= budget.tokens
    assert padded - sum(real) <= max(budget.slack, budget.waste * padded)


class Device:
    """Computes when it is let, and remembers each batch. A text's row is its length."""

    def __init__(self, *, stopped: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[str] = set()
        self.begun = threading.Event()
        self.go = threading.Event()
        if not stopped:
            self.go.set()

    def prepare(self, texts: Sequence[str]) -> list[str]:
        if any(text == "too long" for text in texts):
            raise TooLarge("The text is too long. Cut it.")
        return list(texts)

    def compute(self, rows: Sequence[str]) -> list[str]:
        self.batches.append(list(rows))
        self.threads.add(threading.current_thread().name)
        self.begun.set()
        assert self.go.wait(10)
        if "poison" in rows:
            raise ModelUnavailable("The device failed. Try again.")
        return [row.upper() for row in rows]

    def batcher(self, *, waiting: int = 100, budget: Budget | None = None):
        return MicroBatcher(
            "embedder",
            prepare=self.prepare,
            compute=self.compute,
            length=len,
            budget=budget or Budget(),
            waiting=waiting,
        )

    async def busy(self, batcher: MicroBatcher, text: str = "first") -> asyncio.Task:
        """A caller whose batch is on the device."""
        task = asyncio.create_task(batcher.run([text]))
        await asyncio.to_thread(self.begun.wait, 10)
        return task


async def tokenised(batcher: MicroBatcher, rows: int) -> None:
    while sum(len(call.waiting) for call in batcher._line) < rows:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_results_come_in_the_order_of_the_items() -> None:
    device = Device()
    batcher = device.batcher(budget=Budget(tokens=8, slack=0))
    items = ["ccc", "a", "bb", "dddd", "e"]
    assert await batcher.run(items) == ["CCC", "A", "BB", "DDDD", "E"]
    assert await batcher.run([]) == []
    assert len(device.batches) > 1
    batcher.close()


async def test_what_waits_while_the_device_works_is_the_next_batch() -> None:
    device = Device(stopped=True)
    batcher = device.batcher()
    first = await device.busy(batcher)
    others = [asyncio.create_task(batcher.run([text])) for text in ("a", "bb", "ccc")]
    await tokenised(batcher, 3)
    device.go.set()
    assert await first == ["FIRST"]
    assert await asyncio.gather(*others) == [["A"], ["BB"], ["CCC"]]
    assert device.batches == [["first"], ["ccc", "bb", "a"]]
    assert device.threads == {"embedder-device"}
    batcher.close()


async def test_tokenising_goes_on_while_the_device_works() -> None:
    device = Device(stopped=True)
    batcher = device.batcher()
    first = await device.busy(batcher)
    second = asyncio.create_task(batcher.run(["second"]))
    await tokenised(batcher, 1)
    assert not first.done()
    device.go.set()
    assert await second == ["SECOND"]
    batcher.close()


async def test_a_question_passes_a_long_document() -> None:
    device = Device(stopped=True)
    batcher = device.batcher(budget=Budget(tokens=20, slack=0))
    first = await device.busy(batcher)
    document = asyncio.create_task(batcher.run(["x" * 10] * 40))
    await tokenised(batcher, 40)
    question = asyncio.create_task(batcher.run(["why?"]))
    await tokenised(batcher, 41)
    device.go.set()
    await asyncio.gather(first, document, question)
    assert ["why?"] in device.batches[:3]
    batcher.close()


async def test_a_full_queue_is_overloaded_and_free_places_are_given_again() -> None:
    device = Device(stopped=True)
    batcher = device.batcher(waiting=3)
    first = await device.busy(batcher)
    second = asyncio.create_task(batcher.run(["a", "b"]))
    await tokenised(batcher, 2)
    with pytest.raises(Overloaded, match="3 texts wait for the embedder"):
        await batcher.run(["c"])
    device.go.set()
    await asyncio.gather(first, second)
    assert await batcher.run(["c", "d", "e"]) == ["C", "D", "E"]
    batcher.close()


async def test_closing_fails_who_waits_and_lets_the_running_batch_end() -> None:
    device = Device(stopped=True)
    batcher = device.batcher()
    first = await device.busy(batcher)
    second = asyncio.create_task(batcher.run(["a"]))
    await tokenised(batcher, 1)
    closing = asyncio.create_task(asyncio.to_thread(batcher.close))
    with pytest.raises(ModelUnavailable, match="was closed"):
        await second
    device.go.set()
    await closing
    assert await first == ["FIRST"]
    with pytest.raises(ModelUnavailable, match="was closed"):
        await batcher.run(["late"])
    batcher.close()


async def test_a_cancelled_callers_rows_are_dropped() -> None:
    device = Device(stopped=True)
    batcher = device.batcher(waiting=3)
    first = await device.busy(batcher)
    left = asyncio.create_task(batcher.run(["unheard", "unheard"]))
    await tokenised(batcher, 2)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    stays = asyncio.create_task(batcher.run(["b", "c"]))  # the places are free again
    await tokenised(batcher, 4)
    device.go.set()
    assert await stays == ["B", "C"]
    await first
    assert all("unheard" not in batch for batch in device.batches)
    batcher.close()


async def test_a_failing_batch_fails_its_callers_only() -> None:
    device = Device(stopped=True)
    batcher = device.batcher(budget=Budget(tokens=6, slack=0))
    first = await device.busy(batcher)
    poisoned = asyncio.create_task(batcher.run(["poison"]))
    await tokenised(batcher, 1)
    well = asyncio.create_task(batcher.run(["ok"]))
    await tokenised(batcher, 2)
    device.go.set()
    with pytest.raises(ModelUnavailable, match="The device failed"):
        await poisoned
    assert await well == ["OK"]
    await first
    assert await batcher.run(["after"]) == ["AFTER"]
    batcher.close()


async def test_an_item_that_cannot_be_prepared_fails_its_caller_only() -> None:
    device = Device()
    batcher = device.batcher()
    with pytest.raises(TooLarge):
        await batcher.run(["fits", "too long"])
    assert await batcher.run(["fits"]) == ["FITS"]
    batcher.close()


@given(st.lists(st.lists(st.text("ab", min_size=1, max_size=9), max_size=12), max_size=12), BUDGETS)
@settings(deadline=None, max_examples=40)
def test_every_caller_gets_its_own_results(calls: list[list[str]], budget: Budget) -> None:
    device = Device()
    batcher = device.batcher(waiting=1000, budget=budget)

    async def everyone() -> list[list[str]]:
        return await asyncio.gather(*map(batcher.run, calls))

    assert asyncio.run(everyone()) == [[text.upper() for text in call] for call in calls]
    batcher.close()
    for batch in device.batches:
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= budget.tokens
