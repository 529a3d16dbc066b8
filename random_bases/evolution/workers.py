"""How K replicas share the work of an update: who has which offspring, and which batches they see.

Salimans et al. 2017 (arXiv:1703.03864), algorithm 2: workers that know the seed draw one another's
perturbations, so that the offspring's fitness is all that they exchange. Directions are dealt out: replica
k has directions k, k + K, k + 2 K, ..., with both offspring of antithetic pairs, and so has it the batches of
a stream that each direction takes one of. What an offspring is, and what it sees, does not depend on K.
"""

from typing import Any, Optional

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases import device, strategies
from random_bases.batches import Batches


def own_directions(first: Tensor, count: int, replicas) -> Tensor:
    """The numbers of `count` of a replica's directions from its own number `first`, int32 [count].

    Args:
      first: int32 scalar.
      count: how many.
      replicas: of `random_bases.optimizers.collectives`.
    """
    return replicas.index + replicas.count * (first + tf.range(count))


def losses_of_all(own: Tensor, replicas) -> Tensor:
    """The losses of all offspring in the order of their directions, which every replica gets.

    They are all that travels.

    Args:
      own: this replica's, float32 [directions / K, signs].
      replicas: as above.

    Returns:
      float32 [directions, signs].
    """
    each = tf.reshape(replicas.gather(tf.reshape(own, [-1])), [replicas.count, *own.shape])
    return tf.reshape(tf.transpose(each, [1, 0, 2]), [-1, own.shape[1]])


def group_size(count: int, most: int) -> int:
    """How many of a replica's `count` batches of an update come in one piece: at most `most`, all alike."""
    return max(size for size in range(1, most + 1) if count % size == 0)


def iterator(
    strategy: tf.distribute.Strategy, batches: Batches, start: int, shared: bool, group: Optional[int]
) -> Any:
    """What gives each replica of `strategy` its batches, as an argument of `strategy.run`.

    Args:
      strategy: the strategy.
      batches: the stream.
      start: the index of the first batch.
      shared: whether all replicas see the same batches; else each has its own directions'.
      group: how many come in one piece, as of `Batches`.

    Raises:
      ValueError: if several replicas would see different batches at the same place of the stream.
    """
    count, on = strategies.replicas(strategy), device.of(strategy)
    processes = on.count_processes(strategy)
    if processes > 1 or (count > 1 and not on.compiles_whole):
        _check_repeatable(batches.dataset_from(start))
    if count == 1 or on.compiles_whole:
        dataset = _of_process(strategy, batches, start, shared, group)
        with strategy.scope():  # where the iterator of an IPU is made
            return iter(dataset)

    def own(context):
        turn = (1, 0) if shared else (count, context.replica_id_in_sync_group)
        return iter(batches.dataset_from(start, *turn, group=group))

    return strategy.experimental_distribute_values_from_function(own)


def _of_process(
    strategy: tf.distribute.Strategy, batches: Batches, start: int, shared: bool, group: Optional[int]
) -> tf.data.Dataset:
    """What a program compiled as a whole deals out, one by one, among its replicas: this process's."""
    on = device.of(strategy)
    processes = on.count_processes(strategy)
    replicas = strategies.replicas(strategy) // processes
    assert group is None or replicas == 1
    if shared:
        dataset = batches.dataset_from(start)
        if replicas == 1:
            return dataset
        return dataset.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(replicas))
    if processes == 1:
        return batches.dataset_from(start, group=group)
    assert group is None and on.process_index is not None
    return batches.dataset_from(start, processes, on.process_index(strategy), each=replicas)


def _check_repeatable(dataset: tf.data.Dataset) -> None:
    """Raises ValueError if a dataset begins with another batch each time, as its first one tells."""
    first, second = (tf.nest.flatten(next(iter(dataset))) for _ in range(2))
    if not all(np.array_equal(a, b) for a, b in zip(first, second)):
        raise ValueError(
            "x is a dataset that gives other batches each time it is iterated, which every replica does by "
            "itself; allowed with several replicas: one that gives the same, such as one of "
            "shuffle(..., seed=0, reshuffle_each_iteration=False)."
        )
