"""What runs do with trajectories: record them, and train or average in the subspaces they span.

| method | starts at                | trains                                                               |
| ------ | ------------------------ | -------------------------------------------------------------------- |
| "twa"  | the average of snapshots | the coordinates in the snapshots' span, by the config's optimizer    |
| "dldr" | the first snapshot       | those in the first principal components: P-SGD; "bfgs": P-BFGS       |
| "swa"  | the average of snapshots | nothing                                                              |

All three end with BatchNormalization's statistics recomputed by one pass over the training data.
"""

import re
import time
from pathlib import Path
from typing import Any, Dict, List, Union

import ml_collections
import numpy as np

import random_bases
from experiments import datasets, figures, results
from random_bases import averaging
from random_bases.bases.trajectory import explained_variance_ratio
from random_bases.batches import without_autotuning
from random_bases.keras_api import keras

METHODS = ("twa", "swa", "dldr")
QUASI_NEWTON = {"bfgs": "BFGS", "l-bfgs-b": "L-BFGS-B"}
SCHEDULES = ("constant", "linear")

# Of passes that do not train.
_BATCH = 500


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for this: see there."""
    return {"schedule": "constant", "record": "", "trajectory": "", "snapshots": "", "regularization": 0.0}


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError for values of `default_keys` that are not allowed."""
    if config.schedule not in SCHEDULES:
        raise ValueError(f"config.schedule={config.schedule!r} is unknown; allowed: {SCHEDULES}.")
    if config.record not in ("", "epoch") and not re.fullmatch("[1-9][0-9]*", config.record):
        raise ValueError(f'config.record={config.record!r} is not possible; allowed: "", "epoch", a number.')
    if not re.fullmatch("([0-9]*:[0-9]*)?", config.snapshots):
        raise ValueError(f'config.snapshots={config.snapshots!r} is not possible; allowed: "", "first:end".')
    if config.method in METHODS and not config.trajectory:
        raise ValueError(f"config.method={config.method!r} needs config.trajectory, a recorded directory.")
    if config.optimizer in QUASI_NEWTON and config.method != "dldr":
        raise ValueError(f'config.optimizer={config.optimizer!r} is for config.method="dldr" only.')


def callbacks(config: ml_collections.ConfigDict, rate: float, workdir: Path) -> List[Any]:
    """The callbacks that record a run and let its learning rate fall."""
    result = []
    if config.schedule == "linear":
        result.append(keras.callbacks.LearningRateScheduler(lambda epoch: rate * (1 - epoch / config.epochs)))
    if config.record:
        every = config.record if config.record == "epoch" else int(config.record)
        result.append(averaging.TrajectoryRecorder(workdir / "trajectory", every=every, start=0, resume=True))
    return result


def load_trajectory(config: ml_collections.ConfigDict) -> averaging.Trajectory:
    """The snapshots that a configuration names.

    Raises:
      TrajectoryError: for a damaged or absent trajectory, or if there are no such snapshots.
    """
    trajectory = averaging.Trajectory(config.trajectory)
    if config.snapshots:
        first, end = config.snapshots.split(":")
        trajectory = trajectory[int(first or 0) : int(end) if end else None]
    if not len(trajectory):
        raise averaging.TrajectoryError(f"{config.trajectory} has no snapshots {config.snapshots!r}.")
    return trajectory


def prepare(config: ml_collections.ConfigDict, model: keras.Model) -> keras.Model:
    """The model that a method trains, from one of the recorded architecture."""
    if config.method not in METHODS:
        return model
    trajectory = load_trajectory(config)
    if config.method == "swa":
        return averaging.average(model, trajectory)
    options = {"basis": "gram_schmidt"}
    if config.method == "dldr":
        options = {"basis": "pca", "dimensions": config.dimensions, "start": "first"}
    return averaging.TrainableWeightAveraging(
        model, trajectory, regularization=config.regularization, **options
    )


def trains_by_steps(config: ml_collections.ConfigDict) -> bool:
    """Whether a run has epochs of training steps."""
    return config.method != "swa" and config.optimizer not in QUASI_NEWTON


def solve(
    config: ml_collections.ConfigDict, model: keras.Model, data: datasets.ImageDataset
) -> Dict[str, Any]:
    """Runs what has no training steps, SWA or P-BFGS; what `result.json` holds of it."""
    start = time.perf_counter()
    result = {"status": "finished"}
    if config.optimizer in QUASI_NEWTON:
        found = averaging.minimize(
            model,
            datasets.evaluation_batches(data.train, _BATCH),
            "sparse_categorical_crossentropy",
            method=QUASI_NEWTON[config.optimizer],
            iterations=config.epochs,
        )
        result.update(loss=[float(found.fun)], iterations=int(found.nit), evaluations=int(found.nfev))
    model = finish(config, model, data)
    for name, split in (("validation", data.validation), ("test", data.test)):
        _, accuracy = model.evaluate(datasets.evaluation_batches(split, 1000), verbose=0)
        result[f"{name}_accuracy"] = float(accuracy)
    result["validation_accuracy"] = [result["validation_accuracy"]]
    return dict(result, seconds=time.perf_counter() - start)


def finish(config: ml_collections.ConfigDict, model: keras.Model, data: datasets.ImageDataset) -> keras.Model:
    """The model to evaluate: ordinary weights, with the statistics of their own activations."""
    if config.method not in METHODS:
        return model
    if isinstance(model, random_bases.SubspaceModel):
        model = model.materialize()
    steps = datasets.steps_per_epoch(data.train, _BATCH)
    batches = datasets.training_batches(
        data.train, _BATCH, seed=config.seed, num_steps=steps, augment=config.augment
    )
    averaging.recompute_batch_statistics(model, without_autotuning(batches))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def parameters(model: keras.Model) -> int:
    """The number of parameters of a network, wrapped or not."""
    network = model.model if isinstance(model, random_bases.SubspaceModel) else model
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


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
    figures.explained_variance(figure, {"trajectory": ratio}, title)
    explained = np.cumsum(ratio)
    return {k: float(explained[k - 1]) for k in (1, 2, 3, 5, 10, 20, 40, 80) if k <= len(ratio)}


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
        result = results.read_json(path)
        config = ml_collections.ConfigDict(result["config"])
        if result["status"] != "finished":
            continue
        before = 0.0
        if config.method in METHODS:
            before = load_trajectory(config).steps[-1] / result["steps_per_epoch"]
        own = result["validation_accuracy"]
        trains = config.method != "swa"
        content[path.parent.name] = {
            "method": config.method,
            "epochs": [before + trains * (1 + epoch) for epoch in range(len(own))],
            "trained_dimensions": result["trained_dimensions"] if trains else 0,
            "validation_accuracy": own,
            "test_accuracy": result["test_accuracy"],
        }
    if not content:
        raise ValueError(f"{directory} has no finished runs: <name>/result.json.")
    results.write_json(directory / "comparison.json", content)
    figures.averaging(directory / "comparison.png", content)
    return content
