"""A basis whose directions are shared out over the replicas of a `tf.distribute` strategy.

As in Li et al. 2022 (arXiv:2205.13104), where each node projects the gradient on its part of the basis:
replica k of K holds the rows P_k of P^T, about d / K of the directions. So memory falls as 1 / K, and so
does the time of each contraction. All replicas keep all d coordinates and step them alike.

What travels in a step are two sums over replicas of D numbers, as in two steps of plain data parallelism: of
the parts P_k^T c_k, which make the weights, and, backwards, of the weights' gradients. And, where Keras sums
the gradients of the variables, d numbers: each replica has its own coordinates' gradients and zeros for the
others', so that sum gathers them.
"""

from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
import tensorflow as tf

from random_bases import device
from random_bases.bases import TrajectoryBasis
from random_bases.models.parametrisation import Parametrisation
from random_bases.subspace import Subspace
from random_bases.tensors import flat, split


class Shard(NamedTuple):
    """Successive directions: the first one's number and a basis of them."""

    first: int
    basis: TrajectoryBasis


class Shards(NamedTuple):
    """The shards of this process, by replica.

    Attributes:
      dimensions: d, over all replicas of all processes.
      local: the number of a replica -> its shard.
    """

    dimensions: int
    local: Dict[int, Shard]


def share_out(coefficients: np.ndarray, vectors: Sequence[np.ndarray]) -> Shards:
    """The shards that the replicas of the current strategy in this process hold.

    Args:
      coefficients: A, float64 [d, n], and
      vectors: X, as in `TrajectoryBasis.combined`. Each process must be able to read all of them.

    Raises:
      ValueError: if there are more replicas than directions.
    """
    strategy = tf.distribute.get_strategy()
    device.of(strategy).refuse(
        "TrainableWeightAveraging with directions shared out over the replicas of a pod"
    )
    replicas = strategy.num_replicas_in_sync
    if replicas > len(coefficients):
        raise ValueError(f"{len(coefficients)} directions cannot be shared out over {replicas} replicas.")
    ends = [len(coefficients) * k // replicas for k in range(replicas + 1)]
    devices = strategy.extended.worker_devices  # of this process's replicas, in their order
    local: Dict[int, Shard] = {}

    def hold(context):
        k = _number(context.replica_id_in_sync_group)
        with tf.device(devices[len(local)]):
            basis = TrajectoryBasis.combined(coefficients[ends[k] : ends[k + 1]], vectors)
        local[k] = Shard(ends[k], basis)
        return 0

    strategy.experimental_distribute_values_from_function(hold)
    return Shards(len(coefficients), local)


class ShardedParametrisation(Parametrisation):
    """theta = theta0 + sum over replicas of P_k^T c_k; all replicas have all coordinates.

    Args:
      variables: weights of a model; their values are theta0.
      dimensions: d.
      basis: made by `share_out` under the same strategy.
      others: not used.
    """

    def __init__(self, variables: Sequence, dimensions: int, basis: Shards, *others: Any):
        del dimensions, others
        self.variables = list(variables)
        self.basis: Any = basis  # Shards
        self._strategy = tf.distribute.get_strategy()
        self._shapes = [tuple(variable.shape) for variable in self.variables]
        self._subspaces = {
            k: Subspace(self._shapes, shard.basis.dimensions, shard.basis) for k, shard in basis.local.items()
        }

    @property
    def dimensions(self) -> int:
        return int(self.basis.dimensions)

    def theta(self, coordinates, draw=0) -> List[tf.Tensor]:
        del draw  # stored directions
        context = tf.distribute.get_replica_context()
        if context is not None and context.strategy is self._strategy:
            return super().theta(coordinates)
        # Called for one model, not for each replica's.
        compute = tf.function(lambda c: Parametrisation.theta(self, c), autograph=False)
        result = self._strategy.run(compute, args=(coordinates,))
        return [self._strategy.experimental_local_results(each)[0] for each in result]

    def expand(self, coordinates, draw=0) -> List[tf.Tensor]:
        del draw
        context = tf.distribute.get_replica_context()
        k = _number(context.replica_id_in_sync_group)
        first, basis = self.basis.local[k]
        part = self._subspaces[k].expand(coordinates[first : first + basis.dimensions], 0)
        # Backwards it sums the replicas' gradients: each has its coordinates' gradient of the whole loss.
        return split(context.all_reduce(tf.distribute.ReduceOp.SUM, flat(part)), self._shapes)

    def get_config(self) -> Dict[str, Any]:
        raise ValueError(
            "A model whose directions are shared out over replicas cannot be saved: save the model that "
            "materialize() returns."
        )


def _number(replica) -> int:
    """A replica's number, which is known when a program is traced."""
    return int(replica if isinstance(replica, int) else tf.get_static_value(replica))
