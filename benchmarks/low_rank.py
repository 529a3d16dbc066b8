"""Evolution with low-rank perturbations: against inference, and against offspring with weights of their own.

In processor time of all threads: what else the machine does changes wall-clock times by more than the
differences.
"""

import functools
import time
from typing import Any, Callable, List, Tuple

import numpy as np

import random_bases as rb
from benchmarks.measure import Figure, alternate, compare
from random_bases import keras_api
from random_bases.keras_api import keras

_BATCH = 32
_LARGE, _WIDTHS = 1024, (512, 512)
_POPULATION, _UPDATES = 250, 20


def run() -> List[Figure]:
    """The figures of this part."""
    return [_inference(), *(_own_weights(minibatch) for minibatch in ("independent", "shared"))]


def _inference() -> Figure:
    """An update's offspring against `predict` of as many examples, in batches of 1,024."""
    model = _model(_WIDTHS)
    x, y = _images(_LARGE * _BATCH)
    runs = {
        "update": _update(model, x, y, _LARGE, "low_rank", "independent", 1),
        "predict": functools.partial(model.predict, x, batch_size=1024, verbose=0),
    }
    times = alternate(runs, repeats=7, clock=time.process_time)
    what = f"update, processor time, MLP 784-512-512-10, low_rank, {_LARGE:,} offspring of {_BATCH} examples"
    return compare(what, "predict of as many examples, inverse", times, ">= 0.7", inverse=True)


def _own_weights(minibatch: str) -> Figure:
    """Updates of FC-MNIST against those by "normal" perturbations."""
    x, y = _images(_POPULATION * _BATCH)  # each call copies them
    runs = {
        basis: _update(_model((128,)), x, y, _POPULATION, basis, minibatch, _UPDATES)
        for basis in ("low_rank", "normal")
    }
    times = alternate(runs, repeats=7, clock=time.process_time)
    times = {name: seconds / _UPDATES for name, seconds in times.items()}
    what = f"update, processor time, FC-MNIST, low_rank, {_POPULATION} offspring, {minibatch} mini-batches"
    return compare(what, "normal, inverse", times, ">= 5", inverse=True)


def _model(widths: Tuple[int, ...]) -> keras.Model:
    hidden = [keras.layers.Dense(width, activation="relu") for width in widths]
    model = keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keras_api.compile_model(model, jit_compile=True, loss=loss)
    return model


def _images(number: int) -> Tuple[np.ndarray, np.ndarray]:
    """Of MNIST's shape."""
    generator = np.random.default_rng(0)
    return generator.random((number, 784), np.float32), generator.integers(0, 10, number).astype(np.int32)


def _update(
    model: keras.Model, x: Any, y: Any, population: int, basis: str, minibatch: str, updates: int
) -> Callable[[], Any]:
    """So many updates."""
    nes = rb.NaturalEvolutionStrategies(
        model, population, 0.02, learning_rate=1e-3, minibatch=minibatch, basis=basis, seed=0
    )
    return functools.partial(nes.fit, x, y, batch_size=_BATCH, steps_per_epoch=updates, verbose=0)
