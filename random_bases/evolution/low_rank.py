"""Low-rank perturbations: A_j B_j^T / sqrt(r) of a kernel, whose products with inputs are thin ones.

EGGROLL, "Evolution Strategies at the Hyperscale" (arXiv:2511.16652): with A_j [m, r] and B_j [n, r] of
standard normals an offspring's layer is x (W + sigma A_j B_j^T / sqrt(r)) = x W + sigma (x A_j) B_j^T /
sqrt(r). The product with W is one for all offspring, and none has weights of its own. The entries of
A_j B_j^T / sqrt(r) have mean 0 and variance 1 and are uncorrelated, so the update estimates the gradient as
that of dense normals does; it is sum_j w_j A_j B_j^T / sqrt(r), a product of [m, count r] and [count r, n].
"""

import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments, device
from random_bases.bases.basis import compiled
from random_bases.bases.tiles import stored, unknown_one
from random_bases.sampling import derive_key, get_distribution
from random_bases.sampling.counter import threefry2x32
from random_bases.sampling.seeds import LOW_RANK, as_seed
from random_bases.tensors import as_shapes, size_of

# How much what is drawn of directions that are summed at a time may take.
_SUMMED_BYTES = 2**24


class Drawn(NamedTuple):
    """Some directions, as they are drawn.

    Attributes:
      kernels: of each kernel A_j and B_j, float32 [k, m, r] and [k, n, r].
      others: of each other variable phi_j, float32 [k, *shape].
    """

    kernels: List[Tuple[Tensor, Tensor]]
    others: List[Tensor]


class LowRankPerturbations:
    """`count` directions phi_j of D parameters, of low rank in kernels, drawn anew for each update.

    phi_j is A_j B_j^T / sqrt(r) in kernels, and standard normals in all other variables. All that is drawn
    of a direction is one row of a stream of normals: the factors of the kernels, then the others.

    Args:
      shapes: of the variables.
      matrices: of each variable (m, n) if it is a kernel, of m n entries, else None.
      count: of directions.
      rank: r.
      seed: an int in [0, 2**64).

    Attributes:
      kernels, others: the positions of the variables that are kernels, and of those that are not.
      size: D.
      drawn_size: how many numbers are drawn of a direction.

    Raises:
      TypeError, ValueError: if `rank` is no int of at least 1.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        matrices: Sequence[Optional[Tuple[int, int]]],
        count: int,
        rank: int,
        seed: int,
    ):
        self.count = count
        self.rank = arguments.integer("rank", rank, 1)
        self.shapes = as_shapes(shapes)
        self.size = sum(size_of(shape) for shape in self.shapes)
        self.kernels = [i for i, matrix in enumerate(matrices) if matrix is not None]
        self.others = [i for i, matrix in enumerate(matrices) if matrix is None]
        self._seed = seed
        # Of what is drawn, one after another.
        sides = [side for matrix in matrices if matrix is not None for side in matrix]
        self._drawn_shapes = [*((side, self.rank) for side in sides), *(self.shapes[i] for i in self.others)]
        self.drawn_size = sum(size_of(shape) for shape in self._drawn_shapes)
        self.combine = compiled(self._combine)

    def trace_drawn(self, indices: Tensor, update: Tensor) -> Drawn:
        """Some directions, to be traced into a compiled program that uses them.

        Args:
          indices: int32 [k], each in [0, count).
          update: int32 scalar, how many updates were made before.
        """
        key = derive_key(as_seed(self._seed), update, LOW_RANK)
        row = _normals(key, indices, self.drawn_size, unknown_one(tf.cast(update, tf.float32)))
        pieces = tf.split(row, [size_of(shape) for shape in self._drawn_shapes], axis=1)
        drawn = [
            tf.reshape(piece, [indices.shape[0], *shape]) for piece, shape in zip(pieces, self._drawn_shapes)
        ]
        factors, others = drawn[: 2 * len(self.kernels)], drawn[2 * len(self.kernels) :]
        return Drawn(list(zip(factors[::2], factors[1::2])), others)

    def trace(self, indices: Tensor, update: Tensor) -> List[Tensor]:
        """Some perturbations as `Perturbations.trace` gives them: dense, [k, *shape] for each variable."""
        drawn = self.trace_drawn(indices, update)
        products = [tf.matmul(a, b, transpose_b=True) / math.sqrt(self.rank) for a, b in drawn.kernels]
        of_kernels = [
            tf.reshape(product, [indices.shape[0], *self.shapes[i]])
            for product, i in zip(products, self.kernels)
        ]
        return self._in_order(of_kernels, drawn.others)

    def coefficients(self, weights: Tensor) -> Tensor:
        """What each phi_j counts for in `combine`: float32 [count]."""
        return weights / self.count

    def _combine(self, weights: Tensor, update: Tensor) -> List[Tensor]:
        """The mean of weights_j phi_j, of which none is made.

        Args:
          weights: float32 [count].
          update: as in `trace_drawn`.

        Returns:
          float32 tensors of the variables' shapes.
        """
        chunk = min(max(_SUMMED_BYTES // (4 * self.drawn_size), 1), self.count)
        steps = -(-self.count // chunk)
        # Those beyond the last one count for nothing.
        weights = tf.pad(self.coefficients(weights), [[0, steps * chunk - self.count]])
        weights = tf.reshape(weights, [steps, chunk])

        def add(step, *sums):
            drawn = self.trace_drawn(step * chunk + tf.range(chunk), update)
            mine = tf.gather(weights, step)
            scaled = (mine / math.sqrt(self.rank))[:, tf.newaxis, tf.newaxis]
            parts = [
                *(tf.einsum("kmr,knr->mn", scaled * a, b) for a, b in drawn.kernels),
                *(tf.tensordot(mine, phi, 1) for phi in drawn.others),
            ]
            return (step + 1, *(total + tf.reshape(part, total.shape) for total, part in zip(sums, parts)))

        zeros = [tf.zeros(self.shapes[i]) for i in [*self.kernels, *self.others]]
        sums = tf.while_loop(
            lambda step, *_: step < steps, add, (tf.constant(0), *zeros), parallel_iterations=1
        )[1:]
        return self._in_order(sums[: len(self.kernels)], sums[len(self.kernels) :])

    def _in_order(self, of_kernels: Sequence[Tensor], of_others: Sequence[Tensor]) -> List[Tensor]:
        """Tensors of the kernels and of the other variables in the variables' order."""
        tensors = dict(zip([*self.kernels, *self.others], [*of_kernels, *of_others]))
        return [tensors[i] for i in range(len(self.shapes))]


def _normals(key: Tensor, directions: Tensor, count: int, one: Tensor) -> Tensor:
    """`count` standard normals of each direction, float32 [k, count]: as `counter.entries` gives them.

    Stored, or each use would draw them again, both signs of a pair among them.

    Args:
      key: int32 [2].
      directions: int32 [k].
      count: how many.
      one: `random_bases.bases.tiles.unknown_one`.
    """
    blocks = -(-count // 2)

    def pairs(index):
        words = threefry2x32(key, (directions[:, tf.newaxis], tf.range(blocks)[tf.newaxis] + index))
        first, second = get_distribution("normal").from_words(*words)
        return first[:, 0], second[:, 0]

    if device.at_hand().has_complex:
        # As one number, or the pair would be evaluated for each of its halves.
        like = tf.zeros([directions.shape[0], blocks], tf.complex64)
        (stored_pairs,) = stored(lambda index: [tf.complex(*pairs(index))], [like], one)
        halves = tf.math.real(stored_pairs), tf.math.imag(stored_pairs)
    else:
        halves = pairs(0)
    return tf.reshape(tf.stack(halves, axis=-1), [directions.shape[0], 2 * blocks])[:, :count]
