"""What the program at hand runs on: the IPU's compiler lacks types that those of CPU and GPU have."""

import functools
import logging
import os

import tensorflow as tf


def is_of_ipus(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy is one of Graphcore's."""
    return any(cls.__module__.startswith("tensorflow.python.ipu.") for cls in type(strategy).__mro__)


def on_ipu() -> bool:
    """Whether the strategy at hand is one of Graphcore's."""
    return is_of_ipus(tf.distribute.get_strategy())


def refuse_ipus(strategy: tf.distribute.Strategy, what: str) -> None:
    """Raises ValueError for `what` does not work under one of Graphcore's strategies, if it is one."""
    if is_of_ipus(strategy):
        raise ValueError(f"{what} does not work on the IPU; docs/ipu.md lists what does.")


def in_ipu_program() -> bool:
    """Whether a program for the IPU, which is compiled as a whole, is being traced."""
    return not tf.executing_eagerly() and on_ipu()


def generator_at_hand(generator: str) -> str:
    """`generator`, but "counter" for "native" on the IPU Model, whose own knows no seeds, with a log line.

    There every direction would be the same.
    """
    if generator == "native" and on_ipu() and ipu_model():
        _tell()
        return "counter"
    return generator


def ipu_model() -> bool:
    """Whether the IPU is its software model."""
    return "--use_ipu_model" in os.environ.get("TF_POPLAR_FLAGS", "").split()


@functools.lru_cache(maxsize=None)
def _tell() -> None:
    logging.getLogger("random_bases").warning(
        'generator="native" is replaced by "counter": the IPU Model ignores seeds, and every direction would '
        "be the same."
    )
