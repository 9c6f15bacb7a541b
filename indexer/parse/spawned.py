"""A parser child as its pool sees it: started, asked, watched, and killed with all that it started."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.parse import wire
from indexer.parse.limits import Limits
from indexer.parse.wire import Kind
from pipeline.errors import Unavailable

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
"""What a child sees of our environment: no key, no address of a database."""
_OWN = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),  # what OCR takes for a page goes back to the system
    "PYTHONIOENCODING": "utf-8",
}
_STARTS_IN_S = 120.0
_LOOK_EVERY_S = 0.05
_TREE_EVERY_S = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a child answered; `peak` is its greatest resident memory so far in bytes, `cpu_s` all its computing."""

    kind: Kind
    body: bytes
    peak: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Broken:
    """A child ran into the limit of this name (of `Limits`), or died of `code`, minus a signal's number."""

    limit: str | None
    code: int | None = None


class Spawned:
    """One child process. It answers one request at a time: `ask`, then `look` until something comes."""

    def __init__(
        self,
        limits: Limits,
        layout_model: Path | None = None,
        program: Sequence[str] = ("-m", "indexer.parse.child"),
    ) -> None:
        self._limits = limits
        self._received = bytearray()
        self._begun = self._looked = self._counted = time.monotonic()
        self._cpu_before = 0.0
        self._tree: tuple[int, ...] = ()
        self.files = 0
        self.waiting = False
        self.peak = 0
        ours, theirs = socket.socketpair()
        held, self._lifeline = os.pipe()
        given = {
            "limits": dataclasses.asdict(limits),
            "layout_model": str(layout_model) if layout_model else None,
        }
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [
                    *(sys.executable, "-P", *program),
                    *(str(theirs.fileno()), str(held), json.dumps(given)),
                ],
                env={
                    **{name: os.environ[name] for name in _KEPT if name in os.environ},
                    **_OWN,
                    "PYTHONPATH": str(Path(__file__).parents[2]),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), held),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(self._lifeline)
            raise Unavailable(
                f"no process to read files in could be started ({error.strerror}): try again later"
            ) from error
        finally:
            theirs.close()
            os.close(held)
        self._socket = ours
        ours.settimeout(0.0)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ready(self) -> Reply | Broken:
        """The first answer: how the network is off, or why nothing can be read."""
        self._begun = time.monotonic()
        while (answer := self.look(seconds=_STARTS_IN_S)) is None:
            time.sleep(0.005)
        return answer

    def ask(self, request: Mapping[str, object], fds: Sequence[int]) -> None:
        """Raises OSError when the child is gone."""
        self._begun = time.monotonic()
        self._received.clear()
        self._socket.settimeout(10.0)
        self.waiting = True
        try:
            wire.ask(self._socket, request, fds)
        finally:
            self._socket.settimeout(0.0)

    def look(self, seconds: float | None = None) -> Reply | Broken | None:
        """The answer, if it is there; it stands within the limits, or the child is `Broken` and killed."""
        try:
            while piece := self._socket.recv(1 << 20):
                self._received += piece
                if self._over():
                    return self._break("result_mb")
                if self._received[0] not in set(Kind):
                    return self._break(None)
                if (reply := self._reply()) is not None:
                    return reply
            return self._break(None)
        except BlockingIOError:
            pass
        except OSError:
            return self._break(None)
        now = time.monotonic()
        if now - self._begun > (seconds or self._limits.seconds):
            return self._break("seconds")
        if now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            used, computed = self._usage(now)
            self.peak = max(self.peak, used)
            if used > self._limits.memory_mb * 1_000_000:
                return self._break("memory_mb")
            if seconds is None and computed - self._cpu_before > self._limits.cpu_seconds:
                return self._break("cpu_seconds")
        return None

    def resident(self) -> int:
        """Bytes of memory it holds now."""
        return sum(map(_resident, (self.pid, *self._tree)))

    def stop(self) -> None:
        """End it and all that it started, at once; who waits for its answer sees it broken."""
        if self._process.returncode is None:
            for pid in (self.pid, *_session(self.pid)):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()

    def kill(self) -> None:
        """`stop`, and let go of it; calling again changes nothing."""
        self.stop()
        self._socket.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def _over(self) -> bool:
        if len(self._received) < wire.HEAD.size:
            return False
        return int(wire.HEAD.unpack_from(self._received)[1]) > self._limits.result_mb * 1_000_000

    def _reply(self) -> Reply | None:
        if len(self._received) < wire.HEAD.size:
            return None
        kind, size, peak, cpu_s = wire.HEAD.unpack_from(self._received)
        if len(self._received) < wire.HEAD.size + size:
            return None
        body = bytes(memoryview(self._received)[wire.HEAD.size : wire.HEAD.size + size])
        self._received = bytearray()
        self.peak = max(self.peak, peak)
        self._cpu_before = cpu_s
        self.waiting = False
        return Reply(Kind(kind), body, peak, cpu_s)

    def _break(self, limit: str | None) -> Broken:
        near = self.peak > 0.8 * self._limits.memory_mb * 1_000_000
        if limit is None:  # it hangs up before it is dead
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
        code = self._process.poll()
        self.kill()
        if limit is None and code == -signal.SIGXCPU:
            limit = "cpu_seconds"
        elif limit is None and near and code in _OUT_OF_MEMORY:
            limit = "memory_mb"  # native code that gets no memory gives up in these ways
        return Broken(limit, code)

    def _usage(self, now: float) -> tuple[int, float]:
        """Resident bytes and CPU seconds, of what it started, too."""
        if now - self._counted >= _TREE_EVERY_S:
            self._counted = now
            self._tree = tuple(_session(self.pid)) if _has_children(self.pid) else ()
        pids = (self.pid, *self._tree)
        return sum(map(_resident, pids)), sum(map(_computed, pids))


_OUT_OF_MEMORY = tuple(
    -number
    for number in (
        signal.SIGABRT,
        signal.SIGBUS,
        signal.SIGILL,
        signal.SIGSEGV,
        signal.SIGTRAP,
    )
)


def _read(path: str) -> str:
    """A file of /proc; nothing where there is none, on other systems or of a process that ended."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _resident(pid: int) -> int:
    told = _read(f"/proc/{pid}/statm").split()
    return int(told[1]) * _PAGE if len(told) > 1 else 0


def _fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat (proc_pid_stat(5)) from the third on: the second may hold spaces."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _computed(pid: int) -> float:
    fields = _fields(pid)
    return sum(map(int, fields[11:15])) / _TICKS if len(fields) > 14 else 0.0


def _has_children(pid: int) -> bool:
    return bool(_read(f"/proc/{pid}/task/{pid}/children").strip())


def _session(leader: int) -> Iterator[int]:
    """The other processes of a session."""
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        fields = _fields(pid)
        if pid != leader and len(fields) > 3 and fields[3] == str(leader):
            yield pid
