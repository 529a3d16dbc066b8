"""Each public constructor, given what is no int, raises the same kind of error and names the argument."""

import numpy as np
import pytest

import random_bases as rb
from random_bases import analysis
from random_bases.bases import DenseBasis, FastfoodBasis, HadamardBasis, OrthogonalBasis, SparseBasis
from random_bases.keras_api import keras

OF_A_BASIS = {"size": 8, "dimensions": 2}


def model():
    built = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    built.compile(loss="mse")
    return built


def strategies(**arguments):
    return rb.NaturalEvolutionStrategies(model(), sigma=0.1, learning_rate=0.1, **arguments)


def descent(**arguments):
    return rb.RandomBasesDescent("sgd", **arguments)


# constructor, arguments that are allowed, int arguments: name -> (the least, whether None is allowed).
CONSTRUCTORS = [
    (
        rb.SubspaceModel,
        lambda: {"model": model(), "dimensions": 2},
        {"dimensions": (1, False), "seed": (0, True)},
    ),
    (
        strategies,
        lambda: {"population": 4},
        {"population": (2, False), "seed": (0, True), "memory_limit": (0, False)},
    ),
    (
        descent,
        lambda: {"dimensions": 2},
        {"dimensions": (1, False), "seed": (0, True), "redraw_every": (1, True)},
    ),
    (
        rb.TrajectoryRecorder,
        lambda: {"directory": "nowhere"},
        {"every": (1, False), "start": (0, False), "stop": (1, True), "most": (1, True)},
    ),
    (
        rb.layers.RandomProjection,
        lambda: {"units": 8, "dimensions": 2},
        {"units": (1, False), "dimensions": (1, False)},
    ),
    (rb.callbacks.SwitchToInner, lambda: {"epoch": 1, "learning_rate": 0.1}, {"epoch": (0, False)}),
    (analysis.curvature.Curvature, lambda: {"data": ()}, {"directions": (1, False), "seed": (0, True)}),
    (
        analysis.gradient_correlation.GradientCorrelation,
        lambda: {"data": ()},
        {"dimensions": (1, True), "seed": (0, True)},
    ),
    (
        DenseBasis,
        lambda: {**OF_A_BASIS, "distribution": "normal"},
        {"size": (1, False), "dimensions": (1, False)},
    ),
    (FastfoodBasis, lambda: OF_A_BASIS, {"size": (1, False), "dimensions": (1, False)}),
    (HadamardBasis, lambda: OF_A_BASIS, {"size": (1, False), "dimensions": (1, False)}),
    (SparseBasis, lambda: OF_A_BASIS, {"size": (1, False), "dimensions": (1, False)}),
    (
        OrthogonalBasis,
        lambda: OF_A_BASIS,
        {"size": (1, False), "dimensions": (1, False), "block": (1, False)},
    ),
]
CASES = [
    pytest.param(constructor, allowed, name, *limits, id=f"{constructor.__name__}-{name}")
    for constructor, allowed, ints in CONSTRUCTORS
    for name, limits in ints.items()
]


@pytest.mark.parametrize(("constructor", "allowed", "name", "least", "none"), CASES)
def test_ints_are_ints(constructor, allowed, name, least, none):
    constructor(**{**allowed(), name: np.int64(max(least, 2))})
    for value in (2.5, "3", True, *(() if none else (None,))):
        with pytest.raises(TypeError, match=f"{name}={value!r} must be"):
            constructor(**{**allowed(), name: value})
    for value in (-1, *((0,) if least > 0 else ())):
        with pytest.raises(ValueError, match=f"{name}={value!r} "):
            constructor(**{**allowed(), name: value})
