import contextlib

import numpy as np
import pytest
import tensorflow as tf

from random_bases.bases import DenseBasis
from random_bases.sampling import DISTRIBUTIONS, as_seed, counter, derive_key, get_generator, native
from random_bases.sampling.distributions import bernoulli
from random_bases.sampling.seeds import SAMPLES
from tests.dense_reference import assert_moments, eagerly

VALUES = {"rademacher": [-1.0, 1.0], "bernoulli": [-1.0, 1.0], "bernoulli-2020": [-1.5, 0.5]}


def tile(distribution, seed=0, draw=0, direction=0, rows=1000, block=0, blocks=1000):
    """One tile [rows, blocks], eagerly."""
    key = derive_key(as_seed(seed), tf.constant(draw), SAMPLES)
    (samples,) = native.tile(distribution, key, tf.constant(direction), rows, tf.constant(block), blocks)
    assert samples.dtype == tf.float32 and samples.shape == [rows, 1, blocks]
    return samples[:, 0].numpy()


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_samples_have_the_distributions_moments_and_values(name):
    samples = tile(DISTRIBUTIONS[name])
    assert_moments(samples, name)
    if name in VALUES:
        assert np.unique(samples).tolist() == VALUES[name]
    elif name != "normal":
        assert np.abs(samples).max() <= np.float32(np.sqrt(3 * DISTRIBUTIONS[name].variance))


def test_bernoulli_takes_its_probability():
    samples = tile(bernoulli(0.02))
    assert_moments(samples, "bernoulli", 0.02)


def test_neighbouring_samples_are_uncorrelated():
    samples = tile(DISTRIBUTIONS["normal"])
    for a, b in ((samples[:-1], samples[1:]), (samples[:, :-1], samples[:, 1:])):
        assert abs(np.mean(a * b, dtype=np.float64)) < 5 / np.sqrt(a.size)


@pytest.mark.parametrize("name", sorted(DISTRIBUTIONS))
def test_a_tile_is_a_function_of_its_arguments_and_of_all_of_them(name):
    """Other arguments give tiles that are uncorrelated, not only different."""
    others = [{}, {"seed": 1}, {"seed": 2**32}, {"draw": 1}, {"direction": 1}, {"block": 1}]
    others += [{"direction": 100}, {"block": 1000}, {"draw": 1, "direction": 1}]
    tiles = [tile(DISTRIBUTIONS[name], rows=50, **arguments) for arguments in others]
    np.testing.assert_array_equal(tile(DISTRIBUTIONS[name], rows=50), tiles[0])
    mean, variance = DISTRIBUTIONS[name].mean, DISTRIBUTIONS[name].variance
    flat = (np.stack(tiles).reshape(len(tiles), -1).astype(np.float64) - mean) / np.sqrt(variance)
    correlations = flat @ flat.T / flat.shape[1]
    np.fill_diagonal(correlations, 0)  # the variance, tested above
    assert np.abs(correlations).max() < 5 / np.sqrt(flat.shape[1])


def test_both_generators_have_one_interface():
    assert get_generator("native") is native and get_generator("counter") is counter
    for generator in (native, counter):
        for distribution in DISTRIBUTIONS.values():
            planes = generator.group_sizes(distribution)
            key = derive_key(as_seed(0), tf.constant(0), SAMPLES)
            tiles = generator.tile(distribution, key, tf.constant(5), 3, tf.constant(2), 4)
            assert [tuple(part.shape) for part in tiles] == [(3, p, 4) for p in planes]
            assert {part.dtype for part in tiles} == {tf.float32}


@pytest.mark.parametrize("name", ["philox", "", None])
def test_an_unknown_generator_is_refused(name):
    with pytest.raises(ValueError, match="generator=.*counter.*native"):
        get_generator(name)


@pytest.mark.parametrize(
    ("tile_size", "context"),
    [(64, contextlib.nullcontext), (2**20, eagerly)],
    ids=["many tiles, compiled", "one tile, eager"],
)
def test_a_basis_of_native_samples_is_one_linear_map(tile_size, context):
    """expand, project and sketch, three programs, draw the same P."""
    basis = DenseBasis(50, 5, distribution="normal", generator="native", tile=tile_size)
    with context():
        check_one_linear_map(basis)


def check_one_linear_map(basis):
    rng = np.random.default_rng(0)
    previous = np.zeros([50, 5])
    for address in ((0, 0, 0), (0, 1, 0), (0, 0, 5), (1, 0, 0)):
        matrix = np.stack([basis.expand(unit, *address) for unit in np.eye(5)], axis=1)
        v = rng.normal(size=50)
        c, in_subspace = basis.sketch(v, *address)
        np.testing.assert_allclose(basis.project(v, *address), matrix.T @ v, atol=1e-5)
        np.testing.assert_allclose(c, matrix.T @ v, atol=1e-5)
        np.testing.assert_allclose(in_subspace, matrix @ (matrix.T @ v), atol=1e-5)
        # Mean square 1 / n, and nothing of the previous address.
        assert abs(np.mean(matrix**2) * 50 - 1) < 5 * np.sqrt(2 / 250)
        assert abs(np.mean(matrix * previous) * 50) < 5 / np.sqrt(250)
        previous = matrix
