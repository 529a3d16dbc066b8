"""One run from one configuration, in one directory.

A run is a function of its configuration. Its directory holds

| file           | content                                                              |
| -------------- | -------------------------------------------------------------------- |
| `config.json`  | the configuration                                                    |
| `metrics.csv`  | a row an epoch                                                       |
| `tensorboard/` | the same as TensorBoard events                                       |
| `checkpoints/` | the state after the last two epochs                                  |
| `result.json`  | written at the end: metrics, timings, versions, seed, command        |

A run that was killed and is started again goes on after its last epoch with a whole checkpoint and ends with
the same weights, bit for bit, as one that was not: order and augmentation of the data and the random bases
are functions of (seed, step), and everything else is in the checkpoint. So a finished run that is started
with more epochs goes on, too, where its epochs do not depend on their number.
"""

import contextlib
import dataclasses
import errno
import math
import os
import platform
import re
import shlex
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union

import ml_collections
import numpy as np
import tensorflow as tf
from ml_collections import config_dict

import random_bases
from experiments import checkpoints, datasets, ipu_runs, methods, networks, results, workers
from random_bases import arguments, files, keras_api, locks, strategies
from random_bases.batches import without_autotuning
from random_bases.keras_api import keras

# Steps a device runs without returning to Python: more save no time and make the progress bar coarse.
_MOST_STEPS_PER_EXECUTION = 150

_CANNOT_BE_WRITTEN = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),  # full
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR),
)


class DivergedError(RuntimeError):
    """The loss of a run became infinite or not a number."""


def default_config() -> ml_collections.ConfigDict:
    """The configuration of a run, each key with its default; what configs/ start from.

    Keys:
      dataset: "digits", "mnist", "fashion_mnist" or "cifar10".
      data_dir: directory with `<dataset>.npz`; "" takes `keras.datasets`.
      augment: whether training images are augmented, as in the paper.
      crop_padding, brightness: in place of the data set's own: zeros on each side before cropping, and the
        largest value added to an image's pixels (white is 1); None: the paper's.
      network: a name in `experiments.networks`.
      method: "sgd" (plain), "fpd" (a fixed random basis), "rbd" (redrawn every step); "nes" or "rbd-nes"
        (see `methods.evolution`); "twa", "swa" or "dldr" (see `methods.averaging`).
      optimizer: a Keras optimizer by name, used as it is or inside `RandomBasesDescent`; for "dldr" also
        "bfgs" or "l-bfgs-b", for which an epoch is an iteration.
      learning_rate: None takes the one of `learning_rates` for the method.
      learning_rates: method -> learning rate; the methods that the configuration is for.
      schedule: "constant", or "linear": the learning rate falls to zero, by equal amounts each epoch.
      dimensions, basis, compartments, allocation: of `RandomBasesDescent`; `compartments` also takes
        a number ("10") or sizes ("1000,2000") as a string. With evolution `dimensions` is the population.
        With "rbd", "fpd" and the basis "kronecker" the network is a `SubspaceModel` whose layers compute the
        gradient of the coordinates, unless `error_feedback`, `replicas` or `exchange` need the whole one.
      error_feedback: of "rbd": 0: none; 1: what a step's directions do not see is remembered; between: the
        leak. The learning rate is then SGD's own.
      strategy: where it runs, as in `random_bases.strategies`; with several workers `workdir` must be a
        directory that all of them see.
      replicas, exchange: of `RandomBasesDescent`, with a strategy of several replicas.
      ipus: the number of replicas of the strategy "ipu", an IPU each.
      generator: of bases of independent entries: "counter", the same directions everywhere, or "native", the
        device's own.
      batch_size, epochs: of training; an incomplete last batch of an epoch is dropped.
      seed: of initial weights, data and directions.
      sigma: of the perturbations of evolution; None: 0.01 for "nes", 0.002 for "rbd-nes".
      fitness, antithetic, update_scale: of `NaturalEvolutionStrategies`.
      record: keep the weights in `workdir/trajectory`: "" (not), "epoch", or every so many steps ("500").
      trajectory: the directory that "twa", "swa" and "dldr" take weights from.
      snapshots: which of them: "first:end", counted from 0, either may be left out; "": all.
      regularization: of "twa" and "dldr": `TrainableWeightAveraging`'s.
    """
    return ml_collections.ConfigDict(
        {
            "dataset": "digits",
            "data_dir": "",
            "augment": True,
            "crop_padding": config_dict.placeholder(int),
            "brightness": config_dict.placeholder(float),
            "network": "fc",
            "method": "rbd",
            "strategy": "auto",
            "batch_size": 32,
            "epochs": 100,
            "seed": 0,
            **methods.default_keys(),
            **ipu_runs.default_keys(),
        }
    )


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError or TypeError for unknown or missing keys, wrong types and bad values."""
    check_keys(config, default_config())
    check_task(config)
    methods.check_names(config.learning_rates)
    methods.get(config.method).check(config)
    ipu_runs.check(config)
    for key in ("batch_size", "epochs"):
        if config[key] < 1:
            raise ValueError(f"config.{key}={config[key]} must be at least 1.")
    _check_augmentation(config)
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"config.seed={config.seed} must be in [0, 2**31).")


def _check_augmentation(config: ml_collections.ConfigDict) -> None:
    for key in ("crop_padding", "brightness"):
        value = config[key]
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"config.{key}={value} must be at least 0.")
        if value is not None and not config.augment:
            raise ValueError(f"config.{key}={value} has no effect with config.augment=False; leave one out.")


def check_task(config: ml_collections.ConfigDict) -> None:
    """Raises ValueError unless `config` names a data set and a network that there are."""
    arguments.one_of("config.dataset", config.dataset, datasets.NAMES)
    arguments.one_of("config.network", config.network, networks.NAMES)


def check_keys(config: ml_collections.ConfigDict, default: ml_collections.ConfigDict) -> None:
    """Raises ValueError or TypeError unless `config` has the keys of `default` and values of its types."""
    unknown = sorted(set(config) - set(default))
    missing = sorted(set(default) - set(config))
    if unknown or missing:
        raise ValueError(
            f"config has unknown keys {unknown} and lacks {missing}; allowed: {sorted(default)}."
        )
    for key in default:
        kind = default.get_type(key)
        # What has no default is a number.
        allowed = (kind, int, type(None)) if default[key] is None else (kind,)
        value = config[key]
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise TypeError(f"config.{key}={value!r} must be of type {kind.__name__}.")


def run(
    config: ml_collections.ConfigDict,
    workdir: Union[str, Path],
    overwrite: bool = False,
    verbose: Union[int, str] = 1,
) -> Dict[str, Any]:
    """Runs a configuration in `workdir`, or what is left of it, and returns its result.

    Args:
      config: as `default_config`.
      workdir: the run's directory; made if absent.
      overwrite: start anew and discard what the directory holds of a run.
      verbose: 0: silent, 1 or 2: as `keras.Model.fit`, "run": one progress bar for the whole run.

    Returns:
      What `result.json` holds. A finished run is not run again: its result is returned. With more
      epochs than it had it goes on.

    Raises:
      ValueError, TypeError: for a configuration that is not allowed, or one that differs from that of
        the run in `workdir`.
      FileNotFoundError: if its data is not there.
      InUseError: if another process trains in `workdir`.
      OSError: naming it, if something cannot be written or read.
      DamagedError: if `workdir` holds a damaged run: `overwrite` discards it.
      DivergedError: if the loss became infinite or not a number, now or in the run found there.
    """
    check_config(config)
    if overwrite and config.strategy == "multi_worker":
        raise ValueError("overwrite is not possible with several workers; remove the directory before.")
    strategy = ipu_runs.strategy(config)
    workdir = Path(workdir)
    content = None if overwrite else _found(config, workdir)
    if content is None:
        chief = strategies.is_chief(strategy)
        if chief:
            workdir.mkdir(parents=True, exist_ok=True)
        with locks.held(workdir) if chief else contextlib.nullcontext():
            content = _run_what_is_left(config, workdir, overwrite, strategy, verbose)
    if content["status"] == "diverged":
        raise DivergedError(content.get("message", "The run diverged."))
    return content


def _run_what_is_left(
    config: ml_collections.ConfigDict,
    workdir: Path,
    overwrite: bool,
    strategy: tf.distribute.Strategy,
    verbose: Union[int, str],
) -> Dict[str, Any]:
    """Trains to the end, and writes the result, in a directory that is locked."""
    # Again: it may have ended while this process was about to lock.
    chief = strategies.is_chief(strategy)
    if chief:
        files.remove_temporaries(workdir)
    content = None if overwrite else _found(config, workdir)
    if content is not None:
        return content
    heartbeat = workers.Heartbeat(strategy)
    # What a configuration is refused for is raised here; after that the directory is this run's.
    prepared = _Prepared(config, strategy)
    if overwrite:
        _discard(workdir)
    if chief:
        results.write_json(workdir / "config.json", config.to_dict())
    with _naming_files(workdir):
        content = prepared.train(workdir, heartbeat, verbose)
    if chief:
        results.write_json(workdir / "result.json", content)
    return content


@contextlib.contextmanager
def _naming_files(workdir: Path) -> Iterator[None]:
    """Raises an OSError that names a file for one that names none, and for TensorFlow's own kind."""
    try:
        with files.naming(workdir):
            yield
    except tf.errors.OpError as error:  # "{{node}} <path>; <the system's words>", and more lines
        line = re.sub(r"^\{\{.*?\}\} ", "", (error.message or "").partition("\n")[0])
        for number in _CANNOT_BE_WRITTEN:
            if os.strerror(number).lower() in line.lower():
                raise OSError(number, line, str(workdir)) from error
        raise


def _found(config: ml_collections.ConfigDict, workdir: Path) -> Optional[Dict[str, Any]]:
    """The result found in `workdir`; None if there is none, or of fewer epochs.

    Raises:
      ValueError: if `workdir` holds a run of another configuration.
    """
    # Where the data lies does not change the run.
    free = ("data_dir", "epochs") if _goes_on(config, workdir) else ("data_dir",)
    results.check_config(workdir / "config.json", config.to_dict(), free, default_config().to_dict())
    path = workdir / "result.json"
    content = results.read_result(path)
    if content and content["status"] == "finished" and content["config"]["epochs"] < config.epochs:
        return None
    return content


def _goes_on(config: ml_collections.ConfigDict, workdir: Path) -> bool:
    """Whether the run in `workdir` is the beginning of this one: it has no more epochs behind it.

    It may have been meant to have more, and was killed.
    """
    if len(results.read_metrics(workdir / "metrics.csv")) > config.epochs:
        return False
    return config.schedule == "constant" and methods.get(config.method).trains_by_steps(config)


def _discard(workdir: Path) -> None:
    for name in ("config.json", "metrics.csv", "result.json"):
        if (workdir / name).exists():
            (workdir / name).unlink()
    for name in ("checkpoints", "tensorboard", "trajectory"):
        if (workdir / name).exists():
            tf.io.gfile.rmtree(str(workdir / name))


class _Prepared:
    """All that a run trains with, built: what a configuration can be refused for has been looked at.

    Raises:
      ValueError, TypeError: if it is refused.
      FileNotFoundError: if its data is not there.
    """

    def __init__(self, config: ml_collections.ConfigDict, strategy: tf.distribute.Strategy):
        self._config, self._strategy = config, strategy
        self._method = method = methods.get(config.method)
        self._data = data = _load(config)
        self._steps = steps = datasets.steps_per_epoch(data.train, config.batch_size)
        keras.backend.clear_session()  # many runs in one process would pile up
        keras_api.set_random_seed(config.seed)
        replicas = strategies.replicas(strategy)
        at_once = steps_per_execution(steps, replicas)
        with strategy.scope():
            network = networks.get(config.network, data.input_shape, data.num_classes)
            parameters = methods.descent.size(network)
            self._model = model = method.prepare(config, network)
            self._report = _describe(config, parameters, method.trained_dimensions(config, model))
            self._report["steps_per_epoch"] = steps
            if not method.trains_by_steps(config):
                return
            self._optimizer = optimizer = method.optimizer(config, methods.descent.size(model))
            keras_api.compile_model(
                model,
                optimizer=optimizer,
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
                steps_per_execution=at_once,
                jit_compile=jit_compile(config.network) and replicas == 1,
            )
            keras_api.build_optimizer(optimizer, model.trainable_variables)
            ipu_runs.prepare_model(model, strategy)
        self._fit, self._updates, self._batches_per_update = method.trainer(config, model, optimizer, steps)
        self._report["steps_per_epoch"] = float(self._updates)
        # Where replicas take turns at one dataset, each takes a batch for a step.
        turns = ipu_runs.local_replicas(strategy) if method.shares_batches else 1
        self._steps_of_fit = self._updates * turns
        method.check_fit(config, model, self._batches(0), self._steps_of_fit, at_once)
        self._validation = ipu_runs.evaluation_batches(data.validation, strategy)
        self._test = ipu_runs.evaluation_batches(data.test, strategy)

    def _batches(self, epoch: int) -> tf.data.Dataset:
        """Those of training, from the beginning of an epoch."""
        batches = datasets.training_batches(
            self._data.train,
            self._config.batch_size,
            seed=self._config.seed,
            start_step=int(epoch * self._updates) * self._batches_per_update,
            augment=self._config.augment,
        )
        batches = without_autotuning(batches)
        if not self._method.shares_batches:
            return batches
        return workers.share_batches(batches, self._config.batch_size, self._strategy)

    def train(self, workdir: Path, heartbeat: workers.Heartbeat, verbose: Union[int, str]) -> Dict[str, Any]:
        """Trains to the end and returns the content of `result.json`."""
        config, method, model = self._config, self._method, self._model
        if not method.trains_by_steps(config):
            with self._strategy.scope():
                return dict(self._report, **method.solve(config, model, self._data))
        own = workers.own_directory(self._strategy, workdir)
        checkpoint = checkpoints.EpochCheckpoint(
            model,
            self._optimizer,
            config.to_dict(),
            default_config().to_dict(),
            workdir / "checkpoints",
            own / "checkpoints",
        )
        epoch = checkpoint.restore(most=len(results.read_metrics(workdir / "metrics.csv")))
        metrics = own / "metrics.csv"
        results.keep_epochs(workdir / "metrics.csv", epoch, metrics)  # every worker has all rows at the end
        callbacks = [
            _StopOnDivergence(self._updates),
            _EpochSeconds(),
            workers.ReportTraffic(),
            heartbeat,
            keras.callbacks.CSVLogger(str(metrics), append=True),
            keras.callbacks.TensorBoard(str(own / "tensorboard"), profile_batch=0),
            *method.callbacks(config, own),
            checkpoint,
        ]
        if verbose == "run":
            callbacks.append(_RunProgress(self._updates))
        try:
            self._fit(
                self._batches(epoch),
                validation_data=self._validation,
                steps_per_epoch=self._steps_of_fit,
                initial_epoch=epoch,
                epochs=config.epochs,
                callbacks=callbacks,
                verbose=0 if verbose == "run" else verbose,
                shuffle=False,  # the dataset is shuffled
            )
        except DivergedError as error:
            return dict(self._report, status="diverged", message=f"{error} Metrics: {metrics}.")
        model = method.finish(config, model, self._data)
        _, test_accuracy = model.evaluate(self._test, verbose=0)
        return dict(
            self._report,
            status="finished",
            **_summarise(results.read_metrics(metrics), float(self._updates)),
            test_accuracy=float(test_accuracy),
        )


def _load(config: ml_collections.ConfigDict) -> datasets.ImageDataset:
    data = datasets.load(config.dataset, config.data_dir or None)
    side = min(data.input_shape[:2])
    if config.crop_padding is not None and config.crop_padding > side:
        raise ValueError(
            f"config.crop_padding={config.crop_padding} must be at most {side}, an image's side."
        )
    asked = {"pad": config.crop_padding, "brightness": config.brightness}
    asked = {name: value for name, value in asked.items() if value is not None}
    preprocessing = data.train.preprocessing._replace(**asked)
    return dataclasses.replace(data, train=dataclasses.replace(data.train, preprocessing=preprocessing))


def jit_compile(network: str) -> bool:
    """Whether a network's training step is compiled as a whole; its random bases always are.

    On a CPU convolutions are slower inside XLA.
    """
    return network == "fc"


def steps_per_execution(steps: int, replicas: int = 1) -> int:
    """How many of an epoch's steps a device runs without returning to Python."""
    if replicas > 1 and not keras_api.fit_loops_over_replicas():
        return 1  # it fails on more, as on jit_compile, with stock optimizers too
    # A divisor: Keras would run past the end of an epoch otherwise.
    return max(n for n in range(1, min(steps, _MOST_STEPS_PER_EXECUTION) + 1) if steps % n == 0)


def _describe(config: ml_collections.ConfigDict, parameters: int, dimensions: int) -> Dict[str, Any]:
    return {
        "config": config.to_dict(),
        "learning_rate": methods.get(config.method).learning_rate(config),
        "parameters": parameters,
        "trained_dimensions": dimensions,
        "seed": config.seed,
        **environment(),
    }


def environment() -> Dict[str, Any]:
    """The command, versions and machine of this process, for its results."""
    return {
        "command": " ".join(shlex.quote(argument) for argument in [sys.executable, *sys.argv]),
        "versions": {
            "random_bases": random_bases.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "machine": _machine(),
    }


def _machine() -> str:
    """As "AMD EPYC 7B13, 2 cores, 0 GPU"."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    model = ", ".join(sorted(models)) or platform.processor() or platform.machine()
    return f"{model}, {os.cpu_count()} cores, {len(tf.config.list_logical_devices('GPU'))} GPU"


def _summarise(rows, steps: float) -> Dict[str, Any]:
    # The first epoch traces and compiles; if there is no other it must do.
    timed = [row["seconds"] for row in rows[1:]] or [row["seconds"] for row in rows]
    return {
        "accuracy": [row["accuracy"] for row in rows],
        "validation_accuracy": [row["val_accuracy"] for row in rows],
        "loss": [row["loss"] for row in rows],
        "validation_loss": [row["val_loss"] for row in rows],
        "seconds": sum(row["seconds"] for row in rows),
        "milliseconds_per_step": 1e3 * float(np.median(timed)) / steps,
    }


class _EpochSeconds(keras.callbacks.Callback):
    """Adds the seconds of an epoch's training, without its validation, to its logs."""

    def on_epoch_begin(self, epoch, logs=None):
        del epoch, logs
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        self._seconds = time.perf_counter() - self._start

    def on_epoch_end(self, epoch, logs=None):
        del epoch
        logs["seconds"] = self._seconds


class _StopOnDivergence(keras.callbacks.Callback):
    """Ends a run whose loss is not finite with an error, unlike `TerminateOnNaN`, which ends it well."""

    def __init__(self, steps: Union[int, Fraction]):
        super().__init__()
        self._steps = steps

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise DivergedError(
                f"The run diverged: mean loss {loss} by step {int(self._epoch * self._steps) + batch + 1} "
                f"(epoch {self._epoch + 1}). A smaller learning rate may help."
            )


class _RunProgress(keras.callbacks.Callback):
    """One progress bar for a whole run, of Keras's own kind."""

    def __init__(self, updates: Union[int, Fraction]):
        super().__init__()
        self._updates = updates
        self._bar: Optional[Any] = None

    def on_train_begin(self, logs=None):
        del logs
        self._bar = keras.utils.Progbar(
            int(self._updates * self.params["epochs"]),
            stateful_metrics=["accuracy", "val_accuracy"],
        )

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self._start = int(epoch * self._updates)

    def on_train_batch_end(self, batch, logs=None):
        # The last update waits for the validation accuracy: it ends the bar's line.
        if self._start + batch + 1 < self._bar.target:
            self._bar.update(self._start + batch + 1, [("accuracy", logs["accuracy"])])

    def on_epoch_end(self, epoch, logs=None):
        values = [(name, logs[name]) for name in ("accuracy", "val_accuracy")]
        self._bar.update(int((epoch + 1) * self._updates), values)
