"""The law of fused layers: the gradient of a SubspaceModel's coordinates is P^T of the weights' own."""

import numpy as np
import tensorflow as tf

from random_bases.keras_api import tf_variable_of

SEED = 3


def normal(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


def gradients(model, variables, x):
    """Of a loss that sees every output and every regulariser; 0 where there is none."""
    with tf.GradientTape() as tape:
        y = tf.cast(model(x, training=False), tf.float32)
        weights = tf.reshape(tf.range(tf.size(y), dtype=tf.float32) / 10 + 1, tf.shape(y))
        loss = tf.reduce_mean(weights * tf.sin(y)) + sum(model.losses)
    variables = [tf_variable_of(v) for v in variables]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    return loss, [tf.convert_to_tensor(g) for g in found]


def assert_coordinates_of_the_gradient(sub, x, draw=0):
    """The gradient of c is P^T of the weights' own, at the same point."""
    loss, (found,) = gradients(sub, [sub.coordinates], x)
    model = sub.model if sub.redraw_every else sub.materialize()
    plain, whole = gradients(model, model.trainable_variables, x)
    expected = sub._parametrisation.subspace.project(whole, SEED, draw)
    np.testing.assert_allclose(loss, plain, rtol=1e-5)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, atol=2e-6 * max(scale, 1), rtol=2e-5)
    assert scale > 1e-4
