"""Batches by token budget, and a batcher that merges calls which wait at the same time."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pipeline.errors import ModelUnavailable, Overloaded

Item = TypeVar("Item")
Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Budget:
    """What one batch may take.

    `tokens` bounds rows x longest row, padding included. Padding stays under the share `waste` of
    the batch, or under `slack` tokens: so many cost less than starting another batch.
    """

    tokens: int = 8192
    waste: float = 0.04
    slack: int = 128


def fitting(longest_first: Sequence[int], budget: Budget) -> int:
    """How many of the first rows go together, at least 1: lengths in tokens, longest first."""
    longest, real = longest_first[0], 0
    for rows, length in enumerate(longest_first):
        real += length
        if rows and not _fits(longest, rows + 1, real, budget):
            return rows
    return len(longest_first)


def window(longest_first: Sequence[int], must: int, budget: Budget) -> range:
    """The largest rows that go together with row `must`, and as many smaller ones as fit then."""
    start, real = must, longest_first[must]
    while start:
        longer = longest_first[start - 1]
        real += longer
        if not _fits(longer, must - start + 2, real, budget):
            break
        start -= 1
    return range(start, start + fitting(longest_first[start:], budget))


def _fits(longest: int, rows: int, real: int, budget: Budget) -> bool:
    padded = longest * rows
    return padded <= budget.tokens and padded - real <= max(budget.slack, budget.waste * padded)


def batches(lengths: Sequence[int], budget: Budget) -> list[list[int]]:
    """Positions of the rows of each batch, longest first; every row is in exactly one.

    A row longer than the budget gets a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    found: list[list[int]] = []
    while order:
        rows = fitting([lengths[position] for position in order[: budget.tokens]], budget)
        found.append(order[:rows])
        order = order[rows:]
    return found


@dataclass(eq=False, slots=True)
class _Call(Generic[Row, Result]):
    """The rows of one caller that still wait, by their position, and what is there already."""

    future: "Future[list[Result]]"
    waiting: dict[int, Row]
    results: dict[int, Result] = field(default_factory=dict)


class MicroBatcher(Generic[Item, Row, Result]):
    """Merges concurrent calls into batches, without a timer.

    Whatever waits when the device gets free forms the next batch: the longest row of the call
    that waited longest, and rows of about its length, whosever they are. Then that call goes to
    the end of the line, so a single question passes a long document.

    `prepare` turns items into rows (tokenises) in a thread of its own while the device works;
    `compute` gets the rows of one batch, in the one device thread, and gives one result a row.
    """

    def __init__(
        self,
        name: str,
        *,
        prepare: Callable[[Sequence[Item]], Sequence[Row]],
        compute: Callable[[Sequence[Row]], Sequence[Result]],
        length: Callable[[Row], int],
        budget: Budget,
        waiting: int = 2048,
    ) -> None:
        """At most `waiting` rows are held, prepared or not; a call that comes alone is always let
        in. Threads start with the first call, so that a process may fork before.
        """
        self._name = name
        self._prepare = prepare
        self._compute = compute
        self._length = length
        self._budget = budget
        self._most = waiting
        self._held = 0
        self._line: list[_Call[Row, Result]] = []
        self._changed = threading.Condition()
        self._closed = False
        self._tokeniser = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-tokens")
        self._device: threading.Thread | None = None

    async def run(self, items: Sequence[Item]) -> list[Result]:
        """One result an item, in their order.

        Raises Overloaded when too much waits, ModelUnavailable when closed meanwhile, and what
        `prepare` and `compute` raise for these items. A cancelled caller's rows are dropped.
        """
        if not items:
            return []
        future = self._submit(items)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Fails who waits with ModelUnavailable; returns when the batch that runs is through."""
        with self._changed:
            self._closed = True
            left, self._line = self._line, []
            self._changed.notify_all()
        for call in left:
            self._fail(call.future, self._ended())
        self._tokeniser.shutdown(wait=True)
        if self._device is not None:
            self._device.join()

    def _submit(self, items: Sequence[Item]) -> "Future[list[Result]]":
        future: Future[list[Result]] = Future()
        with self._changed:
            if self._closed:
                raise self._ended()
            if self._held and self._held + len(items) > self._most:
                raise Overloaded(
                    f"{self._held} texts wait for the {self._name} already. Try again shortly."
                )
            self._held += len(items)
            if self._device is None:
                self._device = threading.Thread(
                    target=self._work, name=f"{self._name}-device", daemon=True
                )
                self._device.start()
            self._tokeniser.submit(self._enter, items, future)
        future.add_done_callback(lambda _: self._leave(len(items)))
        return future

    def _leave(self, rows: int) -> None:
        with self._changed:
            self._held -= rows

    def _enter(self, items: Sequence[Item], future: "Future[list[Result]]") -> None:
        """In the tokenising thread."""
        if self._closed:
            self._fail(future, self._ended())
            return
        if future.cancelled():
            return
        try:
            rows = self._prepare(items)
        except BaseException as error:  # noqa: BLE001  (belongs to the caller, not to this thread)
            self._fail(future, error)
            return
        with self._changed:
            if not self._closed:
                self._line.append(_Call(future, dict(enumerate(rows))))
                self._changed.notify_all()
                return
        self._fail(future, self._ended())

    def _work(self) -> None:
        """The device thread."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._line)
                if self._closed:
                    return
                batch = self._next()
            if batch:
                self._serve(batch)
                del batch

    def _next(self) -> list[tuple[_Call[Row, Result], int, Row]]:
        """Takes the next batch out of the line; empty when only cancelled callers were left."""
        self._line = [call for call in self._line if not call.future.done()]
        if not self._line:
            return []
        lead = self._line[0]
        rows = sorted(
            (
                (-self._length(row), turn, position)
                for turn, call in enumerate(self._line)
                for position, row in call.waiting.items()
            ),
        )
        must = next(number for number, (_, turn, _) in enumerate(rows) if turn == 0)
        chosen = window([-negative for negative, _, _ in rows], must, self._budget)
        taken = [
            (call := self._line[turn], position, call.waiting[position])
            for _, turn, position in (rows[number] for number in chosen)
        ]
        for call, position, _ in taken:
            del call.waiting[position]
        self._line = [call for call in [*self._line[1:], lead] if call.waiting]
        return taken

    def _serve(self, batch: Sequence[tuple[_Call[Row, Result], int, Row]]) -> None:
        try:
            results = self._compute([row for _, _, row in batch])
            for (call, position, _), result in zip(batch, results, strict=True):
                call.results[position] = result
        except BaseException as error:  # noqa: BLE001  (fails its callers, not the thread)
            for call, _, _ in batch:
                self._fail(call.future, error)
            return
        for call in {id(call): call for call, _, _ in batch}.values():
            if not call.waiting:
                self._give(call)

    def _give(self, call: _Call[Row, Result]) -> None:
        with self._changed:
            if _open(call.future):
                call.future.set_result([call.results[row] for row in sorted(call.results)])

    def _fail(self, future: "Future[list[Result]]", error: BaseException) -> None:
        with self._changed:
            if _open(future):
                future.set_exception(error)

    def _ended(self) -> ModelUnavailable:
        return ModelUnavailable(f"The {self._name} was closed: the application stops.")


def _open(future: "Future[list[Result]]") -> bool:
    """Whether somebody waits for it; from now on it cannot be cancelled."""
    return not future.done() and future.set_running_or_notify_cancel()
