"""Neural network training in low-dimensional random bases, for TensorFlow and Keras."""

__version__ = "0.1.0"

from random_bases import analysis, averaging, bases, callbacks, layers, sampling, strategies
from random_bases.averaging import TrainableWeightAveraging, Trajectory, TrajectoryRecorder
from random_bases.evolution import NaturalEvolutionStrategies
from random_bases.models import SubspaceModel
from random_bases.models.adapters import Adapters
from random_bases.models.compression import load_compressed
from random_bases.models.interchange import load_safetensors, save_safetensors
from random_bases.optimizers import RandomBasesDescent
from random_bases.planning import plan
from random_bases.replay import DamagedLogError, ReplayError, ReplayLog, replay
from random_bases.subspace import Subspace

__all__ = [
    "Adapters",
    "DamagedLogError",
    "NaturalEvolutionStrategies",
    "RandomBasesDescent",
    "ReplayError",
    "ReplayLog",
    "Subspace",
    "SubspaceModel",
    "TrainableWeightAveraging",
    "Trajectory",
    "TrajectoryRecorder",
    "analysis",
    "averaging",
    "bases",
    "callbacks",
    "layers",
    "load_compressed",
    "load_safetensors",
    "plan",
    "replay",
    "sampling",
    "save_safetensors",
    "strategies",
    "__version__",
]
