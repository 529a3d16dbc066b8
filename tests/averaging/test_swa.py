"""BatchNormalization's statistics, recomputed in one pass, against averages by hand."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases import averaging
from random_bases.keras_api import GENERATION, keras
from tests import networks

L = keras.layers


def two_layers():
    """A network with two normalisations in a row of layers, and no dropout."""
    x = keras.Input((4, 4, 2))
    y = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    y = L.BatchNormalization(momentum=0.9)(y)
    y = L.Dense(5)(L.Flatten()(y))
    return keras.Model(x, L.BatchNormalization()(y))


def batches(sizes, seed=0):
    random = np.random.RandomState(seed)
    return [(3 + 2 * random.normal(size=(size, 4, 4, 2))).astype(np.float32) for size in sizes]


def batch_statistics(model, number, batch):
    """(mean, variance) of what reaches the layer of that number, in training mode."""
    outputs = model.layers[number].input
    inputs = np.asarray(keras.Model(model.input, outputs)(batch, training=True), np.float64)
    axes = tuple(range(inputs.ndim - 1))
    count = inputs.size // inputs.shape[-1]
    # Keras 2's fused kernel, for 4-dimensional inputs, keeps the unbiased variance.
    unbiased = count / (count - 1) if inputs.ndim == 4 and GENERATION != "keras3" else 1
    return inputs.mean(axes), inputs.var(axes) * unbiased


@pytest.mark.parametrize("sizes", [(8, 8, 8), (8, 4)], ids=str)
def test_they_are_the_exact_average_of_the_batches_statistics(sizes):
    model = two_layers()
    data = batches(sizes)
    weights = [variable.numpy() for variable in model.trainable_variables]
    assert averaging.recompute_batch_statistics(model, data) == 2
    for before, variable in zip(weights, model.trainable_variables):
        np.testing.assert_array_equal(before, variable.numpy())
    for number, layer in enumerate(model.layers):
        if isinstance(layer, L.BatchNormalization):
            each = [batch_statistics(model, number, batch) for batch in data]
            mean, variance = (np.average([e[i] for e in each], axis=0, weights=sizes) for i in (0, 1))
            np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=1e-4)
    assert [layer.momentum for layer in model.layers if hasattr(layer, "momentum")] == [0.9, 0.99]


def test_what_they_were_does_not_matter():
    data = tf.data.Dataset.from_tensor_slices(np.concatenate(batches((8, 8)))).batch(8)
    found = []
    for value in (0.0, 1e4, np.nan):
        model = two_layers()
        model.set_weights(made_up_weights(model))
        for layer in model.layers:
            if isinstance(layer, L.BatchNormalization):
                layer.moving_mean.assign(np.full(layer.moving_mean.shape, value))
        averaging.recompute_batch_statistics(model, data.map(lambda x: (x, x)))
        found.append(np.concatenate([v.numpy().ravel() for v in model.non_trainable_weights]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert np.isfinite(found[0]).all()


def made_up_weights(model):
    random = np.random.RandomState(3)
    return [np.abs(random.normal(size=weight.shape)) for weight in model.get_weights()]


def test_frozen_layers_keep_theirs():
    model, x = networks.build("frozen")
    before = [variable.numpy() for variable in model.non_trainable_weights]
    assert averaging.recompute_batch_statistics(model, [x]) == 0
    for one, variable in zip(before, model.non_trainable_weights):
        np.testing.assert_array_equal(one, variable.numpy())


def test_no_batches_are_an_error_and_leave_the_momentum():
    model = two_layers()
    with pytest.raises(ValueError, match="batches has no examples"):
        averaging.recompute_batch_statistics(model, [])
    assert [layer.momentum for layer in model.layers if hasattr(layer, "momentum")] == [0.9, 0.99]
