import functools

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.analysis import curvature, directions
from random_bases.analysis.objective import Objective
from random_bases.keras_api import GENERATION, compile_model, keras
from tests import networks
from tests.analysis import quadratic


def test_product_of_a_quadratic():
    product = curvature.HessianVectorProduct(quadratic.model(), quadratic.DATA, quadratic.loss)
    v = np.random.RandomState(0).normal(size=(6, 1)).astype(np.float32)
    (found,) = product([v])
    np.testing.assert_allclose(found, quadratic.HESSIAN @ v, rtol=1e-4, atol=1e-5)


def test_curvature_along_directions_of_any_length():
    rows = [np.random.RandomState(i).normal(size=(6, 1)) for i in range(3)]
    found = curvature.along(quadratic.model(), [[10 * v] for v in rows], quadratic.DATA, quadratic.loss)
    expected = [(v.T @ quadratic.HESSIAN @ v / (v.T @ v)).item() for v in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# Networks without kinks. The LSTM's loop and that of `subclassed` have no forward rule in a graph.
@pytest.mark.parametrize(
    "name",
    [
        "sequential",
        "attention",
        "recurrent",
        "subclassed",
        "regularised",
    ],
)
def test_product_is_the_difference_of_gradients(name):
    model, x = networks.build(name)
    data = (x, networks.targets())
    product = curvature.HessianVectorProduct(model, data, "mse")
    (v,) = directions.draw(model, 1, seed=4)
    if name == "attention" and GENERATION == "keras3":  # its LayerNormalization stops a gradient
        with pytest.raises(ValueError, match="stop_gradient"):
            product(v)
        return
    step = 2e-3
    gradients = [product.objective.gradient(product.objective.moved(v, by)) for by in (step, -step)]
    differences = np.concatenate([((a - b) / (2 * step)).numpy().ravel() for a, b in zip(*gradients)])
    found = np.concatenate([each.numpy().ravel() for each in product(v)])
    assert np.linalg.norm(found - differences) < 5e-3 * np.linalg.norm(differences)


class Conditional(keras.layers.Layer):
    """sin(x) x where that has a positive sum; else x."""

    def call(self, inputs):
        curved = tf.sin(inputs) * inputs
        return tf.cond(tf.reduce_sum(curved) > 0, lambda: curved, lambda: inputs)


def test_product_through_a_condition():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3), Conditional()])
    x = np.random.RandomState(0).normal(size=(8, 5)).astype(np.float32)
    product = curvature.HessianVectorProduct(model, (x, np.zeros((8, 3), np.float32)), "mse")
    (v,) = directions.draw(model, 1, seed=4)
    step = 2e-3
    gradients = [product.objective.gradient(product.objective.moved(v, by)) for by in (step, -step)]
    differences = np.concatenate([((a - b) / (2 * step)).numpy().ravel() for a, b in zip(*gradients)])
    found = np.concatenate([each.numpy().ravel() for each in product(v)])
    assert np.linalg.norm(found - differences) < 5e-3 * np.linalg.norm(differences)


@pytest.mark.parametrize(("name", "expected"), [("sequential", False), ("subclassed", True)])
def test_loops_are_noticed(name, expected):
    model, x = networks.build(name)
    objective = Objective(model, (x, networks.targets()), "mse")
    trace = tf.function(functools.partial(objective.trace, differentiated=True)).get_concrete_function(
        objective.weights(), tf.convert_to_tensor(x), tf.convert_to_tensor(networks.targets())
    )
    found = curvature.operations(trace.graph.as_graph_def())
    assert (not found.isdisjoint(["While", "StatelessWhile"])) is expected


def test_why_stopped_gradients_are_refused():
    """`tf.nn.moments` has right first and wrong second derivatives: if TensorFlow mends that, so can we."""
    rng = np.random.RandomState(0)
    x, v = tf.constant(rng.normal(size=(3, 7))), tf.constant(rng.normal(size=(3, 7)))

    def products(variance):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(variance(x) ** 2)
            gradient = tape.gradient(loss, x)
            along = tf.reduce_sum(gradient * v)
        return gradient, outer.gradient(along, x)

    stopped = products(lambda x: tf.nn.moments(x, [1])[1])
    whole = products(lambda x: tf.math.reduce_variance(x, 1))
    np.testing.assert_allclose(stopped[0], whole[0], rtol=1e-10)
    assert tf.norm(stopped[1] - whole[1]) > 0.03 * tf.norm(whole[1])


def test_top_eigenvalues_of_a_quadratic():
    found = curvature.top_eigenvalues(quadratic.model(), quadratic.DATA, 3, quadratic.loss)
    np.testing.assert_allclose(found, [7, 3, -4], rtol=1e-4)


def test_top_eigenvalues_of_a_network():
    model, x = networks.build("sequential")
    data = (x, networks.targets())
    product = curvature.HessianVectorProduct(model, data, "mse")
    columns = []
    for row in np.eye(product.size, dtype=np.float32):
        parts = np.split(row, np.cumsum([int(np.prod(s)) for s in product.objective.shapes])[:-1])
        direction = [part.reshape(shape) for part, shape in zip(parts, product.objective.shapes)]
        columns.append(np.concatenate([each.numpy().ravel() for each in product(direction)]))
    hessian = np.stack(columns).astype(np.float64)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-5)
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    largest = np.sort(values[np.argsort(-np.abs(values))[:3]])[::-1]
    np.testing.assert_allclose(curvature.top_eigenvalues(model, data, 3, "mse"), largest, rtol=1e-3)


def bowl(curvatures):
    """A model whose loss is 1/2 sum_i h_i w_i^2, its data and its loss."""
    size = len(curvatures)
    inputs = keras.Input((size,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    data = (np.eye(size, dtype=np.float32), np.zeros([size, 1], np.float32))
    return model, data, lambda y, w: tf.reduce_sum(curvatures * w[:, 0] ** 2) / 2


def test_the_trace_by_random_directions():
    model, data, loss = bowl(np.full(64, 3, np.float32))
    np.testing.assert_allclose(curvature.trace(model, data, samples=1, loss=loss), 3 * 64, rtol=1e-4)
    model, data, loss = bowl(np.arange(1, 65, dtype=np.float32))
    # One standard deviation is 2.5%.
    found = [curvature.trace(model, data, samples=64, seed=seed, loss=loss) for seed in range(2)]
    np.testing.assert_allclose(found, 64 * 65 / 2, rtol=0.08)
    assert found[0] != found[1]


def test_the_limit_of_the_rate_with_error_feedback():
    """It is stable at 0.4 times the limit, and not at 3 times it."""
    model, data, loss = bowl(np.arange(1, 65, dtype=np.float32) / 64)
    limit = curvature.error_feedback_limit(model, data, dimensions=8, samples=64, loss=loss)
    np.testing.assert_allclose(limit, 8 / (65 / 2), rtol=0.08)

    def reached(rate):
        model.set_weights([np.ones([64, 1])])
        optimizer = rb.RandomBasesDescent(
            keras.optimizers.SGD(rate), 8, basis="hadamard", error_feedback=True, seed=0
        )
        compile_model(model, jit_compile=False, optimizer=optimizer, loss=loss)
        repeated = tf.data.Dataset.from_tensors(data).repeat(300)
        return model.fit(repeated, epochs=1, verbose=0) and loss(None, model.predict(data[0], verbose=0))

    start = 65 / 4
    assert reached(0.4 * limit) < 0.1 * start
    assert not reached(3 * limit) < 10 * start


def test_without_curvature_there_is_no_limit():
    model, data, loss = bowl(np.full(64, -1, np.float32))
    assert curvature.error_feedback_limit(model, data, 8, samples=64, loss=loss) == np.inf


def test_callback():
    model = quadratic.model()
    compile_model(model, jit_compile=False, optimizer=keras.optimizers.SGD(0.01), loss="mse")
    callback = curvature.Curvature(quadratic.DATA, directions=6, seed=0, loss=quadratic.loss)
    history = model.fit(*quadratic.DATA, epochs=2, verbose=0, callbacks=[callback]).history
    w = quadratic.weight(model)
    g = quadratic.HESSIAN @ w
    expected = g @ quadratic.HESSIAN @ g / (g @ g)
    np.testing.assert_allclose(history["curvature_gradient"][-1], expected, rtol=1e-3)
    # A quadratic's curvature is the same everywhere.
    np.testing.assert_allclose(*history["curvature_random"], rtol=1e-5)
    along = curvature.along(model, directions.draw(model, 6), quadratic.DATA, quadratic.loss)
    np.testing.assert_allclose(history["curvature_random"][-1], np.mean(along), rtol=1e-5)


def test_what_is_refused():
    model = quadratic.model()
    with pytest.raises(ValueError, match=r"directions\[0\] has length 0"):
        curvature.along(model, [[np.zeros([6, 1])]], quadratic.DATA, quadratic.loss)
    with pytest.raises(ValueError, match=r"direction has shapes \[\(6,\)\]"):
        curvature.HessianVectorProduct(model, quadratic.DATA, quadratic.loss)([np.ones(6)])
    with pytest.raises(ValueError, match="count=6 must be an int from 1 to 5"):
        curvature.top_eigenvalues(model, quadratic.DATA, 6, quadratic.loss)
    with pytest.raises(TypeError, match="count=2.5 must be an int"):
        curvature.top_eigenvalues(model, quadratic.DATA, 2.5, quadratic.loss)
    with pytest.raises(ValueError, match="tolerance=0 must be positive"):
        curvature.top_eigenvalues(model, quadratic.DATA, 2, quadratic.loss, tolerance=0)
    with pytest.raises(TypeError, match="seed=True must be an int"):
        curvature.top_eigenvalues(model, quadratic.DATA, 2, quadratic.loss, seed=True)
    with pytest.raises(ValueError, match="samples=0 must be an int"):
        curvature.trace(model, quadratic.DATA, samples=0, loss=quadratic.loss)
    with pytest.raises(ValueError, match="dimensions=0 must be an int"):
        curvature.error_feedback_limit(model, quadratic.DATA, 0, loss=quadratic.loss)
    with pytest.raises(ValueError, match="directions=0"):
        curvature.Curvature(quadratic.DATA, directions=0)
    assert 0 <= curvature.Curvature(quadratic.DATA).seed < 2**31
