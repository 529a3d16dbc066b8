"""Gradients whose static shape a graph does not know: of kernels applied to inputs of rank 3 and more."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import keras, set_random_seed
from tests.optimizers.helpers import compile_, needs_keras, values

layers = keras.layers


def attention(inputs):
    return layers.MultiHeadAttention(num_heads=2, key_dim=3)(inputs, inputs)


MODELS = {
    "rank 3": ((3, 4), layers.Dense(2)),
    "rank 4": ((3, 2, 4), layers.Dense(2)),
    "attention": ((3, 4), attention),
    "time distributed": ((3, 4), layers.TimeDistributed(layers.Dense(2))),
}


def trained(case, mode, optimizer):
    """The weights after an epoch of three batches, the last one smaller."""
    shape, layer = MODELS[case]
    set_random_seed(0)
    inputs = keras.Input(shape)
    # A layer that was built keeps its weights.
    fresh = layer if case == "attention" else type(layer).from_config(layer.get_config())
    model = keras.Model(inputs, layers.Dense(1)(fresh(inputs)))
    rng = np.random.RandomState(1)
    x = rng.normal(size=(10, *shape)).astype(np.float32)
    y = rng.normal(size=(10, *shape[:-1], 1)).astype(np.float32)
    compile_(model, optimizer(model.count_params()), mode)
    model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), verbose=0)
    return values(model.weights)


@pytest.mark.parametrize("mode", ["graph", pytest.param("xla", marks=needs_keras((2, 11), "jit_compile"))])
@pytest.mark.parametrize("case", list(MODELS))
def test_with_all_dimensions_it_is_the_inner_optimizer(case, mode):
    def wrapped(size):
        # One compartment each: these directions are orthonormal within blocks only.
        return rb.RandomBasesDescent(
            keras.optimizers.SGD(0.1),
            size,
            basis="orthogonal",
            compartments="variable",
            allocation="proportional",
            seed=0,
        )

    for found, expected in zip(
        trained(case, mode, wrapped), trained(case, mode, lambda size: keras.optimizers.SGD(0.1))
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
