"""The one place that chooses a Keras: that of `tf.keras`, whichever generation it is.

Everything else in the package imports `keras` from here. Three generations are supported:

| `GENERATION`  | comes with                                   | optimizer API               |
| ------------- | -------------------------------------------- | --------------------------- |
| `"keras3"`    | TensorFlow >= 2.16                           | `keras.Optimizer` of Keras 3 |
| `"tf_keras"`  | TensorFlow >= 2.16, `TF_USE_LEGACY_KERAS=1`  | the one of Keras 2.11 - 2.15 |
| `"keras2.6"`  | the Poplar SDK's TensorFlow 2.6              | `OptimizerV2`               |
"""

import importlib
import os
import random
from typing import Any, Callable, Dict

import numpy as np
import tensorflow as tf

_requested = os.environ.get("KERAS_BACKEND", "tensorflow")
if _requested != "tensorflow":
    raise ImportError(
        f"random_bases needs Keras on TensorFlow, but KERAS_BACKEND={_requested!r}. "
        "Unset it, or set KERAS_BACKEND=tensorflow."
    )

if tf.__version__.startswith("2.6."):
    keras = tf.keras
else:
    # Since TF 2.16 `tf.keras` is a reduced view of one of two packages: `keras` or `tf_keras`.
    keras = importlib.import_module(tf.keras.Model.__module__.split(".")[0])
KERAS_VERSION = tuple(int(part) for part in keras.__version__.split(".")[:2])

if KERAS_VERSION >= (3, 0):
    GENERATION = "keras3"
    if keras.config.backend() != "tensorflow":
        raise ImportError(
            "random_bases needs Keras on TensorFlow, but Keras is configured (keras.json) for "
            f"{keras.config.backend()!r}. Set KERAS_BACKEND=tensorflow."
        )
elif KERAS_VERSION >= (2, 11):
    GENERATION = "tf_keras"
elif KERAS_VERSION == (2, 6):
    GENERATION = "keras2.6"
else:
    raise ImportError(
        f"random_bases does not know Keras {keras.__version__}; use TensorFlow >= 2.16, or the "
        "Poplar SDK's TensorFlow 2.6."
    )


def set_random_seed(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, and so Keras's initialisers (Keras 2.6 has no function for it).

    Args:
      seed: an int in [0, 2**32).
    """
    if GENERATION == "keras2.6":
        random.seed(seed)
        np.random.seed(seed)
        tf.random.set_seed(seed)
    else:
        keras.utils.set_random_seed(seed)


def register_serializable(cls):
    """Class decorator: let Keras rebuild `cls` from a saved configuration without `custom_objects`."""
    if GENERATION == "keras3":
        return keras.saving.register_keras_serializable(package="random_bases")(cls)
    return keras.utils.register_keras_serializable(package="random_bases")(cls)


def compile_model(model, jit_compile: bool, **arguments) -> None:
    """`model.compile`; Keras 2.6 has no `jit_compile` and runs the step as a graph.

    Random bases are compiled either way: see `random_bases.bases.basis.Basis`.
    """
    if GENERATION != "keras2.6":
        arguments["jit_compile"] = jit_compile
    model.compile(**arguments)


def build_optimizer(optimizer, variables) -> None:
    """Creates an optimizer's variables, so that a checkpoint can be restored into them."""
    if GENERATION == "keras2.6":
        optimizer._create_all_weights(variables)
    else:
        optimizer.build(variables)


def add_float32_weight(layer, **arguments):
    """`layer.add_weight` of a float32 weight that reads as float32 under every dtype policy."""
    name = "autocast" if GENERATION == "keras3" else "experimental_autocast"
    return layer.add_weight(dtype="float32", **{name: False}, **arguments)


def masks_of(outputs: Any) -> Dict[int, tf.Tensor]:
    """The masks of a model's outputs, by their numbers in `tf.nest.flatten`; of those that have one.

    Keras keeps a mask as an attribute of a tensor. It is lost wherever another tensor takes its place: on the
    way out of a `tf.function`, a loop, an indexing operation.
    """
    each = enumerate(tf.nest.flatten(outputs))
    found = {number: getattr(output, "_keras_mask", None) for number, output in each}
    return {number: tf.convert_to_tensor(mask) for number, mask in found.items() if mask is not None}


def with_masks(outputs: Any, masks: Dict[int, tf.Tensor]) -> Any:
    """`outputs` with `masks` on them, for Keras's losses and metrics."""
    flat = tf.nest.flatten(outputs)
    for number, each in masks.items():
        flat[number]._keras_mask = each
    return outputs


class _Function(keras.losses.Loss):
    """A function (y, predictions) -> losses as a loss that masks and weights apply to."""

    def __init__(self, function: Callable):
        super().__init__(name="function")
        self._function = function

    def call(self, y_true, y_pred):
        return self._function(y_true, y_pred)


def mean_loss(loss: Callable, y: Any, predictions: Any) -> tf.Tensor:
    """The mean of a Keras loss, or a function (y, predictions) -> losses, masked as in a compiled model.

    Returns:
      A float32 scalar.
    """
    mask = getattr(predictions, "_keras_mask", None)
    arguments = {}
    if mask is not None:
        if not isinstance(loss, keras.losses.Loss):
            loss = _Function(loss)
        if GENERATION == "keras2.6":  # where only compiled models apply masks: as weights
            arguments["sample_weight"] = tf.cast(mask, predictions.dtype)
    return tf.reduce_mean(tf.cast(loss(y, predictions, **arguments), tf.float32))


def strategy_of(model) -> tf.distribute.Strategy:
    """The strategy in whose scope a model was made."""
    return model.distribute_strategy


def step_is_compiled(model) -> bool:
    """Whether XLA compiles a compiled model's training step as a whole."""
    if GENERATION == "keras3":
        return bool(model.jit_compile)
    return bool(getattr(model, "_jit_compile", False))  # Keras 2.6 has none


def steps_per_execution_of(model) -> int:
    """How many steps `fit` runs without returning to Python."""
    if GENERATION == "keras3":
        return int(model.steps_per_execution)
    return int(model._steps_per_execution.numpy())
