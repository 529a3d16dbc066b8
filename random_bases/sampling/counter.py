"""The counter generator: Threefry-2x32 in int32 TensorFlow ops, one stream on every device.

Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". A block of two 32-bit words is a
keyed bijection of a two-word counter, so words need no state and can be drawn in any order; only
add, xor, and, or and shifts are used, because the IPU has int32 but neither uint32 nor int64.

A word is an int32 whose bits are the generator's; its sign has no meaning.
"""

from typing import Sequence, Tuple

import tensorflow as tf

from random_bases.sampling.distributions import Distribution
from random_bases.sampling.tracing import traced_once

Words = Tuple[tf.Tensor, tf.Tensor]

ROUNDS = 13  # the least that passes BigCrush (Salmon et al. 2011, table 2)
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_PARITY = 0x1BD11BDA


def _rotate_left(word: tf.Tensor, bits: int) -> tf.Tensor:
    # The right shift of an int32 is arithmetic: the mask makes it logical.
    low = tf.bitwise.right_shift(word, tf.constant(32 - bits, tf.int32))
    low = tf.bitwise.bitwise_and(low, tf.constant((1 << bits) - 1, tf.int32))
    return tf.bitwise.bitwise_or(tf.bitwise.left_shift(word, tf.constant(bits, tf.int32)), low)


def threefry2x32(key: tf.Tensor, counter: Words, rounds: int = ROUNDS) -> Words:
    """Threefry-2x32: two words for each counter.

    Args:
      key: int32 [2], or a pair of int32 tensors that broadcast with the counter.
      counter: a pair of int32 tensors that broadcast.
      rounds: 13 (passes BigCrush) or 20 (the authors' safety margin).

    Returns:
      A pair of int32 tensors of the broadcast shape.

    Raises:
      ValueError: if `rounds` is neither 13 nor 20.
    """
    if rounds not in (13, 20):
        raise ValueError(f"rounds={rounds!r} is not supported; allowed: 13, 20.")
    return _threefry2x32(key, counter, rounds=rounds)


@traced_once
def _threefry2x32(key, counter: Words, rounds: int) -> Words:
    parity = tf.bitwise.bitwise_xor(key[0], key[1])
    schedule = (key[0], key[1], tf.bitwise.bitwise_xor(parity, tf.constant(_PARITY, tf.int32)))
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for index in range(rounds):
        x0 = x0 + x1
        x1 = tf.bitwise.bitwise_xor(x0, _rotate_left(x1, _ROTATIONS[index % 8]))
        if index % 4 == 3:
            injection = index // 4 + 1
            x0 = x0 + schedule[injection % 3]
            x1 = x1 + (schedule[(injection + 1) % 3] + injection)
    return x0, x1


def words(key: tf.Tensor, direction: tf.Tensor, rows: int, block: tf.Tensor, blocks: int) -> Words:
    """The words of `rows` directions from number `direction`, in `blocks` blocks from number `block`.

    Returns:
      Two int32 tensors of shape [rows, blocks].
    """
    directions = (direction + tf.range(rows))[:, tf.newaxis]
    numbers = (block + tf.range(blocks))[tf.newaxis, :]
    return threefry2x32(key, (directions, numbers))


def group_sizes(distribution: Distribution) -> Tuple[int, ...]:
    """How many samples each of the tensors that `tile` returns holds of one block."""
    return distribution.group_sizes


def tile(
    distribution: Distribution,
    key: tf.Tensor,
    direction: tf.Tensor,
    rows: int,
    block: tf.Tensor,
    blocks: int,
) -> Tuple[tf.Tensor, ...]:
    """Samples of `rows` directions and `blocks` blocks of elements.

    Element e of a direction lies in block e // L at position e % L, where L is the sum of
    `group_sizes(distribution)`: the samples that one pair of words gives. Positions are the leading axis
    of a direction's samples, so that a vector processor works on many blocks at a time.

    Args:
      distribution: what to draw.
      key: int32 [2], from `derive_key`.
      direction: int32 scalar, the number of the first direction.
      rows: how many directions.
      block: int32 scalar, the number of the first block.
      blocks: how many blocks.

    Returns:
      One float32 tensor of shape [rows, p, blocks] for each p of `group_sizes(distribution)`.
    """
    return distribution.from_words(*words(key, direction, rows, block, blocks))


def entries(
    distribution: Distribution, key: tf.Tensor, direction: tf.Tensor, elements: tf.Tensor
) -> tf.Tensor:
    """Samples of single elements: those that `tile` gives there, each by itself.

    What a compiler merges into the operation that uses them, so that none reaches memory. That costs
    the words of a block once for every sample: `tile` is faster where many are used at once.

    Args:
      distribution: what to draw.
      key: int32 [2] or [2, ...], from `derive_key`; all below broadcast with key[0].
      direction: int32, the directions' numbers.
      elements: int32, the elements' numbers.

    Returns:
      float32, of the broadcast shape.
    """
    (each,) = set(distribution.group_sizes)  # as many samples from each word
    block = 2 * each  # a power of two
    numbers = tf.bitwise.right_shift(elements, tf.constant(block.bit_length() - 1, tf.int32))
    place = tf.bitwise.bitwise_and(elements, tf.constant(block - 1, tf.int32))
    pair: Sequence = threefry2x32(key, (direction, numbers))
    if each > 1:
        # The sample's bit becomes the lowest, which gives the first sample.
        bit = tf.bitwise.bitwise_and(place, tf.constant(each - 1, tf.int32))
        pair = [tf.bitwise.right_shift(word, tf.broadcast_to(bit, word.shape)) for word in pair]
    shape = pair[0].shape
    groups = distribution.from_words(*(tf.reshape(word, [1, -1]) for word in pair))
    first, second = (tf.reshape(group[:, 0], shape) for group in groups)
    return tf.where(place < each, first, second)
