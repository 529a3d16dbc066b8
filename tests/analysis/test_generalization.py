"""The compression bound: in closed form where there is one, and against exact tails of the binomial."""

import math

import numpy as np
import pytest
from scipy import stats

import random_bases as rb
from random_bases.analysis.generalization import compression_bound
from random_bases.keras_api import keras, set_random_seed
from tests.experiments.test_datasets import real_data


def limit(examples, bits, delta=0.05):
    prior = bits * math.log(2) + 2 * math.log(bits) + math.log(math.pi**2 / 6)
    return (prior + math.log(1 / delta)) / examples


@pytest.mark.parametrize(("examples", "bits"), [(100, 1), (55_000, 2000), (1000, 100)])
def test_without_errors_it_is_known_in_closed_form(examples, bits):
    expected = 1 - math.exp(-limit(examples, bits))
    assert compression_bound(0.0, examples, bits) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("error", "examples", "bits"), [(0.1, 500, 8), (0.02, 2000, 40), (0.5, 300, 3)])
def test_few_errors_are_improbable_where_the_risk_is_the_bound(error, examples, bits):
    """P(so few errors) is at most delta times the description's share, and not much less."""
    risk = compression_bound(error, examples, bits, delta=0.1)
    share = math.exp(-examples * limit(examples, bits, delta=0.1))
    tail = stats.binom.cdf(round(error * examples), examples, risk)
    assert 1e-3 * share < tail <= share
    assert error < risk <= error + math.sqrt(limit(examples, bits, delta=0.1) / 2)  # Hoeffding's


def test_priors_of_all_descriptions_add_up_to_one():
    lengths = np.arange(1, 10**6)
    # 2^l descriptions of l bits, each with 2^-l 6 / (pi l)^2.
    assert np.sum(6 / (np.pi * lengths) ** 2) == pytest.approx(1, abs=1e-5)


def test_it_grows_with_error_and_bits_and_falls_with_examples():
    base = compression_bound(0.1, 10_000, 500)
    assert compression_bound(0.2, 10_000, 500) > base
    assert compression_bound(0.1, 10_000, 600) > base
    assert compression_bound(0.1, 20_000, 500) < base
    assert compression_bound(0.1, 10_000, 500, delta=0.5) < base
    assert compression_bound(1.0, 10_000, 500) == 1.0
    assert compression_bound(0.1, 10, 5000) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"error": 1.1}, ValueError, "error=1.1 must be a number in"),
        ({"error": -0.1}, ValueError, "error=-0.1"),
        ({"examples": 0}, ValueError, "examples=0"),
        ({"bits": 0}, ValueError, "bits=0"),
        ({"bits": 8.0}, TypeError, "bits=8.0"),
        ({"delta": 1.0}, ValueError, "delta=1.0"),
        ({"delta": 0.0}, ValueError, "delta=0.0"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        compression_bound(**{"error": 0.1, "examples": 100, "bits": 10, **arguments})


@pytest.mark.slow
def test_it_says_something_of_a_network_on_mnist(tmp_path):
    """A network in 500 fixed directions, 4 bits each: far below the 0.9 of guessing."""
    path = real_data() / "mnist.npz"
    if not path.exists():
        pytest.skip(f"no {path}; RANDOM_BASES_DATA names its directory")
    with np.load(str(path)) as data:
        x, y = (data["x_train"] / 255).astype(np.float32), data["y_train"]
    set_random_seed(0)
    layers = [keras.layers.Flatten(), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28)), *layers])
    sub = rb.SubspaceModel(model, dimensions=500, basis="hadamard", seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    sub.compile(keras.optimizers.Adam(0.01), loss)
    sub.fit(x, y, batch_size=64, epochs=2, verbose=0)
    bits = 8 * sub.export_compressed(str(tmp_path / "mnist.rb"), bits=4)
    trained = rb.load_compressed(str(tmp_path / "mnist.rb"), model)
    error = float(np.mean(np.argmax(trained.predict(x, batch_size=500, verbose=0), axis=1) != y))
    bound = compression_bound(error, len(x), bits)
    assert error < bound < 0.35, (error, bits, bound)
