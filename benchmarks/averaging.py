"""TWA with 100 recorded vectors against the same two products in PyTorch, each in a process.

A step of TWA makes the weights from the coordinates, P c, and the coordinates' gradient from the
weights', P^T g. `ours` is a whole training step of `TrainableWeightAveraging` on one example of a model
that does next to nothing with its weights but read them; `theirs` is these two products alone. Say where
a Python with PyTorch is:

    PEER_PYTHON=/usr/bin/python3 python -m benchmarks --only=averaging

`python -m benchmarks.averaging SIZE` is one of the processes; it prints JSON.
"""

import json
import os
import sys
import tempfile
import time
from typing import List

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.measure import Figure, in_process
from experiments import machine
from random_bases.averaging.snapshots import TrajectoryWriter, set_weights
from random_bases.keras_api import keras

VECTORS = 100
_SIZES = (100_000, 1_000_000)
_REPEATS = 3
_STEPS = 20


def run() -> List[Figure]:
    """Times and memory of a step, ours and the peer's processes alternately.

    Raises:
      ValueError: if PEER_PYTHON is not set.
    """
    if "PEER_PYTHON" not in os.environ:
        raise ValueError("Set PEER_PYTHON: see benchmarks/averaging.py.")
    figures = []
    for size in _SIZES:
        pairs = [
            (
                in_process("benchmarks.averaging", size),
                in_process("benchmarks.averaging_torch", size, VECTORS, python=os.environ["PEER_PYTHON"]),
            )
            for _ in range(_REPEATS)
        ]
        for what, key, unit, target in (
            ("step", "ms", "ms", "<= 1.1"),
            ("memory above the imports", "mb", "MB", None),
        ):
            value, reference = (float(np.median([pair[i][key] for pair in pairs])) for i in (0, 1))
            what = f"{what}, TWA, D = {size:,}, {VECTORS} vectors"
            against = "P c and P^T g in PyTorch"
            figures.append(Figure(what, against, value, reference, unit, value / reference, target))
    return figures


def _trajectory(model: keras.Model, size: int, directory: str) -> rb.Trajectory:
    random = np.random.default_rng(0)
    start = random.normal(size=size).astype(np.float32)
    writer = TrajectoryWriter(directory, model, "float32")
    for step in range(VECTORS):
        set_weights(model, start + 0.1 * random.normal(size=size).astype(np.float32), [])
        writer.append(step, epoch=step)
    return rb.Trajectory(directory)


def main(size: int) -> None:
    """Prints the milliseconds of a step, and the memory above what importing took: after it, and its peak."""
    imported = machine.resident_megabytes()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(size, use_bias=False)])
    with tempfile.TemporaryDirectory() as directory:
        twa = rb.TrainableWeightAveraging(model, _trajectory(model, size, directory))
    x = tf.ones([1, 1])

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(twa(x, training=True)))
        (gradient,) = tape.gradient(loss, twa.trainable_variables)
        twa.coordinates.assign_sub(1e-6 * gradient)
        return loss

    seconds = []
    for _ in range(3 + _STEPS):
        start = time.perf_counter()
        step().numpy()
        seconds.append(time.perf_counter() - start)
    result = {
        "ms": 1e3 * float(np.median(seconds[3:])),
        "mb": machine.resident_megabytes() - imported,
        "peak": machine.peak_megabytes() - imported,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]))
