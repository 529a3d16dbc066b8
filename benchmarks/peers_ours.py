"""Trains 784-200-200-10 in d coordinates: `python -m benchmarks.peers_ours (model|layer) BASIS`."""

import json
import sys
import time

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.peers import BATCH, DIMENSIONS
from experiments import machine
from random_bases import keras_api
from random_bases.keras_api import keras

_WIDTHS = (784, 200, 200, 10)
_STEPS = 20


class Generated(keras.Model):
    """The network with all its weights from one `RandomProjection`."""

    def __init__(self, basis: str):
        super().__init__()
        self._shapes = list(zip(_WIDTHS, _WIDTHS[1:]))
        sizes = [rows * columns + columns for rows, columns in self._shapes]
        self._sizes = sizes
        self._initial = [tf.random.normal([size]) * 0.05 for size in sizes]
        self.weights_of = rb.layers.RandomProjection(sum(sizes), DIMENSIONS, basis=basis, seed=0)

    def call(self, x):
        """Logits."""
        parts = tf.split(self.weights_of(), self._sizes)
        for index, ((rows, columns), part) in enumerate(zip(self._shapes, parts)):
            weights = self._initial[index] + part
            x = tf.matmul(x, tf.reshape(weights[columns:], [rows, columns])) + weights[:columns]
            x = x if index == len(parts) - 1 else tf.nn.relu(x)
        return x


def _subspace_model(basis: str) -> keras.Model:
    layers = [keras.layers.Dense(width, activation="relu") for width in _WIDTHS[1:-1]]
    model = keras.Sequential([keras.Input(_WIDTHS[:1]), *layers, keras.layers.Dense(_WIDTHS[-1])])
    return rb.SubspaceModel(model, DIMENSIONS, basis=basis, seed=0)


def main(kind: str, basis: str) -> None:
    """Prints the milliseconds of a step and the peak memory above what importing took."""
    imported = machine.resident_megabytes()
    model = {"model": _subspace_model, "layer": Generated}[kind](basis)
    keras_api.compile_model(
        model,
        optimizer=keras.optimizers.Adam(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH, _WIDTHS[0])).astype(np.float32)
    y = random.integers(10, size=BATCH)
    for _ in range(3):
        model.train_on_batch(x, y)
    seconds = []
    for _ in range(_STEPS):
        start = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"ms": 1e3 * float(np.median(seconds)), "mb": machine.peak_megabytes() - imported}))


if __name__ == "__main__":
    main(*sys.argv[1:])
