"""Dense random directions: independent entries, generated inside the contraction.

Gressmann et al. 2020 (normal, uniform, Bernoulli) and Li et al. 2018 (normal, dense projection).
"""

from typing import Any, Dict, List, Tuple

import numpy as np
import tensorflow as tf

from random_bases.bases.basis import Basis
from random_bases.sampling import derive_key, get_distribution, get_generator
from random_bases.sampling.seeds import SAMPLES

Tensor = tf.Tensor

# Samples in a tile: 4 MB, so that a tile written by the generator is still in a cache when the
# contraction reads it.
TILE = 2**20
# A tile of one row leaves the contraction a vector product, which compilers do badly.
_LEAST_ROWS = 8


class DenseBasis(Basis):
    """n x d independent samples of mean 0 and variance 1, divided by sqrt(n).

    The samples exist a tile at a time (some directions, some elements), never as a whole: memory does
    not grow with d. Where a few whole directions fit a tile, `sketch` generates them once for both of
    its contractions; longer ones are generated twice.

    Args:
      size: n.
      dimensions: d.
      distribution: a name in `random_bases.sampling.DISTRIBUTIONS`.
      generator: "counter" (the same samples everywhere) or "native" (the device's own generator:
        samples depend on device and tile).
      tile: how many samples are generated at a time, at least 64. Results differ by rounding only
        with "counter"; with "native" it chooses other samples.
      **options: of the distribution: `p` for "bernoulli".

    Raises:
      ValueError, TypeError: for an argument that is not allowed, naming it.
    """

    def __init__(
        self,
        size: int,
        dimensions: int,
        distribution: str = "normal",
        generator: str = "counter",
        tile: int = TILE,
        **options,
    ):
        super().__init__(size, dimensions)
        self.distribution = get_distribution(distribution, **options)
        self.generator = generator
        self._generator = get_generator(generator)
        if isinstance(tile, bool) or not isinstance(tile, int) or tile < 64:
            raise ValueError(f"tile={tile!r} must be an int, at least 64.")
        self.tile = tile
        self._options = options
        self._plan(tile)

    def get_config(self) -> Dict[str, Any]:
        config = super().get_config()
        config.update(
            distribution=self.distribution.name,
            generator=self.generator,
            tile=self.tile,
            **self._options,
        )
        return config

    def _plan(self, tile: int) -> None:
        """Chooses the tiles: `_row_steps` x `_column_steps` tiles of `_rows` x `_columns` blocks."""
        self._planes = self._generator.planes(self.distribution)
        self._block = sum(self._planes)
        blocks = -(-self.size // self._block)
        least_rows = min(self.dimensions, _LEAST_ROWS)
        most_columns = max(1, tile // (least_rows * self._block))
        self._column_steps = -(-blocks // most_columns)
        self._columns = -(-blocks // self._column_steps)
        most_rows = max(1, tile // (self._columns * self._block))
        self._row_steps = -(-self.dimensions // min(most_rows, self.dimensions))
        self._rows = -(-self.dimensions // self._row_steps)

    # Vectors are kept as one array [steps, p * columns] for each plane group: the order of a tile.

    def _split(self, v: Tensor) -> List[Tensor]:
        padded = self._column_steps * self._columns * self._block
        v = tf.pad(v, [[0, padded - self.size]])
        v = tf.transpose(tf.reshape(v, [self._column_steps, self._columns, self._block]), [0, 2, 1])
        return [
            tf.reshape(part, [self._column_steps, -1]) for part in tf.split(v, list(self._planes), axis=1)
        ]

    def _join(self, parts: List[Tensor]) -> Tensor:
        planes = [
            tf.reshape(part, [self._column_steps, p, self._columns]) for part, p in zip(parts, self._planes)
        ]
        v = tf.transpose(tf.concat(planes, axis=1), [0, 2, 1])
        return tf.reshape(v, [-1])[: self.size]

    def _tile(self, key: Tensor, first: Tensor, row: Tensor, column: Tensor) -> List[Tensor]:
        """The tile at (row, column), one matrix [rows, p * columns] for each plane group."""
        groups = self._generator.tile(
            self.distribution,
            key,
            first + row * self._rows,
            self._rows,
            column * self._columns,
            self._columns,
        )
        return [tf.reshape(group, [self._rows, -1]) for group in groups]

    def _scale(self, v: Tensor) -> Tensor:
        return v * np.float32(1.0 / np.sqrt(self.size))

    def _rows_of(self, c: Tensor) -> Tensor:
        padded = tf.pad(c, [[0, self._row_steps * self._rows - self.dimensions]])
        return tf.reshape(padded, [self._row_steps, self._rows])

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        key = derive_key(seed, draw, SAMPLES)
        parts = self._split(v)

        def coordinates(row):
            def add(column, c):
                tile = self._tile(key, first, row, column)
                return column + 1, c + _dot(tile, [part[column] for part in parts])

            return _repeat(self._column_steps, add, tf.zeros([self._rows]))

        c = _collect(self._row_steps, coordinates, [self._rows])
        return self._scale(tf.reshape(c, [-1])[: self.dimensions])

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        key = derive_key(seed, draw, SAMPLES)
        rows = self._rows_of(c)

        def elements(column):
            def add(row, *out):
                tile = self._tile(key, first, row, column)
                return (row + 1, *_accumulate(out, tile, rows[row]))

            zeros = [tf.zeros([p * self._columns]) for p in self._planes]
            out = _repeat(self._row_steps, add, *zeros)
            return tf.concat(tf.nest.flatten(out), axis=0)

        out = _collect(self._column_steps, elements, [self._block * self._columns])
        sizes = [p * self._columns for p in self._planes]
        return self._scale(self._join(tf.split(out, sizes, axis=1)))

    def trace_sketch(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        if self._column_steps > 1:
            return super().trace_sketch(v, seed, draw, first)
        key = derive_key(seed, draw, SAMPLES)
        parts = [part[0] for part in self._split(self._scale(v))]
        # Rows beyond d, if the last block has some, must not reach P c.
        used = self._rows_of(tf.ones([self.dimensions]))

        def add(row, collected, *out):
            tile = self._tile(key, first, row, tf.constant(0))
            c = _dot(tile, parts) * used[row]
            return (row + 1, collected.write(row, c), *_accumulate(out, tile, c))

        collected = _array(self._row_steps, [self._rows])
        zeros = [tf.zeros_like(part) for part in parts]
        collected, *out = _repeat(self._row_steps, add, collected, *zeros)
        c = tf.reshape(collected.stack(), [-1])[: self.dimensions]
        return c, self._scale(self._join([part[tf.newaxis] for part in out]))


def _dot(tile: List[Tensor], parts: List[Tensor]) -> Tensor:
    return tf.add_n([tf.linalg.matvec(group, part) for group, part in zip(tile, parts)])


def _accumulate(out, tile: List[Tensor], c: Tensor) -> List[Tensor]:
    return [o + tf.linalg.matvec(group, c, transpose_a=True) for o, group in zip(out, tile)]


def _array(steps: int, shape) -> tf.TensorArray:
    return tf.TensorArray(tf.float32, size=steps, element_shape=shape)


def _repeat(steps: int, body, *state):
    """body(step, *state) -> (step + 1, *state), `steps` times; returns the state."""
    _, *state = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        (tf.constant(0), *state),
        parallel_iterations=1,
        maximum_iterations=steps,
    )
    return state[0] if len(state) == 1 else state


def _collect(steps: int, function, shape) -> Tensor:
    """The stacked results of function(step) for each step: [steps, *shape]."""
    collected = _repeat(
        steps,
        lambda step, array: (step + 1, array.write(step, function(step))),
        _array(steps, shape),
    )
    return collected.stack()
