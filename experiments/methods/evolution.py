"""Runs by evolution strategies.

| method    | mini-batches of an update       | source                                            |
| --------- | ------------------------------- | ------------------------------------------------- |
| "nes"     | one for each of its offspring   | Salimans et al. 2017; Gressmann et al. 2020       |
| "rbd-nes" | one, for all of its offspring   | the hybrid of Gressmann et al. 2020               |

An epoch is an epoch of images: 100 epochs of 1,562 batches are 624 updates of 250 offspring with "nes". (The
2020 implementation counts an update as an epoch.)
"""

import math
from fractions import Fraction
from typing import Any, Dict

from ml_collections import config_dict

from experiments.methods import descent
from random_bases import arguments
from random_bases.evolution import NaturalEvolutionStrategies
from random_bases.evolution.shaping import SHAPINGS


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for this: see there."""
    return {
        "sigma": config_dict.placeholder(float),
        "fitness": "centered_ranks",
        "antithetic": False,
        "update_scale": "paper",
    }


class Evolution(descent.Method):
    """`NaturalEvolutionStrategies` with a population of `config.dimensions`.

    Args:
      minibatch: as there.
      sigma: the perturbations' where a configuration has None.
    """

    shares_batches = False

    def __init__(self, minibatch: str, sigma: float):
        self._minibatch = minibatch
        self._sigma = sigma

    def check(self, config):
        super().check(config)
        arguments.integer("config.dimensions", config.dimensions, 2)
        if config.antithetic and config.dimensions % 2:
            raise ValueError(
                f"config.dimensions={config.dimensions} must be even with config.antithetic=True: pairs."
            )
        if config.fitness not in SHAPINGS:
            raise ValueError(f"config.fitness={config.fitness!r} is unknown; allowed: {sorted(SHAPINGS)}.")
        if config.sigma is not None and not (config.sigma > 0 and math.isfinite(config.sigma)):
            raise ValueError(f"config.sigma={config.sigma} must be positive.")

    def trained_dimensions(self, config, model):
        del model
        return config.dimensions

    def trainer(self, config, model, optimizer, steps):
        """As in `Method`.

        Raises:
          ValueError: for what `NaturalEvolutionStrategies` refuses, or if an epoch has too few batches for an
            update.
        """
        strategy = NaturalEvolutionStrategies(
            model,
            population=config.dimensions,
            sigma=self._sigma if config.sigma is None else config.sigma,
            optimizer=optimizer,
            fitness=config.fitness,
            antithetic=config.antithetic,
            minibatch=self._minibatch,
            basis=config.basis,
            compartments=descent.compartments_of(config),
            update_scale=config.update_scale,
            training=True,
            seed=config.seed,
        )
        batches = strategy.batches_per_update
        if batches > steps:
            raise ValueError(
                f"config.dimensions: an update takes {batches} batches, an epoch has only {steps}; fewer "
                "dimensions, smaller batches or antithetic=True take fewer."
            )
        return descent.Trainer(strategy.fit, Fraction(steps, batches), batches)

    def check_fit(self, config, model, batches, steps, steps_per_execution):
        """Allows all: the strategy's `fit` is not Keras's."""
