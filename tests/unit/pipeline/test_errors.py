import pytest

from pipeline.errors import memory_ran_out


@pytest.mark.parametrize(
    ("says", "ran_out"),
    [
        ("Non-zero status code returned while running MatMul node. std::bad_alloc", True),
        ("Failed to allocate memory for requested buffer of size 4096", True),
        ("Exiting due to terminate flag being set to true.", False),
    ],
)
def test_refused_memory_is_known_by_the_words_of_native_libraries(says: str, ran_out: bool) -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

    assert memory_ran_out(RuntimeException(says)) == memory_ran_out(Fail(says)) == ran_out
    assert not memory_ran_out(ValueError(says))
    assert memory_ran_out(MemoryError(says))
