"""A training run as its coordinates: a log from which the weights of every step can be rebuilt.

A seed regenerates the directions, so a run is theta0 and the d numbers by which each step moved along
them: no data and no gradients are needed to go it again (Gressmann et al. 2020, section 3.3: what
workers exchange). A late joiner or an auditor needs theta0, which a seed gives, and this file.

The file, all little-endian: 8 bytes of magic; the length of the header, 4 bytes; the header, JSON in
UTF-8; its SHA-256; then records, each followed by the first 16 bytes of the SHA-256 of the record and
of the one before it, so that none can be altered, removed or exchanged unnoticed:

| kind, 1 byte | then                                                                                 |
| ------------ | ------------------------------------------------------------------------------------ |
| `S`, a step  | its number, int64; the learning rate, float32 (NaN: a schedule); coordinates, float32 |
| `H`, a hash  | the number of steps made, int64; the SHA-256 of the weights then                      |
| `E`, the end | the number of steps made, int64                                                       |
"""

import hashlib
import json
import os
import struct
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import tensorflow as tf

from random_bases import keras_api, strategies
from random_bases.arguments import is_int
from random_bases.device import refuse_ipus
from random_bases.keras_api import keras
from random_bases.optimizers import RandomBasesDescent
from random_bases.sampling import STREAM_VERSION

MAGIC = b"RNDSTEPS"
FORMAT_VERSION = 1
_DIGEST = 16
_HASH = hashlib.sha256().digest_size


class ReplayError(ValueError):
    """A log does not fit the model or this version, or gives other weights than were recorded."""


class DamagedLogError(ReplayError):
    """A log is truncated or was altered. What is before the damage can be replayed: give `step`."""


class ReplayLog(keras.callbacks.Callback):
    """Writes the coordinates of every step of `fit` to a file that `replay` reads.

    The model's optimizer must be a `RandomBasesDescent` that has made no step yet, or as many as a log
    found at `path` holds or more: this one is then gone on with, and what it has beyond is dropped. So a
    run that begins again from its first step writes its log anew; nothing else is ever overwritten. With
    several workers the chief writes; all must have the callback. The weights' hash is recorded after
    every epoch. State that is no trained weight (moving statistics) is not in the log. With an inner
    optimizer that has `use_ema=True` the replayed weights are those that were trained: the averages are
    put in their place when `fit` ends.

    The step must not be compiled as a whole, `compile(..., jit_compile=False)`, as XLA rounds what it
    fuses differently; the random bases in it always are.

    Args:
      path: of the file.

    Raises (when training begins):
      TypeError: if the optimizer is no `RandomBasesDescent`.
      ValueError: if the step is compiled, with `exchange="updates"`, after `exclude_from_weight_decay`,
        for a model that is not built under a strategy of several replicas, or if the optimizer has made
        steps that are not in the log.
      ReplayError: if the file at `path` is no log, or that of another run: of another seed, configuration
        or theta0. A learning rate, which callbacks may set, is compared after the first step.

    Example:
    >>> model.fit(x, y, callbacks=[rb.ReplayLog("run.log")])
    >>> rb.replay("run.log", build_model(), step=1000)
    """

    def __init__(self, path):
        super().__init__()
        self._path = os.fspath(path)
        self._file: Optional[BinaryIO] = None

    def on_train_begin(self, logs=None):
        del logs
        model, optimizer = self.model, self.model.optimizer
        if not isinstance(optimizer, RandomBasesDescent):
            raise TypeError(
                f"ReplayLog: the model's optimizer is a {type(optimizer).__name__}; it must be a "
                "RandomBasesDescent, without a LossScaleOptimizer around it."
            )
        if keras_api.step_is_compiled(model):
            raise ValueError("ReplayLog needs compile(..., jit_compile=False): see its docstring.")
        strategy = keras_api.strategy_of(model)
        refuse_ipus(strategy, "ReplayLog, which has the training step write to variables of its own,")
        optimizer.rule.record(self._keep)
        self._capacity = keras_api.steps_per_execution_of(model)
        self._scheduled = isinstance(_inner_config(optimizer)["learning_rate"], dict)
        model.make_train_function(force=True)  # an earlier `fit` has traced it without
        self._writes = strategies.is_chief(strategy)
        self._steps = _updates(optimizer)
        self._found: Optional[Dict[str, Any]] = None
        self._last: Optional[tf.Variable] = None
        if self._file is not None:  # of a `fit` that an error ended
            self._file.close()
            self._file = None
        if model.built:
            with strategy.scope():
                if optimizer.rule.subspace is None:
                    keras_api.build_optimizer(optimizer, model.trainable_variables)
                self._begin()
        elif strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"ReplayLog: model={model.name!r} is not built, which it must be under a strategy of "
                f"{strategy.num_replicas_in_sync} replicas: call it on a batch, or its `build`, first."
            )

    def _begin(self) -> None:
        """When model and optimizer are built, and no step of this `fit` is made."""
        _refuse_exclusions(self.model)
        shape = self.model.optimizer.rule.workers.shape
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
        self._theta0 = _hash(self.model.trainable_variables)
        if self._writes and os.path.exists(self._path) and os.path.getsize(self._path):
            self._found = _Log(self._path).header
            self._refuse_another(_before_first_step)

    def _keep(self, coordinates, updates):
        """Part of the step: notes its coordinates."""
        if self._last is None:  # a model that `fit` builds: it has weights since now, not yet moved
            with tf.init_scope():
                self._begin()
        rate = np.nan if self._scheduled else tf.convert_to_tensor(self.model.optimizer.learning_rate)
        row = tf.concat([[tf.cast(rate, tf.float32)], tf.reshape(coordinates, [-1])], axis=0)
        position = tf.cast(updates, tf.int32) % self._capacity
        self._last.assign(tf.tensor_scatter_nd_update(self._last.read_value(), [[position]], [row]))

    def _continue(self) -> None:
        """Opens the log of the steps made so far; cuts off what lies beyond."""
        if not os.path.exists(self._path):
            raise ValueError(
                f"path={self._path!r} does not exist, but the optimizer has made {self._steps} steps: a log "
                "begins with the first."
            )
        log = _Log(self._path)
        end, digest, weights = log.cut(self._steps)
        self._found = log.header
        self._theta0 = log.header["theta0_sha256"]
        self._refuse_another(_before_first_step)
        if weights and weights != _hash(self.model.trainable_variables):
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
        different = [name for name in wanted if wanted[name] != found[name]]
        if different:
            raise ReplayError(
                f"path={self._path!r} is the log of another run: it differs in {different}. Choose another "
                "path, or remove the file."
            )

    def _describe(self) -> Dict[str, Any]:
        rule = self.model.optimizer.rule
        return {
            "format_version": FORMAT_VERSION,
            "stream_version": STREAM_VERSION,
            "keras": keras_api.GENERATION,
            "optimizer": self.model.optimizer.get_config(),
            "rule": rule.get_config(),
            "workers": rule.workers.workers,
            "shape": list(rule.workers.shape),
            "variables": _describe(self.model.trainable_variables),
            "untouched": rule.untouched,
            "theta0_sha256": self._theta0,
        }

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        made = _updates(self.model.optimizer)
        if not self._writes or made == self._steps:
            return
        if self._file is None:
            self._create()
        assert made - self._steps <= self._capacity
        last = self._last.numpy()
        for step in range(self._steps, made):
            row = last[step % self._capacity].astype("<f4")
            self._record(b"S" + struct.pack("<q", step) + row.tobytes())
        self._steps = made
        self._file.flush()

    def _create(self) -> None:
        """A log with nothing but its header, when a step is made: only then are all its entries known."""
        if self._found is not None:
            self._refuse_another(_nameless)
        header = json.dumps(self._describe(), default=float, separators=(",", ":")).encode("utf-8")
        content = MAGIC + struct.pack("<I", len(header)) + header
        digest = hashlib.sha256(content).digest()
        # Whole or not at all: half a header could not be told from another's file.
        temporary = f"{self._path}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:
            file.write(content + digest)
        os.replace(temporary, self._path)
        self._file = open(self._path, "ab")
        self._digest = digest[:_DIGEST]

    def on_epoch_end(self, epoch, logs=None):
        del epoch, logs
        if self._file is not None:
            digest = bytes.fromhex(_hash(self.model.trainable_variables))
            self._record(b"H" + struct.pack("<q", self._steps) + digest)
            self._file.flush()
            os.fsync(self._file.fileno())

    def on_train_end(self, logs=None):
        del logs
        if self._file is not None:
            self._record(b"E" + struct.pack("<q", self._steps))
            self._file.close()
            self._file = None

    def _record(self, content: bytes) -> None:
        self._digest = _chained(self._digest, content)
        self._file.write(content + self._digest)


def _updates(optimizer) -> int:
    """The number of weight updates made; `int` alone does not know Keras 3's mirrored variables."""
    return int(tf.convert_to_tensor(optimizer.iterations))


def _refuse_exclusions(model: keras.Model) -> None:
    """Raises if the inner optimizer's weight decay leaves out variables: its configuration does not tell."""
    inner = model.optimizer.inner_optimizer
    if not getattr(inner, "weight_decay", None):  # Keras 2.6 has none
        return
    # Private: where both Keras remember it.
    excluded = [keras_api.path(v) for v in model.trainable_variables if not inner._use_weight_decay(v)]
    if excluded:
        raise ValueError(
            f"ReplayLog: exclude_from_weight_decay left out {excluded}, which an optimizer's configuration "
            "does not hold, so the run could not be replayed; train without weight decay or exclusions."
        )


def replay(log, model: keras.Model, step: Optional[int] = None) -> keras.Model:
    """Rebuilds the weights of a step of a logged run, without data or gradients.

    Args:
      log: path of a file that a `ReplayLog` wrote.
      model: a built Keras model with the weights from which the run started: of the same architecture
        and initialised with the same seed. Their hash tells whether they are.
      step: after how many steps; None: all, of a log whose training ended.

    Returns:
      `model` itself, changed in place: its trainable weights are those after `step` steps, bit for bit on
      the same kind of machine with the same TensorFlow; each hash on the way is checked.

    Raises:
      TypeError: if `model` is no Keras model.
      DamagedLogError: if the log is broken before that step, naming the record, or has no end.
      ReplayError: if it is for other random streams, another Keras, architecture or theta0, or if the
        weights' hash differs from a recorded one.
      ValueError: if `step` is out of range, or `model` not built.

    If any is raised, the model is as it was.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model={model!r} is a {type(model).__name__}; it must be a keras.Model.")
    if not model.built:
        raise ValueError(f"model={model.name!r} is not built: call it on a batch, or its `build`, first.")
    path = os.fspath(log)
    opened = _Log(path)
    header = opened.header
    expected = (
        ("format_version", FORMAT_VERSION),
        ("stream_version", STREAM_VERSION),
        ("keras", keras_api.GENERATION),
        ("variables", _describe(model.trainable_variables)),
        ("theta0_sha256", _hash(model.trainable_variables)),
    )
    for name, value in expected:
        if header[name] != value:
            raise ReplayError(f"log={path!r} has {name}={header[name]!r}; this model and version: {value!r}.")
    records = opened.upto(step)
    theta0 = [variable.numpy() for variable in model.trainable_variables]
    try:
        _go(header, model.trainable_variables, records, path)
    except BaseException:
        for variable, value in zip(model.trainable_variables, theta0):
            variable.assign(value)
        raise
    return model


def _go(header: Dict[str, Any], variables: Sequence, records: Sequence["_Record"], path: str) -> None:
    optimizer = RandomBasesDescent.from_config(header["optimizer"])
    rule, inner = optimizer.rule, optimizer.inner_optimizer
    paths = [getattr(v, "path", v.name).split(":")[0] for v in variables]
    rule.build([v.shape for v in variables], paths, header["workers"])
    keras_api.build_optimizer(inner, variables)
    moved = [i for i in range(len(variables)) if i not in header["untouched"]]

    @tf.function
    def advance(coordinates, updates):
        parts = rule.workers.expand(coordinates, rule.seed, rule.draw(updates))
        pairs = [(tf.cast(parts[i], variables[i].dtype), variables[i]) for i in moved]
        inner.apply_gradients(pairs)

    for record in records:
        if record.kind == b"H":
            if _hash(variables) != record.digest:
                raise ReplayError(
                    f"log={path!r}: the weights after {record.step} steps are not those of the run. Does "
                    "this machine compute as the one that wrote it?"
                )
            continue
        if not np.isnan(record.learning_rate):
            optimizer.learning_rate = record.learning_rate
        coordinates = record.coordinates.reshape(header["shape"])
        advance(tf.constant(coordinates), tf.constant(record.step, tf.int64))


class _Record(NamedTuple):
    kind: bytes
    step: int
    learning_rate: float = np.nan
    coordinates: Optional[np.ndarray] = None
    digest: str = ""


class _Log:
    """A log file: its checked header, and its records as far as they are whole."""

    def __init__(self, path: str):
        self._path = path
        with open(path, "rb") as file:
            self._content = file.read()
        begin = len(MAGIC) + 4
        if not self._content.startswith(MAGIC):
            raise DamagedLogError(f"log={path!r} is not a file that ReplayLog wrote.")
        (length,) = struct.unpack("<I", self._content[len(MAGIC) : begin].ljust(4, b"\0"))
        self._begin = begin + length + _HASH
        digest = hashlib.sha256(self._content[: begin + length]).digest()
        if self._content[begin + length : self._begin] != digest:
            raise DamagedLogError(f"log={path!r} has a header that is truncated or was altered.")
        self.header = json.loads(self._content[begin : begin + length].decode("utf-8"))
        self._digest = digest[:_DIGEST]
        floats = 1 + int(np.prod(self.header["shape"]))
        self._sizes = {b"S": 9 + 4 * floats, b"H": 9 + _HASH, b"E": 9}

    def _records(self) -> Iterator[Tuple[int, bytes, _Record]]:
        """(end of the record in the file, chained digest, record) of each.

        Raises:
          DamagedLogError: at the first that is broken.
        """
        position, digest, number = self._begin, self._digest, 0
        while position < len(self._content):
            kind = self._content[position : position + 1]
            end = position + self._sizes.get(kind, 0)
            content = self._content[position:end]
            digest = _chained(digest, content)
            if kind not in self._sizes or self._content[end : end + _DIGEST] != digest:
                raise DamagedLogError(
                    f"log={self._path!r} is truncated or was altered at record {number}, byte {position}."
                )
            (step,) = struct.unpack("<q", content[1:9])
            position, number = end + _DIGEST, number + 1
            if kind == b"S":
                numbers = np.frombuffer(content, "<f4", offset=9)
                yield position, digest, _Record(kind, step, float(numbers[0]), numbers[1:])
            else:
                yield position, digest, _Record(kind, step, digest=content[9:].hex())

    def upto(self, step: Optional[int]) -> List[_Record]:
        """The step and hash records of the first `step` steps; of all, of a log with an end, for None."""
        if step is not None and (not is_int(step) or step < 0):
            raise ValueError(f"step={step!r} must be an int of at least 0, or None.")
        kept, made = [], 0
        try:
            for _, _, record in self._records():
                if record.kind == b"E":
                    if step is None:
                        return kept
                    continue
                if step is not None and record.step + (record.kind == b"S") > step:
                    return kept
                kept.append(record)
                made += record.kind == b"S"
        except DamagedLogError as error:
            if step is not None and made >= step:
                return kept
            raise DamagedLogError(f"{error} The {made} steps before are whole: give step={made}.") from None
        if step is None:
            raise DamagedLogError(
                f"log={self._path!r} has no end: it was truncated, or its training was ended by force. The "
                f"{made} steps that it holds are whole: give step={made}."
            )
        if made < step:
            raise ValueError(f"step={step} is more than the {made} steps in log={self._path!r}.")
        return kept

    def cut(self, step: int) -> Tuple[int, bytes, str]:
        """Of the last record of the first `step` steps: end, chained digest, hash of the weights or ""."""
        end, digest, weights, made = self._begin, self._digest, "", 0
        try:
            for position, chained, record in self._records():
                if record.kind == b"E" or record.step + (record.kind == b"S") > step:
                    break
                end, digest, weights = position, chained, record.digest
                made += record.kind == b"S"
        except DamagedLogError:
            if made < step:
                raise
        if made < step:
            raise ReplayError(f"path={self._path!r} has {made} steps, but the optimizer has made {step}.")
        return end, digest, weights


def _chained(digest: bytes, content: bytes) -> bytes:
    return hashlib.sha256(digest + content).digest()[:_DIGEST]


def _describe(variables: Sequence) -> List[str]:
    # Without names, which Keras numbers by what else the process has built.
    return [f"{tf.as_dtype(v.dtype).name}{list(v.shape)}".replace(" ", "") for v in variables]


def _hash(variables: Sequence) -> str:
    digest = hashlib.sha256()
    for variable in variables:
        digest.update(np.asarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def _nameless(value):
    """A header without the names of optimizers, which Keras numbers by what else the process has built."""
    if isinstance(value, dict):
        return {key: _nameless(each) for key, each in value.items() if key != "name"}
    return value


def _before_first_step(header: Dict[str, Any]) -> Dict[str, Any]:
    """What is known of a header when training begins: without learning rates that callbacks may set."""
    header = _nameless(header)
    optimizer = header["optimizer"]["inner_optimizer"]
    config = dict(optimizer["config"])
    if not isinstance(config["learning_rate"], dict):
        del config["learning_rate"]
    return {**header, "optimizer": {**optimizer, "config": config}, "untouched": None}


def _inner_config(optimizer) -> Dict[str, Any]:
    return optimizer.inner_optimizer.get_config()
