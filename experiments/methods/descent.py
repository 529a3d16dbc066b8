"""Runs that follow the gradient, whole or in random directions; what all methods do in the same way.

| method | directions of an update                     | source                |
| ------ | ------------------------------------------- | --------------------- |
| "sgd"  | all                                         |                       |
| "fpd"  | `dimensions` random ones, the same always   | Li et al. 2018        |
| "rbd"  | `dimensions` random ones, redrawn each step | Gressmann et al. 2020 |
"""

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Union

import ml_collections
import tensorflow as tf
from ml_collections import config_dict

import random_bases
from experiments import datasets, ipu_runs
from random_bases import arguments, averaging
from random_bases.keras_api import keras
from random_bases.tensors import size_of

QUASI_NEWTON = {"bfgs": "BFGS", "l-bfgs-b": "L-BFGS-B"}
SCHEDULES = ("constant", "linear")


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for this: see there."""
    return {
        "optimizer": "sgd",
        "learning_rate": config_dict.placeholder(float),
        "learning_rates": {"sgd": 0.1, "fpd": 1.0, "rbd": 1.0},
        "schedule": "constant",
        "dimensions": 250,
        "basis": "normal",
        "compartments": "network",
        "allocation": "even",
        "error_feedback": 0.0,
        "replicas": "shared",
        "exchange": "coordinates",
        "record": "",
    }


class Trainer(NamedTuple):
    """What trains a model: `fit` takes what Keras's does, and counts updates where that counts steps."""

    fit: Callable
    updates_per_epoch: Union[int, Fraction]
    batches_per_update: int


class Method:
    """What a run does by its method, in the order in which `training` asks; plain descent.

    `config` is a run's configuration throughout, `model` what `prepare` returned.

    Attributes:
      shares_batches: whether each replica trains on its part of every batch, and `fit` gets these; if not,
        `fit` gets whole batches, the same in every process, and shares them out itself.
    """

    error_feedback = False
    quasi_newton = False
    regularization = False
    shares_batches = True

    def check(self, config: ml_collections.ConfigDict) -> None:
        """Raises ValueError for values that are not allowed with this method."""
        if config.schedule not in SCHEDULES:
            raise ValueError(f"config.schedule={config.schedule!r} is unknown; allowed: {SCHEDULES}.")
        if config.record not in ("", "epoch") and not re.fullmatch("[1-9][0-9]*", config.record):
            raise ValueError(
                f'config.record={config.record!r} is not possible; allowed: "", "epoch", a number.'
            )
        if not re.fullmatch("([0-9]*:[0-9]*)?", config.snapshots):
            raise ValueError(
                f'config.snapshots={config.snapshots!r} is not possible; allowed: "", "first:end".'
            )
        if config.optimizer in QUASI_NEWTON and not self.quasi_newton:
            raise ValueError(f'config.optimizer={config.optimizer!r} is for config.method="dldr" only.')
        if not 0 <= config.error_feedback <= 1:
            raise ValueError(f"config.error_feedback={config.error_feedback} must be from 0 to 1.")
        if config.error_feedback and not self.error_feedback:
            raise ValueError(
                f"config.error_feedback={config.error_feedback} has no effect with config.method="
                f'{config.method!r}; allowed: 0, or method "rbd".'
            )
        arguments.number("config.regularization", config.regularization, 0.0)
        if config.regularization and not self.regularization:
            raise ValueError(
                f"config.regularization={config.regularization} has no effect with config.method="
                f'{config.method!r}; allowed: 0, or method "twa" or "dldr".'
            )
        rate = self.learning_rate(config)
        if rate is not None and not (rate > 0 and math.isfinite(rate)):
            raise ValueError(f"config.learning_rate={rate} must be positive.")

    def trains_by_steps(self, config: ml_collections.ConfigDict) -> bool:
        """Whether a run has epochs of training steps; `solve` stands for them otherwise."""
        del config
        return True

    def learning_rate(self, config: ml_collections.ConfigDict) -> Optional[float]:
        """The learning rate that a configuration asks for; None without training steps.

        Raises:
          ValueError: if it has none for its method.
        """
        if not self.trains_by_steps(config):
            return None
        if config.learning_rate is not None:
            return float(config.learning_rate)
        if config.method not in config.learning_rates:
            raise ValueError(
                f"config.learning_rates has no rate for config.method={config.method!r}, only for "
                f"{sorted(config.learning_rates)}; set config.learning_rate."
            )
        return float(config.learning_rates[config.method])

    def prepare(self, config: ml_collections.ConfigDict, network: keras.Model) -> keras.Model:
        """The model to train, of the configuration's network."""
        del config
        return network

    def trained_dimensions(self, config: ml_collections.ConfigDict, model: keras.Model) -> int:
        """In how many directions an update of a model may go."""
        del config
        return size(model)

    def optimizer(self, config: ml_collections.ConfigDict, size: Optional[int] = None):
        """The Keras optimizer; `size`, D, matters to a `generator` of choice only.

        Raises:
          ValueError: for an unknown optimizer, basis, compartments or allocation.
        """
        del size
        optimizer = self._inner_optimizer(config)
        ipu_runs.prepare_optimizer(optimizer)
        return optimizer

    def _inner_optimizer(self, config):
        # By name: tf-keras makes a legacy optimizer of a configuration.
        try:
            optimizer = keras.optimizers.get(config.optimizer)
        except ValueError as error:
            raise ValueError(f"config.optimizer={config.optimizer!r} is unknown to Keras: {error}") from error
        optimizer.learning_rate = self.learning_rate(config)
        return optimizer

    def trainer(
        self, config: ml_collections.ConfigDict, model: keras.Model, optimizer, steps: int
    ) -> Trainer:
        """What trains a compiled model, in epochs of `steps` batches."""
        del config, optimizer
        return Trainer(model.fit, steps, 1)

    def callbacks(self, config: ml_collections.ConfigDict, workdir: Path) -> List[Any]:
        """Those that record a run's weights and let its learning rate fall."""
        result = []
        if config.schedule == "linear":
            rate = self.learning_rate(config)
            result.append(
                keras.callbacks.LearningRateScheduler(lambda epoch: rate * (1 - epoch / config.epochs))
            )
        if config.record:
            every = config.record if config.record == "epoch" else int(config.record)
            directory = workdir / "trajectory"
            result.append(averaging.TrajectoryRecorder(directory, every=every, start=0, resume=True))
        return result

    def check_fit(
        self,
        config: ml_collections.ConfigDict,
        model: keras.Model,
        batches: tf.data.Dataset,
        steps: int,
        steps_per_execution: int,
    ) -> None:
        """Raises ValueError for what `fit` cannot do where it runs."""
        if config.record not in ("", "epoch") and int(config.record) % steps_per_execution:
            raise ValueError(
                f"config.record={config.record!r} is not possible: {steps_per_execution} steps are executed "
                'at once; allowed: "", "epoch", a multiple of that.'
            )
        ipu_runs.check_fit(model, batches, steps, steps_per_execution)

    def solve(
        self, config: ml_collections.ConfigDict, model: keras.Model, data: datasets.ImageDataset
    ) -> Dict[str, Any]:
        """Does what stands for training steps; what `result.json` holds of it."""
        raise NotImplementedError(f"{type(self).__name__} trains by steps.")

    def finish(
        self, config: ml_collections.ConfigDict, model: keras.Model, data: datasets.ImageDataset
    ) -> keras.Model:
        """The model to evaluate, of a trained one."""
        del config, data
        return model


class InRandomDirections(Method):
    """An optimizer inside `RandomBasesDescent`, its bases redrawn each step; or a model that is `fused`."""

    redraw_every: Optional[int] = 1
    error_feedback = True

    def fused(self, config: ml_collections.ConfigDict) -> bool:
        """Whether the network's layers compute the gradient of coordinates.

        That is with a factored basis, unless the whole gradient is needed, or the exchange of
        `RandomBasesDescent`. IPUs have no models with redraws.
        """
        return (
            config.basis == "kronecker"
            and not config.error_feedback
            and (config.replicas, config.exchange) == ("shared", "coordinates")
            and not (self.redraw_every and config.strategy.startswith("ipu"))
        )

    def check(self, config):
        super().check(config)
        if self.fused(config) and config.record:
            raise ValueError(
                f"config.record={config.record!r} is not possible with config.basis='kronecker', whose fused "
                'model has other weights than its network; allowed: "".'
            )

    def prepare(self, config, network):
        if not self.fused(config):
            return network
        return random_bases.SubspaceModel(
            network,
            config.dimensions,
            basis="kronecker",
            compartments=compartments_of(config),
            seed=config.seed,
            redraw_every=self.redraw_every,
        )

    def trained_dimensions(self, config, model):
        del model
        return config.dimensions

    def optimizer(self, config, size=None):
        if self.fused(config):
            return super().optimizer(config, size)
        return random_bases.RandomBasesDescent(
            self._inner_optimizer(config),
            dimensions=config.dimensions,
            basis=ipu_runs.basis(config, size),
            compartments=compartments_of(config),
            allocation=None if config.basis == "kronecker" else config.allocation,
            redraw_every=self.redraw_every,
            seed=config.seed,
            replicas=config.replicas,
            exchange=config.exchange,
            error_feedback=config.error_feedback or False,
        )


class InFixedDirections(InRandomDirections):
    """The same with one basis throughout."""

    redraw_every = None
    error_feedback = False

    def check(self, config):
        super().check(config)
        if config.optimizer.lower() != "sgd" and not self.fused(config):
            raise ValueError(
                f"config.optimizer={config.optimizer!r} would leave the fixed subspace; "
                'config.method="fpd" needs "sgd".'
            )


def size(model: keras.Model) -> int:
    """D, the number of parameters that are trained."""
    return sum(size_of(variable.shape) for variable in model.trainable_variables)


def compartments_of(config: ml_collections.ConfigDict) -> Union[None, str, int, Sequence[int]]:
    """What `RandomBasesDescent` takes: a name as it is, "10" as a count, "1000,2000" as sizes."""
    text = config.compartments
    if config.basis == "kronecker" and text == "network":
        return None  # its own, one for each variable
    numbers = text.split(",")
    if not all(number.strip().isdigit() for number in numbers):
        return text
    sizes = [int(number) for number in numbers]
    return sizes if len(sizes) > 1 else sizes[0]
