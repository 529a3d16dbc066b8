"""How Keras on the IPU knows a subclassed model's layers: it calls `call` on symbolic inputs, before `fit`.

The layers between those inputs and what `call` returns become the model's, in place of the ones that its
attributes hold: those that are not called are no longer among its layers and weights.
"""

import tensorflow as tf
from keras.engine import base_layer_utils, functional

from random_bases.keras_api import keras

# What a subclassed model has of a Functional one there, for the graph that is traced.
OF_FUNCTIONAL = {
    name: getattr(functional.Functional, name)
    for name in (
        "_init_graph_network",
        "_compute_tensor_usage_count",
        "_set_output_names",
        "_validate_graph_inputs_and_outputs",
    )
}


def is_subclassed(model):
    return not isinstance(model, functional.Functional)  # which Sequential is, too


def is_traced(model):
    """Whether a model has a graph: of subclassed ones only if they were traced."""
    return not is_subclassed(model) or "_double_traced" in vars(model)


def build(model, x_spec):
    """What Keras does before it runs a model: with shapes and types of a batch of inputs."""
    if isinstance(model, keras.Sequential):
        if not model._has_explicit_input_shape:
            model._build_graph_network_for_inferred_shape(_shape(x_spec), x_spec.dtype)
    elif not is_traced(model):
        inputs = tf.nest.map_structure(
            lambda spec: keras.Input(batch_shape=_shape(spec), dtype=spec.dtype), x_spec
        )
        trace(model, inputs)


def build_of_shapes(model, input_shape):
    """`Model.build` of a subclassed model there: outside of a call it traces, too."""
    if base_layer_utils.call_context().in_call:
        keras.layers.Layer.build(model, input_shape)
        return
    shape = tuple(input_shape)
    several = any(isinstance(each, (tuple, list, tf.TensorShape)) for each in shape)
    inputs = [keras.Input(batch_shape=each) for each in (shape if several else [shape])]
    trace(model, inputs if several else inputs[0])


def trace(model, inputs):
    """Calls a subclassed model's `call` on Keras tensors and takes the graph between them."""
    for layer in model.layers:
        layer._inbound_nodes.clear()
        layer._outbound_nodes.clear()
    required = model._call_full_argspec.args[2:]
    if model._call_full_argspec.defaults:
        required = required[: -len(model._call_full_argspec.defaults)]
    named = {"training": False} if "training" in required else {}
    with base_layer_utils.call_context().enter(layer=model, inputs=inputs, build_graph=True, training=None):
        if not model.built:
            shapes = tf.nest.map_structure(lambda tensor: tuple(tensor.shape), inputs)
            model.build(shapes)
        outputs = model.call(inputs, **named)
    model._init_graph_network(inputs, outputs)
    model._init_call_fn_args()
    model._is_graph_network = False
    object.__setattr__(model, "_double_traced", True)


def calls(model):
    """The calls of layers in a model's graph, in the order of execution, as Keras's nodes."""
    known = {id(tensor) for tensor in model.inputs}
    found = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input and all(id(tensor) in known for tensor in node.keras_inputs):
                found.append(node)
                known |= {id(tensor) for tensor in tf.nest.flatten(node.outputs)}
    return found


def _shape(spec):
    return (*spec.shape, 1) if len(spec.shape) == 1 else tuple(spec.shape)
