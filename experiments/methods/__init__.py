"""The methods of runs, one object each; `descent.Method` says what a run asks of one."""

from typing import Any, Dict, Iterable, Optional

import ml_collections

from experiments.methods import averaging, descent, evolution

METHODS: Dict[str, descent.Method] = {
    "sgd": descent.Method(),
    "fpd": descent.InFixedDirections(),
    "rbd": descent.InRandomDirections(),
    # sigma: as in Gressmann et al. 2020.
    "nes": evolution.Evolution("independent", sigma=0.01),
    "rbd-nes": evolution.Evolution("shared", sigma=0.002),
    "twa": averaging.TrainableWeightAveraging(),
    "swa": averaging.StochasticWeightAveraging(),
    "dldr": averaging.PrincipalComponents(),
}


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for all of them: see there."""
    return {**descent.default_keys(), **evolution.default_keys(), **averaging.default_keys()}


def get(name: str) -> descent.Method:
    """A method by its name.

    Raises:
      ValueError: for an unknown one.
    """
    if name not in METHODS:
        raise ValueError(f"config.method={name!r} is unknown; allowed: {tuple(METHODS)}.")
    return METHODS[name]


def check_names(names: Iterable[str]) -> None:
    """Raises ValueError unless all keys of `config.learning_rates` are methods."""
    unknown = sorted(set(names) - set(METHODS))
    if unknown:
        raise ValueError(f"config.learning_rates has unknown methods {unknown}; allowed: {tuple(METHODS)}.")


def build_optimizer(config: ml_collections.ConfigDict, size: Optional[int] = None):
    """The Keras optimizer that a configuration describes: see `descent.Method.optimizer`."""
    return get(config.method).optimizer(config, size)
