"""Which coordinates move the weights and which directions are redrawn, by the coordinates' magnitude."""

import tensorflow as tf
from tensorflow import Tensor


def count_of(fraction: float, total: int) -> int:
    """How many of `total` a fraction is: the nearest integer, at least 1."""
    return max(1, round(fraction * total))


def largest(c: Tensor, count: int) -> Tensor:
    """The indices of the `count` elements of a vector that are largest in magnitude, int32 [count]."""
    return tf.math.top_k(tf.abs(c), count, sorted=False).indices


def keep_largest(c: Tensor, count: int) -> Tensor:
    """Coordinates, any shape, with zeros in place of all but the `count` largest in magnitude."""
    flat = tf.reshape(c, [-1])
    kept = largest(flat, count)
    return tf.reshape(tf.scatter_nd(kept[:, tf.newaxis], tf.gather(flat, kept), flat.shape), c.shape)


def redraw_weakest(draws: Tensor, c: Tensor, count: int, draw: Tensor) -> Tensor:
    """Which draw each direction is of, once those of the `count` smallest coordinates are drawn again.

    Args:
      draws: int32 [d], as it was.
      c: float32 [d].
      draw: int32 scalar, the index of the new draw.
    """
    weakest = tf.math.top_k(-tf.abs(c), count, sorted=False).indices
    return tf.tensor_scatter_nd_update(draws, weakest[:, tf.newaxis], tf.fill([count], draw))
