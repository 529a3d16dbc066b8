"""Refuses what would keep a weight's value beyond the call it belongs to."""

import tensorflow as tf


def refuse_inner_function(name: str, value: tf.Tensor) -> None:
    """Raises if `value`, a weight's, is about to be captured by a `tf.function` inside the model.

    Its trace would be used again in later calls, with the value of this one, and nobody would see.
    Loops and branches have graphs of another type, and are traced anew with the graph around them.

    Raises:
      ValueError: naming the weight.
    """
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None and graph is not getattr(value, "graph", None):
        if type(graph) is tf.__internal__.FuncGraph:
            raise ValueError(
                f"The model reads its weight {name!r} inside a tf.function of its own, which SubspaceModel "
                "does not support: remove the decorator from the `call` of the model or of its layers."
            )
        graph = getattr(graph, "outer_graph", None)
