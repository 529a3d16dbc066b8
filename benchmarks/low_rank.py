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
_TOKENS, _WIDTH, _BLOCKS = 16, 128, 2
_POPULATION, _UPDATES = 250, 20


def run() -> List[Figure]:
    """The figures of this part."""
    return [
        _inference(),
        _inference_of_a_transformer(),
        *(_own_weights(minibatch) for minibatch in ("independent", "shared")),
    ]


def _inference() -> Figure:
    return _against_predict(_model(_WIDTHS), *_images(_LARGE * _BATCH), "MLP 784-512-512-10")


def _inference_of_a_transformer() -> Figure:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(_LARGE * _BATCH, _TOKENS, _WIDTH)).astype(np.float32)
    y = generator.integers(0, 10, len(x)).astype(np.int32)
    what = f"transformer of {_BLOCKS} blocks of width {_WIDTH}, {_TOKENS} tokens"
    return _against_predict(_transformer(), x, y, what)


def _against_predict(model: keras.Model, x: np.ndarray, y: np.ndarray, name: str) -> Figure:
    """An update's offspring against `predict` of as many examples, in batches of 1,024."""
    runs = {
        "update": _update(model, x, y, _LARGE, "low_rank", "independent", 1),
        "predict": functools.partial(model.predict, x, batch_size=1024, verbose=0),
    }
    times = alternate(runs, repeats=7, clock=time.process_time)
    what = f"update, processor time, {name}, low_rank, {_LARGE:,} offspring of {_BATCH} examples"
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
    return _compiled(keras.Sequential([keras.Input((784,)), *hidden, keras.layers.Dense(10)]))


def _transformer() -> keras.Model:
    """Blocks of attention and of two dense layers, each with what it adds to, normalised before."""
    inputs = keras.Input((_TOKENS, _WIDTH))
    x = inputs
    for _ in range(_BLOCKS):
        normal = keras.layers.LayerNormalization()(x)
        x = keras.layers.Add()([x, keras.layers.MultiHeadAttention(4, _WIDTH // 4)(normal, normal)])
        hidden = keras.layers.Dense(4 * _WIDTH, activation="relu")(keras.layers.LayerNormalization()(x))
        x = keras.layers.Add()([x, keras.layers.Dense(_WIDTH)(hidden)])
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.LayerNormalization()(x))
    return _compiled(keras.Model(inputs, keras.layers.Dense(10)(x)))


def _compiled(model: keras.Model) -> keras.Model:
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
