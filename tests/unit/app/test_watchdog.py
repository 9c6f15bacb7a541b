"""When a worker that lives, but takes nothing, is started anew: laws, and a deaf worker in tests/e2e/test_chaos.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.watchdog import STILL_S, Patience, look
from indexer.jobs.vitals import Pulse

seconds = st.floats(0.1, 30.0)


def looks(patience: Patience, steps: list[tuple[float, Pulse]]) -> tuple[Patience, list[float]]:
    """What is known after all looks, each so many seconds after the one before, and when a worker was started anew."""
    now, renewed = 0.0, []
    for after, pulse in steps:
        now += after
        patience, deaf = look(patience, pulse, now)
        if deaf:
            renewed.append(now)
    return patience, renewed


@given(st.lists(seconds, max_size=200), st.integers(1, 3))
@settings(deadline=None)
def test_a_worker_in_whose_hands_a_job_is_is_left_alone(after: list[float], running: int) -> None:
    assert looks(Patience(STILL_S), [(s, Pulse(running, 5)) for s in after])[1] == []


@given(st.lists(seconds, max_size=200))
@settings(deadline=None)
def test_a_worker_that_took_a_job_since_the_last_look_is_left_alone(after: list[float]) -> None:
    assert looks(Patience(STILL_S), [(s, Pulse(0, n)) for n, s in enumerate(after)])[1] == []


@given(st.lists(seconds, min_size=1, max_size=400))
@settings(deadline=None)
def test_a_deaf_one_is_started_anew_within_its_time_and_each_next_time_gets_twice_as_much(
    after: list[float],
) -> None:
    _, renewed = looks(Patience(STILL_S), [(s, Pulse(0, 7)) for s in after])
    at = after[0] + STILL_S
    for times, moment in enumerate(renewed, 1):
        assert at <= moment < at + 30.0 + 1e-6
        at = moment + STILL_S * 2**times
    assert sum(after) < at + 30.0


@pytest.mark.parametrize(
    "sign", [Pulse(1, 7), Pulse(0, 8)], ids=["a-job-runs", "a-job-was-claimed"]
)
def test_a_sign_of_life_gives_the_first_patience_back(sign: Pulse) -> None:
    still = Pulse(0, 7)
    patience, renewed = looks(Patience(STILL_S), [(10.0, still)] * 40)
    assert len(renewed) == 2
    assert patience.limit_s == STILL_S * 4
    patience, deaf = look(patience, sign, 1_000.0)
    assert (patience.limit_s, deaf) == (STILL_S, False)
