"""One run from one configuration: what it writes, that it can be killed, and what it refuses."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from experiments import checkpoints, exit_status, methods, results, training
from random_bases import locks
from random_bases.keras_api import keras
from tests.lock_holder import holding

ROOT = Path(__file__).resolve().parents[2]


def small_config(**changes):
    config = training.default_config()
    config.update({"epochs": 2, "dimensions": 20, "basis": "hadamard", **changes})
    return config


def write_config(path, **changes):
    """A configuration file as in configs/."""
    lines = "".join(f"    config.{name} = {value!r}\n" for name, value in changes.items())
    path.write_text(
        "from experiments.training import default_config\n\n\n"
        f"def get_config():\n    config = default_config()\n{lines}    return config\n"
    )
    return path


def train_command(config_file, workdir, *flags):
    script = str(ROOT / "scripts" / "train.py")
    return [sys.executable, script, f"--config={config_file}", f"--workdir={workdir}", "--verbose=0", *flags]


def environment():
    return dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")


def final_state(workdir):
    """Every array of a run's last checkpoint: weights, optimizer and counters."""
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    state = {name: reader.get_tensor(name) for name in names if "save_counter" not in name}
    assert len(state) > 4
    return state


def assert_same_state(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of RBD: (configuration, directory, result)."""
    workdir = tmp_path_factory.mktemp("runs") / "rbd"
    config = small_config(epochs=4)
    return config, workdir, training.run(config, workdir, verbose=0)


def test_what_a_run_writes(finished):
    config, workdir, result = finished
    assert results.read_json(workdir / "config.json") == config.to_dict()
    assert results.read_json(workdir / "result.json") == result
    rows = results.read_metrics(workdir / "metrics.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [row["val_accuracy"] for row in rows] == result["validation_accuracy"]
    assert list((workdir / "tensorboard").rglob("*tfevents*"))
    assert result["status"] == "finished"
    assert result["parameters"] == 64 * 128 + 128 + 128 * 10 + 10
    assert result["trained_dimensions"] == 20
    assert result["steps_per_epoch"] == 1097 // 32
    assert result["seed"] == 0
    assert {"python", "tensorflow", "keras", "numpy", "random_bases"} <= set(result["versions"])
    assert result["milliseconds_per_step"] > 0
    # It learns: ten classes, and the loss falls.
    assert result["loss"][-1] < result["loss"][0] < np.log(10) * 1.2


def test_a_finished_run_is_not_run_again(finished):
    config, workdir, result = finished
    before = (workdir / "metrics.csv").stat().st_mtime_ns
    assert training.run(config, workdir, verbose=0) == result
    assert (workdir / "metrics.csv").stat().st_mtime_ns == before


def test_a_finished_run_goes_on_with_more_epochs(finished, tmp_path):
    config, workdir, result = finished
    training.run(small_config(epochs=1), tmp_path, verbose=0)
    training.run(config, tmp_path, verbose=0)
    assert_same_state(final_state(workdir), final_state(tmp_path))
    longer = results.read_json(tmp_path / "result.json")
    assert longer["validation_accuracy"] == result["validation_accuracy"]
    assert results.read_json(tmp_path / "config.json")["epochs"] == 4
    with pytest.raises(ValueError, match="another configuration .*epochs: 4 != 2"):
        training.run(small_config(epochs=2), tmp_path, verbose=0)


def test_a_killed_run_may_end_with_fewer_epochs_than_it_was_meant_to_have(tmp_path):
    training.run(small_config(epochs=1), tmp_path, verbose=0)
    # As it is when more were asked for and the process was killed before another one ended.
    (tmp_path / "result.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(small_config(epochs=20).to_dict()))
    result = training.run(small_config(epochs=2), tmp_path, verbose=0)
    assert len(result["accuracy"]) == 2
    assert results.read_json(tmp_path / "config.json")["epochs"] == 2


def test_more_epochs_of_a_falling_learning_rate_are_another_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(small_config(epochs=1, schedule="linear").to_dict()))
    with pytest.raises(ValueError, match="another configuration .*epochs: 1 != 2"):
        training.run(small_config(epochs=2, schedule="linear"), tmp_path, verbose=0)


def test_another_configuration_is_refused_and_nothing_lost(finished):
    config, workdir, result = finished
    with pytest.raises(ValueError, match="another configuration .*seed: 0 != 1"):
        training.run(small_config(epochs=4, seed=1), workdir, verbose=0)
    assert results.read_json(workdir / "result.json") == result


def test_overwrite_starts_anew_and_a_run_is_a_function_of_its_configuration(finished, tmp_path):
    config, workdir, _ = finished
    again = tmp_path / "again"
    training.run(small_config(epochs=1, seed=5), again, verbose=0)
    training.run(config, again, overwrite=True, verbose=0)
    assert len(results.read_metrics(again / "metrics.csv")) == 4
    assert_same_state(final_state(workdir), final_state(again))


def test_going_on_after_an_interruption_is_bit_identical(finished, tmp_path, monkeypatch):
    config, workdir, _ = finished

    class Interrupted(Exception):
        pass

    def interrupt(self, epoch, logs=None):
        if epoch == 2:  # the row of epoch 2 is written, its checkpoint is not
            raise Interrupted

    with monkeypatch.context() as patched:
        original = checkpoints.EpochCheckpoint.on_epoch_end
        patched.setattr(
            checkpoints.EpochCheckpoint,
            "on_epoch_end",
            lambda self, epoch, logs=None: interrupt(self, epoch) or original(self, epoch, logs),
        )
        with pytest.raises(Interrupted):
            training.run(config, tmp_path / "run", verbose=0)
    assert len(results.read_metrics(tmp_path / "run" / "metrics.csv")) == 3
    assert not (tmp_path / "run" / "result.json").exists()
    resumed = training.run(config, tmp_path / "run", verbose=0)
    assert_same_state(final_state(workdir), final_state(tmp_path / "run"))
    assert len(resumed["accuracy"]) == 4
    assert resumed["accuracy"] == finished[2]["accuracy"]


def killed_and_restarted(config_file, workdir, kills, generator):
    """Runs train.py to its end, killed (SIGKILL) so many times at random moments on the way."""
    metrics = workdir / "metrics.csv"
    for _ in range(kills):
        rows = len(results.read_metrics(metrics))
        process = subprocess.Popen(train_command(config_file, workdir), env=environment())
        deadline = time.monotonic() + 120
        while process.poll() is None and len(results.read_metrics(metrics)) <= rows:
            assert time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (workdir / "result.json").exists(), "it ended before it was killed: no test"
    subprocess.run(train_command(config_file, workdir), env=environment(), check=True, timeout=240)


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    changes = {"epochs": 30, "dimensions": 20, "basis": "hadamard"}
    training.run(small_config(**changes), tmp_path / "undisturbed", verbose=0)
    config_file = write_config(tmp_path / "config.py", **changes)
    killed_and_restarted(config_file, tmp_path / "killed", 1, random.Random(0))
    assert_same_state(final_state(tmp_path / "undisturbed"), final_state(tmp_path / "killed"))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"method": "sgd"}, {"method": "fpd"}, {"optimizer": "adam"}], ids=str)
def test_runs_killed_three_times_end_with_the_same_weights(tmp_path, changes):
    changes = {"epochs": 150, "dimensions": 50, "learning_rate": 0.01, **changes}
    training.run(small_config(**{"basis": "normal", **changes}), tmp_path / "undisturbed", verbose=0)
    config_file = write_config(tmp_path / "config.py", basis="normal", **changes)
    killed_and_restarted(config_file, tmp_path / "killed", 3, random.Random(1))
    assert_same_state(final_state(tmp_path / "undisturbed"), final_state(tmp_path / "killed"))


def test_divergence_is_an_error_that_keeps_the_metrics(tmp_path):
    config_file = write_config(tmp_path / "config.py", method="sgd", learning_rate=1e30, epochs=3)
    command = train_command(config_file, tmp_path / "run")
    done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, timeout=240)
    assert done.returncode == exit_status.DIVERGED
    assert "diverged" in done.stderr.decode() and "learning rate" in done.stderr.decode()
    config = training.default_config()
    config.update({"method": "sgd", "learning_rate": 1e30, "epochs": 3})
    with pytest.raises(training.DivergedError, match="diverged.*learning rate"):  # as the first one wrote
        training.run(config, tmp_path / "run", verbose=0)
    result = results.read_json(tmp_path / "run" / "result.json")
    assert result["status"] == "diverged"


@pytest.mark.slow
def test_the_script_refuses_bad_configurations(tmp_path):
    config_file = write_config(tmp_path / "config.py", epochs=1)
    bad = [
        (["--config.no_such_key=1"], "no_such_key"),
        (["--config.dataset=mnist", f"--data_dir={tmp_path}"], f"{tmp_path}/mnist.npz"),
    ]
    for flags, message in bad:
        command = train_command(config_file, tmp_path / "run", *flags, "--overwrite")
        done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, timeout=120)
        assert done.returncode != 0 and message in done.stderr.decode(), done.stderr.decode()[-2000:]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"method": "adam"}, "config.method='adam' is unknown"),
        ({"method": "fpd", "optimizer": "adam"}, "would leave the fixed subspace"),
        ({"epochs": 0}, "config.epochs=0"),
        ({"batch_size": -1}, "config.batch_size=-1"),
        ({"seed": -1}, "config.seed=-1"),
        ({"learning_rate": 0.0}, "config.learning_rate=0.0"),
        ({"learning_rate": float("nan")}, "config.learning_rate=nan"),
        ({"error_feedback": 1.5}, "config.error_feedback=1.5 must be from 0 to 1"),
        (
            {"error_feedback": 1.0, "method": "sgd"},
            "config.error_feedback=1.0 has no effect with config.method='sgd'",
        ),
        (
            {"regularization": 1e-5, "method": "sgd"},
            "config.regularization=1e-05 has no effect with config.method='sgd'",
        ),
        ({"regularization": -1.0, "method": "twa"}, "config.regularization=-1.0 must be at least 0"),
        ({"crop_padding": -1}, "config.crop_padding=-1 must be at least 0"),
        ({"brightness": float("inf")}, "config.brightness=inf must be at least 0"),
        (
            {"brightness": 0.5, "augment": False},
            "config.brightness=0.5 has no effect with config.augment=False",
        ),
        ({"basis": "fourier"}, "basis='fourier' is unknown; allowed: "),
        ({"dimensions": 0}, "dimensions=0"),
        ({"dimensions": 9611}, "dimensions=9611 is more than the 9610 parameters"),
        ({"network": "rnn"}, "config.network='rnn' is unknown; allowed: 'fc'"),
        ({"dataset": "imagenet"}, "config.dataset='imagenet' is unknown; allowed: 'digits'"),
        ({"crop_padding": 9}, "config.crop_padding=9 must be at most 8"),
        ({"batch_size": 2000}, "batch_size=2000"),
        ({"optimizer": "sdg"}, "config.optimizer='sdg' is unknown to Keras"),
        ({"record": "7"}, "config.record='7' is not possible: 34 steps are executed at once"),
        ({"strategy": "mirored"}, "mirored"),
    ],
)
def test_bad_values_are_named_and_leave_nothing(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        training.run(small_config(**changes), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {"lock"}


def test_a_refused_configuration_overwrites_nothing(finished):
    config, workdir, result = finished
    with pytest.raises(ValueError, match="rnn"):
        training.run(small_config(network="rnn"), workdir, overwrite=True)
    assert training.run(config, workdir) == result and final_state(workdir)


def test_a_directory_where_another_process_trains_is_refused(finished, tmp_path):
    config, workdir, result = finished
    with holding(tmp_path):
        with pytest.raises(locks.InUseError, match=f"^{tmp_path} is in use"):
            training.run(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with holding(workdir):  # to read a result there is no need to write
        assert training.run(config, workdir) == result


def test_a_finished_run_writes_nothing(finished, tmp_path):
    """So its result comes from a read-only directory, too."""
    config, workdir, result = finished
    copy = shutil.copytree(workdir, tmp_path / "copy")
    (copy / "lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    directory = copy.stat().st_mtime_ns
    assert training.run(config, copy, verbose=0) == result
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    assert copy.stat().st_mtime_ns == directory


@contextlib.contextmanager
def largest_file(size):
    """Files that this process writes cannot be larger, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 50], ids=["checkpoints or events", "configuration"])
def test_a_full_disk_is_named_and_can_be_gone_on_from(size, finished, tmp_path):
    config, workdir, result = finished
    with largest_file(size), pytest.raises(OSError, match="File too large") as raised:
        training.run(config, tmp_path, verbose=0)
    assert str(tmp_path) in str(raised.value)
    training.run(config, tmp_path, verbose=0)
    assert_same_state(final_state(workdir), final_state(tmp_path))


def test_tensorflows_errors_of_files_are_named_and_others_stay(tmp_path):
    (tmp_path / "file").touch()
    checkpoint = tf.train.Checkpoint(number=tf.Variable(1.0))
    with pytest.raises(OSError, match=f"{tmp_path}/file") as raised, training._naming_files(tmp_path):
        checkpoint.write(str(tmp_path / "file" / "ckpt"))
    assert "{{" not in str(raised.value) and "\n" not in raised.value.strerror
    with pytest.raises(tf.errors.OpError), training._naming_files(tmp_path):
        tf.linalg.matmul(tf.ones([2, 3]), tf.ones([2, 3]))


@pytest.mark.slow
def test_the_same_command_twice_is_one_run(finished, tmp_path):
    """Whichever is the first to lock trains as if it were alone; the other one ends with its own status."""
    config_file = write_config(tmp_path / "config.py", epochs=4, dimensions=20, basis="hadamard")
    command = train_command(config_file, tmp_path / "run")
    both = [subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.wait(timeout=240): process.stderr.read() for process in both}
    for process in both:
        process.stderr.close()
    assert set(said) == {exit_status.FINISHED, exit_status.IN_USE}
    assert f"In use: {tmp_path}/run is in use" in said[exit_status.IN_USE]
    assert_same_state(final_state(finished[1]), final_state(tmp_path / "run"))
    assert len(results.read_metrics(tmp_path / "run" / "metrics.csv")) == 4


def test_error_feedback_reaches_the_optimizer():
    assert methods.build_optimizer(small_config(method="rbd")).rule.error_feedback is False
    config = small_config(method="rbd", basis="hadamard", error_feedback=0.5)
    assert methods.build_optimizer(config).rule.error_feedback == 0.5


def test_unknown_missing_and_mistyped_keys_are_named():
    config = training.default_config()
    with config.unlocked():
        config.learning_rte = 0.1
    with pytest.raises(ValueError, match="learning_rte"):
        training.check_config(config)
    with config.unlocked():
        del config["learning_rte"], config["seed"]
    with pytest.raises(ValueError, match=r"lacks \['seed'\]"):
        training.check_config(config)
    config = training.default_config()
    with config.ignore_type():
        config.dimensions = "250"
    with pytest.raises(TypeError, match="config.dimensions='250' must be of type int"):
        training.check_config(config)


def test_an_augmentation_of_ones_own(finished, tmp_path):
    own = training._load(small_config(crop_padding=1, brightness=0.25))
    paper = training._load(small_config())
    assert own.train.preprocessing == paper.train.preprocessing._replace(pad=1, brightness=0.25)
    assert own.test.preprocessing == own.validation.preprocessing == paper.test.preprocessing
    training.run(small_config(epochs=1, brightness=20.0), tmp_path, verbose=0)
    (dazzled,) = results.read_metrics(tmp_path / "metrics.csv")
    assert dazzled["loss"] > 2 * results.read_metrics(finished[1] / "metrics.csv")[0]["loss"]


def test_learning_rates():
    def learning_rate(config):
        return methods.get(config.method).learning_rate(config)

    config = training.default_config()
    config.learning_rates = {"sgd": 0.5, "fpd": 2.0, "rbd": 3.0}
    assert [learning_rate(small_config(learning_rates=config.learning_rates, method=m))
            for m in ("sgd", "fpd", "rbd")] == [0.5, 2.0, 3.0]  # fmt: skip
    assert learning_rate(small_config(learning_rate=0.25)) == 0.25


@pytest.mark.parametrize(
    "changes",
    [{"method": "rbd"}, pytest.param({"method": "fpd", "optimizer": "adam"}, marks=pytest.mark.slow)],
    ids=str,
)
def test_a_factored_basis_is_fused_into_the_network_and_goes_on(tmp_path, changes):
    changes = {"basis": "kronecker", "dimensions": 40, "learning_rate": 0.1, **changes}
    two = training.run(small_config(epochs=2, **changes), tmp_path / "two", verbose=0)
    training.run(small_config(epochs=1, **changes), tmp_path / "one", verbose=0)
    gone_on = training.run(small_config(epochs=2, **changes), tmp_path / "one", verbose=0)
    assert gone_on["accuracy"] == two["accuracy"] and two["trained_dimensions"] == 40
    assert_same_state(final_state(tmp_path / "two"), final_state(tmp_path / "one"))
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(12)])
    prepared = methods.get(changes["method"]).prepare(small_config(**changes), network)
    assert prepared.redraw_every == (1 if changes["method"] == "rbd" else None)


def test_what_needs_the_whole_gradient_is_not_fused():
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(12)])
    for changes in ({"error_feedback": 1.0}, {"replicas": "split"}, {"basis": "hadamard"}):
        config = small_config(**{"method": "rbd", "basis": "kronecker", "dimensions": 40, **changes})
        assert methods.get("rbd").prepare(config, network) is network
        optimizer = methods.build_optimizer(config)
        assert optimizer.get_config()["basis"] == config.basis
    with pytest.raises(ValueError, match="config.record='epoch' is not possible with config.basis"):
        training.check_config(small_config(method="rbd", basis="kronecker", record="epoch"))


@pytest.mark.parametrize("method, redraw_every", [("rbd", 1), ("fpd", None)])
def test_the_optimizer_of_a_method(method, redraw_every):
    optimizer = methods.build_optimizer(small_config(method=method, compartments="2", seed=3))
    config = optimizer.get_config()
    assert config["redraw_every"] == redraw_every
    assert (config["dimensions"], config["compartments"], config["seed"]) == (20, 2, 3)
    sizes = methods.build_optimizer(small_config(method=method, compartments="9600,10"))
    assert sizes.get_config()["compartments"] == [9600, 10]


def test_epochs_are_cut_into_equal_executions():
    assert training.steps_per_execution(1562) == 142
    assert training.steps_per_execution(34) == 34
    assert training.steps_per_execution(997) == 1
