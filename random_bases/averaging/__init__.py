"""Subspaces from the training trajectory: recording, plain and trainable averages, P-SGD and P-BFGS."""

from random_bases.averaging.quasi_newton import minimize
from random_bases.averaging.recorder import TrajectoryRecorder
from random_bases.averaging.snapshots import Trajectory, TrajectoryError
from random_bases.averaging.swa import average, recompute_batch_statistics
from random_bases.averaging.twa import TrainableWeightAveraging

__all__ = [
    "TrainableWeightAveraging",
    "Trajectory",
    "TrajectoryError",
    "TrajectoryRecorder",
    "average",
    "minimize",
    "recompute_batch_statistics",
]
