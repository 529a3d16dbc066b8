"""What can be measured of a task, a network or a basis, given functions that evaluate them."""

from random_bases.analysis import (
    approximation,
    curvature,
    directions,
    effective_rank,
    generalization,
    gradient_correlation,
    intrinsic_dimension,
    landscape,
    orthogonality,
    truncated_svd,
)

__all__ = [
    "approximation",
    "curvature",
    "directions",
    "effective_rank",
    "generalization",
    "gradient_correlation",
    "intrinsic_dimension",
    "landscape",
    "orthogonality",
    "truncated_svd",
]
