"""The subsampled randomized Hadamard transform: exactly orthonormal directions in O(n log n) time.

Ailon and Chazelle 2009; Tropp 2011, "Improved analysis of the subsampled randomized Hadamard
transform". Those need n to be a power of two, and padding with zeros loses orthonormality. Here two
transforms of length m, the largest power of two <= n, overlap: the first acts on the first m elements,
the second on the last m, with random signs before each. That is an orthogonal map of exactly n
elements, of which d outputs are drawn without replacement:

    P^T = S H_last D' H_first D

with D, D' diagonal signs and S a choice of d rows. The signs D make E[P P^T] diagonal; every row is
drawn with the same probability, which makes it (d / n) I.
"""

import numpy as np
import tensorflow as tf

from random_bases.bases.basis import Basis
from random_bases.sampling import counter, derive_key, get_distribution
from random_bases.sampling.seeds import OUTPUTS, SIGNS, SIGNS_BETWEEN

Tensor = tf.Tensor

# log2 of the length of a Kronecker factor: a product with a 64 x 64 matrix keeps a core's multipliers
# busy, and 64 log2(64) additions would not be faster.
_FACTOR_BITS = 6
# Rounds of the permutation that draws the outputs.
_ROUNDS = 16


class HadamardBasis(Basis):
    """d exactly orthonormal directions of n elements, d <= n; with d = n, P P^T = I.

    Time O(n log n) and memory O(n), whatever d. The counter generator only: signs are bits.

    Args:
      size: n, at most 2**30.
      dimensions: d.

    Raises:
      ValueError, TypeError: for an argument that is not allowed, naming it.
    """

    def __init__(self, size: int, dimensions: int):
        super().__init__(size, dimensions)
        if size > 2**30:
            raise ValueError(f"size={size} is too large for a Hadamard basis; allowed: <= 2**30.")
        self._length = 2 ** (size.bit_length() - 1)

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        rest = self.size - self._length
        v = v * self._signs(seed, draw, first, SIGNS, self.size)
        if rest:
            v = tf.concat([self._transform(v[: self._length]), v[self._length :]], axis=0)
            last = v[rest:] * self._signs(seed, draw, first, SIGNS_BETWEEN, self._length)
            v = tf.concat([v[:rest], self._transform(last)], axis=0)
        else:
            v = self._transform(v)
        return tf.gather(v, self._outputs(seed, draw, first))

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        rest = self.size - self._length
        outputs = self._outputs(seed, draw, first)
        v = tf.scatter_nd(outputs[:, tf.newaxis], c, [self.size])
        if rest:
            last = self._transform(v[rest:])
            last = last * self._signs(seed, draw, first, SIGNS_BETWEEN, self._length)
            v = tf.concat([v[:rest], last], axis=0)
            v = tf.concat([self._transform(v[: self._length]), v[self._length :]], axis=0)
        else:
            v = self._transform(v)
        return v * self._signs(seed, draw, first, SIGNS, self.size)

    def _signs(self, seed: Tensor, draw: Tensor, first: Tensor, stream: int, size: int) -> Tensor:
        """`size` random signs; a block's 64 lie `blocks` apart, which saves a transposition."""
        signs = get_distribution("rademacher")
        blocks = -(-size // signs.block)
        key = derive_key(seed, draw, stream)
        groups = counter.tile(signs, key, first, 1, tf.constant(0), blocks)
        return tf.reshape(tf.concat(groups, axis=1), [-1])[:size]

    def _transform(self, v: Tensor) -> Tensor:
        """The orthonormal Walsh-Hadamard transform of m elements; it is its own inverse."""
        bits = self._length.bit_length() - 1
        while bits:
            factor = min(bits, _FACTOR_BITS)
            bits -= factor
            # Transforms the leading axis and moves it behind the others; after the last factor the
            # axes are back in order.
            v = tf.reshape(v, [2**factor, -1])
            v = tf.matmul(v, _hadamard_matrix(factor), transpose_a=True)
        return tf.reshape(v, [-1]) * np.float32(self._length**-0.5)

    def _outputs(self, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        """Which d of the n outputs are the coordinates: int32 [d], distinct.

        The first d values of a permutation of 0 .. n - 1: a random rotation, so that every output
        is drawn with probability d / n, then rounds of the swap-or-not shuffle (Hoang, Morris and
        Rogaway 2012), each of which pairs x with k - x (mod n) and swaps the pair or not. Every
        round is an involution, so all of it is a bijection, computed where it is needed: no sort
        and no table.
        """
        n = self.size
        key = derive_key(seed, draw, OUTPUTS)
        offsets, multipliers = counter.words(key, first, 1, tf.constant(0), _ROUNDS + 1)
        offsets = tf.math.floormod(offsets[0], n)
        multipliers = tf.bitwise.bitwise_or(multipliers[0], tf.constant(1, tf.int32))

        def swap_or_not(i, x):
            partner = offsets[i] - x
            partner = tf.where(partner < 0, partner + n, partner)
            # One pseudo-random bit for each pair, the top bit of a multiplicative hash.
            pair = tf.maximum(x, partner)
            high = tf.bitwise.right_shift(pair, tf.constant(15, tf.int32))
            swap = tf.bitwise.bitwise_xor(pair, high) * multipliers[i] < 0
            return i + 1, tf.where(swap, partner, x)

        x = tf.range(self.dimensions) - offsets[_ROUNDS]
        # A loop, not an unrolled expression: x occurs three times in a round, and XLA would repeat
        # all earlier rounds for each.
        _, x = tf.while_loop(
            lambda i, _: i < _ROUNDS,
            swap_or_not,
            (tf.constant(0), tf.where(x < 0, x + n, x)),
            parallel_iterations=1,
            maximum_iterations=_ROUNDS,
        )
        return x


def _hadamard_matrix(bits: int) -> np.ndarray:
    """Sylvester's matrix of length 2**bits: entries 1 and -1, float32."""
    matrix = np.ones([1, 1], np.float32)
    for _ in range(bits):
        matrix = np.kron(matrix, np.array([[1, 1], [1, -1]], np.float32))
    return matrix
