"""Runs on several workers: real processes on this machine, all of them long; and parts of batches."""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from experiments import results, workers
from random_bases.keras_api import GENERATION
from tests.experiments.test_training import assert_same_state, final_state, write_config
from tests.lock_holder import holding

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 600

needs_tf_keras = pytest.mark.skipif(GENERATION == "keras2.6", reason="runs tf-keras, beside Keras 3")


def environment(**more):
    return dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1", **more)


def command(config_file, workdir, number, timeout=120):
    """train.py by the launcher, or by itself if `number` is None."""
    train = [sys.executable, str(ROOT / "scripts" / "train.py"), f"--config={config_file}"]
    train += [f"--workdir={workdir}", "--verbose=2"]
    if number is None:
        return train
    launcher = [sys.executable, str(ROOT / "scripts" / "launch_workers.py")]
    return [*launcher, f"--workers={number}", f"--timeout={timeout}", "--", *train]


def config(path, **changes):
    return write_config(path, **{"epochs": 2, "dimensions": 20, "basis": "hadamard", **changes})


def run(config_file, workdir, number):
    subprocess.run(command(config_file, workdir, number), env=environment(), check=True, timeout=LIMIT)
    return results.read_json(workdir / "result.json")


def weights(workdir):
    state = final_state(workdir)
    return {name: value for name, value in state.items() if re.match(r"model/.*VARIABLE_VALUE", name)}


class _Strategy:
    """A strategy of so many replicas in as many hosts, seen from one of them."""

    def __init__(self, replicas, pipelines, number):
        self.num_replicas_in_sync = replicas
        self.context = tf.distribute.InputContext(pipelines, number, replicas)

    def distribute_datasets_from_function(self, function):
        return function(self.context)


@pytest.mark.parametrize(("replicas", "pipelines"), [(2, 2), (4, 2), (4, 1), (1, 1)])
def test_replicas_see_each_example_once(replicas, pipelines):
    x = np.arange(24).reshape(3, 8, 1)
    batches = tf.data.Dataset.from_tensor_slices((x, x[..., 0]))
    here = replicas // pipelines
    seen = [
        [tuple(part[1]) for part in workers.share_batches(batches, 8, _Strategy(replicas, pipelines, i))
                                           .as_numpy_iterator()]
        for i in range(pipelines)
    ]  # fmt: skip
    for step in range(3):
        parts = [seen[i][step * here + j] for i in range(pipelines) for j in range(here)]
        assert np.concatenate(parts).tolist() == x[step, :, 0].tolist()
        assert {len(part) for part in parts} == {8 // replicas}


def test_batches_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ValueError, match="batch_size=30 must be divisible by the 4 replicas"):
        workers.share_batches(None, 30, _Strategy(4, 2, 0))


def test_directories_of_killed_workers_are_removed_and_those_of_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(workers.strategies, "is_chief", lambda strategy: False)
    names = ("random_bases_worker_dead", "random_bases_worker_alive", "random_bases_worker_new", "another")
    dead, alive, new, another = (tmp_path / name for name in names)
    for directory in (dead, alive, new, another):
        (directory / "checkpoints").mkdir(parents=True)
    for directory in (dead, another):
        (directory / "lock").touch()
    with holding(alive):
        own = workers.own_directory(None, tmp_path / "run")
        assert set(tmp_path.iterdir()) == {own, alive, new, another}
        assert own.name.startswith("random_bases_worker_")
        with pytest.raises(AssertionError), holding(own):
            pass  # not reached: it is locked


@needs_tf_keras
@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 4])
def test_workers_equal_one_process(number, tmp_path):
    """With all the same directions, "shared", K workers compute what one process does."""
    changes = {"compartments": "layer", "augment": False}
    alone = run(config(tmp_path / "one.py", **changes), tmp_path / "one", None)
    several = config(tmp_path / "several.py", strategy="multi_worker", **changes)
    together = run(several, tmp_path / "several", number)
    one, other = weights(tmp_path / "one"), weights(tmp_path / "several")
    assert set(one) == set(other) and len(one) == 4
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(together["validation_accuracy"], alone["validation_accuracy"], atol=0.01)


@needs_tf_keras
@pytest.mark.slow
def test_evolution_over_workers_equals_one_process(tmp_path):
    changes = {"method": "nes", "dimensions": 8, "learning_rate": 2.0, "basis": "low_rank", "augment": False}
    alone = run(config(tmp_path / "one.py", **changes), tmp_path / "one", None)
    together = run(config(tmp_path / "two.py", strategy="multi_worker", **changes), tmp_path / "two", 2)
    one, other = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert set(one) == set(other) and len(one) == 4
    for name, value in one.items():
        np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(together["validation_accuracy"], alone["validation_accuracy"], atol=0.01)


# Workers with directions and a memory of their own; workers that evaluate some offspring each.
KILLED = {
    "descent": {"replicas": "split", "error_feedback": 1.0},
    "evolution": {"method": "nes", "dimensions": 8, "learning_rate": 2.0, "basis": "normal"},
}


@needs_tf_keras
@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_killed_workers_end_with_the_same_weights(name, tmp_path):
    """Workers killed at random moments, twice; started again, the run goes on from the last epoch."""
    config_file = config(tmp_path / "config.py", strategy="multi_worker", epochs=40, **KILLED[name])
    run(config_file, tmp_path / "undisturbed", 2)
    generator, workdir = random.Random(2), tmp_path / "killed"
    for _ in range(2):
        rows = len(results.read_metrics(workdir / "metrics.csv"))
        process = subprocess.Popen(command(config_file, workdir, 2), env=environment())
        deadline = time.monotonic() + LIMIT
        while len(results.read_metrics(workdir / "metrics.csv")) <= rows:
            assert process.poll() is None and time.monotonic() < deadline, "the run does not get on"
            time.sleep(0.01)
        time.sleep(generator.uniform(0.0, 1.0))
        os.kill(worker_of(process, generator.randrange(2)), signal.SIGKILL)
        assert process.wait(timeout=60) != 0
    assert not (workdir / "result.json").exists(), "it ended before it was killed: no test"
    run(config_file, workdir, 2)
    assert_same_state(weights(tmp_path / "undisturbed"), weights(workdir))
    assert len(results.read_metrics(workdir / "metrics.csv")) == 40


def worker_of(launcher, index):
    """The process id of a launcher's worker."""
    for child in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        if f'"index": {index}'.encode() in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    raise AssertionError(f"worker {index} does not run")


@needs_tf_keras
@pytest.mark.slow
def test_a_hanging_worker_is_named(tmp_path):
    config_file = config(tmp_path / "config.py", strategy="multi_worker", epochs=10000)
    process = subprocess.Popen(
        command(config_file, tmp_path / "run", 2, timeout=20),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + LIMIT
    while not results.read_metrics(tmp_path / "run" / "metrics.csv"):
        assert process.poll() is None and time.monotonic() < deadline, "the run does not begin"
        time.sleep(0.05)
    os.kill(worker_of(process, 1), signal.SIGSTOP)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 124
    # After 5 s if TensorFlow's own health check ends worker 0 before our timeout.
    assert re.search("^Worker 1 gives no sign of life since (5|20) s; ending all.$", errors, re.MULTILINE)
