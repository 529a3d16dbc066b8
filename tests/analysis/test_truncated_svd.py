"""Truncated SVD: against Eckart and Young's theorem, and what it takes."""

import numpy as np
import pytest

from random_bases.analysis.truncated_svd import truncated
from random_bases.keras_api import keras, set_random_seed


@pytest.fixture(scope="module")
def model():
    set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((6, 6, 4)), *layers])


def test_the_error_is_that_of_the_singular_values_left_out(model):
    small = truncated(model, 3)
    assert [weight.shape for weight in small.weights] == [tuple(v.shape) for v in model.trainable_variables]
    kernel = model.trainable_variables[2].numpy()
    values = np.linalg.svd(kernel, compute_uv=False)
    assert np.linalg.norm(kernel - small.weights[2]) == pytest.approx(np.linalg.norm(values[3:]), rel=1e-4)
    assert np.linalg.matrix_rank(small.weights[2], tol=1e-4) == 3
    assert np.linalg.matrix_rank(small.weights[0].reshape(36, 8), tol=1e-4) == 3
    for i in (1, 3):
        np.testing.assert_array_equal(small.weights[i], model.trainable_variables[i].numpy())


@pytest.mark.parametrize(("bits", "each", "scales"), [(32, 4, 0), (16, 2, 0), (8, 1, 4 * 6)])
def test_bytes_are_those_of_the_factors(model, bits, each, scales):
    numbers = 3 * (36 + 8) + 8 + 3 * (128 + 10) + 10
    assert truncated(model, 3, bits).bytes == each * numbers + scales


def test_what_is_smaller_as_it_is_stays_whole(model):
    whole = truncated(model, 8)  # 8 (36 + 8) > 36 * 8, but 8 (128 + 10) < 1,280
    np.testing.assert_array_equal(whole.weights[0], model.trainable_variables[0].numpy())
    assert truncated(model, 10**6).bytes == 4 * model.count_params()


def test_what_was_there_before_is_not_stored(model):
    trained = keras.models.clone_model(model)
    start = [variable.numpy() for variable in model.trainable_variables]
    generator = np.random.default_rng(0)
    for variable, value in zip(trained.trainable_variables, start):
        change = np.ones(value.shape, np.float32)
        if value.ndim > 1:  # of rank 1
            rows = generator.normal(size=[value.size // value.shape[-1], 1])
            change = (rows * generator.normal(size=[value.shape[-1]])).reshape(value.shape)
        variable.assign(value + change)
    small = truncated(trained, 1, start=start)
    assert small.bytes == truncated(trained, 1).bytes
    for variable, weight in zip(trained.trainable_variables, small.weights):
        np.testing.assert_allclose(weight, variable.numpy(), atol=1e-5)
    assert np.abs(truncated(trained, 1).weights[0] - trained.trainable_variables[0].numpy()).max() > 0.05


@pytest.mark.parametrize(("bits", "error"), [(16, 2**-11), (8, 0.5 / 127)])
def test_rounding_is_to_half_a_step(model, bits, error):
    kernel = model.trainable_variables[0].numpy()
    rounded = truncated(model, 10**6, bits).weights[0]
    assert 0 < np.abs(rounded - kernel).max() <= 1.001 * error * np.abs(kernel).max()


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"rank": 0}, ValueError, "rank=0 must be an int of at least 1"),
        ({"rank": 2.0}, TypeError, "rank=2.0 must be an int"),
        ({"rank": 2, "bits": 4}, ValueError, r"bits=4 must be one of \(8, 16, 32\)"),
        (
            {"rank": 2, "start": [np.zeros(3)]},
            ValueError,
            r"start has shapes \[\(3,\)\]; allowed: the weights'",
        ),
        ({"model": None, "rank": 2}, TypeError, "must be a keras.Model"),
    ],
)
def test_what_is_not_allowed_is_named(model, arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        truncated(**{"model": model, **arguments})
