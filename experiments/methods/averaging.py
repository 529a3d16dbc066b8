"""Runs that train or average in the subspace that recorded weights span.

| method | starts at                | trains                                                               |
| ------ | ------------------------ | -------------------------------------------------------------------- |
| "twa"  | the average of snapshots | the coordinates in the snapshots' span, by the config's optimizer    |
| "dldr" | the first snapshot       | those in the first principal components: P-SGD; "bfgs": P-BFGS       |
| "swa"  | the average of snapshots | nothing                                                              |

All three end with BatchNormalization's statistics recomputed by one pass over the training data.
"""

import time
from typing import Any, Dict

import ml_collections

import random_bases
from experiments import datasets
from experiments.methods import descent
from random_bases import averaging
from random_bases.batches import without_autotuning

# Of passes that do not train.
_BATCH = 500


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for this: see there."""
    return {"trajectory": "", "snapshots": "", "regularization": 0.0}


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


class InTrajectory(descent.Method):
    """What the three have in common."""

    def check(self, config):
        super().check(config)
        if not config.trajectory:
            raise ValueError(
                f"config.method={config.method!r} needs config.trajectory, a recorded directory."
            )

    def solve(self, config, model, data):
        start = time.perf_counter()
        result = {"status": "finished", **self._minimize(config, model, data)}
        model = self.finish(config, model, data)
        for name, split in (("validation", data.validation), ("test", data.test)):
            _, accuracy = model.evaluate(datasets.evaluation_batches(split, 1000), verbose=0)
            result[f"{name}_accuracy"] = float(accuracy)
        result["validation_accuracy"] = [result["validation_accuracy"]]
        return dict(result, seconds=time.perf_counter() - start)

    def _minimize(self, config, model, data) -> Dict[str, Any]:
        """Finds better weights without training steps; what to say of it."""
        del config, model, data
        return {}

    def finish(self, config, model, data):
        """The model to evaluate: ordinary weights, with the statistics of their own activations."""
        if isinstance(model, random_bases.SubspaceModel):
            model = model.materialize()
        steps = datasets.steps_per_epoch(data.train, _BATCH)
        batches = datasets.training_batches(
            data.train, _BATCH, seed=config.seed, num_steps=steps, augment=config.augment
        )
        averaging.recompute_batch_statistics(model, without_autotuning(batches))
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model


class StochasticWeightAveraging(InTrajectory):
    """The average of snapshots."""

    def trains_by_steps(self, config):
        del config
        return False

    def prepare(self, config, network):
        return averaging.average(network, load_trajectory(config))


class TrainableWeightAveraging(InTrajectory):
    """Training in the snapshots' span."""

    regularization = True

    def prepare(self, config, network):
        return averaging.TrainableWeightAveraging(
            network, load_trajectory(config), regularization=config.regularization, basis="gram_schmidt"
        )


class PrincipalComponents(InTrajectory):
    """Training in the snapshots' first principal components."""

    quasi_newton = True
    regularization = True

    def trains_by_steps(self, config):
        return config.optimizer not in descent.QUASI_NEWTON

    def prepare(self, config, network):
        return averaging.TrainableWeightAveraging(
            network,
            load_trajectory(config),
            regularization=config.regularization,
            basis="pca",
            dimensions=config.dimensions,
            start="first",
        )

    def _minimize(self, config, model, data):
        found = averaging.minimize(
            model,
            datasets.evaluation_batches(data.train, _BATCH),
            "sparse_categorical_crossentropy",
            method=descent.QUASI_NEWTON[config.optimizer],
            iterations=config.epochs,
        )
        return {"loss": [float(found.fun)], "iterations": int(found.nit), "evaluations": int(found.nfev)}
