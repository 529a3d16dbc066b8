"""ReplayLog: a Keras callback that logs the coordinates of every step."""

import hashlib
import json
import os
import struct
from typing import Any, BinaryIO, Dict, Optional

import tensorflow as tf

from random_bases import device, files, keras_api, locks, strategies
from random_bases.keras_api import keras
from random_bases.replay import movers
from random_bases.replay.format import (
    DIGEST_SIZE,
    FORMAT_VERSION,
    MAGIC,
    Log,
    ReplayError,
    chained,
    hash_of,
)
from random_bases.sampling import STREAM_VERSION


class ReplayLog(keras.callbacks.Callback):
    """Writes the coordinates of every step of `fit` to a file that `replay` reads.

    The model's optimizer must be a `RandomBasesDescent`, or the model a `SubspaceModel` with redraws, whose
    log is that of the wrapped model's weights, or what trains it `NaturalEvolutionStrategies`: the
    coordinates are then what each direction counts for, one number a step with SPSA, so that a
    fine-tuned model is a short file (Malladi et al. 2023, arXiv:2305.17333, section 2.1).

    If no step was made before, a new log is begun. If some were, the log at `path` must hold them: it is
    continued after them, and its later records are dropped. So a run that begins again from its first step
    writes its log anew; the log of another run is never overwritten. With several workers the chief writes;
    all must have the callback. The weights' hash is recorded after every epoch. State that is no trained
    weight (moving statistics) is not in the log. With an inner optimizer that has `use_ema=True` the replayed
    weights are those that were trained: the averages are put in their place when `fit` ends.

    The step of `Model.fit` must not be compiled as a whole, `compile(..., jit_compile=False)`, as XLA rounds
    what it fuses differently; the random bases in it always are.

    Args:
      path: of the file.

    Raises (when training begins):
      TypeError: if what trains the model is none of these three.
      ValueError: if the step is compiled, with `exchange="updates"`, after `exclude_from_weight_decay`,
        for a model that is not built under a strategy of several replicas, or if the optimizer has made
        steps that are not in the log.
      ReplayError: if the file at `path` is no log, or that of another run: of another seed, configuration
        or theta0. A learning rate, which callbacks may set, is compared after the first step.
      InUseError: if another process writes it, which has locked `<path>.lock`.

    Example:
    >>> model.fit(x, y, callbacks=[rb.ReplayLog("run.log")])  # or of NaturalEvolutionStrategies
    >>> rb.replay("run.log", build_model(), step=1000)
    """

    def __init__(self, path: files.AnyPath):
        super().__init__()
        self._path = os.fspath(path)
        self._file: Optional[BinaryIO] = None
        self._lock: Any = None

    def on_train_begin(self, logs=None):
        del logs
        model = self.model
        # Keras 2.6 has no `params` until it sets them.
        params = getattr(self, "params", None) or {}
        self._mover = mover = movers.of_model(model, params.get("trainer"))
        strategy = keras_api.strategy_of(model)
        device.of(strategy).refuse("ReplayLog, which has the training step write to variables of its own,")
        mover.record(self._keep)
        self._capacity = mover.capacity
        self._writes = strategies.is_chief(strategy)
        self._steps = mover.updates()
        self._found: Optional[Dict[str, Any]] = None
        self._last: Optional[tf.Variable] = None
        if self._file is not None:  # of a `fit` that an error ended
            self._file.close()
            self._file = None
        if self._writes and self._lock is None:  # or a `fit` was ended by an error
            self._lock = locks.take(self._path)
            files.remove_temporaries(self._path)
        if model.built:
            with strategy.scope():
                self._begin()
        elif strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"ReplayLog: model={model.name!r} is not built, which it must be under a strategy of "
                f"{strategy.num_replicas_in_sync} replicas: call it on a batch, or its `build`, first."
            )

    def _begin(self) -> None:
        """When model and optimizer are built, and no step of this `fit` is made."""
        self._mover.begin()
        shape = self._mover.shape
        # The last steps' learning rates and coordinates, each replica its own: nothing travels.
        self._last = tf.Variable(
            tf.zeros([self._capacity, 1 + shape[0] * shape[1]]),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        if self._writes and self._steps:
            self._continue()
            return
        self._theta0 = hash_of(self._mover.variables)
        if self._writes and os.path.exists(self._path) and os.path.getsize(self._path):
            self._found = Log(self._path).header
            self._refuse_another(_before_first_step)

    def _keep(self, coordinates, updates):
        """Part of the step: notes its coordinates."""
        if self._last is None:  # a model that `fit` builds: it has weights since now, not yet moved
            with tf.init_scope():
                self._begin()
        rate = tf.cast(tf.convert_to_tensor(self._mover.learning_rate()), tf.float32)
        row = tf.concat([[rate], tf.reshape(coordinates, [-1])], axis=0)
        position = tf.cast(updates, tf.int32) % self._capacity
        self._last.assign(tf.tensor_scatter_nd_update(self._last.read_value(), [[position]], [row]))

    def _continue(self) -> None:
        """Opens the log of the steps made so far; cuts off what lies beyond."""
        if not os.path.exists(self._path):
            raise ValueError(
                f"path={self._path!r} does not exist, but the optimizer has made {self._steps} steps: a log "
                "begins with the first."
            )
        log = Log(self._path)
        end, digest, weights = log.cut(self._steps)
        self._found = log.header
        self._theta0 = log.header["theta0_sha256"]
        self._refuse_another(_before_first_step)
        if weights and weights != hash_of(self._mover.variables):
            raise ReplayError(
                f"path={self._path!r}: the weights differ from those of the run after {self._steps} steps."
            )
        self._file = open(self._path, "r+b")
        self._file.truncate(end)
        self._file.seek(end)
        self._digest = digest

    def _refuse_another(self, part) -> None:
        """Raises if the log found differs from this run's in this part of the header."""
        wanted, found = part(json.loads(json.dumps(self._describe(), default=float))), part(self._found)
        different = [name for name in wanted if wanted[name] != found.get(name)]
        if different:
            raise ReplayError(
                f"path={self._path!r} is the log of another run: it differs in {different}. Choose another "
                "path, or remove the file."
            )

    def _describe(self) -> Dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "stream_version": STREAM_VERSION,
            "keras": keras_api.GENERATION,
            **self._mover.describe(),
            "shape": list(self._mover.shape),
            "variables": keras_api.describe(self._mover.variables),
            "theta0_sha256": self._theta0,
        }

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        made = self._mover.updates()
        if not self._writes or made == self._steps:
            return
        if self._file is None:
            self._create()
        assert made - self._steps <= self._capacity
        last = self._last.numpy()
        with files.naming(self._path):
            for step in range(self._steps, made):
                row = last[step % self._capacity].astype("<f4")
                self._record(b"S" + struct.pack("<q", step) + row.tobytes())
            self._file.flush()
        self._steps = made

    def _create(self) -> None:
        """A log with nothing but its header, when a step is made: only then are all its entries known."""
        if self._found is not None:
            self._refuse_another(_nameless)
        content = files.packed(MAGIC, self._describe())
        digest = hashlib.sha256(content).digest()
        files.write(self._path, content + digest)  # half a header could not be told from another's file
        self._file = open(self._path, "ab")
        self._digest = digest[:DIGEST_SIZE]

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        if self._file is not None:
            digest = bytes.fromhex(hash_of(self._mover.variables))
            with files.naming(self._path):
                self._record(b"H" + struct.pack("<q", self._steps) + digest)
                self._file.flush()
                os.fsync(self._file.fileno())

    def on_train_end(self, logs=None):
        del logs
        if self._file is not None:
            with files.naming(self._path):
                self._record(b"E" + struct.pack("<q", self._steps))
                self._file.close()
            self._file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _record(self, content: bytes) -> None:
        assert self._file is not None
        self._digest = chained(self._digest, content)
        self._file.write(content + self._digest)


def _nameless(value):
    """A header without the names of optimizers, which Keras numbers by what else the process has built."""
    if isinstance(value, dict):
        return {key: _nameless(each) for key, each in value.items() if key != "name"}
    return value


def _before_first_step(header: Dict[str, Any]) -> Dict[str, Any]:
    """What is known of a header when training begins."""
    return movers.of_header(header).known_before(_nameless(header))
