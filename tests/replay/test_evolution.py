"""Logs of evolution strategies: a run from what each direction counted for, without its data."""

import numpy as np
import pytest

import random_bases as rb
from random_bases.keras_api import GENERATION, keras
from tests.optimizers.helpers import assert_close, assert_differ, assert_equal, data, dense_model
from tests.replay.test_replay import KeepWeights, assert_weights

MEZO = {"population": 2, "antithetic": True, "fitness": "raw", "memory_limit": 0, "sigma": 0.01}
UPDATES = 6


def distance(model):
    """A Python objective."""
    return float(sum(np.square(weight - 1).sum() for weight in model.get_weights()))


def trainer(build=dense_model, **arguments):
    model = build()
    if "objective" not in arguments:
        model.compile(loss=keras.losses.MeanSquaredError())
    if "optimizer" not in arguments:
        arguments.setdefault("learning_rate", 0.02)
    arguments = {"population": 6, "sigma": 0.1, "basis": "rademacher", "seed": 3, **arguments}
    return rb.NaturalEvolutionStrategies(model, **arguments)


def fit(nes, epochs=2, callbacks=(), **arguments):
    xy = () if nes._objective is not None else data()
    arguments = {"batch_size": 8, **arguments} if xy else arguments
    nes.fit(
        *xy, epochs=epochs, steps_per_epoch=UPDATES // 2, verbose=0, callbacks=list(callbacks), **arguments
    )
    return nes


PLAIN = {
    "momentum": {"optimizer": lambda: keras.optimizers.SGD(0.02, momentum=0.9)},
    # NumPy's integers, too: the header is JSON.
    "low rank": {"basis": "low_rank", "rank": np.int64(2), "antithetic": True, "minibatch": "shared"},
}
SLOW = {
    "a Python objective": {"objective": distance},
    "normal": {"basis": "normal", "antithetic": True, "fitness": "normalized"},
    "compartments": {"compartments": "layer"},
    "mezo": MEZO,
    "mezo with Adam": {**MEZO, "optimizer": lambda: keras.optimizers.Adam(0.02)},
    "mezo, whole directions": {**MEZO, "basis": "hadamard"},
}


@pytest.mark.parametrize("way", [*PLAIN, *(pytest.param(way, marks=pytest.mark.slow) for way in SLOW)])
def test_every_update_is_rebuilt_bit_for_bit(way, tmp_path):
    arguments = dict({**PLAIN, **SLOW}[way])
    if "optimizer" in arguments:
        arguments["optimizer"] = arguments["optimizer"]()
    kept = KeepWeights()
    nes = fit(trainer(**arguments), callbacks=[kept, rb.ReplayLog(tmp_path / "log")])
    for step in (1, UPDATES):
        assert_weights(rb.replay(tmp_path / "log", dense_model(), step), kept.after[step])
    assert_differ(nes.model, dense_model())


def test_a_model_tuned_by_mezo_is_one_number_an_update(tmp_path):
    path = tmp_path / "log"
    nes = trainer(**MEZO)
    fit(nes, callbacks=[rb.ReplayLog(path)])
    header_and_end = path.stat().st_size - UPDATES * (1 + 8 + 4 + 4 + 16) - 2 * (1 + 8 + 32 + 16)
    fit(nes, epochs=4, initial_epoch=2, callbacks=[rb.ReplayLog(path)])
    assert path.stat().st_size == header_and_end + 2 * UPDATES * (1 + 8 + 4 + 4 + 16) + 4 * (1 + 8 + 32 + 16)
    assert_equal(rb.replay(path, dense_model()), nes.model)


@pytest.mark.parametrize("by", ["a callback", "a schedule"])
def test_learning_rates_may_change(by, tmp_path):
    rate, callbacks = 0.02, []
    if by == "a callback":
        callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch: rate / (epoch + 1))]
        nes = trainer(**MEZO)
    else:
        nes = trainer(learning_rate=keras.optimizers.schedules.ExponentialDecay(rate, 2, 0.5))
    fit(nes, callbacks=[*callbacks, rb.ReplayLog(tmp_path / "log")])
    assert_equal(rb.replay(tmp_path / "log", dense_model()), nes.model)


def test_logging_does_not_change_the_run_and_ends_with_its_fit(tmp_path):
    plain = fit(trainer())
    logged = trainer()
    fit(logged, epochs=1, callbacks=[rb.ReplayLog(tmp_path / "log")])
    size = (tmp_path / "log").stat().st_size
    fit(logged, initial_epoch=1)
    assert (tmp_path / "log").stat().st_size == size
    assert_close(logged.model, plain.model)
    with pytest.raises(
        rb.ReplayError, match=f"has {UPDATES // 2} steps, but the optimizer has made {UPDATES}"
    ):
        fit(logged, epochs=3, initial_epoch=2, callbacks=[rb.ReplayLog(tmp_path / "log")])


def test_the_log_of_another_run_is_not_overwritten(tmp_path):
    fit(trainer(), epochs=1, callbacks=[rb.ReplayLog(tmp_path / "log")])
    before = (tmp_path / "log").read_bytes()
    for changed in (
        {"sigma": 0.2},
        {"seed": 4},
        {"population": 4},
        {"basis": "hadamard"},
        {"antithetic": True},
    ):
        with pytest.raises(rb.ReplayError, match="another run: it differs in .*'evolution'"):
            fit(trainer(**changed), callbacks=[rb.ReplayLog(tmp_path / "log")])
    assert (tmp_path / "log").read_bytes() == before


def test_what_cannot_be_logged_is_refused_by_name(tmp_path):
    descent = rb.RandomBasesDescent("sgd", dimensions=4, basis="rademacher", seed=0)
    with pytest.raises(TypeError, match="optimizer of NaturalEvolutionStrategies is a RandomBasesDescent"):
        fit(trainer(optimizer=descent), callbacks=[rb.ReplayLog(tmp_path / "log")])
    with pytest.raises(ValueError, match="two record the updates of one fit; allowed: one ReplayLog"):
        fit(trainer(), callbacks=[rb.ReplayLog(tmp_path / "a"), rb.ReplayLog(tmp_path / "b")])


@pytest.mark.skipif(GENERATION == "keras2.6", reason="Keras 2.6 has no weight decay in optimizers")
def test_what_a_configuration_does_not_tell_is_refused(tmp_path):
    adam = keras.optimizers.AdamW(0.02, weight_decay=0.1)
    adam.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match="exclude_from_weight_decay left out"):
        fit(trainer(optimizer=adam), callbacks=[rb.ReplayLog(tmp_path / "log")])
