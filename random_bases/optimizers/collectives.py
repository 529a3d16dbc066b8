"""The replicas that take part in a step, and how tensors travel between them: none, or some."""

from typing import List, Sequence, Union

import tensorflow as tf
from tensorflow import Tensor

from random_bases import device


class SingleReplica:
    """One replica: what it sends reaches nobody."""

    count = 1
    index = 0
    share = 1.0
    sent = 0

    def sum(self, tensors: Sequence[Tensor]) -> List[Tensor]:
        return list(tensors)

    def gather(self, x: Tensor) -> Tensor:
        return x[tf.newaxis]


class Replicas:
    """The replicas of the strategy whose replica context this is made in.

    Attributes:
      count: K, the number of replicas over all hosts.
      index: int32 scalar, which one this is.
      share: what gradients must be multiplied by to be g_k / K: Keras divides the loss by the replicas
        that `tf.distribute` knows of, which on the IPUs of one machine is 1.
      sent: the bytes that this replica sends in one step, counted from the tensors while it is
        traced: a ring sends 2 (K - 1) / K of a tensor to reduce it, and K - 1 times what it gathers.
    """

    def __init__(self, context):
        self._context = context
        self._device = device.of(context.strategy)
        self.count = self._device.count_replicas(context.strategy)
        self.index = self._device.replica_index(context)
        self.share = context.num_replicas_in_sync / self.count
        self.sent = 0

    def sum(self, tensors: Sequence[Tensor]) -> List[Tensor]:
        """The tensors' sums over replicas."""
        self.sent += sum(_bytes(tensor) for tensor in tensors) * 2 * (self.count - 1) // self.count
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, list(tensors))

    def gather(self, x: Tensor) -> Tensor:
        """A vector [m] of every replica: [K, m]."""
        self.sent += _bytes(x) * (self.count - 1)
        return tf.ensure_shape(self._device.all_gather(self._context, x, self.count), [self.count, *x.shape])


def count_replicas() -> int:
    """The number of replicas of the strategy at hand."""
    return device.at_hand().count_replicas(tf.distribute.get_strategy())


def current_replicas() -> Union[SingleReplica, Replicas]:
    """The replicas of the replica context at hand.

    Raises:
      RuntimeError: outside of one, in the scope of a strategy with several replicas.
    """
    context, count = tf.distribute.get_replica_context(), count_replicas()
    if count == 1:
        return SingleReplica()
    if context is None:
        raise RuntimeError(
            f"A step was called outside of a replica of a strategy with {count}; call it in `strategy.run`."
        )
    return Replicas(context)


def _bytes(tensor: Tensor) -> int:
    return tensor.shape.num_elements() * tensor.dtype.size
