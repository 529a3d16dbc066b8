"""Refuses functions in models that keep a weight's value beyond the call it belongs to, or lose its gradient.

A trace that a `tf.function` makes in one call is used again in later ones, with the weights of the first.
A function with a gradient of its own (`tf.custom_gradient`, and so `tf.recompute_grad` and `keras.remat`)
has a gradient for its arguments and for variables, but for no tensor that is read in a variable's place;
and what is computed again for the gradient reads the variable itself. Nobody would see.
"""

import sys
import types
from typing import List, Optional

import tensorflow as tf

_ADVICE = "which SubspaceModel does not support: remove the decorator."

# Private: that they are still there is asserted. What they call while they watch variables is the function.
_CUSTOM_GRADIENT = sys.modules[tf.recompute_grad.__module__]
_DECORATORS = (
    _CUSTOM_GRADIENT._eager_mode_decorator.__code__,
    _CUSTOM_GRADIENT._graph_mode_decorator.__code__,
)
assert all("variable_watcher" in code.co_varnames for code in _DECORATORS)


def users_classes(layer) -> List[type]:
    """The classes of a layer that are not Keras's."""
    return [
        cls
        for cls in type(layer).__mro__
        if cls.__module__.split(".")[0] not in ("keras", "tf_keras", "tensorflow", "builtins")
    ]


def refuse_decorated_methods(layer) -> None:
    """Raises if a method of the layer's class is a `tf.function`, which may have traces already.

    Raises:
      ValueError: naming the method.
    """
    for cls in users_classes(layer):  # the one there is in Keras gets the weights as arguments
        for name, attribute in vars(cls).items():
            if isinstance(attribute, tf.types.experimental.GenericFunction):
                raise ValueError(f"{cls.__name__}.{name} is a tf.function, {_ADVICE}")


def refuse_inner_function(name: str, value: tf.Tensor) -> None:
    """Raises if `value`, a weight's, is about to be captured by a `tf.function` inside the model.

    Loops and branches have graphs of another type, and are traced anew with the graph around them.

    Raises:
      ValueError: naming the weight.
    """
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None and graph is not getattr(value, "graph", None):
        if type(graph) is tf.__internal__.FuncGraph:
            raise ValueError(
                f"The model reads its weight {name!r} inside a tf.function of its own, {_ADVICE}"
            )
        graph = getattr(graph, "outer_graph", None)


def count_custom_gradients() -> int:
    """How many functions with gradients of their own the caller is in."""
    count = 0
    frame: Optional[types.FrameType] = sys._getframe(1)
    while frame is not None:
        # Not while it converts its arguments: their gradient arrives.
        count += frame.f_code in _DECORATORS and "variable_watcher" in frame.f_locals
        frame = frame.f_back
    return count


def refuse_custom_gradient(name: str, outside: Optional[int]) -> None:
    """Raises if a weight is read in a function with a gradient of its own.

    Args:
      name: the weight's.
      outside: what `count_custom_gradients` returned outside of the model; None: there is no gradient.

    Raises:
      ValueError: naming the weight.
    """
    if outside is not None and count_custom_gradients() > outside:
        raise ValueError(
            f"The model reads its weight {name!r} in a function with a gradient of its own "
            "(tf.custom_gradient, tf.recompute_grad, keras.remat), which would not reach it: give the "
            "function the weight as an argument, or do not recompute that part."
        )
