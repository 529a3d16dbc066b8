"""Recurrent layers of a SubspaceModel: each kernel's coordinates get their gradient inside of the loop."""

import functools

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, dropped_inputs, keras, set_random_seed, tf_variable_of
from random_bases.models import tapping
from tests.coordinate_gradients import SEED, assert_coordinates_of_the_gradient, gradients, normal

L = keras.layers
UNITS, LENGTH, FEATURES, BATCH = 5, 4, 6, 3

LAYERS = {
    "lstm": lambda: L.LSTM(UNITS),
    "lstm, sequences": lambda: L.LSTM(UNITS, return_sequences=True, go_backwards=True, use_bias=False),
    "lstm, other activations": lambda: L.LSTM(UNITS, "softsign", "hard_sigmoid", unit_forget_bias=False),
    "lstm, unrolled": lambda: L.LSTM(UNITS, unroll=True),
    "lstm, gate by gate": lambda: L.LSTM(UNITS, implementation=1),
    "gru": lambda: L.GRU(UNITS, bias_initializer="random_normal"),
    "gru, reset before": lambda: L.GRU(UNITS, reset_after=False, bias_initializer="random_normal"),
    "gru, no bias": lambda: L.GRU(UNITS, use_bias=False, return_sequences=True),
    "gru, gate by gate": lambda: L.GRU(UNITS, implementation=1, reset_after=False),
    "simple": lambda: L.SimpleRNN(UNITS, bias_initializer="random_normal"),
    "simple, no bias": lambda: L.SimpleRNN(UNITS, activation="relu", use_bias=False, unroll=True),
    "both ways": lambda: L.Bidirectional(L.GRU(UNITS)),
    "a cell": lambda: L.RNN(L.LSTMCell(UNITS)),
    "cells on each other": lambda: L.RNN([L.GRUCell(UNITS), L.SimpleRNNCell(UNITS), L.LSTMCell(UNITS)]),
}
slow = functools.partial(pytest.param, marks=pytest.mark.slow)
CELLS = {"both ways": 2, "cells on each other": 3}


def one_layer(make, masked=False, **options):
    """(model, inputs) of a recurrent layer alone, with padding behind some sequences."""
    set_random_seed(0)
    x = normal(BATCH, LENGTH, FEATURES)
    inputs = y = keras.Input((LENGTH, FEATURES), **options)
    if masked:
        y = L.Masking()(y)
        x[0, 2:] = x[2, 1:] = 0
    return keras.Model(inputs, make()(y)), x


def fused(model, dimensions=40, **options):
    options = {"redraw_every": 1, **options}
    return rb.SubspaceModel(model, dimensions, basis="kronecker", seed=SEED, **options)


@pytest.mark.parametrize(
    ("name", "masked"), [*((n, True) for n in LAYERS), *(slow(n, False) for n in LAYERS)]
)
def test_coordinates_have_the_gradient_of_the_kernels_projected(name, masked):
    """And the outputs are those of Keras's own cell, which `assert_coordinates_of_the_gradient` compares."""
    model, x = one_layer(LAYERS[name], masked)
    found = tapping.of(model, model.trainable_variables).values()
    names = ["kernel", "recurrent_kernel"] * CELLS.get(name, 1)
    assert [each.attribute for each in found] == names
    assert_coordinates_of_the_gradient(fused(model), x)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru, reset before", "simple"])
def test_with_factors_on_both_sides(monkeypatch, name):
    monkeypatch.setattr(
        "random_bases.bases.kronecker.best_ranks",
        lambda matrix, dimensions: (max(1, matrix[1] // 2), max(1, matrix[2] // 2)),
    )
    # Programs are shared by equal subspaces, which these are not.
    monkeypatch.setattr("random_bases.subspace._shared_programs", lambda key: {})
    assert_coordinates_of_the_gradient(fused(one_layer(LAYERS[name])[0], 30), normal(BATCH, LENGTH, FEATURES))


def test_a_fixed_basis_and_a_loop_of_unknown_length():
    inputs = keras.Input((None, FEATURES))
    model = keras.Model(inputs, L.LSTM(UNITS)(L.GRU(UNITS, return_sequences=True)(inputs)))
    sub = fused(model, redraw_every=None)
    sub.coordinates.assign(normal(40, seed=1))
    for length in (1, 3, 7):
        assert_coordinates_of_the_gradient(sub, normal(BATCH, length, FEATURES))


class Given(L.Layer):
    """An LSTM that begins with a state of its own, and returns both of its states."""

    def __init__(self):
        super().__init__()
        self.lstm = L.LSTM(UNITS, return_state=True)

    def build(self, shape):
        self.lstm.build(shape)

    def call(self, x):
        first = x[:, 0, :UNITS]
        return tf.concat(self.lstm(x, initial_state=[first, tf.tanh(first)]), axis=-1)


def test_states_that_are_given_and_returned():
    model, x = one_layer(Given)
    assert_coordinates_of_the_gradient(fused(model), x)


def test_states_that_stay_from_batch_to_batch():
    model, x = one_layer(lambda: L.GRU(UNITS, stateful=True), batch_size=BATCH)
    other, _ = one_layer(lambda: L.GRU(UNITS, stateful=True), batch_size=BATCH)
    sub, losses = fused(model), []
    for _ in range(2):
        loss, (found,) = gradients(sub, [sub.coordinates], x)
        plain, whole = gradients(other, other.trainable_variables, x)
        np.testing.assert_allclose(loss, plain, rtol=1e-5)
        np.testing.assert_allclose(found, sub.subspace.project(whole, SEED, 0), atol=1e-5)
        losses.append(loss)
    assert abs(losses[0] - losses[1]) > 1e-3


class Twice(L.Layer):
    """A layer that is called on its own output."""

    def __init__(self):
        super().__init__()
        self.lstm = L.LSTM(FEATURES, return_sequences=True)

    def build(self, shape):
        self.lstm.build(shape)

    def call(self, x):
        return self.lstm(self.lstm(x))


def test_a_layer_that_is_used_twice():
    model, x = one_layer(Twice)
    assert len(tapping.of(model, model.trainable_variables)) == 2
    assert_coordinates_of_the_gradient(fused(model), x)


@pytest.mark.parametrize("kind", [L.LSTM, L.GRU])
def test_masks_go_through_layers_around(kind):
    """These ask whether the layer's call takes one."""
    set_random_seed(0)
    x = normal(BATCH, 2, LENGTH, FEATURES)
    x[0, :, 2:] = x[2, 1, 1:] = 0
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, L.TimeDistributed(kind(UNITS))(L.Masking()(inputs)))
    assert len(tapping.of(model, model.trainable_variables)) == 2
    assert_coordinates_of_the_gradient(fused(model), x)


class AlwaysTraining(L.RNN):
    """Dropout in inference, too (Gal and Ghahramani 2016)."""

    def call(self, sequences, initial_state=None, mask=None, training=None):
        return super().call(sequences, initial_state=initial_state, mask=mask, training=True)


def test_a_cell_is_trained_where_its_layer_says_so():
    model, x = one_layer(lambda: AlwaysTraining(L.LSTMCell(UNITS, dropout=0.5)))
    plain, _ = one_layer(lambda: AlwaysTraining(L.LSTMCell(UNITS)))
    plain.set_weights(model.get_weights()[: len(plain.get_weights())])
    expected = plain(x)
    assert np.abs(model(x, training=False) - expected).max() > 1e-3
    assert np.abs(fused(model)(x, training=False) - expected).max() > 1e-3
    np.testing.assert_allclose(fused(plain)(x, training=False), expected, atol=1e-6)


def test_where_there_is_a_gpu_cudnn_computes_lstm_and_gru(monkeypatch):
    inputs = keras.Input((LENGTH, FEATURES))
    y = L.SimpleRNN(UNITS, return_sequences=True)(L.GRU(UNITS, return_sequences=True)(inputs))
    model = keras.Model(inputs, L.Bidirectional(L.LSTM(UNITS))(L.RNN(L.GRUCell(2), return_sequences=True)(y)))
    before = tapping.of(model, model.trainable_variables)
    assert len(before) == 10 and not tapping.read_whole(model, before.values())
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    found = tapping.of(model, model.trainable_variables)
    # The same: what is drawn must not depend on the machine.
    assert list(found) == list(before)
    whole = tapping.read_whole(model, found.values())
    called = {type(each.layer) for each in found.values() if each not in whole}
    assert len(whole) == 6 and called == {L.SimpleRNNCell, L.GRUCell}
    assert not any(each.around for each in found.values())
    assert_coordinates_of_the_gradient(fused(model), normal(BATCH, LENGTH, FEATURES))


@pytest.mark.parametrize("kind", [L.LSTM, L.GRU, L.SimpleRNN])
def test_dropout_of_inputs_is_that_of_the_cell(monkeypatch, kind):
    """With one mask for both: what is drawn depends on what else draws."""
    mask = 2.0 * np.random.RandomState(1).randint(0, 2, (BATCH, FEATURES)).astype(np.float32)

    def of_keras3(cell, x):
        return tf.constant(mask)

    def of_keras2(cell, x, training, count=1):
        masks = [mask if training else np.ones_like(mask)] * count
        return masks if count > 1 else masks[0]

    def run(fuse):
        with monkeypatch.context() as patch:
            model, x = one_layer(lambda: kind(UNITS, dropout=0.5))
            layer = model.layers[-1]
            if GENERATION == "keras3":
                patch.setattr(type(layer.cell), "get_dropout_mask", of_keras3)
            else:
                # Without its own function for cuDNN, which has masks of its own.
                layer.__dict__["_could_use_gpu_kernel"] = False
                patch.setattr(type(layer.cell), "get_dropout_mask_for_cell", of_keras2)
            if not fuse:
                patch.setattr(tapping, "of", lambda *arguments: {})
            assert bool(tapping.of(model, model.trainable_variables)) == fuse
            sub = fused(model)
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.sin(sub(x, training=True)))
            return loss, tape.gradient(loss, tf_variable_of(sub.coordinates)), sub(x, training=False)

    for ours, theirs in zip(run(True), run(False)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert np.abs(theirs).max() > 1e-3
    loss, _, plain = run(True)
    assert abs(loss - tf.reduce_sum(tf.sin(plain))) > 1e-3


def test_dropout_without_training_or_rate_is_none():
    x = tf.ones([2, 3])
    cases = [(L.LSTMCell(2, dropout=0.5), False), (L.LSTMCell(2), True)]
    if GENERATION == "keras3":  # in Keras 2 a rate of 1 is an error
        cases += [(L.GRUCell(2, dropout=1.0), True)]
    for cell, training in cases:
        np.testing.assert_array_equal(dropped_inputs(cell, x, training, 4), x)


class Doubled(L.SimpleRNNCell):
    """Of another formula than its class."""

    def call(self, inputs, states, training=None):
        return super().call(2 * inputs, states, training=training)


class Renamed(L.GRUCell):
    """Might have other gates, for all that is known."""


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.RNN(Doubled(UNITS)),
        lambda: L.RNN(Renamed(UNITS)),
        lambda: L.LSTM(UNITS, recurrent_dropout=0.5),
        lambda: L.GRU(UNITS, dropout=0.5, implementation=1),
        lambda: L.ConvLSTM1D(2, 2) if hasattr(L, "ConvLSTM1D") else L.ConvLSTM2D(2, 2),
    ],
    ids=["call of its own", "subclass", "recurrent dropout", "masks of gates", "convolutional"],
)
def test_other_cells_have_their_full_gradients(make):
    set_random_seed(0)
    convolutional = "Conv" in type(make()).__name__
    shape = (LENGTH, 5, FEATURES) if convolutional else (LENGTH, FEATURES)
    if convolutional and not hasattr(L, "ConvLSTM1D"):
        shape = (LENGTH, 5, 5, FEATURES)
    inputs = keras.Input(shape)
    model = keras.Model(inputs, make()(inputs))
    assert not tapping.of(model, model.trainable_variables)
    assert_coordinates_of_the_gradient(fused(model), normal(BATCH, *shape))


@pytest.mark.parametrize("name", ["lstm", slow("gru"), slow("gru, reset before"), slow("simple")])
def test_half_precision_has_nearly_the_gradient(name):
    def found():
        model, x = one_layer(LAYERS[name])
        sub = fused(model)
        return gradients(sub, [sub.coordinates], x)[1][0]

    exact = found()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        half = found()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert half.dtype == tf.float32
    assert 1e-6 < np.linalg.norm(half - exact) / np.linalg.norm(exact) < 0.01


@pytest.mark.parametrize("mode", ["graph"] if GENERATION == "keras2.6" else [slow("graph"), "xla"])
def test_a_fit_is_that_of_random_bases_descent(mode):
    options = {} if GENERATION == "keras2.6" else {"jit_compile": mode == "xla"}
    y = normal(BATCH, UNITS, seed=2)
    models = []
    for fuse in (True, False):
        model, x = one_layer(LAYERS["lstm"], masked=True)
        start = model.get_weights()
        optimizer = keras.optimizers.SGD(0.5)
        if not fuse:
            optimizer = rb.RandomBasesDescent(optimizer, dimensions=40, basis="kronecker", seed=SEED)
        trained = fused(model) if fuse else model
        trained.compile(optimizer, loss="mse", **options)
        trained.fit(x, y, batch_size=BATCH, epochs=3, shuffle=False, verbose=0)
        models.append(model.get_weights())
    for ours, theirs, before in zip(*models, start):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
        assert np.abs(ours - before).max() > 1e-3


def test_no_gradient_of_a_kernels_shape_is_computed():
    """In the loop it would be a product, and a sum over the time steps."""
    set_random_seed(0)
    model = keras.Sequential([keras.Input((LENGTH, 31)), L.LSTM(17)])
    shapes = {"f32[31,68]", "f32[17,68]", "f32[68,31]", "f32[68,17]"}

    def sums(sub):
        @tf.function(jit_compile=True, autograph=False)
        def step(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(sub(x) ** 2)
            return tape.gradient(loss, tf_variable_of(sub.coordinates))

        program = step.experimental_get_compiler_ir(tf.zeros([8, LENGTH, 31]))(stage="hlo")
        lines = (line.split(" = ", 1)[1] for line in program.splitlines() if " = f32[" in line)
        made = [(line.split("{")[0], line) for line in lines]
        return [shape for shape, line in made if shape in shapes and (" add(" in line or " dot(" in line)]

    assert not sums(fused(model, 300))
    assert sums(rb.SubspaceModel(model, 300, basis="hadamard", seed=SEED, redraw_every=1))
