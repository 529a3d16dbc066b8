"""The effective rank of matrices: how many singular values count.

Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality": exp(H), with the entropy H
of the singular values divided by their sum. It is 1 for a matrix of rank 1 and n for n equal singular values.
"""

from typing import Any, Dict

import numpy as np

from random_bases import keras_api
from random_bases.keras_api import keras


def effective_rank(matrix: Any) -> float:
    """exp(-sum p_i ln p_i), p_i being the singular values divided by their sum; 0 for a matrix of zeros.

    Args:
      matrix: an array or tensor of at least two axes; with more, the last one gives the columns.

    Raises:
      ValueError: if it has fewer axes, or entries that are not finite.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim < 2 or not matrix.size:
        raise ValueError(f"matrix has shape {matrix.shape}; allowed: two or more axes, none of length 0.")
    if not np.isfinite(matrix).all():
        raise ValueError("matrix has entries that are not finite.")
    values = np.linalg.svd(matrix.reshape(-1, matrix.shape[-1]), compute_uv=False)
    total = values.sum()
    if not total:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def effective_ranks(model: keras.Model) -> Dict[str, float]:
    """The effective rank of each trained kernel: of each trainable weight of at least two axes.

    Args:
      model: a built Keras model with trainable weights.

    Returns:
      Paths, "dense/kernel", and effective ranks.

    Raises:
      TypeError, ValueError: if `model` is none, or has a weight that is not finite.
    """
    keras_api.check_built(model, trainable=True)
    kernels = [v for v in model.trainable_variables if len(v.shape) >= 2 and np.prod(v.shape)]
    return {keras_api.path_of(v): effective_rank(v.numpy()) for v in kernels}
