"""The native generator: `tf.random.stateless_*`, whatever the device makes of it.

The same interface as `counter`. On the IPU this is the hardware generator; on CPU and GPU Philox.
Values depend on the device, on XLA or not, and on the tile's shape, so a basis must be drawn with the
same tiles wherever it is drawn again, and is never rebuilt on another kind of device.
"""

from typing import Tuple

import tensorflow as tf

from random_bases.sampling.counter import threefry2x32
from random_bases.sampling.distributions import Distribution


def group_sizes(distribution: Distribution) -> Tuple[int, ...]:
    """As `counter.group_sizes`: here a block is one element."""
    del distribution
    return (1,)


def tile(
    distribution: Distribution,
    key: tf.Tensor,
    direction: tf.Tensor,
    rows: int,
    block: tf.Tensor,
    blocks: int,
) -> Tuple[tf.Tensor, ...]:
    """As `counter.tile`: one draw a tile, seeded by a mix of the key and the tile's first numbers.

    The seed is mixed because hardware generators take their state straight from it.

    Returns:
      One float32 tensor of shape [rows, 1, blocks].
    """
    seed = tf.stack(threefry2x32(key, (tf.cast(direction, tf.int32), tf.cast(block, tf.int32))))
    return (distribution.from_native((rows, 1, blocks), seed),)
