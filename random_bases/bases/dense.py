"""Dense random directions: independent entries, generated inside the contraction.

Gressmann et al. 2020 (normal, uniform, Bernoulli) and Li et al. 2018 (normal, dense projection).
"""

import functools
import logging
from typing import Any, Callable, Dict, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import device
from random_bases.arguments import integer, plain
from random_bases.bases.basis import Basis
from random_bases.bases.tiles import layout, repeat, stored, unknown_one
from random_bases.sampling import counter, derive_key, get_distribution, get_generator
from random_bases.sampling.seeds import SAMPLES

Tensors = Tuple[Tensor, ...]

TILE = 2**21


class DenseBasis(Basis):
    """n x d independent samples of mean 0 and variance 1, divided by sqrt(n).

    The samples exist a tile at a time (some directions, some elements), never as a whole: memory does
    not grow with d. Where whole directions fit a tile, `sketch` generates them once for both of its
    contractions; longer ones are generated twice.

    Args:
      size: n.
      dimensions: d.
      distribution: a name in `random_bases.sampling.DISTRIBUTIONS`.
      generator: "counter" (the same samples everywhere) or "native" (the device's own generator:
        samples depend on device and tile).
      tile: how many samples of a direction are generated at a time, at least 64. Results differ by
        rounding only with "counter"; with "native" it chooses other samples.
      **options: of the distribution: `p` for "bernoulli".

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
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
        self._options = {name: plain(value) for name, value in options.items()}
        self.distribution = get_distribution(distribution, **self._options)
        get_generator(generator)
        self.generator = generator
        self.tile = integer("tile", tile, 64)

    def get_config(self) -> Dict[str, Any]:
        config = super().get_config()
        config.update(
            distribution=self.distribution.name,
            generator=self.generator,
            tile=self.tile,
            **self._options,
        )
        return config

    def _tiling(self) -> "_Tiling":
        """How the device at hand takes the samples: the same ones, in other tiles."""
        return _Tiling(self, layout(self.distribution, _generator_at_hand(self.generator)))

    @property
    def entrywise(self) -> bool:  # type: ignore[override]
        return self.generator == "counter"

    def trace_key(self, seed: Tensor, draw: Tensor) -> Tensor:
        return derive_key(seed, draw, SAMPLES)

    def trace_entries(self, key: Tensor, direction: Tensor, elements: Tensor) -> Tensor:
        return counter.entries(self.distribution, key, direction, elements)

    def trace_project(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        return self._tiling().project(v, self.trace_key(seed, draw), first)

    def trace_expand(self, c: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tensor:
        return self._tiling().expand(c, self.trace_key(seed, draw), first)

    def trace_sketch(self, v: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        return self._tiling().sketch(v, self.trace_key(seed, draw), first)


class _Tiling:
    """The tiles of a `DenseBasis`: `_row_steps` x `_column_steps` of `_rows` x `_columns` blocks.

    Args:
      basis: the basis.
      layout: how a tile is held.
    """

    def __init__(self, basis: DenseBasis, layout):
        self.size = basis.size
        self.dimensions = basis.dimensions
        self._layout = layout
        block = layout.block
        blocks = -(-self.size // block)
        self._column_steps = -(-blocks * block // basis.tile)
        self._columns = -(-blocks // self._column_steps)
        if self._columns > 64:
            self._columns += -self._columns % 8  # whole vectors
        row_bytes = self._columns * layout.block_bytes
        target = device.at_hand()
        self._step_bytes = target.step_bytes
        most = min(self.dimensions, max(1, target.tile_bytes() // row_bytes))
        if target.tile_rows is not None:
            most = min(most, target.tile_rows)
        self._rows = min(range(1, most + 1), key=lambda rows: self._cost(rows, row_bytes))
        self._row_steps = -(-self.dimensions // self._rows)

    def _cost(self, rows: int, row_bytes: int) -> int:
        """The bytes of all tiles of `rows` rows (compilers share them out by rows), and of their steps."""
        even = rows + rows % 2 if rows > 1 else 1
        return -(-self.dimensions // rows) * (even * row_bytes + self._step_bytes)

    # Vectors of elements, as the layout holds them, with the column steps as leading axis.

    def _split(self, v: Tensor) -> Tensors:
        columns = self._columns * self._layout.block
        v = tf.pad(v, [[0, self._column_steps * columns - self.size]])
        return self._layout.split(tf.reshape(v, [self._column_steps, columns]))

    def _join(self, sums: Sequence[Tensor]) -> Tensor:
        return tf.reshape(self._layout.join(sums), [-1])[: self.size]

    # Coordinates, a row for each row step, and back.

    def _in_steps(self, c: Tensor) -> Tensor:
        padded = tf.pad(c, [[0, self._row_steps * self._rows - self.dimensions]])
        return tf.reshape(padded, [self._row_steps, self._rows])

    def _in_line(self, c: Tensor) -> Tensor:
        return tf.reshape(c, [-1])[: self.dimensions]

    def _scale(self, v: Tensor) -> Tensor:
        return v * np.float32(1.0 / np.sqrt(self.size))

    def _keys(self, key: Tensor) -> Callable:
        """The key of a row step: one for all, or one for each row if directions have their own."""
        if key.shape.rank == 1:
            return lambda step: key
        keys = tf.pad(key, [[0, 0], [0, self._row_steps * self._rows - self.dimensions]])
        keys = tf.reshape(keys, [2, self._row_steps, self._rows, 1])
        return lambda step: tf.gather(keys, step, axis=1)

    def _drawer(self, data: Tensor, key: Tensor, first: Tensor) -> Callable:
        """The function (step, column, any tensor of a tile's shape) -> the tile there, stored."""
        key_of = self._keys(key)
        one = unknown_one(data)

        def tile_at(step, column, like):
            key = key_of(step)
            direction, block = first + step * self._rows, column * self._columns
            return stored(
                lambda index: self._layout.draw(key, direction, self._rows, block + index, self._columns),
                like,
                one,
            )

        return tile_at

    def _sweep(self, draw: Callable, column: Tensor, use: Callable, *state: Tensor) -> Tensors:
        """use(step, tile, *state) -> state for the tiles of one column step, row by row."""

        def body(step, tile, *state):
            tile = draw(step, column, tile)
            return (step + 1, tile, *use(step, tile, *state))

        zeros = self._layout.zeros(self._rows, self._columns)
        return repeat(self._row_steps, body, zeros, *state)[1:]

    def project(self, v: Tensor, key: Tensor, first: Tensor) -> Tensor:
        draw = self._drawer(v, key, first)
        parts = self._split(self._scale(v))

        def add_column(column, c):
            part = [tf.gather(part, column) for part in parts]

            def use(step, tile, c):
                return (tf.tensor_scatter_nd_add(c, [[step]], [self._layout.dot(tile, part)]),)

            return (column + 1, *self._sweep(draw, column, use, c))

        zeros = self._in_steps(tf.zeros([self.dimensions]))
        if self._column_steps == 1:
            _, c = add_column(tf.constant(0), zeros)
        else:
            (c,) = repeat(self._column_steps, add_column, zeros)
        return self._in_line(c)

    def expand(self, c: Tensor, key: Tensor, first: Tensor) -> Tensor:
        draw = self._drawer(c, key, first)
        c = self._in_steps(c)
        zeros = self._layout.sums(self._columns)

        def sums_of(column):
            def use(step, tile, *sums):
                return self._layout.add(sums, tile, tf.gather(c, step))

            return self._sweep(draw, column, use, *zeros)

        if self._column_steps == 1:
            return self._scale(self._join([part[tf.newaxis] for part in sums_of(tf.constant(0))]))

        def write(column, *arrays):
            return (column + 1, *(array.write(column, part) for array, part in zip(arrays, sums_of(column))))

        arrays = [
            tf.TensorArray(part.dtype, size=self._column_steps, element_shape=part.shape) for part in zeros
        ]
        written = repeat(self._column_steps, write, *arrays)
        return self._scale(self._join([array.stack() for array in written]))

    def sketch(self, v: Tensor, key: Tensor, first: Tensor) -> Tuple[Tensor, Tensor]:
        if self._column_steps > 1:
            c = self.project(v, key, first)
            return c, self.expand(c, key, first)
        draw = self._drawer(v, key, first)
        parts = [part[0] for part in self._split(self._scale(v))]
        rows = np.arange(self._rows, dtype=np.int32)

        def use(step, tile, c, *sums):
            new = self._layout.dot(tile, parts)
            # Directions beyond d, if the last tile has some, must not reach P c.
            new = tf.where(step * self._rows + rows < self.dimensions, new, 0.0)
            return (tf.tensor_scatter_nd_add(c, [[step]], [new]), *self._layout.add(sums, tile, new))

        state = self._in_steps(tf.zeros([self.dimensions])), *self._layout.sums(self._columns)
        c, *sums = self._sweep(draw, tf.constant(0), use, *state)
        return self._in_line(c), self._scale(self._join([part[tf.newaxis] for part in sums]))


def _generator_at_hand(generator: str) -> str:
    """`generator`, but "counter" for "native" with a log line where that would give one direction only."""
    if generator == "native" and not device.at_hand().seeds_native():
        _tell(device.at_hand().name)
        return "counter"
    return generator


@functools.lru_cache(maxsize=None)
def _tell(name: str) -> None:
    logging.getLogger("random_bases").warning(
        'generator="native" is replaced by "counter": the %s Model ignores seeds, and every direction would '
        "be the same.",
        name,
    )
