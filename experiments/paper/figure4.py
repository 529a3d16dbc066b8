"""Figure 4: compartments, at a constant number of directions: accuracy and time."""

from pathlib import Path
from typing import Any, Dict, List

import tensorflow as tf

from experiments import training
from experiments.figures import panels
from experiments.paper import runs, timing
from experiments.paper.presets import Network, Preset
from random_bases.subspace import Subspace

COMPARTMENTS = (1, 2, 5, 10, 20, 50, 100)
_TIMED = ("normal", "hadamard")


def numbers(network: Network) -> List[int]:
    """Numbers of compartments; each needs a direction."""
    return [number for number in COMPARTMENTS if number <= network.dimensions]


def series(network: Network) -> Dict[int, runs.Series]:
    """Number of compartments -> series; one compartment is what the other figures have."""
    return {
        number: runs.series(
            network.config,
            "rbd",
            basis="hadamard",
            **({"compartments": str(number)} if number > 1 else {}),
        )
        for number in numbers(network)
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the figure needs."""
    return [
        run for each in series(preset.main).values() for run in each.runs(preset.figure_epochs, preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure4.json` holds."""
    network = preset.main
    which = series(network)
    epochs = runs.common_epochs(list(which.values()), workdir)
    accuracy = runs.accuracy_line(f"Hadamard, {epochs} epochs", list(which.items()), workdir, epochs)
    times = timing.kept(workdir / f"figure4_times_{network.config}.json", lambda: _times(network))
    relative = [
        panels.line(basis, numbers(network), [value / times["normal"][0] for value in times[basis]])
        for basis in _TIMED
    ]
    return {
        "panels": [
            panels.panel(
                "Accuracy",
                "compartments",
                "validation accuracy (%)",
                [accuracy],
                "log",
                diverged=runs.diverged(which, workdir),
            ),
            panels.panel(
                "CPU time of a step's bases",
                "compartments",
                "relative to normal, one",
                relative,
                "log",
                "log",
            ),
        ],
        "cpu_milliseconds": times,
        **training.environment(),
    }


def _times(network: Network) -> Dict[str, List[float]]:
    return {
        basis: [_cpu_milliseconds(network, number, basis) for number in numbers(network)] for basis in _TIMED
    }


def _cpu_milliseconds(network: Network, number: int, basis: str) -> float:
    gradient = [tf.ones([network.parameters])]
    subspace = Subspace([[network.parameters]], network.dimensions, basis, compartments=number)
    return timing.cpu_milliseconds(lambda step: subspace.sketch(gradient, 0, tf.constant(step))[1][0].numpy())


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `figure4.json`, `figure4.png` and `figure4.svg`."""
    panels.write(found, directory, "figure4")
