"""Long tests, run by hand: seeds in ranges, and what has passed on this commit is not run again.

`make test-long ARGS="--seeds 0:500"` runs the fuzz tests on those seeds and everything else once; `--again` runs all.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.sets import DATA

ROOT = Path(__file__).parents[2]
STATE = ROOT / ".cache" / "test-long.json"
STEP = 50
"""Seeds of one test, where its module names no STEP of its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", default="0:2000", help="from:to, for the tests that take seeds")
    parser.addoption("--again", action="store_true", help="run what has passed already, too")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seeds" in metafunc.fixturenames:
        first, last = map(int, metafunc.config.getoption("--seeds").split(":"))
        step = getattr(metafunc.module, "STEP", STEP)
        ranges = [range(at, min(at + step, last)) for at in range(first, last, step)]
        metafunc.parametrize("seeds", ranges, ids=lambda seeds: f"{seeds.start}:{seeds.stop}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--again"):
        return
    done = set(_passed())
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = [item for item in items if item.nodeid not in done]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        STATE.parent.mkdir(exist_ok=True)
        told = {"commit": _commit(), "passed": [*_passed(), report.nodeid]}
        STATE.write_text(json.dumps(told, indent=1), encoding="utf-8")


def _passed() -> list[str]:
    """What has passed on the commit that is checked out."""
    if not STATE.exists():
        return []
    told = json.loads(STATE.read_text(encoding="utf-8"))
    return list(told["passed"]) if told["commit"] == _commit() else []


@functools.cache
def _commit() -> str:
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return head.stdout.strip()


@pytest.fixture(scope="session")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the shared data's maker of bad files writes."""
    maker = DATA / "documents" / "bad" / "make_bad.py"
    if not maker.exists():
        pytest.skip("the shared measuring data is not here")
    folder = tmp_path_factory.mktemp("bad")
    subprocess.run(
        [sys.executable, str(maker), "--out", str(folder)], check=True, capture_output=True
    )
    return folder
