"""Runs that record a trajectory, and those that average and train in it: one network on digits."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

import random_bases as rb
from experiments import checkpoints, datasets, methods, networks, results, training, trajectories
from tests.experiments.test_training import ROOT, environment, write_config


def config_of(**changes):
    config = training.default_config()
    config.update({"method": "sgd", "epochs": 6, "learning_rates": {"sgd": 0.1, "twa": 0.2, "dldr": 0.2}})
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """(the trajectory's directory, the result of the run that recorded it)."""
    workdir = tmp_path_factory.mktemp("runs") / "sgd"
    result = training.run(config_of(record="epoch"), workdir, verbose=0)
    return workdir / "trajectory", result


def accuracy_of(weights):
    """Of a network with these weights, [D], on the validation split."""
    data = datasets.load("digits")
    model = networks.get("fc", data.input_shape, data.num_classes)
    rb.averaging.snapshots.set_weights(model, weights, [])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.evaluate(datasets.evaluation_batches(data.validation, 1000), verbose=0)[1]


def test_a_run_records_its_weights(recorded):
    directory, result = recorded
    trajectory = rb.Trajectory(directory)
    assert trajectory.steps == [34 * epoch for epoch in range(7)]
    found = [accuracy_of(weights) for weights in trajectory.weights[1:]]
    np.testing.assert_allclose(found, result["validation_accuracy"], atol=1e-6)


def test_swa_is_the_average_of_the_chosen_snapshots(recorded, tmp_path):
    directory, _ = recorded
    config = config_of(method="swa", trajectory=str(directory), snapshots="3:6")
    result = training.run(config, tmp_path, verbose=0)
    expected = accuracy_of(np.mean(rb.Trajectory(directory).weights[3:6], axis=0))
    assert result["validation_accuracy"] == [pytest.approx(expected, abs=1e-6)]
    assert (result["status"], result["learning_rate"]) == ("finished", None)
    assert result["parameters"] == 9610


@pytest.mark.parametrize("method, dimensions", [("twa", 3), ("dldr", 2)])
def test_training_in_the_span_lowers_the_loss(recorded, tmp_path, method, dimensions):
    directory, _ = recorded
    config = config_of(
        method=method,
        trajectory=str(directory),
        snapshots=":3",
        dimensions=2,
        schedule="linear",
        regularization=1e-5,
    )
    result = training.run(config, tmp_path, verbose=0)
    assert result["trained_dimensions"] == dimensions
    assert result["parameters"] == 9610
    assert result["loss"][-1] < result["loss"][0]
    # Better than what it starts from.
    weights = rb.Trajectory(directory).weights[:3]
    start = np.mean(weights, axis=0) if method == "twa" else weights[0]
    assert result["validation_accuracy"][-1] > accuracy_of(start)


def test_bfgs_reaches_a_lower_loss_than_the_weights_it_was_given(recorded, tmp_path):
    directory, sgd = recorded
    config = config_of(
        method="dldr", optimizer="bfgs", trajectory=str(directory), dimensions=4, epochs=40, augment=False
    )
    result = training.run(config, tmp_path, verbose=0)
    assert result["trained_dimensions"] == 4
    assert result["loss"][0] < sgd["loss"][-1]
    assert result["iterations"] <= 40 <= result["evaluations"] + 40


def test_a_recording_that_was_interrupted_is_the_same(recorded, tmp_path, monkeypatch):
    directory, _ = recorded

    class Interrupted(Exception):
        pass

    original = checkpoints.EpochCheckpoint.on_epoch_end

    def interrupt(self, epoch, logs=None):
        if epoch == 2:  # its snapshot is written, its checkpoint is not
            raise Interrupted
        original(self, epoch, logs)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints.EpochCheckpoint, "on_epoch_end", interrupt)
        with pytest.raises(Interrupted):
            training.run(config_of(record="epoch"), tmp_path, verbose=0)
    assert rb.Trajectory(tmp_path / "trajectory").steps[-1] == 3 * 34
    training.run(config_of(record="epoch"), tmp_path, verbose=0)
    whole, resumed = rb.Trajectory(directory), rb.Trajectory(tmp_path / "trajectory")
    assert whole.steps == resumed.steps
    for one, other in zip(whole.weights, resumed.weights):
        np.testing.assert_array_equal(one, other)


def test_the_linear_schedule(tmp_path):
    config = config_of(schedule="linear", epochs=4, learning_rate=0.5)
    (schedule,) = methods.get(config.method).callbacks(config, tmp_path)
    rates = [schedule.schedule(epoch) for epoch in range(4)]
    np.testing.assert_allclose(rates, [0.5, 0.375, 0.25, 0.125])


def test_inspect(recorded, tmp_path):
    directory, _ = recorded
    explained = trajectories.inspect(directory, tmp_path / "figure.png")
    ratio = rb.bases.trajectory.explained_variance_ratio(rb.Trajectory(directory).weights)
    assert list(explained) == [1, 2, 3, 5]
    assert explained[3] == pytest.approx(ratio[:3].sum())
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"method": "twa"}, "config.method='twa' needs config.trajectory"),
        ({"method": "swa", "trajectory": "nowhere"}, "nowhere holds no trajectory"),
        ({"record": "often"}, "config.record='often' is not possible"),
        ({"snapshots": "3"}, "config.snapshots='3' is not possible"),
        ({"schedule": "cosine"}, "config.schedule='cosine' is unknown"),
        ({"optimizer": "bfgs"}, "config.optimizer='bfgs' is for config.method=\"dldr\" only"),
        ({"learning_rates": {"fpd": 1.0}}, "no rate for config.method='sgd'"),
        ({"learning_rates": {"spd": 1.0}}, r"config.learning_rates has unknown methods \['spd'\]"),
    ],
)
def test_bad_values_are_named(changes, message, tmp_path):
    config = config_of()
    if "learning_rates" in changes:
        config.learning_rates = changes.pop("learning_rates")
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        training.run(config, tmp_path, verbose=0)


def test_no_such_snapshots(recorded, tmp_path):
    config = config_of(method="swa", trajectory=str(recorded[0]), snapshots="7:")
    with pytest.raises(ValueError, match="no snapshots '7:'"):
        training.run(config, tmp_path, verbose=0)


def script(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "averaging.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment(), capture_output=True, timeout=240)


@pytest.mark.slow
def test_the_script_inspects(recorded, tmp_path):
    done = script("inspect", f"--trajectory={recorded[0]}", f"--workdir={tmp_path}")
    assert "| 5          |" in done.stdout.decode(), done.stderr.decode()
    assert (tmp_path / "explained_variance.png").exists()


def test_a_directory_without_runs_has_nothing_to_compare(tmp_path):
    with pytest.raises(ValueError, match="no finished runs"):
        trajectories.compare(tmp_path)


@pytest.mark.slow
def test_the_script_records_and_trains(tmp_path):
    rates = {"sgd": 0.1, "twa": 0.2}
    config = write_config(tmp_path / "config.py", method="twa", learning_rates=rates, epochs=2)
    done = script("record", f"--config={config}", f"--workdir={tmp_path / 'sgd'}", "--verbose=0")
    assert done.returncode == 0, done.stderr.decode()
    trajectory = f"--trajectory={tmp_path / 'sgd' / 'trajectory'}"
    done = script("train", f"--config={config}", trajectory, f"--workdir={tmp_path / 'twa'}", "--verbose=0")
    assert "validation accuracy" in done.stdout.decode(), done.stderr.decode()
    assert results.read_json(tmp_path / "twa" / "result.json")["trained_dimensions"] == 3
    done = script("compare", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr.decode()
    compared = results.read_json(tmp_path / "comparison.json")
    assert compared["sgd"]["epochs"] == [1, 2]
    assert compared["twa"]["epochs"] == [3, 4]
    assert (tmp_path / "comparison.png").exists()
    shutil.rmtree(tmp_path / "sgd" / "trajectory")
    done = script("inspect", f"--workdir={tmp_path / 'sgd'}")
    assert (done.returncode, "holds no trajectory" in done.stderr.decode()) == (2, True)
