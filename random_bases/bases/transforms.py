"""Fast orthogonal transforms and random permutations, the parts of the structured bases."""

import math

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.tiles import stored
from random_bases.sampling import counter
from random_bases.sampling.distributions import signs_of_words
from random_bases.sampling.polynomials import sine_cosine

# log2 of the longest Kronecker factor of a transform. Small matrix products keep a core's multipliers
# busy; longer ones would do more than they save in passes over the data.
_FACTOR_BITS = 6
# Rounds of a permutation; before them comes a rotation.
_ROUNDS = 16
PERMUTATION_BLOCKS = _ROUNDS + 1


def random_signs(key: Tensor, first: Tensor, size: int, one: Tensor) -> Tensor:
    """`size` random signs; a block's 64 lie as far apart as there are blocks: no transposition.

    Args:
      key: int32 [2], from `derive_key`.
      first: int32 scalar, the number of the basis's first direction.
      size: how many.
      one: `unknown_one`. The words are stored, or each sign would evaluate the generator.

    Returns:
      float32 [size].
    """
    blocks = -(-size // 64)
    like = tf.zeros([2, blocks], tf.int32)
    (words,) = stored(
        lambda index: [tf.stack(counter.words(key, first, 1, index, blocks))[:, 0]], [like], one
    )
    like = tf.zeros([2, 32, blocks])
    (signs,) = stored(lambda index: [signs_of_words(words + index)], [like], one)
    return tf.reshape(signs, [-1])[:size]


def walsh_hadamard(v: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform of 2^k elements; it is its own inverse."""
    length = v.shape[0]
    bits = length.bit_length() - 1
    count = max(1, -(-bits // _FACTOR_BITS))
    left = 1
    for index in range(count):
        factor = 2 ** (bits // count + (index >= count - bits % count))
        v = tf.reshape(v, [left, factor, -1])
        matrix = hadamard_rows(tf.range(factor), factor) * np.float32(factor**0.5)
        if index == count - 1:
            v = tf.matmul(tf.reshape(v, [left, factor]), matrix)
        else:
            v = tf.matmul(tf.broadcast_to(matrix, [left, factor, factor]), v)
        left *= factor
    return tf.reshape(v, [-1]) * np.float32(length**-0.5)


def hadamard_rows(rows: Tensor, length: int) -> Tensor:
    """Rows of the orthonormal Hadamard matrix: float32 [rows, length].

    Entry (i, j) has the sign (-1)^(number of ones in i and j), folded here into the lowest bit.
    """
    parity = tf.bitwise.bitwise_and(rows[:, tf.newaxis], tf.range(length)[tf.newaxis, :])
    for shift in (16, 8, 4, 2, 1):
        folded = tf.bitwise.right_shift(parity, tf.constant(shift, tf.int32))
        parity = tf.bitwise.bitwise_xor(parity, folded)
    odd = tf.bitwise.bitwise_and(parity, tf.constant(1, tf.int32))
    return (1.0 - 2.0 * tf.cast(odd, tf.float32)) * np.float32(length**-0.5)


def cosine_rows(rows: Tensor, length: int) -> Tensor:
    """Rows of the orthonormal discrete cosine transform (type II): float32 [rows, length], length <= 2**19.

    Entry (k, j) is sqrt(2 / length) cos(pi (2 j + 1) k / (2 length)), and sqrt(1 / length) for k = 0.
    """
    # The angle repeats after 4 * length steps: reduced exactly, in integers, before it is rounded.
    odd = (2 * tf.range(length) + 1)[tf.newaxis, :]
    bits = tf.constant(9, tf.int32)  # of `low`: the products stay below 2**31
    high = tf.bitwise.right_shift(rows[:, tf.newaxis], bits)
    low = tf.bitwise.bitwise_and(rows[:, tf.newaxis], 2**9 - 1)
    # None is negative: a remainder is one operation, where "floormod" is many.
    steps = tf.truncatemod(high * odd, 4 * length) * 2**9 + low * odd
    steps = tf.truncatemod(steps, 4 * length)
    quarter = tf.cast(tf.round(tf.cast(steps, tf.float32) * np.float32(1 / length)), tf.int32)
    angle = tf.cast(steps - quarter * length, tf.float32) * np.float32(math.pi / (2 * length))
    sine, cosine = sine_cosine(angle)
    cosines = tf.where(tf.equal(tf.bitwise.bitwise_and(quarter, 1), 1), sine, cosine)
    cosines = tf.where(tf.equal(tf.bitwise.bitwise_and(quarter + 1, 2), 2), -cosines, cosines)
    scale = tf.where(tf.equal(rows, 0), np.float32(length**-0.5), np.float32((2 / length) ** 0.5))
    return cosines * scale[:, tf.newaxis]


class OverlappingTransform:
    """An orthogonal transform of any number n of elements, T = H_last D H_first.

    H_first is the Walsh-Hadamard transform of the first m elements, H_last that of the last m, where m
    is the largest power of two <= n; D are m random signs before H_last.

    Args:
      size: n, at most 2**30.
    """

    def __init__(self, size: int):
        self.length = 2 ** (size.bit_length() - 1)
        self._rest = size - self.length

    def forward(self, v: Tensor, signs: Tensor) -> Tensor:
        """T v for float32 v [n] and signs [m]."""
        v = self._first(v)
        if self._rest:
            v = tf.concat([v[: self._rest], walsh_hadamard(v[self._rest :] * signs)], axis=0)
        return v

    def transposed(self, v: Tensor, signs: Tensor) -> Tensor:
        """T^T v for float32 v [n] and signs [m]."""
        if self._rest:
            v = tf.concat([v[: self._rest], walsh_hadamard(v[self._rest :]) * signs], axis=0)
        return self._first(v)

    def _first(self, v: Tensor) -> Tensor:
        return tf.concat([walsh_hadamard(v[: self.length]), v[self.length :]], axis=0)


def choose(key: Tensor, first: Tensor, size: int, count: int) -> Tensor:
    """`count` distinct values of 0 .. size - 1 in random order, each with the same probability.

    They are the first values of a permutation: a random rotation, then rounds of the swap-or-not
    shuffle (Hoang, Morris and Rogaway 2012), each of which pairs x with k - x (mod size) and swaps the
    pair or not. Every round is an involution, so all of it is a bijection, computed where it is
    needed: no sort and no table.

    Returns:
      int32 [count].
    """
    words = counter.words(key, first, 1, tf.constant(0), PERMUTATION_BLOCKS)
    return permuted(*words, tf.constant([[size]]), count)[0]


def permuted(offsets: Tensor, multipliers: Tensor, size: Tensor, count: int) -> Tensor:
    """The first values of several permutations: see `choose`.

    Args:
      offsets, multipliers: words, int32 [permutations, PERMUTATION_BLOCKS].
      size: int32 [permutations, 1], of how many values each one is.
      count: how many of the first; where that is more than there are, the others have no meaning.

    Returns:
      int32 [permutations, count].
    """
    offsets = tf.math.floormod(offsets, size)
    multipliers = tf.bitwise.bitwise_or(multipliers, tf.constant(1, tf.int32))

    def swap_or_not(i, x):
        partner = offsets[:, i, tf.newaxis] - x
        partner = tf.where(partner < 0, partner + size, partner)
        # One pseudo-random bit for each pair, the top bit of a multiplicative hash.
        pair = tf.maximum(x, partner)
        high = tf.bitwise.right_shift(pair, tf.constant(15, tf.int32))
        swap = tf.bitwise.bitwise_xor(pair, high) * multipliers[:, i, tf.newaxis] < 0
        return i + 1, tf.where(swap, partner, x)

    x = tf.range(count)[tf.newaxis] - offsets[:, _ROUNDS, tf.newaxis]
    # A loop, not an unrolled expression: x occurs three times in a round, and XLA would repeat all
    # earlier rounds for each.
    _, x = tf.while_loop(
        lambda i, _: i < _ROUNDS,
        swap_or_not,
        (tf.constant(0), tf.where(x < 0, x + size, x)),
        parallel_iterations=1,
        maximum_iterations=_ROUNDS,
    )
    return x
