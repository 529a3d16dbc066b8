"""Low-rank perturbations: the same made dense, of uncorrelated entries of variance 1, summed without them."""

import numpy as np
import pytest
import tensorflow as tf

from random_bases import keras_api
from random_bases.evolution import low_rank
from random_bases.evolution.low_rank import LowRankPerturbations
from random_bases.keras_api import keras
from random_bases.sampling import counter, derive_key, get_distribution
from random_bases.sampling.seeds import LOW_RANK, as_seed
from tests import networks
from tests.evolution.test_natural_evolution_strategies import (
    blobs,
    classifier,
    compiled,
    dataset,
    directions,
    linear_model,
    quadratic,
    strategy,
    weights_of,
)

SHAPES = [(7, 5), (5,), (2, 2, 3, 4), (3,)]
MATRICES = [(7, 5), None, (12, 4), None]
SIZE = 35 + 5 + 48 + 3


def perturbations(count, rank=2, seed=3):
    phi = LowRankPerturbations(SHAPES, MATRICES, count, rank, seed)
    phi.program = tf.function(phi.trace, jit_compile=True)
    return phi


def matrix(phi, update=0, indices=None):
    """All phi_j, flat, in rows."""
    indices = np.arange(phi.count, dtype=np.int32) if indices is None else np.int32(indices)
    parts = phi.program(tf.constant(indices), tf.constant(update))
    return np.concatenate([part.numpy().reshape(len(indices), -1) for part in parts], axis=1)


# --- Directions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3])
def test_kernels_are_products_of_the_streams_normals(rank):
    phi = perturbations(4, rank)
    assert phi.drawn_size == rank * (7 + 5 + 12 + 4) + 5 + 3
    key = derive_key(as_seed(3), tf.constant(6), LOW_RANK)
    elements = tf.range(phi.drawn_size)[tf.newaxis]
    drawn = counter.entries(get_distribution("normal"), key, tf.range(4)[:, tf.newaxis], elements).numpy()
    sides = [side for m in MATRICES if m for side in m]
    *factors, bias, other = np.split(drawn, np.cumsum([*(rank * side for side in sides), 5]), axis=1)
    a, b, c, d = (part.reshape(4, side, rank) for part, side in zip(factors, sides))
    dense = [
        np.einsum("kmr,knr->kmn", left, right).reshape(4, -1) / np.sqrt(rank)
        for left, right in ((a, b), (c, d))
    ]
    expected = np.concatenate([dense[0], bias, dense[1], other], axis=1)
    np.testing.assert_allclose(matrix(phi, 6), expected, atol=1e-5)


def test_the_stream_is_what_it_was():
    phi = perturbations(4)
    drawn = tf.function(lambda: phi.trace_drawn(tf.constant([2]), tf.constant(6)), jit_compile=True)()
    first = drawn.kernels[0][0].numpy().ravel()[:3]
    np.testing.assert_allclose(first, [0.7422116, -0.87894195, -1.1527317], atol=1e-6)
    np.testing.assert_allclose(drawn.others[1][0], [-1.4252347, -1.6725972, 2.0348577], atol=1e-6)


@pytest.mark.parametrize("memory", [2**24, 4 * 80 * 5, 1])
def test_the_sum_is_of_the_same_directions(memory, monkeypatch):
    monkeypatch.setattr(low_rank, "_SUMMED_BYTES", memory)  # all at a time, some, one
    phi = perturbations(12)
    weights = np.random.RandomState(0).normal(size=12).astype(np.float32)
    combined = phi.combine(tf.constant(weights), tf.constant(5))
    combined = np.concatenate([part.numpy().ravel() for part in combined])
    np.testing.assert_allclose(combined, weights @ matrix(phi, 5) / 12, rtol=1e-4, atol=1e-5)


def test_entries_have_mean_0_and_variance_1_and_no_correlation():
    rows = np.concatenate([matrix(perturbations(2000, rank=1), update) for update in range(4)])
    number = len(rows)
    # Products of two normals: the fourth moment of an entry is 9, that of two of one row 3.
    assert np.abs(rows.mean(axis=0)).max() < 5 / np.sqrt(number)
    assert (rows**2).mean() == pytest.approx(1.0, abs=5 * np.sqrt(9 / number))
    correlations = rows.T @ rows / number - np.diag((rows**2).mean(axis=0))
    assert np.abs(correlations).max() < 6 * np.sqrt(3 / number)


def test_the_raw_estimate_of_a_slope_is_unbiased():
    rng = np.random.RandomState(0)
    slope = rng.normal(size=SIZE).astype(np.float32)
    phi = perturbations(8000, rank=1)
    estimate = phi.combine(tf.constant(matrix(phi) @ slope), tf.constant(0))
    estimate = np.concatenate([part.numpy().ravel() for part in estimate])
    deviation = np.sqrt(9 * (slope @ slope + 2 * slope**2) / 8000)
    assert (np.abs(estimate - slope) < 4 * deviation).all()
    assert np.corrcoef(estimate, slope)[0, 1] > 0.95


def test_a_direction_does_not_depend_on_what_is_drawn_with_it():
    phi = perturbations(9)
    rows = matrix(phi, 2)
    np.testing.assert_allclose(matrix(phi, 2, [7, 1, 4]), rows[[7, 1, 4]], atol=1e-6)


def test_updates_seeds_and_directions_draw_anew():
    rows = np.concatenate(
        [matrix(perturbations(3)), matrix(perturbations(3), 1), matrix(perturbations(3, seed=4))]
    )
    assert np.linalg.matrix_rank(rows) == 9
    assert np.abs(np.corrcoef(rows) - np.eye(9)).max() < 0.6
    np.testing.assert_array_equal(rows[:3], matrix(perturbations(3)))


# --- Offspring ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "normalised",
        "regularised",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("subclassed", "branched", "recurrent", "attention", "rematerialised")
        ),
    ],
)
def test_offspring_with_factors_have_the_losses_of_those_with_dense_weights(name):
    """In place the weights themselves are moved, by sigma A B^T / sqrt(r): made dense."""
    results = []
    for limit in (2**27, 0):
        model, x = compiled(name)
        nes = strategy(
            model, 6, 0.05, learning_rate=0.01, antithetic=True, memory_limit=limit, basis="low_rank", rank=2
        )
        assert nes.in_place == (limit == 0)
        history = nes.fit(dataset(x), steps_per_epoch=2, verbose=0).history
        results.append((history["loss"], history.get("mae"), weights_of(model)))
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
def test_offspring_with_factors_of_cells_have_the_losses_of_those_with_dense_weights():
    layers, results = keras.layers, []
    for limit in (2**27, 0):
        keras_api.set_random_seed(0)
        cells = [layers.LSTMCell(4), layers.SimpleRNNCell(3)]
        stack = [layers.GRU(5, reset_after=False, return_sequences=True), layers.RNN(cells)]
        model = keras.Sequential([keras.Input((4, 6)), *stack])
        keras_api.compile_model(model, jit_compile=False, loss="mse", optimizer="sgd")
        nes = strategy(
            model, 6, 0.3, learning_rate=0.1, memory_limit=limit, basis="low_rank", minibatch="shared"
        )
        assert len(nes._perturbations.kernels) == 6 and nes.in_place == (limit == 0)
        rng = np.random.RandomState(0)
        x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((8, 4, 6), (8, 3)))
        history = nes.fit(x, y, batch_size=8, steps_per_epoch=2, verbose=0).history
        results.append((history["loss"], weights_of(model)))
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def of_layers():
    """A model of an embedding, convolutions, a normalisation and dense layers, and tokens."""
    keras_api.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,), dtype="int32"),
            keras.layers.Embedding(11, 6, embeddings_initializer="random_normal"),
            keras.layers.Conv1D(5, 3, strides=2, padding="same", activation="relu"),
            keras.layers.LayerNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="tanh", bias_initializer="random_normal"),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    keras_api.compile_model(model, jit_compile=False, loss="mse", optimizer="sgd", metrics=["mae"])
    rng = np.random.RandomState(0)
    return model, rng.randint(0, 11, (64, 8)), rng.normal(size=(64, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("minibatch", "antithetic", "shape"),
    [
        ("independent", True, "raw"),
        ("shared", False, "centered_ranks"),
        pytest.param("independent", False, "normalized", marks=pytest.mark.slow),
        pytest.param("shared", True, "raw", marks=pytest.mark.slow),
    ],
)
def test_the_update_is_that_of_the_formula_with_dense_perturbations(minibatch, antithetic, shape):
    population, sigma, rate = 8, 0.3, 0.1
    model, x, y = of_layers()
    theta = model.get_weights()
    nes = strategy(
        model,
        population,
        sigma,
        learning_rate=rate,
        antithetic=antithetic,
        minibatch=minibatch,
        fitness=shape,
        basis="low_rank",
        rank=2,
    )
    assert len(nes._perturbations.kernels) == 4 and len(nes._perturbations.others) == 4
    phi = directions(nes)
    history = nes.fit(x, y, batch_size=8, shuffle=False, steps_per_epoch=1, verbose=0).history
    found = weights_of(model)
    phi = np.stack([phi, -phi], axis=1).reshape(population, -1) if antithetic else phi
    expected = []
    for j in range(population):
        parts = np.split(sigma * phi[j], np.cumsum([each.size for each in theta])[:-1])
        model.set_weights([each + part.reshape(each.shape) for each, part in zip(theta, parts)])
        batch = 0 if minibatch == "shared" else j // (2 if antithetic else 1)
        rows = slice(8 * batch, 8 * batch + 8)
        logs = model.evaluate(x[rows], y[rows], return_dict=True, verbose=0)
        expected.append([logs["loss"], logs["mae"]])
    losses, errors = np.array(expected).T
    assert history["loss"][0] == pytest.approx(losses.mean(), rel=1e-5)
    assert history["mae"][0] == pytest.approx(errors.mean(), rel=1e-5)
    if shape == "centered_ranks":
        shaped = np.argsort(np.argsort(-losses)) / (population - 1) - 0.5
    else:
        shaped = -losses if shape == "raw" else (losses.mean() - losses) / losses.std()
    theta = np.concatenate([np.ravel(each) for each in theta])
    np.testing.assert_allclose(found, theta + rate * shaped @ phi / (population * sigma), atol=2e-5)


class Tied(keras.layers.Layer):
    """Scores by an embedding's own matrix, read outside of its layer."""

    def __init__(self, embedding, **options):
        super().__init__(**options)
        self.embedding = embedding

    def call(self, x):
        return tf.matmul(x, tf.convert_to_tensor(self.embedding.embeddings), transpose_b=True)


def test_a_kernel_that_is_read_outside_of_its_layer_is_perturbed_there_too():
    results = []
    for limit in (2**27, 0):
        keras_api.set_random_seed(0)
        inputs = keras.Input((4,), dtype="int32")
        embedding = keras.layers.Embedding(5, 3, embeddings_initializer="random_normal")
        model = keras.Model(inputs, Tied(embedding)(embedding(inputs)))
        keras_api.compile_model(model, jit_compile=False, loss="mse", optimizer="sgd")
        nes = strategy(
            model, 6, 0.5, learning_rate=0.1, memory_limit=limit, basis="low_rank", minibatch="shared"
        )
        assert nes._perturbations.kernels == [0]
        rng = np.random.RandomState(0)
        x, y = rng.randint(0, 5, (8, 4)), rng.normal(size=(8, 4, 5)).astype(np.float32)
        history = nes.fit(x, y, batch_size=8, steps_per_epoch=2, verbose=0).history
        results.append((history["loss"], weights_of(model)))
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_objectives_are_of_the_dense_weights():
    nes = strategy(
        linear_model(), 6, 0.3, fitness="raw", objective=quadratic, basis="low_rank", learning_rate=1.0
    )
    start, phi = weights_of(nes.model), directions(nes)
    fitness = []
    for row in phi:
        nes.model.set_weights([(start + 0.3 * row).reshape(-1, 1)])
        fitness.append(-quadratic(nes.model))
    nes.model.set_weights([start.reshape(-1, 1)])
    nes.fit(steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(weights_of(nes.model), start + fitness @ phi / (6 * 0.3), atol=1e-4)


def test_it_learns_and_goes_on_exactly(tmp_path):
    x, y = blobs()

    def made():
        optimizer = keras.optimizers.SGD(0.3, momentum=0.5)
        return strategy(classifier(), 32, 0.1, optimizer=optimizer, antithetic=True, basis="low_rank", seed=5)

    def fit(nes, epochs, initial_epoch=0):
        options = {"epochs": epochs, "initial_epoch": initial_epoch, "steps_per_epoch": 5, "verbose": 0}
        return nes.fit(x, y, validation_data=(x, y), **options).history

    whole, first, second = made(), made(), made()
    assert fit(whole, 2)["val_accuracy"][-1] > 0.95
    fit(first, 1)
    path = tf.train.Checkpoint(model=first.model, optimizer=first.optimizer).save(str(tmp_path / "run"))
    tf.train.Checkpoint(model=second.model, optimizer=second.optimizer).restore(path).assert_consumed()
    fit(second, 2, initial_epoch=1)
    np.testing.assert_array_equal(weights_of(second.model), weights_of(whole.model))


def test_offspring_need_no_weights_of_their_own():
    model, _ = networks.build("sequential")
    size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    for basis, in_place in (("normal", True), ("low_rank", False)):
        nes = strategy(model, 4, basis=basis, memory_limit=4 * size - 1)
        assert nes.in_place == in_place


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"rank": 1}, ValueError, 'rank=1 is of basis="low_rank" only; allowed with others: None'),
        ({"basis": "low_rank", "rank": 0}, ValueError, "rank=0 must be an int of at least 1"),
        ({"basis": "low_rank", "rank": 1.0}, TypeError, "rank=1.0 must be an int"),
        (
            {"basis": "low_rank", "compartments": 2},
            ValueError,
            "compartments=2 with basis=.* allowed: .network., None",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(arguments, error, match):
    with pytest.raises(error, match=match):
        strategy(linear_model(), **arguments)
