"""Several replicas: every way to share directions out equals its formula, and little travels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import GENERATION, keras
from random_bases.optimizers.exchange import Exchange
from random_bases.optimizers.rule import RandomBasesRule
from random_bases.subspace import Subspace
from tests.dense_reference import eagerly
from tests.optimizers.helpers import assert_equal, compile_, dense_model, fit, gradients

ROOT = Path(__file__).resolve().parents[2]
D = 64  # parameters of `dense_model`

CASES = {
    "shared": {},
    "independent": {"replicas": "independent"},
    "split": {"replicas": "split"},
    "updates": {"replicas": "split", "exchange": "updates"},
    "split unevenly": {"replicas": "split", "dimensions": 11},
    "independent layers": {"replicas": "independent", "compartments": "layer", "logged": True},
    "uneven last batch": {"replicas": "split", "examples": 21},
    "loss scale": {"replicas": "independent", "mixed": True},
    "remembers": {
        "basis": "hadamard",
        "error_feedback": True,
        "logged": True,
        "resumed": ["all", "one", "again"],
    },
    "remembers, independent": {
        "basis": "hadamard",
        "error_feedback": 0.5,
        "replicas": "independent",
        "resumed": ["all"],
    },
    "remembers, split": {
        "basis": "hadamard",
        "error_feedback": True,
        "replicas": "split",
        "resumed": ["all"],
    },
    "remembers, updates": {
        "basis": "hadamard",
        "error_feedback": True,
        "replicas": "split",
        "exchange": "updates",
    },
    "remembers the smallest": {
        "basis": "hadamard",
        "dimensions": 64,
        "redraw_every": None,
        "keep_fraction": 0.125,
        "error_feedback": True,
        "resumed": ["all"],
    },
    "too few": {"replicas": "split", "compartments": 3, "dimensions": 5, "examples": 8},
}
# Each is compiled anew; these differ from others in little.
SLOW_CASES = (
    "independent",
    "split",
    "uneven last batch",
    "remembers, independent",
    "remembers, split",
    "remembers, updates",
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((2, GENERATION, False), id="2"),
        pytest.param((2, GENERATION, True), id="2 all", marks=pytest.mark.slow),
        pytest.param((2, "tf_keras", True), id="2 tf_keras", marks=pytest.mark.slow),
        pytest.param((4, GENERATION, True), id="4", marks=pytest.mark.slow),
        pytest.param((4, "tf_keras", True), id="4 tf_keras", marks=pytest.mark.slow),
    ],
)
def run(request):
    """(number of replicas, results of all cases): one process each, as it can have one MirroredStrategy."""
    k, generation, whole = request.param
    if generation == "tf_keras" and GENERATION != "keras3":
        pytest.skip("runs beside Keras 3, in one environment")
    environment = dict(os.environ, PYTHONPATH=str(ROOT), TF_CPP_MIN_LOG_LEVEL="3")
    if generation == "tf_keras":
        environment["TF_USE_LEGACY_KERAS"] = "1"
    cases = {name: case for name, case in CASES.items() if whole or name not in SLOW_CASES}
    command = [sys.executable, "-m", "tests.optimizers.replicas", str(k), json.dumps(cases)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, timeout=900)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    last = done.stdout.decode().splitlines()[-1]
    return k, json.loads(last[len("RESULTS ") :])


def test_replicas_equal_their_formula(run):
    k, results = run
    for name, result in results.items():
        if name == "too few":
            continue
        assert result["moved"] > 0.05, name
        assert result["error"] < 1e-6, name
        assert result["replicas"] == k and result["replicas_equal"], f"{name}: weights of replicas part"


def test_one_process_replays_the_log_of_several(run):
    _, results = run
    assert results["independent layers"]["replayed"] is True
    assert results["remembers"]["replayed"] is True


def test_the_memory_of_each_replica_is_saved_and_restored(run):
    _, results = run
    resumed = {name: result["parted"] for name, result in results.items() if result.get("parted")}
    assert {"remembers", "remembers the smallest"} <= set(resumed)
    for name, parted in resumed.items():
        assert parted["all"] == {"by": 0, "told": []}, name


def test_another_number_of_replicas_gets_the_mean_of_the_memories_and_is_told(run):
    """Which is all that the weights of "shared" depend on."""
    k, results = run
    one, again = (results["remembers"]["parted"][name] for name in ("one", "again"))
    assert max(one["by"], again["by"]) < 1e-6
    assert f"memories of {k} replicas, and there are 1: each gets their mean" in one["told"][0]
    assert f"memories of 1 replicas, and there are {k}: each gets their mean" in again["told"][0]
    assert len(one["told"]) == len(again["told"]) == 1


def test_only_coordinates_travel(run):
    k, results = run
    for name in set(results) - {"too few"}:
        arguments = {"dimensions": 10, "replicas": "shared", **CASES[name]}
        d = arguments["dimensions"]
        if name == "remembers the smallest":
            shapes, sent = [[1, 8 + 8]], (4 + 4) * 8 * (k - 1)  # values and indices
        elif name in ("updates", "remembers, updates"):
            shapes, sent = [[5, 6], [6], [6, 4], [4]], 4 * D * 2 * (k - 1) // k
        elif arguments["replicas"] == "shared":
            shapes, sent = [[d]], 4 * d * 2 * (k - 1) // k
        else:
            mine = d if arguments["replicas"] == "independent" else -(-d // k)
            shapes, sent = [[1, mine]], 4 * mine * (k - 1)
        assert {str(shape) for shape in results[name]["shapes"]} == {str(shape) for shape in shapes}, name
        assert results[name]["bytes"] == sent, name


def test_directions_that_cannot_be_shared_out_are_refused(run):
    k, results = run
    each = -(-5 // k)
    assert each < 3 or k == 2
    if k == 4:
        assert (
            f"are {each} for each of {k} replicas: dimensions={each} is fewer" in results["too few"]["raised"]
        )
    else:
        assert results["too few"]["error"] < 1e-6


# --- One process ----------------------------------------------------------------------------------


def test_one_replica_equals_no_strategy_bit_for_bit():
    def trained(strategy, **arguments):
        with strategy.scope():
            model = dense_model()
            optimizer = rb.RandomBasesDescent(
                keras.optimizers.SGD(0.5, momentum=0.9), dimensions=5, basis="normal", seed=3, **arguments
            )
            compile_(model, optimizer, "graph")
        fit(model)
        assert optimizer.bytes_per_step == 0
        return model

    alone = trained(tf.distribute.get_strategy())
    one = tf.distribute.OneDeviceStrategy("/cpu:0")
    assert_equal(trained(one), alone)
    assert_equal(trained(one, replicas="independent"), alone)
    assert_equal(trained(one, replicas="split", exchange="updates"), alone)


@pytest.mark.parametrize("replicas", ["independent", "split"])
@pytest.mark.parametrize("compartments", ["network", [10, 54]], ids=str)
def test_no_two_replicas_share_a_direction(replicas, compartments):
    """Their directions are d (or K d) different unit vectors."""
    d, k = 11, 4
    with eagerly():
        exchange = Exchange(
            replicas, "coordinates", d, k, lambda n: Subspace([[D]], n, "rademacher", compartments)
        )
        rows, columns = exchange.shape
        basis = np.eye(rows * columns, dtype=np.float32).reshape(-1, rows, columns)
        directions = np.stack([exchange.expand(tf.constant(c), 0, tf.constant(0))[0] for c in basis])
    directions = np.unique(np.sign(directions), axis=0)
    assert len(directions) == rows * columns


def test_a_share_beyond_d_stays_empty():
    exchange = Exchange("split", "coordinates", 5, 3, lambda n: Subspace([[D]], n, "rademacher"))
    v = gradients([tf.zeros([D])])
    own = [exchange.project(v, 0, tf.constant(0), tf.constant(index)) for index in range(3)]
    assert [int(np.count_nonzero(c)) for c in own] == [2, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"replicas": "mirrored"}, "replicas='mirrored' is unknown; allowed: "),
        ({"exchange": "gradients"}, "exchange='gradients' is unknown; allowed: "),
        ({"exchange": "updates"}, "allows replicas='split' only, not 'shared'"),
        (
            {"replicas": "independent", "exchange": "updates"},
            "replicas='split' only, not 'independent'",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        rb.RandomBasesDescent("sgd", dimensions=5, **arguments)


def test_fewer_directions_than_replicas_are_refused():
    with pytest.raises(ValueError, match='dimensions=3 with replicas="split" is fewer than the 4 replicas'):
        Exchange("split", "coordinates", 3, 4, lambda n: Subspace([[D]], n))


def test_a_replica_with_fewer_directions_than_parameters_cannot_remember_for_ever():
    arguments = {"basis": "hadamard", "redraw_every": None, "error_feedback": True, "replicas": "split"}
    for dimensions, refused in ((2 * D - 1, True), (2 * D, False)):
        rule = RandomBasesRule(dimensions, **arguments)
        if refused:
            with pytest.raises(ValueError, match="the same 63 of 64 directions never see the rest"):
                rule.build([[D]], ["x"], replica_count=2)
        else:
            rule.build([[D]], ["x"], replica_count=2)


def test_arguments_are_part_of_the_configuration():
    optimizer = rb.RandomBasesDescent("sgd", dimensions=6, replicas="split", exchange="updates", seed=1)
    again = rb.RandomBasesDescent.from_config(optimizer.get_config())
    assert (again.rule.replicas, again.rule.exchange) == ("split", "updates")
