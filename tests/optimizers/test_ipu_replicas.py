"""RandomBasesDescent on the IPU's replicas, which `tf.distribute` does not see: the step that they take."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import ipu
from random_bases.keras_api import build_optimizer, keras, set_random_seed
from random_bases.optimizers.exchange import Exchange
from random_bases.subspace import Subspace
from tests.poplar.double import Pod, installed

D, BATCH = 8 * 6 + 6 * 3, 16
_rng = np.random.default_rng(0)
X, Y = _rng.normal(size=[2 * BATCH, 8]).astype(np.float32), _rng.integers(0, 3, 2 * BATCH).astype(np.int32)


def train(replicas, optimizer, pod=False, same_data=False, steps_per_execution=1, accumulation=1):
    """The weights after two updates of BATCH examples (or the same ones on all replicas), and bytes sent."""
    with installed(pod=Pod(replicas) if pod else None):
        strategy = rb.strategies.get("ipu_pod") if pod else rb.strategies.get("ipu", replicas=replicas)
        set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential(
                [
                    keras.Input((8,)),
                    keras.layers.Dense(6, "tanh", use_bias=False),
                    keras.layers.Dense(3, use_bias=False),
                ]
            )
            optimizer = optimizer()
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizer, loss, steps_per_execution=steps_per_execution)
        data = tf.data.Dataset.from_tensor_slices((X, Y))
        if same_data:
            data = data.batch(BATCH, drop_remainder=True)
            data = data.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(replicas))
        else:
            data = data.batch(BATCH // replicas // accumulation, drop_remainder=True)
        if accumulation > 1:
            model.set_gradient_accumulation_options(accumulation, "mean")
        model.fit(data, steps_per_epoch=2 * replicas * accumulation)
        for variable in model.trainable_variables:
            first, *others = strategy.double.values(variable)
            assert all(np.array_equal(first, other) for other in others)
        return [v.numpy() for v in model.trainable_variables], getattr(optimizer, "bytes_per_step", None)


def rbd(**arguments):
    return lambda: rb.RandomBasesDescent(
        keras.optimizers.SGD(2.0, momentum=0.5), dimensions=12, seed=3, **{"basis": "rademacher", **arguments}
    )


def assert_close(weights, expected):
    for a, b in zip(weights, expected):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.fixture(scope="module")
def alone():
    """One replica's weights, which are those that a CPU gives without any strategy."""
    weights, _ = train(1, rbd())
    set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(6, "tanh", use_bias=False),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    model.compile(rbd()(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = model.get_weights()
    model.fit(X, Y, batch_size=BATCH, shuffle=False, verbose=0)
    assert_close(weights, model.get_weights())
    assert max(np.abs(a - b).max() for a, b in zip(weights, before)) > 0.1
    return weights


@pytest.mark.parametrize(
    ("replicas", "pod"), [(2, False), (4, False), (2, True)], ids=["2", "4", "2 under poprun"]
)
def test_shared_directions_step_alike_for_every_number_of_replicas(alone, replicas, pod):
    weights, sent = train(replicas, rbd(), pod)
    assert_close(weights, alone)
    assert sent == 4 * 12 * 2 * (replicas - 1) // replicas


@pytest.mark.parametrize("exchange", ["coordinates", pytest.param("updates", marks=pytest.mark.slow)])
def test_replicas_that_split_directions_of_the_same_data_step_as_one_with_all(alone, exchange):
    weights, sent = train(2, rbd(replicas="split", exchange=exchange), same_data=True)
    assert_close(weights, alone)
    assert sent == (4 * 6 if exchange == "coordinates" else 4 * D)


def test_replicas_that_split_directions_each_project_their_own_gradient():
    """Sum_k P_k P_k^T g_k, on different data: the formula of `Exchange`."""
    weights, _ = train(2, rbd(replicas="split"))
    assert_close(weights, _by_formula("split", 2))


@pytest.mark.parametrize("pod", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "under poprun"])
def test_independent_directions_are_averaged(pod):
    weights, sent = train(2, rbd(replicas="independent"), pod)
    assert_close(weights, _by_formula("independent", 2))
    assert sent == 4 * 12


def _by_formula(replicas, count):
    set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(6, "tanh", use_bias=False),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    variables = model.trainable_variables
    shapes = [v.shape for v in variables]
    exchange = Exchange(replicas, "coordinates", 12, count, lambda d: Subspace(shapes, d, "rademacher"))
    inner = keras.optimizers.SGD(2.0, momentum=0.5)
    for update in range(2):
        rows = []
        for k in range(count):
            part = slice(update * BATCH + k * BATCH // count, update * BATCH + (k + 1) * BATCH // count)
            with tf.GradientTape() as tape:
                loss = loss_of(Y[part], model(X[part]))
            first = k * exchange.shape[1]
            c = exchange.subspace.project(tape.gradient(loss, variables), 3, update, first)
            rows.append(c if replicas == "split" else c / count)
        inner.apply_gradients(zip(exchange.expand(tf.stack(rows), 3, tf.constant(update)), variables))
    return [v.numpy() for v in variables]


def test_memories_of_several_replicas_are_refused_when_the_optimizer_is_built():
    with installed():
        strategy = rb.strategies.get("ipu", replicas=2)
        with strategy.scope():
            model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
            optimizer = rbd(basis="hadamard", error_feedback=True)()
            with pytest.raises(ValueError, match="error_feedback=True needs a memory .* on all 2; allowed"):
                build_optimizer(optimizer, model.trainable_variables)


def test_accumulated_gradients_are_projected_once(alone):
    weights, _ = train(2, rbd(), steps_per_execution=2, accumulation=2)
    assert_close(weights, alone)


def test_executions_of_several_steps_change_nothing(alone):
    assert_close(train(2, rbd(), steps_per_execution=2)[0], alone)


@pytest.mark.parametrize("pod", [False, True], ids=["", "under poprun"])
def test_plain_optimizers_step_alike_with_the_mean_of_gradients(pod):
    def sgd():
        return keras.optimizers.SGD(0.5, gradient_aggregator=ipu.mean_gradients)

    assert_close(train(2, sgd, pod)[0], train(1, sgd)[0])
