import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from models.device import choose, halving, memory
from pipeline.errors import InvalidInput, ModelUnavailable, Overloaded


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch as it looks on a machine with two: nothing runs on them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (9 - 2 * place.index, 0))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_an_error() -> None:
    for name in ("cpu", "auto"):
        device = choose(name)
        assert (device.place.type, device.dtype, device.attention) == ("cpu", torch.float32, "sdpa")
    for name in ("cuda", "cuda:0", "cuda:1"):
        with pytest.raises(ModelUnavailable, match=f"{name} was asked for.* no GPU"):
            choose(name)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_the_number_format_follows_the_gpu() -> None:
    assert choose("cpu").place.type == "cpu"
    assert choose("auto").place == torch.device("cuda", 0)
    assert choose("cuda").dtype is torch.bfloat16
    assert (choose("cuda:1").place, choose("cuda:1").dtype) == (
        torch.device("cuda", 1),
        torch.float16,
    )
    with pytest.raises(ModelUnavailable, match="sees 2 GPUs"):
        choose("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1"])
def test_another_name_is_no_device(name: str) -> None:
    with pytest.raises(InvalidInput, match="no device"):
        choose(name)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "torch" else SimpleNamespace()
    )
    with pytest.raises(ModelUnavailable, match=r"zhinao-rag\[torch\]"):
        choose("cpu")
    assert "torch" in sys.modules


class Small:
    """Doubles numbers, at most `rows` of them at once."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.calls: list[int] = []

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.calls.append(len(rows))
        if len(rows) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [2 * row for row in rows]


def test_a_batch_that_is_too_much_is_halved_once() -> None:
    small = Small(3)
    assert halving("The embedder", small)([1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
    assert small.calls == [5, 3, 2]


@pytest.mark.parametrize(("rows", "calls"), [(2, [5, 3]), (0, [5, 3])])
def test_a_half_that_is_too_much_is_overloaded(rows: int, calls: list[int]) -> None:
    small = Small(rows)
    with pytest.raises(Overloaded, match="too little GPU memory for 5 texts") as caught:
        halving("The embedder", small)([1, 2, 3, 4, 5])
    assert small.calls == calls
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


def test_a_single_row_is_not_halved() -> None:
    small = Small(0)
    with pytest.raises(Overloaded):
        halving("The embedder", small)([1])
    assert small.calls == [1]


def test_a_model_that_does_not_fit_is_unavailable() -> None:
    with (
        pytest.raises(ModelUnavailable, match="does not fit into the memory of cpu"),
        memory("360Zhinao-search", choose("cpu")),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory.")
