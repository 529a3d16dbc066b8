"""Directions shared out over the replicas of a strategy: the same training in 1 / K of the memory."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from random_bases.averaging import sharding
from random_bases.averaging.snapshots import TrajectoryWriter, set_weights
from random_bases.keras_api import GENERATION
from tests.averaging import sharded

ROOT = Path(__file__).resolve().parents[2]


def record(directory, width, count):
    """A trajectory of made-up weights."""
    model = sharded.build(width)
    random = np.random.RandomState(0)
    size = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    start = 0.1 * random.normal(size=size)
    writer = TrajectoryWriter(directory, model, "float32")
    for step in range(count):
        set_weights(model, (start + 0.02 * random.normal(size=size)).astype(np.float32), [])
        writer.append(step, epoch=step)


def start(mode, replicas, directory, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.averaging.sharded", mode, str(replicas), str(directory)],
        env=dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONPATH=str(ROOT), **environment),
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def result_of(process):
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()[-3000:]
    return json.loads(output.decode().strip().splitlines()[-1])


def assert_same_training(one, other):
    assert np.abs(one["coordinates"]).max() > 0.01
    for key in ("coordinates", "some weights"):
        np.testing.assert_allclose(np.hstack(one[key]), np.hstack(other[key]), atol=1e-5)


@pytest.mark.parametrize(
    ("replicas", "parts"), [(2, [5, 5]), pytest.param(4, [2, 3, 2, 3], marks=pytest.mark.slow)]
)
def test_mirrored_replicas_train_alike_and_hold_a_part_each(tmp_path, replicas, parts):
    record(tmp_path, width=16, count=10)
    alone = sharded.train(tf.distribute.get_strategy(), tmp_path)
    several = result_of(start("mirrored", replicas, tmp_path))
    assert_same_training(alone, several)
    (whole,) = alone["bytes"]
    assert several["bytes"] == [whole * part // 10 for part in parts]
    assert len(set(several["devices"])) == replicas


@pytest.mark.slow
def test_workers_train_alike_and_a_workers_memory_falls(tmp_path):
    # 293 MB of directions: enough to be seen beside what else a process does.
    record(tmp_path, width=100_000, count=32)
    # Keras 3 does not fit under this strategy.
    keras2 = {"TF_USE_LEGACY_KERAS": "1"} if GENERATION != "keras2.6" else {}
    alone = result_of(start("mirrored", 1, tmp_path, **keras2))
    megabytes = {1: alone["megabytes"]}
    for workers in (2, 4):
        hosts = [f"localhost:{port}" for port in free_ports(workers)]
        processes = [
            start(
                "multi_worker",
                workers,
                tmp_path,
                TF_CONFIG=json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": k}}),
                **keras2,
            )
            for k in range(workers)
        ]
        found = [result_of(process) for process in processes]
        for each in found:
            assert_same_training(alone, each)
            assert each["bytes"] == [alone["bytes"][0] // workers]
        megabytes[workers] = max(each["megabytes"] for each in found)
    directions = alone["bytes"][0] / 2**20
    # Beside the directions there are the network's clone and buffers, for any number of workers.
    assert megabytes[1] - megabytes[2] > 0.4 * directions
    assert megabytes[2] - megabytes[4] > 0.15 * directions


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_more_replicas_than_directions_are_refused(monkeypatch):
    class Strategy:
        num_replicas_in_sync = 3

    monkeypatch.setattr(sharding.tf.distribute, "get_strategy", Strategy)
    with pytest.raises(ValueError, match="2 directions cannot be shared out over 3 replicas"):
        sharding.share_out(np.eye(2), list(np.eye(2, dtype=np.float32)))
