"""Evolution on several replicas: the update of one, of which nothing but losses travels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from random_bases.evolution.workers import group_size, losses_of_all, own_directions
from random_bases.keras_api import GENERATION
from tests.loopback import printed

ROOT = Path(__file__).resolve().parents[2]
POPULATION = 8  # of `replicas.case`

CASES = {
    "independent": {"metrics": ["mae"]},
    "uneven": {"population": 6, "antithetic": True},
    "in place": {"memory_limit": 0},
    "objective": {"objective": True},
    "descent": {"optimizer": "rbd"},
    "shuffled": {"kind": "shuffled"},
    "summed": {"loss": "sum"},
    # Keras 2.6 makes an optimizer's variables where it is built.
    **({} if GENERATION == "keras2.6" else {"outside": {"inside": False, "optimizer": "adam"}}),
}
SLOW_CASES = {
    "pairs": {"antithetic": True, "kind": "dataset", "basis": "hadamard", "stopped": True},
    "shared": {
        "minibatch": "shared",
        "kind": "dataset",
        "optimizer": "adam",
        "metrics": ["mae"],
        "stopped": True,
    },
    "low rank": {"basis": "low_rank", "rank": 2, "stopped": True},
    "ranks": {"fitness": "centered_ranks", "optimizer": "adam", "stopped": True},
}
RAISED = {
    "uneven": "ValueError: population=6 must be {k} replicas times as many pairs each: divisible by",
    "in place": "ValueError: memory_limit=0 has offspring evaluated in the model's own weights",
    "objective": "ValueError: objective=<function",
    "descent": "ValueError: optimizer is a RandomBasesDescent, which would add up what is equal",
    "shuffled": "ValueError: x is a dataset that gives other batches each time it is iterated",
    "summed": "ValueError: loss has reduction='sum'; allowed on {k} replicas: ('auto', 'mean'",
    "outside": "ValueError: optimizer was not made in the scope of the strategy of model='dense'",
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, False), id="2"),
        pytest.param((2, True), id="2 all", marks=pytest.mark.slow),
        pytest.param((4, True), id="4", marks=pytest.mark.slow),
    ],
)
def run(request):
    """(number of replicas, results of all cases): one process each, as it can have one MirroredStrategy."""
    k, whole = request.param
    return k, in_process(k, {**CASES, **(SLOW_CASES if whole else {})})


def in_process(k, cases):
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")
    command = [sys.executable, "-m", "tests.evolution.replicas", str(k), json.dumps(cases)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    last = done.stdout.decode().splitlines()[-1]
    return json.loads(last[len("RESULTS ") :])


def trained(results):
    return {name: result for name, result in results.items() if name not in RAISED}


def test_an_update_does_not_depend_on_the_number_of_replicas(run):
    """Raw fitness: the weights tell every loss, and so which batches the offspring have seen."""
    k, results = run
    for name, result in trained(results).items():
        assert result["replicas"] == k, name
        assert result["difference"] < 1e-5 < 1e-2 < result["moved"], (name, result)
        for metric, values in result["history_alone"].items():
            assert result["history"][metric] == pytest.approx(values, rel=1e-5), name


def test_the_weights_of_replicas_are_equal_bit_for_bit(run):
    assert all(result["replicas_equal"] for result in trained(run[1]).values())


def test_losses_are_all_that_travels(run):
    k, results = run
    for name, result in trained(results).items():
        # Of each replica, each time it is traced.
        assert result["shapes"] and result["shapes"] == [[1, POPULATION // k]] * len(result["shapes"]), name
        assert result["bytes"] == 4 * (k - 1) * POPULATION // k


def test_a_run_that_was_stopped_goes_on_exactly(run):
    assert all(result["resumed"] for name, result in run[1].items() if name in SLOW_CASES)


def test_what_replicas_cannot_do_is_refused_by_name(run):
    k, results = run
    for name, message in RAISED.items():
        if name not in CASES:
            continue
        assert results[name].get("raised", "").startswith(message.format(k=k)), (name, results[name])


def test_its_log_is_replayed_on_one_replica_bit_for_bit(run):
    assert all(result["replayed"] for name, result in run[1].items() if name in SLOW_CASES)


@pytest.mark.slow
def test_a_strategy_of_one_replica_equals_none_bit_for_bit():
    results = in_process(1, {"independent": {}, "in place": {"minibatch": "shared", "memory_limit": 0}})
    for result in results.values():
        assert result["difference"] == 0.0 and result["bytes"] == 0, result


def test_directions_are_dealt_out_and_losses_come_back_in_their_order():
    class Replica:
        count = 3

        def __init__(self, index):
            self.index = index

        def gather(self, own):
            return tf.stack([tf.reshape(losses_of(replica), [-1]) for replica in range(3)])

    def losses_of(replica):
        directions = own_directions(tf.constant(0), 4, Replica(replica))
        return tf.cast(directions[:, tf.newaxis] * 2 + tf.range(2), tf.float32)

    np.testing.assert_array_equal(own_directions(tf.constant(1), 2, Replica(2)), [5, 8])
    for index in range(3):
        everyone = losses_of_all(losses_of(index), Replica(index))
        np.testing.assert_array_equal(everyone, np.arange(24).reshape(12, 2))


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(250, 32, 25), (125, 16, 5), (1024, 32, 32), (7, 4, 1)]
)
def test_batches_come_in_equal_pieces(count, most, expected):
    assert group_size(count, most) == expected


# --- Several processes ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(GENERATION == "keras2.6", reason="runs tf-keras, beside Keras 3")
def test_processes_exchange_losses_only():
    """Two workers with tf-keras: equal weights, those of one worker, and the bytes that the kernel counts."""
    results = printed("tests.evolution.loopback")
    for few, many in (result.values() for result in results):
        assert few["weights"] == results[0]["8"]["weights"]
        assert few["difference"] < 1e-5 < few["moved"]
        # Both workers' bytes: losses, and what TCP, gRPC and TensorFlow add to an update: some kilobytes.
        assert many["computed"] == 4 * 4096 / 2
        assert 2 * many["computed"] <= many["seen"] <= 2.2 * many["computed"] + 12e3
        slope = (many["seen"] - few["seen"]) / (2 * (many["computed"] - few["computed"]))
        assert 0.9 < slope < 1.2, "bytes must be proportional to the population"
