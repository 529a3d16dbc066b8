"""The gradient basis: the last d gradients, normalised, as directions.

The `grad` variant of Gressmann et al. 2020's code. Directions are gradients of earlier steps, each
divided by its length, not orthogonalised: c = P^T g, and the step is P c, as with random directions.
Nothing regenerates them, so they are kept: d x D numbers.
"""

from typing import List, Optional, Sequence

import tensorflow as tf
from tensorflow import Tensor

from random_bases.optimizers.directions import Redraws, StateSpec, Step, filled
from random_bases.optimizers.magnitude import count_of, keep_largest
from random_bases.tensors import as_shapes, flat, size_of, split

NAME = "history"
_BYTES = 4  # of a float32


class GradientHistory:
    """The step in the directions of past gradients, for one replica; members as of `SeededDirections`.

    Args:
      shapes: the variables' shapes.
      dimensions: d, how many gradients are kept.
      memory_limit: the most bytes that they may take, 4 d D.
      redraws: when the oldest is replaced.
      keep: as in `SeededDirections`.

    Raises:
      ValueError: if they would take more.
    """

    replica_count = 1

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        dimensions: int,
        memory_limit: int,
        redraws: Redraws,
        keep: float = 1.0,
    ):
        self.shapes = as_shapes(shapes)
        size, self.dimensions = sum(map(size_of, self.shapes)), dimensions
        needed = _BYTES * dimensions * size
        if needed > memory_limit:
            raise ValueError(
                f"memory_limit={memory_limit} bytes is too little for the last {dimensions} gradients of "
                f"{size} parameters, which take {needed}; allowed: at least as much, or fewer dimensions."
            )
        self.state_specs = [StateSpec("gradients", (dimensions, size))]
        self.shape = (1, dimensions)
        self.redraws = redraws
        self._kept = None if keep == 1 else count_of(keep, dimensions)
        self.state: List[tf.Variable] = []

    def step(
        self, tensors: Sequence[Optional[Tensor]], updates: Tensor, replicas, recorded: bool = False
    ) -> Step:
        del replicas, recorded
        directions, tensors = tf.convert_to_tensor(self.state[0]), filled(tensors, self.shapes)
        gradient = flat([tf.cast(tensor, tf.float32) for tensor in tensors])
        c = tf.linalg.matvec(directions, gradient)
        kept = c if self._kept is None else keep_largest(c, self._kept)
        update = split(tf.linalg.matvec(directions, kept, transpose_a=True), self.shapes)

        def with_gradient():
            direction = tf.math.divide_no_nan(gradient, tf.norm(gradient))
            oldest = self.redraws.draw(updates) % self.dimensions
            return tf.tensor_scatter_nd_update(directions, [[oldest]], [direction])

        self.state[0].assign(self.redraws.where_due(updates, with_gradient, directions))
        return Step(kept[tf.newaxis], update, c[tf.newaxis], c)
