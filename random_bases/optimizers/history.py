"""The gradient basis: the last d gradients, normalised, as directions.

The `grad` variant of Gressmann et al. 2020's code. Directions are gradients of earlier steps, each
divided by its length, not orthogonalised: c = P^T g, and the step is P c, as with random directions.
Nothing regenerates them, so they are kept: d x D numbers.
"""

from typing import List, Sequence

import numpy as np
import tensorflow as tf

Tensor = tf.Tensor

NAME = "history"
_BYTES = 4  # of a float32


class GradientHistory:
    """The step in the directions of past gradients, for one worker.

    Args:
      shapes: the variables' shapes.
      dimensions: d, how many gradients are kept.
      memory_limit: the most bytes that they may take, 4 d D.

    Raises:
      ValueError: if they would take more.
    """

    workers = 1

    def __init__(self, shapes: Sequence[Sequence[int]], dimensions: int, memory_limit: int):
        self.shapes = [tuple(int(n) for n in shape) for shape in shapes]
        self._sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self.shapes]
        size, self.dimensions = sum(self._sizes), dimensions
        needed = _BYTES * dimensions * size
        if needed > memory_limit:
            raise ValueError(
                f"memory_limit={memory_limit} bytes is too little for the last {dimensions} gradients of "
                f"{size} parameters, which take {needed}; allowed: at least as much, or fewer dimensions."
            )
        self.state_shape = (dimensions, size)

    def project(self, tensors: Sequence[Tensor], directions: Tensor) -> Tensor:
        """The coordinates, float32 [1, d], of tensors of the variables' shapes.

        Args:
          directions: float32 [d, D], a direction a row; zeros where there is none yet.
        """
        return tf.linalg.matvec(directions, self._flat(tensors))[tf.newaxis]

    def expand(self, coordinates: Tensor, directions: Tensor) -> List[Tensor]:
        """Tensors of the variables' shapes from coordinates, float32 [1, d]."""
        parts = tf.split(tf.matmul(coordinates, directions)[0], self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self.shapes)]

    def taken_in(self, directions: Tensor, tensors: Sequence[Tensor], draw: Tensor) -> Tensor:
        """The directions with g / |g| in the place of the oldest."""
        gradient = self._flat(tensors)
        direction = tf.math.divide_no_nan(gradient, tf.norm(gradient))
        return tf.tensor_scatter_nd_update(directions, [[draw % self.dimensions]], [direction])

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        return tf.concat([tf.reshape(tf.cast(tensor, tf.float32), [-1]) for tensor in tensors], axis=0)
