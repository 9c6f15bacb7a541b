"""Signals: the first SIGINT, SIGTERM or SIGHUP ends the server in order, the next one at once."""

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stoppable(Protocol):
    """What ends by itself once it is told to."""

    should_exit: bool


class Stop:
    """Handles the signals while the block runs; use it in the main thread.

    Before `of` is called a signal raises SystemExit, so that what was begun is undone. `at_once` must take no lock.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        self._at_once = at_once
        self._asked = False
        self._server: Stoppable | None = None
        self._before: dict[signal.Signals, Any] = {}

    def of(self, server: Stoppable) -> None:
        """From now on the first signal tells this server to end."""
        self._server = server
        if self._asked:
            server.should_exit = True

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup: a closed terminal is no reason to end
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._asked and self._server is None and isinstance(error, Exception):
            raise SystemExit(0) from error  # whoever was interrupted made another error of it

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._asked:
            self._at_once()
            os._exit(128 + number)
        self._asked = True
        if self._server is None:
            raise SystemExit(0)
        self._server.should_exit = True
