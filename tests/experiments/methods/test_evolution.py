"""Runs by evolution strategies: images are counted, interruptions leave no trace."""

import numpy as np
import pytest
import tensorflow as tf

from experiments import results, training

STEPS = 1097 // 32  # batches in an epoch of the digits


def config_of(method="nes", **changes):
    config = training.default_config()
    config.update({"method": method, "dimensions": 8, "epochs": 3, "learning_rate": 2.0, **changes})
    return config


def updates_made(workdir):
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints"))
    (name,) = {
        name
        for name in reader.get_variable_to_shape_map()
        if name.startswith("optimizer/") and name.split("/")[1].lstrip("_") in ("iter", "iterations")
    }
    return int(reader.get_tensor(name))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("evolution") / "nes"
    return workdir, training.run(config_of(), workdir, verbose=0)


def test_an_epoch_is_an_epoch_of_images(finished):
    workdir, result = finished
    assert result["steps_per_epoch"] == STEPS / 8
    assert updates_made(workdir) == int(3 * STEPS / 8)
    assert result["trained_dimensions"] == 8
    assert len(result["validation_accuracy"]) == 3
    assert np.isfinite(result["loss"]).all()


def test_a_run_that_was_interrupted_ends_with_the_same_weights(finished, tmp_path, monkeypatch):
    workdir, _ = finished

    class Interrupting(training._EpochSeconds):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt
            super().on_epoch_begin(epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_EpochSeconds", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            training.run(config_of(), tmp_path / "run", verbose=0)
    training.run(config_of(), tmp_path / "run", verbose=0)
    one, other = (
        {
            name: tf.train.load_checkpoint(str(run / "checkpoints")).get_tensor(name)
            for name, _ in tf.train.list_variables(str(run / "checkpoints"))
            if "GRAPH" not in name and "save_counter" not in name
        }
        for run in (workdir, tmp_path / "run")
    )
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_the_hybrid_updates_once_a_batch(tmp_path):
    result = training.run(
        config_of("rbd-nes", epochs=1, learning_rate=0.05, antithetic=True), tmp_path / "run", verbose=0
    )
    assert result["steps_per_epoch"] == STEPS
    assert updates_made(tmp_path / "run") == STEPS
    rows = results.read_metrics(tmp_path / "run" / "metrics.csv")
    assert rows[0]["val_accuracy"] == result["validation_accuracy"][0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"fitness": "best"}, "config.fitness='best' is unknown; allowed"),
        ({"sigma": -1.0}, "config.sigma=-1.0 must be positive"),
        ({"dimensions": 7, "antithetic": True}, "config.dimensions=7 must be even"),
        ({"dimensions": 1}, "config.dimensions=1 must be an int of at least 2"),
        ({"dimensions": 250}, "an update takes 250 batches, an epoch has only 34"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        training.run(config_of(**changes), tmp_path / "run", verbose=0)
