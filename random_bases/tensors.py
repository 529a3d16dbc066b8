"""Lists of tensors, one for each variable of a network, and what they are made of."""

from typing import Any, List, Sequence, Tuple

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

Shape = Sequence[int]


def as_shapes(shapes: Sequence[Any]) -> List[Tuple[int, ...]]:
    """Shapes of any kind (`tf.TensorShape`, lists) as tuples of ints."""
    return [tuple(int(n) for n in shape) for shape in shapes]


def size_of(shape: Shape) -> int:
    """The number of elements of a tensor of this shape."""
    return int(np.prod(tuple(shape), dtype=np.int64))


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """All elements of the tensors in one vector; all of one dtype."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], axis=0)


def split(vector: Tensor, shapes: Sequence[Shape]) -> List[Tensor]:
    """The tensors of these shapes that `flat` has made a vector of."""
    pieces = tf.split(vector, [size_of(shape) for shape in shapes])
    return [tf.reshape(piece, shape) for piece, shape in zip(pieces, shapes)]


def densify(gradient: Any, shape: Shape) -> Tensor:
    """A gradient as a dense tensor of its variable's shape, whether it was `IndexedSlices` or not."""
    if isinstance(gradient, tf.IndexedSlices):
        # tf.convert_to_tensor would warn, and forget the shape where it is a tensor of a graph.
        summed = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, shape[0])
        return tf.reshape(summed, shape)
    gradient = tf.convert_to_tensor(gradient)
    # Its own shape may be unknown, as of a Dense kernel with inputs of rank 3 and any batch size.
    return gradient if gradient.shape.is_fully_defined() else tf.ensure_shape(gradient, shape)


def float_tensor(name: str, value: Any, shape: Tuple[int, ...]) -> Tensor:
    """`value` as a tensor.

    Raises:
      TypeError: if it is not floating-point; `name` says which argument.
      ValueError: if it has another shape than `shape`.
    """
    value = _tensor(name, value)
    if not value.dtype.is_floating:
        raise TypeError(f"{name} has dtype {value.dtype.name}; a floating-point one is needed.")
    if value.shape != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; allowed: {shape}.")
    return value


def int32_scalar(name: str, value: Any) -> Tensor:
    """`value` as an int32 scalar tensor.

    Raises:
      TypeError: if it is None; `name` says which argument.
      ValueError: if it is not an integer, not a scalar or, where its value is known, not an int32.
    """
    value = _tensor(name, value)
    if not value.dtype.is_integer or value.shape.rank != 0:
        raise ValueError(f"{name} must be an integer scalar, not {value.dtype.name} of shape {value.shape}.")
    if value.dtype != tf.int32:
        known = tf.get_static_value(value)
        if known is not None and not -(2**31) <= known < 2**31:
            raise ValueError(f"{name}={known} is out of range; allowed: an int32.")
    return tf.cast(value, tf.int32)


def _tensor(name: str, value: Any) -> Tensor:
    if value is None:  # TensorFlow's own message names no argument
        raise TypeError(f"{name}=None must be a number, an array or a tensor.")
    return tf.convert_to_tensor(value)
