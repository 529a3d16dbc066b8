"""Refuses what would keep a weight's value beyond the call it belongs to: `tf.function`s in models.

A trace made in one call is used again in later ones, with the weights of the first, and nobody would
see.
"""

from typing import List

import tensorflow as tf

_ADVICE = "which SubspaceModel does not support: remove the decorator."


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
