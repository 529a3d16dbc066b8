"""Fitness shaping: what each offspring's loss counts for in the update.

Functions of the fitness of a population, float32 [population], to weights of its perturbations, float32
[population]. The fitness is the loss's negative.
"""

from typing import Callable, Dict, Union

import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments

Shaping = Callable[[Tensor], Tensor]


def centered_ranks(fitness: Tensor) -> Tensor:
    """Ranks from -1/2 (worst) to 1/2 (best): rank / (population - 1) - 1/2.

    Salimans et al. 2017 (arXiv:1703.03864). Equal fitness gets equal, average ranks; what is not a number
    counts as worst.
    """
    population = fitness.shape[0]
    # Without a constant for it, which tf.debugging.enable_check_numerics would take for a fault.
    worst = tf.math.is_nan(fitness) | (tf.math.is_inf(fitness) & (fitness < 0))
    worst_of_others, others = worst[tf.newaxis, :], fitness[tf.newaxis, :]
    worst, fitness = worst[:, tf.newaxis], fitness[:, tf.newaxis]
    worse = tf.cast((others < fitness) | (worst_of_others & ~worst), tf.float32)
    equal = tf.cast(tf.equal(others, fitness) | (worst_of_others & worst), tf.float32)
    ranks = tf.reduce_sum(worse + 0.5 * equal, axis=1) - 0.5
    return ranks / max(population - 1, 1) - 0.5


def normalized(fitness: Tensor) -> Tensor:
    """Fitness at mean 0 and standard deviation 1 over the population; zeros if all is equal."""
    centered = fitness - tf.reduce_mean(fitness)
    return tf.math.divide_no_nan(centered, tf.math.reduce_std(fitness))


def raw(fitness: Tensor) -> Tensor:
    """Fitness as it is: with it the update is an unbiased estimate of a gradient."""
    return fitness


SHAPINGS: Dict[str, Shaping] = {"centered_ranks": centered_ranks, "normalized": normalized, "raw": raw}


def get(fitness: Union[str, Shaping]) -> Shaping:
    """The shaping of a name; a callable is taken as it is.

    Raises:
      ValueError: for an unknown name.
      TypeError: for what is neither a name nor callable.
    """
    if callable(fitness):
        return fitness
    names = sorted(SHAPINGS)
    return SHAPINGS[arguments.one_of("fitness", fitness, names, "or a function of float32 [population]")]
