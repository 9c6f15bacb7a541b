"""What `zhinao schedule` prints."""

import pytest

from app.job_schemas import ScheduleOut
from app.schedule_cli import _show

ID = "0f657195f1c54960ac35d55fbbf23793"


@pytest.mark.parametrize(
    ("zone", "due"), [("Asia/Shanghai", "2027-01-15 16:00"), ("UTC", "2027-01-15 08:00")]
)
def test_a_schedule_is_listed_with_its_whole_id_and_in_its_own_zone(
    capsys: pytest.CaptureFixture[str], zone: str, due: str
) -> None:
    one = ScheduleOut(
        id=ID,
        kind="expire",
        collection="manuals",
        when="at 16:00",
        zone=zone,
        payload={"days": 365.0},
        next=1_800_000_000,
        last=None,
        job_id=None,
    )
    _show([one], as_json=False)
    told = capsys.readouterr().out
    assert ID in told
    assert due in told
    assert "days 365 " in told
