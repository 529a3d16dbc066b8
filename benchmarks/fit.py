"""A step of `fit`, RBD against SGD, with the settings of `experiments.training`.

The input is in memory, unaugmented: the least work beside which a sketch can be seen.
"""

import functools
from typing import Callable, List, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf

import random_bases as rb
from benchmarks.measure import Figure, alternate, compare
from experiments import datasets, networks, training
from random_bases import keras_api
from random_bases.keras_api import keras

_BATCH = 32
STEPS_PER_EXECUTION = 100


class Case(NamedTuple):
    """A network and what it should reach."""

    network: str
    input_shape: Tuple[int, int, int]
    sgd_steps: int  # how many steps of SGD take about a second on 2 cores
    targets: Tuple[Tuple[str, int, float], ...]  # basis, d, highest ratio


CASES = (
    Case(
        "fc",
        (28, 28, 1),
        3000,
        (
            ("hadamard", 1000, 2.0),
            ("hadamard", 50_000, 3.5),
            ("rademacher", 250, 12.0),
            ("normal", 250, 50.0),
        ),
    ),
    Case(
        "cnn",
        (28, 28, 1),
        300,
        (("hadamard", 1000, 1.15), ("hadamard", 50_000, 1.3), ("rademacher", 250, 2.5), ("normal", 250, 6.0)),
    ),
    Case(
        "resnet8",
        (32, 32, 3),
        100,
        (("hadamard", 1000, 1.1), ("hadamard", 50_000, 1.2), ("rademacher", 250, 2.0), ("normal", 250, 5.0)),
    ),
)


def run() -> List[Figure]:
    """The figures of this part."""
    figures = [figure for case in CASES for figure in _compare(case)]
    return [*figures, _augmentation()]


def _augmentation() -> Figure:
    """SGD on FC-MNIST, whose images can be anything, from the experiments' input."""
    case = CASES[0]
    random = np.random.default_rng(0)
    images = random.integers(256, size=(50_000, *case.input_shape)).astype(np.uint8)
    labels = random.integers(10, size=50_000).astype(np.int32)
    split = datasets.ImageSplit(images, labels, datasets.Preprocessing(255, pad=3, brightness=0.5))
    fitters = {}
    for augment in (True, False):
        batches = datasets.training_batches(split, _BATCH, seed=0, augment=augment)
        fitters[str(augment)] = fitter(case, keras.optimizers.SGD(0.01), batches)
    hundreds = len(split) // _BATCH // STEPS_PER_EXECUTION
    seconds = alternate({name: functools.partial(fit, hundreds) for name, fit in fitters.items()}, repeats=7)
    return compare("an epoch of SGD, FC-MNIST, augmented", "not augmented", seconds, "<= 1.5")


def _compare(case: Case) -> List[Figure]:
    sgd = fitter(case, keras.optimizers.SGD(0.01))
    figures = []
    for basis, dimensions, target in case.targets:
        optimizer = rb.RandomBasesDescent(keras.optimizers.SGD(0.01), dimensions, basis=basis, seed=0)
        rbd = fitter(case, optimizer)
        hundreds = case.sgd_steps // STEPS_PER_EXECUTION
        rbd_hundreds = max(1, round(hundreds / target))
        runs = {"rbd": functools.partial(rbd, rbd_hundreds), "sgd": functools.partial(sgd, hundreds)}
        seconds = alternate(runs, repeats=5)
        value = 10 * seconds["rbd"] / rbd_hundreds
        reference = 10 * seconds["sgd"] / hundreds
        what = f"fit step, {case.network}, RBD {basis} d = {dimensions:,}"
        figures.append(Figure(what, "SGD", value, reference, "ms", value / reference, f"<= {target:g}"))
    return figures


def fitter(case: Case, optimizer, batches: Optional[tf.data.Dataset] = None) -> Callable[[int], None]:
    """A function of the number of hundreds of steps that trains for so many."""
    model = networks.get(case.network, case.input_shape)
    keras_api.compile_model(
        model,
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=STEPS_PER_EXECUTION,
        jit_compile=training.jit_compile(case.network),
    )
    batches = batches or _in_memory(case)
    return lambda hundreds: model.fit(
        batches, steps_per_epoch=hundreds * STEPS_PER_EXECUTION, epochs=1, verbose=0, shuffle=False
    )


def _in_memory(case: Case) -> tf.data.Dataset:
    random = np.random.default_rng(0)
    images = random.normal(size=(64, _BATCH, *case.input_shape)).astype(np.float32)
    labels = random.integers(10, size=(64, _BATCH))
    # Where tf.data tunes itself, the end of `fit` at times waits until it has tuned once more.
    options = tf.data.Options()
    options.autotune.enabled = False
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().prefetch(16)
    return batches.with_options(options)
