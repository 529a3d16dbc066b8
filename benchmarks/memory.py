"""Peak memory of training, a process for each measurement.

`python -m benchmarks.memory METHOD D d` is one of those processes: METHOD is "sgd" or a basis, D about
the number of parameters. It prints JSON.
"""

import json
import sys
import time
from typing import List

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.measure import Figure, in_process
from experiments import machine
from random_bases import keras_api
from random_bases.keras_api import keras

_BATCH = 32


def run() -> List[Figure]:
    """The figures of this part."""
    return [*_against_dimensions(), *_against_sgd(), *_largest()]


def _against_dimensions() -> List[Figure]:
    figures = []
    for basis in ("hadamard", "normal"):
        few, many = (in_process("benchmarks.memory", basis, 10**6, d)["mb"] for d in (10, 10_000))
        what = f"peak memory, {basis}, D = 10^6, d = 10,000"
        figures.append(Figure(what, "d = 10", many, few, "MB", many / few, "<= 1.05"))
    return figures


def _against_sgd() -> List[Figure]:
    """With enough parameters for what compilation takes not to matter."""
    size = 10**7
    vector = 4 * size / 2**20
    sgd = in_process("benchmarks.memory", "sgd", size, 0)["mb"]
    figures = []
    for basis, dimensions in (("hadamard", 10_000), ("normal", 10)):
        above = in_process("benchmarks.memory", basis, size, dimensions)["mb"] - sgd
        what = f"peak memory above SGD's, {basis}, D = 10^7, d = {dimensions:,}"
        figures.append(Figure(what, "a parameter vector", above, vector, "MB", above / vector, "<= 8"))
    return figures


def _largest() -> List[Figure]:
    sgd, rbd = (in_process("benchmarks.memory", method, 10**8, 10_000) for method in ("sgd", "hadamard"))
    what = "10^8 parameters, hadamard d = 10,000: {}"
    seconds = sgd["seconds"], rbd["seconds"]
    return [
        Figure(what.format("a step"), "SGD", seconds[1], seconds[0], "s", seconds[1] / seconds[0], "<= 3"),
        Figure(
            what.format("peak memory"),
            "24 GiB",
            rbd["mb"],
            24 * 1024,
            "MB",
            rbd["mb"] / 24 / 1024,
            "<= 1",
        ),
    ]


def _child(method: str, size: int, dimensions: int) -> None:
    width = round(size**0.5)
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(width)])
    optimizer = keras.optimizers.SGD(0.01)
    if method != "sgd":
        optimizer = rb.RandomBasesDescent(optimizer, dimensions, basis=method, seed=0)
    keras_api.compile_model(model, jit_compile=True, optimizer=optimizer, loss="mse")
    x = np.ones([_BATCH, width], np.float32)
    for _ in range(2):
        model.train_on_batch(x, x)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        model.train_on_batch(x, x)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": float(np.median(seconds)), "mb": machine.peak_megabytes()}))


if __name__ == "__main__":
    del tf
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
