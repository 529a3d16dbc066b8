"""Accuracy against the learning rate, in powers of two, for one series of runs."""

from pathlib import Path
from typing import Any, Dict, List

from experiments import training
from experiments.figures import panels
from experiments.paper import runs


def series(config: str, changes: Dict[str, Any], powers: List[int]) -> Dict[float, runs.Series]:
    """Learning rate -> series; `powers` of two."""
    return {
        2.0**power: runs.series(config, **{**changes, "learning_rate": 2.0**power})
        for power in sorted(powers)
    }


def plan(which: Dict[float, runs.Series], epochs: int, seeds: int) -> List[runs.Run]:
    """The runs of a sweep."""
    return [run for each in which.values() for run in each.runs(epochs, seeds)]


def content(title: str, which: Dict[float, runs.Series], workdir: Path, epochs: int) -> Dict[str, Any]:
    """What `sweep_*.json` holds: accuracies, and the best rate by the training examples alone."""
    found = {rate: runs.measured(each, workdir, epochs) for rate, each in which.items()}
    whole = {rate: each for rate, each in found.items() if each.accuracies and each.epochs == epochs}
    training_line = panels.line("training", list(whole), [100 * each.training for each in whole.values()])
    points = [(rate, which[rate]) for rate in whole]
    diverged = [rate for rate, each in found.items() if each.diverged]
    validation = runs.accuracy_line("validation", points, workdir, epochs)
    return {
        "panels": [
            panels.panel(
                f"{title}, {epochs} epochs",
                "learning rate",
                "accuracy (%)",
                [training_line, validation],
                "log",
                diverged=[f"{rate:g}" for rate in diverged],
            )
        ],
        "best_by_training": max(whole, key=lambda rate: whole[rate].training) if whole else None,
        "diverged": diverged,
        **training.environment(),
    }
