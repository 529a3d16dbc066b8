"""What a run on several workers needs besides a strategy: its batches, its files, signs of life.

All workers see the run's directory. The first of them, the chief, alone writes there; the others write
what Keras makes them write to temporary directories of their own, and read the chief's checkpoints.
"""

import atexit
import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import tensorflow as tf

from random_bases import files, ipu, locks, strategies
from random_bases.keras_api import keras
from random_bases.optimizers import RandomBasesDescent

# The directory where scripts/launch_workers.py looks for signs of life.
HEARTBEATS = "RANDOM_BASES_HEARTBEATS"
_SECONDS_BETWEEN_HEARTBEATS = 0.5
_PREFIX = "random_bases_worker_"


def own_directory(strategy: tf.distribute.Strategy, workdir: Path) -> Path:
    """Where this process writes: `workdir` for the chief, a new temporary directory for others."""
    if strategies.is_chief(strategy):
        return workdir
    _remove_abandoned()
    own = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = locks.take(own)

    def remove():
        lock.release()
        shutil.rmtree(own, ignore_errors=True)

    atexit.register(remove)
    return own


def _remove_abandoned() -> None:
    """Removes temporary directories of workers that were killed: what they had locked is free."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if path.stat().st_uid != os.getuid() or not (path / locks.IN_DIRECTORY).exists():
            continue  # another's, or just made
        with contextlib.suppress(locks.InUseError), locks.held(path):
            shutil.rmtree(path, ignore_errors=True)


def share_batches(batches: tf.data.Dataset, batch_size: int, strategy: tf.distribute.Strategy):
    """Gives each replica its part of each batch: the k-th of R equal parts to replica k.

    So over all workers every example is seen where one process alone would see it, whatever R.

    Args:
      batches: (images, labels) of `batch_size` examples, the same on every worker.

    Raises:
      ValueError: if R does not divide `batch_size`.
    """
    replicas = strategies.replicas(strategy)
    if replicas == 1:
        return batches
    if batch_size % replicas:
        raise ValueError(f"config.batch_size={batch_size} must be divisible by the {replicas} replicas.")
    size = batch_size // replicas

    def pipeline(context):
        here = replicas // context.num_input_pipelines
        begin = context.input_pipeline_id * here * size

        def parts(*batch):
            mine = [column[begin : begin + here * size] for column in batch]
            split = tuple(tf.reshape(column, [here, size, *column.shape[1:]]) for column in mine)
            return tf.data.Dataset.from_tensor_slices(split)

        return batches.flat_map(parts)

    if ipu.is_strategy(strategy):  # whose replicas take turns at one dataset
        index, number = ipu.instances(strategy)
        return pipeline(tf.distribute.InputContext(number, index, replicas))
    return strategy.distribute_datasets_from_function(pipeline)


class ReportTraffic(keras.callbacks.Callback):
    """Adds the bytes that each replica sends in a step to an epoch's logs, as "exchanged_bytes".

    Before `CSVLogger` and `TensorBoard` in the list of callbacks it makes them report it.
    """

    def on_epoch_end(self, epoch, logs=None):
        del epoch
        optimizer = self.model.optimizer
        if isinstance(optimizer, RandomBasesDescent) and optimizer.bytes_per_step:
            logs["exchanged_bytes"] = optimizer.bytes_per_step


class Heartbeat(keras.callbacks.Callback):
    """Tells the launcher, if there is one, that this process lives, and how far it is.

    A thread writes to the file of this worker's number twice a second how many batches it has begun or
    ended: a stopped process stops writing, one that hangs stops counting while the others, which wait for
    it in their next exchange, have counted further.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        super().__init__()
        self._progress = 0
        directory = os.environ.get(HEARTBEATS)
        resolver = strategy.cluster_resolver
        if directory and resolver is not None and resolver.task_type:
            path = Path(directory) / str(resolver.task_id)
            self._write(path)
            threading.Thread(target=self._beat, args=(path,), daemon=True).start()

    def _beat(self, path: Path) -> None:
        while True:  # as long as the process lives
            time.sleep(_SECONDS_BETWEEN_HEARTBEATS)
            self._write(path)

    def _write(self, path: Path) -> None:
        files.write(path, str(self._progress))

    def _advance(self, *arguments, **keywords):
        del arguments, keywords
        self._progress += 1

    on_train_batch_begin = on_train_batch_end = _advance
    on_test_batch_begin = on_test_batch_end = _advance
    on_epoch_begin = on_epoch_end = _advance
