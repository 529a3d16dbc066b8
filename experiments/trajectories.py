"""What recorded trajectories span, and what runs in those subspaces reach: figures and their numbers."""

from pathlib import Path
from typing import Any, Dict, Union

import ml_collections
import numpy as np

from experiments import methods, results
from experiments.figures import curves
from experiments.methods.averaging import InTrajectory, load_trajectory
from random_bases import averaging
from random_bases.bases.trajectory import explained_variance_ratio


def inspect(directory: Union[str, Path], figure: Path) -> Dict[int, float]:
    """Draws the variance that the principal components of a trajectory explain.

    Args:
      directory: of the trajectory.
      figure: the file to write; its ending chooses the format.

    Returns:
      The number of components -> the fraction of the variance (about the mean) that they explain.

    Raises:
      TrajectoryError, ValueError: if the trajectory is damaged or absent, or has no variance.
    """
    trajectory = averaging.Trajectory(directory)
    ratio = explained_variance_ratio(trajectory.weights)
    title = f"{len(trajectory)} snapshots, steps {trajectory.steps[0]:,} to {trajectory.steps[-1]:,}"
    curves.explained_variance(figure, {"trajectory": ratio}, title)
    explained = np.cumsum(ratio)
    return {k: float(explained[k - 1]) for k in (1, 2, 3, 5, 10, 20, 40, 80) if k <= len(ratio)}


def _compared(result: Dict[str, Any]) -> Dict[str, Any]:
    """What `compare` says of a finished run."""
    config = ml_collections.ConfigDict(result["config"])
    method = methods.get(config.method)
    before = 0.0
    if isinstance(method, InTrajectory):
        before = load_trajectory(config).steps[-1] / result["steps_per_epoch"]
    own = result["validation_accuracy"]
    trains = config.method != "swa"
    return {
        "method": config.method,
        "epochs": [before + trains * (1 + epoch) for epoch in range(len(own))],
        "trained_dimensions": result["trained_dimensions"] if trains else 0,
        "validation_accuracy": own,
        "test_accuracy": result["test_accuracy"],
    }


def compare(directory: Union[str, Path]) -> Dict[str, Dict[str, Any]]:
    """Draws the finished runs under `directory` against the epochs behind them: `comparison.json`, `.png`.

    Behind a run in a trajectory's subspace are its own epochs and those of SGD up to the last snapshot.

    Returns:
      The run's name -> method, epochs behind it after each of its own, and its accuracies.

    Raises:
      ValueError: if there is no finished run.
      TrajectoryError: if the trajectory of a run is damaged or absent.
    """
    directory = Path(directory)
    content = {}
    for path in sorted(directory.glob("*/result.json")):
        result = results.read_result(path)
        if result is None or result["status"] != "finished":
            continue
        with results.shaped(path):
            content[path.parent.name] = _compared(result)
    if not content:
        raise ValueError(f"{directory} has no finished runs: <name>/result.json.")
    results.write_json(directory / "comparison.json", content)
    curves.averaging(directory / "comparison.png", content)
    return content
