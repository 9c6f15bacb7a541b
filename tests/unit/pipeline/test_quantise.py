"""Codes keep the direction of a vector."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.quantise import dequantise, quantise


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1, 2, 96, 384]))
@settings(deadline=None, max_examples=50)
def test_a_vector_comes_back_in_the_same_direction_with_length_one(seed, count, dim):
    vectors = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = quantise(vectors)
    assert codes.dtype == np.int8
    assert codes.shape == vectors.shape
    back = dequantise(codes)
    assert back.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-5)
    assert np.sum(back * vectors, axis=1).min() > 0.9995


def test_the_whole_range_is_used_and_never_left():
    lopsided = np.array([[1, 0.004], [-1, -0.004], [0.001, 0.001]], dtype=np.float32)
    assert quantise(lopsided).tolist() == [[127, 1], [-127, -1], [127, 127]]


def test_zeros_stay_zeros_and_nothing_stays_nothing():
    assert dequantise(quantise(np.zeros((2, 3), np.float32))).tolist() == [[0, 0, 0]] * 2
    assert dequantise(quantise(np.zeros((0, 3), np.float32))).shape == (0, 3)
