"""Python objectives: in this process, in place, and in other processes, with the same outcome."""

import os

import numpy as np
import pytest

import random_bases as rb
from random_bases import keras_api
from random_bases.keras_api import keras
from tests.optimizers.helpers import dense_model

SEEDS = np.arange(24, dtype=np.float32).reshape(-1, 1)  # what data is to a simulator
PAIRS = {"population": 6, "antithetic": True, "basis": "rademacher"}


def noisy_distance(model, batch):
    """Depends on the weights, on the batch and on their order; the batch is of tensors in any process."""
    noise = np.random.default_rng(int(batch[0].numpy()[0, 0])).random()
    return float(sum(((i + 1) * np.square(w - noise)).sum() for i, w in enumerate(model.get_weights())))


def crashing(model, batch):
    raise RuntimeError("the simulator crashed")


def killed(model, batch):
    os._exit(3)


def trained(objective=noisy_distance, model=None, epochs=2, **arguments):
    arguments = {"sigma": 0.1, "learning_rate": 0.01, "seed": 3, **PAIRS, **arguments}
    nes = rb.NaturalEvolutionStrategies(model or dense_model(), objective=objective, **arguments)
    nes.fit(SEEDS, batch_size=1, epochs=epochs, steps_per_epoch=2, verbose=0)
    return nes


def weights_of(model):
    return [keras_api.value_of(variable).numpy() for variable in model.trainable_variables]


def test_the_weights_are_put_back_bit_for_bit():
    seen = []

    def flat(model, batch):
        seen.append(weights_of(model))
        return 0.0

    model = dense_model()
    start = weights_of(model)
    trained(flat, model)
    for up, down in zip(seen[::2], seen[1::2]):
        for a, b, theta in zip(up, down, start):
            np.testing.assert_allclose(np.abs(a - theta), 0.1, rtol=1e-5)
            np.testing.assert_allclose(a + b, 2 * theta, atol=1e-6)
    for a, b in zip(weights_of(model), start):
        np.testing.assert_array_equal(a, b)


def test_in_place_is_the_same_up_to_rounding():
    apart, in_place = trained(), trained(memory_limit=0)
    assert (apart.in_place, in_place.in_place) == (False, True)
    for a, b in zip(weights_of(apart.model), weights_of(in_place.model)):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_other_processes_give_the_same_weights_bit_for_bit(processes):
    alone, together = trained(), trained(processes=processes)
    for a, b in zip(weights_of(together.model), weights_of(alone.model)):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, weights_of(dense_model())[-1])


@pytest.mark.slow
@pytest.mark.parametrize("minibatch", ["independent", "shared"])
def test_models_with_weights_that_are_not_trained(minibatch):
    """A subspace's theta0; and `fit` called twice, which begins with the weights of then."""

    def subspace(**arguments):
        sub = rb.SubspaceModel(dense_model(), 10, basis="hadamard", seed=1)
        nes = trained(model=sub, minibatch=minibatch, **arguments)
        sub.model.set_weights([2 * w for w in sub.model.get_weights()])
        nes.fit(SEEDS, batch_size=1, epochs=3, initial_epoch=2, steps_per_epoch=2, verbose=0)
        return weights_of(sub)[0]

    np.testing.assert_array_equal(subspace(processes=2), subspace())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "error"), [(crashing, "the simulator crashed"), (killed, "terminated abruptly")]
)
def test_what_fails_in_a_process_is_raised_and_leaves_the_weights(objective, error):
    model = dense_model()
    start = weights_of(model)
    with pytest.raises(RuntimeError, match=error):  # BrokenProcessPool is one
        trained(objective, model, processes=2)
    for a, b in zip(weights_of(model), start):
        np.testing.assert_array_equal(a, b)


def test_models_that_cannot_be_made_anew_elsewhere_are_refused():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, keras.layers.Dense(4, activation=lambda x: x)(inputs))
    with pytest.raises(ValueError, match="cannot be made anew in other processes"):
        trained(model=model, processes=2)


def test_models_that_come_out_otherwise_are_refused_too(monkeypatch):
    other = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4)])
    monkeypatch.setattr(keras_api, "deserialize", lambda config, classes: other)
    with pytest.raises(
        ValueError, match=r"gives variables of shapes \[\(5, 4\), \(4,\)\] in place of \[\(5, 6\)"
    ):
        trained(processes=2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"processes": 2, "objective": None}, "processes=2 is for an objective"),
        ({"processes": 0}, "processes=0"),
        ({"processes": 2, "memory_limit": 0}, "memory_limit=0 has offspring evaluated in the model's own"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(arguments, match):
    with pytest.raises(ValueError, match=match):
        trained(**arguments)
