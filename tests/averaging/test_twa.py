"""TrainableWeightAveraging: the path of SGD in a span, its exact optimum, and what it starts from."""

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import averaging, keras_api
from random_bases.averaging import TrajectoryError
from random_bases.averaging.snapshots import TrajectoryWriter, set_weights
from random_bases.bases import TrajectoryBasis
from random_bases.keras_api import KERAS_VERSION, keras
from tests import networks

MSE = keras.losses.MeanSquaredError


def flat(variables):
    return np.concatenate([np.ravel(getattr(v, "numpy", lambda v=v: v)()) for v in variables])


def record(model, directory, points):
    """A trajectory of these weights, [D] each, all with the model's other variables."""
    writer = TrajectoryWriter(directory, model, "float32")
    before = flat(model.trainable_variables)
    state = rb.averaging.snapshots.split_variables(model)[1]
    state = [variable.numpy() for variable in state]
    for step, point in enumerate(points):
        set_weights(model, point, state)
        writer.append(step, epoch=step)
    set_weights(model, before, state)
    return rb.Trajectory(directory)


def points_near(model, count, seed=0, scale=0.1):
    random = np.random.RandomState(seed)
    start = flat(model.trainable_variables)
    return [(start + scale * random.normal(size=start.size)).astype(np.float32) for _ in range(count)]


@pytest.fixture
def quadratic():
    """A linear model, x, y: its least squares are exactly solved by a known point."""
    keras_api.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, use_bias=False)])
    random = np.random.RandomState(1)
    x = random.normal(size=(60, 6)).astype(np.float32)
    return model, x, random


def compile_(model, optimizer=None, **arguments):
    keras_api.compile_model(
        model, jit_compile=False, optimizer=optimizer or keras.optimizers.SGD(0.1), loss=MSE(), **arguments
    )


# --- The mathematics ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sgd", "BFGS", "L-BFGS-B"])
@pytest.mark.parametrize("start", ["average", "last"])
def test_a_point_of_the_span_that_is_optimal_is_found(quadratic, tmp_path, method, start):
    model, x, _ = quadratic
    points = points_near(model, 3, scale=1.0)
    wanted = 2.0 * points[0] - 1.5 * points[1] + 0.3 * points[2]
    y = x @ wanted[:, np.newaxis]
    twa = rb.TrainableWeightAveraging(model, record(model, tmp_path, points), start=start)
    if method == "sgd":
        compile_(twa)
        twa.fit(tf.data.Dataset.from_tensors((x, y)).repeat(400), verbose=0)
    else:
        batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(25)
        result = averaging.minimize(twa, batches, "mse", method=method, iterations=30)
        assert result.fun < 1e-8
    np.testing.assert_allclose(flat(twa.materialize().trainable_variables), wanted, atol=1e-3)


def test_the_optimum_of_the_span_is_that_of_least_squares(quadratic, tmp_path):
    model, x, random = quadratic
    y = random.normal(size=(60, 1)).astype(np.float32)
    points = points_near(model, 3, scale=1.0)
    twa = rb.TrainableWeightAveraging(model, record(model, tmp_path, points))
    averaging.minimize(twa, [(x[:50], y[:50]), (x[50:], y[50:])], "mse", iterations=30)
    solution, *_ = np.linalg.lstsq(x @ np.stack(points, 1), y[:, 0], rcond=None)
    found = flat(twa.materialize().trainable_variables)
    np.testing.assert_allclose(found, np.stack(points, 1) @ solution, atol=1e-4)


@pytest.mark.parametrize("regularization", [0.0, 0.3])
def test_a_step_of_sgd_is_one_of_the_weights_with_the_gradient_projected(tmp_path, regularization):
    model, x = networks.build("normalised")
    y = networks.targets()
    trajectory = record(model, tmp_path, points_near(model, 4))
    q = TrajectoryBasis.gram_schmidt(trajectory.weights).directions.numpy().astype(np.float64)
    twa = rb.TrainableWeightAveraging(model, trajectory, regularization=regularization)
    average = averaging.average(model, trajectory)
    with tf.GradientTape() as tape:
        loss = MSE()(y, average(x, training=False))
        loss += regularization / 2 * sum(tf.reduce_sum(v**2) for v in average.trainable_variables)
    gradient = flat(tape.gradient(loss, average.trainable_variables))
    with tf.GradientTape() as tape:
        found_loss = MSE()(y, twa(x, training=False)) + sum(twa.losses)
    (found,) = tape.gradient(found_loss, twa.trainable_variables)
    assert float(found_loss) == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_allclose(found, q @ gradient, rtol=1e-3, atol=1e-5)
    theta = flat(average.trainable_variables)
    twa.coordinates.assign_sub(0.1 * found)
    np.testing.assert_allclose(
        flat(twa.materialize().trainable_variables), theta - 0.1 * (q.T @ (q @ gradient)), atol=1e-5
    )


def test_pca_moves_in_the_components_from_the_first_weights(tmp_path):
    model, x = networks.build("sequential")
    trajectory = record(model, tmp_path, points_near(model, 6))
    twa = rb.TrainableWeightAveraging(model, trajectory, basis="pca", dimensions=2, start="first")
    np.testing.assert_allclose(flat(twa.materialize().trainable_variables), trajectory[0], atol=1e-6)
    compile_(twa)
    twa.fit(x, networks.targets(), epochs=3, verbose=0)
    moved = flat(twa.materialize().trainable_variables) - trajectory[0]
    components = TrajectoryBasis.pca(trajectory.weights, 2).directions.numpy()
    assert np.linalg.norm(moved) > 0.01
    np.testing.assert_allclose(components.T @ (components @ moved), moved, atol=1e-5)


# --- The start ------------------------------------------------------------------------------------


# Not those that take long to trace: `SubspaceModel`'s tests have them.
@pytest.mark.parametrize("name", ["frozen", "normalised", "regularised", "sequential", "subclassed"])
def test_it_starts_at_the_average_and_leaves_the_model_as_it_is(name, tmp_path):
    model, x = networks.build(name)
    trajectory = record(model, tmp_path, points_near(model, 3))
    other, _ = networks.build(name, seed=4)
    before = flat(other.weights)
    twa = rb.TrainableWeightAveraging(other, str(tmp_path))
    average = averaging.average(other, trajectory)
    np.testing.assert_array_equal(flat(other.weights), before)
    np.testing.assert_allclose(flat(average.trainable_variables), trajectory.average(), atol=1e-6)
    inputs = tf.nest.map_structure(tf.constant, x)
    np.testing.assert_allclose(twa(inputs), average(inputs), atol=1e-5)
    compile_(twa)
    twa.fit(x, networks.targets(), epochs=2, verbose=0)
    assert np.abs(twa.coordinates.numpy()).max() > 1e-4
    np.testing.assert_array_equal(flat(other.weights), before)


@pytest.mark.parametrize("start", ["first", "last", "given"])
def test_other_starts(start, tmp_path):
    model, _ = networks.build("sequential")
    trajectory = record(model, tmp_path, points_near(model, 3))
    given = model.get_weights()
    expected = {"first": trajectory[0], "last": trajectory[-1], "given": flat(model.trainable_variables)}
    twa = rb.TrainableWeightAveraging(model, trajectory, start=given if start == "given" else start)
    np.testing.assert_array_equal(flat(twa.model.trainable_variables), expected[start])


def test_moving_statistics_are_the_last_snapshots(tmp_path):
    model, x = networks.build("normalised")
    compile_(model)
    model.fit(x, networks.targets(), epochs=2, verbose=0, callbacks=[rb.TrajectoryRecorder(tmp_path)])
    fresh, _ = networks.build("normalised")
    twa = rb.TrainableWeightAveraging(fresh, tmp_path)
    np.testing.assert_array_equal(flat(twa.model.non_trainable_weights), flat(model.non_trainable_weights))


def test_weights_of_a_run_are_continued_bit_for_bit(tmp_path):
    model, x = networks.build("sequential")
    y = networks.targets()
    trajectory = record(model, tmp_path / "t", points_near(model, 4))

    def run(epochs, restore=None):
        twa = rb.TrainableWeightAveraging(model, trajectory)
        compile_(twa, keras.optimizers.Adam(0.01))
        keras_api.build_optimizer(twa.optimizer, twa.trainable_variables)
        checkpoint = tf.train.Checkpoint(model=twa, optimizer=twa.optimizer)
        if restore:
            checkpoint.restore(restore).assert_existing_objects_matched()
        twa.fit(x, y, batch_size=3, epochs=epochs, shuffle=False, verbose=0)
        return twa.coordinates.numpy(), checkpoint.save(str(tmp_path / f"checkpoint{epochs}"))

    whole, _ = run(4)
    _, half = run(2)
    resumed, _ = run(2, restore=half)
    np.testing.assert_array_equal(whole, resumed)


# --- Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"basis": "svd"}, "basis='svd' is unknown; allowed: "),
        ({"basis": "pca"}, "dimensions=None is not possible with basis='pca'"),
        ({"dimensions": 2}, "dimensions=2 is not possible with basis='gram_schmidt'"),
        ({"start": "middle"}, "start='middle' is unknown"),
        ({"start": [np.zeros(3)]}, r"start has arrays of shapes \[\(3,\)\]; allowed: \[\(5, 6\)"),
        ({"regularization": -1.0}, "regularization=-1.0 must be"),
        ({"regularization": np.nan}, "regularization=nan must be"),
    ],
    ids=str,
)
def test_bad_arguments_are_named(arguments, message, tmp_path):
    model, _ = networks.build("sequential")
    trajectory = record(model, tmp_path, points_near(model, 3))
    with pytest.raises(ValueError, match=message):
        rb.TrainableWeightAveraging(model, trajectory, **arguments)


def test_wrong_types_are_named(tmp_path):
    model, _ = networks.build("sequential")
    trajectory = record(model, tmp_path, points_near(model, 3))
    for value in ("a", True, None):
        with pytest.raises(TypeError, match=f"regularization={value!r} must be a number"):
            rb.TrainableWeightAveraging(model, trajectory, regularization=value)
    for make in (rb.TrainableWeightAveraging, averaging.average):
        with pytest.raises(TypeError, match="model='x' must be a keras.Model"):
            make("x", tmp_path)
        with pytest.raises(TypeError, match="trajectory=3 must be"):
            make(model, 3)


def test_numpys_numbers_are_allowed(tmp_path):
    model, _ = networks.build("sequential")
    trajectory = record(model, tmp_path, points_near(model, 4))
    arguments = {"dimensions": np.int64(2), "regularization": np.float32(0.5)}
    twa = rb.TrainableWeightAveraging(model, trajectory, basis="pca", **arguments)
    assert (twa.dimensions, twa.regularization) == (2, 0.5)


def test_another_architecture_and_an_empty_slice_are_refused(tmp_path):
    model, _ = networks.build("sequential")
    trajectory = record(model, tmp_path, points_near(model, 3))
    with pytest.raises(TrajectoryError, match="another architecture"):
        rb.TrainableWeightAveraging(networks.build("normalised")[0], trajectory)
    with pytest.raises(TrajectoryError, match="no snapshots"):
        rb.TrainableWeightAveraging(model, trajectory[5:])


@pytest.mark.parametrize("method", ["export", "save"])
def test_it_is_saved_as_what_it_materializes_to(method, tmp_path):
    if method == "save" and KERAS_VERSION < (2, 11):
        pytest.skip("Keras 2.6 has no .keras files")
    model, _ = networks.build("sequential")
    twa = rb.TrainableWeightAveraging(model, record(model, tmp_path / "t", points_near(model, 3)))
    with pytest.raises(ValueError, match="save the model that materialize"):
        twa.export_compressed(str(tmp_path / "x.rb")) if method == "export" else twa.save(
            str(tmp_path / "x.keras")
        )


def test_bad_arguments_of_minimize_are_named(quadratic, tmp_path):
    model, x, _ = quadratic
    twa = rb.TrainableWeightAveraging(model, record(model, tmp_path, points_near(model, 2)))
    batches = [(x, x[:, :1])]
    with pytest.raises(TypeError, match="must be a SubspaceModel"):
        averaging.minimize(model, batches, "mse")
    with pytest.raises(ValueError, match="method='newton' is unknown"):
        averaging.minimize(twa, batches, "mse", method="newton")
    with pytest.raises(ValueError, match="iterations=0"):
        averaging.minimize(twa, batches, "mse", iterations=0)
    with pytest.raises(ValueError, match="batches has no examples"):
        averaging.minimize(twa, [], "mse")
    with pytest.raises(ValueError, match="not finite"):
        averaging.minimize(twa, [(x * np.inf, x[:, :1])], "mse")
