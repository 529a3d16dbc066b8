"""Searches of an intrinsic dimension: what they write, that they can be killed, what they refuse."""

import ast
import csv
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import datasets, intrinsic, networks, reinforcement, results, training
from random_bases import locks
from random_bases.batches import without_autotuning
from tests.lock_holder import holding

ROOT = Path(__file__).resolve().parents[2]

# Three trainings: direct, d = 1, which does not reach 60% of it, and d = 300, which does.
SMALL = {
    "network": "fc",
    "batch_size": 32,
    "epochs": 10,
    "basis": "rademacher",
    "fraction": 0.6,
    "start": (1, 300),
    "resolution": 1000.0,
    "seeds": (3,),
}


def small_config(**changes):
    config = intrinsic.default_config()
    config.update({**SMALL, **changes})
    return config


def without_times(content):
    return {key: value for key, value in content.items() if key not in ("seconds", "command")}


@pytest.fixture
def imitated(monkeypatch):
    """Instead of training: accuracy d / (d + 100), 0.9 if direct, less 0.01 a seed. The calls made."""
    calls = []

    def train(config, data, dimensions, seed, verbose=1):
        calls.append((dimensions, seed))
        accuracy = 0.9 if dimensions is None else dimensions / (dimensions + 100)
        return accuracy - 0.01 * seed

    monkeypatch.setattr(intrinsic, "train", train)
    return calls


# --- a search, end to end ---


@pytest.fixture(scope="module")
def killed_and_resumed(tmp_path_factory):
    """The directory of a search whose script was killed in its second training and started again."""
    directory = tmp_path_factory.mktemp("intrinsic")
    lines = "".join(f"    config.{name} = {value!r}\n" for name, value in SMALL.items())
    config_file = directory / "config.py"
    config_file.write_text(
        "from experiments.intrinsic import default_config\n\n\n"
        f"def get_config():\n    config = default_config()\n{lines}    return config\n"
    )
    script = str(ROOT / "scripts" / "intrinsic_dimension.py")
    command = [sys.executable, script, f"--config={config_file}", f"--workdir={directory}"]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(directory.glob("evaluations/direct*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    first = {path.name: path.stat().st_mtime_ns for path in directory.glob("evaluations/*.json")}
    assert not (directory / "results.json").exists()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=240)
    return directory, first, done.stdout.decode()


@pytest.mark.slow
def test_a_search_killed_and_resumed_ends_like_one_that_was_not(killed_and_resumed, tmp_path):
    directory, first, output = killed_and_resumed
    undisturbed = intrinsic.run(small_config(), tmp_path, verbose=0)
    resumed = results.read_json(directory / "results.json")
    assert without_times(resumed) == without_times(undisturbed)
    for name, modified in first.items():
        assert (directory / "evaluations" / name).stat().st_mtime_ns == modified
    assert "d = 300, seed 3" in output and "direct training" not in output


@pytest.mark.slow
def test_the_digits_have_an_intrinsic_dimension(killed_and_resumed):
    directory, _, output = killed_and_resumed
    found = results.read_json(directory / "results.json")
    assert found["parameters"] == 64 * 128 + 128 + 128 * 10 + 10
    assert found["direct"]["mean"] > 0.9
    assert found["threshold"] == pytest.approx(0.6 * found["direct"]["mean"])
    assert (found["intrinsic_dimension"], found["largest_below"]) == (300, 1)
    low, high = found["curve"]
    assert low["mean"] < 0.4 < found["threshold"] <= high["mean"]
    assert "Intrinsic dimension: 300" in output
    with (directory / "evaluations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], int(row["dimensions"])) for row in rows] == [
        ("direct", 9610), ("subspace", 1), ("subspace", 300)
    ]  # fmt: skip
    assert [float(row["accuracy"]) for row in rows[1:]] == [low["mean"], high["mean"]]
    assert (directory / "accuracy.png").read_bytes().startswith(b"\x89PNG")


# --- going on ---


@pytest.mark.parametrize("finished", [0, 1, 3, 7])
def test_no_training_is_run_twice(tmp_path, imitated, monkeypatch, finished):
    config = small_config(fraction=0.9, start=(100,), resolution=0.1, seeds=(0, 1))
    whole = intrinsic.run(config, tmp_path / "whole", verbose=0)
    expected = list(imitated)
    assert len(set(expected)) == len(expected) > 7
    imitated.clear()

    class Killed(Exception):
        pass

    with monkeypatch.context() as patched:
        train = intrinsic.train

        def interrupted(*arguments):
            if len(imitated) == finished:
                raise Killed
            return train(*arguments)

        patched.setattr(intrinsic, "train", interrupted)
        with pytest.raises(Killed):
            intrinsic.run(config, tmp_path / "killed", verbose=0)
    assert without_times(intrinsic.run(config, tmp_path / "killed", verbose=0)) == without_times(whole)
    assert imitated == expected
    intrinsic.run(config, tmp_path / "killed", verbose=0)
    assert imitated == expected


def test_a_finer_search_uses_what_was_trained(tmp_path, imitated):
    coarse = intrinsic.run(small_config(resolution=2.0, seeds=(0,)), tmp_path, verbose=0)
    before = list(imitated)
    fine = intrinsic.run(small_config(resolution=0.1, seeds=(0, 1)), tmp_path, verbose=0)
    assert not set(before) & set(imitated[len(before) :])
    assert coarse["largest_below"] < fine["largest_below"]
    # The mean, 0.005 below d / (d + 100), reaches 0.6 * 0.895 at d = 118.3.
    assert 118 < fine["intrinsic_dimension"] < 118.3 * 1.1 + 1


@pytest.mark.parametrize("changes", [{"epochs": 14}, {"learning_rates": {"subspace": 0.1}}], ids=str)
def test_another_configuration_is_refused_and_nothing_lost(tmp_path, imitated, changes):
    found = intrinsic.run(small_config(), tmp_path, verbose=0)
    with pytest.raises(ValueError, match=f"another configuration.*{next(iter(changes))}"):
        intrinsic.run(small_config(**changes), tmp_path, verbose=0)
    assert results.read_json(tmp_path / "results.json") == found


def test_a_dimension_that_is_not_found(tmp_path, monkeypatch):
    monkeypatch.setattr(intrinsic, "train", lambda config, data, d, seed, verbose: 0.9 if d is None else 0.5)
    found = intrinsic.run(small_config(fraction=0.75, start=(5000,)), tmp_path, verbose=0)
    assert (found["intrinsic_dimension"], found["largest_below"]) == (None, 9610)
    assert (tmp_path / "accuracy.png").exists()


# --- one training ---


def test_divergence_is_named():
    config = small_config(learning_rates={"direct": 1e30}, epochs=1)
    with pytest.raises(training.DivergedError, match=r"d = None, seed 0.*1e\+30"):
        intrinsic.train(config, intrinsic.load_data(config), None, 0, verbose=0)


def test_training_accuracy_of_shuffled_labels_is_chance_at_first():
    config = small_config(shuffle="labels", accuracy="train", epochs=2)
    data = intrinsic.load_data(config)
    plain = intrinsic.load_data(small_config())
    assert 0.05 < np.mean(data.train.labels == plain.train.labels) < 0.2
    assert 0.05 < intrinsic.train(config, data, None, 0, verbose=0) < 0.3


# --- configurations ---


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"shuffle": "images"}, "config.shuffle='images'.*pixels"),
        ({"accuracy": "validation"}, "config.accuracy='validation'.*test"),
        ({"basis": "fourier"}, "config.basis='fourier'.*hadamard"),
        ({"network": "rnn"}, "config.network='rnn'"),
        ({"dataset": "imagenet"}, "config.dataset='imagenet'"),
        ({"epochs": 0}, "config.epochs=0"),
        ({"batch_size": 0}, "config.batch_size=0"),
        ({"fraction": 0.0}, "config.fraction=0.0"),
        ({"learning_rates": {"direct": 0.0}}, "config.learning_rates.direct=0.0"),
        ({"learning_rates": {"sgd": 1.0}}, "config.learning_rates"),
        ({"seeds": (-1,)}, "config.seeds.*-1"),
        ({"seeds": ()}, r"seeds=\(\)"),
        ({"start": (9611,)}, r"start\[0\]=9611 must be an int from 1 to 9610"),
        ({"growth": 0.5}, "growth=0.5"),
        ({"batch_size": 2000}, "batch_size=2000"),
        ({"resolution": -1.0}, "resolution=-1.0"),
    ],
    ids=str,
)
def test_bad_values_are_named(changes, message, tmp_path, imitated):
    config = small_config()
    with config.unlocked(), config.learning_rates.unlocked():
        config.update(changes)
    with pytest.raises(ValueError, match=message):
        intrinsic.run(config, tmp_path, verbose=0)
    assert not imitated and not list(tmp_path.iterdir())


def test_a_directory_where_another_process_searches_is_refused(tmp_path, imitated):
    with holding(tmp_path), pytest.raises(locks.InUseError, match=f"^{tmp_path} is in use"):
        intrinsic.run(small_config(), tmp_path, verbose=0)
    assert not imitated and [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_unknown_keys_are_named():
    config = intrinsic.default_config()
    with config.unlocked():
        config.optimizer = "sgd"
    with pytest.raises(ValueError, match="optimizer"):
        intrinsic.check_config(config)


def read_config(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


CONFIGS = sorted((ROOT / "configs").glob("intrinsic_*.py"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configs_are_valid_and_say_how_they_are_run(path):
    config = read_config(path)
    if "environment" in config:
        needs = {"CartPole-v1": "gymnasium", "InvertedPendulum-v5": "mujoco", "ALE/Pong-v5": "ale_py"}
        what = needs[config.environment]
        pytest.importorskip(what, reason=f"needs {what}, of the extra [rl]")
        model = reinforcement.network(config, 0)
    else:
        shape = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}[config.dataset]
        model = networks.get(config.network, shape)
    intrinsic.check_config(config)
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert f"--config=configs/{path.name}" in docstring
    assert f"D = {model.count_params():,}" in docstring
    assert f"--workdir=runs/{path.stem}" in docstring


def test_the_experiments_of_li_2018_are_there():
    assert {path.stem for path in CONFIGS} == {
        "intrinsic_cartpole",
        "intrinsic_digits",
        "intrinsic_fc_mnist",
        "intrinsic_fc_mnist_pixels",
        "intrinsic_fc_mnist_labels",
        "intrinsic_fc_cifar10",
        "intrinsic_lenet_mnist",
        "intrinsic_lenet_mnist_pixels",
        "intrinsic_lenet_cifar10",
        "intrinsic_pendulum",
        "intrinsic_pong",
    }


# --- shuffled data ---


def test_pixels_are_moved_in_the_same_way_in_all_images():
    plain = datasets.load("digits")
    shuffled = datasets.shuffle_pixels(plain, 0)
    for name in ("train", "validation", "test"):
        before, after = (getattr(data, name) for data in (plain, shuffled))
        assert after.images.shape == before.images.shape and after.images.dtype == np.uint8
        np.testing.assert_array_equal(after.labels, before.labels)
        order = np.random.RandomState(0).permutation(64)
        np.testing.assert_array_equal(after.images.reshape(-1, 64), before.images.reshape(-1, 64)[:, order])
    assert not np.array_equal(datasets.shuffle_pixels(plain, 1).train.images, shuffled.train.images)


def test_colours_of_a_pixel_stay_together():
    images = np.arange(2 * 4 * 3 * 3, dtype=np.uint8).reshape(2, 4, 3, 3)
    split = datasets.ImageSplit(images, np.zeros(2, np.int32), datasets.Preprocessing(255))
    shuffled = datasets.shuffle_pixels(datasets.ImageDataset("x", 10, split, split, split), 0).train.images
    pixels = shuffled.reshape(2, 12, 3)
    np.testing.assert_array_equal(pixels[:, :, 1] - pixels[:, :, 0], 1)
    np.testing.assert_array_equal(pixels[:, :, 2] - pixels[:, :, 1], 1)


def test_only_the_labels_of_training_are_shuffled():
    plain = datasets.load("digits")
    shuffled = datasets.shuffle_labels(plain, 0)
    assert shuffled.validation is plain.validation and shuffled.test is plain.test
    np.testing.assert_array_equal(shuffled.train.images, plain.train.images)
    np.testing.assert_array_equal(np.bincount(shuffled.train.labels), np.bincount(plain.train.labels))
    assert not np.array_equal(shuffled.train.labels, plain.train.labels)
    again = datasets.shuffle_labels(plain, 0)
    np.testing.assert_array_equal(again.train.labels, shuffled.train.labels)


def test_batches_are_the_same_without_autotuning(autotuned_iterator):
    split = datasets.load("digits").test
    tuned = datasets.training_batches(split, 32, seed=0, num_steps=3)
    for one, other in zip(autotuned_iterator(tuned), without_autotuning(tuned)):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
