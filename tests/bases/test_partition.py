"""Partitions: as the documented streams say, orthonormal for every size, and the law of all bases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases import bases
from tests.dense_reference import (
    assert_sketches_are_unbiased,
    eagerly,
    sketches_of_units,
    stream_key,
    threefry,
)


def signed(words):
    return words.view(np.int32).astype(np.int64)


def reference(size, dimensions, seed, draw, first):
    """P, float64 [n, d], from Python loops over elements."""
    rows = -(-size // dimensions)
    (offset,), _ = threefry(stream_key(seed, draw, 15), (first, np.arange(1)))
    blocks = -(-rows // 2)
    rotations = np.concatenate(threefry(stream_key(seed, draw, 16), (first, np.arange(blocks))))
    blocks = -(-rows * dimensions // 64)
    words = threefry(stream_key(seed, draw, 14), (first, np.arange(blocks)))
    bits = [(word >> np.uint32(i)) & np.uint32(1) for word in words for i in range(32)]
    signs = np.where(np.stack(bits).ravel() == 1, -1.0, 1.0)
    p = np.zeros([size, dimensions])
    for place in range(size):
        row, column = divmod(place, dimensions)
        element = (place + int(signed(np.array([offset]))[0])) % size
        direction = (column + int(signed(rotations)[row])) % dimensions
        p[element, direction] = signs[place]
    return p / np.linalg.norm(p, axis=0)


# One element for each direction, or one and a part; rows of which the last is whole or not; one direction.
CASES = [(7, 7), (9, 5), (12, 4), (50, 6), (200, 3), (65, 1), (1, 1), (130, 64)]


@pytest.mark.parametrize(("size", "dimensions"), CASES)
def test_directions_are_those_of_the_documented_streams(size, dimensions):
    basis = bases.get("partition", size, dimensions)
    (v, c) = (np.random.default_rng(i).normal(size=n) for i, n in enumerate((size, dimensions)))
    with eagerly():
        for address in ((3, 2, 5), (2**40 + 1, 0, 0), (2**64 - 1, 2**31 - 1, 2**31 - 65)):
            p = reference(size, dimensions, *address)
            np.testing.assert_allclose(basis.expand(c, *address), p @ c, atol=1e-5)
            np.testing.assert_allclose(basis.project(v, *address), p.T @ v, atol=1e-5)


def test_the_compiled_products_are_those_of_the_streams():
    basis, address = bases.get("partition", 5000, 70), (2020, 17, 250)
    p = reference(5000, 70, *address)
    v = np.random.default_rng(0).normal(size=5000)
    c, in_subspace = basis.sketch(v, *address)
    np.testing.assert_allclose(c, p.T @ v, atol=1e-5)
    np.testing.assert_allclose(in_subspace, p @ (p.T @ v), atol=1e-5)
    np.testing.assert_allclose(basis.expand(c, *address), in_subspace, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 90), st.floats(0, 1), st.integers(0, 2**64 - 1), st.integers(0, 2**31 - 1))
def test_each_element_is_of_one_direction_and_directions_are_orthonormal(size, fraction, seed, draw):
    dimensions = max(1, round(fraction * size))
    basis = bases.get("partition", size, dimensions)
    with eagerly():
        p = np.stack([basis.expand(unit, seed, draw) for unit in np.eye(dimensions)], axis=1)
    assert (np.count_nonzero(p, axis=1) == 1).all()
    np.testing.assert_allclose(p.T @ p, np.eye(dimensions), atol=1e-6)
    assert set(np.count_nonzero(p, axis=0)) <= {size // dimensions, -(-size // dimensions)}


# The last row is whole, nearly so, and nearly empty.
@pytest.mark.parametrize(("size", "dimensions"), [(8, 4), (7, 4), (9, 4)])
def test_the_mean_of_p_pt_over_draws_is_d_over_n_times_the_identity(size, dimensions):
    found = sketches_of_units(bases.get("partition", size, dimensions), 1500)
    assert_sketches_are_unbiased(found)


def test_elements_meet_in_a_direction_as_often_as_if_they_were_dealt_out_one_by_one():
    """1 / d for elements of different rows; the d that follow one another never meet."""
    size, dimensions, draws = 12, 3, 1500
    found = sketches_of_units(bases.get("partition", size, dimensions), draws)
    meet = (np.abs(found) > 1e-6).mean(axis=0)
    np.testing.assert_allclose(np.diag(meet), 1)
    pairs = meet[~np.eye(size, dtype=bool)]
    # (d choose 2) pairs of each of four rows never meet; averaged over all pairs, 3 of 11 others do.
    np.testing.assert_allclose(pairs.mean(), 3 / 11, atol=1e-9)
    assert pairs.max() < 1 / 3 + 5 * np.sqrt(2 / 9 / draws)


def test_other_seeds_draws_and_firsts_give_other_subspaces():
    with eagerly():
        basis = bases.get("partition", 1000, 100)
        v = np.random.default_rng(0).normal(size=1000)
        addresses = [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 100), (0, 1, 100)]
        found = np.stack([basis.sketch(v, *address)[1] for address in addresses])
    correlations = np.corrcoef(found) - np.eye(len(addresses))
    assert (np.abs(correlations) < 0.1 + 5 / np.sqrt(1000)).all()


@pytest.mark.parametrize("dimensions", [100, 30])
def test_every_draw_keeps_its_share_of_a_vectors_length(dimensions):
    elements = np.arange(1000)
    with eagerly():
        basis = bases.get("partition", 1000, dimensions)
        for v in (np.ones(1000), np.cos(np.pi * (elements + 0.5) * 3 / 1000), elements % dimensions == 0):
            for draw in range(6):
                v = np.asarray(v, np.float64)
                share = float(np.sum(basis.project(v, 0, draw).numpy() ** 2) / np.sum(v**2))
                assert abs(share * 1000 / dimensions - 1) < 5 * np.sqrt(2 / dimensions)
