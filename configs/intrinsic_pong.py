"""Intrinsic dimension of Pong, from pixels: 18 of the 21 points of a game.

About 6,000 in Li et al. 2018 (arXiv:1804.08838, section 3.3). A policy of two convolutions and 256 units
(D = 536,374). Not run here to its end: an update of 32 games takes minutes on two cores, and it needs
hundreds.

python scripts/intrinsic_dimension.py --config=configs/intrinsic_pong.py --workdir=runs/intrinsic_pong
"""

from experiments.reinforcement import default_config


def get_config():
    """One seed, 500 updates of 32 offspring at most, by two processes."""
    config = default_config()
    config.environment = "ALE/Pong-v5"
    config.solved = 18.0
    config.widths = (256,)
    config.updates = 500
    config.evaluate_every = 10
    config.test_episodes = 3
    config.start = (6000,)
    config.seeds = (0,)
    config.processes = 2
    return config
