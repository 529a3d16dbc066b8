"""Where training runs: `tf.distribute` strategies by name."""

import functools
import inspect
import json
import logging
import os
import re
import socket
import time

import tensorflow as tf

from random_bases import arguments, device, ipu
from random_bases.keras_api import fit_reduces_over_hosts

_SECONDS_FOR_HOSTS = 300.0  # that workers' hosts may take to become known, as Kubernetes pods do

NAMES = ("auto", "cpu", "gpu", "mirrored", "multi_worker", "ipu", "ipu_pod")


def get(name: str, **options) -> tf.distribute.Strategy:
    """Returns a strategy; build and compile models in its `scope()`.

    Args:
      name: "cpu": TensorFlow's default strategy, one replica; "gpu": this machine's GPUs, a replica each;
        "ipu": this machine's IPUs; "ipu_pod": those of all instances that poprun has started; "auto": "ipu"
        if TensorFlow is the Poplar SDK's, else "gpu" if there are GPUs, else "cpu", and logs which;
        "mirrored": a replica for each GPU or, without GPUs, for each logical CPU device of TensorFlow;
        "multi_worker": a replica for each device of each of several processes, which TF_CONFIG or, without
        it, Slurm's variables name.
      **options: of "ipu" and "ipu_pod" only: see `random_bases.ipu.strategy` and `pod_strategy`.

    Returns:
      The strategy. A process has one of a kind: asking again returns the same.

    Raises:
      ValueError: for an unknown name or option; for "multi_worker" if TF_CONFIG is not possible.
      RuntimeError: where that strategy cannot work, saying what it needs.

    Example:
    >>> with rb.strategies.get("auto").scope():
    ...     model.compile(rb.RandomBasesDescent("sgd", dimensions=250), loss="mse")
    """
    if options and name not in ("ipu", "ipu_pod"):
        raise ValueError(
            f'strategy "{name}" has no options, got {sorted(options)}; only "ipu", "ipu_pod" have.'
        )
    if name == "auto":
        name = _best()
        logging.getLogger("random_bases").info('strategy "auto" takes "%s"', name)
    if name == "cpu":
        return tf.distribute.get_strategy()
    if name == "gpu":
        gpus = tf.config.list_logical_devices("GPU")
        if not gpus:
            raise RuntimeError('strategy "gpu" found no GPU; allowed without one: "cpu", "mirrored".')
        return _mirrored(tuple(gpu.name for gpu in gpus))
    if name == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return _mirrored(tuple(device.name for device in devices))
    if name == "multi_worker":
        return _multi_worker()
    if name in ("ipu", "ipu_pod"):
        make = ipu.strategy if name == "ipu" else ipu.pod_strategy
        return make(**_known(name, make, options))
    raise ValueError(f"strategy={name!r} is unknown; allowed: {NAMES}.")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files: the first of several workers."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type:
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return resolver.task_type == "chief"
    return resolver.task_type == "worker" and resolver.task_id == 0


def replicas(strategy: tf.distribute.Strategy) -> int:
    """How many replicas a strategy has, over all processes: on the IPU `tf.distribute` does not see them."""
    return ipu.replicas(strategy) if ipu.is_strategy(strategy) else strategy.num_replicas_in_sync


def call(strategy: tf.distribute.Strategy, function):
    """function() as a program of `strategy`'s device, if that compiles programs as a whole; else here.

    What was drawn on the chip must be drawn there again.
    """
    if not device.of(strategy).compiles_whole or device.in_whole_program():
        return function()
    with strategy.scope():
        return strategy.run(tf.function(function, jit_compile=True, autograph=False))


def _best() -> str:
    if ipu.installed():
        return "ipu"
    return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"


def _known(name, make, options):
    unknown = sorted(set(options) - set(inspect.signature(make).parameters))
    if unknown:
        allowed = tuple(inspect.signature(make).parameters)
        raise ValueError(f'strategy "{name}" has no options {unknown}; allowed: {allowed}.')
    return options


def _check_tf_config(text: str) -> None:
    """Raises ValueError, naming what is wrong, where TensorFlow would wait without end or end the process."""
    name = "TF_CONFIG in the environment"
    try:
        content = json.loads(text)
        workers = content["cluster"][content["task"]["type"]]
        addresses = [address for job in content["cluster"].values() for address in job]
        index = int(content["task"]["index"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{name} is {text!r} ({type(error).__name__}: {error}); allowed: "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.'
        ) from None
    arguments.integer(f"{name}: task.index", index, 0, len(workers) - 1)
    for address in addresses:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not (host and re.fullmatch("[0-9]{1,5}", port)):
            raise ValueError(f'{name} has the address {address!r}; allowed: "host:port".')
        _wait_for_host(name, host.strip("[]"), int(port))


def _wait_for_host(name: str, host: str, port: int) -> None:
    """Returns when the host is known; that of a pod that is about to start is not yet."""
    deadline = time.monotonic() + _SECONDS_FOR_HOSTS
    said = False
    while True:
        try:
            socket.getaddrinfo(host, port)
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise ValueError(f"{name} has the host {host!r}, which is not known here: {error}.") from None
        if not said:
            logging.getLogger("random_bases").warning(
                "%s has the host %r, which is not known here yet; waiting for it for %g seconds",
                *(name, host, _SECONDS_FOR_HOSTS),
            )
            said = True
        time.sleep(1.0)


# A second one in a process aborts in its collectives (TensorFlow 2.21).
@functools.lru_cache(maxsize=None)
def _mirrored(devices):
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(list(devices))


@functools.lru_cache(maxsize=None)
def _multi_worker():
    if not fit_reduces_over_hosts():
        raise RuntimeError(
            'strategy "multi_worker" does not work with Keras 3, whose fit cannot reduce values over hosts; '
            "install tf-keras and set TF_USE_LEGACY_KERAS=1."
        )
    if "TF_CONFIG" in os.environ:
        _check_tf_config(os.environ["TF_CONFIG"])
        return tf.distribute.MultiWorkerMirroredStrategy()
    if "SLURM_STEP_NODELIST" in os.environ:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    raise RuntimeError(
        'strategy "multi_worker" needs TF_CONFIG, which scripts/launch_workers.py sets, or a Slurm step; '
        "see docs/distributed.md."
    )
