"""How K replicas share the work of a step: who has which directions, and what travels between them.

Gressmann et al. 2020, section 3.3: workers that know the seed regenerate one another's directions, so
coordinates are all that they exchange. With g_k the mean gradient of replica k's own mini-batch, the
inner optimizer gets

* `replicas="shared"`: P P^T mean_k g_k, as d coordinates of each replica are all-reduced;
* `"independent"`: mean_k P_k P_k^T g_k with d directions each, d coordinates of each all-gathered;
* `"split"`: sum_k P_k P_k^T g_k with d / K directions each, d / K coordinates of each all-gathered; or,
  with `exchange="updates"`, the D numbers P_k P_k^T g_k of each all-reduced.

What reaches an optimizer is g_k / K. Directions are numbered over replicas and, within a replica, over
compartments: no two of a run share a stream. If K does not divide d, the first d mod K replicas have one
direction more than the others.
"""

import functools
from typing import Callable, List, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.optimizers.magnitude import largest
from random_bases.subspace import Subspace

REPLICAS = ("shared", "independent", "split")
EXCHANGES = ("coordinates", "updates")


class Exchange:
    """The step of K replicas, as listed above.

    Args:
      replicas: one of `REPLICAS`.
      exchange: one of `EXCHANGES`; "updates" only with "split".
      dimensions: d.
      replica_count: K.
      subspace: makes the `Subspace` of so many directions.
      scaled: whether "split" multiplies coordinates by K, so that the gradients g_k / K count whole.

    Attributes:
      subspace: one replica's directions.
      shape: of the coordinates of all replicas: (rows, columns).

    Raises:
      ValueError: if d directions cannot be shared out among K replicas.
    """

    def __init__(
        self,
        replicas: str,
        exchange: str,
        dimensions: int,
        replica_count: int,
        subspace: Callable[[int], Subspace],
        scaled: bool = True,
    ):
        self.replicas = replicas
        self.exchange = exchange
        self.replica_count = replica_count
        self.dimensions = dimensions
        self._scale = replica_count if replicas == "split" and scaled else 1
        if replicas == "split" and dimensions < replica_count:
            raise ValueError(
                f'dimensions={dimensions} with replicas="split" is fewer than the {replica_count} replicas, '
                "each of which needs at least one."
            )
        mine = -(-dimensions // replica_count) if replicas == "split" else dimensions
        try:
            self.subspace = subspace(mine)
        except ValueError as error:
            if mine == dimensions:
                raise
            raise ValueError(
                f'dimensions={dimensions} with replicas="split" are {mine} for each of {replica_count} '
                f"replicas: {error}"
            ) from error
        self.shape = (1 if replicas == "shared" else replica_count, mine)

    def project(self, tensors: Sequence[Tensor], seed: int, draw: Tensor, index) -> Tensor:
        """This replica's own coordinates, float32 [m].

        Args:
          tensors: g_k / K.
          seed, draw: as in `Subspace.project`.
          index: which replica this is.
        """
        first, count = self._own_directions(index)
        c = self.subspace.project(tensors, seed, draw, first)
        if self.replicas != "split":
            return c
        return tf.where(tf.range(c.shape[0]) < count, c * np.float32(self._scale), 0.0)

    def exchanged(self, own: Tensor, replicas) -> Tensor:
        """The coordinates of all replicas, float32 `shape`; own ones, [1, m], with `exchange="updates"`.

        Args:
          own: what `project` returned.
          replicas: of `random_bases.optimizers.collectives`.
        """
        if self.replicas == "shared":
            (own,) = replicas.sum([own])
        if self.replicas == "shared" or self.exchange == "updates":
            return own[tf.newaxis]
        return replicas.gather(own)

    def exchanged_largest(self, own: Tensor, count: int, replicas) -> Tensor:
        """The sum of the `count` largest coordinates of each replica, float32 [1, d], for "shared".

        Values and indices are what travels, in one vector: two collectives whose order is not fixed may
        wait for each other for ever.
        """
        kept = largest(own, count)
        # A coordinate that is not finite may be left out; every replica must see that there was one.
        values = tf.where(tf.reduce_all(tf.math.is_finite(own)), tf.gather(own, kept), np.float32(np.nan))
        sent = tf.concat([values, tf.bitcast(kept, tf.float32)], axis=0)
        values, indices = tf.split(replicas.gather(sent), 2, axis=1)
        # In a fixed order, as in `expand`.
        rows = zip(tf.unstack(tf.bitcast(indices, tf.int32)), tf.unstack(values))
        parts = [tf.scatter_nd(index[:, tf.newaxis], value, own.shape) for index, value in rows]
        return functools.reduce(tf.add, parts)[tf.newaxis]

    def update(self, coordinates: Tensor, seed: int, draw: Tensor, replicas) -> List[Tensor]:
        """What the inner optimizer gets, from what `exchanged` returned."""
        if self.exchange == "updates":
            return replicas.sum(self.expand_own(coordinates[0], seed, draw, replicas.index))
        return self.expand(coordinates, seed, draw)

    def expand(self, coordinates: Tensor, seed: int, draw: Tensor) -> List[Tensor]:
        """What the inner optimizer gets, from the coordinates of all replicas, float32 `shape`."""
        parts = [self.expand_own(c, seed, draw, index) for index, c in enumerate(tf.unstack(coordinates))]
        # A fixed order: every replica rounds alike, and the replicas' weights never part.
        return [functools.reduce(tf.add, part) for part in zip(*parts)]

    @property
    def fewest_directions(self) -> int:
        """How many directions the replica has that has the fewest."""
        return self.dimensions // self.replica_count if self.replicas == "split" else self.dimensions

    def expand_own(self, c: Tensor, seed: int, draw: Tensor, index) -> List[Tensor]:
        """P_k c for one replica's coordinates c, float32 [m]."""
        first, _ = self._own_directions(index)
        return self.subspace.expand(c, seed, draw, first)

    def _own_directions(self, index) -> Tuple[Tensor, Tensor]:
        """The index of a replica's first direction, and how many it has."""
        if self.replicas != "split":
            return (0 if self.replicas == "shared" else index * self.dimensions), self.dimensions
        each, more = divmod(self.dimensions, self.replica_count)
        extra = tf.cast(index < more, tf.int32)
        return index * each + tf.minimum(index, more), each + extra
