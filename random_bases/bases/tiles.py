"""How a tile of samples is held between its two uses, and what is computed with it.

A tile is `rows` directions by `blocks` blocks of elements. XLA gives each output of a program a kernel
of its own, and would evaluate the generator again in every kernel that needs a sample. So a tile is
stored, small enough for a cache, in a form whose every word is evaluated once: two samples of one
pair of words as one complex number, or signs as the words themselves, 32 to a word.
"""

import contextlib
import threading
from typing import Any, Callable, Iterator, Sequence, Tuple, Union

import tensorflow as tf
from tensorflow import Tensor

from random_bases import device
from random_bases.device import in_whole_program
from random_bases.sampling import counter, get_generator
from random_bases.sampling.distributions import Distribution

Tensors = Tuple[Tensor, ...]

# How many positions are summed by one loop: few enough for a compiler to unroll it, which lets it vectorise
# the loop around it.
_UNROLLED = 8
# Partial sums of a row, added before the sum over the row: independent of each other, hence vectorised.
_PARTS = 8


_AT_HAND = threading.local()


@contextlib.contextmanager
def with_unknown_one(one: Tensor) -> Iterator[None]:
    """What `unknown_one` returns inside, whatever it is asked for.

    A derivative takes that of the point where it is taken: what is drawn for it then does not depend on what
    it is applied to, and is drawn once where it is applied to many (`tape.jacobian`).
    """
    before = getattr(_AT_HAND, "one", None)
    _AT_HAND.one = one
    try:
        yield
    finally:
        _AT_HAND.one = before


def unknown_one(data: Tensor) -> Tensor:
    """1, int32, but computed from `data`, a float32 tensor that is known at run time only."""
    one = getattr(_AT_HAND, "one", None)
    if one is not None:
        return one
    bits = tf.bitcast(tf.reshape(data, [-1])[0], tf.int32)
    return tf.cast(tf.not_equal(tf.bitwise.bitwise_or(bits, 1), 0), tf.int32)


def repeat(steps: Union[int, Tensor], body: Callable, *state: Any) -> Tuple[Any, ...]:
    """body(step, *state) -> (step + 1, *state), `steps` times; returns the state."""
    _, *state = tf.while_loop(
        lambda step, *_: step < steps,
        body,
        (tf.constant(0), *state),
        parallel_iterations=1,
    )
    return tuple(state)


def stored(
    function: Callable[[Tensor], Sequence[Tensor]], like: Sequence[Tensor], one: Tensor
) -> Sequence[Tensor]:
    """function(0), stored in memory, so that no use of it evaluates it again.

    What a loop returns is in memory. This one has one round: a compiler that knew would remove it,
    hence `one`; and what does not depend on the round would be moved out of it, hence the argument.

    Args:
      function: of the round, an int32 scalar that is 0; all that is costly must depend on it.
      like: tensors of the shapes and dtypes that it returns.
      one: `unknown_one`.
    """
    if in_whole_program():
        return tuple(function(tf.constant(0)))  # what an operation returns is in memory
    _, *tensors = tf.while_loop(
        lambda index, *_: index < one,
        lambda index, *_: (index + 1, *function(index)),
        (tf.constant(0), *like),
        parallel_iterations=1,
    )
    return tuple(tensors)


class Grouped:
    """Samples as the generators return them: in groups, position p of all blocks together.

    Vectors of elements are held as one float32 tensor [..., p, blocks] for each group of p positions.
    """

    def __init__(self, distribution: Distribution, generator: str):
        self._distribution = distribution
        self._generator = get_generator(generator)
        self._group_sizes = self._generator.group_sizes(distribution)
        self._words = generator == "counter"
        self.block = sum(self._group_sizes)
        # Where a compiler merges operations, a tile is its words; elsewhere the samples are in memory, too.
        held_as_words = self._words and not device.at_hand().compiles_whole
        self.block_bytes = 8 if held_as_words else 4 * self.block

    def draw(self, key: Tensor, direction: Tensor, rows: int, block: Tensor, blocks: int) -> Tensors:
        """The tile: words, or samples where the generator has no words."""
        generate = counter.words if self._words else self._samples
        return tuple(generate(key, direction, rows, block, blocks))

    def _samples(self, *where) -> Tensors:
        return self._generator.tile(self._distribution, *where)

    def zeros(self, rows: int, blocks: int) -> Tensors:
        """What a loop over tiles begins with, of a tile's shape and types."""
        if self._words:
            return (tf.zeros([rows, blocks], tf.int32),) * 2
        return tuple(tf.zeros([rows, p, blocks]) for p in self._group_sizes)

    def sums(self, blocks: int) -> Tensors:
        """Zeros to add to."""
        return tuple(tf.zeros([p, blocks]) for p in self._group_sizes)

    def _groups(self, tile: Tensors) -> Tensors:
        return self._distribution.from_words(*tile) if self._words else tile

    def rows(self, tile: Tensors) -> Tensors:
        """The tile's samples by position in their block: [rows, blocks] for each."""
        return tuple(position for group in self._groups(tile) for position in tf.unstack(group, axis=1))

    def split(self, v: Tensor) -> Tensors:
        """[..., blocks * block] to groups."""
        v = tf.reshape(v, [*v.shape[:-1], -1, self.block])
        axes = [*range(v.shape.rank - 2), v.shape.rank - 1, v.shape.rank - 2]
        return tuple(tf.split(tf.transpose(v, axes), list(self._group_sizes), axis=-2))

    def join(self, groups: Tensors) -> Tensor:
        """The inverse of `split`."""
        v = tf.concat(groups, axis=-2)
        axes = [*range(v.shape.rank - 2), v.shape.rank - 1, v.shape.rank - 2]
        v = tf.transpose(v, axes)
        return tf.reshape(v, [*v.shape[:-2], -1])

    def dot(self, tile: Tensors, v: Tensors) -> Tensor:
        """The tile's rows times `v`: float32 [rows]."""
        sums = []
        for group, elements in zip(self._groups(tile), v):
            for start in range(0, group.shape[1], _UNROLLED):
                end = start + _UNROLLED
                sums.append(tf.reduce_sum(group[:, start:end] * elements[start:end], axis=1))
        return _sum_rows(tf.add_n(sums))

    def add(self, sums: Tensors, tile: Tensors, c: Tensor) -> Tensors:
        """Sums + c times the tile's rows."""
        weights = c[:, tf.newaxis, tf.newaxis]
        return tuple(
            total + tf.reduce_sum(group * weights, axis=0) for total, group in zip(sums, self._groups(tile))
        )


class ComplexPairs:
    """Two samples to a block, of the counter generator, as the parts of a complex number.

    Vectors of elements are held as one complex64 tensor [..., blocks].
    """

    block = 2
    block_bytes = 8

    def __init__(self, distribution: Distribution):
        self._distribution = distribution

    def draw(self, key: Tensor, direction: Tensor, rows: int, block: Tensor, blocks: int) -> Tensors:
        real, imag = counter.tile(self._distribution, key, direction, rows, block, blocks)
        return (tf.complex(real[:, 0], imag[:, 0]),)

    def zeros(self, rows: int, blocks: int) -> Tensors:
        return (tf.zeros([rows, blocks], tf.complex64),)

    def sums(self, blocks: int) -> Tensors:
        return (tf.zeros([blocks], tf.complex64),)

    def rows(self, tile: Tensors) -> Tensors:
        return tf.math.real(tile[0]), tf.math.imag(tile[0])

    def split(self, v: Tensor) -> Tensors:
        v = tf.reshape(v, [*v.shape[:-1], -1, 2])
        return (tf.complex(v[..., 0], v[..., 1]),)

    def join(self, groups: Tensors) -> Tensor:
        (v,) = groups
        v = tf.stack([tf.math.real(v), tf.math.imag(v)], axis=-1)
        return tf.reshape(v, [*v.shape[:-2], -1])

    def dot(self, tile: Tensors, v: Tensors) -> Tensor:
        (tile,), (v,) = tile, v
        return _sum_rows(tf.math.real(tile) * tf.math.real(v) + tf.math.imag(tile) * tf.math.imag(v))

    def add(self, sums: Tensors, tile: Tensors, c: Tensor) -> Tensors:
        (tile,), (total,) = tile, sums
        weights = c[:, tf.newaxis]
        real = tf.reduce_sum(tf.math.real(tile) * weights, axis=0)
        imag = tf.reduce_sum(tf.math.imag(tile) * weights, axis=0)
        return (total + tf.complex(real, imag),)


def layout(distribution: Distribution, generator: str):
    """The way to hold samples of `distribution` from `generator`; some devices have no complex numbers."""
    if generator == "counter" and distribution.group_sizes == (1, 1) and device.at_hand().has_complex:
        return ComplexPairs(distribution)
    return Grouped(distribution, generator)


def _sum_rows(terms: Tensor) -> Tensor:
    if terms.shape[1] % _PARTS == 0:
        terms = tf.add_n(tf.split(terms, _PARTS, axis=1))
    return tf.reduce_sum(terms, axis=1)
