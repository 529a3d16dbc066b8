"""Training runs as logs of coordinates, from which the weights of every step can be rebuilt."""

from random_bases.replay.callback import ReplayLog
from random_bases.replay.format import DamagedLogError, ReplayError
from random_bases.replay.replay import replay

__all__ = ["DamagedLogError", "ReplayError", "ReplayLog", "replay"]
