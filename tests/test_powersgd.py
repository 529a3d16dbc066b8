"""The peer of error feedback: PowerSGD equals its paper's algorithms, and loses nothing."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.powersgd import LowRank, PowerSGD
from random_bases.keras_api import compile_model, keras
from tests.optimizers.helpers import data, dense_model

SHAPES = [(5, 6), (6,), (3, 3, 2, 4)]


def example(seed):
    rng = np.random.RandomState(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


def orthonormal(p):
    """Gram-Schmidt."""
    for i in range(p.shape[1]):
        p[:, i] /= np.linalg.norm(p[:, i])
        p[:, i + 1 :] -= np.outer(p[:, i], p[:, i] @ p[:, i + 1 :])
    return p


@pytest.mark.parametrize("rank", [1, 2])
def test_the_algorithm_against_numpy(rank):
    low = LowRank(SHAPES, rank, seed=3)
    matrices = {0: (5, 6), 2: (18, 4)}
    q = {
        i: tf.random.stateless_normal([m, rank], [3, i]).numpy().astype(float)
        for i, (_, m) in matrices.items()
    }
    e = {i: np.zeros(shape) for i, shape in matrices.items()}
    for step in range(5):
        gradients = example(step)
        updates = low(gradients)
        np.testing.assert_array_equal(updates[1], gradients[1])
        for i, shape in matrices.items():
            m = gradients[i].reshape(shape) + e[i]
            p = orthonormal(m @ q[i])
            q[i] = m.T @ p
            e[i] = m - p @ q[i].T
            np.testing.assert_allclose(updates[i].numpy().reshape(shape), p @ q[i].T, atol=1e-4)
            np.testing.assert_allclose(low.errors[i], e[i], atol=1e-4)


def test_nothing_is_lost():
    low = LowRank(SHAPES)
    moved, seen = [0, 0, 0], [0, 0, 0]
    for step in range(20):
        gradients = example(step)
        moved = [a + np.asarray(b) for a, b in zip(moved, low(gradients))]
        seen = [a + b for a, b in zip(seen, gradients)]
    for a, b, error in zip(moved, seen, low.errors):
        rest = 0 if error is None else error.numpy().reshape(a.shape)
        np.testing.assert_allclose(a + rest, b, atol=1e-4)


def test_q_that_is_kept_finds_the_best_matrix_of_its_rank():
    """Of one matrix, whose memory is emptied each time: steps are those of a power iteration."""
    matrix = np.random.RandomState(0).normal(size=(5, 6)).astype(np.float32)
    low = LowRank([(5, 6)], rank=2)
    for _ in range(200):
        low.errors[0].assign(tf.zeros([5, 6]))
        (update,) = low([matrix])
    u, s, v = np.linalg.svd(matrix)
    np.testing.assert_allclose(update, (u[:, :2] * s[:2]) @ v[:2], atol=1e-3)


def test_with_the_full_rank_all_arrives_at_once():
    low = LowRank([(5, 6)], rank=9)
    (update,) = low([example(0)[0]])
    np.testing.assert_allclose(update, example(0)[0], atol=1e-5)
    np.testing.assert_allclose(low.errors[0], np.zeros((5, 6)), atol=1e-5)


def test_what_would_travel_is_counted():
    assert LowRank(SHAPES).bytes_per_step == 4 * (5 + 6 + 6 + 18 + 4)
    assert LowRank(SHAPES, rank=9).bytes_per_step == 4 * (5 * 11 + 6 + 4 * 22)


def test_training_equals_sgd_at_full_rank_and_differs_at_rank_1():
    def trained(optimizer):
        model = dense_model()
        made = optimizer(model)
        compile_model(model, jit_compile=False, optimizer=made, loss="mse")
        model.fit(*data(), batch_size=8, epochs=2, shuffle=False, verbose=0)
        return model.get_weights()

    sgd = trained(lambda model: keras.optimizers.SGD(0.1))
    full = trained(lambda model: PowerSGD(0.1, model.trainable_variables, rank=6))
    one = trained(lambda model: PowerSGD(0.1, model.trainable_variables))
    assert max(np.abs(a - b).max() for a, b in zip(full, sgd)) < 1e-5
    assert max(np.abs(a - b).max() for a, b in zip(one, sgd)) > 1e-3
