"""Runs on IPUs: one, two and four replicas, and a pod, end with the same weights."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from experiments import datasets, ipu_runs, training
from tests.poplar.double import Pod, installed


@pytest.fixture(autouse=True)
def few_digits(monkeypatch):
    """64 digits to train on, 32 each to validate and to test."""
    _few_digits(monkeypatch, 1)


def _few_digits(monkeypatch, scale):
    data = datasets.load("digits")

    def some(split, number):
        images = split.images[:number].repeat(scale, axis=1).repeat(scale, axis=2)
        return dataclasses.replace(split, images=images, labels=split.labels[:number])

    few = dataclasses.replace(
        data, train=some(data.train, 64), validation=some(data.validation, 32), test=some(data.test, 32)
    )
    monkeypatch.setattr(datasets, "load", lambda *unused: few)


def config(**changes):
    settings = training.default_config()
    settings.update(
        {"epochs": 2, "dimensions": 6, "basis": "rademacher", "batch_size": 32, "strategy": "ipu", **changes}
    )
    return settings


def run(workdir, pod=None, **changes):
    """(result, every array of the last checkpoint)."""
    with installed(pod=pod):
        result = training.run(config(**changes), workdir, verbose=0)
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints"))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    names = [name for name in names if not name.startswith(("save_counter", "config"))]
    return result, {name: reader.get_tensor(name) for name in names}


def assert_same(one, other):
    assert set(one) == set(other)
    for name, value in one.items():
        np.testing.assert_allclose(value, other[name], atol=2e-6, err_msg=name)


@pytest.mark.parametrize("network", ["fc", pytest.param("cnn", marks=pytest.mark.slow)])
def test_rbd_ends_with_the_same_weights_on_any_number_of_ipus(tmp_path, network, monkeypatch):
    _few_digits(monkeypatch, 1 if network == "fc" else 3)  # the CNN takes no images of 8 x 8
    changes = {"network": network, "learning_rate": 0.5}
    result, state = run(tmp_path / "1", **changes)
    assert result["status"] == "finished"
    for replicas in (2, 4):
        several, its_state = run(tmp_path / str(replicas), ipus=replicas, **changes)
        assert_same(state, its_state)
        for name in ("validation_loss", "loss", "test_accuracy"):
            assert several[name] == pytest.approx(result[name], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sgd", "fpd"])
def test_so_do_sgd_and_fpd(tmp_path, method):
    changes = {"method": method, "learning_rate": 0.1}
    _, state = run(tmp_path / "1", **changes)
    assert_same(state, run(tmp_path / "2", ipus=2, **changes)[1])
    assert_same(state, run(tmp_path / "pod", Pod(2), strategy="ipu_pod", **changes)[1])


@pytest.mark.slow
def test_a_run_on_ipus_ends_as_one_on_a_cpu_does(tmp_path):
    _, here = run(tmp_path / "cpu", strategy="cpu")
    assert_same(here, run(tmp_path / "ipu")[1])


@pytest.mark.slow
def test_evolution_and_the_native_generator_run(tmp_path):
    result, _ = run(tmp_path / "nes", method="rbd-nes", basis="normal", learning_rate=0.1)
    assert result["status"] == "finished"
    result, _ = run(tmp_path / "native", generator="native", ipus=2, replicas="split", learning_rate=0.5)
    assert result["loss"][1] < result["loss"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "cpu", "ipus": 2}, "config.ipus=2 with config.strategy='cpu'; allowed: 1, more with"),
        ({"ipus": 0}, "config.ipus=0 with"),
        ({"generator": "hardware"}, "config.generator='hardware' is unknown; allowed: "),
    ],
)
def test_configurations_that_are_not_allowed_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        training.check_config(config(**changes))


def test_structured_bases_have_no_generator_to_choose():
    with pytest.raises(ValueError, match="config.generator='native' is not possible with .*'hadamard'"):
        ipu_runs.basis(config(generator="native", basis="hadamard"), 100)


def test_examples_that_replicas_cannot_share_out_are_refused(tmp_path):
    with installed(), pytest.raises(ValueError, match="32 examples to evaluate cannot be shared out among 3"):
        training.run(config(ipus=3, batch_size=33), tmp_path, verbose=0)


def test_without_the_sdk_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="config.strategy='ipu': .*needs tensorflow.python.ipu"):
        training.run(config(), tmp_path, verbose=0)
