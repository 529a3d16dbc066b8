import numpy as np
import pytest

from random_bases import bases
from random_bases.bases import FastfoodBasis
from tests.dense_reference import (
    assert_sketches_are_unbiased,
    box_muller,
    eagerly,
    sketches_of_units,
    stream_key,
    threefry,
)

# One transform, two that overlap by one element, by most, primes, and d = 1, d = n.
SHAPES = [(1, 1), (2, 1), (2, 2), (3, 3), (7, 7), (13, 5), (64, 64), (65, 9), (127, 127), (257, 16)]


def hadamard(length):
    matrix = np.ones([1, 1])
    while len(matrix) < length:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]]) / np.sqrt(2)
    return matrix


def words(stream, address, count):
    """The first `count` blocks' words of a stream."""
    seed, draw, first = address
    return threefry(stream_key(seed, draw, stream), (np.full(count, first), np.arange(count)))


def signs(stream, address, size):
    """Bit b of the first words, then of the second: position p of the blocks is at p * blocks."""
    blocks = -(-size // 64)
    bits = [word >> np.uint32(b) & np.uint32(1) for word in words(stream, address, blocks) for b in range(32)]
    return 1.0 - 2.0 * np.concatenate(bits)[:size]


def permutation(stream, address, size):
    """Hoang, Morris and Rogaway 2012, 16 rounds, after a rotation: Python integers only."""
    offsets, multipliers = (word.tolist() for word in words(stream, address, 17))
    offsets = [(offset - 2**32 if offset >= 2**31 else offset) % size for offset in offsets]
    found = []
    for x in range(size):
        x = (x - offsets[16]) % size
        for offset, multiplier in zip(offsets[:16], multipliers):
            partner = (offset - x) % size
            pair = max(x, partner)
            if (pair ^ pair >> 15) * (multiplier | 1) >> 31 & 1:
                x = partner
        found.append(x)
    return np.array(found)


def explicit(size, dimensions, *address):
    """P = T G Pi H B of the documented streams 7 to 10, float64 [size, dimensions]."""
    padded, length = 2 ** (size - 1).bit_length(), 2 ** (size.bit_length() - 1)
    normals = np.concatenate(box_muller(*words(9, address, -(-size // 2))))[:size]
    kept = permutation(8, address, padded)[:size]
    matrix = hadamard(padded)[kept, :dimensions] * signs(7, address, dimensions)
    matrix *= (np.sqrt(padded) * normals / np.linalg.norm(normals))[:, np.newaxis]
    matrix[:length] = hadamard(length) @ matrix[:length]
    if size > length:
        between = signs(10, address, length)[:, np.newaxis]
        matrix[size - length :] = hadamard(length) @ (between * matrix[size - length :])
    return matrix


@pytest.mark.parametrize(("size", "dimensions"), SHAPES)
def test_all_methods_are_those_of_the_explicit_matrix(size, dimensions):
    basis = bases.get("fastfood", size, dimensions)
    rng = np.random.default_rng(size)
    c, v = (rng.normal(size=n).astype(np.float32) for n in (dimensions, size))
    with eagerly():
        for address in ((5, 3, 2), (2**64 - 1, 2**31 - 1, 2**31 - 1)):
            matrix = explicit(size, dimensions, *address)
            np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), 1, rtol=1e-12)
            coordinates, moved = basis.sketch(v, *address)
            scale = 2e-6 * np.linalg.norm(matrix, 2) * np.linalg.norm(v)
            for found, expected in (
                (basis.expand(c, *address), matrix @ c),
                (basis.project(v, *address), matrix.T @ v),
                (coordinates, matrix.T @ v),
            ):
                np.testing.assert_allclose(found, expected, rtol=0, atol=max(scale, 5e-6))
            np.testing.assert_allclose(moved, matrix @ (matrix.T @ v), rtol=0, atol=max(5 * scale, 5e-6))


@pytest.mark.parametrize("size", range(1, 41))
def test_directions_have_unit_length_for_every_size(size):
    with eagerly():
        basis = bases.get("fastfood", size, size)
        for unit in np.eye(size)[:: max(1, size // 4)]:
            assert np.linalg.norm(basis.expand(unit, size)) == pytest.approx(1, abs=2e-6)


def test_a_compiled_network_sized_direction_has_unit_length_and_project_is_the_adjoint():
    basis = bases.get("fastfood", 101_770, 250)
    rng = np.random.default_rng(0)
    v = rng.normal(size=basis.size).astype(np.float32)
    unit = np.eye(250)[17]
    direction = basis.expand(unit, 3, 2, 1).numpy()
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-5)
    assert float(basis.project(v, 3, 2, 1)[17]) == pytest.approx(direction @ v, abs=1e-4)
    # Nearly normal: kurtosis 3, within five of its standard errors.
    assert abs(np.mean((direction * np.sqrt(basis.size)) ** 4) - 3) < 5 * np.sqrt(96 / basis.size)


# Not 8: in a loop, TensorFlow 2.6's XLA compiles a gather from 8 numbers wrongly for CPUs with AVX512_FP16.
@pytest.mark.parametrize(("size", "dimensions"), [(16, 3), (7, 2)])
def test_the_mean_of_p_pt_over_draws_is_d_over_n_times_the_identity(size, dimensions):
    found = sketches_of_units(bases.get("fastfood", size, dimensions), 3000)
    assert_sketches_are_unbiased(found)
    np.testing.assert_allclose(np.trace(found, axis1=1, axis2=2), dimensions, rtol=0, atol=2e-5)


def test_other_seeds_draws_and_firsts_give_other_directions():
    addresses = [(0, 0, 0), (1, 0, 0), (2**32, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 100), (0, 1, 100)]
    basis = bases.get("fastfood", 1000, 1)
    with eagerly():
        found = np.stack([basis.expand([1.0], *address) for address in addresses])
    correlations = np.corrcoef(found) - np.eye(len(addresses))
    assert np.abs(correlations).max() < 5 / np.sqrt(1000)


@pytest.mark.parametrize("size", [2**30 + 1, 2**31])
def test_a_size_beyond_int32_arithmetic_is_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        FastfoodBasis(size, 1)
