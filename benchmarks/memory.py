"""Peak memory of training, a process for each measurement.

`python -m benchmarks.memory METHOD D d` is one of those processes: METHOD is "sgd" or a basis, D about
the number of parameters. It prints JSON.
"""

import ctypes
import json
import sys
import time
from typing import List

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.measure import Figure, in_process, peak_megabytes, resident_megabytes
from random_bases import keras_api
from random_bases.keras_api import keras

_BATCH = 32


def run() -> List[Figure]:
    """The figures of this part."""
    return [*_against_dimensions(), *_largest()]


def _against_dimensions() -> List[Figure]:
    figures = []
    size = 10**6
    vector = 4 * size / 2**20
    sgd = in_process("benchmarks.memory", "sgd", size, 0)
    for basis in ("hadamard", "normal"):
        few, many = (in_process("benchmarks.memory", basis, size, d) for d in (10, 10_000))
        what = f"peak memory, {basis}, D = 10^6, d = 10,000"
        ratio = many["peak_mb"] / few["peak_mb"]
        figures.append(Figure(what, "d = 10", many["peak_mb"], few["peak_mb"], "MB", ratio, "<= 1.05"))
        above = many["step_mb"] - sgd["step_mb"]
        what = f"memory of a step above SGD's, {basis}, D = 10^6, d = 10,000"
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
            rbd["peak_mb"],
            24 * 1024,
            "MB",
            rbd["peak_mb"] / 24 / 1024,
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
    # What compilation left behind is not a step's.
    ctypes.CDLL(None).malloc_trim(0)
    before = resident_megabytes()
    peak = peak_megabytes()
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")  # starts the peak anew
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model.train_on_batch(x, x)
        seconds.append(time.perf_counter() - start)
    step_peak = peak_megabytes()
    print(
        json.dumps(
            {
                "parameters": model.count_params(),
                "seconds": float(np.median(seconds)),
                "step_mb": step_peak - before,
                "peak_mb": max(peak, step_peak),
            }
        )
    )


if __name__ == "__main__":
    del tf
    _child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
