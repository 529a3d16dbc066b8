import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases import bases
from random_bases.bases import OrthogonalBasis
from tests.dense_reference import dense

# One element, square, several blocks, an incomplete last block, prime sizes, several tiles of elements.
SHAPES = [(1, 1, 64), (67, 67, 64), (257, 65, 64), (300, 10, 3), (9001, 50, 33)]


def explicit(size, dimensions, block, **address):
    """Gram and Schmidt's method in each block of dense normal directions, float64 [size, dimensions]."""
    rows = min(block, dimensions)
    normals = dense(size, dimensions, **address)
    blocks = []
    for start in range(0, dimensions, rows):
        frame, triangle = np.linalg.qr(normals[:, start : start + rows])
        blocks.append(frame * np.sign(np.diag(triangle)))
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize(("size", "dimensions", "block"), SHAPES)
def test_directions_are_the_orthonormal_frames_of_the_dense_normal_ones(size, dimensions, block):
    address = {"seed": 2**40 + 7, "draw": 3, "first": 11}
    expected = explicit(size, dimensions, block, **address)
    basis = OrthogonalBasis(size, dimensions, block)
    v, c = np.random.default_rng(0).normal(size=size), np.random.default_rng(1).normal(size=dimensions)
    # Square frames amplify rounding by the condition number of their normals.
    tolerance = 1e-3 if min(block, dimensions) > size / 4 else 2e-5
    np.testing.assert_allclose(basis.project(v, **address), expected.T @ v, atol=tolerance * size**0.5)
    np.testing.assert_allclose(basis.expand(c, **address), expected @ c, atol=tolerance * dimensions**0.5)
    coordinates, moved = basis.sketch(v, **address)
    np.testing.assert_allclose(coordinates, basis.project(v, **address), atol=1e-5 * size**0.5)
    np.testing.assert_allclose(moved, basis.expand(coordinates, **address), atol=1e-5 * size**0.5)
    columns = _columns(basis, **address)
    gram = columns.T @ columns
    for start in range(0, dimensions, block):
        part = gram[start : start + block, start : start + block]
        np.testing.assert_allclose(part, np.eye(len(part)), atol=5e-6)


def _columns(basis, **address):
    return np.stack([basis.expand(unit, **address) for unit in np.eye(basis.dimensions)], axis=1)


def test_blocks_and_draws_are_independent():
    # 20 directions in blocks of 10 and two draws: across blocks, cosines have variance 1 / n.
    basis, size = OrthogonalBasis(2000, 20, block=10), 2000
    frames = [_columns(basis, seed=1, draw=draw) for draw in (0, 1)]
    across = np.concatenate(
        [(frames[0][:, :10].T @ frames[0][:, 10:]).ravel(), (frames[0].T @ frames[1]).ravel()]
    )
    assert abs(np.mean(across**2) * size - 1) < 5 * np.sqrt(2 / across.size)


def test_directions_are_isotropic():
    # E[P P^T] = (d / n) I: each entry's mean over draws within five standard errors.
    size, dimensions, draws = 12, 8, 400
    basis = OrthogonalBasis(size, dimensions, block=8)
    products = []
    for draw in range(draws):
        _, moved = basis.sketch(np.eye(size)[draw % size], seed=9, draw=draw)
        products.append(np.roll(moved, -(draw % size)))
    mean, error = np.mean(products, axis=0), np.std(products, axis=0) / np.sqrt(draws)
    expected = np.zeros(size)
    expected[0] = dimensions / size
    assert np.all(np.abs(mean - expected) < 5 * error)


@settings(max_examples=6, deadline=None)
@given(st.integers(2, 40), st.data())
def test_it_is_a_projection_when_one_block_holds_all(size, data):
    dimensions = data.draw(st.integers(1, size))
    basis = OrthogonalBasis(size, dimensions)
    v = np.random.default_rng(size).normal(size=size)
    _, once = basis.sketch(v, seed=dimensions)
    _, twice = basis.sketch(once, seed=dimensions)
    np.testing.assert_allclose(once, twice, atol=1e-5)
    if dimensions == size:
        np.testing.assert_allclose(once, v, atol=1e-5)


def test_memory_does_not_grow_with_the_number_of_directions():
    few, many = (OrthogonalBasis(10**6, d) for d in (64, 640))
    assert (few._rows, few._columns) == (many._rows, many._columns)  # the tile that is in memory
    assert few._rows * few._columns <= 2**17


@pytest.mark.parametrize("block", [0, -1, 1025, 2.0, True, None, "64"])
def test_impossible_blocks_are_refused(block):
    with pytest.raises(ValueError if type(block) is int else TypeError, match="block="):
        OrthogonalBasis(10, 2, block)


def test_its_configuration_rebuilds_it():
    basis = bases.get("orthogonal", 50, 20, block=7)
    again = bases.deserialize(bases.serialize(basis))
    assert again.get_config() == basis.get_config() == {"size": 50, "dimensions": 20, "block": 7}
    v = np.arange(50.0)
    np.testing.assert_array_equal(basis.project(v, 0), again.project(v, 0))
