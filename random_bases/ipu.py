"""Graphcore's IPU: strategies for the IPUs of one machine and of a POD, and what Keras needs there.

Here alone, and inside functions, `tensorflow.python.ipu` is imported: it comes with the TensorFlow 2.6 of
Graphcore's Poplar SDK. Nothing of this has run on an IPU yet: docs/ipu.md tells what was tested how.

Replicas of one machine's IPUs run one program that `tf.distribute` takes for one replica; Keras sums their
gradients and does not divide them. Under poprun Keras knows all replicas and divides the loss.
"""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

import tensorflow as tf

from random_bases import device
from random_bases.arguments import boolean, integer, one_of

CONNECTIONS = ("always", "on_demand", "never", "pre_compile")
STOCHASTIC_ROUNDING = ("off", "replica_identical")

# Strategy's name -> (options, strategy): a process configures its IPUs once.
_MADE: Dict[str, Tuple[Dict[str, Any], tf.distribute.Strategy]] = {}


def installed() -> bool:
    """Whether this TensorFlow is the Poplar SDK's."""
    try:
        from tensorflow.python import ipu  # noqa: F401
    except ImportError:
        return False
    return True


def strategy(
    replicas: int = 1,
    ipus_per_replica: int = 1,
    select_ipus: Sequence[int] = (),
    connection: str = "always",
    version: str = "",
    exceptions: bool = False,
    stochastic_rounding: str = "off",
) -> tf.distribute.Strategy:
    """Configures this machine's IPUs and returns their `IPUStrategy`; for `random_bases.strategies.get`.

    Args:
      replicas: how many run the program, each on data of its own.
      ipus_per_replica: IPUs of a replica, a power of two; more than 1 for models in pipeline stages.
      select_ipus: the number of a device of `gc-info -l`, one that has all these IPUs, in a list, in place
        of the first free one.
      connection: when the process attaches: "always" (at once), "on_demand", or "never" and "pre_compile",
        which compile only and need `version`.
      version: of the IPU to compile for: "ipu1", "ipu2" or "ipu21".
      exceptions: whether invalid operations, divisions by zero, overflows and NaNs stop the program.
      stochastic_rounding: of float16: "off", or "replica_identical": on where all replicas compute the same.

    Raises:
      RuntimeError: without the SDK, or if this process has configured its IPUs in another way.
      ValueError: for an option that is not allowed.
    """
    replicas = integer("replicas", replicas, 1)
    options = {
        "replicas": replicas,
        "ipus_per_replica": ipus_per_replica,
        "select_ipus": list(select_ipus),
        "connection": connection,
        "version": version,
        "exceptions": exceptions,
        "stochastic_rounding": stochastic_rounding,
    }

    def make():
        from tensorflow.python import ipu

        config = _config(options)
        if select_ipus:
            config.select_ipus = list(select_ipus)
        else:
            config.auto_select_ipus = replicas * ipus_per_replica
        config.configure_ipu_system()
        return ipu.ipu_strategy.IPUStrategy()

    return _once("ipu", options, make)


def pod_strategy(
    ipus_per_replica: int = 1,
    connection: str = "always",
    version: str = "",
    exceptions: bool = False,
    stochastic_rounding: str = "off",
) -> tf.distribute.Strategy:
    """Configures this instance's IPUs as poprun says and returns a `PopDistStrategy`.

    To be called in each of the processes that `poprun` starts, which tells them the number of replicas. The
    arguments are those of `strategy`.

    Raises:
      RuntimeError, ValueError: as `strategy`.
    """
    options = {
        "ipus_per_replica": ipus_per_replica,
        "connection": connection,
        "version": version,
        "exceptions": exceptions,
        "stochastic_rounding": stochastic_rounding,
    }

    def make():
        popdist = _popdist()
        config = _config(options)
        popdist.tensorflow.set_ipu_config(config, ipus_per_replica=ipus_per_replica)
        config.configure_ipu_system()
        return _popdist_strategy()()

    return _once("ipu_pod", options, make)


def is_strategy(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy is one of Graphcore's."""
    return any(cls.__module__.startswith("tensorflow.python.ipu.") for cls in type(strategy).__mro__)


def replicas(strategy: tf.distribute.Strategy) -> int:
    """How many replicas run the programs of one of Graphcore's strategies, over all instances."""
    if _is_pod(strategy):
        return strategy.num_replicas_in_sync
    options = _options_of(strategy)
    if options.get("select_ipus"):
        return options["replicas"]  # before it attaches, a device's number does not tell how many IPUs it has
    from tensorflow.python import ipu

    # NumPy's int64 there, of which a share would be a float64, which the IPU lacks.
    count = int(ipu.utils.get_num_of_ipus_in_device(strategy.extended.worker_devices[0]))
    return count // ipus_per_replica(strategy)


def ipus_per_replica(strategy: tf.distribute.Strategy) -> int:
    """How many IPUs a replica of a strategy made here has; 1 for others."""
    return _options_of(strategy).get("ipus_per_replica", 1)


def instances(strategy: tf.distribute.Strategy) -> Tuple[int, int]:
    """(number of this process, number of processes) that a strategy's replicas are spread over."""
    if not _is_pod(strategy):
        return 0, 1
    popdist = _popdist()
    return popdist.getInstanceIndex(), popdist.getNumInstances()


def replication_index() -> tf.Tensor:
    """The number of the replica that runs the program, int32 scalar."""
    from tensorflow.python import ipu

    return ipu.replication_ops.replication_index()


def all_gather(x: tf.Tensor, replicas: int) -> tf.Tensor:
    """`x` of every replica: [replicas, ...]."""
    from tensorflow.python import ipu

    return ipu.all_to_all_op.all_gather(x, replication_factor=replicas)


def mean_gradients(grads_and_vars) -> List[Tuple[Optional[tf.Tensor], Any]]:
    """`gradient_aggregator` of a Keras 2.6 optimizer: the mean over replicas, where Keras takes the sum.

    So that a learning rate means the same for every number of replicas. `RandomBasesDescent` needs none.

    Example:
    >>> optimizer = keras.optimizers.SGD(0.1, gradient_aggregator=random_bases.ipu.mean_gradients)
    """
    context = tf.distribute.get_replica_context()
    pairs = list(grads_and_vars)
    present = [tf.convert_to_tensor(gradient) for gradient, _ in pairs if gradient is not None]
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present) if present else ())
    share = 1.0
    if is_strategy(context.strategy):
        share = context.num_replicas_in_sync / replicas(context.strategy)
    return [
        (None if gradient is None else next(summed) * tf.cast(share, gradient.dtype), variable)
        for gradient, variable in pairs
    ]


def _options_of(strategy: tf.distribute.Strategy) -> Dict[str, Any]:
    return next((options for options, made in _MADE.values() if made is strategy), {})


def _config(options: Dict[str, Any]):
    from tensorflow.python import ipu

    _check_options(options)
    config = ipu.config.IPUConfig()
    config.compilation_poplar_options = {"target.deterministicWorkers": "portable"}
    connection = options["connection"]
    config.device_connection.type = getattr(ipu.config.DeviceConnectionType, connection.upper())
    if options["version"]:
        config.device_connection.version = options["version"]
    if connection != "always":
        config.device_connection.enable_remote_buffers = True
    for name in ("inv", "div0", "oflo", "nanoo"):  # not set_all, which turns stochastic rounding on
        setattr(config.floating_point_behaviour, name, options["exceptions"])
    rounding = ipu.config.StochasticRoundingBehaviour
    config.floating_point_behaviour.esr = rounding.OFF
    if options["stochastic_rounding"] == "replica_identical":
        config.floating_point_behaviour.esr = rounding.REPLICA_IDENTICAL_ONLY
        config.experimental.enable_prng_stability = True
    return config


def _check_options(options: Dict[str, Any]) -> None:
    each = options["ipus_per_replica"]
    each = integer("ipus_per_replica", each, 1)
    if each & (each - 1):
        raise ValueError(f"ipus_per_replica={each} must be a power of two.")
    for name, allowed in (("connection", CONNECTIONS), ("stochastic_rounding", STOCHASTIC_ROUNDING)):
        one_of(name, options[name], allowed)
    versions = ("", "ipu1", "ipu2", "ipu21")
    one_of("version", options["version"], versions)
    if options["connection"] in ("never", "pre_compile") and not options["version"]:
        raise ValueError(f"connection={options['connection']!r} needs version: {versions[1:]}.")
    boolean("exceptions", options["exceptions"])


def _once(name: str, options: Dict[str, Any], make) -> tf.distribute.Strategy:
    if not installed():
        raise RuntimeError(
            f'strategy "{name}" needs tensorflow.python.ipu, which this TensorFlow {tf.__version__} does not '
            "have: it comes with the TensorFlow 2.6 of Graphcore's Poplar SDK, see docs/ipu.md. To run on a "
            'CPU take strategy "cpu".'
        )
    if not _MADE:
        _MADE[name] = options, make()
    if name not in _MADE or _MADE[name][0] != options:
        raise RuntimeError(
            f'strategy "{name}" with {options} is asked for, but this process has configured its IPUs for '
            f"{ {other: made for other, (made, _) in _MADE.items()} }; allowed: one configuration."
        )
    return _MADE[name][1]


def _is_pod(strategy: tf.distribute.Strategy) -> bool:
    return any(cls.__module__.endswith("popdist_strategy") for cls in type(strategy).__mro__)


def _popdist():
    try:
        import popdist
        import popdist.tensorflow
    except ImportError as error:
        raise RuntimeError(
            'strategy "ipu_pod" needs popdist, of the Poplar SDK, and to be started by poprun, see '
            'docs/ipu.md; one machine\'s IPUs need neither: take strategy "ipu".'
        ) from error
    return popdist


def _popdist_strategy():
    """The class, where SDK 3.0 and later have it, or where SDK 2.6 has."""
    try:
        from tensorflow.python.ipu.distributed import popdist_strategy
    except ImportError:
        from tensorflow.python.ipu.horovod import popdist_strategy
    return popdist_strategy.PopDistStrategy


def _data_replicas(strategy: tf.distribute.Strategy) -> int:
    """As `replicas`; refuses models in pipeline stages, whose replicas have no device of their own."""
    if ipus_per_replica(strategy) > 1:
        raise ValueError(
            f"ipus_per_replica={ipus_per_replica(strategy)}: RandomBasesDescent needs the gradients of all "
            "pipeline stages in one place; allowed: 1."
        )
    return replicas(strategy)


def _seeds_native() -> bool:
    """Not on the IPU's software model, where every seed would give the same directions."""
    return "--use_ipu_model" not in os.environ.get("TF_POPLAR_FLAGS", "").split()


device.register(
    device.Device(
        name="IPU",
        is_of=is_strategy,
        compiles_whole=True,
        has_complex=False,
        has_own_variables=False,
        seeds_native=lambda: _seeds_native(),
        # 23 kB of the 624 kB of each of 1,472 tiles, or a few times that while normals are made of words. The
        # software model may have a few tiles only.
        tile_bytes=lambda: 2**25 if _seeds_native() else 2**20,
        tile_rows=None,
        # Estimated from Poplar's sources: a step saves and restores the generators' seeds and reduces over
        # all tiles, in 50 to 100 times the time that 2 rows of 10^5 samples take.
        step_bytes=2**26,
        count_replicas=_data_replicas,
        count_processes=lambda strategy: instances(strategy)[1],
        process_index=lambda strategy: instances(strategy)[0],
        replica_index=lambda context: replication_index(),
        all_gather=lambda context, x, count: all_gather(x, count),
    )
)
