"""RandomProjection: the product, its derivatives, what it keeps, and that it is a Keras layer."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import bases
from random_bases.keras_api import keras
from tests.dense_reference import dense, eagerly

UNITS, DIMENSIONS, SEED = 30, 4, (7, 3)


def layer_of(basis="rademacher", units=UNITS, dimensions=DIMENSIONS, **kwargs):
    kwargs.setdefault("coordinates_initializer", keras.initializers.Constant(0.5))
    return rb.layers.RandomProjection(units, dimensions, basis, SEED, **kwargs)


@pytest.fixture(scope="module")
def layer():
    return layer_of("normal")


@pytest.fixture(scope="module")
def matrix():
    return dense(UNITS, DIMENSIONS, "normal", SEED)


def close(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def value(layer):
    return tf.convert_to_tensor(layer.coordinates).numpy()


# --- The product and its derivatives --------------------------------------------------------------


def test_output_and_gradient_are_those_of_the_explicit_matrix(layer, matrix):
    w = np.random.default_rng(0).normal(size=UNITS).astype(np.float32)
    with tf.GradientTape() as tape:
        output = layer()
        loss = tf.reduce_sum(w * output**2) / 2
    c = value(layer)
    assert output.shape == (UNITS,) and output.dtype == tf.float32
    close(output, matrix @ c)
    gradients = tape.gradient(loss, layer.trainable_variables)
    assert len(gradients) == 1
    close(gradients[0], matrix.T @ (w * (matrix @ c)))


@pytest.mark.parametrize("inputs", [None, np.ones([3, 2], np.float32), np.zeros([5])])
def test_inputs_are_ignored(layer, inputs):
    np.testing.assert_array_equal(layer(inputs), layer())


def test_forward_and_backward_samples_are_equal_bit_for_bit():
    layer = layer_of("rademacher", 200, 5)
    forward, backward = [], []
    for unit in np.eye(5, dtype=np.float32):
        layer.set_weights([unit])
        forward.append(layer().numpy())

    @tf.function
    def row(w):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(w * layer())
        return tape.gradient(loss, layer.trainable_variables)[0]

    for unit in np.eye(200, dtype=np.float32):
        backward.append(row(tf.constant(unit)).numpy())
    np.testing.assert_array_equal(np.stack(forward, axis=1), np.stack(backward))
    close(np.stack(backward), dense(200, 5, "rademacher", SEED), 1e-7)


@pytest.mark.parametrize("mode", ["eager", "function", "xla"])
def test_second_derivatives_are_right(layer, matrix, mode):
    def hessian_times(direction):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                loss = tf.reduce_sum(layer() ** 4) / 12
            slope = inner.gradient(loss, layer.trainable_variables)[0]
            slope = tf.reduce_sum(slope * direction)
        return outer.gradient(slope, layer.trainable_variables)[0]

    if mode != "eager":
        hessian_times = tf.function(hessian_times, jit_compile=mode == "xla")
    direction = np.array([1.0, -2.0, 0.5, 3.0], np.float32)
    expected = matrix.T @ ((matrix @ value(layer)) ** 2 * (matrix @ direction))
    close(hessian_times(tf.constant(direction)), expected)


def test_gradients_pass_through_a_while_loop(layer, matrix):
    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            _, total = tf.while_loop(
                lambda i, total: i < 3,
                lambda i, total: (i + 1, total + tf.cast(i, tf.float32) * tf.reduce_sum(layer() ** 2)),
                (tf.constant(0), tf.constant(0.0)),
                maximum_iterations=3,
            )
        return tape.gradient(total, layer.trainable_variables)[0]

    close(gradient(), 2 * 3 * matrix.T @ (matrix @ value(layer)), 3e-5)


MEMORY = """
import sys
import tensorflow as tf
import random_bases as rb

def peak():
    return next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]

for dimensions in (10, 2000):
    layer = rb.layers.RandomProjection(100_000, dimensions, "rademacher", 0, coordinates_initializer="ones")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer() ** 2)
    tape.gradient(loss, layer.trainable_variables)[0].numpy()
    print(peak())
"""


def run(program):
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_nothing_of_the_matrixs_size_is_kept():
    few, many = (1024 * int(line) for line in run(MEMORY).split())
    assert many - few < 150e6  # the matrix would take 800 MB, its words of bits 25 MB


MIRRORED = """
import numpy as np
import tensorflow as tf
import random_bases as rb

cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    layer = rb.layers.RandomProjection(30, 4, "normal", (7, 3), coordinates_initializer="ones")

def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer() ** 2)
    gradient = tape.gradient(loss, layer.trainable_variables)[0]
    context = tf.distribute.get_replica_context()
    return gradient, context.all_reduce(tf.distribute.ReduceOp.SUM, gradient)

single, total = tf.function(lambda: strategy.run(step))()
for result in (*strategy.experimental_local_results(single), *strategy.experimental_local_results(total)):
    print(" ".join(str(x) for x in result.numpy()))
"""


def test_replicas_of_a_mirrored_strategy_draw_the_same_basis(matrix):
    found = np.array([line.split() for line in run(MIRRORED).splitlines()[-4:]], float)
    expected = 2 * matrix.T @ (matrix @ np.ones(DIMENSIONS))
    close(found, np.stack([expected, expected, 2 * expected, 2 * expected]), 3e-5)


# --- A Keras layer --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float32"])
def test_coordinates_are_float32_and_the_output_has_the_compute_dtype(policy):
    with eagerly():
        layer = layer_of(dtype=policy, coordinates_initializer=keras.initializers.Constant(1.0001))
        # 1.0001 is no float16: were the coordinates rounded to it, so would be the output.
        expected = layer.basis.expand(np.full(DIMENSIONS, 1.0001, np.float32), SEED)
        output = layer()
    assert tf.convert_to_tensor(layer.coordinates).dtype == tf.float32
    assert output.dtype == layer.compute_dtype
    np.testing.assert_array_equal(output, tf.cast(expected, layer.compute_dtype))


@pytest.mark.parametrize(
    "basis", ["uniform", "hadamard", bases.get("bernoulli", 9, 2, p=0.25), bases.get("normal", 9, 2, tile=64)]
)
def test_a_configuration_rebuilds_the_layer(basis):
    layer = layer_of(basis, coordinates_initializer="ones", coordinates_regularizer="l2", name="generator")
    config = json.loads(json.dumps(layer.get_config()))
    again = rb.layers.RandomProjection.from_config(config)
    assert again.get_config() == layer.get_config()
    assert again.name == "generator"
    with eagerly():
        np.testing.assert_array_equal(again(), layer())


def test_a_regulariser_adds_a_loss():
    layer = layer_of(coordinates_regularizer=keras.regularizers.L2(0.5))
    assert float(layer.losses[0]) == pytest.approx(0.5 * DIMENSIONS * 0.25)


def test_mask_and_output_shape(layer):
    assert layer.supports_masking
    assert layer.compute_mask(None, tf.constant([True])) is None
    assert tuple(layer.compute_output_shape(None)) == (UNITS,)
    assert tuple(layer.compute_output_shape((5, 3))) == (UNITS,)


def functional_model():
    x = keras.Input([6], batch_size=5)
    kernel = layer_of("normal", 12, 3, name="generator")(x)
    y = keras.layers.Dense(12)(x) * kernel
    return keras.Model(x, y)


def test_it_is_trained_and_saved_inside_a_model(tmp_path):
    model = functional_model()
    generator = model.get_layer("generator")
    x, y = np.ones([10, 6], np.float32), np.ones([10, 12], np.float32)
    before = value(generator)
    model.compile("sgd", "mse")
    model.fit(x, y, batch_size=5, verbose=0)
    assert (value(generator) != before).all()
    file = str(tmp_path / ("model.h5" if keras.__version__.startswith("2.6") else "model.keras"))
    model.save(file)
    again = keras.models.load_model(file)
    close(again.predict(x, batch_size=5, verbose=0), model.predict(x, batch_size=5, verbose=0), 1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"units": 0}, ValueError, "units=0"),
        ({"units": 3.0}, TypeError, "units=3.0"),
        ({"dimensions": 31}, ValueError, "dimensions=31"),
        ({"dimensions": 0}, ValueError, "dimensions=0"),
        ({"basis": "gaussian"}, ValueError, "basis='gaussian'"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"seed": 1.5}, TypeError, "seed=1.5"),
        ({"seed": (1, 2, 3)}, ValueError, "seed"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(arguments, error, match):
    with pytest.raises(error, match=match):
        rb.layers.RandomProjection(**{"units": 30, "dimensions": 4, **arguments})
