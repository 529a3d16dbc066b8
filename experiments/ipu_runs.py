"""What a run on IPUs needs of a configuration, and of Keras there, besides what all runs need.

See docs/ipu.md. Without IPUs the functions here change nothing.
"""

from typing import Any, Dict, Optional

import ml_collections
import tensorflow as tf

from experiments import datasets
from random_bases import bases, ipu, ipu_fit, strategies
from random_bases.sampling import GENERATORS

# Examples that are evaluated at a time.
_MOST_EVALUATED = 1000


def default_keys() -> Dict[str, Any]:
    """What `training.default_config` has for this: see there."""
    return {"ipus": 1, "generator": "counter"}


def check(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError for values of `default_keys` that are not allowed."""
    if config.ipus < 1 or (config.ipus > 1 and config.strategy != "ipu"):
        raise ValueError(
            f"config.ipus={config.ipus} with config.strategy={config.strategy!r}; allowed: 1, more with "
            '"ipu" only ("ipu_pod" takes as many as poprun says).'
        )
    if config.generator not in GENERATORS:
        raise ValueError(f"config.generator={config.generator!r} is unknown; allowed: {sorted(GENERATORS)}.")


def strategy(config: ml_collections.ConfigDict) -> tf.distribute.Strategy:
    """The strategy that a configuration names.

    Raises:
      ValueError: where it cannot work, saying what it needs.
    """
    options = {"replicas": config.ipus} if config.strategy == "ipu" else {}
    try:
        return strategies.get(config.strategy, **options)
    except RuntimeError as error:
        raise ValueError(f"config.strategy={config.strategy!r}: {error}") from error


def basis(config: ml_collections.ConfigDict, size: Optional[int]):
    """A name, or for a generator of choice a `Basis` of `size` elements.

    Raises:
      ValueError: for a basis that has no generator to choose.
    """
    if config.generator == "counter":
        return config.basis
    try:
        return bases.get(config.basis, size, config.dimensions, generator=config.generator)
    except TypeError as error:
        raise ValueError(
            f"config.generator={config.generator!r} is not possible with config.basis={config.basis!r}, "
            'which draws bits; allowed: "counter", or a basis of independent entries.'
        ) from error


def prepare_optimizer(optimizer) -> None:
    """Has a plain optimizer take the mean over replicas, as everywhere else, where Keras takes the sum."""
    if ipu.is_strategy(tf.distribute.get_strategy()):
        optimizer.gradient_aggregator = ipu.mean_gradients


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """For how many replicas `fit` counts batches one by one: those of this process; 1 without IPUs."""
    if not ipu.is_strategy(strategy):
        return 1
    return ipu.replicas(strategy) // ipu.instances(strategy)[1]


def prepare_model(model, strategy: tf.distribute.Strategy) -> None:
    """Has metrics be the mean over replicas, not the last one's."""
    if local_replicas(strategy) > 1:
        model.set_replication_options("MEAN")


def check_fit(model, batches: tf.data.Dataset, steps: int, steps_per_execution: int) -> None:
    """As `ipu_fit.check_fit`, on IPUs."""
    if ipu.is_strategy(model.distribute_strategy):
        ipu_fit.check_fit(model, batches, steps, steps_per_execution)


def evaluation_batches(split: datasets.ImageSplit, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """As `datasets.evaluation_batches`; for IPUs of one static shape, as many for each replica.

    Raises:
      ValueError: if the replicas cannot have as many examples each.
    """
    if not ipu.is_strategy(strategy):
        return datasets.evaluation_batches(split, _MOST_EVALUATED)
    replicas = local_replicas(strategy)
    if len(split) % replicas:
        raise ValueError(
            f"config.ipus: {len(split)} examples to evaluate cannot be shared out among {replicas} replicas; "
            "take a divisor."
        )
    each = len(split) // replicas
    size = max(n for n in range(1, min(each, _MOST_EVALUATED) + 1) if each % n == 0)

    def static(images, labels):
        return tf.ensure_shape(images, [size, *images.shape[1:]]), tf.ensure_shape(labels, [size])

    return datasets.evaluation_batches(split, size).map(static)
