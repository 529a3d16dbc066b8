"""Figure 6, ours: accuracy against the number of directions, up to all D of them, at constant cost.

Hadamard directions: a step takes O(D log D) whatever d is. The rate makes RBD move like SGD where d allows it
(`random_bases.analysis.approximation.learning_rate`).
"""

from pathlib import Path
from typing import Any, Dict, List

from experiments import training
from experiments.figures import panels
from experiments.paper import runs
from experiments.paper.presets import Network, Preset
from random_bases.analysis import approximation

_FEWEST = 100  # directions, with error feedback


def series(network: Network) -> Dict[int, runs.Series]:
    """Number of directions -> series."""
    every = {}
    for d in approximation.decades(network.parameters):
        rate = approximation.learning_rate(network.rates["sgd"], network.rates["rbd"], d, network.parameters)
        every[d] = runs.series(network.config, "rbd", basis="hadamard", dimensions=d, learning_rate=rate)
    return every


def with_feedback(network: Network) -> Dict[int, runs.Series]:
    """Number of directions -> series with error feedback, at SGD's learning rate.

    Only where d is large enough for that rate: see docs/methods.md.
    """
    rate = network.rates["sgd"]
    changes = {"basis": "hadamard", "error_feedback": 1.0, "learning_rate": rate}
    return {
        d: runs.series(network.config, "rbd", dimensions=d, **changes)
        for d in approximation.decades(network.parameters)
        if d >= _FEWEST
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the figure needs."""
    both = (*series(preset.main).values(), *with_feedback(preset.main).values())
    every = [*both, runs.series(preset.main.config, "sgd")]
    return [run for each in every for run in each.runs(preset.figure_epochs, preset.seeds)]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure6.json` holds."""
    which = series(preset.main)
    sgd = runs.series(preset.main.config, "sgd")
    remembering = with_feedback(preset.main)
    epochs = runs.common_epochs([*which.values(), *remembering.values(), sgd], workdir)
    lines = [runs.accuracy_line(f"RBD, Hadamard, {epochs} epochs", list(which.items()), workdir, epochs)]
    lines.append(runs.accuracy_line("with error feedback", list(remembering.items()), workdir, epochs))
    ends = list(which)[:: len(which) - 1]
    lines.append(runs.accuracy_line("SGD", [(d, sgd) for d in ends], workdir, epochs, "dashed"))
    title = f"{preset.main.config}, D = {preset.main.parameters:,}"
    return {
        "panels": [
            panels.panel(
                title,
                "directions d",
                "validation accuracy (%)",
                lines,
                "log",
                diverged=runs.diverged(which, workdir),
            )
        ],
        **training.environment(),
    }


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `figure6.json`, `figure6.png` and `figure6.svg`."""
    panels.write(found, directory, "figure6")
