"""Neural network training in low-dimensional random bases, for TensorFlow and Keras."""

__version__ = "0.1.0"

from random_bases import analysis, bases, callbacks, layers, sampling
from random_bases.compression import load_compressed
from random_bases.evolution import NaturalEvolutionStrategies
from random_bases.models import SubspaceModel
from random_bases.optimizers import RandomBasesDescent
from random_bases.subspace import Subspace

__all__ = [
    "NaturalEvolutionStrategies",
    "RandomBasesDescent",
    "Subspace",
    "SubspaceModel",
    "analysis",
    "bases",
    "callbacks",
    "layers",
    "load_compressed",
    "sampling",
    "__version__",
]
