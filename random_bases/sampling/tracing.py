"""Parts that many programs share."""

import functools
from typing import Callable

import tensorflow as tf


def traced_once(function: Callable) -> Callable:
    """`function` of tensors, traced once for all programs that call it with the same shapes.

    Building a graph of hundreds of small operations takes longer than compiling it. Compilers inline
    the call, so programs are the same. Keyword arguments are constants.
    """

    @tf.function(autograph=False)
    def program(shapes, tensors, constants):
        del shapes
        return function(*tensors, **constants)

    @functools.wraps(function)
    def call(*tensors, **constants):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, tensors)
        # By themselves [1, 1] and [11] would be the same for TensorFlow 2.6.
        shapes = str([tensor.shape for tensor in tf.nest.flatten(tensors)])
        return program(shapes, tensors, constants)

    return call
