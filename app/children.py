"""Child processes that are started again when they die, and that never outlive their parent.

Each child leads a session of its own, so that a Ctrl-C in the terminal reaches the parent alone, and so that what the
child started ends with it.
"""

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_AFTER_S = 60.0
_LOOK_EVERY_S = 0.25
_log = logging.getLogger("zhinao.children")


@dataclass(frozen=True, slots=True)
class Program:
    """What to run. `nice` above 0 lets other work go first; `stop_s` is how long it may take to end.

    What a `silent` one writes to its standard output is dropped; its standard error is ours.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    stop_s: float = 6.0
    silent: bool = False


@dataclass(slots=True)
class _Child:
    program: Program
    process: subprocess.Popen[bytes]
    begun: float
    pause: float = _FIRST_PAUSE_S
    due: float | None = None
    """When it is started again, None while it is there."""
    killed: float | None = None
    """When it is killed if it has not ended by then, None unless it was told to end."""
    restarts: int = 0
    last_code: int | None = None


class Children:
    """Starts programs, watches them in a thread, and ends them, last one first.

    A child that dies, or that cannot be started again, is tried again after a pause that doubles up to 30 s.
    """

    def __init__(self) -> None:
        self._running: list[_Child] = []
        self._wanted: list[Program] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="children", daemon=True)

    def start(self, program: Program) -> None:
        """Start one program. Raises Unavailable when that is not possible."""
        with self._lock:
            self._running.append(_Child(program, _spawn(program), time.monotonic()))
        if not self._watcher.is_alive():
            self._watcher.start()

    def want(self, program: Program) -> None:
        """Have a program started within a moment, unless one of its name is there; any thread may call it."""
        with self._lock:
            known = [*self._wanted, *(child.program for child in self._running)]
            if all(one.name != program.name for one in known):
                self._wanted.append(program)
        if not self._watcher.is_alive():
            self._watcher.start()

    def renew(self, name: str) -> None:
        """Have a child end, politely first, and start again; nothing where none of the name runs."""
        with self._lock:
            for child in self._running:
                if child.program.name == name and child.due is None and child.killed is None:
                    child.process.terminate()
                    child.killed = time.monotonic() + child.program.stop_s

    def stop(self) -> None:
        """End all children: a polite signal, then, after their time is up, the end of their whole group."""
        self._over.set()
        with self._lock:
            for child in reversed(self._running):
                _end(child.program, child.process)
            self._running.clear()
        self._ended.set()

    def kill(self) -> None:
        """End all children at once. It takes no lock: a signal handler calls it while `stop` may hold it."""
        for child in list(self._running):
            _kill_group(child.process.pid)

    def says(self, name: str) -> str:
        """ "ok", or what became of the child of this name: how often it was started again, and its last exit code."""
        with self._lock:
            child = next((c for c in self._running if c.program.name == name), None)
        if child is None:
            return "none here"
        if child.due is not None or child.process.poll() is not None:
            code = child.process.returncode
            return f"ended with exit code {code} and is started again in a moment: the log says why"
        if child.restarts:
            times = "once" if child.restarts == 1 else f"{child.restarts} times"
            return f"started again {times}, last exit code {child.last_code}"
        return "ok"

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again, by its name."""
        with self._lock:
            return {child.program.name: child.restarts for child in self._running}

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_EVERY_S):
            with self._lock:
                self._start_wanted()
                now = time.monotonic()
                for child in self._running:
                    if child.process.poll() is not None:
                        _again(child, now)
                    elif child.killed is not None and now >= child.killed:
                        _kill_group(child.process.pid)
        # A child dies with the thread that started it, so this one outlives the polite end of all.
        self._ended.wait()

    def _start_wanted(self) -> None:
        for program in list(self._wanted):
            try:
                process = _spawn(program)
            except Unavailable as error:
                _log.error("%s", error)
                continue
            self._wanted.remove(program)
            self._running.append(_Child(program, process, time.monotonic()))


def _again(child: _Child, now: float) -> None:
    """Plan the next start of a dead child, or start it when its time has come."""
    name = child.program.name
    if child.due is None:
        _kill_group(child.process.pid)
        child.last_code = child.process.returncode
        if now - child.begun > _HEALTHY_AFTER_S:
            child.pause = _FIRST_PAUSE_S
        _log.warning("%s ended with code %s", name, child.last_code)
        _postpone(child, now)
    elif now >= child.due:
        try:
            child.process = _spawn(child.program)
        except Unavailable as error:
            _log.error("%s", error)
            _postpone(child, now)
        else:
            child.begun, child.due, child.killed = now, None, None
            child.restarts += 1


def _postpone(child: _Child, now: float) -> None:
    child.due = now + child.pause
    _log.warning("%s is started again in %.1f s", child.program.name, child.pause)
    child.pause = min(child.pause * 2, _LONGEST_PAUSE_S)


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    adopt = _adoption(os.getpid(), program.nice)
    try:
        return subprocess.Popen(  # noqa: S603  (our own commands)
            program.command,
            env={**os.environ, **program.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if program.silent else None,
            start_new_session=True,
            preexec_fn=adopt,
        )
    except FileNotFoundError as error:
        raise Unavailable(f"{program.command[0]} is not installed: run the set-up again") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{program.name} could not be started ({error})") from error


def _adoption(parent: int, nice: int) -> Callable[[], None]:
    """What a child does before its program: it asks the kernel to be killed when its parent is gone."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def adopt() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if nice:
            os.nice(nice)
        if os.getppid() != parent:
            os._exit(1)

    return adopt


def _end(program: Program, process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(program.stop_s)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid)
        process.wait()
    _kill_group(process.pid)  # what a leader that ended in order left behind


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
