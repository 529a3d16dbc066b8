"""Which coordinates are used and which directions are kept, by the coordinates' magnitude."""

import tensorflow as tf

Tensor = tf.Tensor


def number_of(fraction: float, total: int) -> int:
    """How many of `total` a fraction is: the nearest number, at least 1."""
    return max(1, round(fraction * total))


def keep_largest(c: Tensor, number: int) -> Tensor:
    """Coordinates, any shape, with zeros in place of all but the `number` largest in magnitude."""
    flat = tf.reshape(c, [-1])
    _, largest = tf.math.top_k(tf.abs(flat), number, sorted=False)
    kept = tf.scatter_nd(largest[:, tf.newaxis], tf.gather(flat, largest), flat.shape)
    return tf.reshape(kept, c.shape)


def redraw_weakest(draws: Tensor, c: Tensor, number: int, draw: Tensor) -> Tensor:
    """Which draw each direction is of, once those of the `number` smallest coordinates are drawn again.

    Args:
      draws: int32 [d], as it was.
      c: float32 [d].
      draw: int32 scalar, the number of the new draw.
    """
    _, weakest = tf.math.top_k(-tf.abs(c), number, sorted=False)
    return tf.tensor_scatter_nd_update(draws, weakest[:, tf.newaxis], tf.fill([number], draw))
