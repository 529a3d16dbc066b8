"""Perturbations: entries of variance 1, regenerated alike alone and in sums."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases.evolution.perturbations import Perturbations

SHAPES = [(7, 5), (5,), (5, 3), (3,)]
PATHS = ["a/kernel", "a/bias", "b/kernel", "b/bias"]
SIZE = 58


def perturbations(number, basis="normal", compartments="network", seed=3):
    phi = Perturbations(SHAPES, PATHS, number, basis, compartments, seed)
    phi.program = tf.function(phi.trace, jit_compile=True)
    return phi


def matrix(phi, update=0):
    """All phi_j, flat, in rows."""
    parts = phi.program(tf.range(phi.count), tf.constant(update))
    return np.concatenate([part.numpy().reshape(phi.count, -1) for part in parts], axis=1)


@pytest.mark.parametrize(
    ("basis", "compartments"),
    [("normal", "network"), ("rademacher", 3), ("sparse", "layer"), ("hadamard", 3), ("fastfood", "network")],
)
def test_the_sum_is_of_the_same_directions(basis, compartments):
    phi = perturbations(12, basis, compartments)
    weights = np.random.RandomState(0).normal(size=12).astype(np.float32)
    combined = phi.combine(tf.constant(weights), tf.constant(5))
    combined = np.concatenate([part.numpy().ravel() for part in combined])
    coefficients = phi.coefficients(tf.constant(weights)).numpy()
    np.testing.assert_allclose(combined, coefficients @ matrix(phi, 5), rtol=1e-4, atol=1e-5)


def test_each_compartment_has_the_mean_of_its_own_directions():
    phi = perturbations(12, compartments="layer")  # 6 of 40 elements, 6 of 18
    np.testing.assert_allclose(phi.coefficients(tf.ones([12])), np.full(12, 1 / 6), rtol=1e-6)
    rows = matrix(phi)
    assert not rows[:6, 40:].any() and not rows[6:, :40].any()
    assert rows[:6, :40].any() and rows[6:, 40:].any()


@pytest.mark.parametrize("basis", ["normal", "hadamard"])
def test_entries_have_variance_1(basis):
    phi = perturbations(50, basis)
    rows = np.concatenate([matrix(phi, update) for update in range(20)])
    assert rows.mean() == pytest.approx(0.0, abs=5 / np.sqrt(rows.size))
    assert (rows**2).mean() == pytest.approx(1.0, abs=5 * np.sqrt(2 / rows.size))


def test_more_directions_than_parameters_take_several_bases():
    phi = perturbations(3 * SIZE - 5, "hadamard")
    rows = matrix(phi)
    assert np.linalg.matrix_rank(rows, tol=1e-3) == SIZE
    # Each basis is orthogonal, and no direction comes twice.
    each = -(-(3 * SIZE - 5) // 3)
    gram = rows[:each] @ rows[:each].T
    np.testing.assert_allclose(gram, SIZE * np.eye(each), atol=1e-3)
    assert np.abs(rows[:each] @ rows[each : 2 * each].T).max() < 0.999 * SIZE
    weights = np.random.RandomState(0).normal(size=len(rows)).astype(np.float32)
    combined = np.concatenate([np.ravel(p) for p in phi.combine(tf.constant(weights), tf.constant(0))])
    np.testing.assert_allclose(combined, weights @ rows / len(rows), rtol=1e-3, atol=1e-5)


def test_updates_and_seeds_draw_anew():
    first = matrix(perturbations(4))
    for other in (matrix(perturbations(4), update=1), matrix(perturbations(4, seed=4))):
        assert not np.isclose(first, other).any(axis=1).all()
    np.testing.assert_array_equal(first, matrix(perturbations(4)))


def test_bases_of_consecutive_updates_share_nothing():
    phi = perturbations(2 * SIZE)
    rows = np.concatenate([matrix(phi, update) for update in range(3)])
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 0.9
