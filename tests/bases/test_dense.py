import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases import bases
from random_bases.bases import DenseBasis
from tests.dense_reference import PER_BLOCK, dense, direction, eagerly, sketches_of_units

NAMES = sorted(PER_BLOCK)
# Of sizes around a word's and a block's samples; d = n, and d prime.
SHAPES = [(1, 1), (2, 1), (2, 2), (7, 5), (7, 7), (64, 13), (65, 64), (65, 65), (1000, 17)]
LARGE = (2**64 - 1, 2**31 - 1, 2**31 - 100)


def assert_is(matrix, basis, *address):
    """Asserts that all methods of `basis` are those of `matrix`, to the rounding of float32 sums."""
    rng = np.random.default_rng(0)
    c, v = (rng.normal(size=size).astype(np.float32) for size in (basis.dimensions, basis.size))
    coordinates, in_subspace = basis.sketch(v, *address)
    norm = max(1, np.linalg.norm(matrix, 2))
    for found, expected, scale in (
        (basis.project(v, *address), matrix.T @ v, norm * np.linalg.norm(v)),
        (coordinates, matrix.T @ v, norm * np.linalg.norm(v)),
        (basis.expand(c, *address), matrix @ c, norm * np.linalg.norm(c)),
        (in_subspace, matrix @ (matrix.T @ v), norm**2 * np.linalg.norm(v)),
    ):
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_all_methods_are_those_of_the_explicit_matrix(name):
    with eagerly():
        for size, dimensions in SHAPES:
            for address in ((5, 3, 2), LARGE):
                expected = dense(size, dimensions, name, *address)
                assert_is(expected, bases.get(name, size, dimensions), *address)


# One tile, and many; that compiled samples are right for every distribution, test_distributions.py shows.
@pytest.mark.parametrize(("name", "tile"), [("rademacher", 2**20), ("normal", 64)])
def test_compiled_methods_are_those_of_the_explicit_matrix(name, tile):
    basis = DenseBasis(130, 19, name, tile=tile)
    for address in ((0, 0, 0), (5, 3, 2), LARGE):
        assert_is(dense(130, 19, name, *address), basis, *address)


@settings(max_examples=30)
@given(
    name=st.sampled_from(NAMES),
    size=st.integers(1, 90),
    fraction=st.floats(0, 1),
    tile=st.integers(64, 3000),
    seed=st.integers(0, 2**64 - 1),
    draw=st.integers(0, 2**31 - 1),
    first=st.integers(0, 2**31 - 91),
    p=st.floats(0.01, 0.99),
)
def test_any_shape_tile_and_address(name, size, fraction, tile, seed, draw, first, p):
    dimensions = max(1, round(fraction * size))
    options = {"p": p} if name == "bernoulli" else {}
    basis = DenseBasis(size, dimensions, name, tile=tile, **options)
    with eagerly():
        assert_is(dense(size, dimensions, name, seed, draw, first, p), basis, seed, draw, first)


@pytest.mark.parametrize("name", ["normal", "rademacher"])
def test_results_do_not_depend_on_the_tile(name):
    rng = np.random.default_rng(0)
    v, c = rng.normal(size=150), rng.normal(size=11)
    with eagerly():
        expected = None
        # With 1300 and 1600, all elements fit a tile, but the last has more rows than directions are left.
        for tile in (64, 256, 1300, 1600, 2**20):
            basis = DenseBasis(150, 11, name, tile=tile)
            found = [basis.project(v, 1, 2, 3), basis.expand(c, 1, 2, 3), *basis.sketch(v, 1, 2, 3)]
            expected = expected or found
            for a, b in zip(found, expected):
                np.testing.assert_allclose(a, b, rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_basis_is_a_slice_of_a_larger_one(name):
    """Direction 5 is the same whether it is the sixth of one basis or the first of another."""
    with eagerly():
        whole, part = bases.get(name, 100, 12), bases.get(name, 100, 4)
        c = np.random.default_rng(0).normal(size=4)
        for offset in (0, 5, 8):
            padded = np.zeros(12)
            padded[offset : offset + 4] = c
            found = part.expand(c, 7, 2, first=30 + offset)
            np.testing.assert_allclose(found, whole.expand(padded, 7, 2, first=30), rtol=0, atol=2e-6)


def test_elements_of_a_longer_direction_begin_with_those_of_a_shorter():
    """Only the factor 1 / sqrt(n) knows the size."""
    with eagerly():
        c = np.random.default_rng(0).normal(size=6)
        short, long = (bases.get("normal", size, 6).expand(c, 3, 1, 4) * size**0.5 for size in (70, 300))
        np.testing.assert_allclose(short, long[:70], rtol=0, atol=1e-5)


def test_no_direction_of_a_draw_is_one_of_another_draw_seed_or_worker():
    """What collides in the 2020 code: the next step's first and this step's next worker's."""
    size = 3000
    directions = {
        (seed, draw, first): direction("normal", first, size, seed, draw)
        for seed in (0, 1, 2, 2**32)
        for draw in (0, 1, 2, 3)
        for first in (0, 1, 2, 3)
    }
    basis = bases.get("normal", size, 1)
    with eagerly():
        found = np.stack([basis.expand([1.0], *address) * np.sqrt(size) for address in directions])
    np.testing.assert_allclose(found, np.stack(list(directions.values())), rtol=0, atol=2e-6)
    correlations = np.corrcoef(found) - np.eye(len(found))
    assert np.abs(correlations).max() < 5.5 / np.sqrt(size)  # the most of 2016


UNBIASED = {"normal": ({}, 3.0), "rademacher": ({}, 1.0), "bernoulli": ({"p": 0.2}, 3.25)}


@pytest.mark.parametrize("name", sorted(UNBIASED))
def test_the_mean_of_p_pt_over_draws_is_d_over_n_times_the_identity(name):
    options, fourth = UNBIASED[name]
    size, dimensions, draws = 7, 3, 4000
    basis = bases.get(name, size, dimensions, **options)
    matrices = sketches_of_units(basis, draws)
    mean = matrices.mean(axis=0) - dimensions / size * np.eye(size)
    # (P P^T)_ab is the sum over d of x_a x_b / n, each x of variance 1 and known fourth moment.
    error = np.full([size, size], 1.0)
    np.fill_diagonal(error, fourth - 1)
    error = np.sqrt(dimensions * error / draws) / size
    assert (np.abs(mean) <= 5 * error + 1e-6).all()
    # Unit length in expectation, of the mean over all draws and directions.
    norm = np.trace(matrices, axis1=1, axis2=2).mean() / dimensions
    assert abs(norm - 1) <= 5 * np.sqrt((fourth - 1) / size / dimensions / draws) + 1e-6


def test_directions_of_a_long_basis_have_unit_length():
    with eagerly():
        for name in ("normal", "uniform", "rademacher", "bernoulli"):
            basis = bases.get(name, 20_000, 8)
            for unit in np.eye(8):
                square = float(tf.reduce_sum(basis.expand(unit, 4) ** 2))
                # The variance of x**2 is 2 at most.
                assert abs(square - 1) < 5 * np.sqrt(2 / 20_000)


MEMORY = """
import resource, sys
import numpy as np
from random_bases import bases

v = np.ones(200_000, np.float32)
for dimensions in (16, int(sys.argv[2])):
    for value in bases.get(sys.argv[1], v.size, dimensions).sketch(v, 0):
        value.numpy()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_memory(name, dimensions):
    """Peak bytes of a process after sketches in 16 and then in `dimensions` directions of 200,000."""
    command = [sys.executable, "-c", MEMORY, name, str(dimensions)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=500, check=True)
    return [1024 * int(line) for line in run.stdout.split()]


def test_peak_memory_does_not_grow_with_the_number_of_directions():
    few, many = peak_memory("normal", 320)
    # The matrix would take 256 MB; one more compiled program takes up to 45 MB.
    assert many - few < 100e6


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_peak_memory_of_4096_directions(name):
    few, many = peak_memory(name, 4096)
    assert many - few < 100e6  # the matrix would take 3.3 GB


# --- Arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ({"distribution": "gaussian"}, ValueError, "distribution='gaussian'"),
        ({"generator": "philox"}, ValueError, "generator='philox'"),
        ({"p": 0.5}, TypeError, "'p'"),
        ({"distribution": "bernoulli", "p": 1.0}, ValueError, "p=1.0"),
        ({"distribution": "bernoulli", "q": 0.5}, TypeError, "'q'"),
        ({"tile": 63}, ValueError, "tile=63"),
        ({"tile": 64.0}, TypeError, "tile=64.0"),
        ({"tile": True}, TypeError, "tile=True"),
        ({"tile": None}, TypeError, "tile=None"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(arguments, error, name):
    with pytest.raises(error, match=name):
        DenseBasis(10, 5, **arguments)
