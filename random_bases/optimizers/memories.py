"""What each replica remembers, in checkpoints: all of it, where TensorFlow itself would save the mean."""

import io
import warnings
from typing import Sequence

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.tensors import size_of


class Memories(tf.train.experimental.PythonState):
    """Variables with another value in each of K replicas: in a checkpoint one float32 array [K, D].

    All processes must save, as TensorFlow asks for anyway; any may restore what another has saved.

    Args:
      variables: float32, D numbers altogether; with several replicas made in the strategy's scope to be read
        by each for itself (`ON_READ`).
      replica_count: K.
    """

    def __init__(self, variables: Sequence[tf.Variable], replica_count: int):
        super().__init__()
        self._variables = list(variables)
        self._count = replica_count
        self._sizes = [size_of(variable.shape) for variable in variables]

    def serialize(self) -> bytes:
        if not tf.executing_eagerly():
            # A SavedModel is being written, from which Keras 2 restores no optimizer's state.
            return b""
        parts = [self._read(each).numpy().reshape(self._count, -1) for each in self._variables]
        file = io.BytesIO()
        np.save(file, np.concatenate(parts, axis=1), allow_pickle=False)
        return file.getvalue()

    def deserialize(self, string_value: bytes) -> None:
        """Gives each replica what it had; another number of replicas the mean of all, with a warning.

        Raises:
          ValueError: if what was saved is of other variables.
        """
        saved = np.load(io.BytesIO(string_value), allow_pickle=False)
        if saved.shape[1] != sum(self._sizes):
            raise ValueError(
                f"The checkpoint has error feedback's memory of {saved.shape[1]} parameters, and there are "
                f"{sum(self._sizes)}."
            )
        if len(saved) != self._count:
            warnings.warn(
                f"The checkpoint has error feedback's memories of {len(saved)} replicas, and there are "
                f"{self._count}: each gets their mean. Nothing that is remembered is lost; but only where "
                "all share their directions and keep all coordinates does the run go on as it would have.",
                stacklevel=2,
            )
            saved = np.tile(saved.mean(axis=0), (self._count, 1))
        for variable, part in zip(self._variables, np.split(saved, np.cumsum(self._sizes)[:-1], axis=1)):
            self._assign(variable, tf.constant(part.reshape(self._count, *variable.shape)))

    def _read(self, variable: tf.Variable) -> Tensor:
        """What every replica has, [K, ...]."""
        if self._count == 1:
            return tf.convert_to_tensor(variable)[tf.newaxis]
        strategy = variable.distribute_strategy
        return strategy.gather(strategy.run(lambda: tf.convert_to_tensor(variable)[tf.newaxis]), axis=0)

    def _assign(self, variable: tf.Variable, values: Tensor) -> None:
        """Gives every replica its row of [K, ...]."""
        if self._count == 1:
            variable.assign(values[0])
            return

        def assign_own():
            variable.assign(values[tf.distribute.get_replica_context().replica_id_in_sync_group])

        variable.distribute_strategy.run(assign_own)
