"""What runs on the IPU has no operation that it cannot compile; and draws what other devices draw."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import bases, ipu
from random_bases.keras_api import keras, set_random_seed
from random_bases.optimizers.collectives import current_replicas
from random_bases.optimizers.exchange import Exchange
from random_bases.optimizers.rule import RandomBasesRule
from random_bases.subspace import Subspace
from tests.poplar import device_ops
from tests.poplar.double import Pod, installed

N, DIMENSIONS = 300, 10
# "orthogonal" is refused by name.
NAMES = [name for name in bases.names() if name != "orthogonal"]


@pytest.fixture(scope="module")
def strategy():
    with installed():
        yield rb.strategies.get("ipu", replicas=2)


def assert_compiles(strategy, function, *arguments):
    """Runs it and returns what it returns."""
    results = strategy.run(tf.function(function, autograph=False), arguments)
    assert device_ops.forbidden(strategy.program.graph) == set()
    return results


QUICK = ("normal", "rademacher", "hadamard")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_bases_compile_and_draw_what_other_devices_draw(strategy, name):
    options = {"matrix": (1, 60, 5)} if name == "kronecker" else {}
    _assert_draws_the_same(strategy, bases.get(name, N, DIMENSIONS, **options))


@pytest.mark.parametrize("generator", ["counter", "native"])
@pytest.mark.parametrize("name", ["normal", "rademacher"])
def test_tiles_are_as_large_as_the_ipus_memory_allows(name, generator):
    basis = bases.get(name, 101_770, 250, generator=generator)  # FC-MNIST's
    with installed(), rb.strategies.get("ipu").scope():
        tiling = basis._tiling()
    assert tiling._row_steps * tiling._column_steps <= 4
    samples = tiling._rows * tiling._columns * tiling._layout.block
    assert 250 / 4 * 101_770 <= samples <= 2**23  # float32: 23 kB on each of 1,472 tiles
    with installed(flags="--use_ipu_model"), rb.strategies.get("ipu").scope():  # of a few tiles
        tiling = basis._tiling()
    assert tiling._rows * tiling._columns * tiling._layout.block <= 2**18


@pytest.mark.slow
def test_so_do_directions_in_parts_and_transforms_of_all_elements(strategy):
    _assert_draws_the_same(strategy, bases.get("rademacher", N, DIMENSIONS, tile=64))
    _assert_draws_the_same(strategy, bases.get("hadamard", 16 * DIMENSIONS - 1, DIMENSIONS))


def test_stored_directions_compile(strategy):
    directions = np.random.default_rng(1).normal(size=[3, N]).astype(np.float32) / N**0.5
    _assert_draws_the_same(strategy, bases.TrajectoryBasis(N, 3, directions))


def _assert_draws_the_same(strategy, basis):
    v = np.random.default_rng(0).normal(size=basis.size).astype(np.float32)
    there = assert_compiles(strategy, lambda v: basis.sketch(v, 7, 2, 1), tf.constant(v))
    for a, b in zip(basis.sketch(v, 7, 2, 1), there):
        np.testing.assert_allclose(a, b, atol=3e-6)


@pytest.mark.parametrize(
    "name",
    ["normal", *(pytest.param(name, marks=pytest.mark.slow) for name in ("uniform", "rademacher", "sparse"))],
)
def test_native_samples_and_gradients_compile(strategy, name):
    basis = bases.get(name, N, DIMENSIONS, generator="native")

    def both(v, c):
        loss = tf.reduce_sum(basis.expand(c, 1) * v) + tf.reduce_sum(basis.project(v, 1) * c)
        return tf.gradients(loss, [v, c])

    v = np.random.default_rng(0).normal(size=N).astype(np.float32)
    gradient, _ = assert_compiles(strategy, both, tf.constant(v), tf.ones([DIMENSIONS]))
    assert np.abs(gradient).max() > 0.1


def test_what_needs_complex_numbers_is_refused_by_name(strategy):
    basis = bases.get("orthogonal", N, DIMENSIONS)
    with pytest.raises(NotImplementedError, match='basis="orthogonal" needs complex numbers.*"hadamard"'):
        strategy.run(tf.function(lambda: basis.expand(tf.ones([DIMENSIONS]), 0)))


@pytest.mark.parametrize(
    ("replicas", "compartments"),
    [
        ("shared", "variable"),
        pytest.param("independent", "network", marks=pytest.mark.slow),
        pytest.param("split", 3, marks=pytest.mark.slow),
    ],
)
def test_the_steps_of_descent_compile(strategy, replicas, compartments):
    shapes = [(8, 6), (6,), (6, 3)]
    rule = RandomBasesRule(8, "rademacher", compartments, "even", 1, 0, replicas)
    rule.build(shapes, ["a", "b", "c"], replica_count=2)

    def step(iterations, *gradients):
        updates = rule(list(gradients), iterations, current_replicas())
        return [update for update in updates if update is not None]

    gradients = [tf.ones(shape) for shape in shapes]
    assert_compiles(strategy, step, tf.constant(3, tf.int64), *gradients)


def test_single_directions_compile(strategy):
    subspace = Subspace([(20, 5), (5,)], 6, "normal", "variable")

    def directions(indices):
        return subspace.trace_directions(indices, tf.constant([1, 2]), indices * 0)

    assert_compiles(strategy, directions, tf.constant([0, 3]))


def test_generated_weights_compile(strategy):
    with strategy.scope():
        layer = rb.layers.RandomProjection(N, DIMENSIONS, seed=1)

    def train():
        loss = tf.reduce_sum(layer() ** 2)
        return tf.gradients(loss, layer.trainable_variables)

    assert_compiles(strategy, train)


@pytest.mark.parametrize("name", [pytest.param("normal", marks=pytest.mark.slow), "rademacher"])
def test_native_samples_are_the_same_forward_and_backward_and_others_on_other_replicas(strategy, name):
    exchange = Exchange(
        "independent",
        "coordinates",
        DIMENSIONS,
        2,
        lambda d: Subspace([(N,)], d, bases.get(name, N, d, generator="native")),
    )
    c = tf.constant(np.random.default_rng(0).normal(size=DIMENSIONS).astype(np.float32))
    v = tf.constant(np.random.default_rng(1).normal(size=N).astype(np.float32))

    @tf.function
    def program(c, v):
        replicas = current_replicas()
        first = replicas.index * DIMENSIONS
        (expanded,) = exchange.subspace.expand(c, 3, 0, first)
        projected = exchange.subspace.project([v], 3, 0, first)
        adjoint = tf.reduce_sum(expanded * v) - tf.reduce_sum(projected * c)
        (of_first,) = exchange.subspace.expand(c, 3, 0, 0)
        return adjoint, replicas.gather(expanded), of_first

    adjoint, expanded, of_first = strategy.run(program, (c, v))
    assert abs(float(adjoint)) < 1e-4
    assert abs(np.corrcoef(expanded)[0, 1]) < 0.3
    # Every replica can draw the first one's directions.
    np.testing.assert_allclose(of_first, expanded[0], rtol=1e-6)


def test_on_the_ipu_model_the_counter_generator_takes_over_and_says_so(caplog):
    from random_bases.bases import dense

    dense._tell.cache_clear()
    with installed(flags="--use_ipu_model"):
        strategy = rb.strategies.get("ipu")
        basis = bases.get("normal", N, DIMENSIONS, generator="native")
        identity = tf.eye(DIMENSIONS)
        expand = tf.function(lambda c: tf.stack([basis.expand(c[i], 0) for i in range(3)]))
        directions = strategy.run(expand, (identity,))
    assert "IPU Model ignores seeds" in caplog.text
    counter = bases.get("normal", N, DIMENSIONS)
    for i in range(3):
        np.testing.assert_allclose(directions[i], counter.expand(identity[i], 0), atol=1e-6)


# --- Models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("replicas", "pod"), [(2, False), pytest.param(2, True, marks=pytest.mark.slow)], ids=["2", "2 in a pod"]
)
def test_a_subspace_model_trains_as_on_the_cpu(replicas, pod, tmp_path):
    x = np.random.default_rng(0).normal(size=[16, 8]).astype(np.float32)
    y = x[:, :3]

    def build():
        model = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(6, "tanh", kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
                keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=2)),
            ]
        )
        sub = rb.SubspaceModel(model, dimensions=5, basis="rademacher", seed=0)
        sub.compile(keras.optimizers.SGD(1.0, gradient_aggregator=ipu.mean_gradients), "mse")
        return sub

    here = build()
    here.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    with installed(pod=Pod(replicas) if pod else None):
        strategy = rb.strategies.get("ipu_pod") if pod else rb.strategies.get("ipu", replicas=replicas)
        with strategy.scope():
            there = build()
        there.fit(x, y, batch_size=8 // replicas, epochs=2)
        trained = there.materialize().get_weights()
        assert there.output_names == there.model.output_names
        there.save_weights(str(tmp_path / "weights.h5"))
    assert np.abs(here.coordinates.numpy()).max() > 0.1
    np.testing.assert_allclose(there.coordinates.numpy(), here.coordinates.numpy(), atol=1e-5)
    for a, b in zip(trained, here.materialize().get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-5)
    # Traced with symbolic inputs, it still has all of its weights, in the same order.
    here.load_weights(str(tmp_path / "weights.h5"))
    np.testing.assert_array_equal(there.coordinates.numpy(), here.coordinates.numpy())


def test_a_factored_subspace_model_trains_as_on_the_cpu(strategy):
    layers, seeded = keras.layers, keras.initializers.GlorotUniform
    x = np.random.default_rng(0).normal(size=[16, 6, 6, 3]).astype(np.float32)
    y = x[:, 0, 0]

    def build():
        model = keras.Sequential(
            [
                keras.Input((6, 6, 3)),
                layers.Conv2D(4, 3, activation="tanh", kernel_initializer=seeded(seed=1)),
                layers.Flatten(),
                layers.Dense(3, kernel_initializer=seeded(seed=2)),
            ]
        )
        sub = rb.SubspaceModel(model, dimensions=40, basis="kronecker", seed=0)
        sub.compile(keras.optimizers.SGD(1.0, gradient_aggregator=ipu.mean_gradients), "mse")
        return sub

    here = build()
    here.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    with strategy.scope():
        there = build()
    there.fit(x, y, batch_size=4, epochs=2)
    assert device_ops.forbidden(strategy.program.graph) == set()
    assert np.abs(here.coordinates.numpy()).max() > 0.01
    np.testing.assert_allclose(there.coordinates.numpy(), here.coordinates.numpy(), atol=1e-5)


def test_a_subspace_model_with_redraws_is_refused(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
        with pytest.raises(ValueError, match="redraw_every=1 of a SubspaceModel does not work on the IPU"):
            rb.SubspaceModel(model, dimensions=5, basis="kronecker", redraw_every=1)


@pytest.mark.parametrize(
    "memory_limit", [2**27, pytest.param(0, marks=pytest.mark.slow)], ids=["together", "in place"]
)
@pytest.mark.parametrize("minibatch", ["shared", pytest.param("independent", marks=pytest.mark.slow)])
def test_evolution_runs_as_on_the_cpu_in_programs_that_compile(minibatch, memory_limit):
    x = np.random.default_rng(0).normal(size=[8, 4]).astype(np.float32)

    def train():
        set_random_seed(0)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.compile(loss="mse", metrics=["mae"])
        nes = rb.NaturalEvolutionStrategies(
            model, 4, sigma=0.1, learning_rate=0.1, basis="rademacher", minibatch=minibatch, fitness="raw",
            memory_limit=memory_limit, seed=0,
        )  # fmt: skip
        data = tf.data.Dataset.from_tensor_slices((x, x[:, :2])).batch(4, drop_remainder=True)
        history = nes.fit(data, steps_per_epoch=2, verbose=0).history
        return model.get_weights(), history

    weights, history = train()
    with installed():
        strategy = rb.strategies.get("ipu")
        with strategy.scope():
            there, history_there = train()
        assert device_ops.forbidden(strategy.program.graph, int64=True) == set()
    for a, b in zip(weights, there):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert history_there == {name: pytest.approx(values, rel=1e-4) for name, values in history.items()}
