"""The subsampled randomized Hadamard transform: exactly orthonormal directions in O(n log n) time.

Ailon and Chazelle 2009; Tropp 2011, "Improved analysis of the subsampled randomized Hadamard
transform". Those need n to be a power of two, and padding with zeros loses orthonormality. Two
constructions take any n, both of the form P^T = S T D with random signs D, an orthogonal transform T
and a choice S of d of its outputs, each output with the same probability. The signs make E[P P^T]
diagonal, the equal probabilities make it (d / n) I.

* Many directions: two Walsh-Hadamard transforms of length m, the largest power of two <= n, overlap.
  The first acts on the first m elements, the second, after random signs, on the last m; together they
  are an orthogonal transform of exactly n elements. d of the n outputs are drawn one by one.

* Few directions (16 d <= n): most of that transform would be thrown away. The elements, rotated by a
  random offset, fill a grid of q rows of b = 2^k elements; fewer than b elements, other ones at each
  redraw, stay outside. T is the Kronecker product of a cosine transform of the columns with a Hadamard
  transform of the rows, and the d outputs are a product set: some rows times some columns, so that two
  products with about sqrt(d) rows of small matrices are all there is to compute, O(n sqrt(d)).
"""

import math
from typing import NamedTuple, Tuple

import numpy as np
import tensorflow as tf

from random_bases.bases.basis import Basis
from random_bases.sampling import counter, derive_key, get_distribution
from random_bases.sampling.seeds import COLUMNS, OFFSET, OUTPUTS, ROWS, SIGNS, SIGNS_BETWEEN

Tensor = tf.Tensor

# A product set is used where there are at least so many elements for each direction.
_ELEMENTS_PER_DIRECTION = 16
# log2 of the longest Kronecker factor of a transform. Small matrix products keep a core's multipliers
# busy; longer ones would do more than they save in passes over the data.
_FACTOR_BITS = 6
# Rounds of the permutation that draws outputs.
_ROUNDS = 16


class HadamardBasis(Basis):
    """d exactly orthonormal directions of n elements, d <= n; with d = n, P P^T = I.

    Time O(n sqrt(d)) for 16 d <= n, else O(n log n); memory O(n), whatever d. The counter generator
    only: signs are bits. On a GPU that multiplies in TensorFloat-32 (see
    `tf.config.experimental.enable_tensor_float_32_execution`) directions are orthonormal to 1e-3 only.

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
        few = _ELEMENTS_PER_DIRECTION * dimensions <= size
        self._transform = _ProductSet(size, dimensions) if few else _Overlapping(size, dimensions)

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        return self._transform.project(v, self._transform.draw(seed, draw, first))

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        return self._transform.expand(c, self._transform.draw(seed, draw, first))

    def trace_sketch(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        drawn = self._transform.draw(seed, draw, first)
        c = self._transform.project(v, drawn)
        return c, self._transform.expand(c, drawn)


class _Overlapping:
    """P^T = S H_last D' H_first D: two overlapping transforms, outputs drawn one by one."""

    class Drawn(NamedTuple):
        signs: Tensor  # float32 [n]
        signs_between: Tensor  # float32 [m]
        outputs: Tensor  # int32 [d], distinct

    def __init__(self, size: int, dimensions: int):
        self.size = size
        self.dimensions = dimensions
        self.length = 2 ** (size.bit_length() - 1)
        self.rest = size - self.length

    def draw(self, seed: Tensor, draw: Tensor, first: Tensor) -> Drawn:
        return self.Drawn(
            random_signs(derive_key(seed, draw, SIGNS), first, self.size),
            random_signs(derive_key(seed, draw, SIGNS_BETWEEN), first, self.length),
            choose(derive_key(seed, draw, OUTPUTS), first, self.size, self.dimensions),
        )

    def project(self, v: Tensor, drawn: Drawn) -> Tensor:
        v = self._first(v * drawn.signs)
        if self.rest:
            last = walsh_hadamard(v[self.rest :] * drawn.signs_between)
            v = tf.concat([v[: self.rest], last], axis=0)
        return tf.gather(v, drawn.outputs)

    def expand(self, c: Tensor, drawn: Drawn) -> Tensor:
        v = tf.scatter_nd(drawn.outputs[:, tf.newaxis], c, [self.size])
        if self.rest:
            last = walsh_hadamard(v[self.rest :]) * drawn.signs_between
            v = tf.concat([v[: self.rest], last], axis=0)
        return self._first(v) * drawn.signs

    def _first(self, v: Tensor) -> Tensor:
        """The first transform, symmetric as it is."""
        return tf.concat([walsh_hadamard(v[: self.length]), v[self.length :]], axis=0)


class _ProductSet:
    """P^T = (C x H) D W: a window W of q * b elements; d of (some rows of C) x (some rows of H)."""

    class Drawn(NamedTuple):
        signs: Tensor  # float32 [q * b]
        offset: Tensor  # int32 scalar, the window's first element
        cosines: Tensor  # float32 [rows, q], orthonormal rows
        hadamard: Tensor  # float32 [columns, b], orthonormal rows

    def __init__(self, size: int, dimensions: int):
        self.size = size
        self.dimensions = dimensions
        self.breadth = 2 ** round(math.log2(size) / 2)
        self.height = size // self.breadth
        self.columns = min(self.breadth, math.ceil(math.sqrt(dimensions)))
        self.rows = -(-dimensions // self.columns)

    def draw(self, seed: Tensor, draw: Tensor, first: Tensor) -> Drawn:
        offset, _ = counter.words(derive_key(seed, draw, OFFSET), first, 1, tf.constant(0), 1)
        rows = choose(derive_key(seed, draw, ROWS), first, self.height, self.rows)
        columns = choose(derive_key(seed, draw, COLUMNS), first, self.breadth, self.columns)
        return self.Drawn(
            random_signs(derive_key(seed, draw, SIGNS), first, self.height * self.breadth),
            tf.math.floormod(offset[0, 0], self.size),
            _cosine_rows(rows, self.height),
            _hadamard_rows(columns, self.breadth),
        )

    def project(self, v: Tensor, drawn: Drawn) -> Tensor:
        window = tf.roll(v, -drawn.offset, axis=0)[: self.height * self.breadth]
        grid = tf.reshape(window * drawn.signs, [self.height, self.breadth])
        outputs = tf.matmul(drawn.cosines, tf.matmul(grid, drawn.hadamard, transpose_b=True))
        return tf.reshape(outputs, [-1])[: self.dimensions]

    def expand(self, c: Tensor, drawn: Drawn) -> Tensor:
        outputs = tf.reshape(
            tf.pad(c, [[0, self.rows * self.columns - self.dimensions]]), [self.rows, self.columns]
        )
        grid = tf.matmul(tf.matmul(drawn.cosines, outputs, transpose_a=True), drawn.hadamard)
        window = tf.reshape(grid, [-1]) * drawn.signs
        v = tf.pad(window, [[0, self.size - self.height * self.breadth]])
        return tf.roll(v, drawn.offset, axis=0)


def random_signs(key: Tensor, first: Tensor, size: int) -> Tensor:
    """`size` random signs; a block's 64 lie as far apart as there are blocks: no transposition."""
    rademacher = get_distribution("rademacher")
    groups = counter.tile(rademacher, key, first, 1, tf.constant(0), -(-size // rademacher.block))
    return tf.reshape(tf.concat(groups, axis=1), [-1])[:size]


def walsh_hadamard(v: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform of 2^k elements; it is its own inverse."""
    length = v.shape[0]
    bits = length.bit_length() - 1
    count = max(1, -(-bits // _FACTOR_BITS))
    left = 1
    for index in range(count):
        factor = 2 ** (bits // count + (index < bits % count))
        v = tf.reshape(v, [left, factor, -1])
        matrix = _hadamard_rows(tf.range(factor), factor) * np.float32(factor**0.5)
        if index == count - 1:
            v = tf.matmul(tf.reshape(v, [left, factor]), matrix)
        else:
            v = tf.matmul(tf.broadcast_to(matrix, [left, factor, factor]), v)
        left *= factor
    return tf.reshape(v, [-1]) * np.float32(length**-0.5)


def _hadamard_rows(rows: Tensor, length: int) -> Tensor:
    """Rows of the orthonormal Hadamard matrix: float32 [rows, length].

    Entry (i, j) has the sign (-1)^(number of ones in i and j), folded here into the lowest bit.
    """
    parity = tf.bitwise.bitwise_and(rows[:, tf.newaxis], tf.range(length)[tf.newaxis, :])
    for shift in (16, 8, 4, 2, 1):
        folded = tf.bitwise.right_shift(parity, tf.constant(shift, tf.int32))
        parity = tf.bitwise.bitwise_xor(parity, folded)
    odd = tf.bitwise.bitwise_and(parity, tf.constant(1, tf.int32))
    return (1.0 - 2.0 * tf.cast(odd, tf.float32)) * np.float32(length**-0.5)


def _cosine_rows(rows: Tensor, length: int) -> Tensor:
    """Rows of the orthonormal discrete cosine transform (type II) of any length: float32 [rows, length].

    Entry (k, j) is sqrt(2 / length) cos(pi (2 j + 1) k / (2 length)), and sqrt(1 / length) for k = 0.
    """
    # The angle repeats after 4 * length steps: reduced exactly, in integers, before it is rounded.
    steps = tf.math.floormod(rows[:, tf.newaxis] * (2 * tf.range(length) + 1)[tf.newaxis, :], 4 * length)
    cosines = tf.cos(tf.cast(steps, tf.float32) * np.float32(math.pi / (2 * length)))
    scale = tf.where(tf.equal(rows, 0), np.float32(length**-0.5), np.float32((2 / length) ** 0.5))
    return cosines * scale[:, tf.newaxis]


def choose(key: Tensor, first: Tensor, size: int, number: int) -> Tensor:
    """`number` distinct values of 0 .. size - 1 in random order, each with the same probability.

    They are the first values of a permutation: a random rotation, then rounds of the swap-or-not
    shuffle (Hoang, Morris and Rogaway 2012), each of which pairs x with k - x (mod size) and swaps the
    pair or not. Every round is an involution, so all of it is a bijection, computed where it is
    needed: no sort and no table.

    Returns:
      int32 [number].
    """
    offsets, multipliers = counter.words(key, first, 1, tf.constant(0), _ROUNDS + 1)
    offsets = tf.math.floormod(offsets[0], size)
    multipliers = tf.bitwise.bitwise_or(multipliers[0], tf.constant(1, tf.int32))

    def swap_or_not(i, x):
        partner = offsets[i] - x
        partner = tf.where(partner < 0, partner + size, partner)
        # One pseudo-random bit for each pair, the top bit of a multiplicative hash.
        pair = tf.maximum(x, partner)
        high = tf.bitwise.right_shift(pair, tf.constant(15, tf.int32))
        swap = tf.bitwise.bitwise_xor(pair, high) * multipliers[i] < 0
        return i + 1, tf.where(swap, partner, x)

    x = tf.range(number) - offsets[_ROUNDS]
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
