"""Factored directions of matrices: P c = A C B^T with orthonormal columns in A and in B.

A direction is the product a_i b_j^T of a column of A and one of B, so P is (a part of) the Kronecker
product of A and B. With x [tokens, inputs] and u [tokens, outputs], the gradient of a product x W is
x^T u, and its coordinates are A^T x^T u B = (x A)^T (u B): they need no matrix of W's size, and of x
only x A. `random_bases.models` computes layers' gradients in this way.
"""

import math
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments
from random_bases.bases.basis import compiled
from random_bases.bases.drawn import DrawnBasis
from random_bases.bases.tiles import stored
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


class Factors(NamedTuple):
    """What a redraw draws.

    Attributes:
      inputs: A, float32 [inputs, r]; None if it is the identity.
      outputs: B, float32 [outputs, s]; None if it is the identity.
      offset: where among the entries of all C the coordinates begin, int32; None: with the first.
    """

    inputs: Optional[Tensor]
    outputs: Optional[Tensor]
    offset: Optional[Tensor]


class KroneckerBasis(DrawnBasis):
    """d orthonormal directions of a matrix W, or of one for each position of a convolution's kernel.

    P c = A C B^T with coordinates C [r, s]; A [inputs, r] and B [outputs, s] are drawn anew at each
    redraw: columns of a cosine transform, with random signs of its elements. With several positions A and
    B are the same for all, and each has a C. If all C have more than d entries, d of them are used: the
    first ones where A and B are both drawn, else successive ones from a place that each redraw draws: so
    E[P P^T] = (d / n) I for every d.

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
        # Whether the entries of the C that are coordinates begin with one that is drawn.
        more = positions * math.prod(self.ranks) > self.dimensions
        identity = (positions, *(n for n, rank in zip(self.matrix[1:], self.ranks) if n == rank))
        self.shifted = more and max(identity) > 1
        for length, rank in zip(self.matrix[1:], self.ranks):
            if rank < length > _LONGEST:
                raise ValueError(
                    f"matrix={self.matrix} has {length} rows or columns; allowed: <= {_LONGEST}."
                )

    def draw(self, one: Tensor, seed: Tensor, draw: Tensor, first: Tensor) -> Factors:
        return draw_together([self], one, seed, draw, first[tf.newaxis])[0]

    def project_drawn(self, v: Tensor, drawn: Factors) -> Tensor:
        v = tf.reshape(v, self.matrix)
        if drawn.inputs is not None:
            v = tf.einsum("kmn,mr->krn", v, drawn.inputs)
        if drawn.outputs is not None:
            v = tf.einsum("krn,ns->krs", v, drawn.outputs)
        return self.coordinates(v, drawn)

    def expand_drawn(self, c: Tensor, drawn: Factors) -> Tensor:
        v = self.cores(c, drawn)
        if drawn.outputs is not None:
            v = tf.einsum("krs,ns->krn", v, drawn.outputs)
        if drawn.inputs is not None:
            v = tf.einsum("krn,mr->kmn", v, drawn.inputs)
        return tf.reshape(v, [-1])

    def cores(self, c: Tensor, drawn: Factors) -> Tensor:
        """The matrices C of coordinates [d]: [positions, r, s]."""
        shape = [self.matrix[0], *self.ranks]
        c = tf.pad(c, [[0, math.prod(shape) - self.dimensions]])
        if drawn.offset is not None:
            # Not a slice: XLA would compile the program anew for each place where it begins.
            c = tf.roll(c, drawn.offset, axis=0)
        return tf.reshape(c, shape)

    def coordinates(self, cores: Tensor, drawn: Factors) -> Tensor:
        """The coordinates [d] of matrices C [positions, r, s]."""
        c = tf.reshape(cores, [-1])
        return (c if drawn.offset is None else tf.roll(c, -drawn.offset, axis=0))[: self.dimensions]

    # For who has drawn the factors of many bases with `draw_together`: compiled, as what `Basis` has.

    def expand_in(self, c: Tensor, factors: Factors) -> Tensor:
        """P c, float32 [n]."""
        return self._compiled("expand_drawn", self.expand_drawn, c, factors)

    def project_in(self, v: Tensor, factors: Factors) -> Tensor:
        """P^T v, float32 [d]."""
        return self._compiled("project_drawn", self.project_drawn, v, factors)

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


def matrix_of(shape: Sequence[int]) -> Matrix:
    """(positions, inputs, outputs) of a weight of this shape.

    The last two axes are inputs and outputs, as in Dense and convolutions; those before are positions. A
    vector is taken as the matrix of the two factors of its size that are nearest to each other.
    """
    if len(shape) > 1:
        return math.prod(shape[:-2]), int(shape[-2]), int(shape[-1])
    size = math.prod(shape)
    less = next((k for k in range(math.isqrt(size), 0, -1) if size % k == 0), 1)
    return 1, less, size // less


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
    bases: Sequence[KroneckerBasis], one: Tensor, seed: Tensor, draw: Tensor, firsts: Tensor
) -> List[Factors]:
    """The factors of several bases in one go, to be traced into a compiled program: each as by itself.

    Args:
      bases: the bases.
      one: `random_bases.bases.tiles.unknown_one`.
      seed: int32 [2].
      draw: int32 scalar, the number of the redraw.
      firsts: int32 [bases], the number of each one's first direction.
    """
    sides = [
        _Side(i, stream, length, rank)
        for i, basis in enumerate(bases)
        for stream, length, rank in zip((INPUT_FACTOR, OUTPUT_FACTOR), basis.matrix[1:], basis.ranks)
        if rank < length
    ]
    matrices = _matrices(sides, one, seed, draw, firsts)
    begins = {}
    offsets = [i for i, basis in enumerate(bases) if basis.shifted]
    if offsets:
        key = derive_key(seed, draw, CORE_OFFSET)
        words, _ = threefry2x32(key, (tf.gather(firsts, offsets), tf.zeros([len(offsets)], tf.int32)))
        entries = [math.prod([bases[i].matrix[0], *bases[i].ranks]) for i in offsets]
        begins = dict(zip(offsets, tf.unstack(tf.math.floormod(words, entries))))
    return [
        Factors(matrices.get((i, INPUT_FACTOR)), matrices.get((i, OUTPUT_FACTOR)), begins.get(i))
        for i in range(len(bases))
    ]


class _Side(NamedTuple):
    """A factor to be drawn: of the basis of this number; which one; its size."""

    basis: int
    stream: int
    length: int
    rank: int


def _matrices(
    sides: List[_Side], one: Tensor, seed: Tensor, draw: Tensor, firsts: Tensor
) -> Dict[Tuple[int, int], Tensor]:
    """(basis, stream) -> A or B: some rows of a cosine transform as its columns, times signs of its elements.

    One generator for all, and one formula for all of one shape: as many as there are kernels would take
    minutes to compile.
    """
    if not sides:
        return {}
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
    shapes: Dict[Tuple[int, int], List[int]] = {}
    for i, side in enumerate(sides):
        shapes.setdefault((side.length, side.rank), []).append(i)
    found = {}
    for (length, rank), members in shapes.items():
        chosen = tf.reshape(tf.gather(rows, members)[:, :rank], [-1])
        of_elements = tf.gather(signs, members)[:, :, : -(-length // 64)]
        of_elements = tf.reshape(of_elements, [len(members), -1, 1])[:, :length]

        shape = [len(members), rank, length]

        def columns(index, chosen=chosen, length=length, shape=shape):
            return [tf.transpose(tf.reshape(cosine_rows(chosen + index, length), shape), [0, 2, 1])]

        # Stored, or each use would have this formula in its program.
        (of_all,) = stored(columns, [tf.zeros([len(members), length, rank])], one)
        for i, matrix in zip(members, tf.unstack(of_all * of_elements)):
            found[sides[i].basis, sides[i].stream] = matrix
    return found
