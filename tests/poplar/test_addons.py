"""The double's addons compute what their names say; models with them train with our optimizer and models."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import keras, set_random_seed
from tests.poplar.double import installed

WORDS, STEPS, UNITS = 12, 5, 8


@pytest.fixture
def scope():
    with installed():
        with rb.strategies.get("ipu").scope():
            yield


def _values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("strided", [True, False])
def test_groups_of_channels_are_normalized(scope, strided):
    from ipu_tensorflow_addons.keras.layers import GroupNorm

    layer = GroupNorm(groups=3, epsilon=0.0, strided_channel_grouping=strided, gamma_initializer="ones")
    x = _values([2, 4, 6])
    centred = np.asarray(layer(x)) - np.asarray(layer.beta)
    order = [0, 3, 1, 4, 2, 5] if strided else range(6)  # the channels of a group side by side
    centred = centred[..., order].reshape(2, 4, 3, 2)
    np.testing.assert_allclose(centred.mean(axis=(1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose((centred**2).mean(axis=(1, 3)), 1, rtol=1e-4)
    assert [w.name.split("/")[-1] for w in layer.weights] == ["gamma:0", "beta:0"]


def test_layer_norm_is_keras_own(scope):
    from ipu_tensorflow_addons.keras.layers import LayerNorm

    x = _values([3, 4])
    np.testing.assert_allclose(LayerNorm()(x), keras.layers.LayerNormalization()(x), atol=1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_recurrent_layers_are_keras_own(scope, name):
    from ipu_tensorflow_addons.keras import layers

    x = _values([2, STEPS, 3])
    ours = getattr(layers, name)(UNITS, return_sequences=True)
    kept = getattr(keras.layers, name)(UNITS, return_sequences=True, recurrent_activation="sigmoid")
    ours(x), kept(x)
    for mine, theirs in zip(ours.weights, kept.weights):
        theirs.assign(_values(theirs.shape, 1))
        mine.assign(theirs)
    np.testing.assert_allclose(ours(x), kept(x), atol=1e-5)


def test_what_the_addons_refuse_is_refused(scope):
    from ipu_tensorflow_addons.keras import layers

    with pytest.raises(NotImplementedError, match="Embedding does not support mask_zero"):
        layers.Embedding(4, 2, mask_zero=True)
    with pytest.raises(TypeError, match="not understood.*stride"):
        layers.GroupNorm(3, stride=2)
    with pytest.raises(NotImplementedError, match="EffectiveTransformer"):
        layers.EffectiveTransformer(8, 4)


def _model(recurrent):
    """Of words: their embeddings, normalised in groups."""
    from ipu_tensorflow_addons.keras import layers

    return keras.Sequential(
        [
            keras.Input((STEPS,), dtype="int32"),
            layers.Embedding(WORDS, UNITS, keras.initializers.RandomNormal(0, 1, seed=1)),
            layers.GroupNorm(2, gamma_initializer="ones", beta_initializer="zeros"),
            layers.LSTM(UNITS, dropout=0.1) if recurrent else keras.layers.Flatten(),
            layers.Dropout(0.1),
            keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=2)),
        ]
    )


def _train(replicas, optimizer, wrap=lambda model: model, recurrent=False):
    """(losses, weights) of a model of words, whose first one is the class."""
    words = np.random.default_rng(0).integers(0, WORDS, [32, STEPS]).astype(np.int32)
    with installed():
        strategy = rb.strategies.get("ipu", replicas=replicas)
        set_random_seed(0)
        with strategy.scope():
            model = wrap(_model(recurrent))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizer(), loss, steps_per_execution=32 // (8 * replicas))
        model.set_replication_options("MEAN")
        data = tf.data.Dataset.from_tensor_slices((words, words[:, 0] % 3)).batch(8, drop_remainder=True)
        losses = model.fit(data, epochs=4).history["loss"]
        return losses, model.get_weights()


def test_a_model_with_their_layers_trains_with_our_optimizer():
    from random_bases.optimizers import RandomBasesDescent

    def adam():
        from ipu_tensorflow_addons.keras.optimizers import AdamIpuOptimizer

        return RandomBasesDescent(AdamIpuOptimizer(0.05), dimensions=60, basis="rademacher", seed=0)

    losses, _ = _train(1, adam)
    assert losses[-1] < 0.8 * losses[0]


def test_so_does_one_in_a_fixed_subspace_and_with_a_recurrent_layer():
    def subspace(model):
        return rb.SubspaceModel(model, dimensions=60, basis="rademacher", seed=0)

    losses, weights = _train(2, lambda: keras.optimizers.Adam(0.1), subspace, recurrent=True)
    assert losses[-1] < losses[0]
    assert (60,) in [w.shape for w in weights]
