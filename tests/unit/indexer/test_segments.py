"""Segments are whole or not there, say when they are damaged, and stay few."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.segments import ivf
from indexer.segments.ivf import build_ivf, read_ivf
from indexer.segments.segment import (
    IndexRule,
    Segment,
    SegmentCache,
    Staged,
    merge_segments,
    read_staged,
    to_merge,
    write_segment,
    write_staged,
)
from pipeline.errors import DamagedIndex, IndexMismatch, Unavailable
from pipeline.types import Script


def rows(n: int = 6, *, tokens: bool = True) -> Staged:
    rng = np.random.default_rng(n)
    codes = tuple(rng.integers(-127, 128, (2 + i % 3, 4)).astype(np.int8) for i in range(n))
    scripts = tuple([Script.HAN, Script.LATIN][i % 2] for i in range(n))
    return Staged(
        rng.standard_normal((n, 8)).astype(np.float16), codes if tokens else None, scripts
    )


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    write_segment(tmp_path / "1", np.arange(6), [rows()], fingerprint="e")
    return tmp_path / "1"


@pytest.mark.parametrize("tokens", [True, False])
@pytest.mark.parametrize("n", [0, 1, 6])
def test_staged_rows_come_back_as_they_were(tmp_path, n, tokens):
    told = rows(n, tokens=tokens)
    write_staged(tmp_path / "v.npz", told)
    read = read_staged(tmp_path / "v.npz")
    assert np.array_equal(read.vectors, told.vectors)
    assert read.vectors.dtype == np.float16
    assert read.scripts == told.scripts
    assert (read.tokens is None) == (not tokens)
    for ours, theirs in zip(read.tokens or (), told.tokens or (), strict=True):
        assert np.array_equal(ours, theirs)
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]


def test_a_staged_file_that_is_broken_is_said_to_be(tmp_path):
    path = tmp_path / "v.npz"
    write_staged(path, rows())
    data = path.read_bytes()
    vector = rows().vectors[3].tobytes()
    changed = data.replace(vector, vector[:-1] + bytes([vector[-1] ^ 1]))
    for broken in (data[: len(data) // 2], b"", changed):
        path.write_bytes(broken)
        with pytest.raises(DamagedIndex):
            read_staged(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_staged(path)


def test_a_segment_holds_the_rows_it_was_given(segment):
    told = rows()
    opened = Segment.open(segment, fingerprint="e", verify=True)
    assert np.array_equal(opened.vectors, told.vectors)
    assert opened.vectors.dtype == np.float16
    assert isinstance(opened.vectors, np.memmap)
    assert all(
        np.array_equal(opened.tokens_of(i), codes) for i, codes in enumerate(told.tokens or ())
    )
    assert opened.counts.tolist() == [3, 3]
    assert np.allclose(opened.sums[0], told.vectors[::2].astype(np.float64).sum(axis=0))
    assert [path.name for path in segment.parent.iterdir()] == ["1"]


def test_a_segment_of_format_1_is_still_read(segment):
    """It holds a copy of the vectors for FAISS, and says nothing of its index."""
    manifest = json.loads((segment / "manifest.json").read_bytes())
    del manifest["index"]
    (segment / "faiss.index").write_bytes(b"once")
    told = {"size": 4, "sha256": hashlib.sha256(b"once").hexdigest()}
    manifest = {**manifest, "format": 1, "files": {**manifest["files"], "faiss.index": told}}
    (segment / "manifest.json").write_text(json.dumps(manifest))
    opened = Segment.open(segment, fingerprint="e", verify=True)
    assert np.array_equal(opened.vectors, rows().vectors)
    assert opened.index_told == {"type": "flat"}


def test_a_segment_of_a_later_format_is_refused(segment):
    manifest = json.loads((segment / "manifest.json").read_bytes())
    (segment / "manifest.json").write_text(json.dumps({**manifest, "format": 3}))
    with pytest.raises(IndexMismatch, match="format 3"):
        Segment.open(segment, fingerprint="e")


def test_lists_that_are_cut_short_or_changed_are_found(tmp_path):
    folder = tmp_path / "1"
    write_segment(folder, np.arange(60), [rows(60)], fingerprint="e", rule=IndexRule(flat_rows=50))
    path = folder / "ivf.index"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedIndex):
        Segment.open(folder, fingerprint="e")
    path.write_bytes(b"none" + data[4:])
    with pytest.raises(DamagedIndex, match="cannot be read"):
        Segment.open(folder, fingerprint="e")
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedIndex, match="changed"):
        Segment.open(folder, fingerprint="e", verify=True)


def test_lists_written_in_many_shards_are_those_written_in_one(tmp_path, monkeypatch):
    vectors = np.random.default_rng(3).standard_normal((20_000, 4)).astype(np.float16)
    vectors /= np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True).astype(np.float16)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    told = build_ivf(tmp_path / "a", vectors, IndexRule())
    monkeypatch.setattr(ivf, "SHARD_BYTES", 1)
    assert build_ivf(tmp_path / "b", vectors, IndexRule()) == told
    assert files(tmp_path / "b") == ["ivf.index"]
    assert (tmp_path / "a/ivf.index").read_bytes() == (tmp_path / "b/ivf.index").read_bytes()


def test_equal_vectors_make_lists_that_find_them(tmp_path):
    """k-means has nothing to tell apart then."""
    vectors = np.tile(np.array([[0.6, 0.8]], np.float16), (500, 1))
    told = build_ivf(tmp_path, vectors, IndexRule(recall=0.5))
    assert told["nprobe"] <= told["nlist"]
    found = read_ivf(tmp_path).search(vectors[:1].astype(np.float32), 500)[1]
    assert read_ivf(tmp_path).ntotal == 500
    assert (found >= 0).any()


@pytest.mark.parametrize("recall", [0.49, 1.01])
def test_a_recall_out_of_range_is_refused(recall):
    with pytest.raises(ValueError, match="recall"):
        IndexRule(recall=recall)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_truncated_or_missing_file_is_found_on_opening(segment):
    for name in files(segment):
        path = segment / name
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        with pytest.raises(DamagedIndex):
            Segment.open(segment, fingerprint="e")
        path.unlink()
        with pytest.raises(DamagedIndex, match=r"missing|gone"):
            Segment.open(segment, fingerprint="e")
        path.write_bytes(data)
    Segment.open(segment, fingerprint="e", verify=True)


def test_every_flipped_byte_is_found_by_verifying(segment):
    for name in files(segment):
        if name == "manifest.json":
            continue
        path = segment / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DamagedIndex, match="changed"):
            Segment.open(segment, fingerprint="e", verify=True)
        path.write_bytes(data)


def test_a_segment_of_another_embedder_is_refused_with_what_to_do(segment):
    with pytest.raises(IndexMismatch, match="re-index") as caught:
        Segment.open(segment, fingerprint="other")
    assert not isinstance(caught.value, DamagedIndex)


def test_a_segment_that_is_gone_is_said_to_be(tmp_path):
    with pytest.raises(DamagedIndex, match="gone"):
        Segment.open(tmp_path / "1", fingerprint="e")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    wrong = Staged(np.zeros((2, 8), np.float16), None, (Script.HAN,) * 2)
    with pytest.raises(ValueError, match="ascend"):
        write_segment(tmp_path / "1", np.array([5, 5]), [wrong], fingerprint="e")
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        write_segment(tmp_path / "file" / "1", np.arange(2), [wrong], fingerprint="e")
    assert files(tmp_path) == ["file"]


def test_a_half_written_folder_of_a_killed_writer_is_not_in_the_way(tmp_path):
    half = tmp_path / ".1.0123.tmp"
    half.mkdir()
    (half / "keys.npy").write_bytes(b"")
    write_segment(tmp_path / "1", np.arange(6), [rows()], fingerprint="e")
    assert len(Segment.open(tmp_path / "1", fingerprint="e", verify=True)) == 6


def test_merging_keeps_the_order_of_keys_and_live_rows_only(tmp_path):
    told = rows(6), rows(4, tokens=False)
    write_segment(tmp_path / "1", np.array([0, 2, 4, 6, 8, 10]), told[:1], fingerprint="e")
    write_segment(tmp_path / "2", np.array([1, 3, 5, 7]), told[1:], fingerprint="e")
    opened = [Segment.open(tmp_path / name, fingerprint="e") for name in "12"]
    live = np.array([1, 2, 5, 10, 99])
    assert merge_segments(opened, live, tmp_path / "3", fingerprint="e") == 4
    merged = Segment.open(tmp_path / "3", fingerprint="e", verify=True)
    assert merged.keys.tolist() == [1, 2, 5, 10]
    assert np.array_equal(merged.vectors[[0, 2]], told[1].vectors[[0, 2]])
    assert np.array_equal(merged.vectors[[1, 3]], told[0].vectors[[1, 5]])
    assert merged.tokens_of(0) is None
    assert np.array_equal(merged.tokens_of(3), told[0].tokens[5])


def test_merging_dead_rows_leaves_an_empty_segment(segment):
    opened = [Segment.open(segment, fingerprint="e")]
    folder = segment.parent / "2"
    assert merge_segments(opened, np.array([77]), folder, fingerprint="e") == 0
    assert len(Segment.open(folder, fingerprint="e")) == 0


def test_a_cached_segment_is_opened_once_and_let_go_with_its_last_reader(segment):
    cache = SegmentCache()
    first = cache.open(segment, fingerprint="e")
    assert cache.open(segment, fingerprint="e") is first
    (segment / "manifest.json").unlink()
    assert cache.open(segment, fingerprint="e") is first
    del first
    with pytest.raises(DamagedIndex):
        cache.open(segment, fingerprint="e")


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=400))
def test_segments_stay_few_and_each_row_is_rewritten_seldom(uploads):
    sizes: dict[int, int] = {}
    rewritten: dict[int, int] = {}
    next_id = total = 0
    for size in uploads:
        sizes[next_id], rewritten[next_id], next_id = size, 0, next_id + 1
        total += size
        while chosen := to_merge(sizes):
            sizes[next_id] = sum(sizes.pop(i) for i in chosen)
            rewritten[next_id] = 1 + max(rewritten.pop(i) for i in chosen)
            next_id += 1
        classes = math.floor(math.log(max(total, 1), 8) + 1e-9) + 1
        assert len(sizes) <= 7 * (classes + 1)  # and one class for empty segments
        assert max((rewritten[i] for i in sizes if sizes[i]), default=0) <= classes
        assert sum(sizes.values()) == total


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=300))
def test_large_segments_are_two_of_a_class_at_most(uploads):
    """Above 4,096 rows three are one: fewer to search, and more, though still bounded, to rewrite."""
    sizes: dict[int, int] = {}
    rewritten: dict[int, int] = {}
    for next_id, size in enumerate(uploads, 1000):
        sizes[next_id], rewritten[next_id] = size, 0
        while chosen := to_merge(sizes):
            merged = min(sizes) - 1
            sizes[merged] = sum(sizes.pop(i) for i in chosen)
            rewritten[merged] = 1 + max(rewritten.pop(i) for i in chosen)
        large = [size for size in sizes.values() if size >= 4096]
        classes = math.floor(math.log(max([4096, *large]) / 4096, 3) + 1e-9) + 1
        assert len(large) <= 2 * classes
        assert len(sizes) - len(large) <= 7 * 4
        assert max(rewritten[i] for i in sizes) <= 4 + classes


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.integers(0, 50), st.tuples(st.integers(0, 500), st.integers(0, 500))))
def test_merging_ends_with_few_dead_rows_anywhere(told):
    sizes = {i: a + b for i, (a, b) in told.items()}
    dead = {i: b for i, (_, b) in told.items()}
    next_id, live = 100, sum(a for a, _ in told.values())
    while chosen := to_merge(sizes, dead):
        sizes[next_id] = sum(sizes.pop(i) - dead.pop(i) for i in chosen)
        dead[next_id], next_id = 0, next_id + 1
        assert next_id < 300
    assert sum(sizes.values()) - sum(dead.values()) == live
    assert all(dead[i] <= 0.1 * sizes[i] for i in sizes)
