"""Keras's masks, and losses that they apply to."""

from typing import Any, Callable, Dict

import tensorflow as tf

from random_bases.keras_api.generation import GENERATION, keras


def masks_of(outputs: Any) -> Dict[int, tf.Tensor]:
    """The masks of a model's outputs, by their numbers in `tf.nest.flatten`; of those that have one.

    Keras keeps a mask as an attribute of a tensor. It is lost wherever another tensor takes its place: on the
    way out of a `tf.function`, a loop, an indexing operation.
    """
    each = enumerate(tf.nest.flatten(outputs))
    found = {index: getattr(output, "_keras_mask", None) for index, output in each}
    return {index: tf.convert_to_tensor(mask) for index, mask in found.items() if mask is not None}


def with_masks(outputs: Any, masks: Dict[int, tf.Tensor]) -> Any:
    """`outputs` with `masks` on them, for Keras's losses and metrics."""
    flat = tf.nest.flatten(outputs)
    for index, each in masks.items():
        flat[index]._keras_mask = each
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
