"""The loss along directions of the weight space: lines and planes to plot.

Directions come from `random_bases.analysis.directions.draw`, or are any others: a gradient, the
difference of two models. The model's own weights are read and never written.
"""

from typing import Optional, Sequence

import numpy as np

from random_bases import arguments
from random_bases.analysis.objective import Loss, Objective
from random_bases.keras_api import keras


def line(
    model: keras.Model, direction: Sequence, alphas: Sequence[float], data, loss: Optional[Loss] = None
) -> np.ndarray:
    """The loss at weights + alpha * direction, float64 [number of alphas].

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.
      direction: tensors of the weights' shapes.
      alphas: finite numbers.

    Raises:
      TypeError: if `alphas` is no list of numbers.
      ValueError: if it is empty or has one that is not finite; for a direction of other shapes.
    """
    alphas = arguments.numbers("alphas", alphas)
    objective = Objective(model, data, loss)
    direction = objective.checked("direction", direction)
    return np.array([objective.value(objective.moved(direction, alpha)) for alpha in alphas])


def plane(
    model: keras.Model,
    directions: Sequence[Sequence],
    alphas: Sequence[float],
    betas: Sequence[float],
    data,
    loss: Optional[Loss] = None,
) -> np.ndarray:
    """The loss at weights + alpha * directions[0] + beta * directions[1], float64 [alphas, betas].

    Args:
      model, data, loss: as of `random_bases.analysis.objective.Objective`.
      directions: two lists of tensors of the weights' shapes.
      alphas, betas: finite numbers.

    Raises:
      TypeError: if `alphas` or `betas` is no list of numbers.
      ValueError: if it is empty or has one that is not finite; if there are not two directions, or one has
        other shapes.
    """
    alphas, betas = arguments.numbers("alphas", alphas), arguments.numbers("betas", betas)
    if len(directions) != 2:
        raise ValueError(f"directions has {len(directions)} entries; allowed: 2.")
    objective = Objective(model, data, loss)
    first, second = (objective.checked(f"directions[{i}]", each) for i, each in enumerate(directions))

    def at(alpha: float, beta: float) -> float:
        return objective.value(objective.moved([alpha * a + beta * b for a, b in zip(first, second)], 1.0))

    return np.array([[at(alpha, beta) for beta in betas] for alpha in alphas])
