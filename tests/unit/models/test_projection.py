"""The shipped projection, and what is refused in its place."""

import numpy as np
import pytest

from models.projection import load_projection, unit
from pipeline.errors import ModelUnavailable


def test_the_shipped_projection_is_orthonormal_and_makes_unit_vectors():
    projection = load_projection()
    assert (projection.matrix.shape, projection.dim) == ((384, 96), 96)
    np.testing.assert_allclose(projection.matrix.T @ projection.matrix, np.eye(96), atol=2e-3)
    hidden = np.random.default_rng(0).standard_normal((5, 384)).astype(np.float32) * 7
    projected = projection.apply(hidden)
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(projected, unit(hidden @ projection.matrix), atol=1e-6)


def test_another_matrix_has_another_checksum(tmp_path):
    matrix = load_projection().matrix.copy()
    np.savez(tmp_path / "same.npz", matrix=matrix)
    assert load_projection(tmp_path / "same.npz").sha256 == load_projection().sha256
    matrix[0, 0] += 0.01
    np.savez(tmp_path / "other.npz", matrix=matrix)
    assert load_projection(tmp_path / "other.npz").sha256 != load_projection().sha256


@pytest.mark.parametrize(
    "arrays",
    [{}, {"matrix": np.zeros(384)}, {"matrix": np.zeros((2, 3))}, {"matrix": np.array([{}])}],
    ids=["no matrix", "flat", "wide", "pickled"],
)
def test_another_file_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ModelUnavailable, match="Install the package again"):
        load_projection(tmp_path / "bad.npz")


def test_a_missing_or_broken_file_is_refused(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 cut")
    for name in ("broken.npz", "missing.npz"):
        with pytest.raises(ModelUnavailable, match="can't be read"):
            load_projection(tmp_path / name)
