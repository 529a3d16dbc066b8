"""Every program for the IPU has only opcodes and types that Poplar's compiler handles, in any TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import bases, device, keras_api
from random_bases.keras_api import keras
from random_bases.optimizers.rule import RandomBasesRule
from random_bases.subspace import Subspace
from tests import hlo

N, DIMENSIONS = 300, 10


@pytest.fixture(scope="module")
def strategy():
    strategy = hlo.OneIpu()
    device.register(strategy.device)
    yield strategy
    device._OTHERS.remove(strategy.device)


def test_what_the_ipu_lacks_is_found(strategy):
    v = tf.zeros([4])
    for function, found in (
        (lambda v: tf.cast(tf.cast(v, tf.float64) * 2, tf.float32), {"f64"}),
        (lambda v: tf.math.real(tf.signal.fft(tf.complex(v, v))), {"c64", "complex", "fft", "real"}),
        (lambda v: tf.random.experimental.stateless_fold_in(tf.constant([1, 2]), 3), {"u32"}),
    ):
        assert hlo.forbidden(hlo.of(strategy, function, v)) >= found


QUICK = ("normal", "rademacher", "hadamard")
NAMES = [name for name in bases.names() if name != "orthogonal"]  # which is refused by name


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_bases(strategy, name):
    options = {"matrix": (1, 60, 5)} if name == "kronecker" else {}
    basis = bases.get(name, N, DIMENSIONS, **options)
    address = tf.constant([7, 0]), tf.constant(2), tf.constant(1)

    def all_three(v, c, *address):
        return basis.sketch(v, *address), basis.project(v, *address), basis.expand(c, *address)

    assert (
        hlo.forbidden(hlo.of(strategy, all_three, tf.zeros([N]), tf.zeros([DIMENSIONS]), *address)) == set()
    )


@pytest.mark.parametrize("compartments", ["variable", pytest.param(3, marks=pytest.mark.slow)])
def test_steps_of_descent(strategy, compartments):
    shapes = [(8, 6), (6,), (6, 3)]
    rule = RandomBasesRule(8, "normal", compartments, "even", 1, 0)
    with strategy.scope():
        rule.build(shapes, ["a", "b", "c"])
    gradients = [tf.ones(shape) for shape in shapes]

    def step(updates, *gradients):
        return rule(gradients, updates)

    assert hlo.forbidden(hlo.of(strategy, step, tf.constant(3), *gradients)) == set()


def test_single_directions(strategy):
    subspace = Subspace([(20, 5), (5,)], 6, "normal", "variable")

    def directions(indices):
        return subspace.trace_directions(indices, tf.constant([1, 2]), indices * 0)

    assert hlo.forbidden(hlo.of(strategy, directions, tf.constant([0, 3]))) == set()


@pytest.mark.parametrize("basis", [pytest.param("normal", marks=pytest.mark.slow), "kronecker"])
def test_gradients_of_models_in_a_subspace(strategy, basis):
    with strategy.scope():
        model = keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                keras.layers.Conv2D(4, 3, activation="relu"),
                keras.layers.Conv2DTranspose(3, 2, strides=2),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        sub = rb.SubspaceModel(model, dimensions=40, basis=basis, seed=0)
    coordinates = keras_api.tf_variable_of(sub.coordinates)

    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(sub(x, training=True) ** 2)
        return loss, tape.gradient(loss, coordinates)

    x = tf.constant(np.random.default_rng(0).normal(size=[2, 6, 6, 3]).astype(np.float32))
    assert hlo.forbidden(hlo.of(strategy, gradient, x)) == set()


def _model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(2)])
    model.compile(loss="mse")
    return model


def test_a_training_step_with_keras_own_optimizer_inside(strategy):
    with strategy.scope():
        model = _model()
        inner = keras.optimizers.Adam(0.1)
        optimizer = rb.RandomBasesDescent(inner, dimensions=6, compartments="variable", seed=0)
        keras_api.build_optimizer(optimizer, model.trainable_variables)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [keras_api.tf_variable_of(v) for v in variables])
        optimizer.apply_gradients(list(zip(gradients, variables)))
        return loss

    assert hlo.forbidden(hlo.of(strategy, step, tf.ones([8, 4]), tf.ones([8, 2])), int64=True) == set()


class _Feed:
    """An iterator that gives the same batch whenever it is asked."""

    def __init__(self, *batch):
        self.batch = batch
        self.element_spec = tuple(tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in batch)

    def __next__(self):
        return self.batch


@pytest.mark.parametrize("minibatch", ["shared", pytest.param("independent", marks=pytest.mark.slow)])
def test_an_update_of_evolution(strategy, minibatch):
    with strategy.scope():
        nes = rb.NaturalEvolutionStrategies(
            _model(), 4, sigma=0.1, learning_rate=0.1, minibatch=minibatch, seed=0
        )
    nes._build_once()

    def update(x, y):
        nes._update(_Feed(x, y))
        return x

    batches = [] if nes._group is None else [nes._group]
    x, y = tf.ones([*batches, 8, 4]), tf.ones([*batches, 8, 2])
    assert hlo.forbidden(hlo.of(strategy, update, x, y), int64=True) == set()


def test_generated_weights(strategy):
    with strategy.scope():
        layer = rb.layers.RandomProjection(N, DIMENSIONS, seed=1)
    coordinates = keras_api.tf_variable_of(layer.trainable_variables[0])

    def gradient(v):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer() * v)
        return tape.gradient(loss, coordinates)

    assert hlo.forbidden(hlo.of(strategy, gradient, tf.ones([N]))) == set()
