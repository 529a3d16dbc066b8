"""The perturbations of a population: random directions of the weights with entries of variance 1."""

from typing import List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.basis import Basis, compiled
from random_bases.compartments import Compartments
from random_bases.sampling.seeds import as_seed
from random_bases.subspace import Subspace
from random_bases.tensors import size_of


class Perturbations:
    """`count` directions phi_j of D parameters, drawn anew for each update and never stored.

    phi_j is sqrt(n) times column j of a basis: its entries have variance 1 and, with basis "normal", are
    independent standard normals. With compartments, each phi_j lives in one of them. A population with
    more directions than there are parameters takes several bases, one after another.

    Args:
      shapes, paths: of the variables.
      count: of directions.
      basis, compartments: as in `Subspace`.
      seed: an int in [0, 2**64).

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[int]],
        paths: Sequence[str],
        count: int,
        basis: Union[str, Basis],
        compartments: Optional[Compartments],
        seed: int,
    ):
        self.count = count
        self.size = sum(size_of(shape) for shape in shapes)
        self._bases = -(-count // self.size)
        in_each = -(-count // self._bases)
        self._subspace = Subspace(shapes, in_each, basis, compartments, None, paths)
        self._seed = seed
        dimensions = np.array(self._subspace.compartment_dimensions)
        lengths = np.sqrt(np.array(self._subspace.compartment_sizes, np.float64))
        self._lengths = np.repeat(lengths, dimensions).astype(np.float32)
        # Each compartment's sum is a mean over its own directions.
        self._shares = np.repeat(in_each / dimensions, dimensions).astype(np.float32)
        self.combine = compiled(self._combine)

    @property
    def entrywise(self) -> bool:
        """Whether `trace` needs no memory beside its result."""
        return self._subspace.entrywise

    def trace(self, indices: Tensor, update: Tensor) -> List[Tensor]:
        """Some perturbations, to be traced into a compiled program that uses them.

        Args:
          indices: int32 [k], each in [0, count).
          update: int32 scalar, how many updates were made before.

        Returns:
          float32 tensors [k, *shape].
        """
        directions = self._subspace.trace_directions(*self._address(indices, update))
        lengths = self._lengths_of(indices)
        return [phi * tf.reshape(lengths, [-1] + [1] * (phi.shape.rank - 1)) for phi in directions]

    @property
    def starts(self) -> List[int]:
        """Where each variable's entries begin, for `trace_entries`."""
        return self._subspace.starts

    def trace_entries(self, index: Tensor, update: Tensor, elements: Tensor) -> Tensor:
        """One perturbation's entries at `elements`, int32 [n], if `entrywise`: float32 [n]."""
        indices = index[tf.newaxis]
        entries = self._subspace.trace_entries(*self._address(indices, update), elements)
        return (self._lengths_of(indices)[:, tf.newaxis] * entries)[0]

    def _address(self, indices: Tensor, update: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        """(number of the direction in its basis, seed, number of the redraw)."""
        each = self._subspace.dimensions
        return indices % each, as_seed(self._seed), update * self._bases + indices // each

    def _lengths_of(self, indices: Tensor) -> Tensor:
        return tf.gather(tf.constant(self._lengths), indices % self._subspace.dimensions)

    def coefficients(self, weights: Tensor) -> Tensor:
        """What each phi_j counts for in `combine`: float32 [count].

        `weights`, float32 [count], divided by as many directions as its compartment has.
        """
        shares = np.tile(self._shares, self._bases)[: self.count]
        return weights * shares / self.count

    def _combine(self, weights: Tensor, update: Tensor) -> List[Tensor]:
        """The mean of weights_j phi_j, in each compartment over its own directions.

        Args:
          weights: float32 [count].
          update: as in `trace`.

        Returns:
          float32 tensors of the variables' shapes.
        """
        each = self._subspace.dimensions
        weights = tf.pad(self.coefficients(weights), [[0, self._bases * each - self.count]])
        weights = tf.reshape(weights, [self._bases, each]) * self._lengths
        sums = [tf.zeros(shape) for shape in self._subspace.shapes]

        def add(i, *sums):
            draw = update * self._bases + i
            parts = self._subspace.expand(tf.gather(weights, i), self._seed, draw)
            return (i + 1, *(total + part for total, part in zip(sums, parts)))

        if self._bases == 1:
            return list(add(tf.constant(0), *sums)[1:])
        return list(
            tf.while_loop(lambda i, *_: i < self._bases, add, (tf.constant(0), *sums), parallel_iterations=1)[
                1:
            ]
        )
