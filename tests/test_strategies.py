"""Strategies by name, and what is said where one cannot work."""

import json
import logging

import pytest
import tensorflow as tf

import random_bases as rb
from random_bases import strategies
from random_bases.keras_api import GENERATION


def test_auto_takes_the_default_strategy_without_gpus_and_says_so(caplog):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with caplog.at_level(logging.INFO, "random_bases"):
        assert rb.strategies.get("auto") is tf.distribute.get_strategy()
    assert '"auto" takes "cpu"' in caplog.text
    with pytest.raises(RuntimeError, match="found no GPU"):
        rb.strategies.get("gpu")


def test_a_process_has_one_mirrored_strategy():
    # One logical CPU here: several need a process of their own, see test_exchange.
    strategy = rb.strategies.get("mirrored")
    assert strategy.num_replicas_in_sync == 1
    assert rb.strategies.get("mirrored") is strategy
    assert rb.strategies.is_chief(strategy)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="strategy='tpu' is unknown; allowed: .*multi_worker"):
        rb.strategies.get("tpu")


@pytest.mark.parametrize("name", ["ipu", "ipu_pod"])
def test_without_the_poplar_sdk_the_error_says_how_to_run_on_a_cpu(name):
    with pytest.raises(RuntimeError, match=r'"ipu(_pod)?" needs tensorflow.python.ipu, .*Poplar SDK.* "cpu"'):
        rb.strategies.get(name)


def test_only_ipus_have_options():
    with pytest.raises(ValueError, match=r'"cpu" has no options, got \[\'replicas\'\]'):
        rb.strategies.get("cpu", replicas=2)


@pytest.mark.skipif(GENERATION != "keras3", reason="of Keras 3")
def test_keras_3_names_the_switch_for_several_workers():
    with pytest.raises(RuntimeError, match="TF_USE_LEGACY_KERAS=1"):
        rb.strategies.get("multi_worker")


@pytest.mark.skipif(GENERATION == "keras3", reason="Keras 3 is refused before")
def test_several_workers_need_to_be_named(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_STEP_NODELIST", raising=False)
    with pytest.raises(RuntimeError, match="needs TF_CONFIG"):
        rb.strategies.get("multi_worker")


CLUSTER = {"worker": ["127.0.0.1:2222", "[::1]:2223"]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", r"TF_CONFIG in the environment is '\{' \(JSONDecodeError"),
        ("[]", r"is '\[\]' \(TypeError.*allowed: .*host:port"),
        ({"cluster": CLUSTER}, "KeyError: 'task'"),
        ({"cluster": CLUSTER, "task": {"type": "ps", "index": 0}}, "KeyError: 'ps'"),
        ({"cluster": {"worker": 1}, "task": {"type": "worker", "index": 0}}, "TypeError"),
        (
            {"cluster": CLUSTER, "task": {"type": "worker", "index": 2}},
            "task.index=2 must be an int from 0 to 1",
        ),
        (
            {"cluster": {"worker": ["localhost"]}, "task": {"type": "worker", "index": 0}},
            "address 'localhost'",
        ),
        ({"cluster": {"worker": [5]}, "task": {"type": "worker", "index": 0}}, "address 5; allowed"),
        (
            {"cluster": {"worker": ["no.such.host.invalid:1"]}, "task": {"type": "worker", "index": 0}},
            "has the host 'no.such.host.invalid', which is not known here",
        ),
    ],
    ids=range(9),
)
def test_what_is_wrong_in_tf_config_is_named(config, message, monkeypatch, caplog):
    monkeypatch.setattr(strategies, "_SECONDS_FOR_HOSTS", 0.5)
    text = config if isinstance(config, str) else json.dumps(config)
    with pytest.raises(ValueError, match=message):
        strategies._check_tf_config(text)
    if "no.such" in message:
        assert "'no.such.host.invalid', which is not known here yet" in caplog.text
    strategies._check_tf_config(json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 1}}))


@pytest.mark.skipif(GENERATION == "keras3", reason="Keras 3 is refused before")
def test_tf_config_is_looked_at_before_tensorflow_does(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG"):
        rb.strategies.get("multi_worker")


class _Resolver:
    def __init__(self, jobs, task_type, task_id):
        self.jobs, self.task_type, self.task_id = jobs, task_type, task_id

    def cluster_spec(self):
        return self


class _Strategy:
    def __init__(self, *resolver):
        self.cluster_resolver = _Resolver(*resolver)


@pytest.mark.parametrize(
    ("jobs", "kind", "number", "chief"),
    [
        (["worker"], "worker", 0, True),
        (["worker"], "worker", 1, False),
        (["chief", "worker"], "worker", 0, False),
        (["chief", "worker"], "chief", 0, True),
    ],
)
def test_one_worker_is_the_chief(jobs, kind, number, chief):
    assert rb.strategies.is_chief(_Strategy(jobs, kind, number)) == chief
