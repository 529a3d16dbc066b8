"""Stochastic weight averaging, and the moving statistics of averaged networks.

Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson 2018, "Averaging Weights Leads to Wider Optima
and Better Generalization" (arXiv:1803.05407), section 3.2.
"""

from pathlib import Path
from typing import Iterable, List, Union

import numpy as np
import tensorflow as tf

from random_bases import keras_api
from random_bases.averaging.snapshots import Trajectory, opened, set_weights
from random_bases.batches import counted
from random_bases.keras_api import keras
from random_bases.models.subspace_model import clone_model


def average(model: keras.Model, trajectory: Union[Trajectory, str, Path]) -> keras.Model:
    """SWA: a new model with the plain average of the recorded weights.

    Its other variables are the last snapshot's: where there is BatchNormalization,
    `recompute_batch_statistics` must follow.

    Args:
      model: a built model of the architecture that was recorded; it is left as it is.
      trajectory: a `Trajectory`, or the directory of one.

    Raises:
      TypeError: if an argument is none of these.
      TrajectoryError: if files are damaged, or of another architecture.
      ValueError: if Keras cannot clone the model.
    """
    trajectory = opened(trajectory)
    trajectory.check_model(model)
    averaged = clone_model(model)
    set_weights(averaged, trajectory.average(), trajectory.state(-1), trajectory.adapted)
    return averaged


def recompute_batch_statistics(model: keras.Model, batches: Iterable) -> int:
    """Sets BatchNormalization's moving statistics to the averages over batches, in one pass.

    The batches go through the model in training mode; the means and variances that each layer finds in
    them are averaged, weighted by the number of examples, in float64. Layers that are frozen keep
    theirs. Nothing is trained.

    Args:
      model: a built model; changed in place.
      batches: of inputs, or tuples that begin with inputs, as `fit` takes them; finitely many.

    Returns:
      The number of layers that were set.

    Raises:
      ValueError: if there are such layers but no batches.
    """
    layers = [
        layer
        for layer in keras_api.layers_of(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not layers:
        return 0
    statistics = [variable for layer in layers for variable in (layer.moving_mean, layer.moving_variance)]
    momenta = [layer.momentum for layer in layers]
    for variable in statistics:  # a value that is not finite would stay even without momentum
        variable.assign(tf.zeros_like(variable))
    for layer in layers:
        layer.momentum = 0.0  # then the moving statistics are the last batch's
    forward = tf.function(lambda inputs: model(inputs, training=True), autograph=False)
    try:
        totals: List[np.ndarray] = [np.zeros(variable.shape) for variable in statistics]
        examples = 0
        for batch, count in counted("batches", batches):
            forward(batch[0] if isinstance(batch, tuple) else batch)
            examples += count
            for total, variable in zip(totals, statistics):
                total += count * variable.numpy()
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum
    for variable, total in zip(statistics, totals):
        variable.assign((total / examples).astype(np.float32))
    return len(layers)
