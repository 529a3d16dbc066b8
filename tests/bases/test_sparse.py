import numpy as np
import pytest

from random_bases import bases
from random_bases.sampling.distributions import sparse
from tests.dense_reference import block_samples, eagerly, sketches_of_units, stream_key, threefry


def matrix(basis, *address):
    with eagerly():
        units = np.eye(basis.dimensions, dtype=np.float32)
        return np.stack([basis.expand(unit, *address) for unit in units], axis=1)


@pytest.mark.parametrize("density", [1 / 3, 0.01, 0.5, 1, "sqrt"])
def test_entries_are_zero_or_of_one_size_each_as_often_as_it_should(density):
    size, dimensions = 2500, 40
    found = matrix(bases.get("sparse", size, dimensions, density=density), 3, 1, 2) * np.sqrt(size)
    share = size**-0.5 if density == "sqrt" else density
    np.testing.assert_allclose(np.unique(np.abs(found[found != 0])), share**-0.5, rtol=1e-6)
    for count, probability in (((found > 0).sum(), share / 2), ((found < 0).sum(), share / 2)):
        error = np.sqrt(probability * (1 - probability) * found.size)
        assert abs(count - probability * found.size) <= 5 * error


def test_the_default_is_that_of_achlioptas():
    """Bit for bit what the reference makes of the documented stream (other shapes: test_dense)."""
    size = 101
    x0, x1 = threefry(stream_key(7, 3), (np.full(51, 2), np.arange(51)))
    expected = block_samples("sparse", x0, x1).reshape(-1)[:size]
    found = matrix(bases.get("sparse", size, 1), 7, 3, 2)[:, 0] * np.sqrt(size)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0)
    assert bases.get("sparse", 9, 2).density == 1 / 3


def test_the_mean_of_p_pt_over_draws_is_d_over_n_times_the_identity():
    size, dimensions, draws, density = 7, 3, 4000, 0.2
    mean = sketches_of_units(bases.get("sparse", size, dimensions, density=density), draws).mean(axis=0)
    error = np.full([size, size], 1.0)
    np.fill_diagonal(error, 1 / density - 1)
    error = np.sqrt(dimensions * error / draws) / size
    assert (np.abs(mean - dimensions / size * np.eye(size)) <= 5 * error + 1e-6).all()


def test_the_square_root_follows_the_size_of_a_pattern():
    pattern = bases.get("sparse", 100, 3, density="sqrt")
    assert pattern.distribution.variance == 1
    assert np.abs(matrix(bases.get(pattern, 10_000, 2), 0)).max() == pytest.approx(0.1)  # 10 / sqrt(n)


@pytest.mark.parametrize("density", [0, -0.1, 1.0001, 2.0**-32, float("nan"), None, "1/3", True])
def test_what_is_no_density_is_refused(density):
    with pytest.raises(ValueError if type(density) in (int, float) else TypeError, match="density="):
        sparse(density)
