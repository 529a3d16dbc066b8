"""Small networks of every kind, with inputs for them: what tests of whole models go through."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases.keras_api import GENERATION, keras, register_serializable, set_random_seed

L = keras.layers
BATCH = 6


def _dense(**options):
    # No zeros, so that a bias that is left out would be noticed.
    return L.Dense(**{"bias_initializer": "random_normal", **options})


def sequential():
    model = keras.Sequential([keras.Input((5,)), _dense(units=6, activation="tanh"), _dense(units=3)])
    return model, _normal(5)


def normalised():
    """Batch normalisation, and dropout that is not active in `training=False`."""
    x = keras.Input((4, 4, 2))
    y = L.Conv2D(3, 3, padding="same", activation="relu")(x)
    y = L.BatchNormalization()(y)
    y = L.Dropout(0.5)(L.Flatten()(y))
    return keras.Model(x, L.LayerNormalization()(_dense(units=3)(y))), _normal(4, 4, 2)


def branched():
    """Two inputs, a layer that is used twice, and a nested model."""
    a, b = keras.Input((4,)), keras.Input((4,))
    shared = _dense(units=4, activation="tanh")
    inner = keras.Sequential([keras.Input((8,)), _dense(units=5, activation="relu"), L.BatchNormalization()])
    y = L.Concatenate()([shared(a), shared(shared(b))])
    return keras.Model([a, b], _dense(units=3)(inner(y))), [_normal(4), _normal(4, seed=1)]


def recurrent():
    """An embedding whose mask reaches the LSTM, and a second LSTM both ways."""
    tokens = keras.Input((4,), dtype="int32")
    y = L.Embedding(7, 3, mask_zero=True)(tokens)
    y = L.LSTM(3, return_sequences=True)(y)
    y = L.Bidirectional(L.LSTM(2))(y)
    words = np.random.RandomState(0).randint(1, 7, (BATCH, 4))
    words[:, 3] = 0
    words[0, 2] = 0
    return keras.Model(tokens, _dense(units=3)(y)), words.astype(np.int32)


def attention():
    x = keras.Input((4, 6))
    y = L.LayerNormalization()(x + L.MultiHeadAttention(2, 3)(x, x))
    return keras.Model(x, _dense(units=3)(L.GlobalAveragePooling1D()(y))), _normal(4, 6)


def frozen():
    model, x = normalised()
    model.layers[1].trainable = False
    model.layers[2].trainable = False
    return model, x


def regularised():
    """Regularisers of weights and of activations."""
    x = keras.Input((5,))
    y = _dense(units=6, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1))(x)
    y = _dense(units=3, activity_regularizer=keras.regularizers.L2(0.1), bias_regularizer="l1")(y)
    return keras.Model(x, y), _normal(5)


class OwnLoop(keras.layers.Layer):
    """Reads its own weight inside a loop of TensorFlow, and counts its calls there."""

    def build(self, input_shape):
        self.gain = self.add_weight(name="gain", shape=(input_shape[-1],), initializer="ones")
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, inputs):
        def body(i, y):
            self.count.assign_add(1.0)
            return i + 1, y + 0.5 * tf.tanh(y * tf.cast(self.gain, y.dtype))

        return tf.while_loop(lambda i, y: i < 2, body, (0, inputs), maximum_iterations=2)[1]


@register_serializable
class Subclassed(keras.Model):
    """Layers in lists and dicts, a weight of its own, an added loss, state."""

    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.blocks = [_dense(units=units, activation="tanh"), OwnLoop()]
        self.heads = {"first": [L.BatchNormalization(), _dense(units=3)]}

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(self.units,), initializer="ones")
        layers = [*self.blocks, *self.heads["first"]]
        for layer, shape in zip(layers, [input_shape] + 3 * [(None, self.units)]):
            with tf.name_scope(layer.name):  # Keras 2 names variables by it
                layer.build(shape)
        self.built = True

    def call(self, inputs, training=None):
        y = self.blocks[1](self.blocks[0](inputs)) * self.scale
        self.add_loss(0.1 * tf.cast(tf.reduce_sum(self.scale**2), tf.float32))
        normalise, head = self.heads["first"]
        return head(normalise(y, training=training))

    def get_config(self):
        return {"units": self.units, "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def subclassed():
    model = Subclassed()
    x = _normal(5)
    model(x)
    return model, x


class Rematerialised(keras.layers.Dense):
    """Dense, computed again for its gradient."""

    def call(self, inputs):
        return (tf.recompute_grad if GENERATION != "keras3" else keras.remat)(super().call)(inputs)


def rematerialised():
    return keras.Sequential([keras.Input((5,)), Rematerialised(4, "tanh"), _dense(units=3)]), _normal(5)


ALL = {
    network.__name__: network
    for network in (
        sequential,
        normalised,
        branched,
        recurrent,
        attention,
        frozen,
        regularised,
        subclassed,
    )
}
# Which have no gradient with respect to what their weights read as.
FORWARD_ONLY = {"rematerialised": rematerialised}
# The names for parametrized tests; those that take longest to compile are for `-m slow`.
EACH = [
    pytest.param(name, marks=pytest.mark.slow) if name in ("attention", "recurrent") else name
    for name in sorted(ALL)
]


def build(name, seed=0):
    """(model, inputs) of a network, from the seed of its weights."""
    set_random_seed(seed)
    return {**ALL, **FORWARD_ONLY}[name]()


def targets(seed=2):
    return np.random.RandomState(seed).normal(size=(BATCH, 3)).astype(np.float32)


def _normal(*shape, seed=0):
    return np.random.RandomState(seed).normal(size=(BATCH, *shape)).astype(np.float32)


def masked():
    """(model, tokens, labels) of sequences: padding is masked, in another share of each row."""
    set_random_seed(0)
    layers = [keras.Input((7,)), L.Embedding(5, 4, mask_zero=True), L.Dense(3, "softmax")]
    rng = np.random.RandomState(0)
    tokens = rng.randint(1, 5, (BATCH, 7)) * (np.arange(7) < np.arange(1, 7)[:, np.newaxis])
    return keras.Sequential(layers), tokens, rng.randint(0, 3, (BATCH, 7))
