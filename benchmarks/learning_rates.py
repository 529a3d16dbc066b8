"""Accuracy against the learning rate, for rules of docs/methods.md, on scikit-learn's digits.

python -m benchmarks.learning_rates [METHOD ...]

METHOD is "kronecker" or "lora"; by default both. Rates are constant; a column is a rate, the number held-out
accuracy in percent after the last epoch, one seed. A minute or two on two cores.
"""

import sys
from typing import Callable, Dict, List, Sequence

import numpy as np
import tensorflow as tf

import random_bases as rb
from experiments import datasets
from experiments.results import format_table
from random_bases import keras_api
from random_bases.keras_api import keras, set_random_seed

_EPOCHS = 15
_BATCH = 32
_LOSS = "sparse_categorical_crossentropy"


class Digits:
    """The data; `moved`: each image by a pixel to the right."""

    def __init__(self, moved: bool = False):
        data = datasets.load("digits")
        self.train, self.test = (self._arrays(split, moved) for split in (data.train, data.validation))

    @staticmethod
    def _arrays(split: datasets.ImageSplit, moved: bool):
        x = np.roll(split.images, 1, axis=2) if moved else split.images
        return (x / 16).astype(np.float32).reshape(len(x), -1), split.labels


def network() -> keras.Model:
    """64-128-10: 9,610 parameters."""
    set_random_seed(0)
    layers = [keras.layers.Dense(128, activation="relu"), keras.layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((64,)), *layers])


def sweep(
    name: str,
    model: keras.Model,
    optimizer,
    rates: Sequence[float],
    train: Callable[[], None],
    digits: Digits,
) -> Dict[str, str]:
    """A row of the table: the same start for each rate, in the programs of the first."""
    start = model.get_weights()
    row = {"method": name}
    for rate in rates:
        model.set_weights(start)
        for variable in optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        optimizer.learning_rate = rate
        train()
        row[f"{rate:g}"] = f"{100 * model.evaluate(*digits.test, verbose=0)[1]:.1f}"
    return row


def _fit(model: keras.Model, digits: Digits) -> Callable[[], None]:
    return lambda: model.fit(*digits.train, batch_size=_BATCH, epochs=_EPOCHS, shuffle=False, verbose=0)


def kronecker() -> List[Dict[str, str]]:
    """SGD, then a `SubspaceModel` with redraws and D / d of 10, 30 and 100."""
    digits, rates = Digits(), [2.0**power for power in range(-4, 5)]
    rows = []
    for fraction in (None, 10, 30, 100):
        model, name = network(), "SGD"
        if fraction is not None:
            d = model.count_params() // fraction
            model = rb.SubspaceModel(model, d, basis="kronecker", redraw_every=1, seed=0)
            name = f"kronecker, redrawn, d = {d}, D / d = {fraction}"
        optimizer = keras.optimizers.SGD(1.0)
        keras_api.compile_model(model, False, optimizer=optimizer, loss=_LOSS, metrics=["accuracy"])
        rows.append(sweep(name, model, optimizer, rates, _fit(model, digits), digits))
    return rows


def lora() -> List[Dict[str, str]]:
    """One vector over LoRA's factors, with Adam: a network for the digits moves to shifted ones."""
    digits, moved, rates = Digits(), Digits(moved=True), [0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
    rows = []
    for d in (30, 100, 300):
        model = network()
        keras_api.compile_model(model, False, optimizer="adam", loss=_LOSS, metrics=["accuracy"])
        _fit(model, digits)()
        for layer in model.layers:
            layer.enable_lora(4)
            layer.bias.trainable = False
        sub = rb.SubspaceModel(model, d, basis="hadamard", seed=0)
        optimizer = keras.optimizers.Adam(0.1)
        keras_api.compile_model(sub, False, optimizer=optimizer, loss=_LOSS, metrics=["accuracy"])
        name = f"one vector over LoRA of rank 4, d = {d}"
        rows.append(sweep(name, sub, optimizer, rates, _fit(sub, moved), moved))
    return rows


if __name__ == "__main__":
    parts = {"kronecker": kronecker, "lora": lora}
    for part in sys.argv[1:]:
        if part not in parts:
            raise SystemExit(f"{part!r} is unknown; allowed: {', '.join(parts)}.")
    for part in sys.argv[1:] or parts:
        print(format_table(parts[part]()), flush=True)
