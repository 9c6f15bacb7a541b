"""How far a collection's files are: since when they are counted, how fast, and what the page says of it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.batch import Batch
from ui.progress import batch_html, pace
from ui.words_en import ENGLISH
from ui.words_zh import CHINESE


def after(looks: Sequence[tuple[float, dict[str, int]]], batch: Batch | None = None) -> Batch:
    for at, counts in looks:
        batch = Batch.seen(batch, "default", counts, at)
    assert batch is not None
    return batch


def told(batch: Batch) -> tuple[int, int, float | None, float | None]:
    return batch.read, batch.total, batch.per_second, batch.seconds_left


def test_files_are_counted_from_what_had_ended_when_the_first_was_seen_open() -> None:
    begun = after([(0, {"done": 500, "failed": 2}), (4, {"done": 501, "failed": 2, "queued": 299})])
    assert told(begun)[:2] == (1, 300)
    later = after([(64, {"done": 557, "failed": 2, "queued": 240, "running": 3})], begun)
    assert told(later)[:2] == (57, 300)


def test_speed_is_that_of_the_last_minute_and_time_left_follows_from_it() -> None:
    looks = [(at, {"queued": 300 - 3 * at, "done": 3 * at}) for at in range(51)]
    assert told(after(looks)) == (150, 300, 3.0, 50.0)
    still = after([(50 + n, {"queued": 150, "done": 150}) for n in range(1, 61)], after(looks))
    assert still.per_second is None
    assert still.seconds_left is None
    assert after(looks[:1]).per_second is None


def test_a_page_that_comes_in_the_middle_counts_from_there() -> None:
    assert told(after([(9, {"done": 57, "queued": 243})])) == (0, 243, None, None)


def test_what_ended_while_nobody_looked_belongs_to_no_batch() -> None:
    idle = after([(0, {"done": 5})])
    assert told(after([(3600, {"done": 5005, "queued": 1})], idle))[:2] == (0, 1)
    assert told(after([(3, {"done": 6, "queued": 1})], idle))[:2] == (1, 2)


def test_another_collection_is_another_batch() -> None:
    here = after([(0, {"done": 5}), (1, {"done": 5, "queued": 9})])
    there = Batch.seen(here, "other", {"queued": 2}, 2)
    assert told(there)[:2] == (0, 2)


def test_what_is_retried_is_open_again_and_of_the_same_batch() -> None:
    here = after([(0, {"done": 5}), (1, {"done": 5, "queued": 10})])
    here = after([(9, {"done": 9, "failed": 3, "queued": 3})], here)
    assert (here.ended, here.total, here.failed) == (7, 10, 3)
    again = after([(10, {"done": 9, "queued": 6})], here)
    assert (again.ended, again.total, again.failed) == (4, 10, 0)
    assert again.per_second is None


COUNTS = st.fixed_dictionaries(
    dict.fromkeys(("queued", "running", "done", "failed", "cancelled", "dead"), st.integers(0, 9))
)


@given(st.lists(st.tuples(st.floats(0.01, 90), COUNTS), min_size=1, max_size=20))
def test_whatever_is_seen_a_part_is_never_more_than_the_whole(steps) -> None:
    now, batch = 0.0, None
    for seconds, counts in steps:
        now += seconds
        batch = Batch.seen(batch, "default", counts, now)
        assert 0 <= batch.read <= batch.ended <= batch.total
        assert batch.total == batch.ended + batch.open
        assert batch.per_second is None or batch.per_second > 0
        assert all(at > now - 90 - 60 for at, _ in batch.looks)
        batch_html(batch, ENGLISH)


def test_the_page_says_how_far_how_fast_and_how_long_still() -> None:
    looks = [(0, {"queued": 300}), (60, {"queued": 243, "done": 57})]
    html = batch_html(after(looks), ENGLISH)
    assert ">57 of 300 files read · 0.9 files/s · about 4 min left<" in html
    assert 'aria-valuenow="19"' in html
    assert "retry" not in html
    chinese = batch_html(after(looks), CHINESE)
    assert ">已读取 57 / 300 个文件 · 0.9 个文件/秒 · 约剩 4 分钟<" in chinese


def test_nothing_is_said_of_a_single_file_or_when_all_is_done() -> None:
    assert batch_html(None, ENGLISH) == ""
    assert batch_html(after([(0, {"queued": 1})]), ENGLISH) == ""
    assert batch_html(after([(0, {"done": 9, "cancelled": 1})]), ENGLISH) == ""


def test_files_that_failed_are_counted_beside_the_button_that_retries_them_all() -> None:
    html = batch_html(after([(0, {"failed": 2, "dead": 1, "cancelled": 4})]), CHINESE)
    assert "3 个文件读取失败" in html
    assert 'data-event="retry">重试全部</button>' in html
    assert "progressbar" not in html


@pytest.mark.parametrize(
    ("speed", "left", "words"),
    [
        (None, None, []),
        (3.21, 20.4, ["3.2 个文件/秒", "约剩 20 秒"]),
        (0.05, 0.1, ["3.0 个文件/分钟", "约剩 1 秒"]),
        (0.1, 7200, ["0.1 个文件/秒", "约剩 2 小时"]),
    ],
)
def test_speed_and_time_left_are_written_in_the_unit_that_reads_best(speed, left, words) -> None:
    assert pace(speed, left, CHINESE) == words
