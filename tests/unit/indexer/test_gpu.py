"""What GPUs hold and how they are asked; the same code runs here on CPU indexes in their place."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.segments import gpu, owner
from indexer.segments.gpu import CpuDevices, CudaDevices, OnDevices
from indexer.segments.owner import Owner
from indexer.segments.placement import SCRATCH_BYTES, DoesNotFit, Layout, plan
from indexer.segments.rows import FlatRows, load_faiss
from indexer.segments.segment import Segment, Staged, write_segment
from indexer.segments.vectors import SegmentedVectors
from pipeline.errors import Overloaded, Unavailable
from pipeline.types import Script

GIB = 2**30


def unit(rng: np.random.Generator, n: int, dim: int = 16) -> np.ndarray:
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def segments(tmp_path: Path) -> list[Segment]:
    """3,000, 500 and 40 rows; the first cannot be fetched whole from a GPU."""
    rng, opened, first = np.random.default_rng(1), [], 0
    for n in (3000, 500, 40):
        scripts = tuple([Script.HAN, Script.LATIN][i] for i in rng.integers(0, 2, n))
        rows = Staged(unit(rng, n).astype(np.float16), None, scripts)
        write_segment(tmp_path / str(n), np.arange(first, first + n), [rows], fingerprint="e")
        opened.append(Segment.open(tmp_path / str(n), fingerprint="e"))
        first += n
    return opened


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9 * GIB), max_size=8),
    st.lists(st.integers(0, 24 * GIB), max_size=4),
)
def test_a_plan_never_gives_a_device_more_than_is_free_and_forgets_no_segment(sizes, free):
    layout = plan(sizes, free)
    if isinstance(layout, DoesNotFit):
        assert sizes
        assert "ZHINAO_INDEX__" in layout.sentence
        assert not free or sum(sizes) > min(free) - SCRATCH_BYTES
        return
    assert len(layout.devices) == len(sizes)
    for device, room in enumerate(free):
        held = sum(n for n, on in zip(sizes, layout.devices, strict=True) if device in on)
        assert held <= max(0, room - SCRATCH_BYTES)
    for on in layout.devices:
        assert on == tuple(range(len(free))) if layout.replicated else len(on) == 1


def test_what_fits_everywhere_is_replicated_and_what_does_not_is_sharded():
    assert plan([GIB, GIB], [4 * GIB, 4 * GIB]) == Layout(replicated=True, devices=((0, 1), (0, 1)))
    assert plan([GIB, 3 * GIB], [4 * GIB, 4 * GIB]) == Layout(
        replicated=False, devices=((1,), (0,))
    )
    refused = plan([GIB, 9 * GIB], [4 * GIB, 4 * GIB])
    assert isinstance(refused, DoesNotFit)
    assert "10.00 GiB" in refused.sentence


@pytest.mark.parametrize("room", [[GIB], [GIB, GIB], [SCRATCH_BYTES + 100_000] * 2])
def test_on_devices_the_same_rows_come_back_as_on_the_cpu(segments, room):
    """Replicated or sharded, with rows dead, excluded, and of one script; from 1 to all there are."""
    rng = np.random.default_rng(2)
    devices = OnDevices(CpuDevices(room))
    for share in (0.0, 0.5):
        live = np.arange(3540)[rng.random(3540) >= share]
        placed = SegmentedVectors(segments, live, exact_rows=0, place=devices)
        exact = SegmentedVectors(segments, live, exact_rows=10**9)
        for query in unit(rng, 3):
            for few in (None, 0.9, 0.05, 0.002):
                allowed = None if few is None else live[rng.random(len(live)) < few]
                for k in (1, 30, 3000):
                    for script in (None, Script.HAN):
                        mine = placed.search(query, k, allowed, script)
                        best = exact.search(query, k, allowed, script)
                        assert [key for key, _ in mine] == [key for key, _ in best]
                        scores = [[score for _, score in hits] for hits in (mine, best)]
                        assert np.allclose(*scores, atol=2e-6)
    devices.close()


class Gated:
    """Devices whose searches wait for a gate; `calls` counts the queries of each."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.calls: list[int] = []

    def free(self) -> list[int]:
        return [GIB]

    def load(self, vectors, device):
        flat, devices = FlatRows(vectors).batch(), self

        class Index:
            def search(self, queries, k):
                devices.calls.append(len(queries))
                devices.entered.set()
                assert devices.gate.wait(30)
                return flat.search(queries, k)

        return Index()


def test_searches_that_come_together_go_to_the_device_together(segments):
    gated = Gated()
    one = Owner(gated, 0, wait_s=0.0, most=4)
    one.load(7, segments[0].vectors).result(30)
    queries = unit(np.random.default_rng(3), 10)
    asked = [one.search(7, queries[0], 5)]
    assert gated.entered.wait(30)  # the first is being searched alone
    asked += [one.search(7, query, 3 + i) for i, query in enumerate(queries[1:])]
    gated.gate.set()
    for i, (query, future) in enumerate(zip(queries, asked, strict=True)):
        scores, rows = future.result(30)
        best = np.argsort(-(segments[0].vectors.astype(np.float32) @ query))
        count = 5 if i == 0 else 2 + i
        assert rows.tolist() == best[:count].tolist()
        assert len(scores) == count
    assert gated.calls == [1, 4, 4, 1]
    one.close()


def test_too_many_waiting_searches_are_refused(segments, monkeypatch):
    monkeypatch.setattr(owner, "MOST_WAITING", 3)
    gated = Gated()
    one = Owner(gated, 0, wait_s=0.0, most=1)
    one.load(7, segments[0].vectors).result(30)
    query = unit(np.random.default_rng(3), 1)[0]
    waiting = [one.search(7, query, 1)]
    assert gated.entered.wait(30)
    waiting += [one.search(7, query, 1) for _ in range(3)]
    with pytest.raises(Overloaded, match="try again"):
        one.search(7, query, 1)
    gated.gate.set()
    assert all(future.result(30)[1].shape == (1,) for future in waiting)
    one.close()


def test_requests_of_many_threads_each_get_their_own_answer(segments):
    devices = OnDevices(CpuDevices([GIB, GIB]))
    live = np.arange(3540)
    placed = SegmentedVectors(segments, live, exact_rows=0, place=devices)
    exact = SegmentedVectors(segments, live, exact_rows=10**9)
    queries = unit(np.random.default_rng(4), 60)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda query: placed.search(query, 7, None), queries))
    for query, hits in zip(queries, found, strict=True):
        assert [key for key, _ in hits] == [key for key, _ in exact.search(query, 7, None)]
    devices.close()


class Counting(CpuDevices):
    """Remembers what was loaded."""

    def __init__(self) -> None:
        super().__init__([4 * GIB])
        self.loaded: list[int] = []

    def load(self, vectors, device):
        self.loaded.append(len(vectors))
        return super().load(vectors, device)


def test_a_segment_is_loaded_once_and_leaves_the_device_with_its_last_snapshot(segments):
    counting = Counting()
    devices = OnDevices(counting)
    live = np.arange(3540)
    first = SegmentedVectors(segments, live, place=devices)
    second = SegmentedVectors(segments, live, place=devices)
    assert sorted(counting.loaded) == [40, 500, 3000]
    (holder,) = devices._owners
    assert len(holder._indexes) == 3
    query = unit(np.random.default_rng(4), 1)[0]
    del first, segments[0]
    gc.collect()
    assert len(second.search(query, 3, None)) == 3  # the second still shows them all
    assert len(holder._indexes) == 3
    del second
    gc.collect()
    holder.search(next(iter(holder._indexes)), query, 1).exception(
        30
    )  # all that was asked before is done
    assert len(holder._indexes) == 2
    devices.close()


def test_what_does_not_fit_is_refused_and_goes_to_the_cpu_only_when_told_to(segments, caplog):
    small = [SCRATCH_BYTES + 1000]
    live = np.arange(3540)
    strict = OnDevices(CpuDevices(small))
    with pytest.raises(Unavailable, match="add a GPU"):
        SegmentedVectors(segments, live, place=strict)
    lenient = OnDevices(CpuDevices(small), fallback=True)
    placed = SegmentedVectors(segments, live, exact_rows=0, place=lenient)
    assert "on the CPU" in caplog.text
    assert len(placed.search(unit(np.random.default_rng(4), 1)[0], 9, None)) == 9
    strict.close()
    lenient.close()


class Broken(CpuDevices):
    def load(self, vectors, device):
        raise RuntimeError("out of memory")


def test_a_device_that_refuses_a_segment_is_said_to(segments):
    strict = OnDevices(Broken([GIB]))
    with pytest.raises(Unavailable, match="out of memory"):
        SegmentedVectors(segments, np.arange(3540), place=strict)
    lenient = OnDevices(Broken([GIB]), fallback=True)
    placed = SegmentedVectors(segments, np.arange(3540), exact_rows=0, place=lenient)
    assert len(placed.search(unit(np.random.default_rng(4), 1)[0], 9, None)) == 9
    strict.close()
    lenient.close()


def test_a_search_that_fails_on_the_device_is_an_error_and_the_next_one_works(segments):
    class Once(Gated):
        def load(self, vectors, device):
            flat, failures = FlatRows(vectors).batch(), [RuntimeError("lost")]

            class Index:
                def search(self, queries, k):
                    if failures:
                        raise failures.pop()
                    return flat.search(queries, k)

            return Index()

    devices = OnDevices(Once())
    placed = SegmentedVectors(segments[1:2], np.arange(3000, 3500), exact_rows=0, place=devices)
    query = unit(np.random.default_rng(4), 1)[0]
    with pytest.raises(Unavailable, match="lost"):
        placed.search(query, 3, None)
    assert len(placed.search(query, 3, None)) == 3
    devices.close()


def test_without_a_gpu_cuda_is_refused_with_what_to_do():
    faiss = load_faiss()
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        pytest.skip("there is a GPU")
    with pytest.raises(Unavailable, match="ZHINAO_INDEX__DEVICE=cpu"):
        CudaDevices()


@pytest.mark.gpu
def test_a_gpu_finds_the_rows_that_the_cpu_finds(segments):
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
        pytest.skip("FAISS sees no GPU")
    rng = np.random.default_rng(5)
    devices = OnDevices(CudaDevices())
    live = np.arange(3540)[rng.random(3540) < 0.8]
    placed = SegmentedVectors(segments, live, exact_rows=0, place=devices)
    exact = SegmentedVectors(segments, live, exact_rows=10**9)
    for query in unit(rng, 20):
        for allowed in (None, live[rng.random(len(live)) < 0.3]):
            mine, best = placed.search(query, 20, allowed), exact.search(query, 20, allowed)
            assert [key for key, _ in mine] == [key for key, _ in best]
    devices.close()


def test_more_rows_than_a_gpu_gives_are_searched_on_the_cpu(segments, monkeypatch):
    monkeypatch.setattr(gpu, "MOST_FETCHED", 64)
    devices = OnDevices(CpuDevices([GIB]))
    live = np.arange(3540)
    placed = SegmentedVectors(segments, live, exact_rows=0, place=devices)
    exact = SegmentedVectors(segments, live, exact_rows=10**9)
    rng = np.random.default_rng(6)
    for allowed in (None, live[rng.random(len(live)) < 0.01]):
        query = unit(rng, 1)[0]
        mine, best = placed.search(query, 100, allowed), exact.search(query, 100, allowed)
        assert [key for key, _ in mine] == [key for key, _ in best]
    devices.close()
