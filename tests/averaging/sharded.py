"""Trains with shared out directions, in a process of its own: a process has one strategy.

`python -m tests.averaging.sharded (mirrored|multi_worker) REPLICAS DIRECTORY` trains on REPLICAS virtual
CPUs, or as one of the workers that TF_CONFIG names; it prints JSON.
"""

import json
import sys

import numpy as np
import tensorflow as tf

import random_bases as rb
from random_bases.keras_api import keras, set_random_seed


def build(width):
    """A small network, but for its width."""
    set_random_seed(0)
    layers = [keras.layers.Dense(width, activation="tanh"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((20,)), *layers])


def train(strategy, directory):
    """Six steps under a strategy: what they give, and what the directions take."""
    trajectory = rb.Trajectory(directory)
    random = np.random.RandomState(1)
    x, y = (random.normal(size=(24, size)).astype(np.float32) for size in (20, 3))
    with strategy.scope():
        model = build(width=trajectory[0].size // 24)
        before = _private_megabytes()
        twa = rb.TrainableWeightAveraging(model, trajectory, regularization=0.01)
        held = _private_megabytes() - before
        twa.compile(keras.optimizers.SGD(0.1, momentum=0.5), loss="mse")
    twa.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(8), epochs=2, verbose=0)
    basis = twa._parametrisation.basis
    local = [basis]
    if strategy.num_replicas_in_sync > 1:
        local = [shard.basis for shard in basis.local.values()]
    return {
        "coordinates": twa.coordinates.numpy().tolist(),
        "some weights": [w.ravel()[:3].tolist() for w in twa.materialize().get_weights()],
        "bytes": [int(each.directions.numpy().nbytes) for each in local],
        "devices": [each.directions.device for each in local],
        "megabytes": held,
    }


def _private_megabytes():
    """Of memory that is not files'."""
    with open("/proc/self/status") as status:
        return int(status.read().split("RssAnon:")[1].split()[0]) / 1024


def _strategy(mode, replicas):
    if mode == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * replicas
    )
    return tf.distribute.MirroredStrategy([f"CPU:{k}" for k in range(replicas)])


if __name__ == "__main__":
    print(json.dumps(train(_strategy(sys.argv[1], int(sys.argv[2])), sys.argv[3])))
