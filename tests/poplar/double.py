"""Puts the double at its place, for a while."""

import contextlib
import os
import sys
from typing import NamedTuple
from unittest import mock

import tensorflow as tf

from random_bases import ipu
from random_bases.keras_api import keras
from tests.poplar import contract  # noqa: F401  (it skips where there is no Keras 2.6, which others import)

# isort: split
from tests.poplar import keras_fit, pipelines, random_ops, surface
from tests.poplar.config import SYSTEM


class Pod(NamedTuple):
    """What poprun tells a process: all replicas, and which of the instances it is."""

    replicas: int
    instances: int = 1
    index: int = 0

    def set_ipu_config(self, config, ipus_per_replica=1):
        config.auto_select_ipus = self.replicas // self.instances * ipus_per_replica
        config.experimental.multi_replica_distribution.process_count = self.instances
        config.experimental.multi_replica_distribution.process_index = self.index


@contextlib.contextmanager
def installed(pod=None, horovod=False, flags=""):
    """`tensorflow.python.ipu` can be imported inside; nothing is left of it outside.

    Args:
      pod: a `Pod`: as under poprun. None: without popdist.
      horovod: whether PopDistStrategy lies where SDK 2.6 has it.
      flags: TF_POPLAR_FLAGS, e.g. "--use_ipu_model".
    """
    modules = surface.modules(pod)
    if horovod:
        modules = {name.replace("ipu.distributed", "ipu.horovod"): m for name, m in modules.items()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(sys.modules, modules))
        stack.enter_context(mock.patch.dict(os.environ, {"TF_POPLAR_FLAGS": flags}))
        for name, method in keras_fit.patches().items():
            stack.enter_context(mock.patch.object(keras.Model, name, method, create=True))
        for name, function in random_ops.patches().items():
            stack.enter_context(mock.patch.object(random_ops.MODULE, name, function))
        stack.enter_context(pipelines.recorded())
        # TensorFlow may have several modules of one Keras.
        places = [sys.modules.get(name) for name in ("keras", "keras.api._v2.keras", "tensorflow.keras")]
        for place in {id(place): place for place in (*places, keras, tf.keras) if place}.values():
            stack.enter_context(mock.patch.object(place, "ipu", modules["keras.ipu"], create=True))
        stack.enter_context(_not_optimized())
        stack.enter_context(mock.patch.dict(ipu._MADE, clear=True))
        stack.enter_context(mock.patch.multiple(SYSTEM, config=None, pod=pod))
        yield


@contextlib.contextmanager
def _not_optimized():
    """Programs start in half the time; they run for a few steps only."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({**before, "disable_meta_optimizer": True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({**before, "disable_meta_optimizer": False})
