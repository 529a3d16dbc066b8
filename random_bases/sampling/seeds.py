"""Seeds and keys.

A seed is an int32 tensor of shape [2], as for `tf.random.stateless_*`. Of a seed and the number of a
redraw (`draw`), `derive_key` makes the key of one stream. Threefry is a bijection for every seed, so
no two draws or streams of a seed share a key; directions and elements are counted under the key.
"""

from typing import Sequence, Union

import numpy as np
import tensorflow as tf

from random_bases.arguments import integer, is_int
from random_bases.sampling.counter import threefry2x32

Seed = Union[int, Sequence[int], np.ndarray, tf.Tensor]

# Goes up whenever a seed comes to mean other samples or directions: files that hold seeds record it.
STREAM_VERSION = 1

# What a key is for. The numbers are part of the streams: never change or reuse one.
SAMPLES = 0  # entries of dense directions
SIGNS = 1  # the Hadamard basis's random signs before its first transform
SIGNS_BETWEEN = 2  # ... and between its two transforms
OUTPUTS = 3  # ... and the permutation that draws its outputs
OFFSET = 4  # where its window on the elements begins, if it has few directions
ROWS = 5  # ... and the permutations that draw the rows
COLUMNS = 6  # ... and columns of its outputs
FASTFOOD_SIGNS = 7  # the Fastfood basis's random signs before its first transform
FASTFOOD_PERMUTATION = 8  # ... its permutation
FASTFOOD_NORMALS = 9  # ... its diagonal of normals
FASTFOOD_BETWEEN = 10  # ... and the random signs between its last two transforms
INPUT_FACTOR = 11  # the Kronecker basis's factor of inputs: a permutation, then random signs
OUTPUT_FACTOR = 12  # ... and that of outputs
CORE_OFFSET = 13  # ... and where its coordinates begin, if they are fewer than the factors have
PARTITION_SIGNS = 14  # the partition basis's random signs
PARTITION_OFFSET = 15  # ... the element that its rows begin with
PARTITION_ROTATIONS = 16  # ... and the rotations of their directions
LOW_RANK = 17  # low-rank perturbations: the factors of all kernels, then all other weights, in one row


def as_seed(seed: Seed) -> tf.Tensor:
    """Returns `seed` as an int32 tensor of shape [2].

    Args:
      seed: an int in [0, 2**64), split into its low and high 32 bits; or a pair of int32 or an integer
        tensor of shape [2].

    Raises:
      TypeError: if it is neither an int nor a pair of integers.
      ValueError: if the int is out of range or the shape is not [2].
    """
    if isinstance(seed, (bool, float, str)) or seed is None:
        raise TypeError(f"seed={seed!r} must be an int or a pair of int32.")
    if is_int(seed):
        high, low = divmod(integer("seed", seed, 0, 2**64 - 1), 2**32)
        return tf.constant(np.array([low, high], np.uint32).view(np.int32))
    seed = tf.convert_to_tensor(seed)
    if not seed.dtype.is_integer:
        raise TypeError(f"seed has dtype {seed.dtype.name}; a pair of int32 is needed.")
    if seed.shape.rank != 1 or seed.shape[0] != 2:
        raise ValueError(f"seed has shape {tuple(seed.shape)}; allowed: an int, or shape (2,).")
    if seed.dtype not in (tf.int32, tf.uint32):  # a uint32 stands for the int32 of the same bits
        known = tf.get_static_value(seed)
        if known is not None and not np.all((known >= -(2**31)) & (known < 2**31)):
            raise ValueError(f"seed={known.tolist()} is out of range; allowed: an int, or a pair of int32.")
    return tf.cast(seed, tf.int32)


def derive_key(seed: tf.Tensor, draw: tf.Tensor, stream: int) -> tf.Tensor:
    """The key of one stream of one redraw: Threefry-2x32-20 of (draw, stream) under the seed.

    Args:
      seed: int32 [2].
      draw: int32 scalar, how often the basis has been redrawn.
      stream: one of this module's constants.

    Returns:
      int32 [2].
    """
    draw = tf.cast(draw, tf.int32)
    return tf.stack(threefry2x32(seed, (draw, tf.constant(stream, tf.int32)), rounds=20))
