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

import ml_collections
from ml_collections import config_dict

from random_bases.evolution import NaturalEvolutionStrategies
from random_bases.evolution.shaping import SHAPINGS
from random_bases.keras_api import keras

METHODS = ("nes", "rbd-nes")

# As in Gressmann et al. 2020.
_SIGMA = {"nes": 0.01, "rbd-nes": 0.002}


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for this: see there."""
    return {
        "sigma": config_dict.placeholder(float),
        "fitness": "centered_ranks",
        "antithetic": False,
        "update_scale": "paper",
    }


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError for values of `default_keys` that are not allowed."""
    if config.method not in METHODS:
        return
    if config.fitness not in SHAPINGS:
        raise ValueError(f"config.fitness={config.fitness!r} is unknown; allowed: {sorted(SHAPINGS)}.")
    if config.sigma is not None and not (config.sigma > 0 and math.isfinite(config.sigma)):
        raise ValueError(f"config.sigma={config.sigma} must be positive.")


def build(config: ml_collections.ConfigDict, model: keras.Model, optimizer, compartments):
    """The strategy of a configuration, whose population is `config.dimensions`.

    Raises:
      ValueError: for what `NaturalEvolutionStrategies` refuses.
    """
    return NaturalEvolutionStrategies(
        model,
        population=config.dimensions,
        sigma=_SIGMA[config.method] if config.sigma is None else config.sigma,
        optimizer=optimizer,
        fitness=config.fitness,
        antithetic=config.antithetic,
        minibatch="independent" if config.method == "nes" else "shared",
        basis=config.basis,
        compartments=compartments,
        update_scale=config.update_scale,
        training=True,
        seed=config.seed,
    )


def updates_per_epoch(nes: NaturalEvolutionStrategies, steps: int) -> Fraction:
    """Updates in an epoch of `steps` batches.

    Raises:
      ValueError: if an epoch has too few batches for an update.
    """
    updates = Fraction(steps, nes.batches_per_update)
    if updates < 1:
        raise ValueError(
            f"config.dimensions: an update takes {nes.batches_per_update} batches, an epoch has only "
            f"{steps}; fewer dimensions, smaller batches or antithetic=True take fewer."
        )
    return updates
