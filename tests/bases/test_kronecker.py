"""Factored bases: orthonormal for every matrix, as documented streams say, at the least cost."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from random_bases import bases
from random_bases.bases.basis import compiled
from random_bases.bases.kronecker import best_ranks, draw_together, matrix_of
from random_bases.bases.transforms import cosine_rows
from random_bases.sampling.seeds import as_seed
from random_bases.subspace import Subspace
from tests.dense_reference import eagerly, stream_key, threefry

# (positions, inputs, outputs), d: one-sided on either, on both sides; parts of C; several positions.
CASES = [((1, 9, 6), 12), ((1, 40, 2), 40), ((1, 7, 8), 5), ((3, 4, 5), 17), ((2, 6, 5), 60)]


def of(matrix, dimensions):
    return bases.get("kronecker", math.prod(matrix), dimensions, matrix=matrix)


def dense_of(basis, seed=3, draw=2, first=5):
    units = np.eye(basis.dimensions, dtype=np.float32)
    return np.stack([basis.expand(unit, seed, draw, first) for unit in units], axis=1).astype(np.float64)


# --- An independent P in NumPy --------------------------------------------------------------------


def signed(word):
    return word.astype(np.int64) - 2**32 * (word >= 2**31)


def permutation(x0, x1, size, count):
    """The first values of a swap-or-not shuffle, in 64-bit integers."""
    offsets = signed(x0) % size
    x = (np.arange(count) - offsets[16]) % size
    for i in range(16):
        partner = (offsets[i] - x) % size
        pair = np.maximum(x, partner)
        product = ((pair ^ (pair >> 15)) * (int(x1[i]) | 1)) % 2**32
        x = np.where(product >= 2**31, partner, x)
    return x


def factor(seed, draw, first, stream, length, count):
    """A (or B): cosines of rows that a permutation chose, with signs of the elements."""
    if count == length:
        return np.eye(length)
    blocks = -(-length // 64)
    x0, x1 = threefry(stream_key(seed, draw, stream), (first, np.arange(17 + blocks)))
    rows = permutation(x0[:17], x1[:17], length, count)
    bits = [(word[17:] >> np.uint32(i)) & np.uint32(1) for word in (x0, x1) for i in range(32)]
    signs = np.where(np.stack(bits).ravel()[:length] == 1, -1.0, 1.0)
    angle = np.pi * (2 * np.arange(length)[:, np.newaxis] + 1) * rows / (2 * length)
    return np.cos(angle) * np.where(rows == 0, 1, 2**0.5) / length**0.5 * signs[:, np.newaxis]


def reference(matrix, dimensions, seed, draw, first):
    """P, float64 [n, d]."""
    positions, m, n = matrix
    r, s = best_ranks(matrix, dimensions)
    a = factor(seed, draw, first, 11, m, r)
    b = factor(seed, draw, first, 12, n, s)
    whole = np.kron(np.eye(positions), np.kron(a, b))
    if positions == 1 and (r < m or m == 1) and (s < n or n == 1):
        return whole[:, :dimensions]
    if dimensions == whole.shape[1]:
        return whole
    (word,), _ = threefry(stream_key(seed, draw, 13), (first, np.arange(1)))
    begin = int(signed(np.array([word]))[0] % whole.shape[1])
    return np.roll(whole, -begin, axis=1)[:, :dimensions]


@pytest.mark.parametrize(("matrix", "dimensions"), CASES)
def test_directions_are_those_of_the_documented_streams(matrix, dimensions):
    basis = of(matrix, dimensions)
    for address in ((3, 2, 5), (2**40 + 1, 0, 0)):
        expected = reference(matrix, dimensions, *address)
        np.testing.assert_allclose(dense_of(basis, *address), expected, atol=1e-6)


# --- Laws -----------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12)),
    st.floats(0, 1),
    st.integers(0, 2**64 - 1),
)
def test_directions_are_orthonormal(matrix, fraction, seed):
    dimensions = max(1, round(fraction * math.prod(matrix)))
    with eagerly():
        p = dense_of(of(matrix, dimensions), seed)
    np.testing.assert_allclose(p.T @ p, np.eye(dimensions), atol=2e-6)


@pytest.mark.parametrize(("matrix", "dimensions"), [((1, 6, 4), 5), ((2, 3, 4), 7)])
def test_each_element_is_seen_as_often(matrix, dimensions):
    basis, draws = of(matrix, dimensions), 1500
    total = np.zeros([basis.size, basis.size])
    for draw in range(draws):
        p = reference(matrix, dimensions, 1, draw, 0)
        total += p @ p.T / draws
    # E[P P^T] = (d / n) I. An entry's deviation is at most 1/2 in a draw, 0.013 in the mean of all.
    np.testing.assert_allclose(total, np.eye(basis.size) * dimensions / basis.size, atol=0.065)
    drawn = dense_of(basis, 1, draws - 1, 0)
    np.testing.assert_allclose(drawn, p, atol=1e-6)  # what was averaged is what the basis draws


def test_several_bases_draw_together_what_each_draws():
    three = [of(matrix, dimensions) for matrix, dimensions in CASES]
    firsts = tf.constant([5, 7, 300, 1, 2])
    together = compiled(lambda one, seed, draw: draw_together(three, one, seed, draw, firsts))(
        tf.constant(1), as_seed(3), tf.constant(2)
    )
    for basis, factors, first in zip(three, together, firsts):
        c = np.random.default_rng(0).normal(size=basis.dimensions).astype(np.float32)
        np.testing.assert_allclose(basis.expand_in(c, factors), basis.expand(c, 3, 2, first), atol=1e-6)
        v = np.random.default_rng(1).normal(size=basis.size).astype(np.float32)
        np.testing.assert_allclose(basis.project_in(v, factors), basis.project(v, 3, 2, first), atol=1e-5)


# --- Ranks ----------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 900), st.integers(1, 900)),
    st.floats(0, 1),
)
def test_no_ranks_cost_much_less(matrix, fraction):
    positions, m, n = matrix
    dimensions = max(1, round(fraction * math.prod(matrix)))
    found = best_ranks(matrix, dimensions)
    assert 1 <= found[0] <= m and 1 <= found[1] <= n and positions * math.prod(found) >= dimensions

    def cost(r, s):
        return m * r * (r < m) + n * s * (s < n) + positions * r * s + 128 * r

    each = -(-dimensions // positions)
    every = [cost(r, s) for r in range(-(-each // n), m + 1) for s in (-(-each // r), n)]
    assert cost(*found) <= 1.15 * min(every)


@pytest.mark.parametrize(
    ("matrix", "dimensions", "ranks"),
    [
        ((1, 512, 2048), 10_485, (6, 2048)),  # on the inputs from d = n on
        ((1, 512, 2048), 104_857, (52, 2048)),
        ((1, 512, 512), 26_214, (52, 512)),
        ((1, 30_000, 512), 1_536_000, (30_000, 52)),  # a vocabulary: on the outputs
        ((1, 512, 512), 100, (1, 512)),
        ((9, 16, 32), 460, (2, 32)),
        ((1, 4, 4), 16, (4, 4)),
    ],
)
def test_ranks_are_of_the_least_cost(matrix, dimensions, ranks):
    assert best_ranks(matrix, dimensions) == ranks


def test_shapes_of_kernels():
    assert matrix_of([3, 3, 16, 32]) == (9, 16, 32)
    assert matrix_of([784, 10]) == (1, 784, 10)
    assert matrix_of([12]) == (1, 3, 4) and matrix_of([7]) == (1, 1, 7) and matrix_of([]) == (1, 1, 1)
    assert matrix_of([8198]) == (1, 2, 4099) and matrix_of([0]) == (1, 1, 0)


@given(st.tuples(st.integers(1, 9), st.integers(1, 900), st.integers(1, 10**7)), st.floats(0, 1))
def test_factors_never_have_many_more_numbers_than_the_matrix(matrix, fraction):
    """Not d D of them, as vectors whose size is a large prime would have with columns of their length."""
    positions, m, n = matrix
    r, s = best_ranks(matrix, max(1, round(fraction * math.prod(matrix))))
    assert m * r * (r < m) + n * s * (s < n) <= math.prod(matrix) + 128 * m


@pytest.mark.parametrize("length", [7, 512, 100_003])
def test_cosines_are_exact_for_long_rows(length):
    rows = np.array([0, 1, length // 3, length - 1], np.int32)
    found = cosine_rows(tf.constant(rows), length).numpy()
    steps = rows[:, np.newaxis].astype(np.int64) * (2 * np.arange(length) + 1) % (4 * length)
    expected = np.cos(np.pi * steps / (2 * length)) * np.where(rows == 0, 1, 2**0.5)[:, np.newaxis]
    np.testing.assert_allclose(found * length**0.5, expected, atol=5e-6)


# --- In a subspace --------------------------------------------------------------------------------


def test_a_subspace_has_a_basis_for_each_variable():
    subspace = Subspace([[6, 5], [5], [2, 3, 4]], 21, "kronecker")
    assert [basis.matrix for basis in subspace.compartment_bases] == [(1, 6, 5), (1, 1, 5), (2, 3, 4)]
    assert subspace.compartment_dimensions == (11, 2, 8)  # in proportion to 30, 5 and 24
    v = [np.random.default_rng(i).normal(size=shape).astype("f4") for i, shape in enumerate(subspace.shapes)]
    c, in_subspace = subspace.sketch(v, 3, 2)
    firsts = (0, 11, 13)
    for i, (basis, first) in enumerate(zip(subspace.compartment_bases, firsts)):
        own, part = basis.sketch(v[i].ravel(), 3, 2, first)
        np.testing.assert_allclose(subspace.split(c)[i], own, atol=1e-6)
        np.testing.assert_allclose(np.ravel(in_subspace[i]), part, atol=1e-6)


def test_a_part_of_a_subspace_has_the_same_directions():
    subspace = Subspace([[6, 5], [5], [2, 3, 4]], 21, "kronecker")
    part = subspace.restricted([2, 1])
    c = np.arange(21, dtype=np.float32)
    whole = subspace.expand(c, 3, 2)
    found = part.expand(tf.concat(subspace.split(c)[:0:-1], 0), 3, 2)
    for i, tensor in zip([2, 1], found):
        np.testing.assert_allclose(tensor, whole[i], atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrix": None}, "matrix=None must be three ints"),
        ({"matrix": (2, 5)}, "matrix=.* must be three ints"),
        ({"matrix": (1, 5, 3)}, r"matrix=\(1, 5, 3\) must have size=10"),
        ({"matrix": (0, 5, 2)}, r"matrix\[0\]=0"),
    ],
)
def test_matrices_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        bases.get("kronecker", 10, 2, **arguments)


def test_compartments_across_variables_are_refused():
    with pytest.raises(ValueError, match='compartments="?\'?network.*allowed: "variable"'):
        Subspace([[6, 5]], 5, "kronecker", compartments="network")
