"""TrajectoryBasis: orthonormal directions from stored vectors, against NumPy and scikit-learn."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from random_bases import bases
from random_bases.bases import TrajectoryBasis, trajectory
from random_bases.subspace import Subspace


def walk(count, size, step=1e-3, seed=0):
    """Vectors like successive weights: nearly parallel, each a small step from the one before."""
    random = np.random.RandomState(seed)
    steps = random.normal(size=(count, size)) * step
    return (random.normal(size=size) + np.cumsum(steps, axis=0)).astype(np.float32)


def rows(basis):
    return basis.directions.numpy().astype(np.float64)


def reference_gram_schmidt(vectors):
    q, r = np.linalg.qr(np.asarray(vectors, np.float64).T)
    return (q * np.sign(np.diag(r))).T


@pytest.mark.parametrize("step", [1.0, 1e-3, 1e-5])
def test_300_directions_are_orthonormal_at_float32(step):
    q = rows(TrajectoryBasis.gram_schmidt(walk(300, 2000, step)))
    assert q.shape == (300, 2000)
    np.testing.assert_allclose(q @ q.T, np.eye(300), atol=1e-6)


@settings(max_examples=15)
@given(
    count=st.integers(1, 12),
    size=st.integers(12, 200),
    step=st.sampled_from([1.0, 1e-2]),
    seed=st.integers(0, 9),
)
def test_gram_schmidt_is_that_of_qr(count, size, step, seed):
    vectors = walk(count, size, step, seed)
    np.testing.assert_allclose(
        rows(TrajectoryBasis.gram_schmidt(vectors)), reference_gram_schmidt(vectors), atol=1e-5
    )


def test_the_span_holds_every_vector():
    vectors = walk(20, 500)
    basis = TrajectoryBasis.gram_schmidt(vectors)
    for vector in vectors:
        _, inside = basis.sketch(vector, seed=0)
        np.testing.assert_allclose(inside, vector, atol=1e-5)


def test_vectors_that_depend_on_others_are_left_out_and_named(caplog):
    vectors = walk(6, 100)
    vectors[2] = vectors[1]
    vectors[4] = vectors[0] - 2 * vectors[3]
    with caplog.at_level(logging.WARNING, logger="random_bases"):
        basis = TrajectoryBasis.gram_schmidt(vectors)
    assert basis.dimensions == 4
    assert "Of 6 vectors, these are left out" in caplog.text
    assert caplog.text.strip().endswith(": 2, 4.")
    np.testing.assert_allclose(rows(basis), reference_gram_schmidt(vectors[[0, 1, 3, 5]]), atol=1e-4)


def test_differences_below_the_vectors_precision_are_none():
    vectors = walk(5, 300, step=1e-2).astype(np.float16)
    rounded = np.nextafter(vectors[0], np.float16(np.inf))  # another last bit
    assert TrajectoryBasis.gram_schmidt([*vectors, rounded]).dimensions == 5
    exact = [vector.astype(np.float32) for vector in [*vectors, rounded]]
    assert TrajectoryBasis.gram_schmidt(exact).dimensions == 6
    assert TrajectoryBasis.gram_schmidt(exact, tolerance=0.004).dimensions == 5


@pytest.mark.parametrize("elements", [7, 64, 10**6])
def test_blocks_of_any_size_give_the_same(elements, monkeypatch, tmp_path):
    vectors = walk(8, 300)
    expected = [rows(TrajectoryBasis.gram_schmidt(vectors)), rows(TrajectoryBasis.pca(vectors, 3))]
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    monkeypatch.setattr(trajectory, "_BLOCK_BYTES", 8 * 8 * elements)
    found = [rows(TrajectoryBasis.gram_schmidt(mapped)), rows(TrajectoryBasis.pca(mapped, 3))]
    for one, other in zip(expected, found):
        np.testing.assert_allclose(one, other, atol=1e-6)


# --- Principal components -------------------------------------------------------------------------


@pytest.mark.parametrize("dimensions", [1, 7, 39])
def test_pca_is_scikit_learns(dimensions):
    vectors = walk(40, 1500)
    reference = PCA(dimensions, svd_solver="full").fit(vectors.astype(np.float64))
    found = rows(TrajectoryBasis.pca(vectors, dimensions))
    signs = np.sign(np.sum(found * reference.components_, axis=1, keepdims=True))
    np.testing.assert_allclose(found * signs, reference.components_, atol=1e-5)
    ratio = trajectory.explained_variance_ratio(vectors)
    np.testing.assert_allclose(ratio[:dimensions], reference.explained_variance_ratio_, rtol=1e-6)
    assert ratio.sum() == pytest.approx(1)


def test_pca_without_centering_is_the_svd():
    vectors = walk(10, 400, step=0.1)
    _, singular, components = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)
    found = rows(TrajectoryBasis.pca(vectors, 6, centered=False))
    signs = np.sign(np.sum(found * components[:6], axis=1, keepdims=True))
    np.testing.assert_allclose(found * signs, components[:6], atol=1e-5)
    ratio = trajectory.explained_variance_ratio(vectors, centered=False)
    np.testing.assert_allclose(ratio, singular**2 / np.sum(singular**2), rtol=1e-6)


def test_pca_of_300_vectors_is_orthonormal():
    q = rows(TrajectoryBasis.pca(walk(300, 2000, 1e-4), 299))
    np.testing.assert_allclose(q @ q.T, np.eye(299), atol=1e-6)


def test_more_components_than_the_vectors_have_are_refused():
    with pytest.raises(ValueError, match="dimensions=5 is not possible; allowed: 1 <= dimensions <= 4"):
        TrajectoryBasis.pca(walk(5, 100), 5)
    with pytest.raises(ValueError, match="no variance"):
        TrajectoryBasis.pca(np.ones((3, 10), np.float32), 1)


# --- As a basis -----------------------------------------------------------------------------------


def test_it_is_the_linear_map_whatever_the_seed():
    basis = TrajectoryBasis.gram_schmidt(walk(6, 300))
    p = rows(basis).T
    random = np.random.RandomState(1)
    c, v = random.normal(size=6).astype(np.float32), random.normal(size=300).astype(np.float32)
    np.testing.assert_allclose(basis.expand(c, seed=0), p @ c, atol=1e-5)
    np.testing.assert_allclose(basis.project(v, seed=1, draw=2, first=3), p.T @ v, atol=1e-5)
    coordinates, moved = basis.sketch(v, seed=4)
    np.testing.assert_allclose(coordinates, p.T @ v, atol=1e-5)
    np.testing.assert_allclose(moved, p @ (p.T @ v), atol=1e-5)


def test_its_gradients_are_each_other():
    basis = TrajectoryBasis.gram_schmidt(walk(4, 50))
    c = tf.constant([1.0, 2.0, 3.0, 4.0])
    weight = tf.constant(walk(1, 50)[0])
    with tf.GradientTape() as tape:
        tape.watch(c)
        value = tf.reduce_sum(weight * basis.expand(c, seed=0))
    np.testing.assert_allclose(tape.gradient(value, c), basis.project(weight, seed=0), rtol=1e-6)


def test_it_is_accepted_by_a_subspace_of_its_size_only():
    basis = TrajectoryBasis.gram_schmidt(walk(3, 12))
    parts = Subspace([(3, 2), (6,)], 3, basis).expand(tf.constant([1.0, 0.0, 0.0]), 0)
    np.testing.assert_array_equal(np.concatenate([np.ravel(part) for part in parts]), basis.directions[0])
    with pytest.raises(ValueError, match="must have size=13"):
        Subspace([(13,)], 3, basis)
    with pytest.raises(ValueError, match=r"directions has shape \(3, 12\); allowed: \(2, 6\)"):
        Subspace([(3, 2), (6,)], 3, basis, compartments="variable")


def test_it_cannot_be_described():
    with pytest.raises(ValueError, match="stored weights"):
        bases.serialize(TrajectoryBasis.gram_schmidt(walk(3, 12)))


@pytest.mark.parametrize(
    ("vectors", "error", "message"),
    [
        ([], ValueError, "vectors is empty"),
        (np.zeros((3, 5), np.float32), ValueError, "all zero"),
        ([np.ones(3), np.ones(4)], ValueError, r"vectors\[1\] has shape \(4,\)"),
        ([np.ones(3, np.int32)], TypeError, r"vectors\[0\] has dtype int32"),
        (
            [np.ones(3), np.array([1, np.nan, 1])],
            ValueError,
            r"vectors \[1\] have values that are not finite",
        ),
    ],
)
def test_bad_vectors_are_named(vectors, error, message):
    with pytest.raises(error, match=message):
        TrajectoryBasis.gram_schmidt(vectors)


def test_a_tolerance_that_rounding_exceeds_is_refused():
    with pytest.raises(ValueError, match="tolerance=1e-09 is not possible"):
        TrajectoryBasis.gram_schmidt(walk(3, 12), tolerance=1e-9)
