"""Random numbers as the IPU draws them: a function of seed, shape and type; on the IPU Model of no seed.

A stock CPU gives a shorter draw as the beginning of a longer one; on the IPU another shape gives other
values, and so it is here.
"""

import zlib

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import gen_stateless_random_ops_v2 as MODULE

from tests.poplar.config import running_on_ipu_model
from tests.poplar.strategy import IPUStrategyV1

_seed_words = MODULE.stateless_random_get_key_counter


def _on_ipu():
    return isinstance(tf.distribute.get_strategy(), IPUStrategyV1) and not tf.executing_eagerly()


def _get_key_counter(seed, name=None):
    if not _on_ipu():
        return _seed_words(seed, name)
    seed = tf.convert_to_tensor(seed)
    if seed.dtype != tf.int32 or seed.shape != [2]:
        raise TypeError(f"A seed of {seed.dtype.name} {seed.shape}: the IPU takes int32 [2].")
    return seed, seed  # until the shape is known


def _draws(operation):
    def draw(shape, key, counter, alg, **others):
        if _on_ipu():
            mix = zlib.crc32(repr((operation.__name__, tf.get_static_value(shape).tolist())).encode())
            seed = tf.zeros_like(key) if running_on_ipu_model() else key
            key, counter = _seed_words(tf.bitwise.bitwise_xor(seed, np.uint32(mix).astype(np.int32)))
        return operation(shape, key=key, counter=counter, alg=alg, **others)

    return draw


def patches():
    """{name in MODULE: what takes its place}."""
    names = ("random_normal", "random_uniform", "random_uniform_int", "random_uniform_full_int")
    draws = {f"stateless_{name}_v2": _draws(getattr(MODULE, f"stateless_{name}_v2")) for name in names}
    return {"stateless_random_get_key_counter": _get_key_counter, **draws}
