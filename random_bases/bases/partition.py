"""Partitions: each element belongs to one direction, with a random sign; exactly orthonormal in O(n) time.

Uni-LoRA (Li et al. 2025, arXiv:2506.00799) draws each element's direction independently, so that some
directions get many elements and others few or none. Here the elements are dealt out: from a random one on,
each d that follow one another go to d directions, in an order that is rotated by a random number. All
directions have n / d elements, rounded up or down, and entries of the same size; there is no transform and
nothing is scattered: a product gathers and adds.

As every element has the same chance of a direction of either size, E[P P^T] = (d / n) I for every d.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.drawn import DrawnBasis
from random_bases.bases.tiles import stored
from random_bases.bases.transforms import random_signs
from random_bases.sampling import counter, derive_key
from random_bases.sampling.seeds import PARTITION_OFFSET, PARTITION_ROTATIONS, PARTITION_SIGNS


class _Drawn(NamedTuple):
    signs: Tensor  # float32 [rows, d]
    offset: Tensor  # int32 scalar, the first element of the first row
    rotations: Tensor  # int32 [rows], of each one's directions
    scales: Tensor  # float32 [d], of each direction's entries


class PartitionBasis(DrawnBasis):
    """d exactly orthonormal directions, each of about n / d elements that no other one has.

    Time and memory O(n), whatever d. Directions are sparse: with few elements for each, as for d = n, they
    are little more than the elements themselves with signs. The counter generator only: signs are bits.

    Args:
      size: n, at most 2**30.
      dimensions: d.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    orthonormal = True

    def __init__(self, size: int, dimensions: int):
        super().__init__(size, dimensions)
        self._rows = -(-self.size // self.dimensions)
        self._missing = self._rows * self.dimensions - self.size  # at the end of the last row

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> _Drawn:
        d = self.dimensions
        offset, _ = counter.words(derive_key(seed, draw, PARTITION_OFFSET), first, 1, tf.constant(0), 1)
        signs = random_signs(derive_key(seed, draw, PARTITION_SIGNS), first, self._rows * d, one)
        rotations = self._rotations(derive_key(seed, draw, PARTITION_ROTATIONS), first, one)
        in_last_row = tf.math.floormod(tf.range(d) - rotations[-1], d) < d - self._missing
        whole = self._rows - 1
        short = np.float32(whole**-0.5 if whole else 0.0)
        scales = tf.where(in_last_row, np.float32(self._rows**-0.5), short)
        return _Drawn(
            tf.reshape(signs, [self._rows, d]), tf.math.floormod(offset[0, 0], self.size), rotations, scales
        )

    def _rotations(self, key: Tensor, first: Tensor, one: Tensor) -> Tensor:
        """A number in [0, d) for each row; the words are stored, or each element would evaluate them."""
        blocks = -(-self._rows // 2)
        like = tf.zeros([2, blocks], tf.int32)
        (words,) = stored(
            lambda index: [tf.stack(counter.words(key, first, 1, index, blocks))[:, 0]], [like], one
        )
        return tf.math.floormod(tf.reshape(words, [-1])[: self._rows], self.dimensions)

    def project_drawn(self, v: Tensor, drawn: _Drawn) -> Tensor:
        d = self.dimensions
        rows = tf.pad(tf.roll(v, -drawn.offset, axis=0), [[0, self._missing]])
        rows = tf.reshape(rows, [self._rows, d]) * drawn.signs
        # Direction j's element of a row.
        places = tf.range(d)[tf.newaxis, :] - drawn.rotations[:, tf.newaxis]
        starts = d * tf.range(self._rows)[:, tf.newaxis]
        dealt = tf.gather(tf.reshape(rows, [-1]), starts + tf.where(places < 0, places + d, places))
        return tf.reduce_sum(dealt, axis=0) * drawn.scales

    def expand_drawn(self, c: Tensor, drawn: _Drawn) -> Tensor:
        d = self.dimensions
        directions = tf.range(d)[tf.newaxis, :] + drawn.rotations[:, tf.newaxis]
        rows = tf.gather(c * drawn.scales, tf.where(directions < d, directions, directions - d)) * drawn.signs
        return tf.roll(tf.reshape(rows, [-1])[: self.size], drawn.offset, axis=0)
