"""Redis is gone for a minute while jobs run, wait and arrive: all are done at the end, and none twice."""

import time
from pathlib import Path

from fleet import fleet, text
from processes import until

AWAY_S = 60


def test_a_minute_without_redis_costs_nothing_but_that_minute(tmp_path: Path) -> None:
    with fleet(tmp_path) as processes:
        processes.serve("serve")
        names = [f"{n}.txt" for n in range(60)]
        processes.upload([(name, text(n, 40)) for n, name in enumerate(names[:40])])
        until(lambda: len(processes.running("embed")) == 2, 60)
        in_hand = {row.filename for row in processes.running("embed")}
        processes.redis.kill()
        processes.redis.wait(30)
        gone = time.monotonic()
        for n, name in enumerate(names[40:], 40):
            processes.upload([(name, text(n, 4))])
            told = processes.api.http.get("/health/ready")
            assert told.status_code == 503
            assert "Redis" in told.json()["parts"]["queue"]
            time.sleep(max(0.0, gone + AWAY_S * (n - 39) / 20 - time.monotonic()))
        for row in (
            processes.rows()[name] for name in in_hand
        ):  # what is put off waits for a message
            assert row.status == "done" or row.stage == "publish", (row.filename, row.stage)
        waiting = [row for row in processes.rows().values() if row.status == "queued"]
        assert len(waiting) > 30, "everything was done without Redis: nothing was measured"
        processes.start_redis()
        back = time.monotonic()
        until(processes.ended, 300)
        print(f"{len(waiting)} files waited, all done {time.monotonic() - back:.0f} s after")
        rows = processes.done_once(names)
        assert {row.attempts for row in rows.values()} == {1}
