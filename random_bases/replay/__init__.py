"""Training runs as logs of coordinates, from which the weights of every step can be rebuilt."""

from random_bases.replay.replay import DamagedLogError, ReplayError, ReplayLog, replay

__all__ = ["DamagedLogError", "ReplayError", "ReplayLog", "replay"]
