"""What the tests of `RandomBasesDescent` share: a tiny model, its data, and P as a matrix."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases.keras_api import GENERATION, KERAS_VERSION, keras, set_random_seed
from tests.dense_reference import PER_BLOCK, dense


def needs_keras(version, what):
    """Marks a test of something that Keras has since `version`."""
    return pytest.mark.skipif(
        KERAS_VERSION < version, reason=f"Keras {'.'.join(map(str, KERAS_VERSION))} has no {what}"
    )


def dense_model(seed=0):
    """Layers "a" (5 x 6 weights, 6 biases) and "b" (6 x 4, 4): 64 parameters, cheap for Hadamard."""
    set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(6, activation="tanh", bias_initializer="random_normal", name="a"),
            keras.layers.Dense(4, bias_initializer="random_normal", name="b"),
        ],
        name="dense",  # part of the variables' paths, and so of what makes two subspaces equal
    )


def data(inputs=(5,), outputs=(4,), examples=32, seed=0):
    rng = np.random.RandomState(seed)
    return (
        rng.normal(size=(examples, *inputs)).astype(np.float32),
        rng.normal(size=(examples, *outputs)).astype(np.float32),
    )


def compile_(model, optimizer, mode="eager", **arguments):
    """`model.compile` with the step run "eager", as a "graph", compiled ("xla") or as Keras likes.

    "eager" is the default of these tests: a graph would compile the random bases for every model.
    """
    arguments.setdefault("loss", keras.losses.MeanSquaredError())  # Keras 3 cannot load "mse" from .h5
    if mode == "eager":
        arguments["run_eagerly"] = True
    elif GENERATION != "keras2.6" and mode != "default":
        arguments["jit_compile"] = mode == "xla"
    model.compile(optimizer, **arguments)


def fit(model, epochs=2, xy=None, **arguments):
    """Four steps an epoch, always the same."""
    x, y = data() if xy is None else xy
    return model.fit(x, y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, **arguments)


def trained(optimizer, mode="eager", epochs=2, callbacks=(), **arguments):
    """A `dense_model`, trained."""
    model = dense_model()
    compile_(model, optimizer, mode, **arguments)
    fit(model, epochs, callbacks=list(callbacks))
    return model


def gradients(variables, seed=0):
    """Made-up gradients, one for each variable."""
    rng = np.random.RandomState(seed)
    return [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables]


def apply(optimizer, grads, variables):
    optimizer.apply_gradients(list(zip(grads, variables)))


def scaled_step(optimizer, grads, variables):
    """Applies gradients as float16 training gets them: scaled, for the optimizer to unscale."""
    if KERAS_VERSION >= (3, 0):
        scale = optimizer.dynamic_scale if optimizer.built else optimizer.initial_scale
        apply(optimizer, [grad * scale for grad in grads], variables)
    else:
        apply(
            optimizer, optimizer.get_unscaled_gradients([g * optimizer.loss_scale for g in grads]), variables
        )


def stepped(optimizer, steps=4):
    """A `dense_model` after steps along made-up gradients: much faster than training."""
    model = dense_model()
    for step in range(steps):
        apply(optimizer, gradients(model.trainable_variables, seed=step), model.trainable_variables)
    return model


def flat(tensors):
    """All elements as one float64 vector."""
    return np.concatenate([np.asarray(tensor, np.float64).ravel() for tensor in tensors])


def values(variables):
    return [variable.numpy() for variable in variables]


def number(variable):
    return float(np.asarray(variable))


def matrix(rule, draw, first=0):
    """P of `rule` as a float64 array [D, d]; independent of the package for dense directions.

    With several replicas: of the one whose first direction has the index `first`.
    """
    subspace = rule.subspace
    if rule.basis not in PER_BLOCK:
        directions = np.eye(subspace.dimensions, dtype=np.float32)
        return np.stack([flat(subspace.expand(c, rule.seed, draw, first)) for c in directions], axis=1)
    p = np.zeros((subspace.size, subspace.dimensions))
    row = column = 0
    for size, dimensions in zip(subspace.compartment_sizes, subspace.compartment_dimensions):
        block = dense(size, dimensions, rule.basis, rule.seed, draw, first=first + column)
        p[row : row + size, column : column + dimensions] = block
        row, column = row + size, column + dimensions
    return p


def assert_equal(model, other):
    """The same weights, bit for bit."""
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)


def assert_close(model, other, tolerance=1e-5):
    np.testing.assert_allclose(flat(model.get_weights()), flat(other.get_weights()), rtol=0, atol=tolerance)


def assert_differ(model, other, by=1e-3):
    assert np.abs(flat(model.get_weights()) - flat(other.get_weights())).max() > by
