from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.jobs.kinds import RULES, Queue, kinds_of, pause_s, queue_of
from pipeline.types import JobKind

DICE = st.floats(0, 1, exclude_max=True)


def test_every_kind_has_a_rule_and_is_of_one_queue() -> None:
    assert set(RULES) == set(JobKind)
    assert sorted(kind for queue in Queue for kind in kinds_of(queue)) == sorted(JobKind)
    assert all(kind in kinds_of(queue_of(kind)) for kind in JobKind)
    assert all(rule.attempts >= rule.losses >= 2 for rule in RULES.values())


@settings(deadline=None)
@given(st.integers(1, 10_000), DICE, DICE)
def test_a_pause_grows_whatever_the_dice_say_and_has_an_end(
    attempts: int, one: float, other: float
) -> None:
    early, late = pause_s(attempts, one), pause_s(attempts + 1, other)
    assert 4 <= early <= 720
    assert late > early or late >= 480


@settings(deadline=None)
@given(st.integers(1, 50), DICE)
def test_a_pause_is_a_fifth_from_the_plain_one_at_most(attempts: int, dice: float) -> None:
    plain = min(600, 5 * 2 ** (attempts - 1))
    assert abs(pause_s(attempts, dice) - plain) <= plain * 0.2 + 1e-9
