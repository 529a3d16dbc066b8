import numpy as np
import pytest

from random_bases.analysis import orthogonality
from random_bases.bases import SparseBasis
from tests.dense_reference import dense


@pytest.mark.parametrize("distribution", ["normal", "rademacher"])
def test_cosines_are_those_of_the_dense_reference(distribution):
    size, dimensions = 70, 5
    matrix = dense(size, dimensions, distribution, seed=8)
    matrix /= np.linalg.norm(matrix, axis=0)
    expected = [matrix[:, i] @ matrix[:, j] for i in range(dimensions) for j in range(i + 1, dimensions)]
    found = orthogonality.cosines(distribution, size, dimensions, seed=8)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("basis", "size"),
    [("normal", 64), ("normal", 300), ("uniform", 300), ("rademacher", 300), ("sparse", 64)],
)
def test_deviation_is_one_over_the_root_of_n(basis, size):
    found = orthogonality.cosines(basis, size, 60, seed=1)
    assert len(found) == 60 * 59 / 2
    # Pairs are uncorrelated; the deviation's standard error is 1 / sqrt(2 * 1770) of it.
    expected = orthogonality.expected_deviation(size)
    assert abs(np.sqrt(np.mean(found**2)) / expected - 1) < 5 / np.sqrt(2 * len(found))
    assert abs(found.mean()) < 5 * expected / np.sqrt(len(found))


@pytest.mark.parametrize("basis", ["hadamard", "orthogonal"])
def test_orthonormal_bases_have_cosine_0(basis):
    np.testing.assert_allclose(orthogonality.cosines(basis, 100, 30), 0, atol=1e-5)


def test_what_is_refused():
    with pytest.raises(ValueError, match="dimensions=.*1.* must be an int from 2 to 10"):
        orthogonality.cosines("normal", np.int64(10), np.int64(1))
    with pytest.raises(TypeError, match="size=2.0 must be an int"):
        orthogonality.expected_deviation(2.0)
    with pytest.raises(ZeroDivisionError, match="length 0 at size=2"):
        orthogonality.cosines(SparseBasis(2, 2, density=1e-3), 2, 2)
