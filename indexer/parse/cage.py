"""What a parser child gives up before it reads anything: network, memory, files, programs, and a life of its own."""

import ctypes
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from indexer.parse.limits import Limits

NAMESPACE = "no network (a namespace of its own)"
GUARD = "no network (a guard inside the process, as namespaces are not allowed here)"
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_NETWORK = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyaddr",
        "socket.gethostbyname",
        "socket.sendmsg",
        "socket.sendto",
    }
)
_PROGRAMS = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn"}
)


class Forbidden(OSError):
    """The code that reads a file asked for what no file needs."""


def leave_network() -> str:
    """Call before any thread starts. Returns `NAMESPACE` or, where the kernel refuses, `GUARD`."""
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not sys.platform.startswith("linux") or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return GUARD
    # Without these the process would be nobody, and could not read its owner's files.
    for file, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        try:
            Path(f"/proc/self/{file}").write_text(line)
        except OSError:  # being nobody is no harm to what is read from open files
            break
    return NAMESPACE


def guard(program: Callable[[], str | None]) -> None:
    """Refuse the network and other programs to all Python code from now on, for good.

    Only what `program` returns the path of may be started (LibreOffice). Refusals are `Forbidden`.
    """

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event in _NETWORK or event in _PROGRAMS:
            raise Forbidden(f"{event} is not allowed here")
        if event == "subprocess.Popen":
            command = args[1] if isinstance(args[1], (list, tuple)) else [args[1]]
            if program() is None or program() not in command[:6]:
                raise Forbidden("a program may not be started here")

    sys.addaudithook(hook)


def bound(limits: Limits) -> None:
    """Set what the kernel holds this process and its children to; core dumps are off."""
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.written_mb * 1_000_000),
        (resource.RLIMIT_DATA, limits.memory_mb * 1_000_000),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def bound_cpu(seconds: int) -> None:
    """The kernel ends this process after so many seconds of computing from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def end_with(lifeline: int) -> None:
    """Have the kernel kill this process when the other end of a pipe is closed: when the parent is gone.

    A signal at the parent's death (PR_SET_PDEATHSIG) would come when the thread that started us ends.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)


def peak_bytes() -> int:
    """The greatest resident memory of this process since its program began; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM: 0 kB")
    return int(found.split()[1]) * 1024
