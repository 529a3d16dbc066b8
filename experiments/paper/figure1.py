"""Figure 1: a loss surface, the steepest descent at a point, and its part in a random basis of one direction.

Not a drawing: a network on handwritten digits is restricted to two filter-normalised directions of its weight
space, so that D = 2; the surface is its training loss, and the basis a `random_bases.bases` one with d = 1.
"""

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from experiments import brief, datasets, methods, results, training
from experiments.figures import surface
from experiments.paper import runs, timing
from experiments.paper.presets import Preset
from random_bases import bases
from random_bases.analysis import directions, landscape

_EPOCHS = 10
_EXAMPLES = 500
_POINTS = 31
_REACH = 1.5
_START = (-0.9, 1.1)  # where the arrows begin, in units of the directions
_DIFFERENCE = 1e-2
_ARROW = 0.6  # the length of the steepest descent's arrow on the plane
_SEED = 0


def plan(preset: Preset) -> List[runs.Run]:
    """No runs: the network is trained in seconds."""
    del preset
    return []


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure1.json` holds: the surface, the point and its arrows."""
    del preset
    return {**timing.kept(workdir / "figure1_surface.json", measured), **training.environment()}


def measured() -> Dict[str, Any]:
    """Trains the network, and measures the loss around it and the arrows."""
    model, pair = _trained()
    two = directions.draw(model, 2, seed=0, filter_normalize=True)
    axis = np.linspace(-_REACH, _REACH, _POINTS).tolist()
    gradient = _gradient(model, two, pair)
    basis = bases.get("orthogonal", size=2, dimensions=1)
    _, in_basis = basis.sketch(gradient.astype(np.float32), seed=_SEED)
    descent = -_ARROW * gradient / np.linalg.norm(gradient)
    return {
        "axis": axis,
        "loss": landscape.plane(model, two, axis, axis, pair).tolist(),
        "point": list(_START),
        "loss_at_point": float(landscape.plane(model, two, _START[:1], _START[1:], pair)[0, 0]),
        "gradient": gradient.tolist(),
        "descent": descent.tolist(),
        "descent_in_basis": (-_ARROW * np.array(in_basis) / np.linalg.norm(gradient)).tolist(),
    }


def _trained():
    """A network, and examples to take the loss on."""
    data = datasets.load("digits")
    model = brief.network("fc", data, seed=0)
    config = training.default_config()
    config.method = "sgd"
    brief.train(model, methods.build_optimizer(config), data, 32, seed=0, epochs=_EPOCHS)
    return model, brief.examples(data, _EXAMPLES)


def _gradient(model, two, pair) -> np.ndarray:
    """Of the loss on the plane, at the start: central differences, [2]."""
    alpha, beta = _START
    steps = [-_DIFFERENCE, _DIFFERENCE]
    along_first = landscape.plane(model, two, [alpha + step for step in steps], [beta], pair)[:, 0]
    along_second = landscape.plane(model, two, [alpha], [beta + step for step in steps], pair)[0]
    return np.array([np.diff(values)[0] for values in (along_first, along_second)]) / (2 * _DIFFERENCE)


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `figure1.json`, `figure1.png` and `figure1.svg`."""
    results.write_json(directory / "figure1.json", found)
    for ending in ("png", "svg"):
        surface.draw(found, directory / f"figure1.{ending}")
