"""One run with random_bases: `python -m benchmarks.evolution_ours PROBLEM SEED DATA_DIR [BASIS [RANK]]`."""

import json
import sys
import time
from typing import Optional

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.evolution_problems import BATCH, PROBLEMS, SIZE, curvature, images, start
from random_bases import keras_api
from random_bases.keras_api import keras


def _problem(name: str, directory: str):
    """(model, data, held-out data)."""
    if name == "quadratic":
        # sum_i h_i w_i^2 / 2, whatever the input.
        hessian = tf.constant(curvature())[:, tf.newaxis]

        class Quadratic(keras.layers.Layer):
            """The loss as an output."""

            def build(self, input_shape):
                self.w = self.add_weight(name="w", shape=(SIZE, 1))
                self.built = True

            def call(self, inputs):
                value = 0.5 * tf.reduce_sum(hessian * tf.convert_to_tensor(self.w) ** 2)
                return value + 0.0 * inputs[:, :1]

        inputs = keras.Input((1,))
        model = keras.Model(inputs, Quadratic()(inputs))
        keras_api.compile_model(model, jit_compile=True, loss=lambda y, value: value)
        x, y = np.zeros((64, 1), np.float32), np.zeros(64, np.int32)
        return model, (x, y), (x, y)
    model = keras.Sequential(
        [keras.Input((784,)), keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras_api.compile_model(model, jit_compile=True, loss=loss)
    x, y = images(directory)
    return model, (x[:50000], y[:50000]), (x[50000:], y[50000:])


def main(name: str, seed: str, directory: str, basis: str = "normal", rank: Optional[str] = None) -> None:
    """Prints the held-out loss at the end and the milliseconds of an update."""
    population, sigma, rate, updates = PROBLEMS[name]
    model, data, held_out = _problem(name, directory)
    model.set_weights(start(name))
    nes = rb.NaturalEvolutionStrategies(
        model,
        population,
        sigma,
        learning_rate=rate,
        antithetic=True,
        basis=basis,
        seed=int(seed),
        rank=None if rank is None else int(rank),
    )
    times = []

    class Clock(keras.callbacks.Callback):
        """Notes when updates end."""

        def on_train_batch_end(self, batch, logs=None):
            times.append(time.perf_counter())

    nes.fit(*data, batch_size=BATCH, steps_per_epoch=updates, verbose=0, callbacks=[Clock()])
    loss = model.evaluate(*held_out, batch_size=1000, verbose=0)
    print(json.dumps({"loss": float(np.ravel(loss)[0]), "ms": 1e3 * float(np.median(np.diff(times)))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
