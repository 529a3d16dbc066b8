"""Error feedback: what the directions of a step did not see is remembered for later steps.

    e <- leak e + g;   c = P^T e;   u = P c;   e <- e - u;   the inner optimizer gets u

Seide et al. 2014, "1-bit stochastic gradient descent"; Stich et al. 2018, arXiv:1809.07599; Karimireddy et
al. 2019, arXiv:1901.09847. With leak = 1 nothing is lost: the updates of all steps and the memory add up to
all gradients, whatever the basis.

The memory stays bounded where e - P P^T e is shorter than e on average. For an orthonormal basis the square
is by the factor 1 - d / n, for every d. For independent entries of kurtosis k (normal: 3, signs: 1) it is by
1 - (d / n) (1 - (d + k - 2) / n), if the basis is drawn anew for each update; that is least, and so the most
directions that are worth having, where 2 d = n - k + 2.
"""

from typing import List, Optional, Sequence

import numpy as np
import tensorflow as tf
from tensorflow import Tensor

from random_bases.bases.basis import Basis
from random_bases.bases.dense import DenseBasis
from random_bases.optimizers.directions import SeededDirections, StateSpec, Step


class ErrorFeedback:
    """Members as of `SeededDirections`, with a memory of D numbers: a float32 variable for each weight.

    Each replica has a memory of its own: its g_k less what its own coordinates have moved. The law above
    holds for their mean, mean_k P_k P_k^T e_k being the update. A checkpoint has all of them (`Memories`),
    and a run goes on from it bit for bit. A saved model has their mean, which every replica gets when it is
    loaded: what shares its directions and keeps all coordinates goes on to rounding, the rest on another
    path of the same law.

    Args:
      directions: what is around it; not scaled, and choosing coordinates before they travel.
      leak: in (0, 1].

    Raises:
      ValueError: if the memory would grow without end, naming the argument.
    """

    def __init__(self, directions: SeededDirections, leak: float):
        self._directions = directions
        self._leak = leak
        _refuse_growth(directions)
        self.state: List[tf.Variable] = []

    exchange = property(lambda self: self._directions.exchange)
    replica_count = property(lambda self: self._directions.replica_count)
    shapes = property(lambda self: self._directions.shapes)
    shape = property(lambda self: self._directions.shape)

    @property
    def state_specs(self) -> List[StateSpec]:
        return [StateSpec(f"error_{i}", shape, own=True) for i, shape in enumerate(self.shapes)]

    def draws(self, updates: Tensor) -> Tensor:
        return self._directions.draws(updates)

    def step(
        self, tensors: Sequence[Optional[Tensor]], updates: Tensor, replicas, recorded: bool = False
    ) -> Step:
        # What has no gradient does not move: its memory waits.
        errors = [
            None if tensor is None else self._remembered(variable) + tf.cast(tensor, tf.float32)
            for variable, tensor in zip(self.state, tensors)
        ]
        step = self._directions.step(errors, updates, replicas, recorded)
        moved = self._directions.own_part(step, updates, replicas)
        # Gradients that are not finite, as under a loss scale that is too large, are not remembered. What
        # all replicas have tells, so that they do the same: with "updates" that is not the coordinates.
        alike = step.update if self.exchange.exchange == "updates" else [step.coordinates]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in alike])
        for variable, error, part in zip(self.state, errors, moved):
            if error is not None:
                rest = _times(self.replica_count, error - part)
                variable.assign(tf.where(finite, rest, tf.convert_to_tensor(variable)))
        return step

    def _remembered(self, variable: tf.Variable) -> Tensor:
        """What is left of it, in units of g_k / K; a variable has those of g_k: files have the mean."""
        return _times(self._leak / self.replica_count, tf.convert_to_tensor(variable))

    def expand(self, coordinates: Tensor, updates: Tensor) -> List[Tensor]:
        return self._directions.expand(coordinates, updates)


def _times(factor: float, x: Tensor) -> Tensor:
    """The product; by 1 without a pass over memory."""
    return x if factor == 1 else np.float32(factor) * x


def _refuse_growth(directions: SeededDirections) -> None:
    subspace = directions.exchange.subspace
    dimensions, size = directions.exchange.fewest_directions, subspace.size
    for basis in subspace.compartment_bases:
        if dimensions < size and (directions.redraws.every is None or not basis.seeded):
            kept = "redraw_every=None" if basis.seeded else f"basis={basis!r}"
            raise ValueError(
                f"error_feedback with {kept}: the same {dimensions} of {size} directions never see the rest, "
                "which is remembered and never arrives; allowed: a basis that is redrawn, or as many "
                "dimensions as parameters, for each replica."
            )
        if not basis.orthonormal:
            _refuse_long(basis, directions.redraws.every)


def _refuse_long(basis: Basis, redraw_every: Optional[int]) -> None:
    """Raises unless a basis that is not orthonormal shortens a memory on average."""
    what = f"error_feedback with basis={basis!r}, which is not orthonormal"
    orthonormal = 'an orthonormal basis such as "hadamard"'
    if not isinstance(basis, DenseBasis):
        raise ValueError(f"{what} and not of independent entries either; allowed: {orthonormal}.")
    if redraw_every != 1:
        raise ValueError(
            f"{what}, and redraw_every={redraw_every}: used again, it may make what is remembered longer; "
            f"allowed: redraw_every=1, or {orthonormal}."
        )
    mean, kurtosis = basis.distribution.mean, basis.distribution.kurtosis
    most = max(0, int((basis.size - kurtosis + 2) / 2))
    if mean != 0 or basis.dimensions > most:
        raise ValueError(
            f"{what}: what is remembered may grow without end; allowed: entries of mean 0, not {mean:g}, and "
            f"at most {most} of {basis.size} dimensions for their kurtosis of {kurtosis:g}; or {orthonormal}."
        )
