"""A model whose loss is 1/2 w^T H w for its only weight w, with a known H."""

import numpy as np
import tensorflow as tf

from random_bases.keras_api import keras

EIGENVALUES = np.array([7.0, 3.0, 1.0, 0.5, -0.25, -4.0], np.float32)
# An orthogonal basis of eigenvectors.
_VECTORS = np.linalg.qr(np.random.RandomState(3).normal(size=(6, 6)))[0]
HESSIAN = (_VECTORS * EIGENVALUES @ _VECTORS.T).astype(np.float32)
DATA = (np.eye(6, dtype=np.float32), np.zeros([6, 1], np.float32))


def loss(y, predictions):
    """Predictions are x w = w."""
    del y
    w = predictions[:, 0]
    return tf.tensordot(w, tf.linalg.matvec(HESSIAN, w), 1) / 2


def model(weights=None):
    inputs = keras.Input((6,))
    built = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    weights = np.arange(1, 7) if weights is None else weights
    built.set_weights([np.asarray(weights, np.float32)[:, np.newaxis]])
    return built


def weight(built):
    return built.get_weights()[0][:, 0]
