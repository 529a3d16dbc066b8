"""Figure 5: distributions of the directions, as published and at equal variance."""

from pathlib import Path
from typing import Any, Dict, List

from experiments import training
from experiments.figures import panels
from experiments.paper import runs
from experiments.paper.presets import Network, Preset

# The 2020 code leaves uniform at variance 1/3, and its Bernoulli(0.5) at mean -0.5.
AS_PUBLISHED = ("normal", "uniform-2020", "bernoulli-2020")
EQUAL_VARIANCE = ("normal", "uniform", "rademacher", "hadamard")


def series(network: Network, bases) -> Dict[str, runs.Series]:
    """Basis -> series, all at one learning rate."""
    return {basis: runs.series(network.config, "rbd", basis=basis) for basis in bases}


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the figure needs."""
    every = series(preset.main, dict.fromkeys(AS_PUBLISHED + EQUAL_VARIANCE))
    return [run for each in every.values() for run in each.runs(preset.figure_epochs, preset.seeds)]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure5.json` holds."""
    return {
        "panels": [
            _panel("As published: equal rate", series(preset.main, AS_PUBLISHED), workdir),
            _panel("At zero mean and equal variance", series(preset.main, EQUAL_VARIANCE), workdir),
        ],
        **training.environment(),
    }


def _panel(title: str, which: Dict[str, runs.Series], workdir: Path) -> Dict[str, Any]:
    epochs = runs.common_epochs(list(which.values()), workdir)
    lines = []
    for basis, each in which.items():
        curve = [100 * value for value in runs.measured(each, workdir, epochs).curve]
        lines.append(panels.line(basis, range(1, len(curve) + 1), curve))
    return panels.panel(
        title, "epoch", "validation accuracy (%)", lines, diverged=runs.diverged(which, workdir)
    )


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `figure5.json`, `figure5.png` and `figure5.svg`."""
    panels.write(found, directory, "figure5")
