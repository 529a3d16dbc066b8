"""Fastfood: directions like normal ones in O(n log n) time and O(n) memory.

Le, Sarlos and Smola 2013, "Fastfood: approximating kernel expansions in loglinear time", as used by Li
et al. 2018, arXiv:1804.08838 (section S7), to train in subspaces of large networks.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.drawn import DrawnBasis
from random_bases.bases.tiles import layout, stored
from random_bases.bases.transforms import OverlappingTransform, choose, random_signs, walsh_hadamard
from random_bases.sampling import derive_key, get_distribution
from random_bases.sampling.seeds import (
    FASTFOOD_BETWEEN,
    FASTFOOD_NORMALS,
    FASTFOOD_PERMUTATION,
    FASTFOOD_SIGNS,
)


class FastfoodBasis(DrawnBasis):
    """P c = T G Pi H B pad(c), times sqrt(L) / |G|: every direction has length 1.

    B are random signs, H is the Walsh-Hadamard transform of L = 2^ceil(log2 n) elements, Pi a random
    permutation of which the first n elements are kept, G n independent normals, and T an orthogonal
    transform of exactly n elements: two Walsh-Hadamard transforms of the largest power of two <= n,
    which overlap, with random signs between. T is the second H of Le et al. and Li et al., which
    needs n to be a power of two. Le et al.'s last factor S, which makes the directions' lengths as
    random as those of normal ones, is left out as in Li et al.

    Directions are neither independent nor orthogonal. The counter generator only: signs are bits.

    Args:
      size: n, at most 2**30.
      dimensions: d.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    class _Drawn(NamedTuple):
        signs: Tensor  # B of the first d elements, float32 [d]
        kept: Tensor  # Pi, int32 [n], distinct, < L
        scale: Tensor  # sqrt(L) G / |G|, float32 [n]
        between: Tensor  # T's signs, float32 [m]

    def __init__(self, size: int, dimensions: int):
        super().__init__(size, dimensions)
        self._padded = 2 ** (self.size - 1).bit_length()
        self._last = OverlappingTransform(self.size)

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> _Drawn:
        normals = _normals(derive_key(seed, draw, FASTFOOD_NORMALS), first, self.size, one)
        # All n normals of a draw can be 0 only if n is 1 or 2: then any direction does.
        square = tf.reduce_sum(normals**2)
        normals = tf.where(square > 0, normals, tf.ones_like(normals))
        square = tf.where(square > 0, square, np.float32(self.size))
        return self._Drawn(
            random_signs(derive_key(seed, draw, FASTFOOD_SIGNS), first, self.dimensions, one),
            choose(derive_key(seed, draw, FASTFOOD_PERMUTATION), first, self._padded, self.size),
            normals * tf.sqrt(np.float32(self._padded) / square),
            random_signs(derive_key(seed, draw, FASTFOOD_BETWEEN), first, self._last.length, one),
        )

    def expand_drawn(self, c: Tensor, drawn: _Drawn) -> Tensor:
        mixed = walsh_hadamard(tf.pad(c * drawn.signs, [[0, self._padded - self.dimensions]]))
        return self._last.forward(tf.gather(mixed, drawn.kept) * drawn.scale, drawn.between)

    def project_drawn(self, v: Tensor, drawn: _Drawn) -> Tensor:
        v = self._last.transposed(v, drawn.between) * drawn.scale
        mixed = walsh_hadamard(tf.scatter_nd(drawn.kept[:, tf.newaxis], v, [self._padded]))
        return mixed[: self.dimensions] * drawn.signs


def _normals(key: Tensor, first: Tensor, size: int, one: Tensor) -> Tensor:
    """`size` independent normals; the two of a block lie as far apart as there are blocks."""
    held = layout(get_distribution("normal"), "counter")
    blocks = -(-size // held.block)
    tile = stored(lambda index: held.draw(key, first, 1, index, blocks), held.zeros(1, blocks), one)
    return tf.concat(held.rows(tile), axis=1)[0, :size]
