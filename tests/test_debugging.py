"""What TensorFlow offers to look into a training that goes wrong must work with ours."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import compile_model, keras, set_random_seed
from random_bases.sampling.tracing import traced_once

RANDOM = np.random.RandomState(0)
X = RANDOM.normal(size=(6, 4)).astype(np.float32)
Y = RANDOM.normal(size=(6, 1)).astype(np.float32)


def model():
    set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "tanh"), keras.layers.Dense(1)])


def descent(basis):
    return rb.RandomBasesDescent(keras.optimizers.SGD(0.1), dimensions=5, basis=basis, seed=0)


def compiled(network, optimizer):
    compile_model(network, jit_compile=False, optimizer=optimizer, loss="mse")
    return network


METHODS = {
    "descent": lambda: compiled(model(), descent("normal")),
    "hadamard": lambda: compiled(model(), descent("hadamard")),
    "subspace": lambda: compiled(rb.SubspaceModel(model(), 5, seed=0), keras.optimizers.SGD(0.1)),
    "evolution": lambda: rb.NaturalEvolutionStrategies(
        compiled(model(), "sgd"), population=4, sigma=0.1, learning_rate=0.1, seed=0
    ),
}


@pytest.fixture
def checked_numerics():
    tf.debugging.enable_check_numerics()
    yield
    tf.debugging.disable_check_numerics()


def losses(method, x=X):
    data = tf.data.Dataset.from_tensor_slices((x, Y)).batch(3, drop_remainder=True).repeat(4)
    return METHODS[method]().fit(data, epochs=1, steps_per_epoch=2, verbose=0).history["loss"]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_training_is_the_same_while_numbers_are_checked(method):
    tf.debugging.enable_check_numerics()
    try:
        found = losses(method)
    finally:
        tf.debugging.disable_check_numerics()
    np.testing.assert_allclose(found, losses(method), rtol=1e-5)


@pytest.mark.parametrize("method", ["descent", "subspace"])
def test_checks_find_the_first_number_that_is_not_finite(checked_numerics, method):
    x = np.where(np.arange(4) == 2, np.inf, X).astype(np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="-?[Ii]nf|NaN"):
        losses(method, x)


def test_what_was_traced_while_numbers_were_checked_is_compiled_later():
    double = traced_once(lambda x: 2.0 * x)
    tf.debugging.enable_check_numerics()
    try:
        double(tf.ones([3]))
    finally:
        tf.debugging.disable_check_numerics()
    program = tf.function(double, jit_compile=True, autograph=False)
    np.testing.assert_array_equal(program(tf.ones([3])), 2 * np.ones(3))
