"""Truncated singular value decompositions of a trained network: the usual way to make it small afterwards.

Each kernel W [m, n] is replaced by its best approximation of rank r, U V^T with U [m, r] and V [n, r] (Eckart
and Young 1936; for networks Denton et al. 2014, arXiv:1404.0736): what a network that was trained in a
subspace, and is small from the start, is compared with.
"""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from random_bases import arguments, keras_api
from random_bases.keras_api import keras

BITS = (8, 16, 32)


class Truncated(NamedTuple):
    """A network of which the kernels have a low rank.

    Attributes:
      weights: float32 arrays for `model.trainable_variables`, of their shapes.
      bytes: what their factors take, and all that has none.
    """

    weights: List[np.ndarray]
    bytes: int


def truncated(
    model: keras.Model, rank: int, bits: int = 32, start: Optional[Sequence[Any]] = None
) -> Truncated:
    """A model's trained weights with each kernel cut down to a rank.

    Kernels of more than two axes are matrices whose columns are the last axis. U and V share the singular
    values evenly, U = U' S^1/2. What takes fewer numbers as it is stays whole: vectors, and kernels with
    r (m + n) >= m n.

    Args:
      model: a built Keras model with trainable weights; it is not changed.
      rank: r, of each kernel.
      bits: of each number that is stored: 32, 16 (float16), or 8: multiples of the largest number of its
        array, divided by 127, with a float32 for that.
      start: arrays for the trainable variables, such as the initial weights that a seed gives again: what is
        cut down is the difference, as in LoRA, and vectors' differences are stored. None: zeros.

    Returns:
      Arrays to be assigned to the trainable variables of the model, or of a clone, and their size.

    Raises:
      TypeError, ValueError: if an argument has a wrong type or a wrong value, or a weight is not finite.

    Example:
    >>> small = rb.analysis.truncated_svd.truncated(model, rank=8, bits=8)
    >>> for variable, weight in zip(clone.trainable_variables, small.weights):
    ...     variable.assign(weight)
    """
    keras_api.check_built(model, trainable=True)
    rank = arguments.integer("rank", rank, 1)
    arguments.check(arguments.integer("bits", bits, 1) in BITS, "bits", bits, f"one of {BITS}")
    weights, size = [], 0
    for variable, first in zip(model.trainable_variables, _checked(start, model)):
        value = np.asarray(variable.numpy(), np.float32) - first
        if not np.isfinite(value).all():
            raise ValueError(f"model={model.name!r} has a weight that is not finite, or start has.")
        parts = _factors(value, rank)
        stored = [_stored(part, bits) for part in parts]
        size += sum(count for _, count in stored)
        kept = [part for part, _ in stored]
        weight = kept[0] if len(kept) == 1 else kept[0] @ kept[1].T
        weights.append(first + weight.reshape(value.shape))
    return Truncated(weights, size)


def _checked(start: Optional[Sequence[Any]], model: keras.Model) -> List[np.ndarray]:
    shapes = [tuple(variable.shape) for variable in model.trainable_variables]
    if start is None:
        return [np.zeros(shape, np.float32) for shape in shapes]
    arrays = [np.asarray(array, np.float32) for array in start]
    if [array.shape for array in arrays] != shapes:
        raise ValueError(f"start has shapes {[a.shape for a in arrays]}; allowed: the weights', {shapes}.")
    return arrays


def _factors(value: np.ndarray, rank: int) -> List[np.ndarray]:
    """[U, V] of a kernel, or [value]."""
    if value.ndim < 2 or not value.size:
        return [value]
    matrix = value.reshape(-1, value.shape[-1])
    if rank * sum(matrix.shape) >= matrix.size:
        return [value]
    u, values, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(values[:rank])
    return [(u[:, :rank] * root).astype(np.float32), (v[:rank].T * root).astype(np.float32)]


def _stored(array: Any, bits: int) -> Tuple[np.ndarray, int]:
    """An array as so many bits tell it, in float32, and how many bytes that takes."""
    if bits == 32:
        return array, array.nbytes
    if bits == 16:
        return array.astype(np.float16).astype(np.float32), array.nbytes // 2
    scale = np.float32(np.abs(array).max(initial=0.0) / 127) or np.float32(1)
    return np.rint(array / scale) * scale, array.size + 4
