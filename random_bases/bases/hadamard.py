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
  products with few rows of small matrices are all there is to compute.
"""

import math
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.drawn import DrawnBasis
from random_bases.bases.transforms import (
    OverlappingTransform,
    choose,
    cosine_rows,
    hadamard_rows,
    random_signs,
)
from random_bases.sampling import counter, derive_key
from random_bases.sampling.seeds import COLUMNS, OFFSET, OUTPUTS, ROWS, SIGNS, SIGNS_BETWEEN

# A product set is used where there are at least so many elements for each direction.
_ELEMENTS_PER_DIRECTION = 16
# Fewer columns would cost as much: a product so narrow only waits for memory.
_MOST_COLUMNS = 16


class HadamardBasis(DrawnBasis):
    """d exactly orthonormal directions of n elements, d <= n; with d = n, P P^T = I.

    Time O(n) for 16 d <= n (at most 16 products an element), else O(n log n); memory O(n), whatever
    d. The counter generator only: signs are bits. On a GPU that multiplies in TensorFloat-32 (see
    `tf.config.experimental.enable_tensor_float_32_execution`) directions are orthonormal to 1e-3 only.

    Args:
      size: n, at most 2**30.
      dimensions: d.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    orthonormal = True

    def __init__(self, size: int, dimensions: int):
        super().__init__(size, dimensions)
        few = _ELEMENTS_PER_DIRECTION * self.dimensions <= self.size
        self._transform: Any = (_ProductSet if few else _Overlapping)(self.size, self.dimensions)

    @property
    def factor_numbers(self) -> int:
        """How many numbers the two factors of a product set have; 0 of two overlapping transforms."""
        set_ = self._transform
        if not isinstance(set_, _ProductSet):
            return 0
        return set_.rows * set_.height + set_.columns * set_.breadth

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Any:
        return self._transform.draw(one, seed, draw, first)

    def project_drawn(self, v: Tensor, drawn: Any) -> Tensor:
        return self._transform.project(v, drawn)

    def expand_drawn(self, c: Tensor, drawn: Any) -> Tensor:
        return self._transform.expand(c, drawn)


class _Overlapping:
    """P^T = S H_last D' H_first D: two overlapping transforms, outputs drawn one by one."""

    class Drawn(NamedTuple):
        signs: Tensor  # float32 [n]
        signs_between: Tensor  # float32 [m]
        outputs: Tensor  # int32 [d], distinct

    def __init__(self, size: int, dimensions: int):
        self.size = size
        self.dimensions = dimensions
        self.transform = OverlappingTransform(size)

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Drawn:
        return self.Drawn(
            random_signs(derive_key(seed, draw, SIGNS), first, self.size, one),
            random_signs(derive_key(seed, draw, SIGNS_BETWEEN), first, self.transform.length, one),
            choose(derive_key(seed, draw, OUTPUTS), first, self.size, self.dimensions),
        )

    def project(self, v: Tensor, drawn: Drawn) -> Tensor:
        return tf.gather(self.transform.forward(v * drawn.signs, drawn.signs_between), drawn.outputs)

    def expand(self, c: Tensor, drawn: Drawn) -> Tensor:
        v = tf.scatter_nd(drawn.outputs[:, tf.newaxis], c, [self.size])
        return self.transform.transposed(v, drawn.signs_between) * drawn.signs


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
        # The product with the columns costs n * columns, that with the rows only d * height.
        columns = min(math.ceil(math.sqrt(dimensions)), _MOST_COLUMNS)
        self.columns = max(columns, -(-dimensions // self.height))
        self.rows = -(-dimensions // self.columns)

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Drawn:
        offset, _ = counter.words(derive_key(seed, draw, OFFSET), first, 1, tf.constant(0), 1)
        rows = choose(derive_key(seed, draw, ROWS), first, self.height, self.rows)
        columns = choose(derive_key(seed, draw, COLUMNS), first, self.breadth, self.columns)
        return self.Drawn(
            random_signs(derive_key(seed, draw, SIGNS), first, self.height * self.breadth, one),
            tf.math.floormod(offset[0, 0], self.size),
            cosine_rows(rows, self.height),
            hadamard_rows(columns, self.breadth),
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
