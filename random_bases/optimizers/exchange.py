"""How K workers share the work of a step: who has which directions, and what travels between them.

Gressmann et al. 2020, section 3.3: workers that know the seed regenerate one another's directions, so
coordinates are all that they exchange. With g_k the mean gradient of worker k's own mini-batch, the
inner optimizer gets

* `replicas="shared"`: P P^T mean_k g_k, as d coordinates of each worker are all-reduced;
* `"independent"`: mean_k P_k P_k^T g_k with d directions each, d coordinates of each all-gathered;
* `"split"`: sum_k P_k P_k^T g_k with d / K directions each, d / K coordinates of each all-gathered; or,
  with `exchange="updates"`, the D numbers P_k P_k^T g_k of each all-reduced.

Keras divides the loss by K, so what reaches an optimizer is g_k / K; but not on the IPUs of one machine:
there `share` is the 1 / K that is missing. Directions are numbered over workers and, within a worker, over
compartments: no two of a run share a stream. If K does not divide d, the first d mod K workers have one
direction more than the others.
"""

from typing import Callable, List, Sequence, Tuple

import numpy as np
import tensorflow as tf

from random_bases.device import on_ipu
from random_bases.subspace import Subspace

REPLICAS = ("shared", "independent", "split")
EXCHANGES = ("coordinates", "updates")

Tensor = tf.Tensor


class Alone:
    """One worker: what it sends reaches nobody."""

    count = 1
    index = 0
    share = 1.0
    sent = 0

    def sum(self, tensors: Sequence[Tensor]) -> List[Tensor]:
        return list(tensors)

    def gather(self, c: Tensor) -> Tensor:
        return c[tf.newaxis]


class ReplicaWorkers:
    """The replicas of the `tf.distribute` strategy whose replica context this is called in.

    Attributes:
      count: K, the number of replicas over all hosts.
      index: int32 scalar, this replica's number.
      share: what gradients must be multiplied by to be g_k / K.
      sent: the bytes that this replica sends in one step, counted from the tensors while it is
        traced: a ring sends 2 (K - 1) / K of a tensor to reduce it, and K - 1 times what it gathers.
    """

    def __init__(self, context):
        self._context = context
        self.count = context.num_replicas_in_sync
        self.index = tf.cast(context.replica_id_in_sync_group, tf.int32)
        self.share = 1.0
        self.sent = 0

    def sum(self, tensors: Sequence[Tensor]) -> List[Tensor]:
        """The tensors' sums over workers."""
        self.sent += sum(_bytes(tensor) for tensor in tensors) * 2 * (self.count - 1) // self.count
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))

    def gather(self, c: Tensor) -> Tensor:
        """Coordinates [m] of every worker: [K, m]."""
        self.sent += _bytes(c) * (self.count - 1)
        gathered = self._context.all_gather(c[tf.newaxis], axis=0)
        return tf.ensure_shape(gathered, [self.count, *c.shape])


class IpuWorkers(ReplicaWorkers):
    """The replicas of an IPU program, in whose trace this is called: `tf.distribute` may not know of them."""

    def __init__(self, context):
        from random_bases import ipu

        super().__init__(context)
        self._all_gather = ipu.all_gather
        self.count = ipu.replicas(context.strategy)
        self.index = ipu.replication_index()
        self.share = context.num_replicas_in_sync / self.count

    def gather(self, c: Tensor) -> Tensor:
        self.sent += _bytes(c) * (self.count - 1)
        return self._all_gather(c, self.count)


def count_workers() -> int:
    """The number of workers of the strategy at hand."""
    strategy = tf.distribute.get_strategy()
    if on_ipu():
        from random_bases import ipu

        if ipu.ipus_per_replica(strategy) > 1:
            raise ValueError(
                f"ipus_per_replica={ipu.ipus_per_replica(strategy)}: RandomBasesDescent needs the gradients "
                "of all pipeline stages in one place; allowed: 1."
            )
        return ipu.replicas(strategy)
    return strategy.num_replicas_in_sync


def current_workers():
    """The workers of the replica context at hand.

    Raises:
      RuntimeError: outside of one, in the scope of a strategy with several replicas.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        count = count_workers()
        if count > 1:
            raise RuntimeError(
                f"RandomBasesDescent was called outside of a replica of a strategy with {count}; call it in "
                "`strategy.run`."
            )
        return Alone()
    if count_workers() == 1:
        return Alone()
    return IpuWorkers(context) if on_ipu() else ReplicaWorkers(context)


class Exchange:
    """The step of K workers, as listed above.

    Args:
      replicas: one of `REPLICAS`.
      exchange: one of `EXCHANGES`; "updates" only with "split".
      dimensions: d.
      workers: K.
      subspace: makes the `Subspace` of so many directions.

    Raises:
      ValueError: if d directions cannot be shared out among K workers.
    """

    def __init__(
        self,
        replicas: str,
        exchange: str,
        dimensions: int,
        workers: int,
        subspace: Callable[[int], Subspace],
    ):
        self.replicas = replicas
        self.exchange = exchange
        self.workers = workers
        self._dimensions = dimensions
        if replicas == "split" and dimensions < workers:
            raise ValueError(
                f'dimensions={dimensions} with replicas="split" is fewer than the {workers} workers, each of '
                "which needs at least one."
            )
        mine = -(-dimensions // workers) if replicas == "split" else dimensions
        try:
            self.subspace = subspace(mine)
        except ValueError as error:
            if mine == dimensions:
                raise
            raise ValueError(
                f'dimensions={dimensions} with replicas="split" are {mine} for each of {workers} workers: '
                f"{error}"
            ) from error
        # The number of rows of all coordinates, and of columns.
        self.shape = (1 if replicas == "shared" else workers, mine)

    def project(self, tensors: Sequence[Tensor], seed: int, draw: Tensor, workers) -> Tensor:
        """Projects this worker's gradients and exchanges the coordinates.

        Args:
          tensors: g_k / K.
          seed, draw: as in `Subspace.project`.
          workers: `Alone` or another with its `count`, `index`, `sum` and `gather`.

        Returns:
          The coordinates of all workers, float32 `shape`; of this worker alone, [1, m], with
          `exchange="updates"`.
        """
        if self.replicas == "shared":
            (c,) = workers.sum([self.subspace.project(tensors, seed, draw)])
            return c[tf.newaxis]
        first, number = self._share(workers.index)
        c = self.subspace.project(tensors, seed, draw, first)
        if self.replicas == "split":
            c = tf.where(tf.range(c.shape[0]) < number, c * np.float32(workers.count), 0.0)
        return c[tf.newaxis] if self.exchange == "updates" else workers.gather(c)

    def update(self, coordinates: Tensor, seed: int, draw: Tensor, workers) -> List[Tensor]:
        """What the inner optimizer gets, from what `project` returned."""
        if self.exchange == "updates":
            first, _ = self._share(workers.index)
            return workers.sum(self.subspace.expand(coordinates[0], seed, draw, first))
        return self.expand(coordinates, seed, draw)

    @property
    def shapes(self) -> List[Tuple[int, ...]]:
        """The variables' shapes."""
        return self.subspace.shapes

    def expand(self, coordinates: Tensor, seed: int, draw: Tensor) -> List[Tensor]:
        """What the inner optimizer gets, from the coordinates of all workers, float32 `shape`."""
        total = None
        # A fixed order: every worker rounds alike, and the workers' weights never part.
        for worker, c in enumerate(tf.unstack(coordinates)):
            first, _ = self._share(worker)
            part = self.subspace.expand(c, seed, draw, first)
            total = part if total is None else [a + b for a, b in zip(total, part)]
        return total

    def _share(self, worker) -> Tuple[Tensor, Tensor]:
        """The number of a worker's first direction, and how many it has."""
        if self.replicas != "split":
            return worker * self._dimensions, self._dimensions
        each, more = divmod(self._dimensions, self.workers)
        extra = tf.cast(worker < more, tf.int32)
        return worker * each + tf.minimum(worker, more), each + extra


def _bytes(tensor: Tensor) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size
