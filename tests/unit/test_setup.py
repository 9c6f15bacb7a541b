"""`bin/setup` says what is missing before it makes anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "env", "dirname", "awk", "df", "cat", "touch", "rm")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A clone with nothing but the script, and a PATH of the few tools that it needs."""
    script = tmp_path / "house" / "bin" / "setup"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "bin" / "setup", script)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (tools / name).symlink_to(found)
    return tmp_path


def tool(house: Path, name: str, script: str) -> None:
    path = house / "tools" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{script}\n")
    path.chmod(0o755)


def python(house: Path, name: str, version: str) -> None:
    """A Python of another version: it is asked for nothing but whether it will do."""
    will_do = "0" if version in ("3.11", "3.12") else "1"
    tool(house, name, f'[ "$1" = -c ] && exit {will_do}; echo "$@" >> "$0.called"; exit 9')


def set_up(house: Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", str(house / "house" / "bin" / "setup"), "core"],
        env={"PATH": str(house / "tools"), **environment},
        cwd=os.sep,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stderr


def made(house: Path) -> list[str]:
    return sorted(p.name for p in (house / "house").iterdir())


@pytest.mark.parametrize("there", [(), ("3.10",), ("3.13", "3.10")], ids=["none", "old", "new"])
def test_without_a_fitting_python_it_names_what_to_install_and_makes_nothing(
    house: Path, there: tuple[str, ...]
) -> None:
    for name, version in zip(("python3", "python3.12"), there, strict=False):
        python(house, name, version)
    code, said = set_up(house)
    assert code == 1
    assert said.splitlines() == [
        "error: Python 3.11 or 3.12 is needed: install it (apt install python3 python3-venv), or name one with "
        "PYTHON=/path/to/python3.12"
    ]
    assert made(house) == ["bin"]


def test_a_python_that_is_named_is_taken_before_others(house: Path) -> None:
    python(house, "python3.11", "3.11")
    python(house, "mine", "3.12")
    code, said = set_up(house, PYTHON="mine")
    assert code == 1
    assert "the venv module does not work: apt install python3-venv" in said
    assert (house / "tools" / "mine.called").exists()
    assert not (house / "tools" / "python3.11.called").exists()
    assert made(house) == ["bin"]


@pytest.mark.parametrize("free_kib", [0, 2_999_999])
def test_on_a_full_disk_it_says_how_much_is_needed_and_makes_nothing(
    house: Path, free_kib: int
) -> None:
    python(house, "python3.11", "3.11")
    tool(house, "df", f'echo "File system"; echo "/dev/sda1 9000000 1 {free_kib} 99% /"')
    code, said = set_up(house)
    assert code == 1
    assert said.splitlines() == [
        "error: less than 3 GB are free here: the packages take about 2 GB; free some disk space, then try again"
    ]
    assert made(house) == ["bin"]
    assert not (house / "tools" / "python3.11.called").exists()


def test_a_failed_venv_is_no_environment_the_next_time(house: Path) -> None:
    """A disk that fills up while the environment is made: the next run makes it anew."""
    tool(
        house,
        "python3.11",
        '[ "$1" = -c ] && exit 0\n[ "$1" = --version ] && echo Python && exit 0\n'
        'mkdir -p .venv/bin; echo "No space left on device" >&2; exit 1',
    )
    (house / "tools" / "mkdir").symlink_to(str(shutil.which("mkdir")))
    half = house / "house" / ".venv" / "bin"
    half.mkdir(parents=True)
    (half / "left").touch()
    code, said = set_up(house)
    assert code == 1
    assert "making .venv" in said
    assert not (half / "left").exists()
