"""Networks of the shapes that tutorials have, on data sets whose last batch is smaller, in every Keras.

In all dimensions P P^T = I, so that `RandomBasesDescent` must go where the optimizer inside would go alone.
"""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import compile_model, keras, set_random_seed
from tests import adapted

L = keras.layers
EXAMPLES, BATCH = 10, 4  # batches of 4, 4 and 2
RANDOM = np.random.RandomState(0)
pytestmark = pytest.mark.slow


def numbers(*shape):
    return RANDOM.normal(size=(EXAMPLES, *shape)).astype(np.float32)


def classes(count, *shape):
    return RANDOM.randint(0, count, (EXAMPLES, *shape))


class Positions(keras.layers.Layer):
    """Adds a vector that is learned to each place of a sequence."""

    def build(self, input_shape):
        self.table = self.add_weight(name="table", shape=tuple(input_shape[1:]), initializer="random_normal")
        self.built = True

    def call(self, inputs):
        return inputs + self.table


def vision_transformer():
    """Patches of an image as a sequence: attention, then a network at each place, both around a shortcut."""
    image = keras.Input((8, 8, 3))
    x = L.Reshape((4, 8))(L.Conv2D(8, 4, strides=4)(image))
    x = Positions()(x)
    normal = L.LayerNormalization()(x)
    x = L.Add()([x, L.MultiHeadAttention(2, 4)(normal, normal)])
    y = L.Dense(8)(L.Dense(16, activation="relu")(L.LayerNormalization()(x)))
    x = L.Flatten()(L.Add()([x, y]))
    return keras.Model(image, L.Dense(3, activation="softmax")(x)), numbers(8, 8, 3), classes(3)


def sequence_to_sequence():
    """The states of one LSTM, which has read a sequence, are where another one begins to write."""
    read, written = keras.Input((None, 5)), keras.Input((None, 4))
    _, *states = L.LSTM(6, return_state=True)(read)
    sequence, *_ = L.LSTM(6, return_sequences=True, return_state=True)(written, initial_state=states)
    model = keras.Model([read, written], L.Dense(4, activation="softmax")(sequence))
    return model, (numbers(7, 5), numbers(3, 4)), classes(4, 3)


def addition():
    """A sum's digits from its characters: a vector of the whole, repeated for each digit."""
    layers = [
        keras.Input((5, 6)),
        L.LSTM(7),
        L.RepeatVector(3),
        L.LSTM(7, return_sequences=True),
        L.TimeDistributed(L.Dense(6, activation="softmax")),
    ]
    return keras.Sequential(layers), numbers(5, 6), classes(6, 3)


def text_classification():
    """Strings to words to vectors, and a convolution over them."""
    texts = np.array(
        ["good", "bad", "so so", "very good", "very bad", "good good", "bad so", "so", "a b", ""]
    )
    words = adapted.PREPROCESSING.TextVectorization(output_sequence_length=5)
    words.adapt(texts)
    text = keras.Input((1,), dtype="string")
    x = L.Embedding(9, 4)(words(text))
    x = L.GlobalMaxPooling1D()(L.Conv1D(6, 3, activation="relu")(x))
    return (
        keras.Model(text, L.Dense(2, activation="softmax")(x)),
        tf.constant(texts)[:, tf.newaxis],
        classes(2),
    )


MODELS = [vision_transformer, sequence_to_sequence, addition, text_classification]


def built(make):
    """(model, its data as batches), the same each time."""
    set_random_seed(0)
    RANDOM.seed(0)
    model, x, y = make()
    return model, tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


def compiled(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy()
    compile_model(model, jit_compile=False, optimizer=optimizer, loss=loss, metrics=["accuracy"])
    return model


def size(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def assert_same_path(model, other, before):
    moved = 0.0
    for one, two, start in zip(model.trainable_variables, other.trainable_variables, before):
        np.testing.assert_allclose(one.numpy(), two.numpy(), atol=2e-4)
        moved = max(moved, np.abs(one.numpy() - start).max())
    assert moved > 1e-2


@pytest.mark.parametrize("make", MODELS)
def test_descent_in_all_dimensions_is_the_optimizer_inside(make):
    model, data = built(make)
    before = [v.numpy() for v in model.trainable_variables]
    # Without momentum: Keras 2.6's SGD leaves rows of an embedding that a batch does not have where they are.
    compiled(model, keras.optimizers.SGD(0.2)).fit(data, epochs=2, verbose=0)
    other, _ = built(make)
    inner = keras.optimizers.SGD(0.2)
    every = size(other.trainable_variables)
    optimizer = rb.RandomBasesDescent(inner, dimensions=every, basis="hadamard", seed=0)
    compiled(other, optimizer).fit(data, epochs=2, verbose=0)
    assert_same_path(other, model, before)


@pytest.mark.parametrize("make", MODELS)
def test_a_few_coordinates_train_and_make_an_ordinary_model(make):
    model, data = built(make)
    sub = compiled(rb.SubspaceModel(model, dimensions=30, seed=0), keras.optimizers.Adam(0.1))
    history = sub.fit(data, epochs=8, verbose=0).history["loss"]
    assert np.all(np.isfinite(history)) and history[-1] < history[0]
    expected = sub.predict(data, verbose=0)
    np.testing.assert_allclose(sub.materialize().predict(data, verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
def test_evolution_takes_a_step(make):
    model, data = built(make)
    before = [v.numpy() for v in model.trainable_variables]
    compiled(model, "sgd")
    nes = rb.NaturalEvolutionStrategies(
        model, population=4, sigma=0.1, learning_rate=0.1, memory_limit=0, seed=0
    )
    history = nes.fit(data.repeat(), epochs=1, steps_per_epoch=1, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert any((v.numpy() != start).any() for v, start in zip(model.trainable_variables, before))


class Adversaries(keras.Model):
    """A generator and a discriminator, each with an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((3,)), L.Dense(6, activation="tanh"), L.Dense(4)])
        self.discriminator = keras.Sequential([keras.Input((4,)), L.Dense(6, activation="tanh"), L.Dense(1)])
        self.built = True

    def call(self, noise):
        return self.generator(noise)

    def compile(self, generator_optimizer, discriminator_optimizer):
        super().compile()
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.loss_of = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, data):
        real, noise = data
        with tf.GradientTape() as tape:
            on_real, on_made = self.discriminator(real), self.discriminator(self.generator(noise))
            loss = self.loss_of(tf.ones_like(on_real), on_real) + self.loss_of(
                tf.zeros_like(on_made), on_made
            )
        variables = self.discriminator.trainable_variables
        self.discriminator_optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
        with tf.GradientTape() as tape:
            on_made = self.discriminator(self.generator(noise))
            made = self.loss_of(tf.ones_like(on_made), on_made)
        variables = self.generator.trainable_variables
        self.generator_optimizer.apply_gradients(zip(tape.gradient(made, variables), variables))
        return {"discriminator_loss": loss, "generator_loss": made}


def adversaries():
    set_random_seed(0)
    RANDOM.seed(0)
    data = tf.data.Dataset.from_tensor_slices((numbers(4), numbers(3))).batch(BATCH)
    return Adversaries(), data


def test_adversaries_train_in_all_dimensions_as_without():
    def optimizer(variables):
        inner = keras.optimizers.SGD(0.2)
        return rb.RandomBasesDescent(inner, dimensions=size(variables), basis="hadamard", seed=0)

    model, data = adversaries()
    before = [v.numpy() for v in model.trainable_variables]
    model.compile(keras.optimizers.SGD(0.2), keras.optimizers.SGD(0.2))
    model.fit(data, epochs=2, verbose=0)
    other, _ = adversaries()
    other.compile(
        optimizer(other.generator.trainable_variables), optimizer(other.discriminator.trainable_variables)
    )
    other.fit(data, epochs=2, verbose=0)
    assert_same_path(other, model, before)


def test_the_recorder_refuses_adversaries(tmp_path):
    """Their steps are not counted by `model.optimizer`."""
    model, data = adversaries()
    model.compile(keras.optimizers.SGD(0.2), keras.optimizers.SGD(0.2))
    with pytest.raises(ValueError, match="cannot count those of other optimizers|has no `optimizer`"):
        model.fit(data, verbose=0, callbacks=[rb.TrajectoryRecorder(tmp_path)])
