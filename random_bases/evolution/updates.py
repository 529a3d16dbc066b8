"""What an update does to a model's weights, by what each of its directions counts for.

Apart from the losses that these numbers come from, so that a logged run can be gone again without its data.
"""

from typing import Any, Dict, Optional, Tuple, Union

import tensorflow as tf
from tensorflow import Tensor

from random_bases import bases, keras_api
from random_bases.bases.basis import Basis
from random_bases.compartments import Compartments
from random_bases.evolution.low_rank import LowRankPerturbations
from random_bases.evolution.offspring import InPlace, Population
from random_bases.evolution.perturbations import Perturbations
from random_bases.keras_api import keras
from random_bases.models import tapping
from random_bases.models.linear_layers import LinearLayer

LOW_RANK = "low_rank"  # the basis that is none of `random_bases.bases.names()`


class Update:
    """Moves the weights of a population's model along its directions.

    Args:
      population: the population.
      optimizer: what gets the mean direction in place of a gradient.
      offspring: what evaluates offspring in the model's own weights; None if they have weights of their own.
    """

    def __init__(self, population: Population, optimizer, offspring: Optional[InPlace]):
        self._population = population
        self._optimizer = optimizer
        self._offspring = offspring if offspring is not None and is_plain_sgd(optimizer) else None

    def apply(self, weights: Tensor, update: Tensor) -> None:
        """One update; the optimizer counts it.

        Args:
          weights: what each direction counts for, float32 [directions].
          update: int32 scalar, how many updates were made before.
        """
        if self._offspring is not None:
            self._move(self._offspring, weights, update)
            return
        means = self._population.perturbations.combine(weights, update)
        variables = self._population.variables
        gradients = [tf.cast(-mean, variable.dtype) for mean, variable in zip(means, variables)]
        self._optimizer.apply_gradients(list(zip(gradients, variables)))

    def _move(self, offspring: InPlace, weights: Tensor, update: Tensor) -> None:
        """The step of plain SGD, in the memory of the weights."""
        rate = self._optimizer.learning_rate
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            rate = rate(self._optimizer.iterations)
        steps = self._population.perturbations.coefficients(weights)
        steps *= tf.cast(tf.convert_to_tensor(rate), tf.float32)

        def move(index):
            offspring.move(tf.gather(steps, index), index, update)
            return (index + 1,)

        tf.while_loop(lambda index: index < steps.shape[0], move, (tf.constant(0),), parallel_iterations=1)
        self._optimizer.iterations.assign_add(1)


def perturbations_of(
    model: keras.Model,
    count: int,
    basis: Union[str, Basis],
    compartments: Optional[Compartments],
    rank: Optional[int],
    seed: int,
) -> Tuple[Union[Perturbations, LowRankPerturbations], Dict[int, LinearLayer]]:
    """`count` directions of a model's weights, and the layers of low-rank ones: id(kernel) -> layer.

    Args:
      model: a built Keras model.
      count: of directions.
      basis, compartments, rank: as of `NaturalEvolutionStrategies`.
      seed: an int in [0, 2**64).

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """
    variables = model.trainable_variables
    shapes = [tuple(variable.shape) for variable in variables]
    if isinstance(basis, str) and basis == LOW_RANK:
        if compartments not in (None, "network"):
            raise ValueError(
                f'compartments={compartments!r} with basis="low_rank"; allowed: "network", None.'
            )
        linear = tapping.of(model, variables)
        matrices = [_matrix(linear.get(id(variable))) for variable in variables]
        return LowRankPerturbations(shapes, matrices, count, 1 if rank is None else rank, seed), linear
    if rank is not None:
        raise ValueError(f'rank={rank!r} is of basis="low_rank" only; allowed with others: None.')
    paths = [keras_api.path_of(variable) for variable in variables]
    return Perturbations(shapes, paths, count, basis, compartments, seed), {}


def population_of(model: keras.Model, config: Dict[str, Any]) -> Population:
    """The population of a model, for its directions and moves: of a logged run, or in another process.

    Args:
      model: a built Keras model.
      config: `NaturalEvolutionStrategies.update_config`.
    """
    basis = config["basis"]
    perturbations, _ = perturbations_of(
        model,
        config["directions"],
        basis if isinstance(basis, str) else bases.deserialize(basis),
        config["compartments"],
        config["rank"],
        config["seed"],
    )
    return Population(model, perturbations, config["sigma"], config["antithetic"], False, False, False)


def _matrix(linear: Optional[LinearLayer]) -> Optional[Tuple[int, int]]:
    """The kernel of a linear layer as one matrix: (inputs at all positions, outputs); None of none."""
    return None if linear is None else (linear.matrix[0] * linear.matrix[1], linear.matrix[2])


def is_plain_sgd(optimizer) -> bool:
    """Whether an optimizer's step is minus its learning rate times the gradient, and nothing else."""
    config = optimizer.get_config()
    others = set(config) - {"name", "learning_rate", "nesterov", "is_legacy_optimizer", "jit_compile"}
    ema = {"ema_momentum", "ema_overwrite_frequency"}  # of use_ema
    return type(optimizer) is keras.optimizers.SGD and not any(config[key] for key in others - ema)
