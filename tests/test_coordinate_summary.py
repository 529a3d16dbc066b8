"""CoordinateSummary: its event files, read back."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.analysis.objective import Objective
from random_bases.callbacks import CoordinateSummary
from random_bases.keras_api import keras, set_random_seed, updates_of

DIMENSIONS = 12
X = np.random.default_rng(0).normal(size=[32, 6]).astype(np.float32)
Y = np.random.default_rng(1).normal(size=[32, 3]).astype(np.float32)


def build():
    set_random_seed(0)
    layers = [keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6,)), *layers])


def written(folder):
    """{name: {step: array}} of all event files in a folder."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found


def fit(model, optimizer, callback, epochs=2):
    model.compile(optimizer, "mse")
    model.fit(X, Y, batch_size=16, epochs=epochs, verbose=0, callbacks=[callback])


def test_of_random_bases_descent_they_are_of_the_next_update(tmp_path):
    model = build()
    optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(0.1), DIMENSIONS, basis="hadamard", seed=3)
    fit(model, optimizer, CoordinateSummary(tmp_path, (X, Y)))
    found = written(tmp_path)
    assert set(found) == {"coordinates", "coordinates/norm", "gradient/captured"}
    assert all(sorted(steps) == [0, 1] for steps in found.values())
    gradient = Objective(model, (X, Y), "mse").gradient()
    updates = int(updates_of(optimizer.inner_optimizer))
    assert updates == 4
    c = optimizer.rule.subspace.project(gradient, 3, updates).numpy()
    assert found["coordinates/norm"][1] == pytest.approx(np.linalg.norm(c), rel=1e-4)
    square = sum(float(tf.reduce_sum(g**2)) for g in gradient)
    # Orthonormal directions: |P P^T g|^2 = |P^T g|^2.
    assert found["gradient/captured"][1] == pytest.approx(c @ c / square, rel=1e-3)
    assert found["coordinates"][1][:, 2].sum() == DIMENSIONS  # of the buckets


def test_independent_directions_capture_less_than_orthonormal_ones(tmp_path):
    model = build()
    optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(0.01), 83, basis="normal", seed=3)
    fit(model, optimizer, CoordinateSummary(tmp_path, (X, Y)), epochs=8)
    assert model.count_params() == 83
    shares = list(written(tmp_path)["gradient/captured"].values())
    assert np.mean(shares) == pytest.approx(83 / (83 + 83), abs=0.1)  # orthonormal ones: 1


def test_of_a_subspace_model_they_are_what_trains(tmp_path):
    sub = rb.SubspaceModel(build(), DIMENSIONS, basis="hadamard", seed=3)
    fit(sub, keras.optimizers.Adam(0.1), CoordinateSummary(tmp_path, (X, Y), every=2), epochs=4)
    found = written(tmp_path)
    assert all(sorted(steps) == [1, 3] for steps in found.values())
    c = sub.coordinates.numpy()
    assert found["coordinates/norm"][3] == pytest.approx(np.linalg.norm(c), rel=1e-5)
    histogram = found["coordinates"][3]
    assert histogram[0, 0] == pytest.approx(c.min(), rel=1e-5)
    assert histogram[-1, 1] == pytest.approx(c.max(), rel=1e-5)
    # The gradient is that at theta: of the materialised model.
    gradient = Objective(sub.materialize(), (X, Y), "mse").gradient()
    projected = sub.subspace.project(gradient, 3).numpy()
    square = sum(float(tf.reduce_sum(g**2)) for g in gradient)
    assert found["gradient/captured"][3] == pytest.approx(projected @ projected / square, rel=1e-3)


def test_with_redraws_they_are_the_gradients(tmp_path):
    sub = rb.SubspaceModel(build(), DIMENSIONS, basis="kronecker", seed=3, redraw_every=1)
    fit(sub, keras.optimizers.SGD(0.1), CoordinateSummary(tmp_path, (X, Y)), epochs=1)
    assert not sub.coordinates.numpy().any()
    gradient = Objective(sub.model, (X, Y), "mse").gradient()
    expected = np.linalg.norm(sub.subspace.project(gradient, 3, 2))
    assert written(tmp_path)["coordinates/norm"][0] == pytest.approx(expected, rel=1e-4)


def test_what_has_no_coordinates_is_refused(tmp_path):
    with pytest.raises(TypeError, match="whose optimizer is a RandomBasesDescent, not a Sequential with SGD"):
        fit(build(), keras.optimizers.SGD(0.1), CoordinateSummary(tmp_path, (X, Y)))
    history = rb.RandomBasesDescent("sgd", 4, basis="history", memory_limit=10**6)
    with pytest.raises(ValueError, match="directions that a seed draws"):
        fit(build(), history, CoordinateSummary(tmp_path, (X, Y)))
    with pytest.raises(ValueError, match="every=0 must be an int of at least 1"):
        CoordinateSummary(tmp_path, (X, Y), every=0)
    assert not list(tmp_path.iterdir())
