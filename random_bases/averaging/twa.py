"""Trainable weight averaging and training in the subspace of a trajectory's principal components.

Sources: TWA: Li, Huang, Wu, He, Tao, Huang, Lin 2022, "Trainable Weight Averaging" (arXiv:2205.13104,
ICLR 2023). DLDR: Li, Tan, Huang, Tao, Liu, Huang 2021, "Low Dimensional Trajectory Hypothesis is True:
DNNs can be Trained in Tiny Subspaces" (arXiv:2103.11154).
"""

from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from random_bases import arguments
from random_bases.averaging.sharding import ShardedParametrisation, Shards, share_out
from random_bases.averaging.snapshots import Trajectory, opened, set_weights
from random_bases.bases import TrajectoryBasis
from random_bases.bases.trajectory import gram_schmidt, principal_components
from random_bases.keras_api import keras, register_serializable
from random_bases.models.parametrisation import Parametrisation
from random_bases.models.subspace_model import SubspaceModel, clone_model

BASES = ("gram_schmidt", "pca")
STARTS = ("average", "first", "last")


@register_serializable
class TrainableWeightAveraging(SubspaceModel):
    """A Keras model that trains in the span of weights that it once had: theta = start + P c.

    TWA (Li et al. 2022): P is the orthonormal basis that Gram and Schmidt make of the recorded weights.
    The start lies in their span, so training c is training the weights of an average. With principal
    components for P, and the first weights for the start, it is P-SGD of DLDR (Li et al. 2021). P is
    kept in memory, d times the size of the weights.

    It is compiled and fitted like any Keras model, with any optimizer. As P is orthonormal, SGD on c is
    SGD on the weights with the gradient projected: P-SGD. BatchNormalization's moving statistics start as
    in the last snapshot; when trained, `recompute_batch_statistics` gives the weights their own. To save
    it, save what `materialize()` returns.

    Built under a `tf.distribute` strategy with K replicas, each of them holds d / K of the directions: see
    `random_bases.averaging.sharding`.

    Args:
      model: a built Keras model of the architecture that was recorded; it is left as it is.
      trajectory: a `Trajectory`, or the directory of one.
      basis: "gram_schmidt", "pca", or a `TrajectoryBasis`.
      dimensions: how many principal components; for "pca" only.
      start: where c = 0 is: "average", "first" or "last" of the recorded weights, or arrays of the
        shapes of `model.trainable_variables`.
      regularization: lambda: lambda / 2 times the sum of squares of the weights is added to the loss,
        which is the weight decay of the authors' code (github.com/nblt/TWA: 1e-5), projected. An
        optimizer's own weight decay would pull towards the start instead.
      name: of the model.

    Raises:
      TrajectoryError: if files are damaged, or of another architecture.
      TypeError, ValueError: if an argument has a wrong type or a wrong value.

    Example:
    >>> twa = rb.TrainableWeightAveraging(model, "trajectory")
    >>> twa.compile(keras.optimizers.SGD(0.5, momentum=0.9), loss="sparse_categorical_crossentropy")
    >>> twa.fit(images, labels, epochs=5)
    >>> trained = twa.materialize()
    >>> rb.averaging.recompute_batch_statistics(trained, batches_of_images)
    """

    def __init__(
        self,
        model: keras.Model,
        trajectory: Union[Trajectory, str, Path],
        basis: Union[str, TrajectoryBasis] = "gram_schmidt",
        dimensions: Optional[int] = None,
        start: Union[str, Sequence[np.ndarray]] = "average",
        regularization: float = 0.0,
        name: str = "trainable_weight_averaging",
    ):
        trajectory = opened(trajectory)
        regularization = arguments.number("regularization", regularization, 0)
        trajectory.check_model(model)
        wrapped = clone_model(model)
        weights = _start(start, trajectory, wrapped)
        set_weights(wrapped, weights, trajectory.state(-1), trajectory.adapted)
        directions: Any = _basis(basis, dimensions, trajectory)
        super().__init__(wrapped, directions.dimensions, directions, seed=0, name=name)
        self.regularization = regularization

    @staticmethod
    def _parametrise(variables, dimensions, basis, *others):
        kind = ShardedParametrisation if isinstance(basis, Shards) else Parametrisation
        return kind(variables, dimensions, basis, *others)

    def _penalties(self, theta: List[tf.Tensor]) -> List[tf.Tensor]:
        if not self.regularization:
            return []
        squares = [tf.reduce_sum(tf.square(tf.cast(tensor, tf.float32))) for tensor in theta]
        return [self.regularization / 2 * tf.add_n(squares)]


def _start(start, trajectory: Trajectory, model: keras.Model) -> np.ndarray:
    """The weights to start at, [D]."""
    if isinstance(start, str):
        arguments.one_of("start", start, STARTS, "or arrays")
        return trajectory.average() if start == "average" else trajectory[0 if start == "first" else -1]
    shapes = [tuple(variable.shape) for variable in model.trainable_variables]
    found = [np.shape(array) for array in start]
    if found != shapes:
        raise ValueError(f"start has arrays of shapes {found}; allowed: {shapes}.")
    return np.concatenate([np.ravel(array) for array in start])


def _basis(basis: Any, dimensions: Any, trajectory: Trajectory) -> Union[TrajectoryBasis, Shards]:
    """The basis, or the parts of it that are here if there are several replicas."""
    if not isinstance(basis, TrajectoryBasis):
        arguments.one_of("basis", basis, BASES, "or a TrajectoryBasis")
    if (dimensions is None) == (basis == "pca"):
        raise ValueError(
            f'dimensions={dimensions!r} is not possible with basis={basis!r}: it is needed for "pca" only.'
        )
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if isinstance(basis, TrajectoryBasis):
        if replicas > 1:
            raise ValueError(f"basis={basis!r} cannot be shared out over {replicas} replicas; use a name.")
        return basis
    weights = trajectory.weights
    if basis == "pca":
        coefficients = principal_components(weights, dimensions)
    else:
        coefficients = gram_schmidt(weights)
    return (
        share_out(coefficients, weights) if replicas > 1 else TrajectoryBasis.combined(coefficients, weights)
    )
