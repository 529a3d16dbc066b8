"""theta = theta0 + P c: the weights of a model as a function of coordinates."""

from typing import Any, Dict, List, Optional, Sequence, Union

import tensorflow as tf

from random_bases import bases, device, keras_api
from random_bases.bases.basis import Basis
from random_bases.bases.kronecker import Matrix
from random_bases.compartments import Allocation, Compartments
from random_bases.subspace import Subspace


class Parametrisation:
    """theta = theta0 + P c: the weights of a model as a function of coordinates.

    Not a layer, so that Keras does not take the model's weights for the `SubspaceModel`'s own.

    Args:
      variables: weights of a model; their values are theta0.
      matrices: as for `random_bases.subspace.Subspace`.
      others: as for `SubspaceModel`.
    """

    def __init__(
        self,
        variables: Sequence,
        dimensions: int,
        basis: Union[str, Basis],
        compartments: Optional[Compartments],
        allocation: Optional[Allocation],
        seed: Optional[int],
        matrices: Optional[Sequence[Matrix]] = None,
    ):
        self.variables = list(variables)
        self.seed = device.seed(seed)
        self.basis = basis
        self.compartments = compartments
        self.allocation = allocation
        self.subspace = Subspace(
            [variable.shape for variable in self.variables],
            dimensions,
            basis,
            compartments,
            allocation,
            [keras_api.path_of(variable) for variable in self.variables],
            matrices,
        )

    @property
    def dimensions(self) -> int:
        """The number of coordinates, d."""
        return int(self.subspace.dimensions)

    @property
    def factored(self) -> bool:
        """Whether the basis is of factors, "kronecker"."""
        return isinstance(self.basis, str) and self.basis == "kronecker"

    def theta0(self) -> List[tf.Tensor]:
        """The weights' values, in their shapes and dtypes."""
        return [keras_api.value_of(variable) for variable in self.variables]

    def theta(self, coordinates, draw=0) -> List[tf.Tensor]:
        """theta0 + P c, tensors of the weights' shapes and dtypes, from float32 [d]."""
        directions = self.expand(coordinates, draw)
        return [
            start + tf.cast(direction, start.dtype) for start, direction in zip(self.theta0(), directions)
        ]

    def expand(self, coordinates, draw=0) -> List[tf.Tensor]:
        """P c: float32 tensors of the weights' shapes."""
        return self.subspace.expand(coordinates, self.seed, draw)

    def get_config(self) -> Dict[str, Any]:
        basis = self.basis
        return {
            "dimensions": self.dimensions,
            "basis": basis if isinstance(basis, str) else bases.serialize(basis),
            "compartments": self.compartments,
            "allocation": self.allocation,
            "seed": self.seed,
        }
