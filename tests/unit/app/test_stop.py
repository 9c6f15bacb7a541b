import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.stop import Stop


@dataclass
class Serving:
    should_exit: bool = False


def never() -> None:
    raise AssertionError("nothing is ended at once here")


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_undoes_what_was_begun_or_ends_the_server(kind: signal.Signals) -> None:
    before = signal.getsignal(kind)
    with pytest.raises(SystemExit) as ended, Stop(never):
        os.kill(os.getpid(), kind)
    assert ended.value.code == 0
    server = Serving()
    with Stop(never) as stop:
        stop.of(server)
        os.kill(os.getpid(), kind)
        assert server.should_exit
    assert signal.getsignal(kind) is before


class Named:
    """Python wraps what is raised here, and so do callbacks of libraries."""

    def __set_name__(self, owner: type, name: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_ends_the_server_well_wherever_it_strikes() -> None:
    with pytest.raises(SystemExit) as ended, Stop(never):
        type("Struck", (), {"named": Named()})
    assert ended.value.code == 0


def test_a_closed_terminal_does_not_end_what_was_started_with_nohup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop(never):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "at-once"
    program = (
        "import os, pathlib, signal, types\n"
        "from app.stop import Stop\n"
        f"with Stop(pathlib.Path({str(mark)!r}).touch) as stop:\n"
        "    stop.of(types.SimpleNamespace(should_exit=False))\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, b"")
    assert mark.exists()
