"""Child processes that are started again when they die, and that never outlive their parent."""

import ctypes
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_AFTER_S = 60.0
_log = logging.getLogger("zhinao.children")


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `nice` above 0 lets other work go first; `stop_s` is how long it may take to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    stop_s: float = 6.0


class Children:
    """Starts programs, watches them in a thread, and ends them, last one first.

    A child that dies is started again after a pause that doubles up to 30 s; the count is shown by `restarts`.
    """

    def __init__(self) -> None:
        self._running: list[tuple[Program, subprocess.Popen[bytes]]] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="children", daemon=True)
        self._due: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._begun: dict[str, float] = {}
        self.restarts: dict[str, int] = {}

    def start(self, program: Program) -> None:
        """Start one program. Raises Unavailable when its executable is missing."""
        with self._lock:
            self._running.append((program, self._spawn(program)))
        if not self._watcher.is_alive():
            self._watcher.start()

    def stop(self) -> None:
        """End all children: a polite signal, then, after their time is up, the other one."""
        self._over.set()
        with self._lock:
            for program, process in reversed(self._running):
                _end(program, process)
            self._running.clear()

    def _spawn(self, program: Program) -> subprocess.Popen[bytes]:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        parent = os.getpid()

        def adopt() -> None:
            prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if program.nice:
                os.nice(program.nice)
            if os.getppid() != parent:
                os._exit(1)

        self._begun[program.name] = time.monotonic()
        try:
            return subprocess.Popen(  # noqa: S603  (our own commands)
                program.command,
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                preexec_fn=adopt,
            )
        except FileNotFoundError as error:
            raise Unavailable(
                f"{program.command[0]} is not installed: run the set-up again"
            ) from error

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            with self._lock:
                for index, (program, process) in enumerate(self._running):
                    if process.poll() is not None:
                        self._again(index, program, process.returncode)

    def _again(self, index: int, program: Program, code: int) -> None:
        now = time.monotonic()
        name = program.name
        if name not in self._due:
            healthy = now - self._begun[name] > _HEALTHY_AFTER_S
            pause = _FIRST_PAUSE_S if healthy else self._pause.get(name, _FIRST_PAUSE_S)
            self._pause[name] = min(pause * 2, _LONGEST_PAUSE_S)
            self._due[name] = now + pause
            _log.warning("%s ended with code %s and is started again in %.1f s", name, code, pause)
        elif now >= self._due[name]:
            del self._due[name]
            self.restarts[name] = self.restarts.get(name, 0) + 1
            self._running[index] = (program, self._spawn(program))


def _end(program: Program, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(program.stop_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
