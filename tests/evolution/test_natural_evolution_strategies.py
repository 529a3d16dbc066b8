"""NaturalEvolutionStrategies: its update's mathematics, and `fit` as Keras users know it."""

import math

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import keras_api
from random_bases.evolution import offspring
from random_bases.keras_api import GENERATION, keras
from tests import networks

SIZE = 6
HESSIAN = np.diag([1.0, 2.0, 0.5, 3.0, 1.5, 1.0]).astype(np.float32)
SLOPE = np.array([1.0, -2.0, 0.0, 0.5, -1.0, 3.0], np.float32)
START = np.linspace(-1, 1, SIZE).astype(np.float32)


def weights_of(model):
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


def linear_model(size=SIZE):
    """The weights alone: a layer without bias, [size] -> [1]."""
    model = keras.Sequential([keras.Input((size,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[-1].set_weights([START.reshape(-1, 1)[:size]])
    return model


def quadratic(model):
    w = np.ravel(model.get_weights()[0]).astype(np.float64)
    return 0.5 * w @ HESSIAN @ w + SLOPE @ w


def gradient(w):
    return HESSIAN @ w + SLOPE


def strategy(model, population=4, sigma=0.1, **arguments):
    if not {"learning_rate", "optimizer"} & set(arguments):
        arguments["learning_rate"] = 1.0
    return rb.NaturalEvolutionStrategies(model, population, sigma, **{"seed": 0, **arguments})


def directions(nes, update=0):
    phi = nes._perturbations
    parts = tf.function(phi.trace, jit_compile=True)(tf.range(phi.count), tf.constant(update))
    return np.concatenate([part.numpy().reshape(phi.count, -1) for part in parts], axis=1)


def one_update(nes, **arguments):
    nes.fit(steps_per_epoch=1, verbose=0, **arguments)
    return weights_of(nes.model)


# --- Mathematics ----------------------------------------------------------------------------------


def test_spsa_on_a_quadratic_is_the_projection_of_its_gradient():
    nes = strategy(linear_model(), population=2, antithetic=True, fitness="raw", objective=quadratic)
    (phi,) = directions(nes)
    # Exact for a quadratic, whatever sigma: (L(w + s phi) - L(w - s phi)) / 2s = phi . g.
    expected = START - phi * (phi @ gradient(START))
    np.testing.assert_allclose(one_update(nes), expected, atol=1e-4)


@pytest.mark.parametrize("shape", ["centered_ranks", "normalized", "raw"])
@pytest.mark.parametrize("antithetic", [False, True])
def test_the_update_is_that_of_the_formula(shape, antithetic):
    population, sigma = 10, 0.3
    nes = strategy(
        linear_model(), population, sigma, fitness=shape, antithetic=antithetic, objective=quadratic
    )
    phi = directions(nes)
    phi = np.stack([phi, -phi], axis=1).reshape(-1, SIZE) if antithetic else phi
    offspring = START + sigma * phi
    fitness = -np.array([0.5 * w @ HESSIAN @ w + SLOPE @ w for w in offspring])
    if shape == "centered_ranks":
        shaped = np.argsort(np.argsort(fitness)) / (population - 1) - 0.5
    else:
        shaped = fitness if shape == "raw" else (fitness - fitness.mean()) / fitness.std()
    expected = START + shaped @ phi / (population * sigma)
    np.testing.assert_allclose(one_update(nes), expected, atol=1e-4)


def test_the_raw_update_is_an_unbiased_estimate_of_the_gradient():
    nes = strategy(linear_model(), 8000, antithetic=True, fitness="raw", objective=quadratic)
    estimate = START - one_update(nes)
    # The variance of a mean of m terms phi (phi . g) is (|g|^2 + g_i^2) / m.
    g = gradient(START)
    deviation = np.sqrt((g @ g + g**2) / 4000)
    assert (np.abs(estimate - g) < 4 * deviation).all()


def test_the_papers_scale_divides_by_the_root_of_the_size():
    moves = [
        one_update(strategy(linear_model(), 6, objective=quadratic, update_scale=scale)) - START
        for scale in ("gradient", "paper")
    ]
    np.testing.assert_allclose(moves[1] * math.sqrt(SIZE), moves[0], rtol=1e-3)


def test_pairs_are_mirror_images_and_see_one_batch():
    seen = []

    def objective(model, batch):
        seen.append((weights_of(model), float(batch[0][0, 0])))
        return 0.0

    x = np.arange(12, dtype=np.float32).reshape(-1, 1) * np.ones((1, SIZE), np.float32)
    nes = strategy(linear_model(), 6, antithetic=True, objective=objective)
    nes.fit(tf.data.Dataset.from_tensor_slices(x).batch(1), steps_per_epoch=2, verbose=0)
    for (up, batch), (down, same) in zip(seen[0::2], seen[1::2]):
        np.testing.assert_allclose(up + down, 2 * START, atol=1e-6)
        assert batch == same
    assert [batch for _, batch in seen[::2]] == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [({}, 4), ({"antithetic": True}, 2), ({"minibatch": "shared"}, 1)],
)
def test_an_update_takes_a_batch_for_each_direction(arguments, taken):
    seen = []

    def objective(model, batch):
        seen.append(float(batch[0][0, 0]))
        return 0.0

    x = np.arange(100, dtype=np.float32).reshape(-1, 1) * np.ones((1, SIZE), np.float32)
    nes = strategy(linear_model(), 4, objective=objective, **arguments)
    nes.fit(tf.data.Dataset.from_tensor_slices(x).batch(1), steps_per_epoch=3, verbose=0)
    assert nes.batches_per_update == taken
    assert len(seen) == 12 and sorted(set(seen)) == list(range(3 * taken))


def test_an_objective_that_fails_leaves_the_weights():
    def objective(model):
        raise RuntimeError("the simulator crashed")

    nes = strategy(linear_model(), objective=objective)
    with pytest.raises(RuntimeError, match="crashed"):
        nes.fit(steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(weights_of(nes.model), START, atol=1e-6)


# --- Any model, together or in place --------------------------------------------------------------


def compiled(name):
    model, x = networks.build(name)
    keras_api.compile_model(model, jit_compile=False, loss="mse", optimizer="sgd", metrics=["mae"])
    return model, x


def dataset(x, batches=40):
    """`batches` batches of the network's inputs, each other ones."""
    y = networks.targets()
    inputs = x if isinstance(x, list) else [x]
    stacked = [np.stack([np.roll(each, i, axis=0) for i in range(batches)]) for each in inputs]
    ys = np.stack([np.roll(y, i + 1, axis=0) for i in range(batches)])
    stacked = tuple(stacked) if isinstance(x, list) else stacked[0]
    return tf.data.Dataset.from_tensor_slices((stacked, ys))


SLOW_NETWORKS = ["branched", "recurrent", "attention", "rematerialised"]


@pytest.mark.parametrize(
    "name",
    [
        "normalised",
        "regularised",
        "subclassed",
        *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW_NETWORKS),
    ],
)
def test_offspring_together_have_the_losses_of_those_in_place(name):
    results = []
    for budget in (2**27, 0):
        model, x = compiled(name)
        nes = strategy(model, 6, 0.05, learning_rate=0.01, antithetic=True, memory_limit=budget)
        assert nes.in_place == (budget == 0)
        history = nes.fit(dataset(x), steps_per_epoch=2, verbose=0).history
        results.append((history["loss"], history.get("mae"), weights_of(model)))
    for one, other in zip(*results):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


def test_the_loss_is_that_of_the_offspring():
    model, x = compiled("sequential")
    theta = model.get_weights()
    nes = strategy(model, 5, 0.2, learning_rate=0.1, seed=7)
    history = nes.fit(dataset(x), steps_per_epoch=1, verbose=0).history
    losses = []
    for phi, (xs, ys) in zip(directions(nes), dataset(x)):
        sizes = np.cumsum([w.size for w in theta])[:-1]
        model.set_weights([w + 0.2 * p.reshape(w.shape) for w, p in zip(theta, np.split(phi, sizes))])
        losses.append(np.mean((model.predict(xs.numpy(), verbose=0) - ys.numpy()) ** 2))
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-4)


def masked(recurrent):
    """(model, tokens, labels, weights) in which padding is masked; all batches of 8 have the same lengths."""
    keras_api.set_random_seed(0)
    layers = [keras.Input((7,)), keras.layers.Embedding(5, 4, mask_zero=True)]
    if recurrent:
        layers.append(keras.layers.SimpleRNN(4, return_sequences=True))
    model = keras.Sequential([*layers, keras.layers.Dense(3, kernel_initializer="random_normal")])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    accuracies = [[keras.metrics.SparseCategoricalAccuracy(name=name)] for name in ("plain", "weighted")]
    model.compile("sgd", loss, metrics=accuracies[0], weighted_metrics=accuracies[1])
    rng = np.random.RandomState(0)
    lengths = np.tile([[1], [2], [2], [3], [4], [5], [6], [7]], (4, 1))
    tokens = rng.randint(1, 5, (32, 7)) * (np.arange(7) < lengths)
    weights = np.tile(rng.uniform(0.5, 2.0, (8, 7)).astype(np.float32), (4, 1))
    return model, tokens, rng.randint(0, 3, (32, 7)), weights


@pytest.mark.parametrize(
    ("recurrent", "minibatch", "budget"),
    [(False, "shared", 2**27), (True, "independent", 2**27), (False, "independent", 0)],
    ids=["vectorized", "one after another", "in place"],
)
def test_losses_and_metrics_of_masked_models_are_those_of_evaluate(recurrent, minibatch, budget):
    model, x, y, w = masked(recurrent)
    theta = model.get_weights()
    nes = strategy(model, 4, 0.5, learning_rate=1e-30, minibatch=minibatch, memory_limit=budget)
    assert nes.in_place == (budget == 0)
    phi = directions(nes)
    arguments = {"batch_size": 8, "shuffle": False, "steps_per_epoch": 1, "verbose": 0}
    history = nes.fit(x, y, sample_weight=w, **arguments).history
    expected = []
    for j in range(4):
        parts = np.split(phi[j], np.cumsum([each.size for each in theta])[:-1])
        model.set_weights([each + 0.5 * part.reshape(each.shape) for each, part in zip(theta, parts)])
        rows = slice(0, 8) if minibatch == "shared" else slice(8 * j, 8 * j + 8)
        logs = model.evaluate(x[rows], y[rows], sample_weight=w[rows], return_dict=True, verbose=0)
        expected.append([logs[name] for name in ("loss", "plain", "weighted")])
    found = [history[name][0] for name in ("loss", "plain", "weighted")]
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4)


def test_without_training_dropout_is_off_and_averages_stay():
    model, x = compiled("normalised")
    before = [v.numpy() for v in model.non_trainable_variables]
    strategy(model, 4, learning_rate=0.01).fit(dataset(x), steps_per_epoch=1, verbose=0)
    after = [v.numpy() for v in model.non_trainable_variables]
    assert before and all((a == b).all() for a, b in zip(before, after))


def test_training_updates_the_averages():
    model, x = compiled("normalised")
    before = [v.numpy() for v in model.non_trainable_variables]
    nes = strategy(model, 4, learning_rate=0.01, training=True, memory_limit=0)
    nes.fit(dataset(x), steps_per_epoch=1, verbose=0)
    after = [v.numpy() for v in model.non_trainable_variables]
    assert not all((a == b).all() for a, b in zip(before, after))


def test_in_place_weights_are_restored_before_the_step():
    model, x = compiled("sequential")
    before = weights_of(model)
    nes = strategy(model, 8, 0.5, learning_rate=1e-30, memory_limit=0)
    nes.fit(dataset(x), steps_per_epoch=2, verbose=0)
    np.testing.assert_allclose(weights_of(model), before, atol=1e-5)


def test_in_place_moves_are_the_same_whichever_variables_share_a_program(monkeypatch):
    class Scale(keras.layers.Layer):
        """Of half precision, beside a weight without elements."""

        def build(self, input_shape):
            self.nothing = self.add_weight(name="nothing", shape=(0, 3))
            self.scale = self.add_weight(name="scale", shape=(), dtype="float16", initializer="ones")
            self.built = True

        def call(self, inputs):
            return inputs * tf.cast(tf.convert_to_tensor(self.scale), tf.float32)

    x = np.random.default_rng(0).normal(size=[networks.BATCH, 5]).astype(np.float32)
    results = []
    for most, sizes in ((-1, []), (20, [0, 1, 3, 3, 9]), (31, [0, 1, 3, 3, 9, 15])):
        monkeypatch.setattr(offspring, "_MOST_IN_ONE", most)
        keras_api.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(3), Scale(), keras.layers.Dense(3, activation="tanh")]
        )
        keras_api.compile_model(model, jit_compile=False, loss="mse")
        nes = strategy(model, 4, 0.5, learning_rate=0.1, memory_limit=0)
        small, large = offspring.InPlace(nes._population)._by_size
        assert sorted(variable.shape.num_elements() for variable, _ in small) == sizes
        assert len(small) + len(large) == 6
        history = nes.fit(dataset(x), steps_per_epoch=2, verbose=0).history
        results.append([*history["loss"], *weights_of(model)])
    for found in results[1:]:
        for one, other in zip(results[0], found):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


# --- fit, as Keras has it -------------------------------------------------------------------------


def blobs(number=256):
    """Two classes that a line separates."""
    rng = np.random.RandomState(0)
    y = rng.randint(0, 2, number)
    x = rng.normal(size=(number, 4)) + 2.0 * (2 * y[:, None] - 1)
    return x.astype(np.float32), y.astype(np.int32)


def classifier():
    keras_api.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    return model


def test_it_learns_and_reports():
    x, y = blobs()
    nes = strategy(classifier(), 32, 0.1, learning_rate=0.3)
    history = nes.fit(x, y, epochs=4, steps_per_epoch=5, verbose=0, validation_data=(x, y)).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 4 for values in history.values())
    assert history["val_accuracy"][-1] > 0.97
    assert nes.evaluate(x, y, verbose=0)[1] == pytest.approx(history["val_accuracy"][-1])


def test_lists_are_taken_as_keras_takes_them():
    a, b = keras.Input((3,)), keras.Input((2,))
    both = keras.layers.Concatenate()([a, b])
    model = keras.Model([a, b], [keras.layers.Dense(1)(both), keras.layers.Dense(2)(both)])
    model.compile("sgd", ["mse", "mae"])
    rng = np.random.RandomState(0)
    x, y = ([rng.normal(size=(16, n)).astype(np.float32) for n in sizes] for sizes in ((3, 2), (1, 2)))
    (p, q) = model.predict(x, verbose=0)
    nes = strategy(model, 2, 1e-6, learning_rate=1e-30, minibatch="shared")
    history = nes.fit(x, y, batch_size=16, verbose=0).history
    assert history["loss"][0] == pytest.approx(np.mean((p - y[0]) ** 2) + np.mean(np.abs(q - y[1])), rel=1e-3)


def test_an_epoch_of_images_may_be_a_fraction_of_updates():
    x, y = blobs(100)  # 25 batches of 4, 4 an update: 6.25 updates an epoch
    nes = strategy(classifier(), 4, learning_rate=0.1)
    done = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: done.append(int(nes.optimizer.iterations))
    )
    nes.fit(x, y, batch_size=4, epochs=4, verbose=0, callbacks=[callback])
    assert done == [6, 12, 18, 25]


class Record(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append(("batch", batch, sorted(logs)))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch", epoch, sorted(logs)))


def test_callbacks_are_called_and_can_stop_and_set_the_rate():
    x, y = blobs()
    record = Record()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(nes.model, "stop_training", epoch == 1)
    )
    nes = strategy(classifier(), 4, learning_rate=0.1)
    nes.fit(x, y, epochs=9, steps_per_epoch=2, verbose=0, callbacks=[record, schedule, stop])
    names = [call[:2] for call in record.calls]
    assert names == [("batch", 0), ("batch", 1), ("epoch", 0), ("batch", 0), ("batch", 1), ("epoch", 1)]
    assert record.calls[0][2] == ["accuracy", "loss"]
    assert float(tf.convert_to_tensor(nes.model.optimizer.learning_rate)) == pytest.approx(0.25)


def test_the_progress_bar_shows_updates(capsys):
    x, y = blobs()
    strategy(classifier(), 4, learning_rate=0.1).fit(x, y, epochs=1, steps_per_epoch=3)
    out = capsys.readouterr().out
    assert "3/3" in out and "accuracy" in out


@pytest.mark.parametrize("budget", [2**27, pytest.param(0, marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_and_saved_goes_on_exactly(tmp_path, budget):
    x, y = blobs()

    def trained(model, epochs, initial_epoch=0):
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        nes = strategy(model, 6, 0.1, optimizer=optimizer, antithetic=True, memory_limit=budget, seed=5)
        return nes, lambda: nes.fit(
            x, y, epochs=epochs, initial_epoch=initial_epoch, steps_per_epoch=4, verbose=0
        )

    whole, fit = trained(classifier(), 4)
    fit()
    first, fit = trained(classifier(), 2)
    fit()
    path = tf.train.Checkpoint(model=first.model, optimizer=first.optimizer).save(str(tmp_path / "run"))
    second, fit = trained(classifier(), 4, initial_epoch=2)
    tf.train.Checkpoint(model=second.model, optimizer=second.optimizer).restore(path).assert_consumed()
    assert not (weights_of(second.model) == weights_of(whole.model)).all()
    fit()
    np.testing.assert_array_equal(weights_of(second.model), weights_of(whole.model))


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 saves no models as .keras")
def test_a_saved_model_holds_the_optimizer(tmp_path):
    x, y = blobs()
    nes = strategy(classifier(), 4, optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    nes.fit(x, y, epochs=1, steps_per_epoch=3, verbose=0)
    nes.model.save(str(tmp_path / "model.keras"))
    loaded = keras.models.load_model(str(tmp_path / "model.keras"))
    again = strategy(loaded, 4, optimizer=loaded.optimizer)
    for each in (nes, again):
        each.fit(x, y, epochs=1, steps_per_epoch=2, verbose=0)
    np.testing.assert_array_equal(weights_of(loaded), weights_of(nes.model))


def _backup_and_restore(directory):
    if GENERATION == "keras2.6":
        return keras.callbacks.experimental.BackupAndRestore(directory)
    return keras.callbacks.BackupAndRestore(directory)


def test_backup_and_restore_goes_on_where_it_was(tmp_path):
    x, y = blobs()

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("crash")

    def nes_and_backup():
        nes = strategy(classifier(), 4, learning_rate=0.2)
        return nes, _backup_and_restore(str(tmp_path / "backup"))

    whole, _ = nes_and_backup()
    whole.fit(x, y, epochs=4, steps_per_epoch=3, verbose=0)
    crashed, backup = nes_and_backup()
    with pytest.raises(RuntimeError, match="crash"):
        crashed.fit(x, y, epochs=4, steps_per_epoch=3, verbose=0, callbacks=[backup, Crash()])
    again, backup = nes_and_backup()
    history = again.fit(x, y, epochs=4, steps_per_epoch=3, verbose=0, callbacks=[backup])
    assert history.epoch == [2, 3]
    np.testing.assert_array_equal(weights_of(again.model), weights_of(whole.model))


def test_a_model_that_is_compiled_anew_is_trained_on_the_new_loss():
    x, y = blobs()
    nes = strategy(classifier(), 4, learning_rate=0.1)
    nes.fit(x, y, epochs=1, steps_per_epoch=1, verbose=0)
    nes.model.compile(loss=lambda y, p: 0.0 * tf.reduce_sum(p, axis=-1) + 7.0)
    assert nes.fit(x, y, epochs=1, steps_per_epoch=1, verbose=0).history["loss"] == [7.0]


def test_adam_inside_and_compartments():
    x, y = blobs()
    nes = strategy(
        classifier(), 24, 0.1, optimizer=keras.optimizers.Adam(0.05), basis="rademacher", compartments="layer"
    )
    history = nes.fit(x, y, epochs=1, steps_per_epoch=25, verbose=0, validation_data=(x, y)).history
    assert history["val_accuracy"][-1] > 0.95


def test_pure_bfloat16():
    x, y = blobs()
    keras.mixed_precision.set_global_policy("bfloat16")
    try:
        nes = strategy(classifier(), 4, memory_limit=0, jit_compile=False)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    nes.model.compile(loss="mse", metrics=["mae"])  # TF 2.6 has no cross entropy of bfloat16
    y = np.eye(2, dtype=np.float32)[y]
    logs = nes.fit(x, y, epochs=1, steps_per_epoch=2, verbose=0, validation_data=(x, y)).history
    assert all(tf.as_dtype(v.dtype) == tf.bfloat16 for v in nes.model.trainable_variables)
    assert sorted(logs) == ["loss", "mae", "val_loss", "val_mae"]
    assert all(type(logs[name][0]) is float and np.isfinite(logs[name][0]) for name in ("loss", "mae"))


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"population": 1}, ValueError, "population=1 must be an int of at least 2"),
        ({"population": 5, "antithetic": True}, ValueError, "population=5 must be even"),
        ({"sigma": 0.0}, ValueError, "sigma=0.0 must be positive"),
        ({"sigma": "1"}, TypeError, "sigma='1' must be a number"),
        ({"sigma": float("inf")}, ValueError, "sigma=inf must be finite"),
        ({"population": 4.0}, TypeError, "population=4.0 must be an int of at least 2"),
        ({"population": np.bool_(True)}, TypeError, "population=.*True.* must be an int"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate=-1.0 must be positive"),
        ({"learning_rate": np.float32("nan")}, ValueError, "learning_rate=.*nan.* must be"),
        ({"learning_rate": True}, TypeError, "learning_rate=True must be a number"),
        ({"learning_rate": "1"}, TypeError, "learning_rate='1' must be a number"),
        ({"learning_rate": None}, ValueError, "exactly one of them"),
        ({"optimizer": "sgd"}, ValueError, "exactly one of them"),
        ({"fitness": "rank"}, ValueError, "fitness='rank' is unknown"),
        ({"minibatch": "both"}, ValueError, "minibatch='both' is unknown; allowed"),
        ({"update_scale": "none"}, ValueError, "update_scale='none' is unknown; allowed"),
        ({"basis": "gauss"}, ValueError, "basis='gauss' is unknown"),
        ({"antithetic": 1}, TypeError, "antithetic=1 must be True or False"),
        ({"memory_limit": -1}, ValueError, "memory_limit=-1 must be"),
        ({"objective": 3}, TypeError, "objective=3 must be a function"),
        ({"seed": 0.5}, TypeError, "seed=0.5 must be an int"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(arguments, error, match):
    with pytest.raises(error, match=match):
        rb.NaturalEvolutionStrategies(
            linear_model(), **{"population": 4, "sigma": 0.1, "learning_rate": 1.0, **arguments}
        )


def test_numbers_of_numpy_are_numbers():
    x = np.ones((16, SIZE), np.float32)
    trained = []

    def objective(model, batch):
        return quadratic(model)

    for integer, real in ((int, float), (np.int64, np.float32)):
        arguments = {"memory_limit": integer(2**20), "seed": integer(3)}
        rate = real(0.25)
        nes = strategy(
            linear_model(), integer(4), real(0.5), learning_rate=rate, objective=objective, **arguments
        )
        nes.fit(x, batch_size=integer(8), epochs=integer(1), steps_per_epoch=real(1.0), verbose=0)
        trained.append(weights_of(nes.model))
    np.testing.assert_array_equal(trained[1], trained[0])
    assert not (trained[0] == START).any()


def test_models_that_cannot_be_trained_are_refused():
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="is not built"):
        strategy(unbuilt)
    with pytest.raises(TypeError, match="model=3 must be a keras.Model"):
        strategy(3)
    with pytest.raises(ValueError, match="is not compiled"):
        strategy(linear_model()).fit(np.zeros((32, SIZE)), np.zeros((32, 1)))


def test_data_that_does_not_fit_is_refused():
    x, y = blobs(64)
    nes = strategy(classifier(), 4, learning_rate=0.1)
    with pytest.raises(ValueError, match="x has 2 batches, fewer than an update's 4"):
        nes.fit(x, y)
    with pytest.raises(ValueError, match="steps_per_epoch=0.5 must be"):
        nes.fit(x, y, steps_per_epoch=0.5)
    for name, value in {
        "steps_per_epoch": "a",
        "batch_size": 8.0,
        "epochs": "a",
        "initial_epoch": None,
        "validation_freq": True,
        "shuffle": 1,
    }.items():
        with pytest.raises(TypeError, match=f"{name}={value!r} must be"):
            nes.fit(x, y, **{name: value})
    with pytest.raises(ValueError, match="x=3 is a scalar"):
        nes.fit(3, y)
    with pytest.raises(ValueError, match="y is no array"):
        nes.fit(x, [[0], [0, 1]])
    with pytest.raises(ValueError, match="x=None is allowed with an objective only"):
        nes.fit(steps_per_epoch=1)
    with pytest.raises(ValueError, match="which is not static.*drop_remainder=True"):
        nes.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), epochs=1, verbose=0)
    with pytest.raises(ValueError, match="lengths .63, 64."):
        nes.fit(x, y[:-1])
    with pytest.raises(ValueError, match="fitness returns shape"):
        short = strategy(classifier(), 4, learning_rate=0.1, fitness=lambda fitness: fitness[1:])
        short.fit(x, y, steps_per_epoch=1, verbose=0)


def weights_of_variables(model):
    return np.concatenate([np.ravel(v.numpy()) for v in model.trainable_variables])


def test_a_model_of_text_trains_by_default():
    """XLA, which has no strings, aborts the process or fails on it: it must not be chosen."""
    found = keras.layers.experimental.preprocessing if GENERATION == "keras2.6" else keras.layers
    lookup = found.StringLookup(vocabulary=["a", "b"], mask_token=None)
    inputs = keras.Input((2,), dtype="string")
    outputs = keras.layers.Flatten()(keras.layers.Embedding(3, 2)(lookup(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(outputs))
    keras_api.compile_model(model, jit_compile=False, loss="mse", optimizer="sgd")
    before = weights_of_variables(model)
    nes = strategy(model, learning_rate=0.1)
    x = tf.constant([["a", "b"], ["b", "c"], ["c", "a"], ["b", "b"]])
    data = tf.data.Dataset.from_tensor_slices((x, tf.ones((4, 1)))).batch(2, drop_remainder=True)
    nes.fit(data, epochs=1, steps_per_epoch=1, verbose=0)
    assert np.any(before != weights_of_variables(model))
    assert np.all(np.isfinite(weights_of_variables(model)))


def test_xla_is_the_default_where_it_can_be():
    assert keras_api.supports_xla(linear_model())
