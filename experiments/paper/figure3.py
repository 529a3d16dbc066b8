"""Figure 3: ResNet-8 on CIFAR-10, accuracy against epochs for RBD, FPD, NES and SGD; with error feedback."""

from pathlib import Path
from typing import Any, Dict, List

from experiments import training
from experiments.figures import panels
from experiments.paper import feedback_column, published, runs
from experiments.paper.presets import Preset


def series(config: str) -> Dict[str, runs.Series]:
    """Label -> series."""
    return {
        "SGD": runs.series(config, "sgd"),
        "RBD": runs.series(config, "rbd", basis="hadamard"),
        "FPD": runs.series(config, "fpd", basis="hadamard"),
        "NES": runs.series(config, "nes"),
        "RBD, error feedback": feedback_column.series(config),
    }


def plan(preset: Preset) -> List[runs.Run]:
    """The runs that the figure needs."""
    return [
        run for each in series(preset.deep).values() for run in each.runs(preset.deep_epochs, preset.seeds)
    ]


def content(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """What `figure3.json` holds: the curves, and RBD's lead at the last epoch that all have."""
    which = series(preset.deep)
    curves = []
    for label, each in which.items():
        curve = runs.measured(each, workdir).curve
        curves.append(panels.line(label, range(1, len(curve) + 1), [100 * value for value in curve]))
    title = published.FIGURE_3_NAMES.get(preset.deep, preset.deep)
    return {
        "panels": [
            panels.panel(
                title,
                "epoch",
                "validation accuracy (%)",
                curves,
                diverged=runs.diverged(which, workdir),
            )
        ],
        "gaps": gaps(preset, workdir),
        **training.environment(),
    }


def gaps(preset: Preset, workdir: Path) -> Dict[str, Any]:
    """By how many points RBD is better than FPD and NES, beside the paper's."""
    which = series(preset.deep)
    epochs = runs.common_epochs(list(which.values()), workdir)
    ends = {label: runs.measured(each, workdir, epochs) for label, each in which.items()}
    lead = {
        label.lower(): 100 * (ends["RBD"].mean - ends[label].mean)
        for label in ("FPD", "NES")
        if ends["RBD"].accuracies and ends[label].accuracies
    }
    return {"epochs": epochs, "measured": lead, "published": published.FIGURE_3_GAPS}


def write(found: Dict[str, Any], directory: Path) -> None:
    """Writes `figure3.json`, `figure3.png` and `figure3.svg`."""
    panels.write(found, directory, "figure3")
