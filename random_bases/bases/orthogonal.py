"""Dense normal directions, orthonormalised within blocks.

The orthonormal frames of a block are uniformly distributed (Haar): they are those that Gram and
Schmidt make of independent normal directions.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import device
from random_bases.arguments import integer
from random_bases.bases.basis import Basis
from random_bases.bases.tiles import ComplexPairs, repeat, stored, unknown_one
from random_bases.sampling import derive_key, get_distribution
from random_bases.sampling.seeds import SAMPLES

_BLOCK = 64
_MOST_BLOCK = 1024
# A block of more than n / 4 directions has an ill-conditioned Gram matrix, but few elements.
_ELEMENTS_PER_DIRECTION = 4
# A tile's samples, in pairs of 8 bytes: it stays in the cores' own caches.
_TILE_PAIRS = 2**17


class OrthogonalBasis(Basis):
    """d normal directions, orthonormal within blocks of `block` successive ones; blocks are independent.

    With A the block's normal directions as rows and A A^T = L L^T (Cholesky), the orthonormal directions
    are L^-1 A. Only L is kept: A is generated again, a tile at a time, where it is needed. So time is
    O(n d block), memory O(n + block^2), whatever d. A block of more than n / 4 directions is kept whole
    and orthonormalised by Gram and Schmidt's method, each vector twice (Giraud et al. 2005: twice is
    enough). The counter generator only.

    Args:
      size: n.
      dimensions: d.
      block: how many directions are orthonormal to each other, 1 <= block <= 1024. Which directions a
        seed gives depends on it.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
      NotImplementedError: on the IPU, when it is used.
    """

    def __init__(self, size: int, dimensions: int, block: int = _BLOCK):
        super().__init__(size, dimensions)
        self.block = integer("block", block, 1, _MOST_BLOCK)
        self.orthonormal = self.dimensions <= self.block
        self._rows = min(self.block, self.dimensions)
        self._row_steps = -(-self.dimensions // self._rows)
        self._whole = _ELEMENTS_PER_DIRECTION * self._rows > self.size
        self._layout = ComplexPairs(get_distribution("normal"))
        pairs = -(-self.size // self._layout.block)
        self._columns = pairs if self._whole else min(pairs, max(1, _TILE_PAIRS // self._rows))
        self._column_steps = -(-pairs // self._columns)

    def get_config(self) -> Dict[str, Any]:
        return {**super().get_config(), "block": self.block}

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        frame_of = self._frames(v, seed, draw, first)
        parts = self._split(v)

        def write(step, c):
            return step + 1, c.write(step, self._dot(frame_of(step), parts))

        (c,) = repeat(self._row_steps, write, self._coordinates())
        return tf.reshape(c.stack(), [-1])[: self.dimensions]

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        frame_of = self._frames(c, seed, draw, first)
        c = tf.pad(c, [[0, self._row_steps * self._rows - self.dimensions]])
        c = tf.reshape(c, [self._row_steps, self._rows])

        def add(step, total):
            return step + 1, self._add(frame_of(step), total, tf.gather(c, step))

        (total,) = repeat(self._row_steps, add, self._split(tf.zeros([self.size])))
        return self._join(total)

    def trace_sketch(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        frame_of = self._frames(v, seed, draw, first)
        parts = self._split(v)
        rows = np.arange(self._rows, dtype=np.int32)

        def add(step, c, total):
            frame = frame_of(step)
            # Directions beyond d, if the last block has some, must not reach P c.
            new = tf.where(step * self._rows + rows < self.dimensions, self._dot(frame, parts), 0.0)
            return step + 1, c.write(step, new), self._add(frame, total, new)

        state = self._coordinates(), self._split(tf.zeros([self.size]))
        c, total = repeat(self._row_steps, add, *state)
        return tf.reshape(c.stack(), [-1])[: self.dimensions], self._join(total)

    # Vectors of elements are complex64 [column steps, columns].

    def _split(self, v: Tensor) -> Tensor:
        columns = self._columns * self._layout.block
        v = tf.pad(v, [[0, self._column_steps * columns - self.size]])
        (parts,) = self._layout.split(tf.reshape(v, [self._column_steps, columns]))
        return parts

    def _join(self, parts: Tensor) -> Tensor:
        return tf.reshape(self._layout.join((parts,)), [-1])[: self.size]

    def _coordinates(self) -> tf.TensorArray:
        return tf.TensorArray(tf.float32, size=self._row_steps, element_shape=[self._rows])

    def _frames(self, data: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Callable:
        """The function of a block's number that gives its `_Frame`."""
        if not device.at_hand().has_complex:
            raise NotImplementedError(
                f'basis="orthogonal" needs complex numbers, which the {device.at_hand().name} does not have; '
                'allowed there: "hadamard" (orthonormal, too), "fastfood" and the dense ones.'
            )
        key = derive_key(seed, draw, SAMPLES)
        one = unknown_one(data)
        inside = self._split(tf.ones([self.size]))  # 0 for what pads the last tile

        def frame_of(step):
            def normals(column):
                def sample(index):
                    direction, block = first + step * self._rows, column * self._columns + index
                    (tile,) = self._layout.draw(key, direction, self._rows, block, self._columns)
                    mask = tf.gather(inside, column)
                    real = tf.math.real(tile) * tf.math.real(mask)
                    return [tf.complex(real, tf.math.imag(tile) * tf.math.imag(mask))]

                (tile,) = stored(sample, self._layout.zeros(self._rows, self._columns), one)
                return tile

            if self._whole:
                orthonormal = _gram_schmidt(normals(tf.constant(0)))
                return _Frame(lambda column: orthonormal, None)
            return _Frame(normals, tf.linalg.cholesky(self._gram(normals)))

        return frame_of

    def _gram(self, normals: Callable) -> Tensor:
        def add(column, gram):
            tile = normals(column)
            real, imag = tf.math.real(tile), tf.math.imag(tile)
            gram += tf.matmul(real, real, transpose_b=True) + tf.matmul(imag, imag, transpose_b=True)
            return column + 1, gram

        (gram,) = repeat(self._column_steps, add, tf.zeros([self._rows, self._rows]))
        return gram

    def _dot(self, frame: "_Frame", parts: Tensor) -> Tensor:
        def add(column, sums):
            return column + 1, sums + self._layout.dot((frame.tile(column),), (tf.gather(parts, column),))

        (sums,) = repeat(self._column_steps, add, tf.zeros([self._rows]))
        return frame.solve(sums, adjoint=False)

    def _add(self, frame: "_Frame", total: Tensor, c: Tensor) -> Tensor:
        weights = frame.solve(c, adjoint=True)

        def add(column, total):
            (sums,) = self._layout.add((tf.gather(total, column),), (frame.tile(column),), weights)
            return column + 1, tf.tensor_scatter_nd_update(total, [[column]], [sums])

        (total,) = repeat(self._column_steps, add, total)
        return total


class _Frame(NamedTuple):
    """Orthonormal directions: L^-1 times the rows of tiles; without L, the rows themselves."""

    tile: Callable[[Tensor], Tensor]  # column step -> complex64 [rows, columns]
    cholesky: Optional[Tensor]  # L, float32 [rows, rows]

    def solve(self, vector: Tensor, adjoint: bool) -> Tensor:
        """L^-1 or L^-T times a vector [rows]."""
        if self.cholesky is None:
            return vector
        return tf.linalg.triangular_solve(self.cholesky, vector[:, tf.newaxis], adjoint=adjoint)[:, 0]


def _gram_schmidt(rows: Tensor) -> Tensor:
    """Gram and Schmidt's method, each vector twice, for complex64 [k, columns] as real [k, 2 columns]."""
    vectors = tf.concat([tf.math.real(rows), tf.math.imag(rows)], axis=1)

    def add(index, done):
        vector = tf.gather(vectors, index)
        for _ in range(2):
            vector -= tf.linalg.matvec(done, tf.linalg.matvec(done, vector), transpose_a=True)
        vector /= tf.norm(vector)
        return index + 1, tf.tensor_scatter_nd_update(done, [[index]], [vector])

    (done,) = repeat(vectors.shape[0], add, tf.zeros_like(vectors))
    return tf.complex(*tf.split(done, 2, axis=1))
