"""Random directions of a model's weight space, filter-normalised if wanted.

With filter-normalised directions, networks whose weights differ only in scale look alike: Li, Xu,
Taylor, Studer and Goldstein 2018, "Visualizing the Loss Landscape of Neural Nets" (arXiv:1712.09913,
section 4).
"""

from typing import List, Sequence

import numpy as np
import tensorflow as tf

from random_bases import arguments, keras_api
from random_bases.analysis.objective import Tensors, trainable
from random_bases.keras_api import keras
from random_bases.subspace import Subspace
from random_bases.tensors import size_of


def filter_normalized(direction: Sequence, weights: Sequence) -> Tensors:
    """`direction` with each filter at the length of the weights' filter; biases do not move.

    A filter is what makes one output: the slice of a kernel at one place of its last axis (Dense,
    Conv). Weights of rank 0 and 1 (biases, batch normalisation) get 0, as `--xignore=biasbn` of the
    authors' code has it.

    Args:
      direction, weights: lists of tensors of equal shapes.

    Raises:
      ValueError: if shapes differ.
    """
    direction = [tf.cast(each, tf.float32) for each in direction]
    weights = [tf.cast(each, tf.float32) for each in weights]
    shapes = [[tuple(each.shape) for each in tensors] for tensors in (direction, weights)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"direction has shapes {shapes[0]}; allowed: the weights', {shapes[1]}.")
    return [_normalized(d, w) if len(w.shape) > 1 else tf.zeros_like(d) for d, w in zip(direction, weights)]


def _normalized(direction: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    axes = list(range(len(weight.shape) - 1))
    lengths = tf.sqrt(tf.reduce_sum(weight**2, axes))
    return direction * tf.math.divide_no_nan(lengths, tf.sqrt(tf.reduce_sum(direction**2, axes)))


def draw(
    model: keras.Model,
    count: int,
    seed: int = 0,
    basis: str = "normal",
    filter_normalize: bool = False,
) -> List[Tensors]:
    """`count` random directions of a model's trainable weights.

    Args:
      model: a built Keras model.
      count: at least 1, at most the number of parameters.
      seed: an int in [0, 2**64).
      basis: a name in `random_bases.bases.names()`; directions have unit length in expectation.
      filter_normalize: whether they are passed through `filter_normalized`.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """
    variables = trainable(model)
    parameters = sum(size_of(variable.shape) for variable in variables)
    count = arguments.integer("count", count, 1, parameters)
    subspace = Subspace([variable.shape for variable in variables], count, basis)
    directions = [subspace.expand(row, seed) for row in np.eye(count, dtype=np.float32)]
    if not filter_normalize:
        return directions
    weights = [keras_api.value_of(variable) for variable in variables]
    return [filter_normalized(direction, weights) for direction in directions]
