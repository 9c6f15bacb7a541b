"""Looks at what a server needs: seldom, in a thread of their own, and waited for no longer than a moment."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.errors import RagError

FRESH_S = 5.0
"""So long a part is not looked at again."""
WAIT_S = 2.0
"""So long whoever asks waits, however many parts there are."""
_log = logging.getLogger("zhinao.looks")


@dataclass(frozen=True, slots=True)
class Part:
    """`look` raises a RagError that says what is wrong; up to `patience_s` of it, what was said before holds."""

    look: Callable[[], object]
    patience_s: float = WAIT_S


@dataclass(slots=True)
class _Look:
    begun: float
    before: str | None
    said: str | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Looks:
    """The last look at each part. A part that hangs costs one thread, and is not looked at again until it ends."""

    def __init__(
        self, *, wait_s: float = WAIT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wait_s = wait_s
        self._clock = clock
        self._last: dict[str, _Look] = {}
        self._lock = threading.Lock()

    def say(self, parts: Mapping[str, Part]) -> dict[str, str]:
        """What is known of each part by its name: "ok", or what is wrong."""
        looks = {name: self._begun(name, part) for name, part in parts.items()}
        until = time.monotonic() + self._wait_s
        return {name: self._said(looks[name], parts[name], until) for name in parts}

    def _begun(self, name: str, part: Part) -> _Look:
        with self._lock:
            last, now = self._last.get(name), self._clock()
            if last is not None and (not last.over.is_set() or now - last.begun < FRESH_S):
                return last
            look = self._last[name] = _Look(now, last.said if last else None)
        threading.Thread(target=_run, args=(look, part), name=f"look {name}", daemon=True).start()
        return look

    def _said(self, look: _Look, part: Part, until: float) -> str:
        if look.over.wait(max(0.0, until - time.monotonic())) and look.said is not None:
            return look.said
        taken = self._clock() - look.begun
        if look.before is not None and taken < part.patience_s:
            return look.before
        return f"does not answer for {max(taken, self._wait_s):.0f} s"


def _run(look: _Look, part: Part) -> None:
    try:
        part.look()
    except RagError as error:
        look.said = str(error)
    except Exception as error:  # noqa: BLE001  (an entry point: a thread must say how it ended)
        _log.exception("a look failed")
        look.said = f"cannot be looked at ({type(error).__name__}): the log says why"
    else:
        look.said = "ok"
    look.over.set()
