"""Bases: linear maps from d coordinates to n elements, drawn from a seed."""

from typing import Any, Dict, List, Union

from random_bases.bases.basis import Basis
from random_bases.bases.dense import DenseBasis
from random_bases.bases.fastfood import FastfoodBasis
from random_bases.bases.hadamard import HadamardBasis
from random_bases.bases.kronecker import KroneckerBasis
from random_bases.bases.orthogonal import OrthogonalBasis
from random_bases.bases.partition import PartitionBasis
from random_bases.bases.sparse import SparseBasis
from random_bases.bases.trajectory import TrajectoryBasis
from random_bases.sampling import DISTRIBUTIONS

# Those that are more than a distribution's name.
_CLASSES = {
    "fastfood": FastfoodBasis,
    "hadamard": HadamardBasis,
    "kronecker": KroneckerBasis,
    "orthogonal": OrthogonalBasis,
    "partition": PartitionBasis,
    "sparse": SparseBasis,
}


def names() -> List[str]:
    """The names of the bases that a seed draws.

    `RandomBasesDescent` accepts "history" beside them, whose directions are past gradients.
    """
    return sorted({*DISTRIBUTIONS, *_CLASSES})


def get(basis: Union[str, Basis], size: int, dimensions: int, **options) -> Basis:
    """Returns a basis of `dimensions` directions of `size` elements.

    Args:
      basis: a distribution's name ("normal", "uniform", "rademacher", "bernoulli", "uniform-2020",
        "bernoulli-2020") for dense directions; "sparse" for mostly zero ones; "hadamard" for orthonormal
        ones; "kronecker" for factored orthonormal ones of a `matrix=`; "orthogonal" for normal ones
        orthonormalised in blocks; "partition" for orthonormal ones that share no element; "fastfood" for
        nearly normal ones of unit length; or a `Basis`, which is taken as a pattern: the same kind with the
        same options, of this size.
      size: n, the number of elements of a direction.
      dimensions: d, the number of directions.
      **options: further arguments of the basis's class.

    Raises:
      TypeError: if `basis` is neither a string nor a `Basis`, or an option does not exist.
      ValueError: for an unknown name or a value that is not allowed.

    Example:
    >>> basis = random_bases.bases.get("hadamard", size=1000, dimensions=10)
    >>> c, in_subspace = basis.sketch(gradient, seed=0)
    """
    if isinstance(basis, Basis):
        config = dict(basis.get_config(), size=size, dimensions=dimensions, **options)
        return type(basis)(**config)
    if not isinstance(basis, str):
        raise TypeError(f"basis={basis!r} must be a name or a Basis; names: {names()}.")
    if basis in _CLASSES:
        return _CLASSES[basis](size, dimensions, **options)
    if basis in DISTRIBUTIONS:
        return DenseBasis(size, dimensions, distribution=basis, **options)
    raise ValueError(f"basis={basis!r} is unknown; allowed: {names()}, or a Basis.")


def serialize(basis: Basis) -> Dict[str, Any]:
    """A JSON-serialisable description from which `deserialize` rebuilds `basis`.

    Raises:
      ValueError: for a `TrajectoryBasis`, which only its directions describe.
    """
    if isinstance(basis, TrajectoryBasis):
        raise ValueError(
            f"basis={basis!r} is stored weights, which no description rebuilds: save the model that "
            "materialize() returns."
        )
    return {"class_name": type(basis).__name__, "config": basis.get_config()}


def deserialize(description: Dict[str, Any]) -> Basis:
    """Rebuilds a basis from what `serialize` returned.

    Raises:
      ValueError: if the description names no basis of this package.
    """
    classes = {basis.__name__: basis for basis in (DenseBasis, *_CLASSES.values())}
    name = description.get("class_name")
    if name not in classes:
        raise ValueError(f"class_name={name!r} is no basis; allowed: {sorted(classes)}.")
    return classes[name](**description["config"])


__all__ = [
    "Basis",
    "DenseBasis",
    "FastfoodBasis",
    "HadamardBasis",
    "KroneckerBasis",
    "OrthogonalBasis",
    "PartitionBasis",
    "SparseBasis",
    "TrajectoryBasis",
    "deserialize",
    "get",
    "names",
    "serialize",
]
