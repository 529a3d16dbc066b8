"""What the program at hand runs on, as far as it differs from CPUs and GPUs.

Nothing here knows another device: ipu.py registers its own.
"""

from typing import Callable, List, NamedTuple, Optional

import tensorflow as tf
from tensorflow import Tensor

from random_bases import arguments


class Device(NamedTuple):
    """A kind of device, and what its programs can and cannot.

    Attributes:
      name: for messages.
      is_of: whether a strategy runs programs on it.
      compiles_whole: whether a program is compiled as a whole, so that no part of it is by itself.
      has_complex: whether it has complex numbers.
      has_own_variables: whether a variable may have another value in each replica.
      seeds_native: whether its own generator heeds seeds, asked when a program is traced.
      tile_bytes: how many bytes of samples are best drawn at a time, asked when a program is traced.
      tile_rows: of how many directions at most; None: any number.
      step_bytes: a step of a loop takes as much time as drawing so many bytes of samples.
      count_replicas: how many replicas run a strategy's programs, over all processes.
      count_processes: how many processes these are.
      process_index: which one this is, asked only where `compiles_whole`.
      replica_index: which one runs the program, int32 scalar, from a replica context.
      all_gather: (context, x, count) -> x of every replica, [count, ...].
    """

    name: str
    is_of: Callable[[tf.distribute.Strategy], bool]
    compiles_whole: bool
    has_complex: bool
    has_own_variables: bool
    seeds_native: Callable[[], bool]
    tile_bytes: Callable[[], int]
    tile_rows: Optional[int]
    step_bytes: int
    count_replicas: Callable[[tf.distribute.Strategy], int]
    count_processes: Callable[[tf.distribute.Strategy], int]
    process_index: Optional[Callable[[tf.distribute.Strategy], int]]
    replica_index: Callable[..., Tensor]
    all_gather: Callable[..., Tensor]

    def refuse(self, what: str) -> None:
        """Raises ValueError, saying that `what` does not work here, unless this is a CPU or GPU."""
        if self is not _STOCK:
            raise ValueError(f"{what} does not work on the {self.name}; docs/ipu.md lists what does.")


def _processes(strategy: tf.distribute.Strategy) -> int:
    """Of TensorFlow's own strategies; the default one has no devices."""
    replicas = strategy.num_replicas_in_sync
    return 1 if replicas == 1 else replicas // len(strategy.extended.worker_devices)


_STOCK = Device(
    name="CPU or GPU",
    is_of=lambda strategy: True,
    compiles_whole=False,
    has_complex=True,
    has_own_variables=True,
    seeds_native=lambda: True,
    tile_bytes=lambda: 2**20,  # as much as fits the cores' own caches
    tile_rows=8,  # few enough for a compiler to unroll their sum, and so to vectorise the loop around it
    step_bytes=2**16,
    count_replicas=lambda strategy: strategy.num_replicas_in_sync,
    count_processes=_processes,
    process_index=None,  # `tf.distribute` tells replicas apart
    replica_index=lambda context: tf.cast(context.replica_id_in_sync_group, tf.int32),
    all_gather=lambda context, x, count: context.all_gather(x[tf.newaxis], axis=0),
)

_OTHERS: List[Device] = []


def register(device: Device) -> None:
    """Makes a kind of device known."""
    _OTHERS.append(device)


def of(strategy: tf.distribute.Strategy) -> Device:
    """The device of a strategy's programs."""
    return next((device for device in _OTHERS if device.is_of(strategy)), _STOCK)


def at_hand() -> Device:
    """The device of the strategy at hand."""
    return of(tf.distribute.get_strategy())


def seed(value: Optional[int]) -> int:
    """`arguments.seed`, of what all processes of the strategy at hand must draw alike.

    Raises:
      TypeError, ValueError: as `arguments.seed`; ValueError for None with several processes, each of which
        would draw another one.
    """
    processes = at_hand().count_processes(tf.distribute.get_strategy())
    if value is None and processes > 1:
        raise ValueError(f"seed=None would be another one in each of {processes} processes; give an int.")
    return arguments.seed(value)


def in_whole_program() -> bool:
    """Whether a program that is compiled as a whole is being traced."""
    return not tf.executing_eagerly() and at_hand().compiles_whole
