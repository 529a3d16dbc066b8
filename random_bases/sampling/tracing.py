"""How programs are traced: parts that many share, and nothing that compilers do not know."""

import contextlib
import functools
import sys
from typing import Callable, Iterator, List, Sequence

import tensorflow as tf

# Private: where TensorFlow keeps whether it is busy with the checks of tf.debugging, for each thread.
_CONTEXT = sys.modules["tensorflow.python.eager.context"]
assert isinstance(_CONTEXT.Context.invoking_op_callbacks, property)
# Private, too: where the scope is in which no tape records; the module's name has changed.
_RECORD = sys.modules.get("tensorflow.python.eager.record") or sys.modules["tensorflow.python.eager.tape"]
assert hasattr(_RECORD, "stop_recording")


def unwatched(tensors: Sequence[tf.Tensor]) -> List[tf.Tensor]:
    """The same values, which no tape watches. Those of TensorFlow 2.6 watch `stop_gradient`s."""
    with _RECORD.stop_recording():
        return [tf.identity(tensor) for tensor in tensors]


@contextlib.contextmanager
def without_checks() -> Iterator[None]:
    """What is traced inside has none of `tf.debugging.enable_check_numerics`'s operations, which XLA lacks.

    What uses its results outside is checked as ever.
    """
    context = _CONTEXT.context()
    before = context.invoking_op_callbacks
    context.invoking_op_callbacks = True
    try:
        yield
    finally:
        context.invoking_op_callbacks = before


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
        with without_checks():
            return program(shapes, tensors, constants)

    return call
