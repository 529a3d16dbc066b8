"""Factored directions of matrices: P c = A C B^T with orthonormal columns in A and in B.

A direction is the product a_i b_j^T of a column of A and one of B, so P is (a part of) the Kronecker
product of A and B. With x [tokens, inputs] and u [tokens, outputs], the gradient of a product x W is
x^T u, and its coordinates are A^T x^T u B = (x A)^T (u B): they need no matrix of W's size, and of x
only x A. `random_bases.models` has layers' gradients so.
"""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments
from random_bases.bases.basis import compiled
from random_bases.bases.drawn import DrawnBasis
from random_bases.bases.tiles import stored, unknown_one
from random_bases.bases.transforms import PERMUTATION_BLOCKS, cosine_rows, permuted
from random_bases.sampling import derive_key
from random_bases.sampling.counter import threefry2x32
from random_bases.sampling.distributions import signs_of_words
from random_bases.sampling.seeds import CORE_OFFSET, INPUT_FACTOR, OUTPUT_FACTOR

Matrix = Tuple[int, int, int]

_LONGEST = 2**19  # of `cosine_rows`
# As many multiplications is it worth to keep one number less: far more than its way to memory and back
# takes, since what is kept limits how large a model can be.
_KEPT = 128


class Transform(NamedTuple):
    """What tells A (or B): the rows of a cosine transform that are its columns, and signs of its elements.

    Attributes:
      rows: int32 [r].
      signs: float32 [inputs].
    """

    rows: Tensor
    signs: Tensor

    def matrix(self) -> Tensor:
        """A: float32 [inputs, r]."""
        return tf.transpose(cosine_rows(self.rows, self.signs.shape[0])) * self.signs[:, tf.newaxis]


class Factors(NamedTuple):
    """What a redraw draws.

    Attributes:
      inputs: of A; None if it is the identity.
      outputs: of B; None if it is the identity.
      offset: where among the entries of all C the coordinates begin, int32; None if they are all of them.
    """

    inputs: Optional[Transform]
    outputs: Optional[Transform]
    offset: Optional[Tensor]


class KroneckerBasis(DrawnBasis):
    """d orthonormal directions of a matrix W, or of one for each position of a convolution's kernel.

    P c = A C B^T with coordinates C [r, s]; A [inputs, r] and B [outputs, s] are drawn anew at each
    redraw: columns of a cosine transform, with random signs of its elements. With several positions A and
    B are the same for all, and each has a C. If all C have more than d entries, d of them are used, from
    one that each redraw draws: so E[P P^T] = (d / n) I for every d.

    r = inputs or s = outputs makes A or B the identity, which costs nothing.

    Args:
      size: n = positions * inputs * outputs.
      dimensions: d.
      matrix: (positions, inputs, outputs); positions is 1 but for kernels of convolutions.
      ranks: (r, s); None: those that `best_ranks` finds.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    orthonormal = True

    def __init__(
        self,
        size: int,
        dimensions: int,
        matrix: Optional[Sequence[int]] = None,
        ranks: Optional[Sequence[int]] = None,
    ):
        super().__init__(size, dimensions)
        if not isinstance(matrix, (tuple, list)) or len(matrix) != 3:
            raise ValueError(f"matrix={matrix!r} must be three ints: (positions, inputs, outputs).")
        positions, inputs, outputs = (
            arguments.integer(f"matrix[{i}]", each, 1) for i, each in enumerate(matrix)
        )
        self.matrix: Matrix = (positions, inputs, outputs)
        if positions * inputs * outputs != self.size:
            raise ValueError(f"matrix={self.matrix} must have size={size} elements.")
        self._given = None if ranks is None else _checked_ranks(ranks, self.matrix, self.dimensions)
        self.ranks = best_ranks(self.matrix, self.dimensions) if self._given is None else self._given
        # Whether the C have entries that are no coordinates.
        self.partial = positions * math.prod(self.ranks) > self.dimensions
        for length, rank in zip(self.matrix[1:], self.ranks):
            if rank < length > _LONGEST:
                raise ValueError(
                    f"matrix={self.matrix} has {length} rows or columns; allowed: <= {_LONGEST}."
                )

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Factors:
        return _draw([self], one, seed, draw, first[tf.newaxis])[0]

    def project_drawn(self, v: Tensor, drawn: Factors) -> Tensor:
        v = tf.reshape(v, self.matrix)
        if drawn.inputs is not None:
            v = tf.einsum("kmn,mr->krn", v, drawn.inputs.matrix())
        if drawn.outputs is not None:
            v = tf.einsum("krn,ns->krs", v, drawn.outputs.matrix())
        return self.coordinates(v, drawn)

    def expand_drawn(self, c: Tensor, drawn: Factors) -> Tensor:
        v = self.cores(c, drawn)
        if drawn.outputs is not None:
            v = tf.einsum("krs,ns->krn", v, drawn.outputs.matrix())
        if drawn.inputs is not None:
            v = tf.einsum("krn,mr->kmn", v, drawn.inputs.matrix())
        return tf.reshape(v, [-1])

    def cores(self, c: Tensor, drawn: Factors) -> Tensor:
        """The matrices C of coordinates [d]: [positions, r, s]."""
        shape = [self.matrix[0], *self.ranks]
        if drawn.offset is not None:
            c = tf.roll(tf.pad(c, [[0, math.prod(shape) - self.dimensions]]), drawn.offset, axis=0)
        return tf.reshape(c, shape)

    def coordinates(self, cores: Tensor, drawn: Factors) -> Tensor:
        """The coordinates [d] of matrices C [positions, r, s]."""
        c = tf.reshape(cores, [-1])
        return c if drawn.offset is None else tf.roll(c, -drawn.offset, axis=0)[: self.dimensions]

    # For who has drawn the factors of many bases with `draw_together`: compiled, as what `Basis` has.

    def expand_in(self, c: Tensor, factors: Factors) -> Tensor:
        """P c, float32 [n]."""
        return self._compiled("expand_drawn", self.expand_drawn, c, factors)

    def project_in(self, v: Tensor, factors: Factors) -> Tensor:
        """P^T v, float32 [d]."""
        return self._compiled("project_drawn", self.project_drawn, v, factors)

    def matrix_of_inputs(self, factors: Factors) -> Optional[Tensor]:
        """A, float32 [inputs, r]; None if it is the identity."""
        return factors.inputs and self._compiled("inputs", Transform.matrix, factors.inputs)

    def matrix_of_outputs(self, factors: Factors) -> Optional[Tensor]:
        """B, float32 [outputs, s]; None if it is the identity."""
        return factors.outputs and self._compiled("outputs", Transform.matrix, factors.outputs)

    def _compiled(self, name: str, function: Callable, *values) -> Tensor:
        return self._programs.setdefault(name, compiled(function))(*values)

    def get_config(self) -> Dict[str, Any]:
        given = None if self._given is None else list(self._given)
        return {**super().get_config(), "matrix": list(self.matrix), "ranks": given}


def _checked_ranks(ranks: Any, matrix: Matrix, dimensions: int) -> Tuple[int, int]:
    if not isinstance(ranks, (tuple, list)) or len(ranks) != 2:
        raise ValueError(f"ranks={ranks!r} must be two ints, (r, s), or None.")
    r, s = (arguments.integer(f"ranks[{i}]", each, 1, matrix[1 + i]) for i, each in enumerate(ranks))
    if matrix[0] * r * s < dimensions:
        raise ValueError(f"ranks={(r, s)} give {matrix[0] * r * s} directions; dimensions={dimensions}.")
    return r, s


def matrix_of(shape: Sequence[int]) -> Optional[Matrix]:
    """(positions, inputs, outputs) of a kernel of this shape; None for vectors and scalars.

    The last two axes are inputs and outputs, as in Dense and convolutions; those before are positions.
    """
    if len(shape) < 2:
        return None
    return math.prod(shape[:-2]), int(shape[-2]), int(shape[-1])


def best_ranks(matrix: Matrix, dimensions: int) -> Tuple[int, int]:
    """(r, s), positions * r * s >= d, of the least cost for each row x of inputs and u of upstream gradients.

    That is m r multiplications for x A, unless A is the identity, n s for u B, unless B is, and
    positions * r * s for their product; and `_KEPT` for each number that has to be kept for the backward
    pass: r, or all m of x if A is the identity. From d = n positions on one-sided bases win: on the inputs
    (B = I), but for matrices with many times more rows than columns, where those of the outputs do.
    """
    positions, m, n = matrix
    needed = -(-dimensions // positions)  # for each position

    def cost(ranks: Tuple[int, int]) -> Tuple[int, int]:
        r, s = ranks
        products = (m * r if r < m else 0) + (n * s if s < n else 0) + positions * r * s
        return products + _KEPT * r, r * s

    least = -(-needed // n)
    middle = math.sqrt(needed * (m + _KEPT) / n)  # s for which both sides cost the same
    columns = [max(math.floor(middle), 1), math.ceil(middle)]
    rows = {least, m, *(min(max(-(-needed // s), least), m) for s in columns)}
    return min(((r, s) for r in rows for s in (-(-needed // r), n)), key=cost)


def draw_together(
    bases: Sequence[KroneckerBasis], seed: Tensor, draw: Tensor, firsts: Tensor
) -> List[Factors]:
    """The factors of several bases in one go, to be traced into a compiled program: each as by itself.

    Args:
      bases: the bases.
      seed: int32 [2].
      draw: int32 scalar, the number of the redraw.
      firsts: int32 [bases], the number of each one's first direction.
    """
    return _draw(bases, unknown_one(seed), seed, draw, firsts)


class _Side(NamedTuple):
    """A factor to be drawn: of the basis of this number; which one; its size."""

    basis: int
    stream: int
    length: int
    rank: int


def _draw(bases, one: Tensor, seed: Tensor, draw: Tensor, firsts: Tensor) -> List[Factors]:
    sides = [
        _Side(i, stream, length, rank)
        for i, basis in enumerate(bases)
        for stream, length, rank in zip((INPUT_FACTOR, OUTPUT_FACTOR), basis.matrix[1:], basis.ranks)
        if rank < length
    ]
    offsets = [i for i, basis in enumerate(bases) if basis.partial]
    transforms = dict(
        zip(((side.basis, side.stream) for side in sides), _transforms(sides, one, seed, draw, firsts))
    )
    begins = {}
    if offsets:
        key = derive_key(seed, draw, CORE_OFFSET)
        words, _ = threefry2x32(key, (tf.gather(firsts, offsets), tf.zeros([len(offsets)], tf.int32)))
        entries = [math.prod([bases[i].matrix[0], *bases[i].ranks]) for i in offsets]
        begins = dict(zip(offsets, tf.unstack(tf.math.floormod(words, entries))))
    return [
        Factors(transforms.get((i, INPUT_FACTOR)), transforms.get((i, OUTPUT_FACTOR)), begins.get(i))
        for i in range(len(bases))
    ]


def _transforms(
    sides: List[_Side], one: Tensor, seed: Tensor, draw: Tensor, firsts: Tensor
) -> List[Transform]:
    """One generator for all: as many programs as there are kernels would take minutes to compile."""
    if not sides:
        return []
    keys = {stream: derive_key(seed, draw, stream) for stream in (INPUT_FACTOR, OUTPUT_FACTOR)}
    key = tf.stack([keys[side.stream] for side in sides])[:, :, tf.newaxis]
    direction = tf.gather(firsts, [side.basis for side in sides])[:, tf.newaxis]
    longest = max(side.length for side in sides)
    blocks = PERMUTATION_BLOCKS - -longest // 64
    like = tf.zeros([len(sides), blocks], tf.int32)
    # Stored, or each element of a factor would evaluate the generator.
    words = stored(
        lambda index: threefry2x32((key[:, 0], key[:, 1]), (direction, tf.range(blocks)[tf.newaxis] + index)),
        [like, like],
        one,
    )
    sizes = tf.constant([[side.length] for side in sides])
    offsets, multipliers = (each[:, :PERMUTATION_BLOCKS] for each in words)
    rows = permuted(offsets, multipliers, sizes, max(side.rank for side in sides))
    signs = tf.concat([signs_of_words(each[:, PERMUTATION_BLOCKS:]) for each in words], axis=1)
    return [
        Transform(rows[i, : side.rank], tf.reshape(signs[i, :, : -(-side.length // 64)], [-1])[: side.length])
        for i, side in enumerate(sides)
    ]
