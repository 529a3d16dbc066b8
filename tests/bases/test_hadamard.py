import numpy as np
import pytest

from random_bases import bases
from random_bases.bases import HadamardBasis
from tests.dense_reference import assert_sketches_are_unbiased, eagerly, sketches_of_units

CIFAR = 101_770


def normals(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=size).astype(np.float32) for size in sizes]


def assert_orthonormal(size, dimensions):
    """P^T P c = c for a random c: almost surely only if P^T P = I; and project is P's transpose."""
    basis = bases.get("hadamard", size, dimensions)
    c, v = normals(dimensions, size, seed=dimensions)
    address = (size, dimensions, 5)
    moved = basis.expand(c, *address)
    np.testing.assert_allclose(basis.project(moved, *address), c, rtol=0, atol=1e-5)
    adjoint = c @ basis.project(v, *address).numpy()
    assert abs(moved.numpy() @ v - adjoint) < 1e-5 * np.linalg.norm(c) * np.linalg.norm(v)


@pytest.mark.parametrize("size", range(1, 41))
def test_directions_are_orthonormal_for_every_size(size):
    # From 16 elements for each direction on, they are of the other kind.
    with eagerly():
        for dimensions in {max(1, size // 16), size}:
            assert_orthonormal(size, dimensions)


@pytest.mark.parametrize(
    ("size", "dimensions"), [(100, 6), (257, 16), (511, 31), (1000, 3), (1000, 62), (1000, 63), (4097, 250)]
)
def test_few_directions_are_orthonormal(size, dimensions):
    with eagerly():
        assert_orthonormal(size, dimensions)


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_with_all_dimensions_the_sketch_is_the_identity(size):
    with eagerly():
        basis = bases.get("hadamard", size, size)
        for address in ((0, 0, 0), (1, 2, 3), (2**64 - 1, 2**31 - 1, 2**31 - 1)):
            (v,) = normals(size, seed=size)
            coordinates, in_subspace = basis.sketch(v, *address)
            np.testing.assert_allclose(in_subspace, v, rtol=0, atol=2e-5)
            # It keeps the length, and is not the identity itself.
            assert np.linalg.norm(coordinates) == pytest.approx(np.linalg.norm(v), rel=1e-5)
            assert np.linalg.norm(coordinates - v) > 0.5 * np.linalg.norm(v)


def test_with_all_dimensions_the_compiled_sketch_of_a_network_is_the_identity():
    basis = bases.get("hadamard", CIFAR, CIFAR)
    for seed in range(3):
        (v,) = normals(CIFAR, seed=seed)
        np.testing.assert_allclose(basis.sketch(v, seed, draw=seed)[1], v, rtol=0, atol=5e-5)


def test_compiled_directions_of_many_draws_are_orthonormal():
    basis = bases.get("hadamard", 1000, 100)
    (c,) = normals(100)
    for address in ((seed, seed % 3, 100 * seed) for seed in range(30)):
        moved = basis.expand(c, *address)
        np.testing.assert_allclose(basis.project(moved, *address), c, rtol=0, atol=1e-5)


# One transform; two that overlap; and the few directions' kind, three of whose 35 elements stay outside.
@pytest.mark.parametrize(("size", "dimensions", "draws"), [(8, 3, 3000), (12, 5, 3000), (35, 2, 1500)])
def test_the_mean_of_p_pt_over_draws_is_d_over_n_times_the_identity(size, dimensions, draws):
    found = sketches_of_units(bases.get("hadamard", size, dimensions), draws)
    assert_sketches_are_unbiased(found)
    # Each is an orthogonal projection of rank d: no draw takes an output twice.
    np.testing.assert_allclose(found @ found, found, rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), dimensions, rtol=0, atol=1e-5)


# One transform, and two that overlap by all but one, by most and by one element; then few directions.
@pytest.mark.parametrize(
    ("size", "dimensions"), [(512, 512), (513, 513), (600, 600), (1023, 1023), (513, 32), (1023, 63)]
)
def test_no_direction_leans_on_few_elements(size, dimensions):
    with eagerly():
        basis = bases.get("hadamard", size, dimensions)
        for index in np.random.default_rng(size).choice(dimensions, 6, replace=False):
            moved = basis.expand(np.eye(dimensions)[index], seed=int(index)).numpy()
            assert np.linalg.norm(moved) == pytest.approx(1, abs=1e-5)
            assert np.abs(moved).max() < 10 / np.sqrt(size)


@pytest.mark.parametrize(("size", "dimensions"), [(1024, 100), (1000, 100), (1000, 60)])
def test_every_draw_keeps_its_share_of_any_vectors_length(size, dimensions):
    """Not only on average: without the random signs, these vectors would have it all in one output.

    With them the coordinates are as many nearly independent normals: |P^T v|^2 / |v|^2 is d / n within
    a standard error of sqrt(2 / d), relatively (Ailon and Chazelle 2009).
    """
    elements = np.arange(size)
    walsh = np.array([bin(e & 0b1011001).count("1") % 2 for e in elements])
    with eagerly():
        basis = bases.get("hadamard", size, dimensions)
        for v in (np.ones(size), 1.0 - 2 * walsh, np.cos(np.pi * (elements + 0.5) * 3 / size)):
            for draw in range(6):
                share = float(np.sum(basis.project(v, 0, draw).numpy() ** 2) / np.sum(v**2))
                assert abs(share * size / dimensions - 1) < 5 * np.sqrt(2 / dimensions)


# Independent subspaces of a share s of the dimensions overlap by s: correlation s.
@pytest.mark.parametrize("dimensions", [100, 50])
def test_other_seeds_draws_and_firsts_give_other_subspaces(dimensions):
    with eagerly():
        basis = bases.get("hadamard", 1000, dimensions)
        (v,) = normals(1000)
        addresses = [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 100), (0, 1, 100)]
        found = np.stack([basis.sketch(v, *address)[1] for address in addresses])
    correlations = np.corrcoef(found) - np.eye(len(addresses))
    assert (np.abs(correlations) < dimensions / 1000 + 5 / np.sqrt(1000)).all()


@pytest.mark.parametrize("size", [2**30 + 1, 2**31])
def test_a_size_beyond_int32_arithmetic_is_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        HadamardBasis(size, 1)
